"""The head's loop: what is wanted and what there is go into the pure planner, its plan is carried out, and each reason is kept.

It sleeps until something happens: a job came, the engine's demand changed, a node joined, left or was noticed, or the
time has come that the last plan named.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from clusterctl.core.errors import ProviderError
from clusterctl.core.limits import breaker_until
from clusterctl.core.model import (
    Action,
    Demand,
    Drain,
    Launch,
    Mark,
    NodeState,
    NodeView,
    Observed,
    Offer,
    Plan,
    Policy,
    Pool,
    Reason,
    Start,
    State,
    Stop,
    Terminate,
    Undrain,
)
from clusterctl.core.planner import plan as make_plan
from clusterctl.core.scale_down.overrun import notes
from clusterctl.core.scheduling.remedies import Situation
from clusterctl.core.upkeep import count_sightings
from clusterctl.provision.provisioner import Outcome, Provisioner
from clusterctl.spec.to_core import core_limits, core_pools
from clusterctl_runtime.head.clock import steady_time
from clusterctl_runtime.head.config import HeadConfig
from clusterctl_runtime.head.handover import OwnMachine
from clusterctl_runtime.head.jobs.asked import GroupKey
from clusterctl_runtime.head.jobs.book import JobBook
from clusterctl_runtime.head.jobs.job import Job
from clusterctl_runtime.head.jobs.lines import in_order
from clusterctl_runtime.head.metrics.counts import Counts
from clusterctl_runtime.head.nodes.draining import Draining
from clusterctl_runtime.head.nodes.fleet import Fleet
from clusterctl_runtime.head.pulse import Histogram
from clusterctl_runtime.head.storage.events import EventLog

log = logging.getLogger(__name__)

OBSERVE_ACTIVE = 1.0  # seconds between lists while something is under way
OBSERVE_QUIET = 10.0
LONGEST_SLEEP = 30.0
REST, LONGEST_REST = 5.0, 0.5  # after a tick: so many times as long as its plan took, and at most so many seconds


@dataclass(frozen=True)
class Refusal:
    """A launch that was refused: the provider's `text`, of which machine, and when."""

    code: str
    text: str
    machine: str
    at: float


