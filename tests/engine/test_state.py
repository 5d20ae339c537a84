"""What Ray wants and holds is seen soon, and Ray does what it is told: resize, drain, hold GPUs."""

from __future__ import annotations

import sys
import time

import pytest
from clusterctl_runtime.engine.client import EngineClient, EngineRefused

from clusterctl.core.resources import Resources
from tests.support.cluster import wait_until

SEEN_WITHIN = 10.0  # on a busy machine; one that does nothing else needs about half a second
ENGINE_WORK = """
import sys, time, ray
ray.init(log_to_driver=False)
{body}
print(time.time())
sys.stdin.read()
"""


def wanted(state, source):
    return [d for d in state.demand if d.source == source]


def seen(cluster, body, source, count):
    """Runs `body` in a driver, sees demand of `source` in time, and returns it once `count` are wanted: Ray itself tells the
    first of a shape at once, and how many more wait behind it up to a second later."""
    cluster.quiet()
    with cluster.driver(ENGINE_WORK.format(body=body)) as driver:
        before = len(cluster.states)
        asked = float(driver.line())
        state = cluster.until(lambda s: sum(d.count for d in wanted(s, source)) == count)
        at = next(t for t, s in cluster.states[before:] if wanted(s, source))
        print(f"{source}: seen after {at - asked:.3f} s")
        assert at - asked < SEEN_WITHIN
        assert driver.end() == 0
    return wanted(state, source)


def test_pending_tasks_are_seen_by_shape_soon(cluster):
    body = """
@ray.remote(num_cpus=3, resources={"TPU": 1})
def big(): pass
@ray.remote(num_gpus=0.5, num_cpus=0, accelerator_type="L4", label_selector={"team": "!in(a,b)"})
def selective(): pass
waiting = [big.remote() for _ in range(4)] + [selective.remote()]
"""
    by_cpu = {d.bundles[0][0].resources.get("CPU"): d for d in seen(cluster, body, "task", 5)}
    assert by_cpu[3].count == 4 and by_cpu[3].bundles[0][0].resources == Resources.of(CPU=3, TPU=1)
    shape = by_cpu[0].bundles[0][0]
    assert (shape.resources, shape.gpu_type, shape.selectors) == (Resources.of(GPU=0.5), "L4", (("team", "!in(a,b)"),))


def test_pending_actors_are_seen_soon(cluster):
    body = """
@ray.remote(num_gpus=3)
class Big: pass
actors = [Big.remote() for _ in range(2)]
"""
    (demand,) = seen(cluster, body, "task", 2)
    assert demand.bundles[0][0].resources.get("GPU") == 3


@pytest.mark.parametrize("strategy", ["PACK", "SPREAD", "STRICT_PACK", "STRICT_SPREAD"])
def test_placement_groups_are_seen_as_gangs_soon(cluster, strategy):
    body = f"""
group = ray.util.placement_group([{{"CPU": 4}}, {{"CPU": 4}}, {{"CPU": 1, "GPU": 1}}], strategy={strategy!r})
@ray.remote(num_cpus=4)
def inside(): pass
waits = inside.options(scheduling_strategy=ray.util.scheduling_strategies.PlacementGroupSchedulingStrategy(group)).remote()
""".replace("group = ", "import ray.util.scheduling_strategies\ngroup = ", 1)
    (demand,) = seen(cluster, body, "placement_group", 1)
    assert demand.gang and demand.strategy == strategy
    assert {shape.resources: n for shape, n in demand.bundles} == {
        Resources.of(CPU=4): 2,
        Resources.of(CPU=1, GPU=1): 1,
    }


