"""The discrete-event loop: jobs arrive and end, machines boot, come and go, and a policy decides when something changed.

One thread, a clock that jumps from event to event, every chance drawn from the seed: equal inputs give equal logs. Jobs
are placed by `core.scheduling.placement.place` under every policy, so that policies differ in what they buy and let go,
not in who comes first.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import IntEnum
from heapq import heappop, heappush

from clusterctl.core.lifecycle import deadline
from clusterctl.core.model import Node, NodeState, Observed, Reason, Spend
from clusterctl.core.scheduling.placement import place, starves_at
from clusterctl.core.simulate.books import RunningJob
from clusterctl.core.simulate.cloud import Machine
from clusterctl.core.simulate.executor import Executor
from clusterctl.core.simulate.jobs import Trace
from clusterctl.core.simulate.policy import Policy, Situation
from clusterctl.core.simulate.record import Recorder, Result
from clusterctl.core.simulate.state import CLUSTER, UID, Setting, State
from clusterctl.core.simulate.summary import summarise
from clusterctl.core.simulate.waiting import Key, Ticket
from clusterctl.core.simulate.world import World

PATIENCE = 3 * 86_400.0  # seconds in which no job came, started or ended, after which the waiting ones are unserved
TAIL = 2 * 3600.0  # seconds granted after the last job for nodes to be let go
LOOK_AGAIN = 5.0  # seconds after which the list is read again while it was partial, or shows what is not understood
TIMER = 1e-3  # seconds by which timers are late, as real ones are: never early by a rounding error
_WINDOW = 64  # waiting jobs that one call of `place` is given


class Event(IntEnum):
    """Order matters at equal times: what frees capacity comes before what asks for it, deciding comes last."""

    JOB_ENDS = 0
    NODE_JOINS = 1
    NOTICE = 2
    RECLAIM = 3
    VANISH = 4
    STOPPED = 5
    CALL = 6
    SUBMIT = 8
    DECIDE = 9


class Simulation:
    """One policy on one trace in one world. `run` plays it to the end; `check` is called after every instant."""

    def __init__(
        self,
        setting: Setting,
        trace: Trace,
        policy: Policy,
        world: World,
        seed: int,
        *,
        keep_log: bool = False,
        patience: float = PATIENCE,
        check: Callable[[State], None] | None = None,
    ) -> None:
        self.state = State(setting, trace, policy, world, seed, Recorder(keep_log=keep_log))
        self.executor = Executor(self.state, self)
        self._check = check
        self._patience = patience
        self._events: list[tuple[float, int, int, object]] = []
        self._number = 0
        self._left: dict[str, float] = {}  # job -> seconds still to be done, for jobs that lost an attempt
        self._attempts: dict[str, int] = {}
        self._submitted = 0
        self._refused: set[Key] = set()  # groups whose first job did not fit since capacity last grew
        self._dispatch = False
        self._arrived: list[str] = []  # jobs that came to the queue since jobs were last placed
        self._idle: set[str] = set()  # nodes that joined or got empty since jobs were last placed
        self._decide_at: float | None = None
        self._progress = 0.0  # when a job last came, started or ended
        longest = max((job.duration for job in trace.jobs), default=0.0)
        self._horizon = (trace.jobs[-1].submit if trace.jobs else 0.0) + 5 * longest + 30 * 86_400.0

    # ------------------------------------------------------------ the clock

    def at(self, time: float, event: Event, payload: object = None) -> None:
        """`event` happens at `time`, or now where that has passed."""
        self._number += 1
        heappush(self._events, (max(time, self.state.now), int(event), self._number, payload))

    def run(self) -> Result:
        """Plays to the end: until nothing is left to happen, or nothing has moved for too long."""
        if self.state.trace.jobs:
            self.at(self.state.trace.jobs[0].submit, Event.SUBMIT, 0)
        self.changed()
        while self._events and not self._is_over(self._events[0][0]):
            self.state.now = self._events[0][0]
            self.state.record.meter.advance(self.state.now)
            while self._events and self._events[0][0] == self.state.now:
                _, event, _, payload = heappop(self._events)
                if event == Event.DECIDE and payload != self._decide_at:
                    continue  # an earlier or later decision took its place
                self.state.record.events += 1
                if event != Event.DECIDE:
                    self._handle(Event(event), payload)
                else:
                    self._start_jobs()
                    self._decide()
            self._start_jobs()
            self.state.record.look(self.state.now, len(self.state.books.running), self.state.waiting.count)
            if self._check is not None:
                self._check(self.state)
        return summarise(self.state)

    def _is_over(self, next_at: float) -> bool:
        if next_at > self._horizon:
            return True
        if self._submitted < len(self.state.trace.jobs) or self.state.books.running:
            return False
        if self.state.waiting.count:
            return next_at - self._progress > self._patience
        if not self.state.cloud.listed and not self.state.books.nodes:
            return True
        least = sum(pool.min for pool in self.state.setting.pools)
        states = [
            record.node.state
            for record in self.state.books.nodes.values()
            if record.node.state is not NodeState.STOPPED
        ]
        idle = all(state is NodeState.READY for state in states)
        return (idle and len(states) <= least) or next_at - self.state.record.last_end > TAIL

    def changed(self) -> None:
        """Something happened that a policy should know: it decides at the time it names."""
        self._decide_no_later(max(self.state.policy.due(self.state.now), self.state.now))

    def _decide_no_later(self, time: float) -> None:
        if self._decide_at is None or time < self._decide_at:
            self._decide_at = time
            self.at(time, Event.DECIDE, time)

    # ------------------------------------------------------------ what happens

    def _handle(self, event: Event, payload: object) -> None:
        if event is Event.SUBMIT:
            self._submit(payload)  # type: ignore[arg-type]
        elif event is Event.JOB_ENDS:
            self._job_ends(*payload)  # type: ignore[misc]
        elif event is Event.NODE_JOINS:
            self._node_joins(payload)  # type: ignore[arg-type]
        elif event is Event.NOTICE:
            self._notice(payload)  # type: ignore[arg-type]
        elif event is Event.RECLAIM:
            self._reclaim(payload)  # type: ignore[arg-type]
        elif event is Event.VANISH:
            self.state.cloud.vanish(payload)  # type: ignore[arg-type]
            if self.state.waiting.count:
                self.changed()  # its place under the limits is free; otherwise the next look books it
        elif event is Event.STOPPED:
            self.changed()
        else:
            self.executor.create(payload)  # type: ignore[arg-type]

    def _submit(self, index: int) -> None:
        job = self.state.trace.jobs[index]
        self._submitted = index + 1
        if self._submitted < len(self.state.trace.jobs):
            self.at(self.state.trace.jobs[self._submitted].submit, Event.SUBMIT, self._submitted)
        self.state.record.log(self.state.now, "submit", job.id)
        self._enqueue(Ticket(job, index, self.state.now))

    def _job_ends(self, job_id: str, attempt: int) -> None:
        running = self.state.books.running.get(job_id)
        if running is None or running.attempt != attempt:
            return  # that attempt was lost before
        self.state.books.stop(job_id, self.state.now)
        self.state.record.used(running.job, self.state.now - running.started)
        self.state.record.ended(self.state.now)
        self._progress = self.state.now
        self._left.pop(job_id, None)
        self.state.record.log(self.state.now, "end", job_id)
        self.capacity_grew(running.ranks)

    def capacity_grew(self, node_ids: tuple[str, ...]) -> None:
        """Work left these nodes: others may start, and a node that is idle or draining is news for the policy."""
        self._refused.clear()
        self._dispatch = True
        for node_id in set(node_ids):
            record = self.state.books.nodes.get(node_id)
            if record is None or record.work:
                continue
            if record.drain == "requested":
                self.state.books.note(node_id, drain="acked")
                self.changed()
            else:
                self._idle.add(node_id)

    def _node_joins(self, machine: Machine) -> None:
        record = self.state.books.nodes.get(machine.node_id)
        if machine.ended is not None or record is None or record.node.generation != machine.generation:
            return
        if (
            machine.joins is None
            or machine.joins > self.state.now
            or record.node.state not in (NodeState.PLANNED, NodeState.REQUESTED, NodeState.BOOTING)
        ):
            return
        self.state.books.move(
            machine.node_id, "joined", self.state.now, Reason("joined", "its agent dialled in"), machine.id
        )
        self.state.books.move(machine.node_id, "ready", self.state.now, Reason("ready", "it takes work"))
        self.state.record.log(self.state.now, "ready", machine.node_id)
        self._refused.clear()
        self._dispatch = True
        self._idle.add(machine.node_id)

    def _notice(self, machine: Machine) -> None:
        if machine.ended is None and machine.node_id in self.state.books.nodes:
            self.state.books.note(machine.node_id, preempt_at=machine.reclaimed)
            self.state.record.log(self.state.now, "notice", machine.node_id)
            self.changed()

    def _reclaim(self, machine: Machine) -> None:
        """The spot market takes a machine: its jobs go back to the queue, the list stops showing it."""
        if self.state.cloud.terminate(machine.id, self.state.now) is None:
            return
        self.state.record.interruptions += 1
        self.state.record.log(self.state.now, "reclaimed", machine.node_id)
        self.stop_bill(machine)
        self.evict(machine.node_id)
        self.changed()

    def evict(self, node_id: str) -> None:
        """Ends all work on a node; the jobs start again from their last checkpoint."""
        for job_id in self.state.books.jobs_on(node_id):
            running = self.state.books.stop(job_id, self.state.now)
            self._requeue(running)
            self.capacity_grew(running.ranks)

    def _requeue(self, running: RunningJob) -> None:
        done = self.state.now - running.started
        every = self.state.world.checkpoint
        saved = 0.0 if not every else min(done // every * every, running.left)
        self.state.record.used(running.job, done)
        self.state.record.lost_work += (done - saved) * running.job.nodes
        self._left[running.job.id] = running.left - saved
        self.state.record.log(self.state.now, "requeue", running.job.id, f"{saved:.3f}")
        self._enqueue(Ticket(running.job, running.number, self.state.now))

    def _enqueue(self, ticket: Ticket) -> None:
        self.state.waiting.add(ticket)
        self._arrived.append(ticket.job.id)
        self._progress = self.state.now
        self._dispatch = True

    # ------------------------------------------------------------ who starts

    def _start_jobs(self) -> None:
        """Starts what fits on ready nodes, in the order of the queue, as the head's dispatcher does."""
        if not self._dispatch:
            return
        self._dispatch = False
        while True:
            batch, keys = self._next_batch()
            if all(key in self._refused for key in keys.values()):
                break
            starving = any(starves_at(t.since) <= self.state.now for t in batch)
            views = [v for v in self.state.books.views() if starving or v.free.items]
            placement = place([t.request() for t in batch], views, now=self.state.now)
            tickets = {t.job.id: t for t in batch}
            counts: dict[Key, int] = {}
            for job_id, ranks in placement.placed:
                self._start(tickets[job_id], ranks)
                counts[keys[job_id]] = counts.get(keys[job_id], 0) + 1
            for key, count in counts.items():
                self.state.waiting.take_first(key, count)
            self._refused.update(keys[job_id] for job_id, _ in placement.waiting)
        if any(job_id not in self.state.books.running for job_id in self._arrived):
            self.changed()
        self._arrived.clear()
        for node_id in sorted(self._idle):
            record = self.state.books.nodes.get(node_id)
            if record is not None and not record.work:
                pool = next((p for p in self.state.setting.pools if p.name == record.node.pool), None)
                self._decide_no_later(
                    self.state.policy.due_idle(pool.idle_timeout if pool else 0.0, self.state.now) + TIMER
                )
        self._idle.clear()

    def _next_batch(self) -> tuple[list[Ticket], dict[str, Key]]:
        """The next jobs in order; of a group that was refused only the first, which may keep nodes for itself."""
        chosen: list[tuple[Ticket, Key]] = []
        for key, ticket in self.state.waiting.in_order(self._refused):
            chosen.append((ticket, key))
            if len(chosen) >= _WINDOW:
                break
        if chosen:
            for key in self._refused:
                first = self.state.waiting.first(key)
                if first is not None:
                    chosen.append((first, key))
            chosen.sort(key=lambda entry: entry[0].turn)
        return [ticket for ticket, _ in chosen], {ticket.job.id: key for ticket, key in chosen}

    def _start(self, ticket: Ticket, ranks: tuple[str, ...]) -> None:
        job = ticket.job
        attempt = self._attempts[job.id] = self._attempts.get(job.id, 0) + 1
        left = self._left.get(job.id, job.duration)
        self.state.books.start(RunningJob(job, ticket.number, attempt, self.state.now, left, ranks), self.state.now)
        self.state.record.started(job, ticket.since, self.state.now)
        self.state.record.log(self.state.now, "start", job.id, ",".join(ranks))
        self.at(self.state.now + left, Event.JOB_ENDS, (job.id, attempt))
        self._progress = self.state.now

    # ------------------------------------------------------------ machines

    def ask_cloud(self, nodes: tuple[Node, ...], delay: float) -> None:
        """The call for `nodes` reaches the cloud `delay` seconds from now."""
        self.at(self.state.now + delay, Event.CALL, nodes)

    def begin_bill(self, machine: Machine) -> None:
        """A machine was made: it costs from now on, boots, and may be reclaimed one day."""
        self.state.record.meter.add(machine.offer.resources, machine.offer.price, +1)
        if machine.joins is not None:
            self.at(machine.joins, Event.NODE_JOINS, machine)
        if machine.reclaimed is not None:
            self.at(machine.reclaimed - self.state.world.notice, Event.NOTICE, machine)
            self.at(machine.reclaimed, Event.RECLAIM, machine)

    def rest_bill(self, machine: Machine) -> None:
        """A machine is stopped: it costs nothing until it is started again."""
        self.state.record.meter.add(machine.offer.resources, machine.offer.price, -1)
        self.at(machine.stops or self.state.now, Event.STOPPED, machine)

    def stop_bill(self, machine: Machine) -> None:
        """A machine ends: it costs nothing any more, and leaves the list a little later."""
        if machine.stops is None:
            self.state.record.meter.add(machine.offer.resources, machine.offer.price, -1)
        self.at(machine.vanishes or self.state.now, Event.VANISH, machine.id)

    def watch(self, pool_name: str, state: NodeState) -> None:
        """A node entered `state` between two decisions: the policy looks again when its deadline has passed."""
        pool = next((pool for pool in self.state.setting.pools if pool.name == pool_name), None)
        limit = deadline(pool, state) if pool is not None else None
        if limit is not None:
            self._decide_no_later(self.state.now + limit + 0.001)

    def log_action(self, verb: str, subject: str, reason: Reason) -> None:
        """Writes a line with the reason's code."""
        self.state.record.log(self.state.now, verb, subject, reason.code)

    # ------------------------------------------------------------ what is bought

    def _decide(self) -> None:
        self._decide_at = None
        self.state.record.plans += 1
        observed = self.state.cloud.observe(self.state.now)
        self.executor.learn(observed)
        doubt = not observed.complete or self.executor.in_doubt()
        plan = self.state.policy.decide(self.situation(observed, doubt))
        self.state.waits = {wait.demand_id: wait for wait in plan.waits}
        if plan.actions:
            self.executor.apply(plan)
            doubt = not observed.complete or self.executor.in_doubt()
        if plan.wake_at is not None:
            self._decide_no_later(max(plan.wake_at, self.state.now) + TIMER)
        if doubt:
            self._decide_no_later(self.state.now + LOOK_AGAIN)

    def situation(self, observed: Observed, doubt: bool) -> Situation:
        """What the policy is told. `doubt`: the list is partial, or disagrees with the records."""
        books, meter = self.state.books, self.state.record.meter
        return Situation(
            now=self.state.now,
            cluster=CLUSTER,
            uid=UID,
            pools=self.state.setting.pools,
            offers=self.state.setting.offers,
            limits=self.state.setting.limits,
            nodes=books.views(),
            observed=(observed,),
            doubt=doubt,
            demand=self.state.waiting.demands(),
            launches=books.launches(self.state.now),
            failures=books.failures(self.state.now),
            next_number=books.next_numbers(),
            spend=Spend(meter.today, meter.month, meter.dollars),
        )


def simulate(
    setting: Setting, trace: Trace, policy: Policy, world: World, seed: int, *, keep_log: bool = False
) -> Result:
    """Plays `trace` under `policy`; the same arguments give the same result, to the digest of the log."""
    return Simulation(setting, trace, policy, world, seed, keep_log=keep_log).run()
