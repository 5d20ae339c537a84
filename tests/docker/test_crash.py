"""kill -9 wherever it can happen to a process that makes containers, and of a real head in the middle of its launches."""

from __future__ import annotations

import collections
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest
from clusterctl_providers.base import TAG_NODE, TAG_UID

from tests.crash.stage import UID
from tests.crash.story import (
    check_all_gone,
    check_no_double,
    die_once_everywhere,
    every_other_effect,
    run_story,
    running,
)
from tests.docker.conftest import DockerCluster
from tests.docker.sky import DockerSky
from tests.support.cluster import wait_until
from tests.support.docker_engine import DockerEngine, remove_labelled


@pytest.fixture
def sky(docker_engine: DockerEngine, image: str, tmp_path: Path) -> Iterator[DockerSky]:
    remove_labelled(docker_engine.client, f"{TAG_UID}={UID}")
    sky = DockerSky(tmp_path, image)
    yield sky
    sky.close()
    remove_labelled(docker_engine.client, f"{TAG_UID}={UID}")


def test_nodes_are_there_once_and_then_gone_whoever_is_killed_on_the_way(sky: DockerSky) -> None:
    died = die_once_everywhere(sky)
    kinds = {name.partition(": ")[2] for name in died}
    assert {
        "before create",
        "before terminate",
        "before sweep",
        "before create_network",
        "before remove_network",
    } <= kinds
    for call in ("create_container", "start", "remove_container"):
        assert {f"before {call} of a node", f"before {call} of the look into the image"} <= kinds
    assert {"before put_archive of a node", "before put_archive of a node again"} <= kinds
    assert {name.partition(":")[0] for name in died} == {"start", "up", "scale-up", "scale-down", "down"}


def test_answers_that_are_lost_after_the_effect_leave_nothing(sky: DockerSky) -> None:
    with running(sky, lost=every_other_effect()) as head:
        head.start()
        run_story(head, [], lambda: check_no_double(sky))
        check_all_gone(sky, head)


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
        wait_until(lambda n=count: len(cluster.containers()) >= n, what=f"{count} containers")
        killed.append(wait_until(next_head, what="the next head"))
        cluster.kill(killed[-1])
    _, errors = up.communicate(timeout=120)
    assert up.returncode == 0, errors
    wait_until(lambda: len(cluster.ready_nodes()) == 3, what="three nodes ready")
    wanted = ["cpu-1", "cpu-2", "cpu-3", "head-1"]
    shown = {node["id"]: node for node in cluster.status()["nodes"]}
    live = collections.Counter(c.labels[TAG_NODE] for c in cluster.containers())
    assert sorted(live) == sorted(shown) and set(live.values()) == {1}
    assert len(live) == len(wanted)
    cluster.down()