def test_requested_resources_are_seen_and_can_be_forgotten(cluster):
    body = """
from ray.autoscaler.sdk import request_resources
request_resources(num_cpus=5, bundles=[{"GPU": 4}])
"""
    demand = seen(cluster, body, "request", 6)
    assert sorted((str(d.bundles[0][0].resources), d.count) for d in demand) == [("1 x CPU", 5), ("4 x GPU", 1)]
    wait_until(lambda: cluster.loop.run(cluster.client.forget_requests()), what="Ray sees that its driver has ended")
    cluster.until(lambda s: not s.demand and s.drivers is None)


def test_a_node_carries_our_id_and_is_idle_only_while_nothing_runs_there(cluster):
    cluster.quiet()
    body = """
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy
node = next(n["NodeID"] for n in ray.nodes() if n["Alive"] and n["Resources"].get("TPU"))
@ray.remote(num_cpus=0)
class Small:
    def ping(self): pass
small = Small.options(scheduling_strategy=NodeAffinitySchedulingStrategy(node, soft=False)).remote()
ray.get(small.ping.remote())
"""
    with cluster.driver(ENGINE_WORK.format(body=body)) as driver:
        assert driver.line()
        cluster.until(lambda _: cluster.node("cpu").status == "RUNNING")
        assert cluster.node("cpu").activity
        node = cluster.node("cpu").ray_node_id
        assert not cluster.loop.run(cluster.client.drain_if_idle(node, "test")), "an actor without resources"
        driver.end()
    cluster.until(lambda _: cluster.node("cpu").status == "IDLE" and not cluster.node("cpu").activity)


def test_shrinking_takes_what_is_free_and_leaves_what_tasks_hold(cluster):
    cluster.quiet()
    node = cluster.node("cpu").ray_node_id
    body = f"""
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy
@ray.remote(num_cpus=1, scheduling_strategy=NodeAffinitySchedulingStrategy({node!r}, soft=False))
class Holder:
    def ping(self): pass
holder = Holder.remote()
ray.get(holder.ping.remote())
"""
    with cluster.driver(ENGINE_WORK.format(body=body)) as driver:
        assert driver.line()
        started = time.perf_counter()
        in_force = cluster.loop.run(cluster.client.resize(node, {"CPU": 0, "TPU": 0}))
        print(f"resize: {(time.perf_counter() - started) * 1000:.1f} ms")
        assert in_force["CPU"] == 1 and "TPU" not in in_force
        driver.end()
    in_force = cluster.loop.run(cluster.client.resize(node, {"CPU": 2, "TPU": 1}))
    assert (in_force["CPU"], in_force["TPU"]) == (2, 1)
    cluster.until(lambda _: cluster.node("cpu").total.get("CPU") == 2)


def test_gpus_stay_as_they_are_when_a_node_is_resized(cluster):
    cluster.quiet()
    node = cluster.node("gpu").ray_node_id
    assert cluster.loop.run(cluster.client.resize(node, {"CPU": 0, "GPU": 1}))["GPU"] == 2
    assert cluster.loop.run(cluster.client.resize(node, {"CPU": 1}))["CPU"] == 1


def test_held_gpus_have_distinct_ids_and_are_nobodys_work(cluster):
    cluster.quiet()
    node, client, run = cluster.node("gpu").ray_node_id, cluster.client, cluster.loop.run
    started = time.perf_counter()
    first, one = run(client.hold_gpus(node, 1))
    print(f"hold: {time.perf_counter() - started:.2f} s")
    cluster.until(lambda _: cluster.node("gpu").available.get("GPU") == 1)
    second, other = run(client.hold_gpus(node, 1))
    assert sorted(one + other) == [0, 1]
    cluster.until(lambda _: cluster.node("gpu").available.get("GPU") == 0)
    held = cluster.node("gpu")
    assert held.total == held.available and held.total.get("GPU") == 0 and not held.activity
    with pytest.raises(EngineRefused, match="no 1 free GPUs"):
        run(client.hold_gpus(node, 1))
    for hold in (first, second, first):
        run(client.release_gpus(hold))
    cluster.until(lambda _: cluster.node("gpu").available.get("GPU") == 2)


