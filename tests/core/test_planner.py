"""What the planner decides in plain situations: one sentence each."""

from __future__ import annotations

from dataclasses import replace

import pytest

from clusterctl.core.lifetime import moment
from clusterctl.core.model import (
    Block,
    Failure,
    Instance,
    Limits,
    Mark,
    NodeState,
    Observed,
    Policy,
    Spend,
    Work,
    dead_after,
)
from clusterctl.core.upkeep import ABSENT, count_sightings
from tests.core.worlds import (
    NOW,
    UID,
    after,
    amounts,
    bought,
    codes,
    decide,
    instance_of,
    offer,
    ops,
    pool,
    seen,
    shape,
    state,
    view,
    want,
)

SMALL = offer(type_="small", price=1.0, resources=amounts(CPU=1))
LARGE = offer(type_="large", price=7.0, resources=amounts(CPU=8))
GPU = offer("gpu", "g1", price=3.0, resources=amounts(CPU=8, GPU=1), gpu_type="L4")


# ------------------------------------------------------------ buying


def test_a_queued_job_on_an_empty_cluster_launches_a_node_and_says_so() -> None:
    plan = decide(state(), want(refs=("j-1",)))
    (launch,) = ops(plan, "launch")
    assert launch.node_id == "cpu-1"
    assert launch.demand_ids == ("d",)
    assert "j-1" in launch.reason.text
    (wait,) = plan.waits
    assert (wait.reason.code, wait.nodes, wait.eta) == ("launching", ("cpu-1",), NOW + 60)


def test_free_capacity_is_used_before_anything_is_bought() -> None:
    plan = decide(state(view()), want())
    assert not plan.actions
    assert not plan.waits


def test_a_booting_node_is_waited_for_instead_of_buying_another() -> None:
    booting = view(state=NodeState.BOOTING, address="10.0.0.1")
    plan = decide(state(booting), want())
    assert not ops(plan, "launch")
    assert codes(plan) == {"d": "starting"}


def test_a_plan_after_a_plan_launches_nothing_more() -> None:
    world = state()
    first = decide(world, want(count=3))
    assert len(ops(first, "launch")) == 3
    assert not ops(decide(after(world, first), want(count=3)), "launch")


def test_many_small_demands_buy_the_large_node_when_it_is_cheaper_and_one_does_not() -> None:
    assert bought(decide(state(), want(count=8), offers=(SMALL, LARGE))) == ["large"]
    assert bought(decide(state(), want(count=1), offers=(SMALL, LARGE))) == ["small"]
    dear = replace(LARGE, price=9.0)
    assert bought(decide(state(), want(count=8), offers=(SMALL, dear))) == ["small"] * 8


def test_gpu_nodes_are_kept_for_gpu_work_while_a_cpu_offer_exists() -> None:
    world = state(pools=(pool(), pool("gpu")))
    plan = decide(world, want(), want("g", of=shape(GPU=1)), offers=(GPU, replace(SMALL, price=50.0)))
    assert bought(plan) == ["g1"]  # its one GPU is in use, so what is left of it serves the other job
    plan = decide(world, want(), offers=(GPU, replace(SMALL, price=50.0)))
    assert bought(plan) == ["small"]
    assert bought(decide(state(pools=(pool("gpu"),)), want(), offers=(GPU,))) == ["g1"]


def test_a_partition_of_a_gpu_never_serves_a_request_for_a_whole_one() -> None:
    half = offer("gpu", "half", price=0.1, resources=amounts(CPU=4, GPU=0.5))
    world = state(pools=(pool("gpu"),))
    assert bought(decide(world, want(of=shape(GPU=1)), offers=(half, GPU))) == ["g1"]
    assert codes(decide(world, want(of=shape(GPU=1)), offers=(half,))) == {"d": "too_large"}
    assert bought(decide(world, want(of=shape(GPU=0.5)), offers=(half, GPU))) == ["half"]


