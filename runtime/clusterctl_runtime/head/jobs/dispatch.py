"""The dispatcher: queued jobs that fit on ready nodes start at once, in the order that `core.scheduling.placement` decides."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Collection, Iterable, Sequence

from clusterctl.core.model import NodeView
from clusterctl.core.scheduling.placement import Request, place, starves_at
from clusterctl_runtime.engine.config import given_python
from clusterctl_runtime.head.clock import steady_time
from clusterctl_runtime.head.config import HeadConfig
from clusterctl_runtime.head.jobs.attempts import Work
from clusterctl_runtime.head.jobs.book import JobBook
from clusterctl_runtime.head.jobs.gang import gang_addresses, gang_environment, gang_port
from clusterctl_runtime.head.jobs.job import Attempt, Job, task_id
from clusterctl_runtime.head.jobs.lines import in_order
from clusterctl_runtime.head.jobs.lookahead import PATIENCE_SECONDS, Lookahead
from clusterctl_runtime.head.jobs.starts import Start, Starts
from clusterctl_runtime.head.nodes.fleet import Fleet
from clusterctl_runtime.head.nodes.ledger import NodeLedger
from clusterctl_runtime.head.storage.store import Store, StoreUnavailable
from clusterctl_runtime.wire import TaskSpec

log = logging.getLogger(__name__)
MOST_STARTS = 100  # in one pass, which is one turn of the event loop


class Dispatcher:
    """One pass at a time; `wake` asks for another. Cost per pass grows with kinds of jobs and nodes with room, not with jobs."""

    def __init__(self, config: Callable[[], HeadConfig], book: JobBook, fleet: Fleet, work: Work, store: Store) -> None:
        self._config = config
        self._book = book
        self._fleet = fleet
        self._work = work
        self._store = store
        self.paused = False
        self._wanted = asyncio.Event()
        self._freed: set[str] = set()
        self.starts = Starts(book, fleet, self.wake)
        self._asking: set[asyncio.Task[None]] = set()
        self._ahead = Lookahead(book, fleet.ledger, fleet.send)
        work.ended = self._ahead.ended
        self._recall: asyncio.TimerHandle | None = None

    def wake(self) -> None:
        self._wanted.set()

    def freed(self, node_id: str) -> None:
        """A node has room again: after the next pass what nobody took goes back to its engine."""
        if node_id:
            self._freed.add(node_id)
        self._wanted.set()

    async def run(self) -> None:
        try:
            while True:
                await self._wanted.wait()
                self._wanted.clear()
                try:
                    await self.dispatch()
                except Exception:  # one bad pass must not end the head; the next wake tries again
                    log.exception("dispatch failed")
        finally:
            self.close()

    def close(self) -> None:
        """Gives up the starts that are not made yet: their jobs are queued, on disk and in the book."""
        for task in list(self._asking):
            task.cancel()
        self.starts.close()

    async def dispatch(self) -> None:
        freed, self._freed = self._freed, set()
        try:
            if self._book.groups and not self.paused:
                await self._pass()
        finally:
            for node_id in freed:
                self.starts.shares.settle(node_id)

    async def _pass(self) -> None:
        chosen, kept = self._choose()
        if len(chosen) > MOST_STARTS:  # the rest in the next pass: the loop does other things in between
            chosen = chosen[:MOST_STARTS]
            self.wake()
        await self._start([start for job, nodes in chosen if (start := self.starts.book(job, nodes))])
        await self._send_ahead(kept)

    async def _send_ahead(self, kept: Collection[str]) -> None:
        starts = []
        for job, node_id, after in self._ahead.room(kept):
            attempt = self._work.assign(job, [node_id])
            self._ahead.started(job, task_id(attempt.id, 0), node_id, after)
            starts.append((job, attempt, self._spec_builder(job, attempt, after)))
        if starts:
            await self._flush()
            self._work.launch(starts)
            if self._recall is None:
                self._recall_later()

    def _recall_later(self) -> None:
        self._recall = asyncio.get_running_loop().call_later(PATIENCE_SECONDS, self._recall_late)

    def _recall_late(self) -> None:
        self._recall = None
        if self._ahead.recall_late():
            self._recall_later()

    def _choose(self) -> tuple[list[tuple[Job, tuple[str, ...]]], frozenset[str]]:
        """What starts where, and the nodes that are kept for starving jobs: these may be full now, so then all are looked at.
        Nothing is kept where all jobs that wait are alike: none of them could overtake another."""
        now, groups, roster = steady_time(), self._book.groups, self._fleet.roster
        starving = len(groups) > 1 and any(starves_at(line.first.queued_since) <= now for line in groups.values())
        views = roster.ready(now) if starving else roster.with_room({group.shape.resources for group in groups}, now)
        connected = [view for view in views if self.starts.takes_work(view.node.id)]
        if not connected:
            return [], frozenset()
        one_zone = frozenset(pool.name for pool in self._config().spec.pools if pool.one_zone)
        requests = [request_of(job, one_zone) for job in self._candidates(connected)]
        placement = place(requests, connected, now=now)
        kept = frozenset(node_id for _, nodes in placement.kept for node_id in nodes)
        return [(self._book.jobs[job_id], nodes) for job_id, nodes in placement.placed], kept

    def _candidates(self, views: Sequence[NodeView]) -> Iterable[Job]:
        """Of each kind of job, the first ones: as many as could start in one pass at the very most, and one for which room may
        be kept."""
        most = {}
        for group, line in self._book.groups.items():
            fit = (group.shape.resources.count_in(view.free) for view in views)
            room = sum(min(count, len(line) * group.nodes) for count in fit)
            most[group] = max(1, min(room // group.nodes, MOST_STARTS + 1))
        return in_order(self._book.groups, most)

    async def _start(self, booked: Sequence[Start]) -> None:
        """Those that nobody must be asked for begin at once, with one write to the disk; each of the others when its answer is
        here. Nobody waits for an engine that takes its time."""
        for start in booked:
            if start.asked:
                task = asyncio.get_running_loop().create_task(self._ask(start))
                self._asking.add(task)
                task.add_done_callback(self._asked)
        await self._begin([start for start in booked if not start.asked])

    async def _ask(self, start: Start) -> None:
        if await self.starts.secure(start):
            await self._begin([start])

    def _asked(self, task: asyncio.Task[None]) -> None:
        self._asking.discard(task)
        if not task.cancelled() and task.exception():
            log.error("a start failed", exc_info=task.exception())
            self.wake()

    async def _begin(self, secured: Sequence[Start]) -> None:
        """Attempts on disk, then on their nodes."""
        made = []
        for start in secured:
            if not self.starts.may_begin(start):
                continue
            attempt = self._work.assign(start.job, start.nodes, start.gpu_ids)
            if start.job.nodes == 1:
                self._ahead.started(start.job, task_id(attempt.id, 0), start.nodes[0])
            made.append((start.job, attempt, self._spec_builder(start.job, attempt)))
        if made:
            await self._flush()
            self._work.launch(made)

    async def _flush(self) -> None:
        """Nothing starts before its attempt is on disk; a full disk delays, it does not lose."""
        while True:
            try:
                await self._store.flush()
                return
            except StoreUnavailable:
                await asyncio.sleep(0.5)

    def _spec_builder(self, job: Job, attempt: Attempt, after: str = "") -> Callable[[int], TaskSpec]:
        config = self._config()
        spec, request = config.spec, job.request
        pools = {pool.name: pool.env for pool in spec.pools}
        books = [self._fleet.ledger.get(n) for n in attempt.nodes]
        addresses = gang_addresses(books)

        def argv(rank: int) -> list[str]:
            if not request.get("script"):
                return list(request["argv"])
            return [self._python_of(attempt.nodes[rank], books[rank]), "-u", request["script"], *request["argv"]]

        def build(rank: int) -> TaskSpec:
            node = self._fleet.journal.get(attempt.nodes[rank])
            env = {**spec.env, **pools.get(node.pool if node else "", {}), **request["env"]}
            env["CLUSTERCTL_CLUSTER"] = config.name
            env.update(gang_environment(job, attempt, rank, addresses))
            return TaskSpec(
                task=task_id(attempt.id, rank),
                argv=argv(rank),
                env=env,
                package=request["package"],
                gpus=job.shape.resources.get("GPU"),
                gpu_ids=attempt.gpu_ids.get(rank),
                engine=bool(request["engine"]) and spec.ray is not None,
                timeout=request["timeout"],
                runtime_env=dict(request["runtime_env"]),
                after=after,
                port=gang_port(attempt) if job.nodes > 1 and rank == 0 else 0,
            )

        return build

    def _python_of(self, node_id: str, books: NodeLedger | None) -> str:
        """The interpreter of scripts on that node: the engine's, else the one that its agent runs on."""
        config, node = self._config(), self._fleet.journal.get(node_id)
        pool = next((pool for pool in config.spec.pools if node and pool.name == node.pool), None)
        kind = config.spec.kind_of(pool)
        python = str(books.engine.info.get("python") or "") if books else ""
        python = python or given_python(config, kind) or (config.engine_python if kind.machine == "process" else "")
        return python or str((books.facts if books else {}).get("executable") or "python3")


def request_of(job: Job, one_zone_pools: Collection[str]) -> Request:
    """A gang's ranks go to nodes of their own: `--nodes` promises nodes, not places."""
    gang = job.nodes > 1
    return Request(
        job.id,
        ((job.shape, job.nodes),),
        gang=gang,
        strategy="STRICT_SPREAD" if gang else "",
        one_zone=gang and job.shape.pool in one_zone_pools,
        since=job.queued_since,
    )
