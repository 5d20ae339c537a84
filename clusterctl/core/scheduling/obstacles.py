"""Why no node, present or to be bought, can serve a shape: the nearest obstacle, and what would remove it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from clusterctl.core.limits import Allowance
from clusterctl.core.model import Offer, PassedOver, Pool, Reason, Shape
from clusterctl.core.offers import Choice
from clusterctl.core.resources import amount_text
from clusterctl.core.scheduling.placement import describe
from clusterctl.core.scheduling.rooms import Scale, copies
from clusterctl.core.scheduling.selectors import NEEDS_ENGINE, accepts, kind_of_offer, selector_keys, sparing_engine


def obstacle_to(
    shape: Shape,
    opens: Sequence[Choice],
    offers: Sequence[Offer],
    refused: Sequence[PassedOver],
    pools: Sequence[Pool],
    allowance: Allowance,
) -> Reason:
    """`opens` are the choices that may be bought for the shape; `offers` are all, `refused` those that cannot be bought."""
    what = describe(shape)
    if shape.pool and all(pool.name != shape.pool for pool in pools):
        known = ", ".join(pool.name for pool in pools)
        return Reason("no_such_pool", f"{what}: there is no such pool", f"name one of {known}")
    for choice in sorted(opens, key=lambda c: (c.offer.rank, c.cost, c.offer.key)):
        found = allowance.obstacle(choice.offer)
        if found is not None:
            return replace(found, text=f"waiting for {what}: {found.text}")
    if opens:
        return Reason("no_room", f"waiting for {what}: no node has room for it now")
    if any(pool.role == "head" and pool.name == shape.pool for pool in pools):
        return Reason("head_full", f"waiting for {what}: the head node is full", "wait, or run it on a worker node")
    return _not_on_offer(shape, what, offers, refused, pools)


def _not_on_offer(
    shape: Shape, what: str, offers: Sequence[Offer], refused: Sequence[PassedOver], pools: Sequence[Pool]
) -> Reason:
    keys = selector_keys({shape})
    by_name = {pool.name: pool for pool in pools}
    known = [offer for offer in offers if offer.pool in by_name]
    if not known:
        return Reason("no_offers", f"waiting for {what}: no pool offers any node", "check the instances of the pools")

    def able_for(wanted: Shape) -> list[Offer]:
        return [offer for offer in known if accepts(kind_of_offer(offer, by_name[offer.pool], keys), wanted)]

    scale = Scale.of([shape])
    need = scale.need(shape.resources)

    def large_among(some: Sequence[Offer]) -> list[Offer]:
        return [offer for offer in some if copies(scale.room(offer.resources), need, scale.gpu)]

    able = able_for(shape)
    large = {offer.key for offer in large_among(able)}
    if NEEDS_ENGINE in shape.selectors and not large:
        apart = able_for(sparing_engine(shape))
        if found := large_among(apart) or (apart if not able else []):
            return _no_engine(what, found)
    if not able:
        return _no_such_kind(shape, what, known, by_name)
    blocked = [passed for passed in refused if passed.offer_key in large]
    if blocked:
        reason = blocked[0].reason
        text = f"waiting for {what}: {blocked[0].offer_key} is not to be had: {reason.text}"
        return Reason(reason.code, text, reason.fix)
    return _too_large(shape, what, able)


def _no_engine(what: str, offers: Sequence[Offer]) -> Reason:
    pools = sorted({offer.pool for offer in offers})
    they = f"pool {pools[0]} serves" if len(pools) == 1 else f"the pools {' and '.join(pools)} serve"
    text = f"{what}: {they} queue jobs only, since the engine does not run outside of the head's network"
    return Reason(
        "no_engine", text, "add such a pool of the head's own provider, or submit the work as jobs of the queue"
    )


def _too_large(shape: Shape, what: str, able: Sequence[Offer]) -> Reason:
    for name, amount in shape.resources.items:
        largest = max(able, key=lambda offer: (offer.resources.units.get(name, 0), offer.pool))
        most = largest.resources.units.get(name, 0)
        if most == 0:
            return Reason("not_offered", f"{what}: no node on offer has any {name}", f"add a pool that offers {name}")
        if most < amount:
            there = amount_text(name, most)
            text = f"{what} is more than any pool can give: the largest node of pool {largest.pool} has {there}"
            return Reason("too_large", text, f"ask for {there}, or add a pool with larger nodes")
    text = f"{what}: no single node on offer has all of that together"
    return Reason("too_large", text, "ask for less, or add a pool with larger nodes")


def _no_such_kind(shape: Shape, what: str, known: Sequence[Offer], pools: dict[str, Pool]) -> Reason:
    if shape.gpu_type:
        types = sorted({offer.gpu_type for offer in known if offer.gpu_type})
        if shape.gpu_type.lower() not in {t.lower() for t in types}:
            fix = f"ask for {' or '.join(types)}" if types else "add a pool with that GPU"
            return Reason("no_such_gpu_type", f"{what}: no pool offers the GPU type {shape.gpu_type}", fix)
    if wanted := ", ".join("=".join(pair) for pair in shape.selectors if pair != NEEDS_ENGINE):
        return Reason("no_such_label", f"{what}: no pool offers nodes with {wanted}", "label a pool so")
    if shape.pool and all(offer.pool != shape.pool for offer in known):
        return Reason("no_offers", f"{what}: the provider offers nothing for it", "check its instances and zones")
    if all(pools[offer.pool].role == "head" for offer in known):
        return Reason("no_worker_pool", f"{what}: there is no pool of workers", "add a pool to the spec")
    return Reason("not_offered", f"{what}: no pool offers such a node", "add a pool that does")
