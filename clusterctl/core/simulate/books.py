"""The records of a simulated cluster: nodes with what is free on them, launches, failures, and which job runs where."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field, replace

from clusterctl.core.lifecycle import next_state
from clusterctl.core.model import (
    PENDING_STATES,
    Launch,
    Node,
    NodeState,
    NodeView,
    Reason,
    Work,
)
from clusterctl.core.resources import Resources
from clusterctl.core.simulate.jobs import TraceJob

# launches that a provider turned down for now: the offer is blocked for a while, the pool itself is not at fault
_NOT_THE_POOLS_FAULT = frozenset({"no_capacity", "quota_exceeded", "throttled"})
_REMEMBERED = 3600.0  # seconds for which failures are kept


@dataclass
class RunningJob:
    """An attempt that holds `ranks` (a node id per rank) since `started`; `left` seconds were to be done then."""

    job: TraceJob
    number: int
    attempt: int
    started: float
    left: float
    ranks: tuple[str, ...]


@dataclass
class NodeRecord:
    """A node and its use. `jobs` are the ids that hold a part of it. `view` is cached until something changes."""

    node: Node
    total: Resources
    free: Resources
    work: dict[str, Work] = field(default_factory=dict[str, Work])
    idle_since: float | None = None
    drain: str = ""
    preempt_at: float | None = None
    _view: NodeView | None = None

    def view(self) -> NodeView:
        """As the planner sees it; the same object until `changed`."""
        if self._view is None:
            self._view = NodeView(
                node=self.node,
                total=self.total,
                free=self.free,
                work=tuple(self.work.values()),
                idle_since=self.idle_since,
                drain=self.drain,  # type: ignore[arg-type]
                preempt_at=self.preempt_at,
            )
        return self._view

    def changed(self) -> None:
        """The next view is made anew."""
        self._view = None


class Books:
    """Invariants: `nodes` holds every node that is not gone; the free part of a node is its total less its work."""

    def __init__(self) -> None:
        self.nodes: dict[str, NodeRecord] = {}
        self.running: dict[str, RunningJob] = {}
        self.numbers: dict[str, int] = {}
        self._launches: deque[float] = deque()
        self._failures: deque[tuple[str, float]] = deque()
        self._views: tuple[NodeView, ...] | None = None

    # ------------------------------------------------------------ what policies see

    def views(self) -> tuple[NodeView, ...]:
        """All nodes as the planner sees them, in order of their making."""
        if self._views is None:
            self._views = tuple(record.view() for record in self.nodes.values())
        return self._views

    def launches(self, now: float) -> tuple[float, ...]:
        """When each launch of the last minute was made."""
        while self._launches and self._launches[0] <= now - 60.0:
            self._launches.popleft()
        return tuple(self._launches)

    def failures(self, now: float) -> tuple[tuple[str, float], ...]:
        """(pool, when) of the failed launches that are still remembered."""
        while self._failures and self._failures[0][1] <= now - _REMEMBERED:
            self._failures.popleft()
        return tuple(self._failures)

    def next_numbers(self) -> tuple[tuple[str, int], ...]:
        """(pool, number of its next node); no number comes twice."""
        return tuple(sorted(self.numbers.items()))

    # ------------------------------------------------------------ life of a node

    def intend(self, launch: Launch, now: float) -> Node:
        """Books a node before the cloud is asked for it."""
        node = Node(
            id=launch.node_id,
            generation=launch.generation,
            token=launch.token,
            offer=launch.offer,
            state=NodeState.PLANNED,
            since=now,
            created=now,
            role=launch.role,
            reason=launch.reason.text,
            code=launch.reason.code,
            spec_hash=launch.spec_hash,
        )
        if node.id in self.nodes:
            raise ValueError(f"node {node.id} was launched twice")
        number = int(node.id.rpartition("-")[2])
        self.numbers[node.pool] = max(self.numbers.get(node.pool, 1), number + 1)
        self.nodes[node.id] = NodeRecord(node, launch.offer.resources, launch.offer.resources)
        self._launches.append(now)
        self._views = None
        return node

    def move(
        self,
        node_id: str,
        event: str,
        now: float,
        reason: Reason,
        instance_id: str = "",
        address: str = "",
        drain_by: float | None = None,
    ) -> Node:
        """Applies an event of the life cycle; raises IllegalTransition where the table has no entry."""
        record = self.nodes[node_id]
        before = record.node
        state = next_state(before.state, event)
        record.node = after = replace(
            before,
            state=state,
            since=before.since if state is before.state else now,
            instance_id=instance_id or before.instance_id,
            address=address or before.address,
            reason=reason.text,
            code=reason.code,
            drain_by=drain_by if state is NodeState.DRAINING else None,
        )
        record.changed()
        self._views = None
        if state is NodeState.READY and before.state is not NodeState.READY:
            self._failures = deque(item for item in self._failures if item[0] != after.pool)
            record.drain = ""
            record.idle_since = None if record.work else now
        elif state is NodeState.DRAINING and not record.drain:
            record.drain = "requested"
        elif state is NodeState.FAILED and before.state in PENDING_STATES and reason.code not in _NOT_THE_POOLS_FAULT:
            self._failures.append((after.pool, now))
        elif state is NodeState.STOPPING:
            record.drain, record.idle_since = "", None
        elif state is NodeState.GONE:
            del self.nodes[node_id]
        return after

    def learn(self, node_id: str, instance_id: str) -> None:
        """Books the instance of a launch."""
        record = self.nodes[node_id]
        record.node = replace(record.node, instance_id=instance_id)
        record.changed()
        self._views = None

    def note(self, node_id: str, *, drain: str | None = None, preempt_at: float | None = None) -> None:
        """Sets how far a node's drain is, or when the cloud takes it away; what is None stays."""
        record = self.nodes[node_id]
        if drain is not None:
            record.drain = drain
        if preempt_at is not None:
            record.preempt_at = preempt_at
        record.changed()
        self._views = None

    # ------------------------------------------------------------ work

    def start(self, running: RunningJob, now: float) -> None:
        """Puts every rank's resources on its node."""
        shape = running.job.shape
        self.running[running.job.id] = running
        for rank, node_id in enumerate(running.ranks):
            record = self.nodes[node_id]
            work_id = f"{running.job.id}/{running.attempt}/{rank}"
            if not shape.resources.fits_in(record.free):
                raise ValueError(f"{work_id} was placed on {node_id}, which has only {record.free} free")
            record.work[work_id] = Work(work_id, shape.resources, now)
            record.free = record.free - shape.resources
            record.idle_since = None
            record.changed()
        self._views = None

    def stop(self, job_id: str, now: float) -> RunningJob:
        """Takes an attempt off its nodes, whether it ended or was lost."""
        running = self.running.pop(job_id)
        shape = running.job.shape
        for rank, node_id in enumerate(running.ranks):
            record = self.nodes.get(node_id)
            if record is None:
                continue
            del record.work[f"{job_id}/{running.attempt}/{rank}"]
            record.free = record.free + shape.resources
            if not record.work:
                record.idle_since = now
            record.changed()
        self._views = None
        return running

    def jobs_on(self, node_id: str) -> list[str]:
        """Ids of the jobs with a rank there, sorted."""
        record = self.nodes.get(node_id)
        return sorted({work_id.split("/", 1)[0] for work_id in record.work}) if record else []