def test_shares_of_gpus_fill_one_device_at_a_time() -> None:
    two = offer("gpu", "g2", price=3.0, resources=amounts(GPU=2))
    world = state(pools=(pool("gpu"),))
    assert bought(decide(world, want(of=shape(GPU=0.25), count=8), offers=(two,))) == ["g2"]
    assert bought(decide(world, want(of=shape(GPU=0.6), count=3), offers=(two,))) == ["g2", "g2"]


def test_the_gpu_type_and_labels_that_are_asked_for_are_what_is_bought() -> None:
    world = state(pools=(pool("gpu"),))
    h100 = replace(GPU, instance_type="h", gpu_type="H100", price=30.0)
    assert bought(decide(world, want(of=shape(GPU=1, gpu_type="h100")), offers=(GPU, h100))) == ["h"]
    plan = decide(world, want(of=shape(GPU=1, gpu_type="B200")), offers=(GPU, h100))
    assert codes(plan) == {"d": "no_such_gpu_type"}
    assert plan.waits[0].reason.fix == "ask for H100 or L4"
    labelled = replace(GPU, instance_type="fast", labels=(("disk", "nvme"),), price=9.0)
    picky = want(of=shape(GPU=1, selectors=(("disk", "in(nvme,ssd)"),)))
    assert bought(decide(world, picky, offers=(GPU, labelled))) == ["fast"]


def test_spot_is_bought_first_and_on_demand_when_spot_is_blocked() -> None:
    spot = replace(SMALL, market="spot", price=0.3)
    on_demand = replace(SMALL, rank=1)
    assert ops(decide(state(), want(), offers=(on_demand, spot)), "launch")[0].offer == spot
    blocked = state(blocks=(Block(spot.key, NOW + 60, "no_capacity", "the zone has none"),))
    plan = decide(blocked, want(), offers=(on_demand, spot))
    assert ops(plan, "launch")[0].offer == on_demand
    assert plan.passed_over[0].reason.code == "no_capacity"


def test_a_block_of_everything_makes_demand_wait_until_the_block_ends() -> None:
    blocked = state(blocks=(Block("cpu/small/", NOW + 60, "quota_exceeded", "quota L-1216C47A is reached"),))
    plan = decide(blocked, want())
    assert codes(plan) == {"d": "quota_exceeded"}
    assert plan.wake_at == NOW + 60


def test_offers_without_a_believable_price_are_not_bought() -> None:
    for price in (float("nan"), float("inf"), -1.0, 1e9):
        plan = decide(state(), want(), offers=(replace(SMALL, price=price),))
        assert not ops(plan, "launch")
        assert plan.passed_over[0].reason.code == "absurd_price"


def test_work_for_the_head_and_other_work_do_not_mix() -> None:
    pools = (pool("head", 1, 1, role="head"), pool())
    head_offer = offer("head", "h", price=1.0, resources=amounts(CPU=4))
    head = view("head-1", head_offer, role="head")
    world = state(head, pools=pools)
    assert not decide(world, want(of=shape(CPU=1, pool="head")), offers=(SMALL, head_offer)).waits
    assert bought(decide(world, want(), offers=(SMALL, head_offer))) == ["small"]
    crowded = want(of=shape(CPU=1, pool="head"), count=5)
    assert codes(decide(world, crowded, offers=(SMALL, head_offer))) == {"d": "pool_max"}


def test_min_is_kept_and_the_head_comes_first() -> None:
    pools = (pool("cpu", 2, 5), pool("head", 1, 1, role="head"))
    head_offer = offer("head", "h", resources=amounts(CPU=4))
    plan = decide(state(pools=pools), offers=(SMALL, head_offer))
    assert [a.node_id for a in ops(plan, "launch")] == ["head-1", "cpu-1", "cpu-2"]
    assert {a.reason.code for a in ops(plan, "launch")} == {"min"}


