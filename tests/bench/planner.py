"""How long a plan takes, how that grows, and what it costs: ours, and Ray's own scheduler on the same worlds.

Times are processor seconds of one thread, so that other load on the machine hardly counts, for either side.
"""

from __future__ import annotations

import gc
import random
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from clusterctl.core.explain import explain_demand
from clusterctl.core.model import (
    Demand,
    Limits,
    Node,
    NodeState,
    NodeView,
    Observed,
    Offer,
    Plan,
    Policy,
    Pool,
    Shape,
    State,
    launch_token,
)
from clusterctl.core.planner import plan
from clusterctl.core.resources import Resources
from clusterctl.core.scheduling.placement import Request, place
from clusterctl.core.scheduling.remedies import Situation
from tests.bench.rows import Row, percentile, row

UID = "6b0f9c5e-3c39-4d44-9d53-6a1f0f2f7b11"
NOW = 1_000_000.0
GIB = 2**30


@dataclass(frozen=True)
class World:
    """`nodes` are half full; `demand` is queued work by shape."""

    state: State
    demand: tuple[Demand, ...]
    offers: tuple[Offer, ...]
    observed: tuple[Observed, ...]

    def plan(self) -> Plan:
        return plan(Policy(), self.observed, self.state, self.demand, self.offers, NOW)


