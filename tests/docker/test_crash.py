"""kill -9 at every call to the engine, and of a real head in the middle of its launches: nothing unowned, nothing twice."""

from __future__ import annotations

import collections
import os
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import docker
import psutil
import pytest
from clusterctl_providers.base import TAG_NODE, TAG_UID, PoolRequest, ProviderContext
from clusterctl_providers.docker import DockerProvider

from clusterctl.core.model import Launch, NodeState, Plan, Reason, launch_token
from clusterctl.provision.journal import Journal
from clusterctl.provision.provisioner import Provisioner
from tests.docker.conftest import DockerCluster
from tests.docker.world import SLEEPER
from tests.support.cluster import wait_until
from tests.support.docker_engine import DockerEngine, remove_labelled

UID = "5f3a6f0e-57f4-4d39-a7e1-4c4a3e0b8d0c"
POOL = PoolRequest("cpu", {"resources": {"CPU": 1, "memory": 64 * 2**20}})
CALLS = ("create_network", "create_container", "put_archive", "start", "stop", "remove_container", "remove_network")


class Process:
    """What `up` and `down` do with one container, in one process; killed at call number `fatal` (counted before and after)."""

    def __init__(self, directory: Path, image: str, fatal: int = 0) -> None:
        self.journal = Journal(directory / "nodes.db", strict=True)
        self.journal.acquire(f"process {os.getpid()}")
        settings = {"image": image, "agent_argv": SLEEPER, "grace": 1}
        self.provider = DockerProvider(ProviderContext("demo", UID, str(directory / "state"), settings))
        self._left = fatal
        for name in CALLS if fatal else ():
            self._arm(name)
        self.provisioner = Provisioner(
            self.journal, {"docker": self.provider}, lambda node, pool: {"join_token": node.token},
            cluster="demo", uid=UID, clock=time.time, pools=[POOL],
        )  # fmt: skip

    def _arm(self, name: str) -> None:
        api = self.provider._engine.api
        real = getattr(api, name)

        def deadly(*args: Any, **kwargs: Any) -> Any:
            self._count()
            answer = real(*args, **kwargs)
            self._count()
            return answer

        setattr(api, name, deadly)

    def _count(self) -> None:
        self._left -= 1
        if self._left == 0:
            os.kill(os.getpid(), signal.SIGKILL)

    def up(self) -> None:
        self.provisioner.observe()
        if self.journal.get("cpu-1") is None:
            offer, reason = self.provisioner.offers()[0], Reason("minimum", "the pool's minimum")
            launch = Launch("cpu-1", 1, launch_token(UID, "cpu-1", 1), offer, "worker", "", reason)
            self.provisioner.apply(Plan((launch,)))
        else:
            self.provisioner.resume()

    def down(self) -> None:
        self.provisioner.down()

    def close(self) -> None:
        self.provisioner.close()
        self.journal.close()


@pytest.fixture(autouse=True)
def nothing_left(docker_engine: DockerEngine) -> Iterator[None]:
    yield
    remove_labelled(docker_engine.client, f"{TAG_UID}={UID}")


def killed_in(work: Callable[[Process], None], directory: Path, image: str, fatal: int) -> bool:
    """Runs `work` in a process of its own that dies at call `fatal`; false when it came to its end."""
    child = os.fork()
    if child == 0:
        code = 1
        try:
            work(Process(directory, image, fatal))
            code = 0
        finally:
            os._exit(code)
    _, status = os.waitpid(child, 0)
    assert os.WIFSIGNALED(status) or os.WEXITSTATUS(status) == 0, "the process failed by itself"
    return os.WIFSIGNALED(status)


def remains(client: docker.DockerClient) -> list[Any]:
    wanted: dict[str, Any] = {"label": f"{TAG_UID}={UID}"}
    return [*client.containers.list(all=True, filters=wanted), *client.networks.list(filters=wanted)]


def test_an_up_killed_at_any_call_is_finished_by_the_next_with_one_container(
    docker_engine: DockerEngine, image: str, tmp_path: Path
) -> None:
    client = docker_engine.client
    nodes: dict[str, Any] = {"label": [f"{TAG_UID}={UID}", TAG_NODE]}
    fatal, died = 0, True
    while died:
        fatal += 1
        directory = tmp_path / str(fatal)
        directory.mkdir()
        died = killed_in(Process.up, directory, image, fatal)
        again = Process(directory, image)
        again.up()
        found = client.containers.list(all=True, filters=nodes)
        assert [(c.labels[TAG_NODE], c.status) for c in found] == [("cpu-1", "running")], f"killed at call {fatal}"
        node = again.journal.get("cpu-1")
        assert node and node.instance_id == found[0].name and node.state is NodeState.BOOTING
        again.down()
        again.close()
        assert not remains(client), f"killed at call {fatal}"
    assert fatal > 14, f"only {fatal} positions: is every call armed?"


def test_a_down_killed_at_any_call_is_finished_by_the_next(
    docker_engine: DockerEngine, image: str, tmp_path: Path
) -> None:
    client = docker_engine.client
    fatal, died = 0, True
    while died:
        fatal += 1
        directory = tmp_path / str(fatal)
        directory.mkdir()
        first = Process(directory, image)
        first.up()
        first.close()
        died = killed_in(Process.down, directory, image, fatal)
        again = Process(directory, image)
        again.down()
        again.close()
        assert not remains(client), f"killed at call {fatal}"
    assert fatal > 6


SPEC = """\
cluster: demo
provider: {docker: {image: "IMAGE"}}
engine: none
head: {resources: {CPU: 1, memory: 256MiB}}
pools:
  - {name: cpu, min: 3, max: 3, resources: {CPU: 1, memory: 128MiB}}
"""


def test_a_head_killed_again_and_again_while_it_launches_ends_with_one_container_per_node(
    make_cluster: Callable[..., DockerCluster], image: str
) -> None:
    cluster = make_cluster(SPEC.replace("IMAGE", image), up=False)
    up = cluster.start("up", str(cluster.spec), "-y")
    wait_until(lambda: (cluster.head_dir / "head.json").exists(), what="the head")
    killed: list[int] = []

    def next_head() -> int:
        pid = cluster.head_pid()
        return pid if pid not in killed and psutil.pid_exists(pid) else 0

    for count in (0, 1, 3):
        wait_until(lambda n=count: len(cluster.containers()) >= n, seconds=60, what=f"{count} containers")
        killed.append(wait_until(next_head, seconds=60, what="the next head"))
        cluster.kill(killed[-1])
    _, errors = up.communicate(timeout=60)
    assert up.returncode == 0, errors
    wait_until(lambda: len(cluster.ready_nodes()) == 3, seconds=60, what="three nodes ready")
    wanted = ["cpu-1", "cpu-2", "cpu-3", "head-1"]
    shown = {node["id"]: node for node in cluster.status()["nodes"]}
    live = collections.Counter(c.labels[TAG_NODE] for c in cluster.containers())
    assert sorted(live) == sorted(shown) and set(live.values()) == {1}
    assert len(live) == len(wanted)
    cluster.down()