def test_a_standing_request_counts_what_is_in_use_and_keeps_its_nodes() -> None:
    busy = view(used=amounts(CPU=1))
    idle = view("cpu-2", idle_since=NOW - 9999)
    request = want("r", count=2, source="request")
    plan = decide(state(busy, idle), request)
    assert not plan.actions
    assert len(ops(decide(state(busy, idle), want("r", count=3, source="request")), "launch")) == 1


def test_numbers_of_nodes_are_never_used_again() -> None:
    gone = view("cpu-7", state=NodeState.GONE)
    assert ops(decide(state(gone), want()), "launch")[0].node_id == "cpu-8"
    assert ops(decide(state(next_number=(("cpu", 12),)), want()), "launch")[0].node_id == "cpu-12"


# ------------------------------------------------------------ gangs


def test_a_gang_is_bought_whole_or_not_at_all() -> None:
    gang = want(bundles=((shape(CPU=1), 4),), gang=True)
    assert len(ops(decide(state(), gang), "launch")) == 4
    plan = decide(state(pools=(pool(max=3),)), gang)
    assert not plan.actions
    assert codes(plan) == {"d": "pool_max"}
    dear = state(limits=Limits(cost_per_hour=3.5))
    assert not decide(dear, gang).actions
    assert codes(decide(dear, gang)) == {"d": "cost_limit"}


def test_a_gang_that_cannot_be_whole_leaves_the_limit_to_others() -> None:
    gang = want("gang", bundles=((shape(CPU=1), 4),), gang=True)
    plan = decide(state(pools=(pool(max=3),)), gang, want("one", count=2))
    assert [a.demand_ids for a in ops(plan, "launch")] == [("one",), ("one",)]


def test_strict_spread_takes_as_many_nodes_as_bundles_and_strict_pack_one() -> None:
    bundles = ((shape(CPU=1), 3),)
    spread = want(bundles=bundles, gang=True, strategy="STRICT_SPREAD")
    assert bought(decide(state(), spread, offers=(SMALL, LARGE))) == ["small"] * 3
    pack = want(bundles=bundles, gang=True, strategy="STRICT_PACK")
    assert bought(decide(state(), pack, offers=(SMALL, LARGE))) == ["large"]


def test_a_gang_that_must_sit_on_one_node_of_two_pools_at_once_waits_and_says_so() -> None:
    bundles = ((shape(CPU=1, pool="cpu"), 1), (shape(CPU=1, pool="gpu"), 1))
    world = state(pools=(pool(), pool("gpu")))
    plan = decide(world, want(bundles=bundles, gang=True, strategy="STRICT_PACK"), offers=(SMALL, GPU))
    assert not plan.actions
    assert codes(plan) == {"d": "no_such_pool"}


def test_a_task_that_needs_nothing_still_gets_a_node() -> None:
    for price in (1.0, 0.0):
        plan = decide(state(), want(of=shape(), count=3), offers=(offer(price=price),))
        assert len(ops(plan, "launch")) == 1, price
        text = "waiting for 3 times a place on any node: launching small in a, ready in about 60 s"
        assert [wait.reason.text for wait in plan.waits] == [text]


def test_a_gang_of_one_zone_is_bought_in_the_zone_where_that_is_cheapest() -> None:
    zones = tuple(offer(zone=z, price=p) for z, p in (("a", 1.0), ("b", 0.9), ("c", 0.5)))
    gang = want(bundles=((shape(CPU=1), 3),), gang=True, one_zone=True)
    present = view("cpu-1", zones[1])
    plan = decide(state(present), gang, offers=zones[:2])
    assert {a.offer.zone for a in ops(plan, "launch")} == {"b"}
    assert len(ops(plan, "launch")) == 2
    assert {a.offer.zone for a in ops(decide(state(), gang, offers=zones), "launch")} == {"c"}


def test_higher_priority_is_served_first_when_limits_bind() -> None:
    world = state(pools=(pool(max=1),))
    plan = decide(world, want("low"), want("high", priority=5))
    assert ops(plan, "launch")[0].demand_ids == ("high",)
    assert codes(plan)["low"] == "pool_max"


# ------------------------------------------------------------ limits


