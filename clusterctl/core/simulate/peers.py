"""What the models of other autoscalers have in common: reading the list, naming nodes, and saying what no offer fits."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from clusterctl.core.errors import ProviderError
from clusterctl.core.model import (
    PENDING_STATES,
    Action,
    Drain,
    Launch,
    Mark,
    NodeState,
    NodeView,
    Offer,
    Reason,
    Terminate,
    Wait,
    launch_token,
)
from clusterctl.core.scheduling.placement import describe
from clusterctl.core.simulate.policy import Situation
from clusterctl.core.simulate.summary import fits_some_offer


@dataclass
class Names:
    """Hands out node ids that were never used."""

    situation: Situation
    _next: dict[str, int] = field(default_factory=dict[str, int])

    def launch(self, offer: Offer, reason: Reason) -> Launch:
        """A launch under the pool's next number."""
        numbers = dict(self.situation.next_number)
        number = self._next.get(offer.pool, numbers.get(offer.pool, 1))
        self._next[offer.pool] = number + 1
        node_id = f"{offer.pool}-{number}"
        token = launch_token(self.situation.uid, node_id, 1)
        return Launch(node_id, 1, token, offer, "worker", "", reason)


def settle(situation: Situation, boot_deadline: float) -> list[Action]:
    """Records against the list: what is gone is marked so, what never joined within `boot_deadline` is ended, and what
    was drained and is empty is ended."""
    if not all(scope.complete for scope in situation.observed):
        return []
    listed = {(i.node_id, i.generation) for scope in situation.observed for i in scope.instances}
    actions: list[Action] = []
    for view in situation.nodes:
        node = view.node
        shown = (node.id, node.generation) in listed
        unsure = node.state in (NodeState.PLANNED, NodeState.REQUESTED)
        if not shown and not (unsure and situation.now - node.since < boot_deadline):
            actions.append(Mark(node.id, "gone", Reason("instance_gone", "the list lacks it")))
        elif node.state in PENDING_STATES and situation.now - node.created > boot_deadline:
            reason = Reason("boot_timeout", f"it did not join within {boot_deadline:g} s")
            actions.append(Terminate(node.id, node.instance_id, reason))
        elif node.state is NodeState.FAILED or (node.state is NodeState.DRAINING and view.drain == "acked"):
            actions.append(Terminate(node.id, node.instance_id, Reason(node.code or "ended", node.reason)))
    return actions


def boots_end(situation: Situation, boot_deadline: float) -> list[float]:
    """When to look again for machines that never join."""
    return [v.node.created + boot_deadline + 1.0 for v in situation.nodes if v.node.state in PENDING_STATES]


def usable_nodes(situation: Situation, actions: Iterable[Action]) -> list[NodeView]:
    """Nodes that run or come up and that nothing takes away."""
    away = {action.node_id for action in actions if isinstance(action, Mark | Terminate | Drain)}
    return [
        view
        for view in situation.nodes
        if view.node.id not in away
        and (view.node.state is NodeState.READY or view.node.state in PENDING_STATES)
        and not view.drain
        and view.preempt_at is None
    ]


def counted(situation: Situation, actions: Iterable[Action]) -> dict[str, int]:
    """Nodes per pool that still cost or may come to cost: what a pool's max is compared with."""
    gone = {action.node_id for action in actions if isinstance(action, Mark) and action.event == "gone"}
    counts: dict[str, int] = {}
    for view in situation.nodes:
        if view.node.id not in gone:
            counts[view.node.pool] = counts.get(view.node.pool, 0) + 1
    return counts


def unfit(situation: Situation) -> list[Wait]:
    """Demands that no offer can ever hold."""
    return [
        Wait(demand.id, demand.count, Reason("no_offer_fits", f"no offer can hold {describe(shape)}"))
        for demand in situation.demand
        for shape, _ in demand.bundles
        if not fits_some_offer(shape, situation.offers)
    ]


class QuietPolicy:
    """The parts of a policy that a model without memory of refusals needs."""

    name = ""

    def due(self, now: float) -> float:
        return now

    def due_idle(self, idle_timeout: float, now: float) -> float:
        del idle_timeout
        return self.due(now)

    def refused(self, offer: Offer, error: ProviderError, now: float) -> None:
        del offer, error, now

    def granted(self, offer: Offer, now: float) -> None:
        del offer, now


def earliest(times: Sequence[float], now: float) -> float | None:
    """The first of `times` that is still to come."""
    return min((at for at in times if at > now), default=None)
