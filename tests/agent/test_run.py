"""Running programs: exit codes, errors, environment, groups, kills, timeouts, and nothing twice."""

from __future__ import annotations

import os
import socket
import sys
from pathlib import Path

from clusterctl_runtime.wire import TaskSpec

from tests.support.cluster import wait_until

T = "j-1/1/0"


def sh(script: str, task: str = T, **more) -> TaskSpec:
    return TaskSpec(task, ["/bin/sh", "-c", script], **more)


def is_alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()[0] not in (b"Z", b"X")
    except OSError:
        return False


def test_a_task_runs_and_its_output_and_exit_code_come_back(head, start_agent) -> None:
    start_agent()
    head.until_joined()
    head.run(sh("echo out; echo err >&2; exit 7"))
    report = head.until_exited(T)
    assert report.exit_code == 7
    assert report.stopped == "" and report.error == "" and not report.lost
    assert report.started <= report.ended
    assert bytes(head.log(T).data) == b"out\nerr\n"
    assert report.log_size == 8


def test_a_long_task_is_reported_as_running_once_with_its_pid(head, start_agent) -> None:
    start_agent()
    head.until_joined()
    head.run(sh("read line < /dev/null; exec sleep 60"))
    head.until(lambda: T in head.reports)
    (report,) = head.reports[T]
    assert report["state"] == "running" and is_alive(report["pid"])
    head.send("kill", tasks=[T], grace_seconds=5, reason="enough")
    head.until_exited(T)
    assert [r["state"] for r in head.reports[T]] == ["running", "exited"]


def test_a_program_that_dies_of_a_signal_is_reported_as_a_shell_would(head, start_agent) -> None:
    start_agent()
    head.until_joined()
    head.run(sh("kill -SEGV $$"))
    assert head.until_exited(T).exit_code == 128 + 11


def test_a_program_that_is_not_there_or_not_executable_is_a_sentence_and_a_shells_code(
    head, start_agent, tmp_path
) -> None:
    start_agent()
    head.until_joined()
    plain = tmp_path / "plain"
    plain.write_text("hello")
    head.run(
        TaskSpec("j-1/1/0", ["no-such-program-anywhere"]),
        TaskSpec("j-2/1/0", [str(plain)]),
        TaskSpec("j-3/1/0", []),
        TaskSpec("j-4/1/0", ["/bin/echo", "nul\0inside"]),
    )
    missing = head.until_exited("j-1/1/0")
    assert missing.exit_code == 127 and "no-such-program-anywhere" in missing.error
    forbidden = head.until_exited("j-2/1/0")
    assert forbidden.exit_code == 126 and "not executable" in forbidden.error
    assert head.until_exited("j-3/1/0").exit_code == 126
    assert "null" in head.until_exited("j-4/1/0").error


def test_the_same_task_sent_twice_runs_once(head, start_agent, tmp_path) -> None:
    start_agent()
    head.until_joined()
    count = tmp_path / "count"
    spec = sh(f"echo x >> {count}")
    head.run(spec, spec)
    head.run(spec)
    head.until_exited(T)
    head.run(spec)  # after its end was acknowledged
    head.until(lambda: len(head.reports[T]) >= 2)
    assert head.reports[T][-1]["state"] == "exited"
    assert count.read_text() == "x\n"


def test_every_rank_of_a_gang_runs_in_a_session_of_its_own(head, start_agent) -> None:
    start_agent()
    head.until_joined()
    script = "import os; print(os.getpid() == os.getsid(0) == os.getpgid(0), os.environ['RANK'])"
    ranks = range(8)
    head.run(*[TaskSpec(f"j-1/1/{r}", [sys.executable, "-c", script], env={"RANK": str(r)}) for r in ranks])
    for rank in ranks:
        assert head.until_exited(f"j-1/1/{rank}").exit_code == 0
        assert bytes(head.log(f"j-1/1/{rank}").data) == f"True {rank}\n".encode()


