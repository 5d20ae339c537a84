"""Arbitrary worlds for properties: small enough to shrink well, wild enough to hit corners."""

from __future__ import annotations

from dataclasses import dataclass, replace

from hypothesis import strategies as st

from clusterctl.core.model import (
    Block,
    Demand,
    Instance,
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
    Spend,
    State,
    Work,
    launch_token,
)
from clusterctl.core.planner import plan
from clusterctl.core.resources import Resources
from tests.core.worlds import NOW, UID

ZONES = ("a", "b")
FOREIGN = "00000000-0000-4000-8000-000000000000"


@dataclass(frozen=True)
class World:
    policy: Policy
    observed: tuple[Observed, ...]
    state: State
    demand: tuple[Demand, ...]
    offers: tuple[Offer, ...]
    now: float

    def plan(self) -> Plan:
        return plan(self.policy, self.observed, self.state, self.demand, self.offers, self.now)


def resources(most: int) -> st.SearchStrategy[Resources]:
    return st.builds(
        lambda cpu, gpu, mem, special: Resources.of({"CPU": cpu, "GPU": gpu, "memory": mem, "special": special}),
        st.integers(1, most),
        st.sampled_from([0, 0, 0, 0.25, 0.5, 1, 2, most]),
        st.sampled_from([0, 1e9, 4e9, most * 1e9]),
        st.sampled_from([0, 0, 0, 0, 1]),
    )


@st.composite
def pools(draw: st.DrawFn) -> tuple[Pool, ...]:
    found = [Pool("head", "fake", 1, 1, role="head", spec_hash="h1")] if draw(st.booleans()) else []
    for name in draw(st.sampled_from([("cpu",), ("cpu", "gpu")])):
        low = draw(st.integers(0, 2))
        found.append(
            Pool(
                name,
                "fake",
                low,
                low + draw(st.integers(0, 4)),
                idle_timeout=60.0,
                spec_hash=draw(st.sampled_from(["", "v2"])),
                one_zone_gangs=draw(st.booleans()),
                max_cost_per_hour=draw(st.sampled_from([None, None, 3.0])),
                keep_stopped=draw(st.integers(0, 2)),
            )
        )
    return tuple(found)


@st.composite
def offers(draw: st.DrawFn, names: list[str]) -> tuple[Offer, ...]:
    found: list[Offer] = []
    for name in names:
        for number in range(draw(st.integers(0, 3))):
            bag = draw(resources(8))
            for zone in draw(st.sampled_from([("a",), ZONES])):
                market, rank = draw(st.sampled_from([("spot", 0), ("on-demand", 1)]))
                price = draw(st.sampled_from([0.0, 0.1, 0.5, 1.0, 2.5, float("nan"), -1.0]))
                gpu_type = "L4" if "GPU" in bag else ""
                reserved = {"ends": draw(_ENDS), "closed": draw(st.sampled_from(["", "", "it begins tomorrow"]))}
                found.append(Offer(name, f"t{number}", market, zone, price, bag, (), gpu_type, rank=rank, **reserved))
    return tuple(found)


_ENDS = st.sampled_from([0.0, 0.0, 0.0, NOW + 300.0, NOW + 7200.0])


def _legal_offer(bag: Resources, name: str, zone: str, price: float) -> Offer:
    return Offer(name, "old", "on-demand", zone, price, bag, gpu_type="L4" if "GPU" in bag else "")


@st.composite
def node_views(draw: st.DrawFn, names: list[str], number: int) -> NodeView:
    name = draw(st.sampled_from([*names, "removed"]))
    bag = draw(resources(8))
    made = _legal_offer(bag, name, draw(st.sampled_from(ZONES)), draw(st.sampled_from([0.1, 1.0])))
    made = replace(made, ends=draw(_ENDS), market=draw(st.sampled_from([made.market, "capacity-block"])))
    life = draw(st.sampled_from(list(NodeState)))
    since = NOW - draw(st.sampled_from([0.0, 5.0, 100.0, 5000.0]))
    node_id = f"{name}-{number}"
    node = Node(
        node_id,
        1,
        launch_token(UID, node_id, 1),
        made,
        life,
        since,
        since - 10,
        "head" if name == "head" else "worker",
        draw(st.sampled_from(["", f"i-{number}", f"i-{number}"])),
        code=draw(st.sampled_from(["", "idle", "user", "spec_changed"])),
        spec_hash=draw(st.sampled_from(["", "v2"])),
        drain_by=draw(st.sampled_from([None, None, NOW - 5, NOW + 60])) if life is NodeState.DRAINING else None,
    )
    work = ()
    if life in (NodeState.READY, NodeState.DRAINING, NodeState.FAILED, NodeState.TERMINATING) and draw(st.booleans()):
        work = (Work(f"w-{number}", Resources.of(CPU=1), since, draw(st.booleans())),)
    busy = sum((w.resources for w in work), Resources())
    drain = draw(st.sampled_from(["requested", "acked"])) if life is NodeState.DRAINING else ""
    return NodeView(
        node,
        bag,
        bag - busy,
        work,
        idle_since=None if work else draw(st.sampled_from([None, NOW - 10, NOW - 1000])),
        drain=drain,  # type: ignore[arg-type]
        heartbeat=draw(st.sampled_from([None, NOW - 1, NOW - 100, NOW - 5000])),
        preempt_at=draw(st.sampled_from([None, None, None, NOW - 5, NOW + 60])),
    )


