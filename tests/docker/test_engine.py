"""Ray over containers of an image that has none: an environment of this machine, or one that is installed for them."""

from __future__ import annotations

import sys
from collections.abc import Callable

from tests.docker.conftest import DockerCluster
from tests.support.wheel_index import kept_wheels, serving, wanted

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
    cluster.up()
    path = cluster.directory / "job.py"
    path.write_text(FAN_OUT)
    job = cluster.submit(str(path))
    cluster.wait_job(job, "succeeded")
    assert "on ['cpu-1', 'cpu-2']" in cluster.cli("logs", job).stdout
    for container in cluster.containers():
        binds = container.attrs["HostConfig"]["Binds"]
        assert binds and all(bind.endswith(":ro") for bind in binds)
    cluster.down()


INSTALLED = """\
cluster: demo
provider: {docker: {image: "IMAGE"}}
engine: {ray: {version: "2.60.0", extras: [serve]}}
head: {resources: {CPU: 1, memory: 3GiB}}
pools:
  - {name: cpu, min: 1, max: 1, resources: {CPU: 1, memory: 2GiB}}
"""
WHERE = """
import os, ray
from ray import serve
ray.init()

@ray.remote(num_cpus=1)
def where():
    return os.path.realpath(ray.__file__)

print("on", ray.get(where.remote()))
"""


def test_containers_of_an_image_without_ray_share_one_that_is_installed_on_their_machine(
    make_cluster: Callable[..., DockerCluster], image: str
) -> None:
    with serving(*kept_wheels(wanted("serve", python="3.11"))) as index:
        cluster = make_cluster(INSTALLED.replace("IMAGE", image), up=False)
        cluster.env["UV_DEFAULT_INDEX"] = index.url
        cluster.up()
        path = cluster.directory / "job.py"
        path.write_text(WHERE)
        job = cluster.submit(str(path))
        cluster.wait_job(job, "succeeded")
        assert f"on {cluster.home / 'engines' / 'shared'}/" in cluster.cli("logs", job).stdout
        _serves_from_a_container(cluster)
        for container in cluster.containers():
            assert container.attrs["HostConfig"]["Binds"] == [
                f"{cluster.home}/engines/shared:{cluster.home}/engines/shared:ro"
            ]
            places = "ls /clusterctl/node/engines/*/lib/python3.11/site-packages /clusterctl/node/engines/wheels"
            assert "ray" not in container.exec_run(["sh", "-c", places], user="root").output.decode().split()
        cluster.down()


SERVED = """
from ray import serve

@serve.deployment
def hello(request):
    return "hello from " + __import__("socket").gethostname()

app = hello.bind()
"""


def _serves_from_a_container(cluster: DockerCluster) -> None:
    """Serve is asked by a helper in the container of Ray's head: its dashboard listens on loopback there."""
    work = cluster.directory / "service"
    work.mkdir(exist_ok=True)
    (work / "main.py").write_text(SERVED)
    cluster.cli("serve", "deploy", "main:app", "--working-dir", str(work))
    fetch = "import urllib.request; print(urllib.request.urlopen('http://127.0.0.1:8000').read().decode())"
    assert cluster.cli("exec", "head-1", "--", "python3", "-c", fetch).stdout.endswith("hello from cpu-1\n")
