"""Small worlds for tests of the core: builders with defaults, so that a test names only what it is about."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from clusterctl.core.model import (
    Demand,
    Instance,
    Node,
    NodeState,
    NodeView,
    Observed,
    Offer,
    Plan,
    Policy,
    Pool,
    Shape,
    State,
    Work,
    launch_token,
)
from clusterctl.core.planner import plan
from clusterctl.core.resources import Resources

UID = "6b0f9c5e-3c39-4d44-9d53-6a1f0f2f7b11"
NOW = 1_000_000.0


def amounts(**units: float) -> Resources:
    return Resources.of(units)


def shape(*, gpu_type: str = "", pool: str = "", selectors: tuple[tuple[str, str], ...] = (), **units: float) -> Shape:
    return Shape(amounts(**units), gpu_type, pool, selectors)


def offer(pool: str = "cpu", type_: str = "small", *, price: float = 1.0, zone: str = "a", **rest: Any) -> Offer:
    """`units` in `rest` are the resources (default one CPU); everything else is a field of Offer."""
    resources = rest.pop("resources", None) or amounts(CPU=1)
    market = rest.pop("market", "on-demand")
    return Offer(pool, type_, market, zone, price, resources, **rest)


def pool(name: str = "cpu", min: int = 0, max: int = 100, **rest: Any) -> Pool:
    return Pool(name, "fake", min, max, **rest)


def view(
    node_id: str = "cpu-1",
    of: Offer | None = None,
    state: NodeState = NodeState.READY,
    *,
    since: float = NOW - 100,
    used: Resources | None = None,
    **rest: Any,
) -> NodeView:
    """A node of an offer. Fields of Node and NodeView may be given by name; with `used` there is work on it."""
    of = of or offer(node_id.rpartition("-")[0])
    node_fields = {k: rest.pop(k) for k in list(rest) if k in Node.__dataclass_fields__}
    node_fields.setdefault("instance_id", f"i-{node_id}")
    created = node_fields.pop("created", since)
    node = Node(node_id, 1, launch_token(UID, node_id, 1), of, state, since, created, **node_fields)
    if used is not None:
        rest.setdefault("work", (Work(f"w-{node_id}", used, since),))
        rest.setdefault("free", of.resources - used)
    rest.setdefault("free", of.resources)
    return NodeView(node, of.resources, **rest)


def instance_of(node: NodeView, state: str = "running", **rest: Any) -> Instance:
    fields = {"id": node.node.instance_id, "uid": UID, "node_id": node.node.id, "generation": node.node.generation}
    return Instance(**(fields | {"state": state, "created": node.node.created} | rest))  # type: ignore[arg-type]


def seen(
    *views: NodeView, complete: bool = True, at: float = NOW, scope: str = "all", extra: tuple[Instance, ...] = ()
):
    """An observation in which every given node runs."""
    running = tuple(instance_of(v) for v in views if v.node.state is not NodeState.GONE and v.node.instance_id)
    return Observed(scope, running + extra, complete, at)


def want(id: str = "d", *, count: int = 1, of: Shape | None = None, bundles: Any = None, **rest: Any) -> Demand:
    return Demand(id, rest.pop("source", "job"), bundles or ((of or shape(CPU=1), 1),), count, **rest)


def state(*views: NodeView, pools: tuple[Pool, ...] = (pool(),), **rest: Any) -> State:
    return State("demo", UID, pools, views, **rest)


def decide(
    world: State,
    *demand: Demand,
    offers: tuple[Offer, ...] = (offer(),),
    observed: tuple[Observed, ...] | None = None,
    now: float = NOW,
    policy: Policy | None = None,
) -> Plan:
    """plan() with what a test leaves out filled in; by default everything with an instance is seen running."""
    looked = observed if observed is not None else (seen(*world.nodes),)
    return plan(policy or Policy(), looked, world, demand, offers, now)


def after(world: State, result: Plan, now: float = NOW) -> State:
    """The world once the plan's launches are on record, for a plan after a plan."""
    new = tuple(
        view(a.node_id, a.offer, NodeState.PLANNED, since=now, instance_id="", spec_hash=a.spec_hash, role=a.role)
        for a in result.actions
        if a.op == "launch"
    )
    return replace(world, nodes=world.nodes + new)


def ops(result: Plan, op: str) -> list[Any]:
    return [action for action in result.actions if action.op == op]


def bought(result: Plan) -> list[str]:
    """Instance types that the plan launches, sorted."""
    return sorted(launch.offer.instance_type for launch in ops(result, "launch"))


def codes(result: Plan) -> dict[str, str]:
    """Demand id -> code of why it waits (the last one)."""
    return {wait.demand_id: wait.reason.code for wait in result.waits}
