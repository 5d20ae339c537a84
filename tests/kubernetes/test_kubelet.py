"""A node with a real kubelet and a real Docker engine: what the tests' own kubelet only says happens there."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.cluster import wait_until
from tests.support.kubernetes.api import ApiError
from tests.support.kubernetes.fixture import skip_where_there_is_none
from tests.support.kubernetes.kubelet import RealCluster

GRACE = 120
PROGRAM = """\
trap 'echo bye >>/said/words; exit 0' TERM
cat /secret/token >/said/words
echo running
while :; do sleep 0.1; done
"""


@pytest.fixture(scope="module")
def real(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RealCluster]:
    skip_where_there_is_none()
    with RealCluster(tmp_path_factory.mktemp("real") / "cluster") as cluster:
        yield cluster


@pytest.mark.timeout(1200)  # the first run ever builds Kubernetes and the image
def test_a_pod_runs_with_an_address_and_a_secret_and_ends_within_its_grace(real: RealCluster, tmp_path: Path) -> None:
    api, namespace = real.plane.api, real.plane.namespace()
    place = f"/api/v1/namespaces/{namespace}"
    api.create(f"{place}/secrets", {"metadata": {"name": "join"}, "stringData": {"token": "open sesame\n"}})
    container = {
        "name": "main",
        "image": real.image(),
        "command": ["sh", "-c", PROGRAM],
        "resources": {"limits": {"cpu": "500m", "memory": "128Mi"}},
        "volumeMounts": [{"name": "said", "mountPath": "/said"}, {"name": "join", "mountPath": "/secret"}],
    }
    volumes = [
        {"name": "said", "hostPath": {"path": str(tmp_path)}},
        {"name": "join", "secret": {"secretName": "join"}},
    ]
    spec = {"containers": [container], "volumes": volumes, "restartPolicy": "Never"}
    api.create(
        f"{place}/pods", {"metadata": {"name": "real"}, "spec": {**spec, "terminationGracePeriodSeconds": GRACE}}
    )

    def runs() -> bool:
        status = api.get(f"{place}/pods/real")["status"]
        assert status["phase"] in ("Pending", "Running"), (status, real.log())
        return status["phase"] == "Running"

    wait_until(runs, what="the pod runs")
    assert api.get(f"{place}/pods/real")["status"]["podIP"].startswith("10.214.")
    wait_until(lambda: api.text(f"{place}/pods/real/log") == "running\n", what="its log is read through the API server")

    began = time.monotonic()
    api.delete(f"{place}/pods/real")

    def is_gone() -> bool:
        try:
            api.get(f"{place}/pods/real")
        except ApiError as error:
            return error.code == 404
        return False

    wait_until(is_gone, GRACE, what="the pod is gone")
    assert time.monotonic() - began < GRACE / 2, "it was asked, not killed"
    assert (tmp_path / "words").read_text() == "open sesame\nbye\n"
