"""Somebody sets the clock, or a laptop sleeps: no deadline runs out at once, nothing is ended, work goes on."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from clusterctl_runtime.head.clock import SLEW, SteadyClock
from hypothesis import given
from hypothesis import strategies as st

from tests.security.knocking import Api
from tests.support.cluster import LocalCluster, wait_until

SPEC = """\
cluster: demo
provider: local
engine: none
pools:
  - {name: cpu, min: 0, max: 2, resources: {CPU: 2}, idle_timeout: 20m, orphan_timeout: 10m}
"""
LIBRARY = Path(__file__).parents[1] / "cloud" / "wrong_clock.c"
HOUR = 3600.0


@pytest.mark.parametrize("jump", [HOUR, -HOUR, 24 * HOUR])
def test_a_jump_of_the_wall_clock_ends_no_node_and_fails_no_job(
    make_cluster: Callable[..., LocalCluster], jump: float
) -> None:
    offset: Path

    def prepare(cluster: LocalCluster) -> None:
        nonlocal offset
        offset = cluster.directory / "offset"
        offset.write_text("0")
        library = str(cluster.directory / "wrong_clock.so")
        subprocess.run(["gcc", "-shared", "-fPIC", "-O1", "-o", library, str(LIBRARY)], check=True)
        # Every process of the cluster reads a wall clock that this file sets.
        cluster.env |= {"LD_PRELOAD": library, "CLOCK_FILE": str(offset)}

    cluster = make_cluster(SPEC, prepare)
    api = Api(cluster)
    gate = cluster.directory / "gate"
    wait_for_gate = ["sh", "-c", f"while [ ! -e {gate} ]; do sleep 0.1; done"]
    api.run(argv=["true"], cpus=1)
    running = api.submit(argv=wait_for_gate, cpus=1)
    wait_until(lambda: api.get(f"/api/v1/jobs/{running}")["state"] == "running", what="the job runs")
    before = nodes_of(api)
    assert before["cpu-1"] == ("ready", 1)

    offset.write_text(str(int(jump)))
    told = len(api.events())
    wanted = api.submit(argv=wait_for_gate, cpus=2)  # the loop must plan, and launch, in its new time
    wait_until(lambda: api.get(f"/api/v1/jobs/{wanted}")["state"] == "running", what="a node for the second job")
    assert abs(api.events()[-1]["at"] - api.events()[told - 1]["at"] - jump) < 300, "the head's wall clock has jumped"
    after = nodes_of(api)
    assert {name: after.get(name) for name in before} == before
    assert after["cpu-2"] == ("ready", 1)
    gate.touch()
    for job in (running, wanted):
        ended = api.ended(job)
        assert (ended["state"], len(ended["attempts"])) == ("succeeded", 1)
    assert nodes_of(api) == after, "an idle node lives as long as its idle time-out says"


def nodes_of(api: Api) -> dict[str, tuple[Any, Any]]:
    return {n["id"]: (n["state"], n["generation"]) for n in api.get("/api/v1/nodes")["nodes"]}


@given(st.lists(st.tuples(st.floats(0, 100), st.floats(-1e6, 1e6)), max_size=30))
def test_the_heads_time_never_goes_back_and_passes_at_the_speed_of_real_time(steps: list[tuple[float, float]]) -> None:
    wall, real = [1e9], [0.0]
    clock = SteadyClock(lambda: wall[0], lambda: real[0])
    for passed, jump in steps:
        before = clock()
        real[0] += passed
        wall[0] += passed + jump
        after = clock()
        assert passed * (1 - SLEW) - 1e-3 <= after - before <= passed * (1 + SLEW) + 1e-3


def test_the_heads_time_catches_up_with_a_wall_clock_that_was_set() -> None:
    wall, real = [1e9], [0.0]
    clock = SteadyClock(lambda: wall[0], lambda: real[0])
    wall[0] += 60
    for _ in range(60):
        real[0] += 60
        wall[0] += 60
        clock()
    assert clock() == pytest.approx(wall[0])
