"""`clusterctl simulate`: a spec and a trace in, one JSON document out; the table and the report are views of it."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from clusterctl.core.errors import UsageError
from clusterctl.core.simulate.engine import Simulation
from clusterctl.core.simulate.fixed import FixedCluster
from clusterctl.core.simulate.jobs import Trace
from clusterctl.core.simulate.karpenter import Karpenter
from clusterctl.core.simulate.ours import PlannerPolicy
from clusterctl.core.simulate.policy import Policy
from clusterctl.core.simulate.ray_v2 import RayV2
from clusterctl.core.simulate.record import Result
from clusterctl.core.simulate.state import Setting
from clusterctl.core.simulate.world import WORLDS, World
from clusterctl.provision.blocks import Blocks
from clusterctl.simulation.fitting import fit
from clusterctl.simulation.setting import SpecSetting, setting_of
from clusterctl.simulation.traces import load_trace
from clusterctl.spec.load import load_spec

Document = dict[str, Any]

POLICIES = ("default", "ray-v2", "karpenter", "fixed")
SAMPLE = Path(__file__).with_name("sample.csv")
_MOST_FAULTS = 20
_CURVE_POINTS = 200


def simulate(
    spec_path: Path,
    trace_path: Path | None = None,
    policies: Sequence[str] = POLICIES,
    html_out: Path | None = None,
    seed: int = 1,
    *,
    world: str = "typical",
    place: str = "",
    progress: Callable[[str], None] = lambda _: None,
) -> Document:
    """Plays a trace (default: the sample that ships, made to fit) on a spec under each policy. Raises SpecError for a bad spec,
    UsageError for an unknown policy or world, a trace without a usable line, or a spec of several places of which `place` names
    none."""
    chosen = _world(world)
    makers = [(name, _maker(name)) for name in dict.fromkeys(policies)]
    if not makers:
        raise UsageError(f"no policy to simulate: choose from {', '.join(POLICIES)}")
    spec = load_spec(spec_path, place)
    found = setting_of(spec)
    trace = load_trace(trace_path) if trace_path else fit(load_trace(SAMPLE), found.setting)
    runs: list[Document] = []
    for name, make in makers:
        progress(f"{name}: {len(trace.jobs)} jobs of {trace.name}")
        runs.append(run_policy(make(found.setting), found.setting, trace, chosen, seed))
    document = _document(spec.cluster, found, trace, world, seed, runs)
    if html_out is not None:
        from clusterctl.simulation.report import render_html

        html_out.write_text(render_html(document), encoding="utf-8")
    return document


def run_policy(policy: Policy, setting: Setting, trace: Trace, world: World, seed: int) -> Document:
    """One policy's part of the document."""
    began = time.perf_counter()
    result = Simulation(setting, trace, policy, world, seed).run()
    took = time.perf_counter() - began
    return {**result_document(result), "took_seconds": round(took, 3), "events_per_second": round(result.events / took)}


def default_policy(setting: Setting) -> Policy:
    """The head's planner with the executor's book of refusals."""
    return PlannerPolicy(Blocks(), setting.offers)


def _maker(name: str) -> Callable[[Setting], Policy]:
    """What makes a policy from its name on the command line: default, ray-v2, karpenter, fixed or fixed:SHARE."""
    plain, _, share = name.partition(":")
    if plain in ("default", "clusterctl") and not share:
        return default_policy
    if plain in ("ray-v2", "ray") and not share:
        return lambda _: RayV2()
    if plain == "karpenter" and not share:
        return lambda _: Karpenter()
    if plain == "fixed":
        try:
            part = float(share) if share else 1.0
        except ValueError:
            part = -1.0
        if not 0 < part <= 1:
            raise UsageError(f"--policy {name!r}: write fixed, or fixed:SHARE with a share of max between 0 and 1")
        return lambda _: FixedCluster(part)
    raise UsageError(f"--policy {name!r} is unknown: choose from {', '.join(POLICIES)}, fixed:SHARE")


def _world(name: str) -> World:
    if name not in WORLDS:
        raise UsageError(f"--world {name!r} is unknown: choose from {', '.join(WORLDS)}")
    return WORLDS[name]


# ---------------------------------------------------------------- the document


def _document(cluster: str, found: SpecSetting, trace: Trace, world: str, seed: int, runs: list[Document]) -> Document:
    return {
        "cluster": cluster,
        "seed": seed,
        "world": world,
        "trace": {
            "name": trace.name,
            "jobs": len(trace.jobs),
            "span_seconds": trace.span,
            "left_out": len(trace.faults),
            "faults": list(trace.faults[:_MOST_FAULTS]),
            "notes": list(trace.notes),
        },
        "offers": {
            "count": len(found.setting.offers),
            "left_out": [
                {"pool": pool, "instance_type": name, "code": code, "text": text}
                for pool, name, code, text in found.left_out
            ],
        },
        "notes": list(found.notes),
        "policies": runs,
    }


def result_document(result: Result) -> Document:
    """A result as plain data. Waits in seconds; timeline rows are at, nodes, gpus, $/h, $, running, queued."""
    waits = result.waits
    return {
        "policy": result.policy,
        "jobs": result.jobs,
        "finished": result.finished,
        "wait": {
            "p50": round(result.wait_quantile(0.50), 3),
            "p95": round(result.wait_quantile(0.95), 3),
            "p99": round(result.wait_quantile(0.99), 3),
            "mean": round(sum(waits) / len(waits), 3) if waits else 0.0,
            "max": round(waits[-1], 3) if waits else 0.0,
        },
        "requeued_seconds": round(result.requeued, 3),
        "lost_work_hours": round(result.lost_work / 3600, 3),
        "dollars": round(result.dollars, 2),
        "gpu_utilisation": round(result.gpu_utilisation, 4),
        "cpu_utilisation": round(result.cpu_utilisation, 4),
        "gpu_hours_paid": round(result.gpu_hours_paid, 2),
        "gpu_hours_used": round(result.gpu_hours_used, 2),
        "node_hours": round(result.node_hours, 2),
        "most_nodes": result.most_nodes,
        "launches": result.launches,
        "refused_launches": result.refused_launches,
        "interruptions": result.interruptions,
        "ended_at": round(result.ended_at, 3),
        "events": result.events,
        "plans": result.plans,
        "digest": result.digest,
        "by_pool": [
            {"pool": pool, "node_hours": round(hours, 2), "dollars": round(dollars, 2)}
            for pool, hours, dollars in result.by_pool
        ],
        "unserved": [
            {"count": u.count, "code": u.code, "text": u.text, "fix": u.fix, "example": u.example}
            for u in result.unserved
        ],
        "wait_curve": _curve(waits),
        "timeline": [
            [round(m.at, 1), m.nodes, round(m.gpus, 3), round(m.per_hour, 4), round(m.dollars, 2), m.running, m.queued]
            for m in result.timeline
        ],
    }


def _curve(waits: Sequence[float]) -> list[list[float]]:
    """Points of the distribution: wait in seconds, share of jobs that waited no longer."""
    count = len(waits)
    steps = sorted({max(0, -(-count * k // _CURVE_POINTS) - 1) for k in range(1, _CURVE_POINTS + 1)}) if count else []
    return [[round(waits[i], 2), round((i + 1) / count, 5)] for i in steps]