def test_shares_of_a_gpu_are_held_beside_each_other_on_one_device(cluster):
    cluster.quiet()
    node, client, run = cluster.node("gpu").ray_node_id, cluster.client, cluster.loop.run
    first, one = run(client.hold_gpus(node, 0.5))
    second, other = run(client.hold_gpus(node, 0.5))
    assert one == other and len(one) == 1
    cluster.until(lambda _: cluster.node("gpu").available.get("GPU") == 1)
    whole, ids = run(client.hold_gpus(node, 1))
    assert ids != one
    cluster.until(lambda _: cluster.node("gpu").total.get("GPU") == 0)
    for hold in (first, second, whole):
        run(client.release_gpus(hold))
    cluster.until(lambda _: cluster.node("gpu").available.get("GPU") == 2)


WANTS_GPU = """
import sys, ray
ray.init(log_to_driver=False)
@ray.remote(num_gpus=1, num_cpus=0)
def which(): return ray.get_gpu_ids()
waiting = which.remote()
print("asked")
print(ray.get(waiting))
sys.stdin.read()
"""


def test_ray_gives_held_gpus_to_nobody_while_the_helper_dies_and_comes_back(cluster):
    cluster.quiet()
    hold, ids = cluster.loop.run(cluster.client.hold_gpus(cluster.node("gpu").ray_node_id, 2))
    with cluster.driver(WANTS_GPU) as driver:  # takes what it can get, at once
        assert driver.line() == "asked"
        cluster.until(lambda s: wanted(s, "task"))
        cluster.client._process.kill()
        cluster.until(lambda s: not s.healthy)
        cluster.until(lambda s: s.healthy and s.nodes and wanted(s, "task"))
        assert cluster.node("gpu").available.get("GPU") == 0
        assert cluster.loop.run(cluster.client.strays()) == []
        cluster.loop.run(cluster.client.release_gpus(hold))
        assert int(driver.line().strip("[]")) in ids
        driver.end()
    cluster.until(lambda _: cluster.node("gpu").available.get("GPU") == 2)


def test_holds_are_found_again_by_the_next_head_and_go_when_it_lets_go_of_them(cluster):
    cluster.quiet()
    node, run = cluster.node("gpu").ray_node_id, cluster.loop.run
    hold, ids = run(cluster.client.hold_gpus(node, 1))
    following = EngineClient(sys.executable, cluster.address, cluster.token_path, lambda _: None)
    run(following.start())
    try:
        wait_until(lambda: following.state.healthy and following.state.nodes, what="its state")
        (stray,) = run(following.strays())
        assert (stray.id, stray.ray_node_id, stray.gpus, list(stray.ids)) == (hold, node, 1, ids)
        following.adopt(stray)
        assert run(following.strays()) == [] and following.knows(hold)
        run(following.release_gpus(hold))
    finally:
        run(following.stop())
    cluster.until(lambda _: cluster.node("gpu").available.get("GPU") == 2)
    run(cluster.client.release_gpus(hold))
    cluster.quiet()


def test_a_release_while_the_helper_is_away_is_done_when_it_is_back(cluster):
    cluster.quiet()
    hold, _ = cluster.loop.run(cluster.client.hold_gpus(cluster.node("gpu").ray_node_id, 2))
    cluster.client._process.kill()
    cluster.until(lambda s: not s.healthy)
    cluster.loop.run(cluster.client.release_gpus(hold))
    cluster.until(lambda s: s.healthy and s.nodes and cluster.node("gpu").available.get("GPU") == 2)
    cluster.quiet()


def test_our_nodes_on_the_way_are_shown_by_ray_itself(cluster):
    pending = [
        {"instance_id": "cpu-2@1", "ray_node_type_name": "cpu", "instance_type_name": "local", "details": "booting"}
    ]
    cluster.loop.run(cluster.client.report(pending, []))
    with cluster.driver("from ray.scripts.scripts import cli; cli(['status'])") as driver:
        text = driver.process.communicate()[0]
    assert "cpu-2@1: cpu, booting" in text


