"""Short jobs follow each other on a node without a round trip to the head.

A job that lasts milliseconds leaves its node idle for as long as the head takes to hear of its end, write the next attempt to
disk and send it. So where jobs of a kind are short, the next few are sent ahead, each to start when the one before it has
ended. Every attempt is on disk before it is sent, as ever. If the one before lasts unexpectedly long, those behind it are
called back and go wherever there is room.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass, field
from itertools import islice

from clusterctl.core.model import Shape
from clusterctl.core.order import goes_first, levels
from clusterctl_runtime.head.jobs.asked import GroupKey
from clusterctl_runtime.head.jobs.book import JobBook
from clusterctl_runtime.head.jobs.job import Job
from clusterctl_runtime.head.nodes.ledger import Ledger
from clusterctl_runtime.wire import TaskReport

Kind = tuple[Shape, int]  # what one rank takes, and how many ranks: jobs of a kind are thought to last alike

AHEAD_SECONDS = 0.25  # of work that is sent ahead of each running job, by the average of its kind
DEEPEST = 64  # jobs sent ahead, at the very most
PATIENCE_SECONDS = 1.0  # after which those behind a running job are called back
SMOOTHING = 0.2


@dataclass
class Lane:
    """Tasks that follow each other on one node; the first one runs. `since` is when the first one's turn came."""

    node_id: str
    kind: Kind
    tasks: list[str] = field(default_factory=list)
    since: float = 0.0


class Lookahead:
    def __init__(self, book: JobBook, ledger: Ledger, send: Callable[[str, dict[str, object]], bool]) -> None:
        self._book = book
        self._ledger = ledger
        self._send = send
        self._lanes: dict[str, Lane] = {}  # by every task that is in it
        # Of each kind, the lanes that may have room, those looked at longest ago first: all others are fuller than half.
        self._hungry: dict[Kind, dict[int, Lane]] = {}
        self._followed: dict[int, Lane] = {}  # in which somebody waits behind the first
        self._seconds: dict[Kind, float] = {}  # smoothed duration of a kind of job

    def started(self, job: Job, task: str, node_id: str, after: str = "") -> None:
        """A single-rank job was sent to a node, to start at once or after another."""
        lane = self._lanes.get(after) if after else None
        if lane is None:
            lane = Lane(node_id, job.group.kind, since=time.monotonic())
            self._hungry.setdefault(lane.kind, {})[id(lane)] = lane
        lane.tasks.append(task)
        self._lanes[task] = lane
        if len(lane.tasks) > 1:
            self._followed[id(lane)] = lane

    def ended(self, task: str, job: Job, report: TaskReport) -> None:
        """A rank has ended, or will never start. Where its report has both times, the average of its kind takes them in."""
        if report.started and report.ended:
            lasted = max(0.0, report.ended - report.started)
            known = self._seconds.get(job.group.kind, lasted)
            self._seconds[job.group.kind] = known + SMOOTHING * (lasted - known)
        lane = self._lanes.pop(task, None)
        if lane and task in lane.tasks:
            lane.tasks.remove(task)
            lane.since = time.monotonic()
            self._shortened(lane)

    def _shortened(self, lane: Lane) -> None:
        if lane.tasks:
            self._hungry.setdefault(lane.kind, {})[id(lane)] = lane
        else:
            self._full(lane)
        if len(lane.tasks) < 2:
            self._followed.pop(id(lane), None)

    def _full(self, lane: Lane) -> None:
        """Or at its end: until another one of its tasks ends nothing follows there."""
        lanes = self._hungry.get(lane.kind, {})
        lanes.pop(id(lane), None)
        if not lanes:
            self._hungry.pop(lane.kind, None)

    def room(self, reserved: Collection[str], most: int) -> Iterator[tuple[Job, str, str]]:
        """(job, node, the task to follow) for what should be sent ahead now, `most` at most, in the order of the queue. The
        caller assigns each job before it asks for the next. A lane is filled again when it is half empty, so that several jobs
        share one commit. Nothing is sent ahead to nodes that are reserved for starving jobs, or that more urgent jobs of another
        kind could use: these would never get room there."""
        urgent = self._urgent()
        for kind in list(self._hungry):
            depth = self._depth(kind)
            if not depth or self._book.first_alike(*kind) is None:
                continue
            for lane in list(islice(self._hungry[kind].values(), most)):
                if len(lane.tasks) - 1 > depth // 2:
                    self._full(lane)
                    continue
                if lane.node_id not in reserved and self._may_follow(lane):
                    while most and len(lane.tasks) <= depth and (job := self._next(lane, urgent)):
                        most -= 1
                        yield job, lane.node_id, lane.tasks[-1]
                if not most:
                    return
                lanes = self._hungry[kind]
                lanes[id(lane)] = lanes.pop(id(lane))  # the others first next time

    def _urgent(self) -> list[GroupKey]:
        """The groups that are more urgent than any other, the most urgent first; none when all are alike."""
        by_urgency = [level for _, level in levels(self._book.groups, lambda group: group.priority)]
        return [group for level in by_urgency[:-1] for group in level]

    def _next(self, lane: Lane, urgent: Iterable[GroupKey]) -> Job | None:
        """The job that comes next in the lane, unless the node's room is for a more urgent one of another kind."""
        job, books = self._book.first_alike(*lane.kind), self._ledger.get(lane.node_id)
        if job is None or books is None:
            return None
        for group in urgent:
            if not goes_first(group.priority, job.group.priority):
                break
            if group in self._book.groups and group.shape.resources.fits_in(books.total):
                return None
        return job

    def _depth(self, kind: Kind) -> int:
        """How many may wait behind the running one: 0 where jobs last long, or nobody knows how long, or need more than a
        share of one node's processors."""
        shape, nodes = kind
        seconds = self._seconds.get(kind)
        if seconds is None or nodes > 1 or shape.resources.get("GPU"):
            return 0
        return min(DEEPEST, int(AHEAD_SECONDS / max(seconds, 1e-6)))

    def _may_follow(self, lane: Lane) -> bool:
        books = self._ledger.get(lane.node_id)
        return (
            books is not None
            and books.connected
            and not (books.drain or books.ending)
            and books.engine.state != "ready"
        )

    def recall_late(self) -> bool:
        """Calls back what waits behind a job that lasts too long; true while anything waits at all."""
        now = time.monotonic()
        for lane in self._followed.values():
            if now - lane.since > PATIENCE_SECONDS:
                self._seconds[lane.kind] = max(self._seconds.get(lane.kind, 0.0), PATIENCE_SECONDS)
                self._send(lane.node_id, {"t": "recall", "tasks": lane.tasks[1:]})
        return bool(self._followed)
