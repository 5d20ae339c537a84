"""What is wanted, in the form that packing works on: independent copies of one shape, and gangs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from clusterctl.core.model import Demand, Shape
from clusterctl.core.resources import Resources

STANDING = frozenset({"request", "reservation"})  # met by what nodes have in total, not by what is free on them


@dataclass(frozen=True)
class Single:
    """`count` copies of `shape`, each of which may run anywhere by itself."""

    demand: Demand
    shape: Shape
    count: int


@dataclass(frozen=True)
class Gang:
    """`count` copies of a set of bundles; each copy is served whole or not at all.

    `distinct`: no two bundles on a node. `spread`: on distinct nodes where that is possible without buying more.
    """

    demand: Demand
    bundles: tuple[tuple[Shape, int], ...]
    count: int
    distinct: bool = False
    spread: bool = False
    one_zone: bool = False


Ask = Single | Gang


def asks_of(demand: Demand, one_zone_pools: frozenset[str] = frozenset()) -> list[Ask]:
    """A demand in the planner's form. A gang that must sit on one node is one larger shape."""
    bundles = tuple((shape, n) for shape, n in demand.bundles if n > 0)
    if demand.count <= 0 or not bundles:
        return []
    if demand.strategy == "STRICT_PACK":
        return [Single(demand, merge(bundles), demand.count)]
    if not demand.gang:
        return [Single(demand, shape, n * demand.count) for shape, n in bundles]
    if len(bundles) == 1 and bundles[0][1] == 1:
        return [Single(demand, bundles[0][0], demand.count)]
    one_zone = demand.one_zone or any(shape.pool in one_zone_pools for shape, _ in bundles)
    return [
        Gang(
            demand,
            bundles,
            demand.count,
            distinct=demand.strategy == "STRICT_SPREAD",
            spread=demand.strategy == "SPREAD",
            one_zone=one_zone,
        )
    ]


def merge(bundles: Sequence[tuple[Shape, int]]) -> Shape:
    """The shape of all bundles on one node. Bundles that ask for two pools or GPU types make a shape that asks for both
    at once, which no node is."""
    pools = sorted({shape.pool for shape, _ in bundles if shape.pool})
    gpu_types = {shape.gpu_type.lower(): shape.gpu_type for shape, _ in bundles if shape.gpu_type}
    resources = Resources()
    for shape, n in bundles:
        resources = resources + shape.resources.times(n)
    selectors = tuple(sorted({pair for shape, _ in bundles for pair in shape.selectors}))
    return Shape(resources, " and ".join(sorted(gpu_types.values())), " and ".join(pools), selectors)


def shapes_of(asks: Sequence[Ask]) -> set[Shape]:
    """Every shape that any of them asks for."""
    found: set[Shape] = set()
    for ask in asks:
        if isinstance(ask, Single):
            found.add(ask.shape)
        else:
            found.update(shape for shape, _ in ask.bundles)
    return found
