"""From "this job starts on these nodes" to its attempt: the shares are in the books at once, the engine is asked for them, and
what comes of it is decided by what is true then.

A start is booked in the turn of the loop in which it was decided: its shares are in the ledger and its job is out of the queue
before anything is awaited. Whatever happens meanwhile (the engine refuses, the job is cancelled, a node goes or is drained,
the head is stopped), the start ends in one of two ways: its job has an attempt, or everything is back as it was.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from clusterctl.core.model import NodeState
from clusterctl_runtime.backoff import pause_after
from clusterctl_runtime.head.clock import steady_time
from clusterctl_runtime.head.jobs.attempts import next_attempt_id
from clusterctl_runtime.head.jobs.book import JobBook
from clusterctl_runtime.head.jobs.job import Job, task_id
from clusterctl_runtime.head.jobs.shares import NoShares, ShareRefused, Shares
from clusterctl_runtime.head.nodes.fleet import Fleet
from clusterctl_runtime.head.nodes.ledger import Holding, NodeLedger

log = logging.getLogger(__name__)
FIRST_PAUSE, LONGEST_PAUSE = 0.25, 30.0  # seconds for which a node that refused a share is not asked again


@dataclass(eq=False)
class Start:
    """`books` and `holdings` are by rank. `asked`: whether an engine has to let go of its shares first."""

    job: Job
    books: Sequence[NodeLedger]
    holdings: Sequence[Holding]
    asked: bool

    @property
    def nodes(self) -> tuple[str, ...]:
        """Node ids by rank."""
        return tuple(books.node_id for books in self.books)

    @property
    def gpu_ids(self) -> dict[int, list[int]]:
        """Rank -> numbers of its GPUs, of ranks for which they are known."""
        return {rank: h.gpu_ids for rank, h in enumerate(self.holdings) if h.gpu_ids is not None}


class Starts:
    """`wake` asks for another pass of the dispatcher."""

    def __init__(self, book: JobBook, fleet: Fleet, wake: Callable[[], None]) -> None:
        self._book, self._fleet, self._wake = book, fleet, wake
        self.shares: Shares = NoShares()
        self._resting: dict[str, asyncio.TimerHandle] = {}  # nodes that refused a share: not asked again for a while
        self._refusals: dict[str, int] = {}  # by node, in a row

    def takes_work(self, node_id: str) -> bool:
        """Whether a job may be placed there now, beside what its view says."""
        books = self._fleet.ledger.get(node_id)
        return books is not None and self._may_run(books) and node_id not in self._resting

    def book(self, job: Job, nodes: Sequence[str]) -> Start | None:
        """Books the shares and takes the job out of the queue. Nothing is booked (None) where a node has no books."""
        books = self._fleet.ledger.all_of(nodes)
        if books is None:
            return None
        now, attempt = steady_time(), next_attempt_id(job)
        holdings = [Holding(job.shape.resources, now, starting=True, secured=not self.shares.asks(b)) for b in books]
        start = Start(job, books, holdings, asked=not all(holding.secured for holding in holdings))
        for rank, (b, holding) in enumerate(zip(books, holdings, strict=True)):
            b.hold(task_id(attempt, rank), holding)
        self._book.take_out(job, start, _asking(start))
        return start

    async def secure(self, start: Start) -> bool:
        """Asks for every rank's share; false, and everything undone, when one was refused."""
        try:
            answers = await asyncio.gather(
                *(self._take(*rank) for rank in zip(start.books, start.holdings, strict=True))
            )
        except BaseException:
            self.undo(start)
            raise
        refusals = [answer for answer in answers if answer]
        if refusals:
            self.undo(start, {"code": "share_refused", "text": refusals[0], "fix": "", "eta": None, "nodes": []})
        return not refusals

    async def _take(self, books: NodeLedger, holding: Holding) -> str:
        """ "" or why not."""
        if holding.secured:
            return ""
        try:
            await self.shares.take(books, holding)
        except ShareRefused as refusal:
            self._rest(books.node_id)
            return str(refusal)
        self._refusals.pop(books.node_id, None)
        return ""

    def may_begin(self, start: Start) -> bool:
        """Whether the job is still this start's, and all its nodes still take work: asked in the turn in which the attempt is
        made. Everything is undone where not."""
        if self._book.starting.get(start.job.id) is start and all(self._may_run(books) for books in start.books):
            return True
        self.undo(start)
        return False

    def undo(self, start: Start, wait: dict[str, Any] | None = None) -> None:
        """Its shares leave the books and its job is queued again, unless it was cancelled; `wait` is the reason shown for it.
        Only then is another pass asked for: one that ran before would not see the job, and none need ever follow it."""
        for books, holding in zip(start.books, start.holdings, strict=True):
            for task in [task for task, held in books.holdings.items() if held is holding]:
                books.release(task)
                books.busy = steady_time()
        self._book.put_back(start.job, start, wait)
        for node_id in dict.fromkeys(start.nodes if start.asked else ()):
            self.shares.settle(node_id)
        self._wake()

    def _may_run(self, books: NodeLedger) -> bool:
        node = self._fleet.journal.get(books.node_id)
        return (
            node is not None
            and node.state is NodeState.READY
            and self._fleet.ledger.get(books.node_id) is books
            and books.node_id in self._fleet.sessions
            and not (books.drain or books.ending or books.preempt_at)
        )

    def _rest(self, node_id: str) -> None:
        """What Ray uses is known a moment later; where it cannot be asked, that takes longer. Jobs look at other nodes
        meanwhile."""
        times = self._refusals[node_id] = self._refusals.get(node_id, 0) + 1
        pause = pause_after(times, FIRST_PAUSE, LONGEST_PAUSE)
        if node_id in self._resting:
            self._resting.pop(node_id).cancel()
        self._resting[node_id] = asyncio.get_running_loop().call_later(pause, self._rested, node_id)

    def _rested(self, node_id: str) -> None:
        self._resting.pop(node_id, None)
        self._wake()

    def close(self) -> None:
        """Nodes that refused a share rest no longer, and no timer of theirs is left."""
        for handle in self._resting.values():
            handle.cancel()
        self._resting.clear()


def _asking(start: Start) -> dict[str, Any]:
    where = ", ".join(dict.fromkeys(start.nodes))
    text = f"it starts on {where}"
    if start.asked:
        text = f"{start.job.shape.resources} of {where} is being taken back from Ray for it"
    return {"code": "starting", "text": text, "fix": "", "eta": 0.0, "nodes": list(start.nodes)}
