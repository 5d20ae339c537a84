from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from clusterctl.client.down import gc
from clusterctl.client.registry import Registry
from tests.support.cluster import LocalCluster, wait_until

SPEC = "cluster: demo\nprovider: local\nengine: none\npools:\n  - {name: cpu, min: 1, max: 2, resources: {CPU: 2}}\n"


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[LocalCluster]:
    made = LocalCluster(tmp_path, SPEC)
    made.up()
    yield made
    made.clean_up()


def found(home: Path) -> list[str]:
    return [stray.uid for stray in gc.collect_strays(Registry(home, {}), dry_run=True)]


def test_only_what_no_home_knows_any_more_is_removed(
    cluster: LocalCluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    uid, other = cluster.status()["uid"], tmp_path / "other home"
    assert uid not in found(other), "its head runs"
    supervisor = int((cluster.head_dir / "supervisor.pid").read_text())
    for pid in (supervisor, cluster.head_pid()):
        cluster.kill(pid)
    wait_until(lambda: uid not in found(other), what="its home still knows it")
    assert uid not in found(cluster.home), "it is known here"
    shutil.rmtree(cluster.home / "clusters" / "demo")
    assert uid in found(other) and cluster.processes()

    # Other clusters on the machine that runs this test are none of its business, nor is its Docker engine.
    monkeypatch.setenv("DOCKER_HOST", "unix:///nowhere/docker.sock")
    monkeypatch.setattr(gc, "_owned", lambda _: EverythingBut(uid))
    strays = gc.collect_strays(Registry(other, {}), dry_run=False)
    assert [(stray.uid, stray.cluster, stray.removed) for stray in strays] == [(uid, "demo", True)]
    wait_until(lambda: not cluster.processes(), what="nothing of it runs")
    assert not gc.collect_strays(Registry(other, {}), dry_run=False)


class EverythingBut:
    """A set of all uids but one."""

    def __init__(self, uid: str) -> None:
        self._uid = uid

    def __contains__(self, uid: object) -> bool:
        return uid != self._uid
