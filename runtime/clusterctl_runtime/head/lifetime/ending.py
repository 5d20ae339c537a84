"""The cluster's end, by its head: jobs are told to end, then every node is ended and proven to be gone, then it is noted that the
cluster has ended, and then the instance is ended that the head itself runs on. Each step may be done again: a head that was
started anew while it ended begins with the first, and one that had noted the end with its own instance.
"""

from __future__ import annotations

import asyncio
import json
import logging
import time
from typing import Any, Protocol

from clusterctl.core.errors import ClusterctlError
from clusterctl.core.lifetime import Lifetime, Use
from clusterctl.provision.journal.book import Journal
from clusterctl_runtime.files.private import write_private
from clusterctl_runtime.head.clock import steady_time
from clusterctl_runtime.head.config import HeadConfig
from clusterctl_runtime.head.handover import OwnMachine
from clusterctl_runtime.head.jobs.attempts import GRACE_SECONDS, Work
from clusterctl_runtime.head.jobs.book import JobBook
from clusterctl_runtime.head.jobs.queue import Queue
from clusterctl_runtime.head.lifetime.watch import ENDED_FILE, Ending
from clusterctl_runtime.head.nodes.ledger import Ledger
from clusterctl_runtime.head.serve.control import ServeControl
from clusterctl_runtime.head.services.controller import Services
from clusterctl_runtime.head.storage.events import EventLog
from clusterctl_runtime.head.storage.store import Store
from clusterctl_runtime.head.turns import in_turns

log = logging.getLogger(__name__)

JOBS_SECONDS = GRACE_SECONDS + 5.0  # that programs get from their first signal on
AGAIN_SECONDS = 30.0  # after a try at ending the nodes that failed
CERTAIN_SECONDS = 60.0  # after a head's start: by then Ray has told what it runs, which no book of the head has


class Head(Protocol):
    """What of the head is looked at, and ended."""

    config: HeadConfig
    started: float
    book: JobBook
    queue: Queue
    services: Services
    serve: ServeControl | None
    work: Work
    ledger: Ledger
    engine: Any
    events: EventLog
    store: Store
    journal: Journal

    @property
    def own_machine(self) -> OwnMachine | None: ...

    async def end_nodes(self) -> None: ...


def use_of(head: Head, rules: Lifetime) -> Use:
    """What uses the cluster at this moment. Nodes are looked at only where it counts whether they idle."""
    jobs = head.book.counts["queued"] + head.book.counts["running"] + head.queue.arriving
    jobs = max(jobs, head.services.working)  # whose next replica may be waiting for its turn
    jobs += head.serve.working if head.serve else 0
    last = next(reversed(head.book.ended.values()), None)
    ended = last.ended if last is not None else None
    if rules.idle is None or jobs:
        return Use(jobs, ended)
    busy = max((books.busy for books in head.ledger), default=None)
    return Use(jobs, ended, tuple(_others(head)), busy, head.started + (CERTAIN_SECONDS if head.engine else 0.0))


def _others(head: Head) -> list[str]:
    """What the engine runs or wants, which no job of the queue stands for."""
    wanted = len(head.engine.demand()) if head.engine else 0
    if wanted:
        return [f"Ray wants room for {wanted} more kind{'s' if wanted > 1 else ''} of work"]
    used = next((books.node_id for books in head.ledger if books.engine.known and not books.engine.idle), "")
    return [f"Ray uses {used}"] if used else []


async def end_cluster(head: Head, ending: Ending) -> None:
    """Returns when nothing is left but the head's files, and that is noted there. Goes on for as long as it takes. On an
    instance of its cluster it never returns: the machine ends below it."""
    if not (head.config.directory / ENDED_FILE).exists():
        await _end_and_note(head, ending)
    while head.own_machine is not None:
        await _end_own_machine(head, head.own_machine)
        await asyncio.sleep(AGAIN_SECONDS)


async def _end_and_note(head: Head, ending: Ending) -> None:
    name = head.config.name
    head.events.add("cluster", name, "ends_itself", f"the cluster ends itself: {ending.text}", rule=ending.rule)
    await _end_jobs(head, f"the cluster ended itself: {ending.text}")
    while not await _ended_nodes(head):  # noqa: ASYNC110  nor do providers tell that they answer again
        await asyncio.sleep(AGAIN_SECONDS)
    head.work.lose_unknown({})  # of nodes that are gone nobody will tell how their programs ended
    head.events.add("cluster", name, "ended", "the cluster has ended itself: its providers list nothing of it any more")
    document = {
        "at": time.time(),
        "rule": ending.rule,
        "text": ending.text,
        "cost": round(head.journal.spend(steady_time()).total, 6),
        "jobs": {state: head.book.counts[state] for state in ("succeeded", "failed", "cancelled")},
    }
    while not await _noted(head, json.dumps(document)):  # noqa: ASYNC110  a full disk tells nobody that it has room again
        await asyncio.sleep(AGAIN_SECONDS)


async def _noted(head: Head, text: str) -> bool:
    """Whether jobs, events and the last word are all on disk."""
    try:
        await head.store.flush()
        await asyncio.to_thread(write_private, head.config.directory / ENDED_FILE, text)
    except (OSError, ClusterctlError) as error:
        log.error("the cluster has ended, and that could not be noted: %s", error)
        return False
    return True


async def _end_jobs(head: Head, reason: str) -> None:
    """Those that run get the signal that `job cancel` sends, and its time to save what they have."""
    async for part in in_turns(list(head.book.jobs.values())):
        for job in part:
            head.work.cancel(job, reason)
    deadline = steady_time() + JOBS_SECONDS
    while head.book.running and (left := deadline - steady_time()) > 0:
        await head.events.wait(head.events.last, left)


async def _ended_nodes(head: Head) -> bool:
    try:
        await head.end_nodes()
    except Exception as error:
        _tell_failure(head, "the cluster could not end itself yet", error)
        return False
    return True


async def _end_own_machine(head: Head, machine: OwnMachine) -> None:
    try:
        await asyncio.to_thread(machine.end_itself)
    except Exception as error:
        _tell_failure(
            head, f"all other nodes have ended, and {machine.own}, which the head runs on, could not yet", error
        )


def _tell_failure(head: Head, what: str, error: Exception) -> None:
    log.error("%s", what, exc_info=error)
    text = f"{what}: {error}; it is tried again in {AGAIN_SECONDS:g} s"
    head.events.add("cluster", head.config.name, "end_failed", text)
