"""`node drain` on nodes that Ray uses: no new work, a deadline that Ray's work can read, and an end; or a refusal."""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator

import pytest

from tests.support.cluster import LocalCluster, wait_until

SPEC = """\
cluster: demo
provider: local
pools:
  - {name: cpu, min: 1, max: 2, resources: {CPU: 2}, idle_timeout: 5m}
"""
TRAINS = """
import sys, time, ray
ray.init(log_to_driver=False)
@ray.remote(num_cpus=1, max_restarts=-1, max_task_retries=-1)
class Trains:
    def drains(self):
        from ray._private.state import state  # as Train's watcher of preemptions does
        me = ray.get_runtime_context().get_node_id()
        return me, state.get_draining_nodes().get(me)
trains = Trains.remote()
told = None
while True:
    now = ray.get(trains.drains.remote())
    if now != told:
        told = now
        print("told", *now, flush=True)
    time.sleep(0.2)
"""


class Draining(LocalCluster):
    """A cluster with one worker, on which an actor of Ray's runs that tells what it hears of a drain."""

    driver = ""

    def told(self) -> list[tuple[str, str]]:
        """(node, deadline) as the actor told them, oldest first."""
        lines = self.cli("logs", self.driver).stdout.splitlines()
        return [(line.split()[1], line.split()[2]) for line in lines if line.startswith("told ")]

    def worker(self) -> str:
        """The one on which the actor runs."""

        def found() -> str | None:
            nodes = self.status()["nodes"]
            return next((n["id"] for n in nodes if n["pool"] == "cpu" and n["owner"] == "engine"), None)

        node = wait_until(found, what="Ray uses a worker")
        assert node is not None
        return node


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Draining]:
    made = Draining(tmp_path_factory.mktemp("draining"), SPEC)
    try:
        made.up()
        (made.directory / "job.py").write_text(TRAINS)
        made.driver = made.submit("job.py")
        wait_until(made.told, what="the actor runs")
        yield made
    finally:
        made.clean_up()


def test_where_ray_does_not_answer_the_drain_is_refused_and_the_node_takes_work_as_before(cluster: Draining):
    node = cluster.worker()
    (gcs,) = [process for process in cluster.processes() if process.name() == "gcs_server"]
    gcs.send_signal(signal.SIGSTOP)
    try:
        wait_until(lambda: cluster.status()["engine"]["state"] != "ready", what="the head notices")
        refused = cluster.cli("node", "drain", node, code=1)
    finally:
        gcs.send_signal(signal.SIGCONT)
    assert f"node {node} was not drained: Ray cannot be asked to leave it" in refused.stderr
    assert "It takes work as before; try again when Ray answers." in refused.stderr
    now = cluster.look(f"/api/v1/nodes/{node}")
    assert (now["state"], now["drain"], now["drain_by"]) == ("ready", "", None)
    wait_until(lambda: cluster.status()["engine"]["state"] == "ready", what="Ray answers again")
    assert [deadline for _, deadline in cluster.told()] == ["None"]


def test_a_drain_outlives_the_heads_daemon_and_is_called_off(cluster: Draining):
    node = cluster.worker()
    before = time.time()
    said = cluster.cli("node", "drain", node, "--deadline", "1h").stdout
    assert f"node {node} drains: it takes no new work, Ray starts nothing new there" in said
    assert "Ray's work (1 CPU) may go on until " in said
    assert all(len(line) <= 80 for line in said.splitlines())
    wait_until(lambda: cluster.told()[-1][1] != "None", what="the actor hears of it from Ray")
    assert abs(int(cluster.told()[-1][1]) / 1000 - before - 3600) < 300
    for words in (("node", "show", node), ("nodes",), ("explain", node)):
        assert "a user drains it: what still runs there is ended at" in cluster.cli(*words).stdout
    old = cluster.head_pid()
    cluster.kill(old)
    wait_until(lambda: cluster.head_pid() != old and cluster.cli("status", code=None).returncode == 0)
    wait_until(lambda: cluster.look(f"/api/v1/nodes/{node}")["engine_uses"], what="the new daemon hears of Ray there")
    again = cluster.look(f"/api/v1/nodes/{node}")
    assert (again["state"], again["drain"]) == ("draining", "requested")
    assert abs(again["drain_by"] - before - 3600) < 300
    cluster.cli("node", "drain", node, "--deadline", "2h")
    wait_until(lambda: abs(int(cluster.told()[-1][1]) / 1000 - before - 7200) < 300, what="the other deadline")
    assert "ready" in cluster.cli("node", "undrain", node).stdout
    assert "it does not drain" in cluster.cli("node", "undrain", node, code=5).stderr


def test_at_the_deadline_what_runs_is_ended_and_the_work_goes_on_elsewhere(cluster: Draining):
    node, first = cluster.worker(), cluster.told()[-1][0]
    done = cluster.cli("node", "drain", node, "--deadline", "3s", "--wait")
    assert f"node {node} is gone" in done.stdout
    assert "Ray's work (1 CPU) may go on until " in done.stderr
    wait_until(lambda: cluster.told()[-1][0] != first, what="Ray has restarted the actor on another node")
    assert cluster.worker() != node
    texts = [event["text"] for event in cluster.json("events", "--subject", node)["events"]]
    assert any("that time is over" in text for text in texts)


def test_a_node_that_is_empty_goes_long_before_its_deadline(cluster: Draining):
    cluster.cli("job", "cancel", cluster.driver)
    idle = wait_until(lambda: [n["id"] for n in cluster.ready_nodes("cpu") if n["owner"] == ""], what="Ray is done")
    started = time.monotonic()
    cluster.cli("node", "drain", idle[0], "--wait")
    assert time.monotonic() - started < 120