def test_the_environment_is_what_is_stated_plus_the_heads_words(head, start_agent) -> None:
    """Whatever shell, unit or cron has started the agent."""
    ours = {"HOME": "/h", "https_proxy": "http://proxy:3128", "TMPDIR": "/tmp"}
    others = {
        "CLUSTERCTL_TOKEN": "canary",
        "RAY_AUTH_TOKEN": "canary",
        "RANK": "7",
        "LC_ALL": "tlh",
        "AWS_SECRET_ACCESS_KEY": "k",
    }
    start_agent(env={**ours, **others, "PYTHONPATH": "/nowhere", "VIRTUAL_ENV": "/v", "LD_PRELOAD": "", "LANG": "tlh"})
    head.until_joined()
    head.run(TaskSpec(T, ["/usr/bin/env"], env={"MASTER_ADDR": "10.0.0.1", "TMPDIR": "/changed"}))
    head.until_exited(T)
    env = dict(line.split("=", 1) for line in head.log(T).data.decode().splitlines())
    assert "canary" not in head.log(T).data.decode() and not env.keys() & others.keys()
    assert env["MASTER_ADDR"] == "10.0.0.1" and env["TMPDIR"] == "/changed" and env["HOME"] == "/h"
    assert env["PATH"] == os.environ["PATH"] and env["CUDA_VISIBLE_DEVICES"] == "" and env["LANG"] == "C.UTF-8"
    assert env["https_proxy"] == "http://proxy:3128" and env["CLUSTERCTL_TASK"] == T
    allowed = {
        "PATH",
        "HOME",
        "SHELL",
        "USER",
        "LOGNAME",
        "LANG",
        "LD_LIBRARY_PATH",
        "CUDA_DEVICE_ORDER",
        *ours,
        "MASTER_ADDR",
    }
    rest = {
        n
        for n in env.keys() - allowed
        if not n.startswith(("CLUSTERCTL_", "PIP_", "UV_", "SSL_", "CUDA_")) and "_proxy" not in n.lower()
    }
    assert rest <= {"REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"}


def test_in_a_container_the_images_variables_are_part_of_the_node(head, start_agent) -> None:
    start_agent(env={"CUDA_HOME": "/opt/cuda", "LANG": "de_DE.UTF-8", "RANK": "7"}, of_image=True)
    head.until_joined()
    head.run(sh('echo "$CUDA_HOME $LANG [$RANK]"'))
    head.until_exited(T)
    assert bytes(head.log(T).data) == b"/opt/cuda de_DE.UTF-8 []\n"


def test_a_user_without_a_name_or_a_home_has_what_programs_ask_for(head, start_agent, tmp_path) -> None:
    nameless = [
        "unshare",
        "--user",
        "--map-user=54321",
        "--map-group=54321",
        "env",
        "-u",
        "HOME",
        "-u",
        "USER",
        "-u",
        "LOGNAME",
    ]
    start_agent(under=nameless)
    head.until_joined()
    head.run(
        TaskSpec(T, [sys.executable, "-c", "import getpass, pathlib; print(getpass.getuser(), pathlib.Path.home())"])
    )
    assert head.until_exited(T).exit_code == 0
    assert bytes(head.log(T).data) == b"uid-54321 /\n"


def test_no_secret_of_the_node_is_in_its_arguments_environment_or_errors(head, start_agent) -> None:
    agent = start_agent()
    head.until_joined()
    (credential,) = head.credentials
    for name in ("cmdline", "environ"):
        for pid in [agent.process.pid, *agent.alive()]:
            content = Path(f"/proc/{pid}/{name}").read_bytes()
            assert b"join-token" not in content and credential.encode() not in content
    assert "join-token" not in agent.stderr and credential not in agent.stderr


def test_standard_input_is_empty_and_the_working_directory_is_fresh_and_goes(head, start_agent) -> None:
    agent = start_agent()
    head.until_joined()
    head.run(sh("cat; ls -A; pwd; mkdir -p deep/er; touch deep/er/file"))
    assert head.until_exited(T).exit_code == 0
    assert head.log(T).data.decode().strip().startswith(str(agent.directory / "work"))
    wait_until(lambda: not list((agent.directory / "work").iterdir()))


def test_a_kill_is_sigterm_to_the_whole_group(head, start_agent) -> None:
    start_agent()
    head.until_joined()
    head.run(sh("sh -c 'trap \"echo child; exit 0\" TERM; echo ready; while :; do sleep 0.01; done' & wait"))
    head.until(lambda: b"ready" in head.log(T).data)
    head.send("kill", tasks=[T], grace_seconds=10, reason="cancelled by its user")
    report = head.until_exited(T)
    assert report.stopped == "killed" and report.error == "cancelled by its user"
    assert report.exit_code == 128 + 15
    assert b"child" in head.log(T).data


def test_a_program_that_ignores_sigterm_is_killed_after_the_grace(head, start_agent) -> None:
    start_agent()
    head.until_joined()
    head.run(sh("trap '' TERM; echo ready; while :; do sleep 0.01; done"))
    head.until(lambda: b"ready" in head.log(T).data)
    head.send("kill", tasks=[T], grace_seconds=0.2, reason="")
    assert head.until_exited(T).exit_code == 128 + 9


