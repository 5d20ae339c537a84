"""What ranks are told of each other, and what becomes of a gang whose meeting place is taken."""

from __future__ import annotations

from typing import Any

import pytest
from clusterctl_runtime.head.jobs.gang import gang_addresses, gang_environment, gang_port
from clusterctl_runtime.wire import TaskReport

TORCHRUNS = {
    "RANK",
    "WORLD_SIZE",
    "LOCAL_RANK",
    "LOCAL_WORLD_SIZE",
    "GROUP_RANK",
    "NODE_RANK",
    "MASTER_ADDR",
    "MASTER_PORT",
}
OURS = {"CLUSTERCTL_JOB_ID", "CLUSTERCTL_ATTEMPT", "CLUSTERCTL_RANK", "CLUSTERCTL_NODE_ID", "CLUSTERCTL_HOSTS"}


@pytest.mark.parametrize(("nodes", "names"), [(None, OURS), (1, OURS | TORCHRUNS), (2, OURS | TORCHRUNS)])
def test_only_a_job_that_asked_for_nodes_has_ranks(desk: Any, nodes: int | None, names: set[str]) -> None:
    job = desk.job(nodes=nodes)
    count = nodes or 1
    attempt = desk.work.assign(job, ["cpu-1", "cpu-2"][:count])
    environment = gang_environment(job, attempt, count - 1, ["10.0.0.1", "10.0.0.2"][:count])
    assert set(environment) == names
    assert environment["CLUSTERCTL_RANK"] == str(count - 1)


def test_a_gang_whose_port_is_taken_is_started_again_with_another_at_no_cost(desk: Any) -> None:
    job = desk.job(nodes=2, max_retries=0)
    first = desk.work.assign(job, ["cpu-1", "cpu-2"])
    taken = TaskReport(f"{job.id}/1/0", "exited", stopped="port_taken", error="port 20017 of its node is taken")
    desk.work.report("cpu-1", taken)
    assert [message["tasks"] for _, message in desk.sent if message["t"] == "kill"] == [[f"{job.id}/1/1"]]
    desk.work.report("cpu-2", TaskReport(f"{job.id}/1/1", "exited", exit_code=143, stopped="killed"))
    assert (job.state, job.losses, job.retries_used) == ("queued", 0, 0)
    assert "port 20017 of its node is taken" in job.reason
    second = desk.work.assign(job, ["cpu-1", "cpu-2"])
    assert gang_port(second) != gang_port(first)


def test_ranks_on_several_machines_never_meet_at_a_loopback_address(desk: Any) -> None:
    own, other = desk.ledger.get("cpu-1"), desk.ledger.get("cpu-2")
    own.address, own.facts = "127.0.1.1", {"outward": "10.0.0.1"}
    other.address = "10.0.0.2"
    assert gang_addresses([own, other]) == ["10.0.0.1", "10.0.0.2"]
    other.address = "127.0.0.1"
    assert gang_addresses([own, other]) == ["127.0.1.1", "127.0.0.1"]
    assert gang_addresses([own, None]) == ["127.0.1.1", "127.0.0.1"]
