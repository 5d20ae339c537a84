"""Nothing waits in silence: planner and dispatcher together, over days of a trace that does not fit into its cluster."""

from __future__ import annotations

from dataclasses import replace

import pytest

from clusterctl.core.simulate.engine import Simulation
from clusterctl.core.simulate.state import State
from clusterctl.core.simulate.world import CALM
from clusterctl.simulation.command import SAMPLE, default_policy
from clusterctl.simulation.traces import load_trace
from tests.bench.simulation import setting_of


@pytest.mark.parametrize(("large", "small"), [(1, 20), (2, 4), (3, 6)])
def test_a_job_that_waits_always_has_a_reason_however_small_the_cluster(large: int, small: int) -> None:
    setting = setting_of(["on-demand"])
    most = {"gpu1": small, "gpu4": large, "gpu8": large, "cpu": large}
    setting = replace(setting, pools=tuple(replace(pool, max=most[pool.name]) for pool in setting.pools))
    silent_since: dict[str, float] = {}

    def check(state: State) -> None:
        silent = {d.id for d in state.waiting.demands()} - set(state.waits)
        for demand_id in set(silent_since) - silent:
            del silent_since[demand_id]
        for demand_id in silent:
            since = silent_since.setdefault(demand_id, state.now)
            assert state.now - since < 1.0, f"{demand_id} waits since {since} and nobody says why"

    result = Simulation(setting, load_trace(SAMPLE), default_policy(setting), CALM, 1, check=check).run()
    assert result.finished == result.jobs
