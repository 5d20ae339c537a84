"""Volumes of a cluster of containers: named volumes of the engine, which go with the cluster or stay."""

from __future__ import annotations

from collections.abc import Callable

import docker.errors
import pytest

from tests.docker.conftest import DockerCluster

SPEC = """\
cluster: kept
provider: {docker: {image: "IMAGE", shm_size: 32MiB}}
engine: none
head: {resources: {CPU: 1, memory: 256MiB}}
mounts:
  - {volume: work, to: /work, keep: true}
  - {volume: scratch, to: /scratch}
pools: [{name: cpu, min: 1, max: 1, resources: {CPU: 1, memory: 256MiB}}]
"""


def test_a_volume_is_one_for_all_containers_and_survives_down_where_it_is_to_be_kept(
    make_cluster: Callable[..., DockerCluster], image: str
) -> None:
    cluster = make_cluster(SPEC.replace("cluster: kept", "cluster: demo").replace("IMAGE", image))
    volumes = cluster.engine.client.volumes
    try:
        script = "echo note > /work/note; echo x > $CLUSTERCTL_MOUNTS/scratch/x; ls /work /scratch"
        said = cluster.cli("submit", "-q", "--pool", "cpu", "--", "sh", "-c", script).stdout.split()
        assert said == ["/scratch:", "x", "/work:", "note"]
        states = {m["to"]: m["state"] for m in cluster.json("node", "show", "cpu-1")["mounts"]}
        assert states == {"/work": "mounted", "/scratch": "mounted"}
        scratch = f"clusterctl-demo-scratch-{cluster.uid.replace('-', '')[:12]}"
        assert volumes.get(scratch).attrs["Labels"]["clusterctl-uid"] == cluster.uid
        cluster.down()
        with pytest.raises(docker.errors.NotFound):
            volumes.get(scratch)
        assert "clusterctl-kept" in volumes.get("clusterctl-demo-work").attrs["Labels"]
        said = cluster.cli("gc", "--dry-run").stderr
        assert "docker volume rm clusterctl-demo-work" in said
        cluster.up()
        assert cluster.cli("submit", "-q", "--pool", "cpu", "--", "cat", "/work/note").stdout == "note\n"
        cluster.down()
    finally:
        cluster.clean_up()
        for volume in volumes.list(filters={"label": "clusterctl-kept=true"}):
            volume.remove()
