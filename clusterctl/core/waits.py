"""The sentences that say why something waits."""

from __future__ import annotations

from collections.abc import Sequence

from clusterctl.core.model import STARTING, Demand, NodeState, NodeView, Offer, Reason, Shape, Wait
from clusterctl.core.scheduling.placement import describe

_STAGE = {
    NodeState.PLANNED: "being launched",
    NodeState.REQUESTED: "being launched",
    NodeState.BOOTING: "booting",
    NodeState.JOINING: "joining",
}


def expected_ready(view: NodeView, now: float) -> float:
    """When a node that is coming up should be ready: its launch plus the offer's boot time, but never in the past."""
    return max(view.node.created + view.node.offer.boot_seconds, now + 1.0)


def where(offer: Offer) -> str:
    """The instance type and its zone, in words."""
    return f"{offer.instance_type}{offer.in_where}"


def soon(seconds: float) -> str:
    """How long it takes until a node is ready, in words."""
    return f"ready in about {seconds:.0f} s"


def wait_for_pending(demand: Demand, what: str, count: int, views: Sequence[NodeView], now: float) -> Wait:
    """Work that has room on nodes which are still coming up."""
    eta = max(expected_ready(view, now) for view in views)
    first = views[0].node
    others = f" and {len(views) - 1} more" if len(views) > 1 else ""
    verb = "are" if others else "is"
    stage = "being started again" if first.code == STARTING else _STAGE[first.state]
    text = f"waiting for {what}: {first.id} ({where(first.offer)}){others} {verb} {stage}, {soon(eta - now)}"
    return Wait(demand.id, count, Reason("starting", text), eta, tuple(view.node.id for view in views))


def wait_for_launch(
    demand: Demand, what: str, count: int, launches: Sequence[tuple[str, Offer, bool]], now: float
) -> Wait:
    """Work that has room on nodes which this plan launches, or (True) starts again: node id, offer, which of the two."""
    boot = max(offer.boot_seconds for _, offer, _ in launches)
    others = f" and {len(launches) - 1} more" if len(launches) > 1 else ""
    first, offer, again = launches[0]
    verb = f"starting {first} again, {where(offer)}" if again else f"launching {where(offer)}"
    text = f"waiting for {what}: {verb}{others}, {soon(boot)}"
    return Wait(demand.id, count, Reason("launching", text), now + boot, tuple(node for node, _, _ in launches))


def wait_for_return(demand: Demand, what: str, count: int, views: Sequence[NodeView], now: float) -> Wait:
    """Work that has room on nodes whose drain is called back."""
    others = f" and {len(views) - 1} more" if len(views) > 1 else ""
    text = f"waiting for {what}: the drain of {views[0].node.id}{others} is called back"
    return Wait(demand.id, count, Reason("returning", text), now + 1.0, tuple(view.node.id for view in views))


def copies_of(shape: Shape, count: int) -> str:
    """So many copies of a shape, in words."""
    return describe(shape) if count == 1 else f"{count} times {describe(shape)}"


def bundles_text(bundles: Sequence[tuple[Shape, int]]) -> str:
    """A gang in words: "a gang of 4 (4 times 1 x GPU)"."""
    total = sum(n for _, n in bundles)
    return f"a gang of {total} ({', '.join(copies_of(shape, n) for shape, n in bundles)})"


def work_waits(tasks: int, actors: int, demand: Demand, reason: Reason) -> str:
    """Why a running program waits: "3 tasks wait for 1 x GPU: launching g6.xlarge in us-east-1b, ready in about 70 s". Neither
    tasks nor actors: the demand is a placement group."""
    counted = [f"{n} {what}{'s' if n > 1 else ''}" for n, what in ((tasks, "task"), (actors, "actor")) if n]
    who = " and ".join(counted) or "a placement group"
    verb = "wait" if tasks + actors > 1 else "waits"
    what = describe(demand.bundles[0][0]) if counted else bundles_text(demand.bundles)
    waiting, _, rest = reason.text.partition(": ")
    return f"{who} {verb} for {what}: {rest}" if waiting.startswith("waiting for") else f"{who} {verb}: {reason.text}"
