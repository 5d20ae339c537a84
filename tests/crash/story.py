"""The story that is interrupted: a cluster comes up, grows, shrinks and goes down, whoever dies on the way.

Two ways to tell it. `live_through`: from the beginning for each position at which to die; for skies that cost nothing.
`die_once_everywhere`: once, by processes that are ended by SIGKILL, each at the first position at which none before it has
died; for skies of real things.
"""

from __future__ import annotations

import contextlib
import os
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any

from clusterctl.core.model import NodeState
from tests.crash.stage import Crash, Fuse, Lost, MiniHead, Sky

MEMORY = "/dev/shm" if Path("/dev/shm").is_dir() else None  # the crashes are simulated: no disk is needed
LISTS = ("before list", "after list")
EFFECTS = ("create", "terminate", "stop", "start", "sweep")
NODES_AT_MOST = 5  # four workers and the head
Phase = tuple[str, int, Callable[[MiniHead], bool]]


def phases_of(sky: Sky) -> tuple[Phase, ...]:
    """(name, jobs that want a node each, whether it is reached). Where nodes are kept stopped they are started again, too."""

    def grown(head: MiniHead) -> bool:
        return len(head.ready()) == 4

    def shrunk(head: MiniHead) -> bool:
        kept = len(head.stopped())
        return len(head.ready()) == 2 and kept == sky.keep_stopped and len(head.journal.nodes()) == 2 + kept

    phases: tuple[Phase, ...] = (
        ("up", 0, lambda head: len(head.ready()) == 2),
        ("scale-up", 3, grown),
        ("scale-down", 0, shrunk),
    )
    return (*phases, ("start", 3, grown), ("stop", 0, shrunk)) if sky.keep_stopped else phases


def run_story(head: MiniHead, done: list[str], check: Callable[[], None] = lambda: None) -> None:
    """Brings the cluster through the phases that are not `done` yet, then takes it down."""
    for name, jobs, reached in phases_of(head.sky):
        if name in done:
            continue
        head.fuse.phase = name
        for _ in head.sky.turns():
            if reached(head):
                break
            head.tick(jobs)
            check()
        assert reached(head), (name, head.journal.nodes())
        done.append(name)
    head.fuse.phase = "down"
    head.provisioner.down()
    done.append("down")


# ---------------------------------------------------------------- what must hold


def check_no_double(sky: Sky) -> None:
    """At every moment: no node twice, and never more than the pools allow."""
    living = Counter((i.node_id, i.generation) for i in sky.living() if i.node_id)
    assert max(living.values(), default=0) <= 1, living
    assert sum(living.values()) <= NODES_AT_MOST + sky.keep_stopped, living


def check_owned(sky: Sky, head: MiniHead) -> None:
    """No instance without a record, and no record without an instance but those that are ending."""
    nodes = head.journal.nodes().values()
    living = {instance.id for instance in sky.living()}
    assert living <= {node.instance_id for node in nodes}
    assert {node.instance_id for node in nodes if node.state is not NodeState.TERMINATING} <= living


def check_all_gone(sky: Sky, head: MiniHead) -> None:
    assert sky.living() == [] and head.journal.nodes() == {} and sky.remains() == []


def settle(sky: Sky, head: MiniHead, jobs: int) -> None:
    """Long enough for whatever has no owner to be reaped."""
    for _ in islice(sky.turns(), 15):
        head.tick(jobs)
        check_no_double(sky)


# ---------------------------------------------------------------- processes that die


@contextlib.contextmanager
def running(sky: Sky, fuse: Fuse | None = None, lost: Lost | None = None) -> Iterator[MiniHead]:
    head = MiniHead(sky, fuse, lost) if lost else MiniHead(sky, fuse)
    try:
        yield head
    finally:
        head.close()


def live_through(sky: Sky, fuses: list[Fuse]) -> list[str]:
    """Starts a process per fuse, each of which dies, and one that does not; returns the phases in which they died."""
    done: list[str] = []
    died: list[str] = []
    for fuse in fuses:
        with running(sky, fuse) as head, contextlib.suppress(Crash):
            head.start()
            run_story(head, done, lambda: check_no_double(sky))
        died.append(done[-1] if done else "start")
        check_no_double(sky)
        sky.pause(3.0)
    with running(sky) as head:
        head.start()
        if "down" not in done:
            settle(sky, head, 3 if done[-1:] in (["up"], ["scale-down"]) else 0)
            check_owned(sky, head)
            run_story(head, done, lambda: check_no_double(sky))
        check_all_gone(sky, head)
    return died


