"""The model of Ray v2's scheduler against the real one, importable here: same worlds, same node types launched."""

from __future__ import annotations

import random
from collections import Counter

from ray.autoscaler.v2.instance_manager.config import NodeTypeConfig
from ray.autoscaler.v2.scheduler import ResourceDemandScheduler, SchedulingRequest
from ray.core.generated.autoscaler_pb2 import GangResourceRequest, ResourceRequest, ResourceRequestByCount

from clusterctl.core.model import Demand, Limits, Offer, Pool, Shape, Spend
from clusterctl.core.resources import Resources
from clusterctl.core.simulate.policy import Situation
from clusterctl.core.simulate.ray_v2 import Bin, amounts, node_types, schedule

GIB = 1024**3


def an_offer(pool: str, name: str, price: float, gpu_type: str = "", **resources: float) -> Offer:
    return Offer(pool, name, "on-demand", "a", price, Resources.of(resources), gpu_type=gpu_type)


OFFERS = (
    an_offer("cpu", "m.large", 0.1, CPU=4, memory=16 * GIB),
    an_offer("cpu", "m.huge", 1.6, CPU=64, memory=256 * GIB),
    an_offer("one", "g.small", 0.8, "L4", CPU=4, memory=16 * GIB, GPU=1),
    an_offer("one", "g.fat", 1.6, "L4", CPU=16, memory=64 * GIB, GPU=1),
    an_offer("four", "g.quad", 4.6, "L4", CPU=48, memory=192 * GIB, GPU=4),
)
POOLS = (Pool("cpu", "cloud", 0, 6), Pool("one", "cloud", 0, 8), Pool("four", "cloud", 0, 5))
SHAPES = (
    {"CPU": 1},
    {"CPU": 4, "memory": 8 * GIB},
    {"CPU": 1, "GPU": 1},
    {"CPU": 2, "GPU": 2, "memory": 4 * GIB},
    {"CPU": 1, "GPU": 0.5},
    {"CPU": 8, "memory": 32 * GIB},
)


def a_situation(demand: tuple[Demand, ...]) -> Situation:
    return Situation(
        now=0.0, cluster="c", uid="u", pools=POOLS, offers=OFFERS, limits=Limits(), nodes=(), observed=(), doubt=False,
        demand=demand, launches=(), failures=(), next_number=(), spend=Spend(),
    )  # fmt: skip


def as_ray(resources: dict[str, float]) -> ResourceRequest:
    return ResourceRequest(resources_bundle={name: float(value) for name, value in resources.items()})


def launched_by_ray(singles: list[tuple[dict, int]], gangs: list[tuple[dict, int]], most: dict[str, int]) -> Counter:
    """Types that the real scheduler launches into an empty cluster."""
    offers = {(o.pool, o.instance_type): o for o in sorted(OFFERS, key=lambda o: (o.price, o.key))}
    configs = {
        name: NodeTypeConfig(
            name=name, min_worker_nodes=0, max_worker_nodes=most[o.pool], resources=amounts(o), labels={}
        )
        for (_, name), o in offers.items()
    }
    request = SchedulingRequest(
        node_type_configs=configs,
        disable_launch_config_check=True,
        resource_requests=[ResourceRequestByCount(request=as_ray(r), count=n) for r, n in singles],
        gang_resource_requests=[GangResourceRequest(requests=[as_ray(r)] * n) for r, n in gangs],
        cluster_resource_constraints=[],
        current_instances=[],
    )
    reply = ResourceDemandScheduler().schedule(request)
    return Counter({launch.instance_type: launch.count for launch in reply.to_launch})


def launched_by_model(singles: list[tuple[dict, int]], gangs: list[tuple[dict, int]]) -> Counter:
    demand = [Demand(f"s{i}", "task", ((Shape(Resources.of(r)), 1),), count=n) for i, (r, n) in enumerate(singles)] + [
        Demand(f"g{i}", "job", ((Shape(Resources.of(r)), n),), gang=True) for i, (r, n) in enumerate(gangs)
    ]
    situation = a_situation(tuple(demand))
    bins: list[Bin] = []
    return Counter(name for _, name in schedule(situation, node_types(situation), bins, {}))


def test_the_model_launches_what_rays_own_scheduler_launches() -> None:
    """Pools are roomy here: Ray limits each type by itself, the model all types of a pool together."""
    most = {pool.name: pool.max for pool in POOLS}
    for seed in range(60):
        rng = random.Random(seed)
        singles = [(r, rng.randint(1, 4)) for r in rng.sample(SHAPES, rng.randint(0, 3))]
        gangs = [(rng.choice(SHAPES), rng.randint(2, 3)) for _ in range(rng.randint(0, 2))]
        real, model = launched_by_ray(singles, gangs, most), launched_by_model(singles, gangs)
        assert model == real, f"seed {seed}: singles {singles}, gangs {gangs}"