def test_every_limit_says_what_would_let_it_pass() -> None:
    full = view(used=amounts(CPU=1))
    gpu_world = (pool("gpu"),)
    cases = [
        (state(full, pools=(pool(max=1),)), "pool_max", "raise max of pool cpu from 1 to 2"),
        (state(full, limits=Limits(nodes=1)), "nodes_limit", "raise limits.nodes from 1 to 2"),
        (state(full, limits=Limits(cost_per_hour=1.5)), "cost_limit", "raise limits.cost_per_hour from 1.5 to 2.00"),
        (state(full, limits=Limits(budget_per_day=10), spend=Spend(today=10)), "budget_per_day", "raise limits.budget"),
        (
            state(full, limits=Limits(budget_per_month=9), spend=Spend(month=9)),
            "budget_per_month",
            "raise limits.budget",
        ),
        (
            state(full, launches=(NOW - 1,), limits=Limits(launches_per_minute=1)),
            "launch_rate",
            "raise limits.launches",
        ),
        (state(full, failures=tuple(("cpu", NOW - n) for n in range(5))), "breaker_open", "see `clusterctl events`"),
        (state(full, pools=(pool(max_cost_per_hour=1.5),)), "pool_cost_limit", "raise the pool's cost limit"),
    ]
    for world, code, fix in cases:
        plan = decide(world, want())
        assert not ops(plan, "launch"), code
        assert codes(plan) == {"d": code}
        assert plan.waits[0].reason.fix.startswith(fix)
    plan = decide(state(pools=gpu_world, limits=Limits(gpus=1)), want(of=shape(GPU=1), count=2), offers=(GPU,))
    assert len(ops(plan, "launch")) == 1
    assert plan.waits[-1].reason.fix == "raise limits.gpus from 1 to 2"


def test_a_paused_pool_says_until_when_and_the_last_refusal_in_its_own_words() -> None:
    last = Failure("cpu", NOW - 30, "g5.xlarge spot in us-east-1a", "EC2 has no image ami-1")
    world = state(failures=tuple(("cpu", NOW - 100 - n) for n in range(5)), last_failures=(last,))
    (wait,) = decide(world, want()).waits
    assert f"until {moment(NOW + 600 - 104)}" in wait.reason.text
    assert (
        f"last, at {moment(NOW - 30)}, fake g5.xlarge spot in us-east-1a failed: EC2 has no image ami-1"
        in wait.reason.text
    )


def test_limits_that_loosen_by_themselves_wake_the_planner_then() -> None:
    rate = state(launches=(NOW - 10,), limits=Limits(launches_per_minute=1))
    assert decide(rate, want()).wake_at == NOW + 50
    breaker = state(failures=tuple(("cpu", NOW - 100 - n) for n in range(5)))
    assert decide(breaker, want()).wake_at == NOW + 600 - 104


def test_a_gang_that_needs_more_launches_than_a_minute_allows_gets_a_minute_to_itself() -> None:
    limits = Limits(launches_per_minute=2)
    gang = want("g", bundles=((shape(CPU=1), 5),), gang=True)
    assert len(ops(decide(state(limits=limits), gang), "launch")) == 5
    apart = replace(gang, strategy="STRICT_SPREAD")
    assert len(ops(decide(state(limits=limits), apart), "launch")) == 5
    one_zone = replace(gang, one_zone=True)
    assert len(ops(decide(state(limits=limits), one_zone), "launch")) == 5
    assert len(ops(decide(state(limits=limits), replace(gang, count=3)), "launch")) == 5
    never = decide(state(limits=Limits(launches_per_minute=0)), gang)
    assert not never.actions
    assert codes(never) == {"g": "launch_rate"}


