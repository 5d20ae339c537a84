"""What a spec names that is not there, and rights that are missing: told before anything is made."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from clusterctl_providers.base import Objection, PoolRequest, ProviderContext
from clusterctl_providers.kubernetes.provider import KubernetesProvider
from clusterctl_providers.kubernetes.rights import NEEDED, rules

from tests.kubernetes.nodes.conftest import Spot
from tests.kubernetes.nodes.world import HERE, as_user
from tests.support.cluster import wait_until

CPU = PoolRequest("cpu", {"resources": {"CPU": 1}})


def objections(*pools: PoolRequest, **settings: Any) -> list[Objection]:
    provider = KubernetesProvider(ProviderContext("demo", "", "", {**HERE, **settings}))
    try:
        return provider.review(pools or (CPU,))
    finally:
        provider.close()


def test_a_spec_that_fits_has_no_objection_and_leaves_nothing(spot: Spot) -> None:
    assert objections(CPU, PoolRequest("head", {}, "head"), pod={"spec": {"hostIPC": False}}) == []
    for plural in ("pods", "secrets", "configmaps"):
        found = spot.plane.api.get(f"{spot.path}/{plural}", labelSelector="app.kubernetes.io/managed-by=clusterctl")
        assert found["items"] == []


def test_a_context_and_a_namespace_that_are_not_there(spot: Spot) -> None:
    (one,) = objections(context="prod")
    assert one.key == "context" and "it has: test" in one.text
    (one,) = objections(namespace="nowhere")
    assert (one.pool, one.key, one.text) == ("", "namespace", "there is no namespace nowhere")


def test_keys_of_a_pod_that_kubernetes_does_not_know_are_named(spot: Spot) -> None:
    pod: dict[str, Any] = {
        "spec": {"dnsPolicyy": "Default", "containers": [{"name": "node", "workingDirectory": "/x"}]}
    }
    found = objections(pod=pod)
    (one,) = objections(CPU, PoolRequest("head", {}, "head"), pod={"spec": {"dnsPolicy": "None"}})
    assert one.key == "pod" and "must provide `dnsConfig`" in one.text, "once, though it is each pod's"
    assert {(one.key, one.text.split(" key ")[1].split(" ")[0]) for one in found} == {
        ("pod", "spec.dnsPolicyy"),
        ("pod", "spec.containers[0].workingDirectory"),
    }


def test_a_quota_of_zero_a_claim_a_class_and_an_account_that_are_not_there(spot: Spot) -> None:
    quota = {"metadata": {"name": "nothing"}, "spec": {"hard": {"pods": "0"}}}
    api = spot.plane.api
    assert {
        (one.key, one.text) for one in objections(storage_class="fast", volumes=[{"claim": "data", "to": "/d"}])
    } == {
        ("storage_class", "there is no storage class fast"),
        ("volumes", f"there is no claim data in namespace {spot.namespace}"),
    }
    claim = {
        "metadata": {"name": "data"},
        "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}},
    }
    api.create(f"{spot.path}/persistentvolumeclaims", claim)
    (one,) = objections(volumes=[{"claim": "data", "to": "/d"}])
    assert one.key == "volumes" and "is ReadWriteOnce" in one.text
    (one,) = objections(service_account="nobody")
    assert one.key == "service_account"
    api.create(f"{spot.path}/resourcequotas", quota)
    wait_until(lambda: "hard" in api.get(f"{spot.path}/resourcequotas/nothing").get("status", {}), what="the quota")
    (one,) = objections()
    assert (one.pool, one.key) == ("cpu", "resources") and "exceeded quota: nothing" in one.text


def test_a_quota_that_has_no_room_for_the_heads_state_is_told_before_anything_is_made(spot: Spot) -> None:
    quota = {"metadata": {"name": "claims"}, "spec": {"hard": {"persistentvolumeclaims": "0"}}}
    api = spot.plane.api
    api.create(f"{spot.path}/resourcequotas", quota)
    wait_until(lambda: "hard" in api.get(f"{spot.path}/resourcequotas/claims").get("status", {}), what="the quota")
    head = PoolRequest("head", {}, "head")
    (one,) = objections(CPU, head, head_address="")
    assert one.key == "head_volume" and "exceeded quota: claims" in one.text
    assert objections(CPU, head) == [], "a head here has its state here"
    for plural in ("pods", "persistentvolumeclaims"):
        assert api.get(f"{spot.path}/{plural}")["items"] == []


def test_a_gpu_that_no_node_has_and_one_that_nobody_knows(spot: Spot) -> None:
    labels = {"nvidia.com/gpu.product": ["NVIDIA-H200"]}
    (one,) = objections(PoolRequest("gpu", {"gpu": {"name": "H200", "count": 1}, "gpu_labels": labels}))
    assert one.pool == "gpu" and "has the labels" in one.text
    (one,) = objections(PoolRequest("gpu", {"gpu": {"name": "Z9", "count": 1}, "gpu_labels": {}}))
    assert (one.pool, one.key) == ("gpu", "gpu") and "choose them with `node_selector`" in one.text


def test_a_namespace_without_rights_is_told_and_doctor_names_each_verb(spot: Spot) -> None:
    some = [{"apiGroups": [""], "resources": ["pods"], "verbs": ["list", "get"]}]
    with as_user(spot.plane.kubeconfig_of(spot.namespace, some)):
        (one,) = objections(head_address="10.0.0.5")
        assert one.key == "context" and f"may not do this in namespace {spot.namespace}: create configmaps," in one.text
        assert "delete pods" in one.text and "list pods" not in one.text
        (one,) = objections(head_address="")
        assert "create statefulsets.apps" in one.text, "a head in a pod takes more"
        rows = _doctor(head_address="10.0.0.5")
        lacking = {
            what.removeprefix("permission to ") for what, ok, _ in rows if not ok and what.startswith("permission")
        }
        everything = {f"{verb} {name}" for name, verbs in NEEDED.items() for verb in verbs}
        assert lacking == everything - {"list pods", "get pods"}
    with as_user(spot.plane.kubeconfig_of(spot.namespace, rules())):
        assert [(what, fix) for what, ok, fix in _doctor(CPU, head_address="10.0.0.5") if not ok] == []


def test_doctor_says_who_we_are_and_stops_at_credentials_that_are_not_taken(spot: Spot, tmp_path: Path) -> None:
    rows = _doctor(CPU)
    titles = [what for what, ok, _ in rows if ok]
    assert titles[0] == f"Kubernetes knows us as context test, namespace {spot.namespace}"
    assert titles[1].startswith("Kubernetes v")
    assert "pods are told to find the head at 10.0.0.5" in titles
    assert "pods of all pools are admitted (a dry run, nothing was made)" in titles
    lines = [line for line in spot.kubeconfig.read_text().splitlines() if "client-" not in line]
    (tmp_path / "config").write_text("\n".join(lines))
    with as_user(tmp_path / "config"):
        ((what, ok, fix),) = _doctor()
        assert what == "credentials that Kubernetes accepts" and not ok and "does not know these credentials" in fix


def _doctor(*pools: PoolRequest, **settings: Any) -> list[tuple[str, bool, str]]:
    provider = KubernetesProvider(ProviderContext("demo", "", "", {**HERE, **settings}))
    try:
        return provider.doctor_for(pools)
    finally:
        provider.close()
