"""Ray over containers: the environment of this machine mounted into an image that has none."""

from __future__ import annotations

import sys
from collections.abc import Callable

from tests.docker.conftest import DockerCluster

SPEC = """\
cluster: demo
provider: {docker: {image: "IMAGE", engine_env: "ENV"}}
head: {resources: {CPU: 1, memory: 3GiB}}
pools:
  - {name: cpu, min: 2, max: 2, resources: {CPU: 1, memory: 2GiB}}
"""
FAN_OUT = """
import ray, socket, time
ray.init()

@ray.remote(num_cpus=1)
def where(i):
    time.sleep(0.3)
    return socket.gethostname()

print("on", sorted(set(ray.get([where.remote(i) for i in range(8)]))))
"""


def test_tasks_fan_out_over_two_containers(make_cluster: Callable[..., DockerCluster], image: str) -> None:
    cluster = make_cluster(SPEC.replace("IMAGE", image).replace("ENV", sys.prefix), up=False)
    cluster.up(timeout=170)
    path = cluster.directory / "job.py"
    path.write_text(FAN_OUT)
    job = cluster.submit(str(path))
    cluster.wait_job(job, "succeeded", 120)
    assert "on ['cpu-1', 'cpu-2']" in cluster.cli("logs", job).stdout
    for container in cluster.containers():
        binds = container.attrs["HostConfig"]["Binds"]
        assert binds and all(bind.endswith(":ro") for bind in binds)
    cluster.down()
