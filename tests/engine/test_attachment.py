"""A plain `ray.init()` in a job joins the cluster, and Ray's workers on other nodes see the job's files and environment."""

from __future__ import annotations

import json

from tests.engine.conftest import Cluster

JOB = """
import json, os, time, ray
ray.init()
import beside
started = time.time()

@ray.remote(num_gpus=1)
def elsewhere():
    import beside, os
    return {
        "beside": beside.VALUE, "file": open("data.txt").read(), "color": os.environ.get("COLOR"), "rank": os.environ.get("RANK"),
        "gpus": os.environ.get("CUDA_VISIBLE_DEVICES"), "node": ray.get_runtime_context().get_node_id(),
    }

told = ray.get(elsewhere.remote())
told["seconds"] = time.time() - started
told["driver_node"] = ray.get_runtime_context().get_node_id()
print(json.dumps(told))
"""


def test_a_jobs_files_and_environment_reach_tasks_on_another_node(cluster, tmp_path):
    (tmp_path / "beside.py").write_text("VALUE = 'imported from the package'\n")
    (tmp_path / "data.txt").write_text("read from the working directory")
    (tmp_path / ".gitignore").write_text("data.txt\n")
    env = {"COLOR": "blue", "RANK": "0", "CUDA_VISIBLE_DEVICES": "", "CLUSTERCTL_JOB_ID": "j-test"}
    with cluster.driver(JOB, env=env, package="0" * 64, cwd=str(tmp_path)) as driver:
        told = json.loads(driver.line())
        assert driver.end() == 0
    print("first task with a working directory:", told["seconds"])
    assert told["beside"] == "imported from the package"
    assert told["file"] == "read from the working directory"
    assert told["color"] == "blue"
    assert told["gpus"] in ("0", "1") and told["rank"] is None
    assert told["node"] == cluster.node("gpu").ray_node_id
    assert told["driver_node"] == cluster.node("head").ray_node_id


def test_what_the_program_gives_to_ray_init_wins_over_the_jobs_environment(cluster, tmp_path):
    code = """
import os, ray
ray.init(runtime_env={"env_vars": {"COLOR": "red"}})

@ray.remote(num_cpus=1)
def color():
    return os.environ["COLOR"] + " " + os.environ["SHAPE"]

print(ray.get(color.remote()))
"""
    with cluster.driver(code, env={"COLOR": "blue", "SHAPE": "round"}, cwd=str(tmp_path)) as driver:
        assert driver.line() == "red round"
        assert driver.end() == 0


STATE = """
import json, os, sys, ray
from ray.job_submission import JobSubmissionClient
from ray.util.state import list_nodes
ray.init()

def nodes():
    return sorted(node.node_id for node in list_nodes())

told = {
    "driver": nodes(),
    "task": ray.get(ray.remote(num_gpus=1)(nodes).remote()),
    "own": sorted(node["NodeID"] for node in ray.nodes()),
    "jobs": len(JobSubmissionClient().list_jobs()),
    "serve": os.environ["RAY_DASHBOARD_ADDRESS"],
}
print(json.dumps(told))
"""


def test_drivers_and_tasks_ask_their_own_cluster_for_its_state_where_another_ray_runs_beside_it(
    cluster, loop, tmp_path
):
    other = Cluster(loop, tmp_path)
    try:
        other.start_node("head", role="head")
        for each in (cluster, other):
            each.dashboard()  # it answers
        with cluster.driver(STATE, cwd=str(tmp_path)) as driver:
            told = json.loads(driver.line())
            assert driver.end() == 0
    finally:
        other.stop()
    assert told["driver"] == told["task"] == told["own"] and cluster.node("head").ray_node_id in told["own"]
    assert told["jobs"] >= 1 and told["serve"] == cluster.dashboard()
