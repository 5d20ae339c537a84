"""Work that needs the engine, and pools whose nodes do not run it."""

from __future__ import annotations

from dataclasses import replace

from clusterctl.core.explain import explain_demand
from clusterctl.core.model import Demand, Launch, Offer, Policy, Pool, Shape, State
from clusterctl.core.resources import Resources
from clusterctl.core.scheduling.remedies import Situation
from clusterctl.core.scheduling.selectors import NO_ENGINE, needing_engine

UID = "2b0f1c9e-5d35-4a9c-9f0e-0d6a8c5be111"
NEAR = Pool("near", "a", 0, 4)
FAR = Pool("far", "b", 0, 4, labels=(NO_ENGINE,))


def offer(pool: Pool, price: float, cpus: float = 4) -> Offer:
    return Offer(pool.name, "type", "on-demand", "z", price, Resources.of(CPU=cpus), labels=pool.labels)


def situation(
    cpus: float, offers: tuple[Offer, ...], *, engine: bool, pools: tuple[Pool, ...] = (NEAR, FAR)
) -> Situation:
    shape = Shape(Resources.of(CPU=cpus))
    demand = Demand("d", "task", ((needing_engine(shape) if engine else shape, 1),), count=1, since=0.0)
    return Situation(Policy(), (), State("demo", UID, pools, nodes=()), (demand,), offers, 0.0)


def bought(of: Situation) -> list[str]:
    return [action.offer.pool for action in of.plan().actions if isinstance(action, Launch)]


def test_queue_jobs_take_the_cheapest_pool_and_the_engines_work_the_cheapest_that_runs_it() -> None:
    offers = (offer(NEAR, 2.0), offer(FAR, 1.0))
    assert bought(situation(1, offers, engine=False)) == ["far"]
    assert bought(situation(1, offers, engine=True)) == ["near"]


def test_what_only_a_pool_apart_could_hold_waits_and_is_told_which_pool_that_is_and_why() -> None:
    offers = (offer(NEAR, 2.0), offer(FAR, 1.0, cpus=16))
    too_much = situation(8, offers, engine=True)
    assert bought(too_much) == []
    told = explain_demand(too_much, "d")
    assert told is not None and told.reason.code == "no_engine"
    assert told.reason.text == (
        "8 x CPU with the engine: pool far serves queue jobs only, since the engine does not run outside of the head's network"
    )
    why_not = {passed.offer_key.split("/")[0]: passed.reason.code for passed in told.passed_over}
    assert why_not == {"near": "too_small", "far": "no_engine"}


def test_what_no_pool_could_hold_is_told_as_that() -> None:
    offers = (offer(NEAR, 2.0), offer(FAR, 1.0))
    told = explain_demand(situation(8, offers, engine=True), "d")
    assert told is not None and told.reason.code == "too_large"


def test_a_cluster_whose_pools_are_all_apart_says_that_none_runs_the_engine() -> None:
    two = replace(FAR, name="away")
    offers = (offer(FAR, 1.0), offer(two, 1.0))
    told = explain_demand(situation(1, offers, engine=True, pools=(FAR, two)), "d")
    assert told is not None and told.reason.code == "no_engine"
    assert "the pools away and far serve queue jobs only" in told.reason.text
