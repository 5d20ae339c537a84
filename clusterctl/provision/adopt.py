"""State is disposable: the records of a cluster's nodes, rebuilt from the tags of its instances."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from clusterctl.core.model import Instance, Node, Observed, Offer
from clusterctl.core.resources import Resources
from clusterctl.provision.journal.book import Journal
from clusterctl.provision.journal.file import TO_ADOPT

_ADOPTED = "adopted-scopes"


@dataclass(frozen=True)
class Adoption:
    """What was found: `nodes` have a record now, `strays` are older generations that a newer one replaces (the planner
    ends them), `gaps` are the sentences of scopes that could not be listed in full."""

    nodes: tuple[Node, ...]
    strays: tuple[Instance, ...]
    gaps: tuple[str, ...]


def adopt(
    journal: Journal,
    observed: Sequence[Observed],
    uid: str,
    offers: Sequence[Offer],
    now: float,
    head_pool: str = "head",
) -> Adoption:
    """Journals every living instance with our uid that no record explains. Safe to repeat; ends nothing."""
    living = [
        instance
        for scope in observed
        for instance in scope.instances
        if instance.uid == uid and instance.node_id and instance.state in ("pending", "running")
    ]
    newest: dict[str, Instance] = {}
    for instance in sorted(living, key=lambda i: (i.node_id, i.generation, i.id)):
        newest[instance.node_id] = instance
    nodes: list[Node] = []
    with journal.together():
        for node_id, instance in newest.items():
            offer = offer_of(instance, offers)
            role = "head" if offer.pool == head_pool else "worker"
            node = journal.adopt(instance, offer, now, role)
            if node.instance_id == instance.id:
                nodes.append(node)
            elif journal.nodes().get(node_id) == node and node.generation == instance.generation:
                nodes.append(journal.learn(node_id, instance.id, instance.address, now) or node)
    taken = {node.instance_id for node in nodes}
    strays = tuple(instance for instance in living if instance.id not in taken)
    gaps = tuple(
        scope.error or f"{scope.scope} could not be listed in full" for scope in observed if not scope.complete
    )
    return Adoption(tuple(nodes), strays, gaps)


def adopt_for_new_journal(
    journal: Journal, observed: Sequence[Observed], uid: str, offers: Callable[[], Sequence[Offer]], now: float
) -> None:
    """Where the journal is new, whatever already carries our uid was launched by one that is lost: it is adopted before
    the planner takes it for an orphan. Done once per scope, when its list is complete."""
    if not journal.adopts:
        return
    done = set(journal.meta_get(_ADOPTED, "").split("\n")) - {""}
    fresh = [scope for scope in observed if scope.complete and scope.scope not in done]
    with journal.together():
        if any(instance.uid == uid for scope in fresh for instance in scope.instances):
            adopt(journal, fresh, uid, offers(), now)
        done |= {scope.scope for scope in fresh}
        journal.meta_set(_ADOPTED, "\n".join(sorted(done)))
        if done >= {scope.scope for scope in observed}:
            journal.meta_set(TO_ADOPT, "")


def offer_of(instance: Instance, offers: Sequence[Offer]) -> Offer:
    """The offer an instance came from; where none matches, its bare facts with no price and no resources, so that
    nothing is placed on it before its agent has said what it has."""
    pool = instance.node_id.rpartition("-")[0]
    for offer in offers:
        if (offer.pool, offer.instance_type, offer.market, offer.zone) == (
            pool, instance.instance_type, instance.market, instance.zone
        ):  # fmt: skip
            return offer
    return Offer(pool, instance.instance_type, instance.market, instance.zone, 0.0, Resources(), price_source="unknown")