def test_small_launches_do_not_starve_a_gang_that_waits_for_its_minute() -> None:
    gang, small = want("g", bundles=((shape(CPU=1), 5),), gang=True), want("s")
    world = state(launches=(NOW - 50.0, NOW - 10.0), limits=Limits(launches_per_minute=3))
    plan = decide(world, gang, small)
    assert not plan.actions
    assert codes(plan) == {"g": "launch_rate", "s": "launch_rate"}
    assert "5 launches, 3 a minute are allowed" in plan.waits[0].reason.text
    assert "kept for a gang of 5" in plan.waits[1].reason.text
    assert plan.wake_at == NOW + 10
    ready = decide(world, gang, small, now=NOW + 50)
    assert len(ops(ready, "launch")) == 5
    assert codes(ready) == {"g": "launching", "s": "launch_rate"}


def test_a_plan_wakes_for_the_deadlines_of_what_it_launches_and_ends_itself() -> None:
    assert decide(state(), want()).wake_at == NOW + 120 + 0.001
    acked = view(state=NodeState.DRAINING, drain="acked", code="idle")
    assert decide(state(acked)).wake_at == NOW + 600 + 0.001


def test_no_wake_up_is_lost_to_rounding() -> None:
    """Where since + timeout == now although now - since < timeout: each is compared as it is waited for."""
    for timeout in (0.1, 0.3, 0.7, 60.0, 300.0):
        for step in range(200):
            since = NOW + step * 0.1
            idle = view(idle_since=since)
            plan = decide(state(idle, pools=(pool(idle_timeout=timeout),)), now=since + timeout)
            assert ops(plan, "drain") or plan.wake_at is not None
            rate = state(launches=(since,), limits=Limits(launches_per_minute=1))
            plan = decide(rate, want(), now=since + 60.0)
            assert ops(plan, "launch")


def test_a_user_over_a_limit_waits_and_others_do_not() -> None:
    world = state(
        view("gpu-1", GPU, work=(Work("w", amounts(GPU=1), NOW, user="ada"),), free=amounts(CPU=8)),
        pools=(pool("gpu"),),
        limits=Limits(per_user=(("ada", (("gpus", 2.0),)),)),
    )
    plan = decide(
        world, want("a", of=shape(GPU=1), count=3, user="ada"), want("b", of=shape(GPU=1), user="bob"), offers=(GPU,)
    )
    assert len(ops(plan, "launch")) == 2
    (wait,) = [w for w in plan.waits if w.reason.code == "user_limit"]
    assert (wait.demand_id, wait.count) == ("a", 2)


# ------------------------------------------------------------ letting go


def test_an_idle_node_is_drained_after_its_time_out_and_ended_when_that_is_acknowledged() -> None:
    idle = view(idle_since=NOW - 301)
    assert ops(decide(state(idle)), "drain")[0].reason.code == "idle"
    early = decide(state(view(idle_since=NOW - 100)))
    assert not early.actions
    assert early.wake_at == NOW + 200
    draining = view(state=NodeState.DRAINING, drain="requested", code="idle")
    assert not decide(state(draining)).actions
    acked = replace(draining, drain="acked")
    assert ops(decide(state(acked)), "terminate")[0].instance_id == "i-cpu-1"


def test_a_node_with_work_is_not_ended_even_when_its_drain_is_acknowledged() -> None:
    busy = view(state=NodeState.DRAINING, drain="acked", code="idle", used=amounts(CPU=1))
    assert not ops(decide(state(busy)), "terminate")


def test_a_drain_for_idleness_is_called_back_when_demand_returns_and_one_by_a_person_is_not() -> None:
    draining = view(state=NodeState.DRAINING, drain="requested", code="idle")
    plan = decide(state(draining), want())
    assert [a.op for a in plan.actions] == ["undrain"]
    by_hand = view(state=NodeState.DRAINING, drain="requested", code="user")
    assert [a.op for a in decide(state(by_hand), want()).actions] == ["launch"]
    too_late = replace(draining, drain="acked")
    assert [a.op for a in decide(state(too_late), want()).actions] == ["terminate", "launch"]


