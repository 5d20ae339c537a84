"""Looking for processes in /proc. Where there is none (macOS), nothing is found."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator
from os import getpid
from pathlib import Path
from typing import NamedTuple

_PROC = Path("/proc")


class Process(NamedTuple):
    pid: int
    parent: int
    group: int
    session: int
    started: int  # in ticks since the machine's boot
    zombie: bool


def list_marked(mark: str) -> list[int]:
    """Living processes, but for this one, that were started with `mark` in their environment."""
    needle = mark.encode()
    return [process.pid for process in _living() if needle in _environment(process.pid)]


def list_family(mark: str, groups: Collection[int], stranger: int) -> tuple[set[int], set[int]]:
    """All that belongs to a mark or to process groups: pids, and the sessions they live in.

    Some programs write their title over their environment, so the mark alone is not enough: whoever shares a session with
    a member or descends from one is a member, too. `stranger` is a session that says nothing about who lives in it.
    """
    needle = mark.encode()
    everyone = list(_living())
    members = {p.pid for p in everyone if needle in _environment(p.pid)}
    sessions = set(groups)
    size = -1
    while len(members) + len(sessions) != size:
        size = len(members) + len(sessions)
        for process in everyone:
            if process.group in groups or process.session in sessions or process.parent in members:
                members.add(process.pid)
            if process.pid in members and process.session != stranger:
                sessions.add(process.session)
    return members, sessions


def is_group_alive(group: int) -> bool:
    """Is anyone in the process group who is not a zombie?"""
    return any(process.group == group for process in _living())


def list_tasks(variable: str) -> dict[str, list[Process]]:
    """Living processes by the value of a variable in their environment."""
    pattern = re.compile(rb"(?:^|\0)%b=([^\0]*)\0" % variable.encode())
    found: dict[str, list[Process]] = {}
    for process in _living():
        if match := pattern.search(_environment(process.pid)):
            found.setdefault(match[1].decode(errors="replace"), []).append(process)
    return found


def list_children(pid: int) -> set[int]:
    """Those of its main thread, to which orphans come; empty where the system cannot tell."""
    try:
        return {int(word) for word in (_PROC / str(pid) / "task" / str(pid) / "children").read_text().split()}
    except OSError:
        if (_PROC / "self/task" / str(getpid()) / "children").exists():
            return set()  # it has ended
    try:  # a kernel without these lists
        pids = [int(path.name) for path in _PROC.iterdir() if path.name.isdigit()]
    except OSError:
        return set()
    return {other for other in pids if (process := read_process(other)) and process.parent == pid}


def read_process(pid: int) -> Process | None:
    """None when there is none of that number, or no /proc."""
    try:
        fields = (_PROC / str(pid) / "stat").read_bytes().rpartition(b")")[2].split()
        parent, group, session = map(int, fields[1:4])
        return Process(pid, parent, group, session, int(fields[19]), fields[0] in (b"Z", b"X"))
    except (OSError, ValueError, IndexError):
        return None


def _living() -> Iterator[Process]:
    """Every process that still runs, but for this one."""
    try:
        names = [path.name for path in _PROC.iterdir() if path.name.isdigit()]
    except OSError:
        return
    for name in names:
        if int(name) == getpid():
            continue
        process = read_process(int(name))
        if process is not None and not process.zombie:
            yield process


def _environment(pid: int) -> bytes:
    try:
        return (_PROC / str(pid) / "environ").read_bytes()
    except OSError:
        return b""  # gone, or another user's