class Autoscaler:
    """`engine_demand` returns what Ray wants now. `last_plan` and `planning` are for status, explain, metrics."""

    def __init__(
        self,
        config: Callable[[], HeadConfig],
        provisioner: Provisioner,
        fleet: Fleet,
        book: JobBook,
        events: EventLog,
        draining: Draining,
        engine_demand: Callable[[], tuple[Demand, ...]],
        policy: Policy,
        counts: Counts | None = None,
    ) -> None:
        self._config = config
        self._provisioner = provisioner
        self._fleet = fleet
        self._book = book
        self._events = events
        self._draining = draining
        self._engine_demand = engine_demand
        self._policy = policy
        self._counts = counts or Counts()
        self._wanted = asyncio.Event()
        self._wanted.set()
        self._observed_at = float("-inf")
        self._observe_now = True
        self.offers: tuple[Offer, ...] = ()
        self.offers_error = ""
        self.observed: tuple[Observed, ...] = ()
        self._sightings: tuple[tuple[str, int], ...] = ()
        self.last_plan = Plan(())
        self.beyond: tuple[Reason, ...] = ()  # limits that what runs exceeds
        self.demand: tuple[Demand, ...] = ()
        self.refusals: dict[str, Refusal] = {}  # of each pool's last launch, if that was refused, while it matters
        self.groups: dict[str, GroupKey] = {}  # which queued jobs a demand stands for
        self._forgiving = False
        self.planning = Histogram()  # how long it takes
        self.stopped = False
        self.failing, self.failed_ticks = "", 0  # why the last tick failed, "" where it did not; how many did in a row
        self._all_known = False  # no node of an earlier head is missing in the journal
        self._idle = asyncio.Event()

    def wake(self, observe: bool = False) -> None:
        """Asks for a tick soon. With `observe` it lists the providers anew, however fresh the last list is."""
        self._observe_now = self._observe_now or observe
        self._wanted.set()

    def forgive(self) -> None:
        """Somebody ran `up`: launches that were refused are tried at once, not when their time is over. The next tick does
        it, since one that is under way may still book a refusal of what was in force before."""
        self._forgiving = True
        self.refusals.clear()
        self.last_plan = Plan(())
        self.wake()

    async def run(self) -> None:
        """Ticks until `stop`. A tick that fails is logged, and an event: the next one is tried all the same."""
        while not self.stopped:
            self._wanted.clear()
            try:
                await self.tick()
            except Exception as error:  # one bad tick must not end the loop: the world is looked at afresh next time
                log.exception("the autoscaler's tick failed")
                self._failed(error)
                await asyncio.sleep(1.0)
            else:
                self._recovered()
            await self._rest()
            await self._sleep()
        self._idle.set()

    def _failed(self, error: Exception) -> None:
        """Shown for as long as it lasts; an event when it begins, and when the reason is another."""
        what = f"the autoscaler fails, so that no node comes or goes: {type(error).__name__}: {error} (more is in head.log)"
        if what != self.failing:
            self._events.add("cluster", "autoscaler", "tick_failed", what)
        self.failing, self.failed_ticks = what, self.failed_ticks + 1
        self._counts.autoscaler_failures.inc()

    def _recovered(self) -> None:
        if self.failing:
            self._events.add("cluster", "autoscaler", "recovered", "the autoscaler works again")
        self.failing, self.failed_ticks = "", 0

    async def stop(self) -> None:
        """Ends the loop after the tick under way: nothing is launched from then on."""
        self.stopped = True
        self.wake()
        await self._idle.wait()

    async def _rest(self) -> None:
        """A pause after each tick, the longer the more it takes to plan: with thousands of nodes that join at once, planning
        after each of them would leave the loop no time to take them in."""
        if not self.stopped:
            await asyncio.sleep(min(LONGEST_REST, REST * self.planning.last))

    async def _sleep(self) -> None:
        now = steady_time()
        quiet = self._fleet.roster.is_quiet(now)
        times = [self._observed_at + (OBSERVE_QUIET if quiet else OBSERVE_ACTIVE), now + LONGEST_SLEEP]
        times += [t for t in (self.last_plan.wake_at, self._provisioner.wake_at()) if t is not None]
        delay = max(0.02, min(times) - now)
        try:
            await asyncio.wait_for(self._wanted.wait(), delay)
        except asyncio.TimeoutError:
            self._observe_now = True

    def situation(self) -> Situation:
        """All that a plan would be made from now: for `explain` and `plan`, which ask the same planner."""
        now = steady_time()
        self.groups, jobs = job_demand(self._book)
        return Situation(self._policy, self.observed, self._state(now), jobs + self._engine_demand(), self.offers, now)

    # ------------------------------------------------------------ one tick

    async def tick(self) -> None:
        """Looks, plans and acts once, and keeps all three for those who ask; returns when the providers have answered."""
        await self._fleet.roster.refreshed(steady_time())
        await self._observe()
        await self._refresh_offers()
        groups, demand = job_demand(self._book)
        self.groups = groups
        self.demand = demand + self._engine_demand()
        if self._forgiving:
            self._forgiving = False
            await asyncio.to_thread(self._provisioner.forgive)
        plan = await self._plan()
        self.last_plan = plan
        self._book.set_waits(_waits_by_group(plan, groups))
        self._forget_refusals(plan)
        self._draining.check()  # not while it is planned: work that came calls a node back before its drain goes on
        due = self._provisioner.wake_at()
        if plan.actions or (due is not None and due <= steady_time()):
            for action in plan.actions:
                self._before(action)
            for outcome in await asyncio.to_thread(self._provisioner.apply, plan):
                self._after(outcome)

    def _forget_refusals(self, plan: Plan) -> None:
        """What was refused matters while the pool is held up by it, or tried again: a pool that may launch, and for which the
        plan launches nothing, is wanted by nobody."""
        if not self.refusals:
            return
        now = steady_time()
        tried = {action.offer.pool for action in plan.actions if isinstance(action, Launch | Start)}
        unclear = self._fleet.journal.in_state(NodeState.PLANNED, NodeState.REQUESTED)
        for pool in set(self.refusals) - tried - {node.pool for node in unclear}:
            if self.refused_until(pool, now) is None:
                del self.refusals[pool]

    def refused_until(self, pool: str, now: float) -> float | None:
        """When the pool may be tried again: the first of what holds some of its offers back; None where nothing does."""
        blocks = [block.until for block in self._provisioner.blocks(now) if block.offer_key.startswith(f"{pool}/")]
        if blocks:
            return min(blocks)
        return breaker_until(self._policy, self._provisioner.failures(now), pool, now)

    async def _plan(self) -> Plan:
        """The plan for this moment, made in a thread: it takes a while with thousands of nodes. What becomes of a node meanwhile
        (work starts on it, its agent is back) is not in the plan: its actions on that node are left to the next one."""
        now = steady_time()
        state, started = self._state(now), time.perf_counter()
        plan = await asyncio.to_thread(make_plan, self._policy, self.observed, state, self.demand, self.offers, now)
        self.planning.add(time.perf_counter() - started)
        self._warn(await asyncio.to_thread(notes, state, now))
        planned_from = {view.node.id: view for view in state.nodes}
        kept = tuple(action for action in plan.actions if self._is_as_planned(action, planned_from))
        if len(kept) < len(plan.actions):
            self.wake()
        return replace(plan, actions=kept)

    def _is_as_planned(self, action: Action, planned_from: Mapping[str, NodeView]) -> bool:
        before = planned_from.get(action.node_id)
        if before is None:
            return True
        after = self._fleet.roster.get(before.node.id, steady_time())
        return after is before or (after is not None and replace(after, heartbeat=before.heartbeat) == before)

    def _warn(self, beyond: tuple[Reason, ...]) -> None:
        """Says once, and shows for as long as it lasts, which limits what runs exceeds."""
        before = {reason.code for reason in self.beyond}
        for reason in beyond:
            if reason.code not in before:
                self._events.add("cluster", "limits", reason.code, f"{reason.text} ({reason.fix})")
        for code in sorted(before - {reason.code for reason in beyond}):
            self._events.add("cluster", "limits", "within_limits", f"{code}: what runs is within this limit again")
        self.beyond = beyond

    async def _observe(self) -> None:
        """A fresh look at the providers where one is due. The planner compares its time with each node's, so an older one
        does no harm."""
        if not self._observe_now and steady_time() - self._observed_at < OBSERVE_ACTIVE:
            return
        self._observe_now = False
        self.observed = await asyncio.to_thread(self._provisioner.observe)
        self._observed_at = steady_time()
        state = self._state(self._observed_at)
        self._sightings = await asyncio.to_thread(count_sightings, state, self.observed)
        if not self._all_known and not self._fleet.journal.adopts:
            self._all_known = True
            self._fleet.lose_unknown()

    async def _refresh_offers(self) -> None:
        try:
            self.offers = await asyncio.to_thread(self._provisioner.offers)
            self.offers_error = ""
        except ProviderError as error:
            if str(error) != self.offers_error:
                self._events.add("provider", "offers", error.code, str(error))
            self.offers_error = str(error)

    def _state(self, now: float) -> State:
        config, journal = self._config(), self._fleet.journal
        return State(
            cluster=config.name,
            uid=config.uid,
            pools=tuple(self._possible(pool) for pool in core_pools(config.spec)),
            nodes=self._fleet.roster.all(now),
            limits=core_limits(config.spec),
            blocks=self._provisioner.blocks(now),
            spend=journal.spend(now),
            launches=self._provisioner.launches(now),
            failures=self._provisioner.failures(now),
            last_failures=self._provisioner.last_failures(),
            next_number=journal.next_numbers(),
            sightings=self._sightings,
        )

    def _possible(self, pool: Pool) -> Pool:
        """A pool of machines that exist already cannot have more nodes than there are machines. The machine that this runs on
        stays as it is, whatever the spec says of heads by now."""
        if pool.role == "head":
            spared = {
                provider.own for provider in self._provisioner.providers.values() if isinstance(provider, OwnMachine)
            }
            nodes = self._fleet.journal.nodes().values() if any(spared) else ()
            mine = [node for node in nodes if node.instance_id and node.instance_id in spared]
            pool = replace(pool, spec_hash=mine[0].spec_hash) if mine else pool
        most = self._provisioner.most(pool.name)
        return pool if most is None else replace(pool, min=min(pool.min, most), max=min(pool.max, most))

    # ------------------------------------------------------------ effects on the head's own books

    def _before(self, action: Any) -> None:
        """Before the provider ends a machine, its node takes no more work and its own is accounted for."""
        if isinstance(action, Drain):
            self._draining.begin(action.node_id)
        elif isinstance(action, Terminate) and action.node_id:
            self._fleet.forget(action.node_id, action.reason.text)
        elif isinstance(action, Stop):
            self._fleet.part(action.node_id, action.reason.text)

    def _after(self, outcome: Outcome) -> None:
        action, node = outcome.action, outcome.node
        if action is None:
            return
        self._count(action, outcome)
        subject = getattr(action, "node_id", "") or getattr(action, "instance_id", "")
        if not outcome.ok:
            self._events.add("provider", subject, outcome.code, f"{action.op} of {subject} failed: {outcome.error}")
            if isinstance(action, Launch | Start) and not self._forgiving:
                self.refusals[action.offer.pool] = Refusal(
                    outcome.code, outcome.error, action.offer.machine, steady_time()
                )
            self.wake(observe=True)
            return
        if isinstance(action, Undrain):
            self._draining.end(action.node_id)
        if isinstance(action, Mark) and action.event in ("gone", "fail") and node:
            self._fleet.forget(node.id, action.reason.text)
        if isinstance(action, Launch | Start):
            self.refusals.pop(action.offer.pool, None)
            price = f" at ${action.offer.price:.4g}/h" if action.offer.price else ""
            again = "started again, " if isinstance(action, Start) else ""
            text = f"{subject}: {again}{action.offer.instance_type} in {action.offer.zone}{price}: {action.reason.text}"
        else:
            text = f"{subject}: {getattr(action, 'event', action.op)}: {action.reason.text}"
        self._events.add("node", subject, action.op, text, why=action.reason.code)

    def _count(self, action: Action, outcome: Outcome) -> None:
        counts = self._counts
        if isinstance(action, Launch | Start):
            offer = action.offer
            if outcome.ok:
                counts.launches.labels(offer.pool, offer.market).inc()
            else:
                counts.launch_refusals.labels(offer.pool, offer.market, outcome.code).inc()
        if outcome.ok:
            what = action.event if isinstance(action, Mark) else action.op
            counts.decisions.labels(what, action.reason.code).inc()
            taken = what == "gone" and action.reason.code.endswith("_interruption")
            if (what == "fail" or taken) and outcome.node:
                counts.node_failures.labels(outcome.node.pool, action.reason.code).inc()