def test_min_nodes_stay_however_idle_and_the_dearest_go_first() -> None:
    cheap = view("cpu-1", SMALL, idle_since=NOW - 999)
    dear = view("cpu-2", LARGE, idle_since=NOW - 400)
    plan = decide(state(cheap, dear, pools=(pool(min=1),)))
    assert [a.node_id for a in plan.actions] == ["cpu-2"]


def test_an_idle_node_that_demand_is_packed_onto_stays() -> None:
    assert not decide(state(view(idle_since=NOW - 999)), want()).actions


def test_nodes_above_max_go_those_that_never_came_up_first() -> None:
    nodes = (
        view("cpu-1", used=amounts(CPU=1)),
        view("cpu-2", idle_since=NOW - 1),
        view("cpu-3", state=NodeState.BOOTING, address="x"),
    )
    plan = decide(state(*nodes, pools=(pool(max=2),)))
    assert [(a.op, a.node_id) for a in plan.actions] == [("terminate", "cpu-3")]
    plan = decide(state(*nodes, pools=(pool(max=1),)))
    assert sorted((a.op, a.node_id) for a in plan.actions) == [("drain", "cpu-2"), ("terminate", "cpu-3")]


def test_nodes_of_an_older_spec_are_replaced_one_at_a_time_when_they_work() -> None:
    busy = tuple(view(f"cpu-{n}", used=amounts(CPU=1), spec_hash="old") for n in (1, 2, 3))
    world = state(*busy, pools=(pool(min=3, spec_hash="new"),))
    plan = decide(world)
    assert len(ops(plan, "drain")) == 1
    assert ops(plan, "drain")[0].reason.code == "spec_changed"
    assert len(ops(plan, "launch")) == 1
    wide = decide(world, policy=Policy(disruption_budget=2))
    assert len(ops(wide, "drain")) == 2


def test_a_pool_taken_out_of_the_spec_is_drained() -> None:
    plan = decide(state(view("old-1", offer("old"))))
    assert [(a.op, a.reason.code) for a in plan.actions] == [("drain", "pool_removed")]


def test_a_spot_notice_drains_with_its_deadline_and_buys_the_replacement_at_once() -> None:
    spot = replace(SMALL, market="spot", price=0.3)
    doomed = view(of=spot, used=amounts(CPU=1), preempt_at=NOW + 100)
    plan = decide(state(doomed), offers=(spot, replace(SMALL, rank=1)))
    (drain,) = ops(plan, "drain")
    assert (drain.deadline, drain.reason.code) == (NOW + 100, "spot_notice")
    assert len(ops(plan, "launch")) == 1
    assert not ops(decide(after(state(doomed), plan), offers=(spot,)), "launch")
    late = decide(state(replace(doomed, preempt_at=NOW - 1)), offers=(spot,))
    assert ops(late, "terminate")[0].reason.code == "spot_deadline"


# ------------------------------------------------------------ consolidation


def _half(node_id: str, of=LARGE, cpus: float = 3.0, **rest):
    work = (Work(f"w-{node_id}", amounts(CPU=cpus), NOW - 60, disturbable=True, **rest),)
    return view(node_id, of, work=work, free=of.resources - amounts(CPU=cpus))


def test_two_half_empty_nodes_become_one_when_their_work_may_be_disturbed() -> None:
    plan = decide(state(_half("cpu-1"), _half("cpu-2")), offers=(LARGE,))
    (drain,) = ops(plan, "drain")
    assert (drain.reason.code, drain.deadline) == ("consolidation", NOW + 60)
    fixed = tuple(
        replace(v, work=tuple(replace(w, disturbable=False) for w in v.work)) for v in (_half("cpu-1"), _half("cpu-2"))
    )
    assert not decide(state(*fixed), offers=(LARGE,)).actions


def test_work_far_from_its_last_checkpoint_is_not_moved() -> None:
    old = tuple(
        replace(v, work=tuple(replace(w, since=NOW - 7200) for w in v.work)) for v in (_half("cpu-1"), _half("cpu-2"))
    )
    assert not decide(state(*old), offers=(LARGE,)).actions
    saved = tuple(replace(v, work=tuple(replace(w, checkpointed=NOW - 5) for w in v.work)) for v in old)
    assert len(ops(decide(state(*saved), offers=(LARGE,)), "drain")) == 1


