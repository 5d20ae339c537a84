"""Why a job that runs waits all the same: its tasks, actors and placement groups of which Ray says that they have no node.

Ray is asked only where somebody wants to know (`look`), and only while it wants anything at all; the answer is kept for a
second, for all who ask.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from time import monotonic
from typing import Any

from clusterctl.core.errors import ClusterctlError
from clusterctl.core.model import Demand, Wait
from clusterctl.core.scheduling.remedies import COMING
from clusterctl.core.waits import work_waits
from clusterctl_runtime.engine.demand import Waiting
from clusterctl_runtime.head.jobs.job import split_task

log = logging.getLogger(__name__)
FRESH_SECONDS = 1.0  # for which an answer serves; Ray's own tables are about as late
PATIENCE_SECONDS = 2.0  # that a question may hold up who asks; its answer then serves the next
Ask = Callable[[], Awaitable[tuple[Waiting, ...]]]


@dataclass(frozen=True)
class Piece:
    """What of a demand is of one job: so many tasks and actors, or a placement group."""

    demand_id: str
    tasks: int = 0
    actors: int = 0


class RayWaits:
    """`ask` asks Ray what waits; `wanted` is what it wants in all, which is known without asking."""

    def __init__(self, ask: Ask, wanted: Callable[[], Sequence[Demand]]) -> None:
        self._ask, self._wanted = ask, wanted
        self._pieces: dict[str, list[Piece]] = {}  # by job
        self._at = float("-inf")
        self._asking: asyncio.Task[None] | None = None
        self._news = asyncio.Event()

    async def look(self) -> None:
        """Makes `of` as fresh as it gets. Never fails: where Ray does not answer, it is as it was."""
        if not self._wanted():
            self._pieces = {}
        elif monotonic() - self._at > FRESH_SECONDS:
            if self._asking is None or self._asking.done():
                self._asking = asyncio.create_task(self._look())
            await asyncio.wait([self._asking], timeout=PATIENCE_SECONDS)

    async def _look(self) -> None:
        try:
            found = await self._ask()
        except ClusterctlError as error:
            log.info("Ray was not asked what waits: %s", error)
            return
        self._at, self._pieces = monotonic(), {}
        for waiting in found:
            if "/" in waiting.driver:  # else it is no job of ours
                self._pieces.setdefault(split_task(waiting.driver)[0], []).extend(_pieces_of(waiting))

    def of(self, job_id: str) -> list[Piece]:
        """What of this job waited at the last look."""
        return self._pieces.get(job_id, [])

    @property
    def wants(self) -> bool:
        """Whether anything of Ray's waits, whosever it is."""
        return bool(self._wanted())

    def news(self) -> asyncio.Event:
        """Set when Ray wants something else than now."""
        return self._news

    def changed(self) -> None:
        """Ray wants something else than before."""
        self._news.set()
        self._news = asyncio.Event()


def _pieces_of(waiting: Waiting) -> list[Piece]:
    ids = dict.fromkeys((*waiting.tasks, *waiting.actors))
    counted = [Piece(key, waiting.tasks.get(key, 0), waiting.actors.get(key, 0)) for key in ids]
    return [*counted, *(Piece(group) for group in waiting.groups)]


def wait_document(pieces: Sequence[Piece], demand: Sequence[Demand], waits: Sequence[Wait]) -> dict[str, Any] | None:
    """The `wait` of a running job: the worst of what its pieces wait for, and how many more do. None where all of them have
    room: Ray is about to place them."""
    by_id = {d.id: d for d in demand}
    reasons = _worst(waits)
    found = [
        (piece, reasons[piece.demand_id]) for piece in pieces if piece.demand_id in reasons and piece.demand_id in by_id
    ]
    if not found:
        return None
    found.sort(key=lambda item: (*_hope(item[1]), item[0].demand_id))
    piece, wait = found[0]
    wanted = by_id[piece.demand_id]
    text = work_waits(piece.tasks, piece.actors, wanted, wait.reason)
    more = f" (and {len(found) - 1} more of its wishes)" if len(found) > 1 else ""
    return {
        "code": wait.reason.code,
        "text": text + more,
        "fix": wait.reason.fix,
        "eta": wait.eta,
        "nodes": list(wait.nodes),
        "demands": [piece.demand_id for piece, _ in found],
    }


def _hope(wait: Wait) -> tuple[int, float]:
    """What can never be is told first, then what a limit holds up, then what is on its way, the latest first."""
    if wait.reason.code in COMING:
        return 2, -(wait.eta or 0.0)
    return wait.reason.code != "too_large", 0.0


def _worst(waits: Sequence[Wait]) -> Mapping[str, Wait]:
    """By demand: a demand of which a part is on its way is as stuck as its other part."""
    found: dict[str, Wait] = {}
    for wait in waits:
        before = found.get(wait.demand_id)
        if before is None or (before.reason.code in COMING and wait.reason.code not in COMING):
            found[wait.demand_id] = wait
    return found
