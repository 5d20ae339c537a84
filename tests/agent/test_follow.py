"""Tasks that wait behind another one on their node: in order, given back when asked, and never started twice."""

from __future__ import annotations

from pathlib import Path

from clusterctl_runtime.wire import TaskSpec

A, B, C = "j-a/1/0", "j-b/1/0", "j-c/1/0"


def sh(script: str, task: str, **more) -> TaskSpec:
    return TaskSpec(task, ["/bin/sh", "-c", script], **more)


def test_a_task_that_follows_another_starts_when_that_one_has_ended_however_it_ended(
    head, start_agent, tmp_path
) -> None:
    order = tmp_path / "order"
    start_agent()
    head.until_joined()
    head.run(
        sh(f"sleep 0.3; echo a >> {order}; exit 3", A),
        sh(f"echo b >> {order}", B, after=A),
        sh(f"echo c >> {order}", C, after=B),
    )
    assert [head.until_exited(task).exit_code for task in (A, B, C)] == [3, 0, 0]
    assert Path(order).read_text().split() == ["a", "b", "c"]


def test_a_task_that_follows_one_which_is_over_or_unknown_starts_at_once(head, start_agent) -> None:
    start_agent()
    head.until_joined()
    head.run(sh("true", A))
    head.until_exited(A)
    head.run(sh("true", B, after=A), sh("true", C, after="j-never/1/0"))
    assert head.until_exited(B).exit_code == 0
    assert head.until_exited(C).exit_code == 0


def test_a_recalled_task_is_given_back_unless_it_has_started(head, start_agent) -> None:
    start_agent()
    head.until_joined()
    head.run(sh("echo up; exec sleep 60", A), sh("true", B, after=A))
    head.until(lambda: b"up" in head.log(A).data)
    head.send("recall", tasks=[A, B])
    report = head.until_exited(B)
    assert (report.stopped, report.exit_code, report.started) == ("recalled", None, 0.0)
    head.send("kill", tasks=[A], grace_seconds=5, reason="enough")
    assert head.until_exited(A).stopped == "killed"


def test_a_recall_in_the_middle_of_a_chain_lets_the_rest_go_on(head, start_agent) -> None:
    start_agent()
    head.until_joined()
    head.run(sh("sleep 0.5", A), sh("true", B, after=A), sh("true", C, after=B))
    head.send("recall", tasks=[B])
    assert head.until_exited(B).stopped == "recalled"
    assert head.until_exited(C).exit_code == 0