def test_a_cheaper_node_is_launched_first_and_the_dear_one_drained_when_it_is_up() -> None:
    dear, cheap = replace(LARGE, price=10.0), replace(LARGE, instance_type="cheap", price=2.0)
    world = state(_half("cpu-1", dear))
    first = decide(world, offers=(dear, cheap))
    assert [(a.op, a.reason.code) for a in first.actions] == [("launch", "consolidation")]
    assert bought(first) == ["cheap"]
    booting = after(world, first)
    assert not decide(booting, offers=(dear, cheap)).actions
    up = state(_half("cpu-1", dear), view("cpu-2", cheap, idle_since=NOW - 1))
    assert [(a.op, a.node_id) for a in decide(up, offers=(dear, cheap)).actions] == [("drain", "cpu-1")]


def test_consolidation_keeps_to_the_disruption_budget_and_can_be_switched_off() -> None:
    going = view("cpu-9", LARGE, state=NodeState.DRAINING, drain="requested", code="consolidation")
    pair = (_half("cpu-1"), _half("cpu-2"))
    assert not decide(state(*pair, going), offers=(LARGE,)).actions
    assert not decide(state(*pair), offers=(LARGE,), policy=Policy(consolidate=False)).actions


# ------------------------------------------------------------ observation


def test_each_state_has_its_deadline_and_then_the_node_fails() -> None:
    for life, limit in (
        (NodeState.PLANNED, 120),
        (NodeState.REQUESTED, 300),
        (NodeState.BOOTING, 600),
        (NodeState.JOINING, 900),
    ):
        node = view(state=life, since=NOW - limit - 1, instance_id="", address="x")
        plan = decide(state(node), observed=(seen(at=NOW - limit - 2),))
        assert [(a.op, a.event) for a in plan.actions] == [("mark", "fail")], life
        young = view(state=life, since=NOW - limit + 1, instance_id="", address="x")
        plan = decide(state(young), observed=(seen(at=NOW - limit),))
        assert not plan.actions
        assert plan.wake_at is not None
        assert abs(plan.wake_at - NOW - 1) < 0.01
        slow = state(node, pools=(pool(deadlines=((life.value, 5000.0),)),))
        assert not decide(slow, observed=(seen(at=NOW - limit - 2),)).actions


def test_a_node_that_waits_in_its_providers_line_has_no_deadline_before_its_turn() -> None:
    node = view(state=NodeState.REQUESTED, since=NOW - 5000, address="x")
    waits = instance_of(node, "pending", address="x", queued=True)
    plan = decide(state(node), observed=(seen(extra=(waits,)),))
    assert not plan.actions and (plan.wake_at is None or plan.wake_at > NOW)
    plan = decide(state(node), observed=(seen(extra=(replace(waits, queued=False),)),))
    assert [(a.op, a.event) for a in plan.actions] == [("mark", "fail")]


def test_a_failed_node_is_ended_and_one_that_never_had_an_instance_is_gone() -> None:
    failed = view(state=NodeState.FAILED)
    assert [a.op for a in decide(state(failed)).actions] == ["terminate"]
    never = view(state=NodeState.FAILED, instance_id="")
    plan = decide(state(never))
    assert [(a.op, a.event) for a in plan.actions] == [("mark", "gone")]


def test_the_record_follows_what_the_provider_shows() -> None:
    requested = view(state=NodeState.REQUESTED, instance_id="")
    found = Instance("i-9", UID, "cpu-1", 1, "running", address="10.0.0.9", created=NOW - 50)
    plan = decide(state(requested), observed=(seen(extra=(found,)),))
    (mark,) = ops(plan, "mark")
    assert (mark.event, mark.instance_id, mark.address) == ("running", "i-9", "10.0.0.9")


