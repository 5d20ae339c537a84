"""Who waits is told for what."""

from __future__ import annotations

import threading
from pathlib import Path

from clusterctl.provision.ssh.hosts import Hosts
from clusterctl.provision.ssh.inventory import Login, Machine
from clusterctl.provision.waiting import StillWaiting, listed


def test_a_line_comes_soon_and_then_ever_more_rarely() -> None:
    now, told = [100.0], list[str]()
    waiting = StillWaiting(told.append, lambda: now[0])
    for second in range(400):
        now[0] = 100.0 + second
        waiting.look("host b to be cleaned" if second < 390 else "")
    seconds = [int(line.partition("(")[2].partition(" ")[0]) for line in told]
    assert seconds == [5, 15, 35, 75, 135, 195, 255, 315, 375]
    assert told[0] == "waiting for host b to be cleaned (5 s so far)"


def test_names_are_listed_as_long_as_they_are_few() -> None:
    assert [listed(list("abcdef"[:n])) for n in (1, 2, 3, 4, 6)] == [
        "a",
        "a and b",
        "a, b and c",
        "a, b, c and d",
        "a, b, c and 3 more",
    ]


def test_while_one_host_hangs_the_others_are_done_and_it_is_the_one_that_is_named() -> None:
    machines = [Machine(name, Login(name)) for name in "abc"]
    hosts = Hosts("demo", "0" * 32, machines, Path("known"), print)
    seen, hanging = list[list[str]](), threading.Event()

    def work(machine: Machine) -> str:
        if machine.id == "b":
            assert hanging.wait(60)
        return machine.id.upper()

    def meanwhile(unfinished: list[Machine]) -> None:
        seen.append([machine.id for machine in unfinished])
        if seen[-1] == ["b"]:
            hanging.set()

    assert hosts.each(work, meanwhile=meanwhile) == ["A", "B", "C"]
    assert seen[-1] == ["b"]
