"""Which offers may be bought from now, and which of several equal ones is taken."""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass

from clusterctl.core.model import Block, Offer, PassedOver, Pool, Reason, Shape
from clusterctl.core.scheduling.rooms import Room, Scale
from clusterctl.core.scheduling.selectors import Kind, kind_of_offer

LEAVES_BEFORE = 600.0  # seconds before its capacity ends that a node takes no new work
HIGHEST_PRICE = 1000.0  # $/h; a node above it is taken for a mistake in the price list


@dataclass(frozen=True)
class Choice:
    """The offer to take among those that differ in nothing that demand can see. `room` is that of an empty node.

    `number` is its place in the list of choices."""

    number: int
    offer: Offer
    kind: Kind
    room: Room
    has_gpu: bool

    @property
    def cost(self) -> float:
        """What buying compares: the price, and a hair for the node itself, so that fewer nodes win a tie."""
        return self.offer.price + 1e-4


def refusal(offer: Offer, pools: dict[str, Pool], blocks: Sequence[Block], now: float) -> Reason | None:
    """Why the offer cannot be bought at all at this moment; None if it can."""
    pool = pools.get(offer.pool)
    if pool is None:
        return Reason("unknown_pool", f"no pool is named {offer.pool}")
    if not math.isfinite(offer.price) or offer.price < 0 or offer.price > HIGHEST_PRICE:
        return Reason("absurd_price", f"its price of {offer.price:g} $/h cannot be right", "run `clusterctl offers`")
    if offer.closed:
        return Reason("closed", offer.closed, "wait, or let the pool have other machines, too")
    if offer.ends and offer.ends - LEAVES_BEFORE <= now + offer.boot_seconds:
        return Reason("capacity_ends", "its reserved capacity ends too soon", "reserve for longer")
    for block in blocks:
        if block.until > now and covers(block.offer_key, offer.key):
            return Reason(block.code, block.reason, f"it is tried again in {block.until - now:.0f} s")
    return None


def covers(blocked: str, key: str) -> bool:
    """Whether a block of `blocked` is one of the offer with that key."""
    return key.startswith(blocked) if blocked.endswith("/") else key == blocked


def usable(
    offers: Sequence[Offer],
    pools: Sequence[Pool],
    blocks: Sequence[Block],
    now: float,
    first: Collection[str] = (),
) -> tuple[list[Offer], list[PassedOver]]:
    """The offers that may be bought, in order of preference, and the others with the reason. Repeated keys count once.
    Among equally good ones those with a key in `first` come first: there is a stopped node to start."""
    by_name = {pool.name: pool for pool in pools}
    good: dict[str, Offer] = {}
    passed: dict[str, PassedOver] = {}

    def order(offer: Offer) -> tuple[int, float, bool, str]:
        return offer.rank, offer.price if math.isfinite(offer.price) else 0.0, offer.key not in first, offer.key

    for offer in sorted(offers, key=order):
        reason = refusal(offer, by_name, blocks, now)
        if reason is None:
            good.setdefault(offer.key, offer)
        else:
            passed.setdefault(offer.key, PassedOver(offer.key, reason))
    return list(good.values()), [passed[key] for key in sorted(passed)]


def choices_of(
    offers: Sequence[Offer], pools: Sequence[Pool], scale: Scale, keys: frozenset[str], *, by_zone: bool
) -> list[Choice]:
    """One choice per distinct (pool, rank, room, what selectors see); zones are told apart only when asked to."""
    by_name = {pool.name: pool for pool in pools}
    best: dict[tuple[object, ...], Choice] = {}
    for offer in offers:  # in order of preference: the first of its likes is the best
        kind = kind_of_offer(offer, by_name[offer.pool], keys)
        room = scale.room(offer.resources)
        has_gpu = "GPU" in offer.resources.units
        likes = (kind.pool, kind.gpu_type, kind.labels, offer.rank, room, has_gpu, offer.zone if by_zone else "")
        if likes not in best:
            best[likes] = Choice(len(best), offer, kind, room, has_gpu)
    return list(best.values())


def waits_for_gpu(shape: Shape) -> bool:
    """Whether the shape is GPU work: it asks for a GPU, or for a type of GPU."""
    return "GPU" in shape.resources.units or bool(shape.gpu_type)
