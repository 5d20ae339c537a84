"""The planner and the dispatcher agree on what room is kept for whom, so that nothing waits without a reason."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from clusterctl.core.model import Demand, NodeState, NodeView, Shape, Work
from clusterctl.core.scheduling.placement import STARVE_AFTER, Request, place
from tests.core.arbitrary import World, resources, worlds
from tests.core.worlds import NOW, amounts, codes, decide, offer, ops, pool, shape, state, view, want

FOUR = offer(type_="four", resources=amounts(CPU=4))
LONG_AGO = NOW - STARVE_AFTER


def test_room_that_a_starving_job_keeps_is_not_counted_on_for_others() -> None:
    world = state(view("cpu-1", FOUR, used=amounts(CPU=2)), pools=(pool(max=2),))
    large, small = want("large", of=shape(CPU=5), since=LONG_AGO), want("small", since=NOW)
    assert not ops(decide(world, large, small, offers=(FOUR,)), "launch")  # no node could ever hold it: nothing is kept
    large = replace(large, bundles=((shape(CPU=4), 1),))
    full = replace(world, pools=(pool(max=1),))
    plan = decide(full, large, small, offers=(FOUR,))
    assert codes(plan) == {"large": "pool_max", "small": "pool_max"}
    assert plan.waits[0].nodes == ("cpu-1",)
    assert "nothing else starts on cpu-1" in plan.waits[0].reason.text
    young = replace(large, since=LONG_AGO + 5)
    plan = decide(full, young, small, offers=(FOUR,))
    assert codes(plan) == {"large": "pool_max"}
    assert plan.wake_at == NOW + 5


def test_for_a_job_behind_kept_nodes_another_is_bought() -> None:
    gpus = offer("gpu", "g", price=9.0, resources=amounts(CPU=4, GPU=4), gpu_type="L4")
    world = state(view("gpu-1", gpus, used=amounts(GPU=2)), pools=(pool(), pool("gpu", max=1)))
    starving = want("gpus", of=shape(GPU=4), since=LONG_AGO)
    plan = decide(world, starving, want("cpu", of=shape(CPU=2)), offers=(gpus, FOUR))
    assert [launch.offer.instance_type for launch in ops(plan, "launch")] == ["four"]
    assert codes(plan) == {"gpus": "pool_max", "cpu": "launching"}


def test_tasks_of_the_engine_still_use_kept_room_since_the_engine_places_them() -> None:
    world = state(view("cpu-1", FOUR, used=amounts(CPU=2)), pools=(pool(max=1),))
    plan = decide(world, want("large", of=shape(CPU=4), since=LONG_AGO), want("task", source="task"), offers=(FOUR,))
    assert codes(plan) == {"large": "pool_max"}


def test_an_idle_node_that_is_kept_for_a_gang_stays_until_the_others_are_free() -> None:
    nodes = (view("cpu-1", FOUR, used=amounts(CPU=4)), view("cpu-2", FOUR, idle_since=NOW - 400))
    gang = want("gang", bundles=((shape(CPU=4), 2),), gang=True, strategy="STRICT_SPREAD", since=LONG_AGO)
    assert not decide(state(*nodes, pools=(pool(max=2),)), gang, offers=(FOUR,)).actions
    young = replace(gang, since=NOW)
    assert ops(decide(state(*nodes, pools=(pool(max=2),)), young, offers=(FOUR,)), "drain")


def test_what_is_called_back_from_its_drain_for_a_job_is_its_reason_to_wait() -> None:
    draining = view(state=NodeState.DRAINING, drain="requested", code="idle")
    plan = decide(state(draining), want())
    assert ops(plan, "undrain")
    assert codes(plan) == {"d": "returning"}


# ---------------------------------------------------------------- in any world


@st.composite
def queues(draw: st.DrawFn) -> tuple[Demand, ...]:
    """Queued jobs as the head describes them, in the order of the queue."""
    found: list[Demand] = []
    for number in range(draw(st.integers(1, 5))):
        ranks = draw(st.sampled_from([1, 1, 1, 2, 3]))
        found.append(
            Demand(
                f"d{number}",
                "job",
                ((Shape(draw(resources(6)), pool=draw(st.sampled_from(["", "", "", "cpu", "head"]))), ranks),),
                count=draw(st.integers(1, 3)),
                gang=ranks > 1,
                strategy=draw(st.sampled_from(["", "STRICT_SPREAD"])) if ranks > 1 else "",
                priority=draw(st.integers(0, 1)),
                since=NOW - draw(st.sampled_from([0.0, STARVE_AFTER - 1, STARVE_AFTER, 5000.0])),
            )
        )
    return tuple(found)


def dispatched(world: World, queue: tuple[Demand, ...]) -> tuple[World, tuple[Demand, ...]]:
    """The world once the dispatcher started what it would start, and what still waits."""
    requests = [
        Request(f"{d.id}/{n}", d.bundles, d.gang, d.strategy, since=d.since) for d in queue for n in range(d.count)
    ]
    started = place(requests, world.state.nodes, now=world.now).placed
    counts = Counter(request_id.split("/")[0] for request_id, _ in started)
    shapes = {d.id: d.bundles[0][0] for d in queue}
    held: dict[str, list[Work]] = {}
    for request_id, nodes in started:
        for rank, node_id in enumerate(nodes):
            work = Work(f"{request_id}/{rank}", shapes[request_id.split("/")[0]].resources, world.now)
            held.setdefault(node_id, []).append(work)
    views = tuple(_with_work(v, held.get(v.node.id, [])) for v in world.state.nodes)
    waiting = tuple(replace(d, count=d.count - counts[d.id]) for d in queue if d.count > counts[d.id])
    return replace(world, state=replace(world.state, nodes=views)), waiting


def _with_work(before: NodeView, work: list[Work]) -> NodeView:
    if not work:
        return before
    free = before.free
    for piece in work:
        free = free - piece.resources
    return replace(before, free=free, work=(*before.work, *work), idle_since=None)


@settings(max_examples=300, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
@given(worlds(), queues())
def test_every_copy_that_the_dispatcher_did_not_start_has_a_wait_with_a_reason(world: World, queue) -> None:
    world, waiting = dispatched(world, queue)
    plan = replace(world, demand=waiting).plan()
    said = Counter[str]()
    for wait in plan.waits:
        said[wait.demand_id] += wait.count
        assert wait.reason.text
    for demand in waiting:
        assert said[demand.id] >= demand.count, demand
