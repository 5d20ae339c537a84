"""What putting a new spec in force would change: per pool and field in-place, drain, replace or refused; and $/h.

Works on plain nouns, so that it serves a cluster that exists and one that does not. Fields of the spec that the planner
does not know (image, disk, setup ...) come as plain mappings.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, cast

from clusterctl.core.codec import dumps
from clusterctl.core.model import LIVE_STATES, Launch, NodeView, Offer, Plan, Start

Fields = Mapping[str, Any]
Way = Literal["in-place", "drain", "replace", "refused"]
Op = Literal["add", "change", "remove"]

# What changing a field of a pool takes. Fields not named here need a new node.
POOL_FIELDS: dict[str, Way] = {
    "min": "in-place",
    "max": "in-place",
    "idle_timeout": "in-place",
    "keep_stopped": "in-place",
    "instances": "in-place",
    "limits": "in-place",
    "reservation": "in-place",
    "market": "in-place",  # holds for nodes to come, as do instances and zones; those that run stay
    "zones": "in-place",
    "one_zone": "in-place",
    "env": "in-place",
    "files": "in-place",
    "setup": "in-place",
    "hosts": "drain",  # hosts that are no longer listed are drained
    "provider": "refused",
}
CLUSTER_FIELDS: dict[str, Way] = {
    "limits": "in-place",
    "queue": "in-place",
    "services": "in-place",
    "lifetime": "in-place",
    "env": "in-place",
    "files": "in-place",
    "auth": "in-place",
    "setup": "in-place",
    "engine": "refused",
    "head": "in-place",  # the node that has the engine's head is made anew by nobody while it lives
    "cluster": "refused",
    "provider": "refused",
    "provider_order": "in-place",
}
_NO_WAYS: Mapping[str, Way] = {}
_WHY: dict[Way, str] = {
    "in-place": "takes effect without touching a node",
    "drain": "nodes that no longer belong are drained, then ended",
    "replace": "nodes are drained and made anew, a few at a time",
    "refused": "cannot be changed while the cluster exists: take it down first",
}
_HEAD_STAYS = "the head node that runs stays as it is: `down` and `up` make another"
MOST_CHOICES = 5  # of a pool: nobody reads more, and a pool without a type may have forty
_SEVERITY: tuple[Way, ...] = ("in-place", "drain", "replace", "refused")


@dataclass(frozen=True)
class FieldChange:
    """`before` and `after` are canonical JSON of the values, "" where there is none."""

    name: str
    before: str
    after: str
    way: Way


@dataclass(frozen=True)
class Change:
    """One line of `plan`: a pool, a node or the cluster itself that is added, changed or removed."""

    op: Op
    kind: str  # "cluster" | "pool" | "node"
    name: str
    fields: tuple[FieldChange, ...] = ()
    way: Way = "in-place"
    reason: str = ""


@dataclass(frozen=True)
class Choice:
    """A type in a market at a price that a pool may get, in all the places that have it at that price. `at_once`: how many of
    them are launched first. `why_not`: why it is not to be had now, "" where it is."""

    instance_type: str
    market: str
    places: tuple[str, ...]
    price: float  # $/h
    price_source: str
    price_date: str
    at_once: int = 0
    why_not: str = ""


@dataclass(frozen=True)
class PoolChoices:
    """What a pool would get: `choices` in the order in which they are tried, MOST_CHOICES at most, and `more` after them."""

    pool: str
    most: int  # nodes
    at_once: int
    choices: tuple[Choice, ...]
    more: int = 0


@dataclass(frozen=True)
class SpecPlan:
    """What `up` would do. `price_max` is $/h if every pool grew to its max at its dearest; `warnings` are sentences; `pools` say
    which machines each gets, the head first."""

    cluster: str
    changes: tuple[Change, ...]
    price_before: float = 0.0
    price_after: float = 0.0
    price_max: float = 0.0
    warnings: tuple[str, ...] = ()
    pools: tuple[PoolChoices, ...] = ()

    @property
    def refused(self) -> tuple[str, ...]:
        """What of the new spec a running cluster cannot become: "engine", "provider.docker.host", "provider of pool gpu"."""
        return tuple(
            f"{field.name} of pool {change.name}" if change.kind == "pool" else field.name
            for change in self.changes
            for field in change.fields
            if field.way == "refused"
        )


def plan_spec(
    old: Fields | None,
    new: Fields,
    nodes: Sequence[NodeView] = (),
    first: Plan | None = None,
    offers: Sequence[Offer] = (),
    settings: Mapping[str, Way] = _NO_WAYS,
    others: Mapping[str, Way] = _NO_WAYS,
) -> SpecPlan:
    """The changes from one spec to the next. A spec is a mapping of its top-level fields, `pools` a list of mappings with
    `name`. `old` is None for a cluster that does not exist. `first` is the planner's first plan under the new spec.
    `settings`: what changing each setting of the new spec's provider takes; those it does not name need new nodes.
    `others`: the same of further fields of the cluster, by their names."""
    name = str(new.get("cluster", ""))
    live = [view for view in nodes if view.node.state in LIVE_STATES]
    changes: list[Change] = []
    if old is None:
        changes.append(Change("add", "cluster", name, reason="it does not exist yet"))
    else:
        changes.extend(_cluster_change(old, new, name, live, settings, others))
    changes.extend(_pool_changes(_pools(old or {}), _pools(new), live))
    changes.extend(_node_changes(first, live))
    before = sum(view.node.price for view in live)
    after = first.price_after if first is not None else before
    warnings = (*_price_warnings(new, offers), *(_launch_warnings(first) if first is not None else ()))
    most = _price_at_max(new, offers)
    pools = tuple(_choices(new, first, offers))
    return SpecPlan(name, tuple(changes), round(before, 6), round(after, 6), most, warnings, pools)


def _pools(spec: Fields) -> dict[str, Fields]:
    return {str(pool["name"]): pool for pool in cast("Sequence[Fields]", spec.get("pools") or ())}


def _field_changes(old: Fields, new: Fields, ways: Mapping[str, Way], skip: frozenset[str]) -> tuple[FieldChange, ...]:
    found: list[FieldChange] = []
    for key in sorted((set(old) | set(new)) - skip):
        before = dumps(old[key]) if key in old else ""
        after = dumps(new[key]) if key in new else ""
        if before != after:
            found.append(FieldChange(key, before, after, ways.get(key, "replace")))
    return tuple(found)


def _worst(fields: Sequence[FieldChange]) -> Way:
    worst: Way = "in-place"
    for field in fields:
        if _SEVERITY.index(field.way) > _SEVERITY.index(worst):
            worst = field.way
    return worst


def _cluster_change(
    old: Fields,
    new: Fields,
    name: str,
    live: Sequence[NodeView],
    settings: Mapping[str, Way],
    others: Mapping[str, Way],
) -> list[Change]:
    provider, _ = _provider(new)
    own: dict[str, Way] = {f"provider.{provider}.{key}": way for key, way in settings.items()}
    ways: dict[str, Way] = {**CLUSTER_FIELDS, **own, **others}
    fields = _field_changes(_flat(old), _flat(new), ways, frozenset({"pools"}))
    if not fields:
        return []
    change = _change_of("cluster", name, fields, sum(view.node.role == "worker" for view in live))
    of_head = any(field.way == "replace" or field.name == "head" for field in fields)
    if of_head and any(view.node.role == "head" for view in live):
        change = replace(change, reason=f"{change.reason}; {_HEAD_STAYS}")
    return [change]


def _flat(spec: Fields) -> dict[str, Any]:
    """The provider's settings as fields of their own, "provider.docker.image"."""
    provider, settings = _provider(spec)
    return {**spec, "provider": provider, **{f"provider.{provider}.{key}": value for key, value in settings.items()}}