def make_world(nodes: int, jobs: int, shapes: int, offers: int, *, zones: int = 4, seed: int = 1) -> World:
    """Types of nodes priced about as clouds do, each in `zones` zones and two markets where `offers` is large enough."""
    rng = random.Random(seed)
    variants = zones * 2 if zones > 1 else 1
    market: list[Offer] = []
    types: list[Offer] = []
    for number in range(max(1, offers // variants)):
        cpus, gpus, per_cpu = 2 ** rng.randrange(2, 7), rng.choice([0, 0, 1, 2, 4, 8]), rng.choice([2, 4, 8])
        bag = Resources.of({"CPU": cpus, "memory": cpus * per_cpu * GIB, "GPU": gpus})
        price = round(cpus * 0.04 + cpus * per_cpu * 0.005 + gpus * rng.uniform(0.5, 2.5), 4)
        pool = "gpu" if gpus else "cpu"
        for variant in range(variants):
            spot = variants > 1 and variant % 2 == 0
            offer = Offer(
                pool,
                f"t{number}",
                "spot" if spot else "on-demand",
                f"z{variant // 2}",
                round(price * (0.35 if spot else 1.0) * (rng.uniform(0.97, 1.03) if variants > 1 else 1.0), 4),
                bag,
                gpu_type="L4" if gpus else "",
                rank=0 if spot or variants == 1 else 1,
            )
            market.append(offer)
        types.append(market[-1])
    demand: list[Demand] = []
    for number in range(shapes):
        of = rng.choice(types).resources
        cpus = max(1, int(of.get("CPU") * rng.choice([0.1, 0.25, 0.5])))
        gpus = min(of.get("GPU"), rng.choice([0, 0.5, 1, 1, 2]))
        shape = Shape(Resources.of({"CPU": cpus, "memory": cpus * rng.choice([1, 2]) * GIB, "GPU": gpus}))
        demand.append(Demand(f"d{number}", "job", ((shape, 1),), jobs // shapes))
    views = tuple(_half_full(number, rng.choice(types), rng) for number in range(nodes))
    pools = (Pool("cpu", "fake", 0, 10**6), Pool("gpu", "fake", 0, 10**6))
    state = State("bench", UID, pools, views, Limits(launches_per_minute=None))
    return World(state, tuple(demand), tuple(market), (Observed("all", (), True, NOW - 1000),))


def _half_full(number: int, offer: Offer, rng: random.Random) -> NodeView:
    """A node with a quarter, half or three quarters in use, its GPUs in whole ones."""
    part = rng.choice([0.25, 0.5, 0.75])
    units = offer.resources.to_dict()
    free = {name: int(amount * (1 - part)) for name, amount in units.items()}
    node_id = f"{offer.pool}-{number}"
    token = launch_token(UID, node_id, 1)
    node = Node(node_id, 1, token, offer, NodeState.READY, NOW - 500, NOW - 600, instance_id=f"i-{number}")
    return NodeView(node, offer.resources, Resources.of(free))


def _seconds(call: Callable[[], object]) -> float:
    gc.collect()
    started = time.process_time()
    call()
    return time.process_time() - started


def _p95(world: World, runs: int) -> float:
    world.plan()
    return percentile([_seconds(world.plan) for _ in range(runs)], 0.95)


def run() -> list[dict[str, Any]]:
    return [*planning_time(), *growth_in_jobs_per_shape(), placing(), explaining(), *against_ray()]


def planning_time() -> list[Row]:
    middle = make_world(1_000, 10_000, 50, 400)
    large = make_world(10_000, 100_000, 50, 400)
    return [
        row("plan: 1,000 nodes, 10,000 jobs, 50 shapes, 400 offers, p95", _p95(middle, 40), None, "", "s", "<= 0.1 s"),
        row("plan: 10,000 nodes, 100,000 jobs, 50 shapes, 400 offers, p95", _p95(large, 8), None, "", "s", "<= 1 s"),
    ]


def growth_in_jobs_per_shape() -> list[Row]:
    """The same nodes and shapes with 200 jobs a shape and with 20,000, where limits keep what is bought the same."""
    times: list[float] = []
    for jobs in (10_000, 1_000_000):
        world = make_world(1_000, jobs, 50, 400)
        limits = Limits(nodes=1_200, launches_per_minute=None)
        state = State("bench", UID, world.state.pools, world.state.nodes, limits)
        times.append(_p95(World(state, world.demand, world.offers, world.observed), 10))
    return [
        row(
            "plan: 100 times the jobs per shape (peer: as many as before)", times[1], times[0], "ours", "s", "ratio ~ 1"
        )
    ]


def placing() -> Row:
    world = make_world(1_000, 10_000, 50, 400)
    requests = [Request(f"j{n}", world.demand[n % 50].bundles, since=NOW) for n in range(10_000)]
    times = [_seconds(lambda: place(requests, world.state.nodes, now=NOW)) for _ in range(20)]
    return row(
        "place: 10,000 requests of 50 shapes on 1,000 nodes, p95", percentile(times, 0.95), None, "", "s", "< 0.1 s"
    )


def explaining() -> Row:
    """A gang that a limit keeps from being bought: `explain` searches for the least change that would let it pass."""
    world = make_world(1_000, 10_000, 50, 400)
    gang = Demand("gang", "job", ((Shape(Resources.of(GPU=1, CPU=2)), 3_000),), gang=True)
    state = replace(world.state, limits=Limits(nodes=1_050, launches_per_minute=None))
    situation = Situation(Policy(), world.observed, state, (*world.demand, gang), world.offers, NOW)
    times = [_seconds(lambda: explain_demand(situation, "gang")) for _ in range(5)]
    name = "explain: a gang stuck at a limit, 1,000 nodes, 10,000 jobs of 50 shapes, p95"
    return row(name, percentile(times, 0.95), None, "", "s", "<= 1 s")


# ---------------------------------------------------------------- the peer


def against_ray() -> list[Row]:
    rows: list[Row] = []
    for nodes, tasks in ((50, 250), (200, 1_000)):
        world = make_world(nodes, tasks, 20, 12, zones=1, seed=3)
        ours = _p95(world, 10)
        peer, price, launched = _ray_schedules(world)
        bought = [a.offer for a in world.plan().actions if a.op == "launch"]
        name = f"{nodes} nodes, {tasks} tasks, 12 types"
        peer_name = "Ray 2.60 ResourceDemandScheduler"
        rows.append(row(f"decide: {name}", ours, peer, peer_name, "s", ">= 50 times" if nodes == 200 else ""))
        ours_price = sum(offer.price for offer in bought)
        rows.append(
            row(f"bought for it ({len(bought)} and {launched} nodes): {name}", ours_price, price, peer_name, "$/h")
        )
    return rows


def _ray_schedules(world: World) -> tuple[float, float, int]:
    """Seconds, $/h and number of the nodes that Ray's scheduler launches in the same world."""
    from ray.autoscaler.v2.instance_manager.config import NodeTypeConfig
    from ray.autoscaler.v2.scheduler import ResourceDemandScheduler, SchedulingRequest
    from ray.autoscaler.v2.utils import ResourceRequestUtil

    prices = {offer.instance_type: offer.price for offer in world.offers}
    configs = {
        offer.instance_type: NodeTypeConfig(
            name=offer.instance_type,
            min_worker_nodes=0,
            max_worker_nodes=10**6,
            resources=offer.resources.to_dict(),
        )
        for offer in world.offers
    }
    wanted = [d.bundles[0][0].resources.to_dict() for d in world.demand for _ in range(d.count)]
    request = SchedulingRequest(
        disable_launch_config_check=True,
        node_type_configs=configs,
        max_num_nodes=10**6,
        resource_requests=ResourceRequestUtil.group_by_count([ResourceRequestUtil.make(bundle) for bundle in wanted]),
        current_instances=[_ray_instance(view) for view in world.state.nodes],
    )
    started = time.process_time()
    reply = ResourceDemandScheduler().schedule(request)
    seconds = time.process_time() - started
    launched: Counter[str] = Counter()
    for launch in reply.to_launch:
        launched[launch.instance_type] += launch.count
    return seconds, sum(prices[kind] * n for kind, n in launched.items()), sum(launched.values())


def _ray_instance(view: NodeView) -> Any:
    from ray.autoscaler.v2.schema import AutoscalerInstance
    from ray.core.generated.autoscaler_pb2 import NodeState as RayNode
    from ray.core.generated.autoscaler_pb2 import NodeStatus
    from ray.core.generated.instance_manager_pb2 import Instance, NodeKind

    node = view.node
    return AutoscalerInstance(
        cloud_instance_id=node.instance_id,
        im_instance=Instance(
            instance_id=node.id,
            instance_type=node.offer.instance_type,
            status=Instance.RAY_RUNNING,
            cloud_instance_id=node.instance_id,
            node_id=node.id,
            node_kind=NodeKind.WORKER,
        ),
        ray_node=RayNode(
            node_id=node.id.encode(),
            instance_id=node.instance_id,
            ray_node_type_name=node.offer.instance_type,
            total_resources=view.total.to_dict(),
            available_resources=view.free.to_dict(),
            status=NodeStatus.RUNNING,
        ),
    )


if __name__ == "__main__":
    for figure in run():
        print({key: value for key, value in figure.items() if value not in (None, "")})
