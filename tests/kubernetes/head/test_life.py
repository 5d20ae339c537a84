"""A head in a pod: from `up` to `down`, through a real API server."""

from __future__ import annotations

from tests.kubernetes.head.cluster import PodCluster


def test_jobs_run_on_pods_whose_head_is_one(cluster: PodCluster) -> None:
    done = cluster.cli("run", "--", "sh", "-c", "echo from $CLUSTERCTL_NODE; id -u")
    assert "1000" in done.stdout