def _provider(spec: Fields) -> tuple[str, Fields]:
    """Its name and its settings, of `docker` as well as of `{docker: {...}, aws: null}`. Settings with nothing in them are
    those that are left out."""
    given = spec.get("provider")
    if not isinstance(given, Mapping):
        return str(given or ""), {}
    for name, settings in cast("Fields", given).items():
        if settings is not None:
            return str(name), {key: value for key, value in cast("Fields", settings).items() if value or value == 0}
    return "", {}


def _change_of(kind: str, name: str, fields: tuple[FieldChange, ...], count: int) -> Change:
    """`count`: the nodes that would be touched; where there are none, nothing is taken down."""
    way = _worst(fields)
    if way in ("drain", "replace") and not count:
        return Change("change", kind, name, fields, "in-place", "it has no nodes yet that this would touch")
    touched = f" ({count} nodes)" if way in ("drain", "replace") else ""
    return Change("change", kind, name, fields, way, _WHY[way] + touched)


def _pool_changes(old: Mapping[str, Fields], new: Mapping[str, Fields], live: Sequence[NodeView]) -> list[Change]:
    changes: list[Change] = []
    for name in sorted(set(old) | set(new)):
        count = sum(1 for view in live if view.node.pool == name)
        if name not in old:
            pool = new[name]
            reason = f"{pool.get('min', 0)} to {pool.get('max', 1)} nodes"
            changes.append(Change("add", "pool", name, reason=reason))
        elif name not in new:
            reason = f"its {count} nodes are drained, then ended" if count else "it has no nodes"
            changes.append(Change("remove", "pool", name, way="drain" if count else "in-place", reason=reason))
        else:
            fields = _field_changes(old[name], new[name], POOL_FIELDS, frozenset({"name"}))
            if fields:
                changes.append(_change_of("pool", name, fields, count))
    return changes


def _node_changes(first: Plan | None, live: Sequence[NodeView]) -> list[Change]:
    """The nodes that the first plan adds and lets go."""
    if first is None:
        return []
    known = {view.node.id for view in live}
    changes: list[Change] = []
    for action in first.actions:
        if isinstance(action, Launch):
            text = f"{action.offer.instance_type} {action.offer.market} at {action.offer.price:.4g} $/h: {action.reason.text}"
            changes.append(Change("add", "node", action.node_id, reason=text))
        elif isinstance(action, Start):
            text = f"started again at {action.offer.price:.4g} $/h: {action.reason.text}"
            changes.append(Change("add", "node", action.node_id, reason=text))
        elif action.op in ("drain", "terminate") and action.node_id in known:
            way: Way = "replace" if action.reason.code == "spec_changed" else "drain"
            changes.append(Change("remove", "node", action.node_id, way=way, reason=action.reason.text))
    return changes


