"""A control group for each task, where this user may make them: root on a machine or in a container that lets it, or a service
that systemd has delegated its group to. Whatever a task starts is in its group, and cannot leave it unseen.

Only for keeping processes together: no limit is set, and no controller is switched on. Both versions will do.
"""

from __future__ import annotations

import contextlib
import itertools
import logging
import os
import signal
from pathlib import Path

from clusterctl_runtime.agent.facts import own_groups
from clusterctl_runtime.agent.tasks.processes import list_children

log = logging.getLogger(__name__)
_PREFIX = "clusterctl-"
_HIERARCHIES = ("pids", "freezer")  # of the old version: those that move no account of memory or time


class ControlGroup:
    """One task's. Removed once it is empty."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def take(self, pid: int) -> None:
        """The process, then its children, and theirs: what is started from then on is in the group anyhow."""
        todo, seen = [pid], {pid}
        while todo:
            one = todo.pop()
            with contextlib.suppress(ProcessLookupError):
                (self.path / "cgroup.procs").write_text(str(one))
            new = list_children(one) - seen
            seen |= new
            todo += new

    def pids(self) -> list[int]:
        """Its processes, and those of groups that the task has made in it; zombies are not there."""
        found: list[int] = []
        for directory, _, _ in os.walk(self.path):
            with contextlib.suppress(OSError):
                words = Path(directory, "cgroup.procs").read_text().split()
                found += [int(word) for word in words if word != "0"]
        return found

    def signal(self, number: int) -> None:
        """To each of its processes as it is found; one that has ended meanwhile, or is not ours, is passed over."""
        for pid in self.pids():
            with contextlib.suppress(OSError):
                os.kill(pid, number)

    def kill(self) -> None:
        """All at once where the kernel can (5.14 and later); else one by one: again and again, until it can be removed."""
        try:
            (self.path / "cgroup.kill").write_text("1")
            return
        except OSError:
            self.signal(signal.SIGKILL)

    def remove(self) -> bool:
        """Whether it is gone: it can be removed once nothing lives in it, and no sooner."""
        try:
            self.path.rmdir()
        except FileNotFoundError:
            return True
        except OSError:
            if not any(path.is_dir() for path in self.path.iterdir()):
                return False
            for directory, _, _ in os.walk(self.path, topdown=False):  # the task has made groups in it
                with contextlib.suppress(OSError):
                    Path(directory).rmdir()
            return not self.path.exists()
        return True


class ControlGroups:
    """The groups of one agent: `clusterctl-BOOT/N` below the group that the agent itself is in."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._numbers = itertools.count(1)
        self._usable = True

    def take(self, pid: int) -> ControlGroup | None:
        """A new group with this process in it, and what it has started since it was started itself, an instant ago. None where
        that fails: then marks and parents must do."""
        if not self._usable:
            return None
        group = ControlGroup(self.path / str(next(self._numbers)))
        try:
            group.path.mkdir()
            group.take(pid)
        except OSError as error:
            log.warning("control groups cannot be used (%s): doing without", error)
            self._usable = False
            group.remove()
            return None
        return group

    def close(self) -> None:
        """Removes the agent's own group where nothing lives in it any more."""
        ControlGroup(self.path).remove()


def make_groups(boot_id: str) -> ControlGroups | None:
    """None where no control group may be made here."""
    for place in _places():
        path = place / f"{_PREFIX}{boot_id}"
        try:
            path.mkdir()
            if not (path / "cgroup.procs").exists():
                raise OSError("no control group")
        except OSError:
            with contextlib.suppress(OSError):
                path.rmdir()
            continue
        return ControlGroups(path)
    return None


def end_groups(boot_id: str) -> None:
    """Kills what an agent that is dead has left in its groups, and removes those that are empty."""
    for place in _places():
        end_group(str(place / f"{_PREFIX}{boot_id}"))


def end_group(path: str) -> None:
    """Kills all in a control group and removes it, if it is there."""
    group = ControlGroup(Path(path))
    if group.path.is_dir():
        group.kill()
        group.remove()


def _places() -> list[Path]:
    """Own groups to make others in, the best first: the new version kills a group as one."""
    new = [path for kind, path in own_groups("") if kind == "cgroup2"][:1]
    old = [path for name in _HIERARCHIES for kind, path in own_groups(name) if kind == "cgroup"][:1]
    return [*new, *old]
