"""Looking for processes in /proc. Where there is none (macOS), nothing is found."""

from __future__ import annotations

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


def _living() -> Iterator[Process]:
    """Every process that still runs, but for this one."""
    try:
        names = [path.name for path in _PROC.iterdir() if path.name.isdigit()]
    except OSError:
        return
    for name in names:
        if int(name) == getpid():
            continue
        try:
            state, *numbers = (_PROC / name / "stat").read_bytes().rpartition(b")")[2].split()[:4]
        except (OSError, ValueError):
            continue  # it ended while we looked
        if state not in (b"Z", b"X"):
            yield Process(int(name), *map(int, numbers))


def _environment(pid: int) -> bytes:
    try:
        return (_PROC / str(pid) / "environ").read_bytes()
    except OSError:
        return b""  # gone, or another user's