def test_a_stopped_program_is_killed_too(head, start_agent) -> None:
    start_agent()
    head.until_joined()
    head.run(sh("echo ready; kill -STOP $$"))
    head.until(lambda: b"ready" in head.log(T).data)
    head.send("kill", tasks=[T], grace_seconds=10, reason="")
    assert head.until_exited(T).exit_code == 128 + 15


def test_a_kill_of_an_unknown_task_is_answered_with_lost(head, start_agent) -> None:
    start_agent()
    head.until_joined()
    head.send("kill", tasks=["j-9/1/0"], grace_seconds=1, reason="")
    report = head.until_exited("j-9/1/0")
    assert report.lost and report.exit_code is None


def test_a_task_over_its_timeout_is_ended_and_says_so(head, start_agent) -> None:
    start_agent()
    head.until_joined()
    head.run(TaskSpec(T, ["/bin/sleep", "60"], timeout=0.2))
    report = head.until_exited(T)
    assert report.stopped == "timeout" and "0.2 s" in report.error and report.exit_code == 128 + 15


def test_what_a_program_leaves_in_its_group_is_killed_after_it(head, start_agent) -> None:
    start_agent()
    head.until_joined()
    head.run(sh("sleep 600 > /dev/null 2>&1 & echo $!"))
    assert head.until_exited(T).exit_code == 0
    assert not is_alive(int(head.log(T).data))


def test_the_rest_of_a_group_may_finish_its_output_but_not_stay(head, start_agent) -> None:
    start_agent()
    head.until_joined()
    head.run(sh("(sleep 0.2; echo late; exec sleep 600) & echo $!"))
    report = head.until_exited(T)
    assert report.exit_code == 0
    first, second = head.log(T).data.decode().split()
    assert second == "late" and not is_alive(int(first))


def test_a_daemon_that_left_the_group_but_holds_the_log_does_not_hold_up_the_end(head, start_agent) -> None:
    start_agent()
    head.until_joined()
    head.run(sh("setsid sh -c 'echo $$; exec sleep 600' & sleep 0.3; exit 3"))
    assert head.until_exited(T).exit_code == 3
    pid = int(head.log(T).data)
    wait_until(lambda: not is_alive(pid))


def test_hundreds_of_tasks_in_one_message_all_run(head, start_agent) -> None:
    start_agent()
    head.until_joined()
    ids = [f"j-{n}/1/0" for n in range(400)]
    head.run(*[TaskSpec(i, ["/bin/echo", i]) for i in ids])
    for i in ids:
        assert head.until_exited(i).exit_code == 0
        assert bytes(head.log(i).data) == f"{i}\n".encode()
    batches = [message for message in head.said if message["t"] == "tasks"]
    assert len(batches) < len(ids), "reports travel together"


def test_open_files_do_not_pile_up(head, start_agent) -> None:
    agent = start_agent()
    head.until_joined()

    def count() -> int:
        return len(list(Path(f"/proc/{agent.process.pid}/fd").iterdir()))

    before = count()
    head.run(*[TaskSpec(f"j-{n}/1/0", ["/bin/echo"]) for n in range(50)])
    head.run(*[TaskSpec(f"x-{n}/1/0", ["/nowhere"]) for n in range(50)])
    for n in range(50):
        head.until_exited(f"j-{n}/1/0")
        head.until_exited(f"x-{n}/1/0")
    wait_until(lambda: count() <= before)


def test_a_task_is_not_started_where_somebody_else_listens_or_is_about_to(head, start_agent) -> None:
    start_agent()
    head.until_joined()
    with socket.socket(socket.AF_INET6) as other:
        other.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        other.bind(("::1", 0))
        other.listen()
        port = other.getsockname()[1]
        head.run(sh("echo started", port=port))
        refused = head.until_exited(T)
    assert (refused.stopped, refused.exit_code, refused.lost) == ("port_taken", None, False)
    assert f"port {port} of its node" in refused.error and head.log(T).received == 0
    head.run(sh("echo begun; exec sleep 600", "j-2/1/0", port=port))
    head.until(lambda: head.log("j-2/1/0").received)
    head.run(sh("true", "j-3/1/0", port=port))  # the other has not listened yet, and is going to
    assert head.until_exited("j-3/1/0").stopped == "port_taken"
    head.send("kill", tasks=["j-2/1/0"], grace_seconds=5, reason="")
    head.until_exited("j-2/1/0")
    head.run(sh("true", "j-4/1/0", port=port))
    assert head.until_exited("j-4/1/0").exit_code == 0
