"""Queue jobs and Ray share the GPUs of containers: Ray holds them for a job, asked from inside its head's container."""

from __future__ import annotations

import asyncio
import shlex
import sys
import time
from collections.abc import Callable

import psutil
from clusterctl_providers.base import ProviderContext
from clusterctl_providers.docker.provider import DockerProvider
from clusterctl_runtime.engine.client import HELPER, EngineClient, EngineNode, helper_environment

from tests.docker.conftest import DockerCluster

SPEC = """\
cluster: demo
provider: {docker: {image: "IMAGE", engine_env: "ENV"}}
head: {resources: {CPU: 1, memory: 3GiB}}
pools: [{name: cpu, min: 1, max: 1, resources: {CPU: 1, memory: 3GiB}}]
"""
PYTHON = f"{sys.prefix}/bin/python"
RAYLET = """\
export RAY_AUTH_MODE=token RAY_AUTH_TOKEN_PATH=$(find /clusterctl/node -name token | head -1)
exec PYTHON -m ray.scripts.scripts start --address=GCS --num-cpus=1 --num-gpus=2 --temp-dir=/tmp/second \
  --object-store-memory=80000000 --min-worker-port=0 --max-worker-port=0 --disable-usage-stats
"""


def test_ray_holds_gpus_of_a_container_for_us_and_gives_them_back(
    make_cluster: Callable[..., DockerCluster], image: str
) -> None:
    """No machine with a GPU is needed: a second raylet in the worker's container says that it has two."""
    cluster = make_cluster(SPEC.replace("IMAGE", image).replace("ENV", sys.prefix), up=False)
    cluster.up()
    (head,) = cluster.containers("head-1")
    started = [" ".join(child.cmdline()) for child in psutil.Process(cluster.head_pid()).children()]
    assert any("docker.stdio" in command for command in started), "the head's own helper runs beside Ray's head as well"
    address = f"{next(iter(head.attrs['NetworkSettings']['Networks'].values()))['IPAddress']}:6379"
    cluster.cli("exec", "cpu-1", "--", "sh", "-c", RAYLET.replace("PYTHON", PYTHON).replace("GCS", address))
    token = cluster.cli("exec", "head-1", "--", "find", "/clusterctl/node", "-name", "token").stdout.split()[0]
    state = cluster.home / "clusters" / "demo" / "provider"
    provider = DockerProvider(ProviderContext("demo", cluster.uid, str(state)))
    command = provider.inside(head.name, [PYTHON, "-c", HELPER.read_text()], helper_environment(address, token))
    assert shlex.join(command).count(token) == 1, "its path, not the token"
    asyncio.run(hold_and_release(EngineClient("", address, "", lambda _: None, command=command)))
    cluster.down()


async def hold_and_release(client: EngineClient) -> None:
    def second() -> EngineNode | None:
        return next((node for node in client.state.nodes if node.available.get("GPU") or node.total.get("GPU")), None)

    async def until(condition: Callable[[], object]) -> None:
        deadline = time.monotonic() + 60
        while not condition():
            assert time.monotonic() < deadline, client.state
            await asyncio.sleep(0.02)

    await client.start()
    await until(second)
    node = second()
    assert node and node.total.get("GPU") == 2
    one, ids = await client.hold_gpus(node.ray_node_id, 1)
    other, more = await client.hold_gpus(node.ray_node_id, 1)
    assert sorted(ids + more) == [0, 1]
    for hold in (one, other):
        await client.release_gpus(hold)
    await until(lambda: (found := second()) and found.available.get("GPU") == 2)
    await client.stop()
