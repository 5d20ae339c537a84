"""Limits per user as admission control: what a user wants beyond the limit is not served, and says so.

Limits go by name: `gpus`, `cpus` or the name of any resource, `nodes` (nodes that the user's work runs on, each bundle
still wanted counted as one more), and `cost_per_hour` (each piece of work counts with its share of its node's price).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from clusterctl.core.model import Demand, NodeView, Offer, Reason, Shape, State, Wait
from clusterctl.core.order import turn
from clusterctl.core.resources import Resources
from clusterctl.core.scheduling.rooms import Scale, copies

_RESOURCE = {"gpus": "GPU", "cpus": "CPU"}
Usage = dict[tuple[str, str], float]  # (user, limit's name) -> in use


def admit(demand: Sequence[Demand], state: State, offers: Sequence[Offer]) -> tuple[list[Demand], list[Wait]]:
    """The demand that limits per user let through, by priority and age, and waits for the rest."""
    limits = {user: dict(pairs) for user, pairs in state.limits.per_user}
    if not limits:
        return list(demand), []
    used = _usage(limits, state.nodes)
    admitted: list[Demand] = []
    waits: list[Wait] = []
    for wanted in sorted(demand, key=lambda d: turn(d.priority, d.since, d.id)):
        rules = limits.get(wanted.user, {})
        each = {name: _per_copy(name, wanted, offers) for name in rules}
        allowed, binding = wanted.count, ""
        for name in sorted(rules):
            if each[name] > 0:
                n = max(0, int((rules[name] - used.get((wanted.user, name), 0.0) + 1e-6) / each[name]))
                if n < allowed:
                    allowed, binding = n, name
        for name in rules:
            used[wanted.user, name] = used.get((wanted.user, name), 0.0) + allowed * each[name]
        if allowed:
            admitted.append(replace(wanted, count=allowed))
        if binding:
            waits.append(_refused(wanted, wanted.count - allowed, binding, rules[binding], used, each[binding]))
    return admitted, waits


def _refused(wanted: Demand, count: int, name: str, limit: float, used: Usage, each: float) -> Wait:
    have = used[wanted.user, name]
    text = f"user {wanted.user} has or is getting {have:g} of at most {limit:g} {name}, and this asks for {each:g} more"
    fix = f"wait for work of {wanted.user} to end, or raise limits.per_user.{wanted.user}.{name} to {have + each:g}"
    return Wait(wanted.id, count, Reason("user_limit", text, fix))


def _usage(limits: Mapping[str, Mapping[str, float]], views: Sequence[NodeView]) -> Usage:
    used: Usage = {}
    for view in views:
        for user in sorted({work.user for work in view.work} & set(limits)):
            mine = sum((work.resources for work in view.work if work.user == user), Resources())
            for name in limits[user]:
                if name == "nodes":
                    amount = 1.0
                elif name == "cost_per_hour":
                    amount = view.node.offer.price * _share(mine, view.total)
                else:
                    amount = mine.get(_RESOURCE.get(name, name))
                used[user, name] = used.get((user, name), 0.0) + amount
    return used


def _share(part: Resources, whole: Resources) -> float:
    shares = [amount / whole.units[name] for name, amount in part.items if whole.units.get(name)]
    return min(1.0, max(shares, default=0.0))


def _per_copy(name: str, wanted: Demand, offers: Sequence[Offer]) -> float:
    if name == "nodes":
        return float(sum(n for _, n in wanted.bundles))
    if name == "cost_per_hour":
        return sum(n * _cheapest(shape, offers) for shape, n in wanted.bundles)
    resource = _RESOURCE.get(name, name)
    return sum(n * shape.resources.get(resource) for shape, n in wanted.bundles)


def _cheapest(shape: Shape, offers: Sequence[Offer]) -> float:
    """The share of the price of the node that suits the shape best; 0 when none holds it (it will wait for that)."""
    scale = Scale.of([shape])
    need = scale.need(shape.resources)
    rooms = [(offer.price, copies(scale.room(offer.resources), need, scale.gpu)) for offer in offers]
    return min((price / n for price, n in rooms if n), default=0.0)
