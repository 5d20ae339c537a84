"""The control plane of the tests does what a cluster's does, so that what is proved on it is worth something."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from tests.kubernetes.parts import pod
from tests.support.cluster import wait_until
from tests.support.kubernetes.api import ApiError
from tests.support.kubernetes.plane import ControlPlane


def test_a_pod_is_bound_to_a_node_that_has_what_it_asks_for(control_plane: ControlPlane) -> None:
    api, namespace = control_plane.api, control_plane.namespace()
    pods = f"/api/v1/namespaces/{namespace}/pods"
    taint = {"key": "nvidia.com/gpu", "value": "", "effect": "NoSchedule"}
    control_plane.add_node(f"{namespace}-gpu", gpus=2, taints=[taint], labels={"pool": namespace})
    chosen = {"nodeSelector": {"pool": namespace}}
    api.create(pods, pod("refused", **chosen))
    tolerations = [{"key": "nvidia.com/gpu", "operator": "Exists"}]
    api.create(pods, pod("taken", limits={"nvidia.com/gpu": "2"}, tolerations=tolerations, **chosen))

    def node_of(name: str) -> str:
        return api.get(f"{pods}/{name}")["spec"].get("nodeName", "")

    assert wait_until(lambda: node_of("taken")) == f"{namespace}-gpu"

    def why() -> str:
        conditions = api.get(f"{pods}/refused")["status"].get("conditions", [])
        return next((each["message"] for each in conditions if each.get("reason") == "Unschedulable"), "")

    assert "taint {nvidia.com/gpu: }" in wait_until(why)
    control_plane.remove_node(f"{namespace}-gpu")


def test_an_account_may_do_what_its_role_says_and_nothing_else(control_plane: ControlPlane) -> None:
    namespace = control_plane.namespace()
    rules = [{"apiGroups": [""], "resources": ["pods"], "verbs": ["list"]}]
    api = control_plane.api_of(control_plane.kubeconfig_of(namespace, rules))
    assert api.get(f"/api/v1/namespaces/{namespace}/pods")["items"] == []
    for path in (f"/api/v1/namespaces/{namespace}/pods/any", "/api/v1/nodes"):
        with pytest.raises(ApiError) as refusal:
            api.get(path)
        assert refusal.value.code == 403
    api.close()


def test_a_quota_refuses_what_goes_beyond_it(control_plane: ControlPlane) -> None:
    api, namespace = control_plane.api, control_plane.namespace()
    quotas = f"/api/v1/namespaces/{namespace}/resourcequotas"
    api.create(quotas, {"metadata": {"name": "small"}, "spec": {"hard": {"limits.cpu": "1"}}})
    wait_until(lambda: api.get(f"{quotas}/small").get("status", {}).get("used"), what="the quota is counted")
    with pytest.raises(ApiError, match=r"exceeded quota: small, requested: limits\.cpu=2") as refusal:
        api.create(f"/api/v1/namespaces/{namespace}/pods", pod("big", limits={"cpu": "2"}))
    assert refusal.value.code == 403


def test_what_belongs_to_something_goes_with_it(control_plane: ControlPlane) -> None:
    api, namespace = control_plane.api, control_plane.namespace()
    place = f"/api/v1/namespaces/{namespace}"
    owner = api.create(f"{place}/configmaps", {"metadata": {"name": "owner"}})["metadata"]
    reference = {"apiVersion": "v1", "kind": "ConfigMap", "name": "owner", "uid": owner["uid"]}
    # Bound to none of the nodes that others made: there it would wait for a kubelet to let it go.
    api.create(f"{place}/pods", pod("owned", metadata={"ownerReferences": [reference]}, nodeSelector={"no": "node"}))
    api.delete(f"{place}/configmaps/owner")
    wait_until(lambda: not api.get(f"{place}/pods")["items"], what="the pod goes with its owner")


def test_a_test_process_that_is_killed_takes_its_control_plane_with_it(tmp_path: Path) -> None:
    program = (
        "import sys; from pathlib import Path; from tests.support.kubernetes.running import Running\n"
        "running = Running(Path(sys.argv[1])); running.start('part', ['sleep', '600'])\n"
        "print(running.pid('part'), flush=True); sys.stdin.read()"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", program, str(tmp_path)],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=Path(__file__).parents[2],
    )  # fmt: skip
    assert process.stdout is not None
    started = psutil.Process(int(process.stdout.readline()))
    wait_until(lambda: started.name() == "sleep", what="the program is what it is told to be")
    process.kill()
    process.communicate()

    def has_ended() -> bool:
        return not started.is_running() or started.status() == psutil.STATUS_ZOMBIE

    wait_until(has_ended, what="the program ends with the process that started it")