def every_other_effect() -> Lost:
    """Of the calls that change something, every other one is done and never answered."""
    seen: Counter[str] = Counter()

    def lost(number: int, call: str) -> bool:
        seen[call] += 1
        return call in EFFECTS and seen[call] % 2 == 1

    return lost


# ---------------------------------------------------------------- for real


class RealSky(Sky):
    """Its instances are real, and so is time, though it runs five times as fast for the head."""

    SPEED = 5.0
    PATIENCE = 60.0  # seconds for one phase
    PAUSE = 0.02
    idle_timeout = 2.0

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self._eye = None
        self._began = time.time()

    @property
    def now(self) -> float:  # pyright: ignore[reportIncompatibleVariableOverride]
        return self._began + (time.time() - self._began) * self.SPEED

    def turns(self) -> Iterator[int]:
        deadline, number = time.monotonic() + self.PATIENCE, 0
        while time.monotonic() < deadline:
            yield (number := number + 1)
            time.sleep(self.PAUSE)

    def pause(self, seconds: float) -> None:
        time.sleep(min(seconds / self.SPEED, self.PAUSE))

    def arm(self, head: MiniHead, fuse: Fuse) -> None:
        """Makes positions of what the provider does inside its calls. The process that is armed will not outlive it."""


class FirstTime(Fuse):
    """Ends its process by SIGKILL at the first position that is not in the `notes` yet, the first time and the second time
    that a process passes it being two. Positions after something are left out: nothing happens on disk or elsewhere between
    them and the ones that come before the next thing."""

    TIMES = 2

    def __init__(self, notes: Path) -> None:
        super().__init__()
        self._notes, self._lock = notes, threading.Lock()
        self._known = set(died_at(notes))
        self._times: Counter[str] = Counter()

    def at(self, position: str, detail: str = "") -> None:
        if position.startswith("after "):
            return
        with self._lock:
            name = f"{self.phase}: {position} {detail}".strip()
            self._times[name] += 1
            times = self._times[name]
            name += " again" * (times - 1)
            if times > self.TIMES or name in self._known:
                return
            with self._notes.open("a") as notes:
                print(name, file=notes, flush=True)
            os.kill(os.getpid(), signal.SIGKILL)


def died_at(notes: Path) -> list[str]:
    return notes.read_text().splitlines() if notes.exists() else []


def brittle(function: Callable[..., Any], name: str, fuse: Fuse, detail: Callable[..., str] | None = None) -> Any:
    """`function`, with a position before it. `detail` gives of its arguments what it is about."""

    def around(*args: Any, **kwargs: Any) -> Any:
        fuse.at(f"before {name}", detail(*args, **kwargs) if detail else "")
        return function(*args, **kwargs)

    return around


def die_once_everywhere(sky: RealSky) -> list[str]:
    """Returns where processes were killed. In the end nothing is left, and every phase was reached with all owned."""
    notes = sky.directory / "died"
    while _killed(sky, notes):
        check_no_double(sky)
    with running(sky) as head:
        check_all_gone(sky, head)
    return died_at(notes)


def _killed(sky: RealSky, notes: Path) -> bool:
    """Lives in a process of its own until it dies (true) or the story is over."""
    child = os.fork()
    if child == 0:
        code = 1
        try:
            _live(sky, FirstTime(notes))
            code = 0
        except BaseException:
            import traceback

            traceback.print_exc()
        finally:
            os._exit(code)
    _, status = os.waitpid(child, 0)
    assert os.WIFSIGNALED(status) or os.WEXITSTATUS(status) == 0, "the process failed by itself: see its stderr"
    return os.WIFSIGNALED(status)


def _live(sky: RealSky, fuse: FirstTime) -> None:
    """What phases are over outlives the process."""
    sky._eye = None  # the parent's connections are the parent's
    memory = _Memory(sky.directory / "done")
    head = MiniHead(sky, fuse)
    sky.arm(head, fuse)
    head.start()
    run_story(head, memory, lambda: check_no_double(sky))
    head.close()


class _Memory(list[str]):
    """A list of phases that is kept in a file."""

    def __init__(self, path: Path) -> None:
        super().__init__(died_at(path))
        self._path = path

    def append(self, phase: str) -> None:
        super().append(phase)
        self._path.write_text("\n".join(self))