def job_demand(book: JobBook) -> tuple[dict[str, GroupKey], tuple[Demand, ...]]:
    """Queued jobs as demand, one per group, in the order of the queue; and which group each demand stands for."""
    groups: dict[str, GroupKey] = {}
    demands: list[Demand] = []
    for first in in_order(book.groups, dict.fromkeys(book.groups, 1)):
        line = book.groups[first.group]
        demand = demand_of(first, len(line))
        groups[demand.id] = first.group
        refs = tuple(job.id for job in line) if len(line) <= 3 else (first.id,)
        demands.append(replace(demand, refs=refs))
    return groups, tuple(demands)


def demand_of(job: Job, count: int) -> Demand:
    """`count` jobs like this one, as the planner sees them."""
    gang = job.nodes > 1
    return Demand(
        id=f"jobs:{job.id}",
        source="job",
        bundles=((job.shape, job.nodes),),
        count=count,
        gang=gang,
        strategy="STRICT_SPREAD" if gang else "",
        since=job.queued_since,
        priority=job.group.priority,
        user=job.group.user,
    )


def _waits_by_group(plan: Plan, groups: dict[str, GroupKey]) -> dict[GroupKey, list[tuple[int, dict[str, Any]]]]:
    waits: dict[GroupKey, list[tuple[int, dict[str, Any]]]] = {}
    for wait in plan.waits:
        group = groups.get(wait.demand_id)
        if group is not None:
            reason = wait.reason
            document = {
                "code": reason.code,
                "text": reason.text,
                "fix": reason.fix,
                "eta": wait.eta,
                "nodes": list(wait.nodes),
            }
            waits.setdefault(group, []).append((wait.count, document))
    return waits