def test_what_waits_is_known_by_driver_and_what_is_on_a_node_by_name(cluster):
    cluster.quiet()
    body = """
import ray.util.scheduling_strategies as strategies
node = next(n["NodeID"] for n in ray.nodes() if n["Alive"] and n["Resources"].get("TPU"))
@ray.remote(num_cpus=3, label_selector={"team": "in(b,a)"})
def big(): pass
@ray.remote(num_gpus=3)
class Big: pass
@ray.remote(num_cpus=0, scheduling_strategy=strategies.NodeAffinitySchedulingStrategy(node, soft=False))
class Small:
    def ping(self): pass
waiting = [big.remote() for _ in range(4)], Big.remote()
small = Small.options(name="keeper", namespace="kept", lifetime="detached").remote()
ray.get(small.ping.remote())
group = ray.util.placement_group([{"CPU": 64}], strategy="STRICT_PACK")
inside = big.options(scheduling_strategy=strategies.PlacementGroupSchedulingStrategy(group), label_selector={}).remote()
small_group = ray.util.placement_group([{"CPU": 1, "TPU": 1}], name="small")
ray.get(small_group.ready())
"""
    run = cluster.loop.run
    with cluster.driver(ENGINE_WORK.format(body=body)) as driver:
        assert driver.line()
        state = cluster.until(lambda s: sum(d.count for d in s.demand) == 6)

        def all_waiting():
            """Ray's table is up to a second behind its demand."""
            found = run(cluster.client.waiting())
            return found if found and sum(found[0].tasks.values()) == 4 else None

        (found,) = wait_until(all_waiting)
        assert found.driver == "j-test/1/0"
        assert {*found.tasks, *found.actors, *found.groups} == {d.id for d in state.demand}
        assert list(found.actors.values()) == [1] and len(found.groups) == 1
        users = run(cluster.client.users(cluster.node("cpu").ray_node_id))
        assert [(u.kind, u.name, u.driver, u.detached) for u in users] == [
            ("actor", "keeper", "j-test/1/0", True),
            ("placement group", "small", "j-test/1/0", False),
        ]
        started = time.perf_counter()
        run(cluster.client.waiting())
        print(f"who waits: {(time.perf_counter() - started) * 1000:.1f} ms")
        driver.end()
    wait_until(lambda: run(cluster.client.waiting()) == (), what="Ray sees that its driver has ended")
    assert [u.name for u in run(cluster.client.users(cluster.node("cpu").ray_node_id))] == ["keeper"]
    assert cluster.node("cpu").status == "RUNNING", (
        "a node with a detached actor is not idle, though its driver has ended"
    )
    with cluster.driver(ENGINE_WORK.format(body='ray.kill(ray.get_actor("keeper", "kept"))')) as driver:
        assert driver.line()
        driver.end()
    cluster.until(lambda _: cluster.node("cpu").status == "IDLE")


def test_what_was_requested_stays_while_any_driver_runs(cluster):
    cluster.quiet()
    body = """
from ray.autoscaler.sdk import request_resources
request_resources(bundles=[{"GPU": 4}])
"""
    run = cluster.loop.run
    with cluster.driver(ENGINE_WORK.format(body="")) as other:
        assert other.line()
        with cluster.driver(ENGINE_WORK.format(body=body)) as asking:
            assert asking.line()
            cluster.until(lambda s: len(s.drivers or ()) == 2)
            asking.end()
        cluster.until(lambda s: len(s.drivers or ()) == 1)
        assert not run(cluster.client.forget_requests()), "it may have asked for the same"
        assert cluster.client.state.demand
        other.end()
    cluster.until(lambda s: s.drivers == ())
    assert run(cluster.client.forget_requests())
    cluster.until(lambda s: not s.demand and s.drivers is None)
