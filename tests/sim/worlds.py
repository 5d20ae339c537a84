"""Small random worlds from a seed: pools, offers, limits, jobs and a cloud that misbehaves."""

from __future__ import annotations

import random
from dataclasses import replace

from clusterctl.core.model import Limits, Offer, Pool, Shape
from clusterctl.core.resources import Resources
from clusterctl.core.simulate.jobs import Trace, TraceJob
from clusterctl.core.simulate.state import Setting
from clusterctl.core.simulate.world import World

ZONES = ("a", "b")


def a_setting(rng: random.Random) -> Setting:
    pools: list[Pool] = []
    offers: list[Offer] = []
    for number in range(rng.randint(1, 3)):
        name = f"pool{number}"
        least = rng.choice([0, 0, 0, 1])
        pools.append(Pool(name, "cloud", least, least + rng.randint(1, 5), idle_timeout=rng.choice([60.0, 300.0])))
        gpus = rng.choice([0, 0, 1, 4])
        for size in rng.sample([2, 4, 8], rng.randint(1, 2)):
            resources = Resources.of(CPU=size, GPU=gpus, memory=size * 4 * 1024**3)
            price = round(0.05 * size + 0.7 * gpus, 3)
            for rank, market in enumerate(rng.choice([["on-demand"], ["spot", "on-demand"]])):
                for zone in ZONES[: rng.randint(1, 2)]:
                    cost = price * (0.4 if market == "spot" else 1.0)
                    offers.append(
                        Offer(
                            name,
                            f"m{size}g{gpus}",
                            market,
                            zone,
                            cost,
                            resources,
                            gpu_type="T4" if gpus else "",
                            rank=rank,
                        )
                    )
    limits = Limits(
        nodes=rng.choice([None, 3, 6]),
        gpus=rng.choice([None, 4]),
        cost_per_hour=rng.choice([None, None, 3.0]),
        launches_per_minute=rng.choice([2, 120]),
    )
    kept = [replace(pool, keep_stopped=rng.choice([0, 0, 2])) for pool in pools]
    return Setting(tuple(kept), tuple(offers), limits)


def a_trace(rng: random.Random) -> Trace:
    jobs: list[TraceJob] = []
    at = 0.0
    for number in range(rng.randint(1, 14)):
        at += rng.choice([0.0, 0.0, 5.0, 300.0, 3000.0])
        amounts = {"CPU": rng.choice([1, 2, 4, 8]), "GPU": rng.choice([0, 0, 0.5, 1, 2])}
        jobs.append(
            TraceJob(
                id=str(number),
                submit=at,
                duration=rng.choice([0.0, 10.0, 600.0, 7200.0]),
                shape=Shape(Resources.of(amounts)),
                nodes=rng.choice([1, 1, 1, 2, 3]),
                priority=rng.choice([0, 0, 1]),
                user=rng.choice(["ada", "grace"]),
            )
        )
    return Trace("random", tuple(jobs))


def a_world(rng: random.Random) -> World:
    life = rng.choice([None, 0.5, 5.0])
    return World(
        slow_boots=rng.choice([0.0, 0.2]),
        slow_boot_factor=rng.choice([4.0, 40.0]),
        dead_boots=rng.choice([0.0, 0.0, 0.1]),
        calls_per_second=rng.choice([0.2, 5.0]),
        call_burst=rng.choice([1, 50]),
        spot_free_hours=rng.choice([None, 0.3, 2.0]),
        spot_short_hours=0.5,
        on_demand_free_hours=rng.choice([None, 0.5, 5.0]),
        on_demand_short_hours=0.5,
        spot_life_hours=life,
        lost_answers=rng.choice([0.0, 0.0, 0.2]),
        lost_calls=rng.choice([0.0, 0.0, 0.2]),
        partial_lists=rng.choice([0.0, 0.0, 0.3]),
        quotas=(("m4g0", 1),) if rng.random() < 0.2 else (),
        checkpoint=600.0 if life == 0.5 else rng.choice([None, 600.0]),  # or long jobs would never end
    )
