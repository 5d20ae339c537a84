"""The dispatcher: queued jobs that fit on ready nodes start at once, in the order that `core.scheduling.placement` decides."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Collection, Iterable, Sequence
from itertools import islice

from clusterctl.core.model import NodeView
from clusterctl.core.resources import Resources
from clusterctl.core.scheduling.placement import Request, place, starves_at, takes_work
from clusterctl.spec.network import node_has_engine
from clusterctl_runtime.engine.config import given_python
from clusterctl_runtime.head.clock import steady_time
from clusterctl_runtime.head.config import HeadConfig
from clusterctl_runtime.head.jobs.asked import GroupKey
from clusterctl_runtime.head.jobs.attempts import Work
from clusterctl_runtime.head.jobs.book import JobBook
from clusterctl_runtime.head.jobs.gang import gang_addresses, gang_environment, gang_port, replica_port, with_port
from clusterctl_runtime.head.jobs.job import Attempt, Job, task_id
from clusterctl_runtime.head.jobs.lines import in_order
from clusterctl_runtime.head.jobs.lookahead import PATIENCE_SECONDS, Lookahead
from clusterctl_runtime.head.jobs.starts import Start, Starts
from clusterctl_runtime.head.nodes.fleet import Fleet
from clusterctl_runtime.head.nodes.ledger import NodeLedger
from clusterctl_runtime.head.storage.store import Store, StoreUnavailable
from clusterctl_runtime.wire import TaskSpec

log = logging.getLogger(__name__)
MOST_STARTS = 100  # ranks in one pass, which is one turn of the event loop
Alike = tuple[Resources, Sequence[NodeView]]  # what is free on each of these nodes


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
        self._freed: dict[str, None] = {}  # in the order in which they were
        self.starts = Starts(book, fleet, self.wake)
        self._asking: set[asyncio.Task[None]] = set()
        self._ahead = Lookahead(book, fleet.ledger, fleet.send)
        work.ended = self._ahead.ended
        self._recall: asyncio.TimerHandle | None = None

    def wake(self) -> None:
        """Something changed: it looks soon at what may start."""
        self._wanted.set()

    def freed(self, node_id: str) -> None:
        """A node has room again: after the next pass what nobody took goes back to its engine."""
        if node_id:
            self._freed[node_id] = None
        self._wanted.set()

    async def run(self) -> None:
        """Makes a pass after each `wake`, until it is cancelled. A pass that fails is logged; the next `wake` tries again."""
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
        """One pass. What was `freed` before it, and nobody took, goes back to the engines, also when it is paused or fails."""
        freed, self._freed = self._freed, {}
        try:
            if self._book.groups and not self.paused:
                await self._pass()
        finally:
            for node_id in freed:
                self.starts.shares.settle(node_id)

    async def _pass(self) -> None:
        chosen, reserved = self._choose()
        enough = sum(len(nodes) for _, nodes in chosen) >= MOST_STARTS
        if enough:  # the rest in the next pass: the loop does other things in between
            self.wake()
        await self._start([start for job, nodes in chosen if (start := self.starts.book(job, nodes))])
        if not enough:  # else it is not known what is reserved for the jobs behind them
            await self._send_ahead(reserved)

    async def _send_ahead(self, reserved: Collection[str]) -> None:
        starts = []
        for job, node_id, after in self._ahead.room(reserved, MOST_STARTS):
            attempt = self._work.assign(job, [node_id])
            self._ahead.started(job, task_id(attempt.id, 0), node_id, after)
            starts.append((job, attempt, self._spec_builder(job, attempt, after)))
        if starts:
            if len(starts) == MOST_STARTS:
                self.wake()
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
        """What starts where, and the nodes that are reserved for starving jobs: these may be full now, so then such are looked at
        as well. Nothing is reserved where all jobs that wait are alike: none of them could overtake another."""
        now, groups = steady_time(), self._book.groups
        starving = len(groups) > 1 and any(starves_at(line.first.queued_since) <= now for line in groups.values())
        most = {group: min(len(line), max(1, (MOST_STARTS + 1) // group.nodes)) for group, line in groups.items()}
        alike = self._usable(None if starving else {group.shape.resources for group in groups}, most, now)
        if not alike:
            return [], frozenset()
        one_zone = frozenset(pool.name for pool in self._config().spec.pools if pool.one_zone)
        requests = [request_of(job, one_zone) for job in self._candidates(alike, most)]
        views = [view for _, views in alike for view in views]
        placement = place(requests, views, now=now, enough=MOST_STARTS)
        reserved = frozenset(node_id for _, nodes in placement.reserved for node_id in nodes)
        return [(self._book.jobs[job_id], nodes) for job_id, nodes in placement.placed], reserved

    def _usable(self, wanted: Collection[Resources] | None, most: dict[GroupKey, int], now: float) -> list[Alike]:
        """Nodes that take work (and have room for one of `wanted`, if given). Of those that are alike no more than have ranks
        which could start on them: each rank takes at most one, and one is as good as another."""
        ranks = sum(count * group.nodes for group, count in most.items())
        found = []
        for likeness, views in self._fleet.roster.alike(now):
            if wanted is None or any(resources.count_in(likeness.free) for resources in wanted):
                able = (view for view in views if takes_work(view, now) and self.starts.takes_work(view.node.id))
                if some := list(islice(able, ranks)):
                    found.append((likeness.free, some))
        return found

    def _candidates(self, alike: Iterable[Alike], most: dict[GroupKey, int]) -> Iterable[Job]:
        """Of each kind of job the first ones, at most `most`: as many as could start at the very most, and one for which room
        may be reserved."""
        able = {}
        for group, count in most.items():
            room = sum(min(group.shape.resources.count_in(free), count * group.nodes) * len(v) for free, v in alike)
            able[group] = max(1, min(room // group.nodes, count))
        return in_order(self._book.groups, able)

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
        service = request.get("service")
        port = replica_port(service, attempt) if service else 0

        def argv(rank: int) -> list[str]:
            words = with_port(request["argv"], port) if service else list(request["argv"])
            if not request.get("script"):
                return words
            return [self._python_of(attempt.nodes[rank], books[rank]), "-u", request["script"], *words]

        def build(rank: int) -> TaskSpec:
            node = self._fleet.journal.get(attempt.nodes[rank])
            env = {**spec.env, **pools.get(node.pool if node else "", {}), **request["env"]}
            env["CLUSTERCTL_CLUSTER"] = config.name
            env.update(gang_environment(job, attempt, rank, addresses))
            if service:
                env |= {"PORT": str(port), "CLUSTERCTL_SERVICE": service["name"]}
            requirements: list[str] = list(request.get("requirements") or ())
            return TaskSpec(
                task=task_id(attempt.id, rank),
                argv=argv(rank),
                env=env,
                package=request["package"],
                gpus=job.shape.resources.get("GPU"),
                gpu_ids=attempt.gpu_ids.get(rank),
                engine=bool(request["engine"]) and node is not None and node_has_engine(spec, node),
                timeout=request["timeout"],
                runtime_env=dict(request["runtime_env"]),
                after=after,
                requirements=requirements,
                python=self._python_of(attempt.nodes[rank], books[rank]) if requirements else "",
                port=gang_port(attempt) if (job.nodes > 1 and rank == 0) or (service and not service["port"]) else 0,
            )

        return build

    def _python_of(self, node_id: str, books: NodeLedger | None) -> str:
        """The interpreter of scripts on that node: the engine's, else the one that its agent runs on."""
        config, node = self._config(), self._fleet.journal.get(node_id)
        pool = next((pool for pool in config.spec.pools if node and pool.name == node.pool), None)
        kind = config.spec.kind_of(pool)
        python = str(books.engine.info.get("python") or "") if books else ""
        given = given_python(config.spec, kind) if node and node_has_engine(config.spec, node) else ""
        python = python or given or (config.engine_python if kind.machine == "process" else "")
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