def test_a_node_missing_from_the_list_is_gone_after_two_looks_and_replaced() -> None:
    node = view(used=amounts(CPU=1))
    world = state(node, pools=(pool(min=1),))
    empty = (seen(),)
    once = replace(world, sightings=count_sightings(world, empty))
    assert dict(once.sightings) == {ABSENT + "cpu-1": 1}
    assert not ops(decide(once, observed=empty), "mark")
    twice = replace(once, sightings=count_sightings(once, empty))
    plan = decide(twice, observed=empty)
    assert [(a.op, getattr(a, "event", "")) for a in plan.actions] == [("mark", "gone"), ("launch", "")]


def test_a_node_just_launched_may_be_missing_from_the_list_until_its_deadline() -> None:
    young = view(state=NodeState.REQUESTED, since=NOW - 50)
    world = state(young, sightings=((ABSENT + "cpu-1", 9),))
    assert not decide(world, observed=(seen(),)).actions


def test_nothing_is_ended_on_the_word_of_an_incomplete_list() -> None:
    node = view(used=amounts(CPU=1))
    stray = Instance("i-x", UID, "cpu-9", 1, "running", created=NOW - 999)
    world = state(node, sightings=((ABSENT + "cpu-1", 9), ("i-x", 9)))
    assert not decide(world, observed=(seen(complete=False, extra=(stray,)),)).actions


def test_an_orphan_is_ended_after_two_sightings_and_a_stranger_never() -> None:
    stray = Instance("i-x", UID, "cpu-9", 1, "running", created=NOW - 999)
    foreign = Instance("i-y", "another-uid", "cpu-1", 1, "running", created=NOW - 999)
    looked = (seen(extra=(stray, foreign)),)
    once = state(sightings=count_sightings(state(), looked))
    assert not decide(once, observed=looked).actions
    twice = state(sightings=count_sightings(once, looked))
    (end,) = decide(twice, observed=looked).actions
    assert (end.op, end.instance_id, end.reason.code) == ("terminate", "i-x", "orphan")
    young = replace(stray, created=NOW - 5)
    assert not decide(twice, observed=(seen(extra=(young,)),)).actions


def test_the_second_machine_of_one_intent_is_an_orphan() -> None:
    node = view()
    twin = replace(instance_of(node), id="i-twin")
    world = state(node, sightings=(("i-twin", 2),))
    (end,) = decide(world, observed=(seen(node, extra=(twin,)),)).actions
    assert end.instance_id == "i-twin"


def test_a_silent_node_takes_no_new_work_and_is_given_up_when_it_must_have_ended_itself() -> None:
    quiet = view(heartbeat=NOW - 60)
    assert bought(decide(state(quiet), want())) == ["small"]
    doubtful = view(heartbeat=NOW - 901)  # its lease is over, and its work may take some seconds to end
    assert not decide(state(doubtful)).actions
    dead = view(heartbeat=NOW - dead_after(900) - 1)
    plan = decide(state(dead))
    assert [(a.op, a.event, a.reason.code) for a in plan.actions] == [("mark", "fail", "silent")]


def test_a_quarantined_node_is_left_alone_and_counted_against_limits() -> None:
    odd = view(state=NodeState.QUARANTINED)
    plan = decide(state(odd, pools=(pool(max=1),)), want())
    assert not plan.actions
    assert codes(plan) == {"d": "pool_max"}


@pytest.mark.parametrize(("shown", "event"), [("terminated", "gone"), ("stopping", "fail")])
def test_a_spot_machine_that_the_provider_took_back_is_a_spot_interruption(shown: str, event: str) -> None:
    lost = view("cpu-1", offer(market="spot"))
    taken = instance_of(lost, shown, reclaimed=True, detail="Spot instance termination")
    (mark,) = decide(state(lost), observed=(Observed("all", (taken,), True, NOW),)).actions
    assert isinstance(mark, Mark) and (mark.event, mark.reason.code) == (event, "spot_interruption")
    assert mark.reason.text.startswith("spot interruption: ") and "Spot instance termination" in mark.reason.text
