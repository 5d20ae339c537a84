"""Nothing of a task outlives it, with control groups and without; and nothing else is touched."""

from __future__ import annotations

import itertools
import os
from pathlib import Path

import pytest
from clusterctl_runtime.wire import TaskSpec

from tests.support.cluster import wait_until

T = "j-1/1/0"
# A mount over the control groups: what a container and a user without rights have.
NO_GROUPS = [
    "unshare",
    "--user",
    "--map-root-user",
    "--mount",
    "sh",
    "-c",
    'mount -t tmpfs none /sys/fs/cgroup; exec "$@"',
    "-",
]
_numbers = itertools.count(1)


@pytest.fixture
def seconds() -> str:
    """How long a leftover would live: no other process of this machine sleeps for just so long."""
    return f"{100_000 + os.getpid() % 10_000}.{next(_numbers)}"


@pytest.fixture(params=["groups", "marks"])
def agent(request: pytest.FixtureRequest, head, start_agent):
    started = start_agent(under=NO_GROUPS if request.param == "marks" else ())
    head.until_joined()
    return started


def sh(script: str, task: str = T, **more) -> TaskSpec:
    return TaskSpec(task, ["/bin/sh", "-c", script], **more)


def sleepers(seconds: str) -> list[int]:
    found = []
    for path in Path("/proc").iterdir():
        try:
            words = (path / "cmdline").read_bytes().split(b"\0") if path.name.isdigit() else []
        except OSError:
            continue
        if seconds.encode() in words[1:2] and words[0].endswith(b"sleep"):
            found.append(int(path.name))
    return found


QUIET = ">/dev/null 2>&1 </dev/null"
WAYS = {
    "in the background": f"sleep SECONDS {QUIET} &",
    "in a session of its own": f"setsid sleep SECONDS {QUIET} &",
    "as a daemon": f"setsid sh -c 'setsid sleep SECONDS {QUIET} &' {QUIET} &",
    "without its environment": f"env -i setsid /bin/sh -c 'exec sleep SECONDS {QUIET}' {QUIET} &",
    "holding the output": "setsid sleep SECONDS &",
    "started again by one that is left": f"setsid sh -c 'while :; do setsid sleep SECONDS; done {QUIET}' &",
    "by a daemon without its environment": f"env -i setsid /bin/sh -c 'sleep SECONDS & setsid sleep SECONDS & wait' {QUIET} &",
}


def test_whatever_a_task_leaves_is_gone_when_it_has_ended_however_it_was_left(head, agent, seconds) -> None:
    until = "until pgrep -x sleep -a | grep -q SECONDS; do :; done; ".replace("SECONDS", seconds)
    for number, (how, script) in enumerate(WAYS.items()):
        for ending, code in (("exit 0", 0), ("exit 3", 3), ("kill -9 $$", 137)):
            task = f"j-{number}{code}/1/0"
            head.run(sh(f"{script.replace('SECONDS', seconds)} {until}{ending}", task))
            report = head.until_exited(task)
            assert report.exit_code == code
            assert sleepers(seconds) == [], f"left {how}, and the program ended with {code}"


@pytest.mark.parametrize("way", ["kill", "timeout"])
def test_a_task_that_is_stopped_takes_everything_with_it(head, agent, seconds, way) -> None:
    deaf = 'trap "" TERM; ' if way == "kill" else ""
    left = f"setsid sh -c '{deaf}sleep {seconds} & sleep {seconds}' {QUIET} & "
    head.run(sh(f"{left} exec sleep {seconds}", timeout=0.5 if way == "timeout" else None))
    head.until(lambda: len(sleepers(seconds)) == 3 or (T in head.reports and head.reports[T][-1]["state"] == "exited"))
    if way == "kill":
        head.send("kill", tasks=[T], grace_seconds=0.3, reason="enough")
    report = head.until_exited(T)
    assert report.stopped == ("killed" if way == "kill" else "timeout")
    assert sleepers(seconds) == []


def test_what_is_asked_to_end_has_the_grace_wherever_it_is(head, agent) -> None:
    """A shell ends at once; the program below it, in the same session and in another one, saves its work."""
    save = "trap 'sleep 1.2; echo saved; exit' TERM; echo ready; while :; do sleep 0.05; done"
    head.run(sh(f'sh -c "{save}" & setsid sh -c "{save}" & wait'))
    head.until(lambda: bytes(head.log(T).data).count(b"ready") == 2)
    head.send("kill", tasks=[T], grace_seconds=30, reason="enough")
    head.until_exited(T)
    assert bytes(head.log(T).data).count(b"saved") == 2


def test_the_end_of_one_task_touches_nothing_of_another(head, agent, seconds) -> None:
    lasting = f"(setsid sleep {seconds} {QUIET} &); (env -i setsid /bin/sleep {seconds} {QUIET} &); "
    head.run(sh(f"{lasting} echo; read x < /dev/null; exec sleep 600", "j-9/1/0"))
    head.until(lambda: head.log("j-9/1/0").received and len(sleepers(seconds)) == 2)
    for number in range(3):
        task = f"j-{number}/1/0"
        head.run(sh(f"(setsid sleep 1{seconds} {QUIET} &); exit 0", task))
        assert head.until_exited(task).exit_code == 0
        assert sleepers(f"1{seconds}") == []
    assert len(sleepers(seconds)) == 2
    head.send("kill", tasks=["j-9/1/0"], grace_seconds=5, reason="")
    head.until_exited("j-9/1/0")
    assert sleepers(seconds) == []


def test_daemons_that_setup_has_started_stay(head, agent, seconds) -> None:
    daemons = f"setsid -f sleep {seconds} {QUIET}; env -i setsid -f sleep {seconds} {QUIET}"
    head.send("prepare", digest="d", setup=[daemons])
    head.until(lambda: [m for m in head.said if m["t"] == "prepared" and m["state"] == "done"])
    for number in range(2):
        head.run(sh("exit 0", f"j-{number}/1/0"))
        head.until_exited(f"j-{number}/1/0")
    assert len(sleepers(seconds)) == 2
    for pid in sleepers(seconds):
        os.kill(pid, 9)


def test_a_killed_agent_takes_what_has_left_its_task_and_lost_its_mark(head, start_agent, seconds) -> None:
    """Where control groups can be made: nothing else could find it once its agent is gone."""
    agent = start_agent()
    head.until_joined()
    head.run(sh(f"env -i setsid /bin/sh -c 'exec sleep {seconds} {QUIET}' & exec sleep 600"))
    (left,) = head.until(lambda: sleepers(seconds))
    groups = [path for path in Path("/sys/fs/cgroup").rglob("clusterctl-*") if _holds(path, left)]
    agent.kill()
    wait_until(lambda: not agent.alive())
    if not groups:
        os.kill(left, 9)
    wait_until(lambda: not sleepers(seconds) and not any(path.exists() for path in groups))


def _holds(path: Path, pid: int) -> bool:
    return any(str(pid) in file.read_text().split() for file in path.rglob("cgroup.procs"))
