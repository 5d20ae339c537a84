"""The fleet: what becomes of a node wakes those who have to act on it, so that nothing waits for the next look around."""

from __future__ import annotations

from pathlib import Path

import pytest
from clusterctl_runtime.head.nodes.fleet import Fleet, use_of

from clusterctl.provision.journal.book import Journal
from tests.head.conftest import Desk


def test_a_node_that_is_lost_wakes_the_planner_and_frees_its_job_for_another(desk: Desk, tmp_path: Path) -> None:
    woken: list[str] = []
    journal = Journal(tmp_path / "nodes.db", strict=True)
    fleet = Fleet(
        journal,
        desk.ledger,
        desk.logs,
        desk.events,
        desk.store,
        1,
        wake=lambda: woken.append("planner"),
        dispatch=lambda: woken.append("dispatcher"),
    )
    fleet.work = desk.work
    job = desk.job(max_retries=1)
    desk.work.assign(job, ["cpu-1"])
    fleet.forget("cpu-1", "its machine is gone")
    assert job.state == "queued" and job.attempts[0].state == "lost"
    assert set(woken) == {"planner", "dispatcher"}
    journal.close()


def test_what_a_node_tells_of_its_use_is_an_amount_or_left_out() -> None:
    told = {"cpu": 1.5, "memory": float("nan"), "gpu": float("inf"), "gpu_memory": -1, "fans": 3}
    assert use_of(told) == {"cpu": 1.5}
    with pytest.raises(ValueError, match="could not convert"):  # ends its connection
        use_of({"cpu": "much"})
