"""Ray's own tools on this machine, against a cluster that is elsewhere."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from tests.support.cluster import LocalCluster

CLIENT = """
import os, ray
ray.init(os.environ["CLUSTERCTL_RAY_CLIENT"])
print("client of", ray.get(ray.remote(num_cpus=0)(lambda: len(ray.nodes())).remote()))
"""


def check_ray_tools(cluster: LocalCluster, nodes: int) -> None:
    """GCS, state API and `ray://` of a cluster with so many raylets."""
    ray = str(Path(sys.executable).with_name("ray"))
    assert "1 head" in cluster.cli("env", "--", ray, "status").stdout
    assert len(json.loads(cluster.cli("env", "--", ray, "list", "nodes", "--format", "json").stdout)) == nodes
    assert f"client of {nodes}" in cluster.cli("env", "--", sys.executable, "-c", CLIENT).stdout
