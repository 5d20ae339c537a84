"""What the kernel killed for memory is told as that, by the counters of either version of control groups; nothing else is."""

from __future__ import annotations

from pathlib import Path

import pytest
from clusterctl_runtime.agent.facts import own_groups
from clusterctl_runtime.agent.tasks.memory import MemoryKills

MIB = 2**20
KINDS = {
    "v2": ("memory.events", "low 0\nhigh 3\nmax 9\noom 1\noom_kill {n}\noom_group_kill 0\n", "memory.max"),
    "v1": ("memory.oom_control", "oom_kill_disable 0\nunder_oom 0\noom_kill {n}\n", "memory.limit_in_bytes"),
}


class Node:
    """A control group in a directory, two levels deep: the limit is above."""

    def __init__(self, top: Path, kind: str) -> None:
        self.group, (self._name, self._text, limit) = top / "node", KINDS[kind]
        self.group.mkdir()
        (top / limit).write_text(f"{512 * MIB}\n")
        (self.group / limit).write_text("max\n" if kind == "v2" else f"{2**63 - 4096}\n")
        self.now = 1000.0
        self.killed(0)
        self.memory = MemoryKills([self.group, top], top / "vmstat", lambda: self.now)

    def killed(self, n: int) -> None:
        (self.group / self._name).write_text(self._text.format(n=n))


@pytest.fixture(params=KINDS)
def node(tmp_path: Path, request: pytest.FixtureRequest) -> Node:
    return Node(tmp_path, request.param)


def test_a_task_that_the_kernel_killed_is_told_with_the_limit_and_what_it_used(node: Node) -> None:
    before = node.memory.look()
    node.killed(1)
    told = node.memory.verdict(before, 137, 480 * MIB)
    assert told == (
        "was killed by the kernel for want of memory (signal 9): its node may use 512 MiB, its largest process had 480 MiB"
    )
    told = node.memory.verdict(before, 1, 30 * MIB)
    assert told.startswith(
        "exited with code 1, after the kernel had killed a process for want of memory: its node may use"
    )


def test_a_signal_of_somebody_else_is_not_taken_for_the_kernels(node: Node) -> None:
    assert node.memory.verdict(node.memory.look(), 137, MIB) == ""
    node.killed(1)
    assert node.memory.verdict(node.memory.look(), 137, MIB) == "", "it was another task, before this one began"
    before = node.memory.count()
    node.killed(2)
    assert node.memory.verdict(before, 0, MIB) == "", "it succeeded all the same"


def test_a_kill_of_long_ago_is_not_why_a_task_ended_now(node: Node) -> None:
    before = node.memory.look()
    node.killed(1)
    for _ in range(10):
        node.now += 5
        node.memory.look()
    assert node.memory.verdict(before, 137, MIB) == ""


def test_without_a_group_that_counts_the_machine_does(tmp_path: Path) -> None:
    (tmp_path / "vmstat").write_text("nr_free_pages 7\noom_kill 4\n")
    memory = MemoryKills([], tmp_path / "vmstat")
    before = memory.look()
    (tmp_path / "vmstat").write_text("nr_free_pages 7\noom_kill 5\n")
    assert "for want of memory (signal 9): its machine has " in memory.verdict(before, 137, 0)
    nothing = MemoryKills([], tmp_path / "nothing")
    assert nothing.verdict(nothing.look(), 137, 0) == ""


@pytest.mark.parametrize(
    ("cgroup", "mount", "found"),
    [
        ("0::/a/b", "30 1 0:26 / {top} rw - cgroup2 cgroup2 rw", ["a/b", "a", "."]),
        ("0::/", "30 1 0:26 / {top} rw - cgroup2 cgroup2 rw", ["."]),
        ("4:memory:/a/b", "33 1 0:29 / {top} rw - cgroup cgroup rw,memory", ["a/b", "a", "."]),
        ("4:memory:/docker/c0ffee", "33 1 0:29 /docker/c0ffee {top} rw - cgroup cgroup rw,memory", ["."]),
        ("4:memory:/docker/c0ffee", "33 1 0:29 / {top} rw - cgroup cgroup rw,memory", ["."]),
        ("5:cpu:/a", "33 1 0:29 / {top} rw - cgroup cgroup rw,cpu", []),
    ],
)
def test_the_groups_of_a_process_are_found_where_they_are_mounted(
    tmp_path: Path, cgroup: str, mount: str, found: list[str]
) -> None:
    top = tmp_path / "fs"
    (top / "a" / "b").mkdir(parents=True)
    (tmp_path / "cgroup").write_text(cgroup + "\n")
    (tmp_path / "mountinfo").write_text(mount.format(top=top) + "\n")
    assert [path for _, path in own_groups("memory", tmp_path)] == [top / one for one in found]