def _choices(spec: Fields, first: Plan | None, offers: Sequence[Offer]) -> Iterator[PoolChoices]:
    """Of every pool that something is on offer for."""
    actions = first.actions if first is not None else ()
    bought = Counter(action.offer.key for action in actions if isinstance(action, Launch))
    by_pool: dict[str, list[Offer]] = {}
    for offer in sorted(offers, key=lambda one: (bool(one.closed), one.rank, one.price, one.key)):
        by_pool.setdefault(offer.pool, []).append(offer)
    most = {name: int(pool.get("max", 1)) for name, pool in _pools(spec).items()}
    for name in sorted(by_pool, key=lambda one: (one in most, list(most).index(one) if one in most else 0)):
        alike: dict[tuple[str, str, float, str], list[Offer]] = {}
        for offer in by_pool[name]:
            alike.setdefault((offer.instance_type, offer.market, offer.price, offer.closed), []).append(offer)
        found = [_choice(group, bought) for group in alike.values()]
        found.sort(key=lambda one: not one.at_once)  # what is launched first is shown, whatever comes before it
        at_once = sum(one.at_once for one in found)
        yield PoolChoices(name, most.get(name, 1), at_once, tuple(found[:MOST_CHOICES]), len(found[MOST_CHOICES:]))


def _choice(alike: Sequence[Offer], bought: Mapping[str, int]) -> Choice:
    """One of offers that differ in their places; those where something is launched first are named first."""
    places = dict.fromkeys(offer.where for offer in sorted(alike, key=lambda one: not bought.get(one.key)))
    one = alike[0]
    return Choice(
        one.instance_type,
        one.market,
        tuple(places),
        one.price,
        one.price_source,
        one.price_date,
        sum(bought.get(offer.key, 0) for offer in alike),
        one.closed,
    )


def _price_at_max(spec: Fields, offers: Sequence[Offer]) -> float:
    """What it would cost if every pool were full of its dearest offer, as far as `limits.cost_per_hour` lets it; with
    the head, whose pool no spec names."""
    most = {name: int(pool.get("max", 1)) for name, pool in _pools(spec).items()}
    dearest: dict[str, float] = {}
    for offer in offers:
        dearest[offer.pool] = max(dearest.get(offer.pool, 0.0), offer.price)
    total = sum(price * most.get(name, 1) for name, price in dearest.items())
    limit = cast("Fields", spec.get("limits") or {}).get("cost_per_hour")
    return round(total if limit is None else min(total, float(limit)), 6)


def _price_warnings(spec: Fields, offers: Sequence[Offer]) -> list[str]:
    """Pools that nothing is on offer for, and limits that the spec itself would run into."""
    found: list[str] = []
    for name, pool in _pools(spec).items():
        if offers and not any(offer.pool == name for offer in offers):
            found.append(f"pool {name}: the provider offers nothing for it now; check its instances and zones")
        if int(pool.get("min", 0)) > int(pool.get("max", 1)):
            found.append(f"pool {name}: min {pool['min']} is above max {pool['max']}")
    limits = cast("Fields", spec.get("limits") or {})
    least = sum(int(pool.get("min", 0)) for pool in _pools(spec).values())
    if limits.get("nodes") is not None and least > int(limits["nodes"]):
        found.append(f"the pools' min add up to {least} nodes, more than limits.nodes allows ({limits['nodes']})")
    return found


def _launch_warnings(first: Plan) -> list[str]:
    """What stands in the way of a pool's min right now: quota, missing capacity, limits."""
    waits = [wait for wait in first.waits if wait.demand_id.startswith("min:")]
    return [f"{wait.reason.text}{f' ({wait.reason.fix})' if wait.reason.fix else ''}" for wait in waits]


def plan_document(plan: SpecPlan) -> dict[str, Any]:
    """The document of `plan --json`."""
    return {
        "cluster": plan.cluster,
        "actions": [
            {
                "op": change.op,
                "kind": change.kind,
                "name": change.name,
                "fields": [
                    {"name": f.name, "before": f.before, "after": f.after, "policy": f.way} for f in change.fields
                ],
                "policy": change.way,
                "reason": change.reason,
            }
            for change in plan.changes
        ],
        "pools": [
            {
                "name": pool.pool,
                "max": pool.most,
                "at_once": pool.at_once,
                "choices": [
                    {
                        "type": one.instance_type,
                        "market": one.market,
                        "places": list(one.places),
                        "price": one.price,
                        "price_source": one.price_source,
                        "price_date": one.price_date,
                        "at_once": one.at_once,
                        "why_not": one.why_not,
                    }
                    for one in pool.choices
                ],
                "more": pool.more,
            }
            for pool in plan.pools
        ],
        "cost": {"before": plan.price_before, "after": plan.price_after, "max": plan.price_max},
        "warnings": list(plan.warnings),
    }
