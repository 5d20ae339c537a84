"""Files, setup and env as Ray's workers see them."""

from __future__ import annotations

from collections.abc import Callable

from tests.support.cluster import LocalCluster

SPEC = """\
cluster: demo
provider: local
env: {GREETING: hello}
files: [{from: one.txt, to: one.txt}]
setup: [echo "$GREETING" > made.txt]
pools: [{name: cpu, min: 1, max: 1, resources: {CPU: 1}, env: {WHOSE: pool}}]
"""
JOB = """\
import os, ray
ray.init()

@ray.remote
def look():
    files = os.environ["CLUSTERCTL_FILES"]
    return [os.environ["GREETING"], os.environ["WHOSE"], *(open(f"{files}/{n}.txt").read().strip() for n in ("made", "one"))]

print("seen:", *ray.get(look.remote()))
"""


def test_files_setup_and_env_are_there_before_ray_runs_anything_on_a_node(
    make_cluster: Callable[..., LocalCluster],
) -> None:
    cluster = make_cluster(SPEC, {"one.txt": "1", "work/job.py": JOB})
    cluster.up(timeout=240)
    done = cluster.cli("submit", "--working-dir", "work", "work/job.py")
    assert "seen: hello pool hello 1" in done.stdout
    story = [(item["state"], item["reason"]) for item in cluster.json("explain", "cpu-1")["story"]]
    told = [reason for state, reason in story if state == "joining"]
    assert told[-1] == "its engine starts" and told[-2].startswith("its files and setup are done")
