"""What Ray tells becomes the core's demand, without what no new node would serve."""

from __future__ import annotations

import pytest
from clusterctl_runtime.engine.demand import (
    BELIEVED_AFTER,
    believed,
    demand_of,
    plain_resources,
    shape_of,
    without_orphans,
)

from clusterctl.core.model import Demand, Shape
from clusterctl.core.resources import Resources


def state(tasks=(), gangs=(), requests=()):
    return {"tasks": list(tasks), "gangs": list(gangs), "requests": list(requests)}


def entry(count=1, selectors=None, **resources):
    return {"resources": resources, "selectors": selectors or {}, "count": count}


def test_tasks_are_counted_by_shape_and_remember_since_when_they_wait():
    first = demand_of(state([entry(3, CPU=1), entry(2, GPU=0.5)]), {}, now=10.0)
    since = {d.id: d.since for d in first}
    second = demand_of(state([entry(5, CPU=1)]), since, now=20.0)
    assert second == (Demand(second[0].id, "task", ((Shape(Resources.of(CPU=1)), 1),), count=5, since=10.0),)


def test_a_placement_group_is_one_gang_with_its_bundles():
    gang = {"id": "ab" * 18, "strategy": "STRICT_SPREAD", "bundles": [entry(2, CPU=4), entry(1, GPU=1, CPU=1)]}
    (demand,) = demand_of(state(gangs=[gang]), {}, now=1.0)
    assert demand.gang and demand.count == 1 and demand.strategy == "STRICT_SPREAD"
    assert demand.refs == ("ab" * 18,)
    assert set(demand.bundles) == {(Shape(Resources.of(CPU=4)), 2), (Shape(Resources.of(GPU=1, CPU=1)), 1)}


def test_a_group_that_replaces_another_is_believed_once_what_the_other_held_must_be_free():
    """As Ray 2.60 told it: one of two nodes lost, its group removed and made anew. Bought for at 9.0, it would be two nodes for
    one that is missing."""
    gang = {"id": "cd" * 18, "strategy": "SPREAD", "bundles": [entry(2, GPU=1)]}
    told = demand_of(state(tasks=[entry(1, GPU=1)], gangs=[gang]), {}, now=9.0)
    (task,) = (d for d in told if d.source == "task")
    assert believed(told, {"CPU", "GPU"}, now=9.0) == (task,), "the old group's GPU looks used on the node that is left"
    assert believed(told, {"CPU", "GPU"}, now=9.0 + BELIEVED_AFTER) == told
    assert believed(told, {"CPU"}, now=9.0) == told, "nothing of it is in use: nothing could be counted twice"


def test_what_was_requested_is_no_demand_once_no_driver_runs_however_often_it_is_said_again():
    told = demand_of(state(tasks=[entry(1, GPU=1)], requests=[entry(2, CPU=1)]), {}, now=9.0)
    (task,) = (d for d in told if d.source == "task")
    assert without_orphans(told, ()) == (task,), "of an actor that is detached, say: it runs without a driver"
    assert without_orphans(told, ("j-1/1/0",)) == without_orphans(told, None) == told


@pytest.mark.parametrize(
    "resources",
    [
        {"CPU_group_0_abcdef0123": 1.0, "CPU_group_abcdef0123": 1.0},
        {"bundle_group_abcdef0123": 0.001},
        {"node:10.0.0.7": 0.001, "CPU": 1.0},
        {"node:__internal_head__": 0.001},
        {},
    ],
)
def test_what_no_new_node_would_serve_is_no_demand(resources):
    assert demand_of(state([entry(1, **resources)]), {}, now=0.0) == ()


def test_gpu_types_and_pools_are_read_from_resources_and_labels():
    by_resource = shape_of(entry(GPU=1, **{"accelerator_type:L4": 0.001}))
    by_label = shape_of(
        entry(GPU=1, selectors={"ray.io/accelerator-type": "L4", "ray.io/node-group": "gpu", "team": "!a"})
    )
    assert by_resource == Shape(Resources.of(GPU=1), "L4")
    assert by_label == Shape(Resources.of(GPU=1), "L4", "gpu", (("team", "!a"),))
    open_choice = shape_of(entry(GPU=1, selectors={"ray.io/accelerator-type": "in(A100,H100)"}))
    assert open_choice == Shape(Resources.of(GPU=1), selectors=(("ray.io/accelerator-type", "in(A100,H100)"),))


def test_resources_of_rays_own_are_left_out_of_a_nodes_books():
    raw = {
        "CPU": 2.0,
        "node:127.0.0.1": 1.0,
        "object_store_memory": 1e9,
        "accelerator_type:L4": 1.0,
        "CPU_group_0_ab12": 1.0,
    }
    assert plain_resources(raw) == Resources.of(CPU=2)
