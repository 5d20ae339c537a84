"""How good purchases are, against an exact solver, on small random markets."""

from __future__ import annotations

from clusterctl.core.model import Limits
from tests.core.exact import optimal_price, random_market
from tests.core.worlds import decide, pool, state

WORLD = state(pools=(pool("cpu", max=1000), pool("gpu", max=1000)), limits=Limits(launches_per_minute=None))


def _ratios(seeds: range, most: int) -> list[float]:
    ratios: list[float] = []
    for seed in seeds:
        demand, offers = random_market(seed, most=most)
        plan = decide(WORLD, *demand, offers=offers)
        assert {wait.reason.code for wait in plan.waits} == {"launching"}, f"seed {seed}"
        ratios.append(plan.price_after / optimal_price(demand, offers))
    return ratios


def test_purchases_cost_on_average_within_5_percent_of_the_optimum_and_never_25_percent_more() -> None:
    ratios = _ratios(range(150), most=6) + _ratios(range(1000, 1040), most=14)
    assert sum(ratios) / len(ratios) <= 1.05
    assert max(ratios) <= 1.25
