"""The simulator's speed, and what our default policy costs and makes wait beside the model of Ray v2, trace by trace.

One spec for all traces, chosen before any result was seen: L4 machines of one, four and eight GPUs and plain CPU machines,
on demand and spot first, in three zones of us-east-1. Nothing is tuned to a trace. Rows of dollars and waits are figures
of a simulation; only events per second depends on this machine (processor time of one thread).
"""

from __future__ import annotations

import os
import time
from dataclasses import replace
from pathlib import Path

from clusterctl_providers.catalog import offers_for

from clusterctl.core.model import Offer, Pool
from clusterctl.core.simulate.engine import Simulation
from clusterctl.core.simulate.jobs import Trace
from clusterctl.core.simulate.policy import Policy
from clusterctl.core.simulate.ray_v2 import RayV2
from clusterctl.core.simulate.record import Result
from clusterctl.core.simulate.state import Setting
from clusterctl.core.simulate.world import TYPICAL
from clusterctl.simulation.command import SAMPLE, default_policy
from clusterctl.simulation.traces import load_trace
from tests.bench.rows import Row, row

TRACES = Path(__file__).parent / "traces"
ZONES = ["us-east-1a", "us-east-1b", "us-east-1c"]
SEED = 1
PEER = "model of Ray v2"
MONTHS = 90 * 86_400.0
GOAL = "30 % cheaper at no worse wait, or half the wait at the same price"


def run() -> list[Row]:
    rows: list[Row] = []
    for market in (["on-demand"], ["spot", "on-demand"]):
        setting = setting_of(market)
        for path in trace_paths(all_of_them=market[0] == "on-demand"):
            trace = load_trace(path)
            ours, _ = play(setting, trace, default_policy(setting))
            peer, _ = play(setting, trace, RayV2())
            rows.extend(compare(f"{path.stem}, {market[0]}", ours, peer))
    setting = setting_of(["on-demand"])
    trace = three_months(load_trace(SAMPLE))
    result, seconds = play(setting, trace, default_policy(setting))
    name = f"simulate {len(trace.jobs):,} jobs over three months"
    rows.append(row(name, seconds, None, "", "s", "under 60 s"))
    rows.append(row("simulator events", result.events / seconds, None, "", "events/s"))
    return rows


def trace_paths(*, all_of_them: bool = True) -> list[Path]:
    """The sample, and the smallest trace that ships, which takes about a minute; with CLUSTERCTL_TRACES=DIR all that ship and
    those of the directory, however long that takes. Without it and `all_of_them` only the sample."""
    extra = os.environ.get("CLUSTERCTL_TRACES")
    found = {path.name: path for path in sorted(TRACES.glob("*.csv"))}
    if not extra:
        return [SAMPLE, min(found.values(), key=lambda path: path.stat().st_size)] if all_of_them else [SAMPLE]
    for path in sorted(Path(extra).glob("*.csv")):
        if path.open().readline().startswith(("submit_s", "minute")):
            found.setdefault(path.name, path)
    return [SAMPLE, *found.values()]


def setting_of(market: list[str]) -> Setting:
    pools: list[Pool] = []
    offers: list[Offer] = []
    wanted: list[tuple[str, int, dict[str, object]]] = [
        ("gpu1", 200, {"gpu": {"name": "L4", "count": 1}}),
        ("gpu4", 200, {"gpu": {"name": "L4", "count": 4}}),
        ("gpu8", 200, {"gpu": {"name": "L4", "count": 8}}),
        ("cpu", 50, {"resources": {"CPU": 8, "memory": 32 * 1024**3}}),
    ]
    for name, most, spec in wanted:
        pools.append(Pool(name, "aws", 0, most))
        offers.extend(offers_for("aws", "us-east-1", ZONES, {"name": name, "market": market, **spec}))
    return Setting(tuple(pools), tuple(offers))


def play(setting: Setting, trace: Trace, policy: Policy) -> tuple[Result, float]:
    began = time.process_time()
    result = Simulation(setting, trace, policy, TYPICAL, SEED).run()
    return result, time.process_time() - began


def compare(name: str, ours: Result, peer: Result) -> list[Row]:
    return [
        row(f"{name}: cost", round(ours.dollars), round(peer.dollars), PEER, "$", GOAL),
        row(f"{name}: wait p95", ours.wait_quantile(0.95), peer.wait_quantile(0.95), PEER, "s"),
        row(f"{name}: jobs unserved", ours.jobs - ours.finished, peer.jobs - peer.finished, PEER, "jobs"),
    ]


def three_months(sample: Trace) -> Trace:
    """About 10,000 jobs: the sample's days again and again, every third job left out."""
    days = 3 * 86_400.0
    jobs = [
        replace(job, id=f"{turn}.{job.id}", submit=job.submit + turn * days)
        for turn in range(int(MONTHS / days))
        for number, job in enumerate(sample.jobs)
        if number % 7 < 4
    ]
    return Trace("three months", tuple(jobs))
