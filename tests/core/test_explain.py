"""Explanations name the obstacle and the nearest thing that removes it; the remedy, applied, works."""

from __future__ import annotations

from dataclasses import replace

import pytest

from clusterctl.core.explain import Step, explain_demand, explain_node, explain_offer, story
from clusterctl.core.model import Block, Demand, Limits, NodeState, Offer, Plan, Policy, State
from clusterctl.core.scheduling.remedies import Situation
from tests.core.worlds import NOW, amounts, offer, pool, seen, shape, state, view, want

GPU = offer("gpu", "g1", price=3.0, resources=amounts(CPU=8, GPU=2), gpu_type="L4")


def situation(world: State, *demand: Demand, offers: tuple[Offer, ...] = (GPU,)) -> Situation:
    return Situation(Policy(), (seen(*world.nodes),), world, demand, offers, NOW)


def test_the_fix_for_a_gang_above_max_is_the_largest_gang_or_the_least_max_that_would_be_served() -> None:
    world = state(pools=(pool("gpu", max=4),))
    gang = want("j", bundles=((shape(GPU=1), 9),), gang=True)
    found = explain_demand(situation(world, gang), "j")
    assert found is not None
    assert found.reason.code == "pool_max"
    assert found.reason.fix == "ask for 8 instead of 9 times 1 x GPU, or raise max of pool gpu from 4 to 5"


class CountingSituation(Situation):
    plans = 0

    def plan(self) -> Plan:
        CountingSituation.plans += 1
        return super().plan()


def test_an_explanation_on_a_large_cluster_costs_few_plans_and_its_remedy_still_works() -> None:
    small = offer("gpu", "g2", price=1.0, resources=amounts(CPU=8, GPU=2), gpu_type="L4")
    nodes = tuple(view(f"gpu-{n}", small, used=amounts(GPU=2)) for n in range(2_000))
    world = state(*nodes, pools=(pool("gpu", max=10_000),), limits=Limits(nodes=2_010, launches_per_minute=None))
    others = [want(f"o{n}", of=shape(GPU=1 + n % 2, CPU=1 + n), count=50) for n in range(5)]
    for stuck in (
        want("j", bundles=((shape(GPU=1), 333),), gang=True, since=NOW),
        want("j", of=shape(GPU=2), count=77),
    ):
        asked = situation(world, *others, stuck, offers=(small,))
        CountingSituation.plans = 0
        found = explain_demand(CountingSituation(**vars(asked)), "j")
        assert found is not None
        assert 0 < CountingSituation.plans <= 6
        limit = int(found.reason.fix.rsplit(" ", 1)[1])
        raised = replace(asked, state=replace(world, limits=Limits(nodes=limit, launches_per_minute=None)))
        assert raised.obstacle("j") is None


def test_limits_that_stand_one_behind_the_other_are_all_named() -> None:
    world = state(pools=(pool("gpu", max=1),), limits=Limits(nodes=2, cost_per_hour=7.0))
    found = explain_demand(situation(world, want("j", of=shape(GPU=2), count=3)), "j")
    assert found is not None
    expected = "raise max of pool gpu from 1 to 3 and raise limits.nodes from 2 to 3 and raise limits.cost_per_hour from 7 to 9"
    assert found.reason.fix == expected


def test_what_no_node_could_ever_hold_says_what_the_most_is() -> None:
    found = explain_demand(situation(state(pools=(pool("gpu"),)), want("j", of=shape(GPU=3))), "j")
    assert found is not None
    assert (found.reason.code, found.reason.fix) == ("too_large", "ask for 2 x GPU, or add a pool with larger nodes")


@pytest.mark.parametrize(
    ("bundles", "strategy", "code", "text", "fix"),
    [
        (
            ((shape(CPU=64), 1), (shape(CPU=1), 2)),
            "PACK",
            "too_large",
            "a gang of 3 (64 x CPU, 2 times 1 x CPU) is served whole or not at all: 64 x CPU is more than any pool can give: the "
            "largest node of pool cpu has 16 x CPU",
            "ask for 16 x CPU, or add a pool with larger nodes",
        ),
        (
            ((shape(CPU=8), 3),),
            "STRICT_PACK",
            "too_large",
            "a gang of 3 (3 times 8 x CPU) on one node: 24 x CPU is more than any pool can give: the largest node of pool cpu "
            "has 16 x CPU",
            "ask for 2 instead of 3 times 8 x CPU",
        ),
        (
            ((shape(CPU=1), 4),),
            "STRICT_SPREAD",
            "pool_max",
            "a gang of 4 (4 times 1 x CPU) on as many nodes is served whole or not at all, and the limits allow only part of it: "
            "it takes 4 nodes, and pool cpu may have 3",
            "ask for 3 instead of 4 times 1 x CPU, or raise max of pool cpu from 3 to 4",
        ),
    ],
)
def test_a_placement_group_that_can_never_be_says_why(bundles, strategy, code, text, fix) -> None:
    group = want("g", bundles=bundles, gang=True, strategy=strategy, source="placement_group")
    found = explain_demand(
        situation(state(pools=(pool(max=3),)), group, offers=(offer(resources=amounts(CPU=16)),)), "g"
    )
    assert found is not None
    assert (found.reason.code, found.reason.text, found.reason.fix) == (code, text, fix)