@st.composite
def observations(draw: st.DrawFn, views: tuple[NodeView, ...]) -> tuple[Observed, ...]:
    found: list[Observed] = []
    for zone in ZONES:
        instances: list[Instance] = []
        for v in views:
            if v.node.offer.zone == zone and v.node.instance_id and draw(st.integers(0, 3)):
                life = draw(st.sampled_from(["pending", "running", "running", "stopping", "stopped", "terminated"]))
                instances.append(Instance(v.node.instance_id, UID, v.node.id, 1, life, created=v.node.created))
        for number in range(draw(st.integers(0, 2))):
            owner = draw(st.sampled_from([UID, FOREIGN, ""]))
            age = draw(st.sampled_from([1.0, 500.0]))
            instances.append(
                Instance(f"x-{zone}-{number}", owner, f"cpu-{90 + number}", 1, "running", created=NOW - age)
            )
        found.append(Observed(zone, tuple(instances), draw(st.booleans()), NOW - 1))
    return tuple(found)


@st.composite
def demands(draw: st.DrawFn, number: int) -> Demand:
    bundles: list[tuple[Shape, int]] = []
    for _ in range(draw(st.integers(1, 2))):
        wanted = draw(resources(4))
        bundles.append(
            (
                Shape(
                    wanted,
                    gpu_type=draw(st.sampled_from(["", "", "", "L4", "H100"])),
                    pool=draw(st.sampled_from(["", "", "", "cpu", "head", "nowhere"])),
                    selectors=draw(st.sampled_from([(), (), (("ray.io/market-type", "spot"),), (("x", "!y"),)])),
                ),
                draw(st.integers(1, 3)),
            )
        )
    return Demand(
        f"d{number}",
        draw(st.sampled_from(["job", "task", "placement_group", "request"])),
        tuple(bundles),
        draw(st.integers(1, 3)),
        draw(st.booleans()),
        draw(st.sampled_from(["", "PACK", "SPREAD", "STRICT_PACK", "STRICT_SPREAD"])),
        draw(st.booleans()),
        draw(st.integers(0, 1)),
    )


def limits() -> st.SearchStrategy[Limits]:
    return st.builds(
        Limits,
        nodes=st.sampled_from([None, 0, 3, 6]),
        gpus=st.sampled_from([None, 0.0, 2.0, 8.0]),
        cost_per_hour=st.sampled_from([None, 0.0, 1.0, 5.0]),
        budget_per_day=st.sampled_from([None, None, 10.0]),
        budget_per_month=st.sampled_from([None, None, 100.0]),
        launches_per_minute=st.sampled_from([None, 2, 120]),
        drain_after=st.sampled_from([None, None, 50.0, 1e6]),
    )


@st.composite
def worlds(draw: st.DrawFn) -> World:
    found_pools = draw(pools())
    names = [pool.name for pool in found_pools]
    views = tuple(draw(node_views(names, number)) for number in range(draw(st.integers(0, 5))))
    on_offer = draw(offers(names))
    state = State(
        "demo",
        UID,
        found_pools,
        views,
        draw(limits()),
        blocks=tuple(
            Block(o.key, NOW + 60, "no_capacity", "the provider has none")
            for o in on_offer
            if draw(st.integers(0, 4)) == 0
        ),
        spend=Spend(draw(st.sampled_from([0.0, 9.5, 20.0])), 50.0, 60.0),
        launches=draw(st.sampled_from([(), (NOW - 1, NOW - 70)])),
        failures=draw(st.sampled_from([(), tuple(("cpu", NOW - i) for i in range(6))])),
        sightings=tuple((f"x-{zone}-{n}", draw(st.integers(0, 3))) for zone in ZONES for n in range(2)),
    )
    wanted = tuple(draw(demands(number)) for number in range(draw(st.integers(0, 4))))
    return World(Policy(), draw(observations(views)), state, wanted, on_offer, NOW)
