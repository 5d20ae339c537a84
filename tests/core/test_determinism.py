"""Equal inputs give byte-equal plans, in another process and with another hash seed."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent.parent

PROGRAM = """
import hashlib
from clusterctl.core.codec import dumps
from clusterctl.core.model import NodeState, NodeView, Observed, Work
from clusterctl.core.scheduling.placement import Request, place
from dataclasses import replace
from tests.core.exact import random_market
from tests.core.worlds import NOW, amounts, decide, pool, seen, state, view

digest = hashlib.sha256()
for seed in range(40):
    demand, offers = random_market(seed, most=30)
    used = amounts(CPU=1)
    nodes = tuple(
        view(f"{o.pool}-{i}", o, used=used if i % 2 else None, idle_since=None if i % 2 else NOW - 400)
        for i, o in enumerate(offers * 3)
    )
    gangs = tuple(replace(d, id=d.id + "g", gang=True, strategy="SPREAD", one_zone=bool(seed % 2)) for d in demand)
    world = state(*nodes, pools=(pool("cpu", 1, 40, one_zone_gangs=True), pool("gpu", 0, 40)))
    result = decide(world, *demand, *gangs, offers=offers)
    digest.update(dumps(result).encode())
    requests = [Request(f"{d.id}-{n}", d.bundles * 2, since=NOW - 900) for d in demand for n in range(5)]
    digest.update(dumps(tuple(place(requests, nodes, now=NOW).placed)).encode())
print(digest.hexdigest())
"""


def _digest(seed: str) -> str:
    env = {**os.environ, "PYTHONHASHSEED": seed, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM], cwd=ROOT, env=env, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_plans_are_byte_equal_in_two_processes_with_different_hash_seeds() -> None:
    first = _digest("1")
    assert len(first.strip()) == 64
    assert first == _digest("2")