def test_a_demand_that_is_being_served_says_by_what_and_when() -> None:
    found = explain_demand(situation(state(pools=(pool("gpu"),)), want("j", of=shape(GPU=1))), "j")
    assert found is not None
    assert (found.reason.code, found.eta, found.nodes) == ("launching", NOW + 60, ("gpu-1",))
    ready = explain_demand(situation(state(view("gpu-1", GPU), pools=(pool("gpu"),)), want("j", of=shape(GPU=1))), "j")
    assert ready is not None
    assert ready.reason.code == "placeable"
    assert explain_demand(situation(state()), "nobody") is None


def test_each_offer_that_was_passed_over_says_why() -> None:
    blocked = replace(GPU, zone="b", price=1.0)
    dearer = replace(GPU, instance_type="g9", price=9.0)
    later = replace(GPU, market="later", rank=1, price=0.1)
    small = replace(GPU, instance_type="g0", resources=amounts(CPU=1, GPU=0.5))
    h100 = replace(GPU, instance_type="h1", gpu_type="H100")
    absurd = replace(GPU, instance_type="free", price=-1.0)
    world = state(pools=(pool("gpu"),), blocks=(Block(blocked.key, NOW + 9, "no_capacity", "the zone has none"),))
    wanted = want("j", of=shape(GPU=1, gpu_type="L4"))
    asked = situation(world, wanted, offers=(GPU, blocked, dearer, later, small, h100, absurd))
    found = explain_demand(asked, "j")
    assert found is not None
    assert {p.offer_key.split("/", 1)[1]: p.reason.code for p in found.passed_over} == {
        "g1/on-demand/b": "no_capacity",
        "g9/on-demand/a": "dearer",
        "g1/later/a": "later_market",
        "g0/on-demand/a": "too_small",
        "h1/on-demand/a": "other_kind",
        "free/on-demand/a": "absurd_price",
    }
    assert explain_offer(asked, wanted, GPU).reason.code == "taken"
    assert explain_offer(asked, wanted, dearer).reason.code == "dearer"
    plain = want("k", of=shape(CPU=1))
    both = situation(state(pools=(pool(), pool("gpu"))), plain, offers=(GPU, offer(price=50.0)))
    assert explain_offer(both, plain, GPU).reason.code == "kept_for_gpu_work"


def test_a_node_says_why_it_is_there() -> None:
    pools = (pool(min=1),)
    small = offer()

    def code(node: object, **rest: object) -> str:
        found = explain_node(situation(state(node, pools=pools, **rest), offers=(small,)), "cpu-1")  # type: ignore[arg-type]
        assert found is not None
        return found.reason.code

    assert code(view(used=amounts(CPU=1))) == "working"
    assert code(view(idle_since=NOW - 9999)) == "min"
    assert code(view(state=NodeState.BOOTING, address="x")) == "booting"
    assert code(view(state=NodeState.FAILED, code="setup_failed", reason="set-up ended with 1")) == "setup_failed"
    assert code(view(used=amounts(CPU=1), heartbeat=NOW - 29)) == "working"
    assert code(view(used=amounts(CPU=1), heartbeat=NOW - 31)) == "unheard"
    pools = (pool(),)
    assert code(view(idle_since=NOW - 10)) == "idle"
    assert code(view(idle_since=None)) == "busy"
    assert explain_node(situation(state(), offers=(small,)), "cpu-1") is None


def test_a_story_runs_from_intent_to_end() -> None:
    steps = [
        Step(10.0, "planned", NodeState.PLANNED, "for 1 x GPU (j-1)"),
        Step(10.5, "requested", NodeState.REQUESTED),
        Step(70.5, "fail", NodeState.FAILED, "booting for more than 60 s"),
    ]
    assert story(steps) == [
        "+0.0 s planned -> planned: for 1 x GPU (j-1)",
        "+0.5 s requested -> requested",
        "+60.0 s fail -> failed: booting for more than 60 s",
    ]
