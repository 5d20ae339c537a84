"""One ledger per node: who holds which share of it, a queue job or the engine. Nothing is promised twice.

With the engine on, a ready node is lent whole to its raylet. Before a queue job starts, its share is taken back by resizing the
raylet (CPU, memory, custom resources) or by holding GPUs through Ray; afterwards the share goes back.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

from clusterctl.core.model import Labels, Node, NodeState, NodeView, Work
from clusterctl.core.resources import Resources

log = logging.getLogger(__name__)
HEARD_SECONDS = 10.0  # by how much a kept view's heartbeat may be older than the books'


class Watched:
    """Tells `changed` when one of its attributes is set, but for those in `_unseen`."""

    changed: Callable[[], None] = staticmethod(lambda: None)
    _unseen: ClassVar[frozenset[str]] = frozenset()

    def __setattr__(self, name: str, value: Any) -> None:
        object.__setattr__(self, name, value)
        if name not in self._unseen:
            self.changed()


@dataclass
class EngineShare(Watched):
    """What the engine tells of its raylet on this node. `used` is what Ray's tasks and actors hold now."""

    state: str = "off"  # off, starting, ready, failed, stopped
    ray_node_id: str = ""
    address: str = ""
    detail: str = ""
    used: Resources = field(default_factory=Resources)
    total: Resources = field(default_factory=Resources)
    idle: bool = True
    status: str = ""  # Ray's own word: IDLE, RUNNING, DRAINING or DEAD
    known: bool = False  # the state below has listed it at least once
    info: dict[str, Any] = field(default_factory=dict)

    _unseen: ClassVar[frozenset[str]] = frozenset({"changed", "info"})


@dataclass
class Holding:
    """A task's share of its node. It is in the books from the moment in which it was decided on."""

    resources: Resources
    since: float
    hold_id: str = ""  # GPUs that Ray holds for us
    gpu_ids: list[int] | None = None
    starting: bool = False  # its attempt is not made yet: the engine is asked, or what was decided may come to nothing
    secured: bool = True  # the engine has let go of it (all but its GPUs), or never had it


@dataclass
class NodeLedger(Watched):
    """The books of one node. `busy` is when something last ran on it, queue or engine. Whatever a view shows is changed by
    setting an attribute, so that views which are kept are made anew."""

    node_id: str
    generation: int
    total: Resources
    labels: Labels = ()
    pool: str = ""
    price: float = 0.0  # $/h
    holdings: dict[str, Holding] = field(default_factory=dict)
    engine: EngineShare = field(default_factory=EngineShare)
    drain: Literal["", "requested", "acked"] = ""
    connected: bool = False
    heard: float | None = None
    busy: float = 0.0
    preempt_at: float | None = None
    facts: dict[str, Any] = field(default_factory=dict)
    address: str = ""
    use: dict[str, float] = field(default_factory=dict)  # of the machine, as its agent measured it, and when ("at")
    figures: dict[str, Any] = field(default_factory=dict)  # the same, of all that `/metrics` tells; see `measured`
    ending: str = ""  # why its agent is about to end: it takes no work any more
    _free: tuple[tuple[Resources, Resources, Resources], Resources] | None = None
    held: Resources = field(
        default_factory=Resources
    )  # the sum of `holdings`: change them with `hold` and `release` only
    shown: float = 0.0  # the heartbeat that the view shows which is kept

    _unseen: ClassVar[frozenset[str]] = frozenset(
        {"changed", "heard", "facts", "use", "figures", "ending", "_free", "shown"}
    )

    def __setattr__(self, name: str, value: Any) -> None:
        super().__setattr__(name, value)
        if name == "heard" and value is not None and value - self.shown > HEARD_SECONDS:
            self.changed()

    def tell(self, changed: Callable[[], None]) -> None:
        """`changed` is called from now on whenever a view of these books would be another one."""
        self.changed = self.engine.changed = changed

    def hold(self, task: str, holding: Holding) -> None:
        """Books what the task takes, in place of what it took before."""
        self.release(task)
        self.holdings[task] = holding
        self.held = self.held + holding.resources

    def release(self, task: str) -> Holding | None:
        """Gives it back; None where the task held nothing."""
        holding = self.holdings.pop(task, None)
        if holding is not None:
            self.held = self.held - holding.resources
        return holding

    @property
    def free(self) -> Resources:
        """What neither a queue job nor a running Ray task holds. Looked at for every node in every dispatch: made anew only
        when one of its parts is another one."""
        parts = (self.total, self.held, self.engine.used)
        if self._free is None or any(a is not b for a, b in zip(parts, self._free[0], strict=True)):
            self._free = (parts, self.total - self.held - self.engine.used)
        return self._free[1]

    @property
    def lendable(self) -> Resources:
        """What the raylet should have: all that no queue job holds."""
        return self.total - self.held

    def idle_since(self, now: float) -> float | None:
        """When it got idle; None while anything runs on it, or it is not connected."""
        if self.holdings or not self.connected:
            return None
        if self.engine.state == "ready" and not (self.engine.known and self.engine.idle):
            return None
        return min(self.busy, now)

    def view(self, node: Node, now: float) -> NodeView:
        """As the planner sees it at `now`."""
        work = tuple(Work(task, holding.resources, holding.since) for task, holding in sorted(self.holdings.items()))
        if self.engine.used:
            work += (Work("engine", self.engine.used, self.busy),)
        return NodeView(
            node=node,
            total=self.total,
            free=self.free,
            work=work,
            idle_since=self.idle_since(now) if node.state in (NodeState.READY, NodeState.DRAINING) else None,
            drain=self.drain,
            heartbeat=self.heard,
            preempt_at=self.preempt_at,
            labels=self.labels,
        )

    @property
    def owner(self) -> str:
        """Who uses the node now, for status: queue, engine, both or nobody."""
        users = [name for name, used in (("queue", self.holdings), ("engine", self.engine.used)) if used]
        return "+".join(users)


class Ledger:
    """The books of all nodes, by node id. `changed(node_id)` is told of whatever a view of that node would show."""

    def __init__(self) -> None:
        self._nodes: dict[str, NodeLedger] = {}
        self.changed: Callable[[str], None] = lambda node_id: None

    def open(self, node: Node, total: Resources, labels: Labels, now: float) -> NodeLedger:
        """The books of `node`; a new generation of a node starts with empty ones."""
        books = self._nodes.get(node.id)
        if books is None or books.generation != node.generation:
            books = self._nodes[node.id] = NodeLedger(
                node.id,
                node.generation,
                total,
                labels,
                node.pool,
                node.offer.price,
                busy=now,
                heard=now,
                address=node.address,
            )
            books.tell(lambda: self.changed(node.id))
            self.changed(node.id)
        return books

    def get(self, node_id: str) -> NodeLedger | None:
        """The node's books; None where it has none."""
        return self._nodes.get(node_id)

    def all_of(self, node_ids: Sequence[str]) -> list[NodeLedger] | None:
        """The books of all these nodes, in their order; None where one of them has none."""
        found = [books for node_id in node_ids if (books := self._nodes.get(node_id)) is not None]
        return found if len(found) == len(node_ids) else None

    def close(self, node_id: str) -> None:
        """The node's books go, with all that is held in them. Idempotent."""
        if self._nodes.pop(node_id, None) is not None:
            self.changed(node_id)

    def __iter__(self) -> Iterator[NodeLedger]:
        return iter(self._nodes.values())

    def __len__(self) -> int:
        return len(self._nodes)
