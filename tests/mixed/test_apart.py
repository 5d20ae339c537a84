"""The engine and pools outside of the head's network: who runs it, who does not, and what is said of it."""

from __future__ import annotations

from collections.abc import Callable

from tests.mixed.conftest import CPU, FAR, spec
from tests.support.cluster import LocalCluster, wait_until

Make = Callable[[str], LocalCluster]


def test_nodes_outside_of_the_heads_network_take_queue_jobs_and_run_no_engine(cluster_of: Make) -> None:
    cluster = cluster_of(spec(CPU, FAR, engine="ray"))
    (note, *_) = [note for note in cluster.json("plan", str(cluster.spec))["notes"] if note.startswith("pool far")]
    assert note == "pool far: queue jobs only: it is not in the head's network (its provider is fake, the head's local)"
    cluster.up()
    assert {pool["name"]: pool["engine"] for pool in cluster.status()["pools"]} == {"cpu": "ray", "far": "none"}
    engines = {node["pool"]: node["engine"] for node in cluster.status()["nodes"]}
    assert engines["cpu"] == "ready" and engines["far"] in ("off", "stopped")

    script = "import os; raise SystemExit(0 if 'RAY_ADDRESS' in os.environ else 3)"
    there = cluster.submit("--pool", "cpu", "--cpus", "1", "--", "python3", "-c", script)
    cluster.wait_job(there, "succeeded")
    apart = cluster.submit("--pool", "far", "--cpus", "1", "--max-retries", "0", "--", "python3", "-c", script)
    assert cluster.wait_job(apart, "failed")["exit_code"] == 3

    refused = cluster.cli("submit", "--engine", "--pool", "far", "--", "true", code=None)
    assert refused.returncode and "pool 'far' serves queue jobs only: it is not in the head's network" in refused.stderr

    wants = cluster.submit("--engine", "--cpus", "1", "--", "true")
    assert cluster.wait_job(wants, "succeeded")["attempts"][-1]["nodes"][0].startswith("cpu-")


def test_what_asks_the_engine_for_more_than_its_own_pools_have_is_told_which_pool_is_apart(cluster_of: Make) -> None:
    far = FAR.replace("min: 1, ", "").replace("small: {CPU: 1", "large: {CPU: 8")
    cluster = cluster_of(spec(CPU, far, engine="ray"))
    cluster.up()
    (cluster.directory / "wide.py").write_text(
        "import ray\nray.init()\n@ray.remote(num_cpus=4)\ndef f(): return 1\nray.get(f.remote())\n"
    )
    cluster.submit(str(cluster.directory / "wide.py"))

    def told() -> list[str]:
        return [f"{row['code']}: {row['reason']}" for row in cluster.status()["demand"] if row["source"] == "task"]

    (said,) = wait_until(lambda: [text for text in told() if text.startswith("no_engine")], what="the reason")
    assert "pool far serves queue jobs only, since the engine does not run outside of the head's network" in said
    assert not nodes_bought(cluster)


def nodes_bought(cluster: LocalCluster) -> list[str]:
    return [node["id"] for node in cluster.status()["nodes"] if node["pool"] == "far"]
