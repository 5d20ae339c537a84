"""Whether work of some shape may run on a node of some kind at all, whatever is free there.

Label selectors use Ray's grammar: "v", "!v", "in(a,b)", "!in(a,b)". A negative selector also accepts a missing label.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from clusterctl.core.model import Labels, NodeView, Offer, Pool, Shape

NO_ENGINE = ("clusterctl/engine", "none")  # the label of nodes on which the cluster's engine does not run
NEEDS_ENGINE = ("clusterctl/engine", "!none")  # the selector of work that needs it


@dataclass(frozen=True, order=True)
class Kind:
    """What selectors can see of a node or an offer. Equal kinds are interchangeable but for what is free on them."""

    pool: str
    head: bool
    gpu_type: str
    zone: str
    labels: Labels
    reserved_for: str = (
        ""  # the demand that a starving request's node is reserved for; nothing else that queues goes there
    )


def matches(selector: str, value: str | None) -> bool:
    """`value` is the node's label, None when it has none."""
    negative = selector.startswith("!")
    body = selector[1:] if negative else selector
    listed = body.startswith("in(") and body.endswith(")")
    wanted = {part.strip() for part in body[3:-1].split(",")} if listed else {body}
    return (value not in wanted) if negative else (value in wanted)


def accepts(kind: Kind, shape: Shape) -> bool:
    """Head nodes take only what names their pool; GPU types compare without regard to case."""
    if shape.pool != kind.pool and (shape.pool or kind.head):
        return False
    if shape.gpu_type and shape.gpu_type.lower() != kind.gpu_type.lower():
        return False
    if not shape.selectors:
        return True
    have = dict(kind.labels)
    return all(matches(selector, have.get(key)) for key, selector in shape.selectors)


def needing_engine(shape: Shape) -> Shape:
    """The same, for nodes with the engine only."""
    return replace(shape, selectors=tuple(sorted({*shape.selectors, NEEDS_ENGINE})))


def sparing_engine(shape: Shape) -> Shape:
    """The same, for nodes without the engine as well."""
    return replace(shape, selectors=tuple(pair for pair in shape.selectors if pair != NEEDS_ENGINE))


def labels_of_node(offer: Offer, own: Labels = ()) -> dict[str, str]:
    """All labels of a node of this offer: those that name its place and kind in Ray's words, then the offer's, then its `own`.
    The planner believes that a node has them, and its raylet is started with them."""
    derived = {
        "ray.io/node-group": offer.pool,
        "ray.io/market-type": offer.market,
        "ray.io/availability-region": offer.region,
        "ray.io/availability-zone": offer.zone,
        "ray.io/accelerator-type": offer.gpu_type,
    }
    return {k: v for k, v in derived.items() if v} | dict(offer.labels) | dict(own)


def _named(offer: Offer, own: Labels, keys: frozenset[str]) -> Labels:
    """Those of its labels that `keys` name. This is asked for each node and offer of a plan, and most plans name none."""
    if not keys:
        return ()
    return tuple(sorted(pair for pair in labels_of_node(offer, own).items() if pair[0] in keys))


def kind_of_offer(offer: Offer, pool: Pool, keys: frozenset[str]) -> Kind:
    """`keys` are the label keys that some selector names: other labels make no difference and are left out."""
    return Kind(pool.name, pool.role == "head", offer.gpu_type, offer.zone, _named(offer, pool.labels, keys))


def kind_of_node(view: NodeView, keys: frozenset[str]) -> Kind:
    """What selectors can see of a node; of its labels only those named in `keys`."""
    node = view.node
    labels = _named(node.offer, view.labels, keys)
    return Kind(node.pool, node.role == "head", node.offer.gpu_type, node.offer.zone, labels)


def selector_keys(shapes: frozenset[Shape] | set[Shape]) -> frozenset[str]:
    """Names of the labels that any of `shapes` selects by."""
    return frozenset(key for shape in shapes for key, _ in shape.selectors)
