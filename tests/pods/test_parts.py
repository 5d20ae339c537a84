"""The parts of provider kubernetes that need no API server: kubeconfigs, manifests, shapes and their prices, typed errors."""

from __future__ import annotations

import json
import stat
from pathlib import Path
from typing import Any

import pytest
import yaml
from clusterctl_providers import catalog
from clusterctl_providers.base import CreateRequest, PoolRequest, ProviderContext
from clusterctl_providers.kubernetes.errors import ApiError, Changed, Exists, Expired, Missing, typed
from clusterctl_providers.kubernetes.kubeconfig import find_login
from clusterctl_providers.kubernetes.pod import manifest, merged, secret
from clusterctl_providers.kubernetes.quantities import amount
from clusterctl_providers.kubernetes.selection import affinity
from clusterctl_providers.kubernetes.shapes import Shapes

from clusterctl.core.errors import AuthFailed, BadRequest, ProviderError, QuotaExceeded, Throttled, UnknownOutcome
from clusterctl.core.model import Offer
from clusterctl.core.resources import Resources
from clusterctl.spec.load import parse_spec
from clusterctl.spec.providers.kubernetes import gpu_labels
from clusterctl.spec.to_core import pool_requests

GIB = 2**30


# ---------------------------------------------------------------- errors


def answer(status: int, reason: str, message: str, headers: dict[str, str] | None = None) -> ProviderError:
    body = json.dumps({"kind": "Status", "reason": reason, "message": message}).encode()
    return typed(ApiError(status, body, headers or {}), "making the pod p", "prod")


@pytest.mark.parametrize(
    ("status", "reason", "message", "kind", "words"),
    [
        (401, "Unauthorized", "Unauthorized", AuthFailed, "log in to the context 'prod' anew"),
        (
            403,
            "Forbidden",
            'pods is forbidden: User "u" cannot list resource "pods" in API group "" in the namespace "ml"',
            AuthFailed,
            "the right to list pods in namespace ml",
        ),
        (
            403,
            "Forbidden",
            'pods "p" is forbidden: exceeded quota: q, requested: pods=1, used: pods=0, limited: pods=0',
            QuotaExceeded,
            "quota q",
        ),
        (
            403,
            "Forbidden",
            'pods "p" is forbidden: violates PodSecurity "restricted:latest": runAsNonRoot',
            BadRequest,
            "violates PodSecurity",
        ),
        (
            403,
            "Forbidden",
            'pods "p" is forbidden: maximum cpu usage per Container is 1, but limit is 2',
            BadRequest,
            "maximum cpu",
        ),
        (
            400,
            "BadRequest",
            'admission webhook "v.kyverno.svc" denied the request: no',
            BadRequest,
            "webhook v.kyverno.svc",
        ),
        (422, "Invalid", 'Pod "p" is invalid: spec.restartPolicy: Unsupported value', BadRequest, "restartPolicy"),
        (404, "NotFound", 'pods "p" not found', Missing, "not found"),
        (409, "AlreadyExists", 'pods "p" already exists', Exists, "already exists"),
        (409, "Conflict", "the object has been modified", Changed, "modified"),
        (410, "Expired", "The provided continue parameter is too old", Expired, "too old"),
        (500, "InternalError", "etcdserver: request timed out", UnknownOutcome, "timed out"),
        (504, "Timeout", "request did not complete", UnknownOutcome, "did not complete"),
    ],
)
def test_each_answer_has_its_type_and_sentence(
    status: int, reason: str, message: str, kind: type[ProviderError], words: str
) -> None:
    error = answer(status, reason, message)
    assert type(error) is kind and words in str(error) and str(error).startswith("making the pod p")


def test_a_server_that_is_asked_too_much_says_for_how_long() -> None:
    error = answer(429, "TooManyRequests", "too many", {"Retry-After": "7"})
    assert isinstance(error, Throttled) and error.retry_after == 7


# ---------------------------------------------------------------- who speaks to whom


def kubeconfig(path: Path, user: dict[str, Any], name: str = "prod", current: str = "prod") -> Path:
    told = {
        "current-context": current,
        "contexts": [{"name": name, "context": {"cluster": name, "user": name, "namespace": "ml"}}],
        "clusters": [{"name": name, "cluster": {"server": f"https://{name}.test:6443/"}}],
        "users": [{"name": name, "user": user}],
    }
    path.write_text(yaml.safe_dump(told))
    return path


def test_the_first_of_several_files_that_has_a_name_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = kubeconfig(tmp_path / "a", {"token": "one"}, "prod")
    second = kubeconfig(tmp_path / "b", {"token": "two"}, "test", "test")
    monkeypatch.setenv("KUBECONFIG", f"{first}:{tmp_path / 'none'}:{second}")
    login = find_login({})
    assert (login.context, login.namespace, login.server) == ("prod", "ml", "https://prod.test:6443")
    assert login.credentials.header() == "Bearer one"
    login = find_login({"context": "test", "namespace": "other"})
    assert (login.namespace, login.credentials.header()) == ("other", "Bearer two")
    monkeypatch.delenv("KUBECONFIG")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert find_login({"kubeconfig": str(second)}).context == "test", "a shell without the variable finds the cluster"
    with pytest.raises(BadRequest, match="no Kubernetes context is known"):
        find_login({})


@pytest.mark.parametrize("version", ["v1", "v1beta1"])
def test_a_login_plugin_is_run_when_its_token_ends_or_is_not_taken_and_not_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, version: str
) -> None:
    plugin = tmp_path / "plugin"
    plugin.write_text(
        '#!/bin/sh\necho run >> "$LOG"\n'
        'printf \'{"status": {"token": "%s", "expirationTimestamp": "2999-01-01T00:00:00Z"}}\' "$(wc -l < "$LOG")"\n'
    )
    plugin.chmod(plugin.stat().st_mode | stat.S_IXUSR)
    told = {"command": "./plugin", "apiVersion": f"client.authentication.k8s.io/{version}"}
    told["env"] = [{"name": "LOG", "value": str(tmp_path / "log")}]  # type: ignore[assignment]
    monkeypatch.setenv("KUBECONFIG", str(kubeconfig(tmp_path / "config", {"exec": told})))
    credentials = find_login({}).credentials
    assert credentials.header() == credentials.header() == "Bearer 1"
    assert credentials.refused() and credentials.header() == "Bearer 2"


def test_a_login_plugin_that_is_not_there_says_how_to_get_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    told = {"command": "gke-no-such-plugin", "installHint": "Install it with gcloud components install."}
    monkeypatch.setenv("KUBECONFIG", str(kubeconfig(tmp_path / "config", {"exec": told})))
    with pytest.raises(AuthFailed, match="gke-no-such-plugin: there is no such command here: Install it with gcloud"):
        find_login({}).credentials.header()


# ---------------------------------------------------------------- pods


def request(spec: dict[str, Any], **amounts: float) -> CreateRequest:
    offer = Offer("gpu", "t", "on-demand", "", 0.0, Resources.of(amounts))
    tags = {"clusterctl-uid": "u", "clusterctl-cluster": "demo", "clusterctl-maker": "me@here"}
    return CreateRequest("token", "gpu-1", 1, offer, tags, {"join_token": "once"}, PoolRequest("gpu", spec))


def made(spec: dict[str, Any], settings: dict[str, Any], **amounts: float) -> dict[str, Any]:
    context = ProviderContext("demo", "u", "", settings)
    return manifest(context, request(spec, **amounts), "p", [], "bundle", "image:1", {"zone": "a"})


def test_a_pod_has_what_its_pool_says_and_no_rights() -> None:
    settings = {
        "volumes": [{"claim": "data", "to": "/data", "read_only": True}], "service_account": "trainer",
        "runtime_class": "nvidia", "priority_class": "low", "kueue_queue": "team", "image_pull_secrets": ["reg"],
    }  # fmt: skip
    spec = {"gpu": {"name": "", "count": 2}, "disk": 10 * GIB, "node_selector": {"disktype": "ssd"}}
    pod = made(spec, settings, CPU=1.5, memory=8 * GIB, GPU=2)
    told, container = pod["spec"], pod["spec"]["containers"][0]
    wanted = {"cpu": "1500m", "memory": str(8 * GIB), "nvidia.com/gpu": "2", "ephemeral-storage": str(10 * GIB)}
    assert container["resources"] == {"requests": wanted, "limits": wanted}
    assert (told["restartPolicy"], told["automountServiceAccountToken"]) == ("Never", False)
    assert container["securityContext"] == {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}}
    assert (
        told["securityContext"]["runAsNonRoot"]
        and told["securityContext"]["seccompProfile"]["type"] == "RuntimeDefault"
    )
    assert told["nodeSelector"] == {"zone": "a", "disktype": "ssd"}
    assert told["tolerations"] == [{"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"}]
    assert (told["serviceAccountName"], told["runtimeClassName"], told["priorityClassName"]) == (
        "trainer",
        "nvidia",
        "low",
    )
    assert pod["metadata"]["labels"]["kueue.x-k8s.io/queue-name"] == "team"
    assert {"name": "claim-0", "mountPath": "/data", "readOnly": True} in container["volumeMounts"]
    assert "once" not in json.dumps(pod), "whoever may read pods learns no token"
    assert pod["metadata"]["annotations"]["clusterctl-maker"] == "me@here" and "maker" not in str(
        pod["metadata"]["labels"]
    )


def test_what_a_user_says_of_a_pod_is_merged_by_names_and_cannot_hide_whose_it_is() -> None:
    extra = {
        "metadata": {"labels": {"team": "x", "clusterctl-uid": "another"}},
        "spec": {"containers": [{"name": "node", "env": [{"name": "HOME", "value": "/h"}]}, {"name": "side"}]},
    }
    pod = made({}, {"pod": extra}, CPU=1, memory=GIB)
    assert pod["metadata"]["labels"]["team"] == "x" and pod["metadata"]["labels"]["clusterctl-uid"] == "u"
    node, side = pod["spec"]["containers"]
    assert side == {"name": "side"} and node["image"] == "image:1"
    env = {one["name"]: one["value"] for one in node["env"]}
    assert env["HOME"] == "/h" and env["CLUSTERCTL_NODE"] == "gpu-1"
    assert merged({"a": [1, 2]}, {"a": [3]}) == {"a": [3]}


def test_the_bootstrap_document_is_in_a_secret_alone() -> None:
    document = json.loads(secret("p", request({}), [])["stringData"]["bootstrap.json"])
    assert document["join_token"] == "once" and document["notice"] == 60.0


# ---------------------------------------------------------------- GPUs, shapes, prices


def test_a_gpu_is_found_by_the_labels_of_each_cloud_or_by_the_machine_type() -> None:
    text = "cluster: a\nprovider: kubernetes\npools: [{name: g, gpu: {name: A100, count: 1}}]"
    pool = PoolRequest("g", pool_requests(parse_spec(text))["g"])
    terms = affinity(pool)["nodeAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"]["nodeSelectorTerms"]
    by_label = {term["matchExpressions"][0]["key"]: term["matchExpressions"][0]["values"] for term in terms}
    assert by_label["cloud.google.com/gke-accelerator"] == ["nvidia-tesla-a100", "nvidia-a100-80gb"]
    assert "NVIDIA-A100-SXM4-80GB" in by_label["nvidia.com/gpu.product"]
    assert "p4d.24xlarge" in by_label["node.kubernetes.io/instance-type"]
    assert gpu_labels("A100-40GB")["cloud.google.com/gke-accelerator"] == ["nvidia-tesla-a100"]
    assert gpu_labels("Z9") == {}


class Nodes:
    """A client of which only the nodes and pods of the cluster are asked."""

    namespace = "ml"

    def __init__(self, nodes: list[dict[str, Any]], pods: list[dict[str, Any]] | None = None) -> None:
        self.things = {"/api/v1/nodes": nodes, "/api/v1/pods": pods or []}
        self.asked = 0

    def pages(self, path: str, what: str, **_: Any) -> Any:
        self.asked += 1
        return iter([self.things[path]])


def node(name: str, kind: str = "m5.2xlarge", **labels: str) -> dict[str, Any]:
    told = {
        "node.kubernetes.io/instance-type": kind,
        "topology.kubernetes.io/zone": "us-east-1a",
        "topology.kubernetes.io/region": "us-east-1",
        **labels,
    }
    return {
        "metadata": {"name": name, "labels": {k: v for k, v in told.items() if v}},
        "spec": {"providerID": f"aws:///us-east-1a/i-{name}"},
        "status": {
            "allocatable": {"cpu": "7910m", "memory": "30Gi", "ephemeral-storage": "80Gi"},
            "conditions": [{"type": "Ready", "status": "True"}],
        },
    }


CPU4 = PoolRequest("cpu", {"resources": {"CPU": 3.955, "memory": 15 * GIB}})


def shapes(*nodes: dict[str, Any], pods: list[dict[str, Any]] | None = None) -> Shapes:
    return Shapes(Nodes(list(nodes), pods), lambda: 0.0)  # type: ignore[arg-type]


def test_a_pod_costs_its_share_of_a_node_as_an_estimate_and_spot_nodes_theirs() -> None:
    whole = catalog.prices("aws", "us-east-1")["m5.2xlarge"]
    known = shapes(node("a"), node("b"), node("c", **{"eks.amazonaws.com/capacityType": "SPOT"}))
    spot, dear = known.offers(CPU4)
    assert (
        dear.instance_type == "3.955cpu-15gib@m5.2xlarge" and dear.market == "on-demand" and dear.zone == "us-east-1a"
    )
    assert dear.price == pytest.approx(whole.on_demand / 2) and dear.price_source.startswith("estimated")
    assert spot.market == "spot" and spot.price < dear.price
    assert known.pins(spot) == {
        "node.kubernetes.io/instance-type": "m5.2xlarge",
        "topology.kubernetes.io/zone": "us-east-1a",
        "eks.amazonaws.com/capacityType": "SPOT",
    }


def test_a_shape_that_is_full_comes_after_one_with_room_and_two_looks_are_one() -> None:
    taken = {"spec": {"nodeName": "a", "containers": [{"resources": {"requests": {"cpu": "6"}}}]}}
    known = shapes(node("a"), node("b", "m5a.2xlarge"), pods=[taken])
    assert [offer.instance_type.partition("@")[2] for offer in known.offers(CPU4)] == ["m5a.2xlarge", "m5.2xlarge"]
    known.offers(CPU4)
    assert known._client.asked == 2  # type: ignore[attr-defined]


def test_where_somebody_adds_nodes_the_scheduler_decides_as_well_and_nothing_is_never() -> None:
    known = shapes(node("a", **{"eks.amazonaws.com/nodegroup": "ng"}))
    huge = PoolRequest("cpu", {"resources": {"CPU": 64}})
    (offer,) = known.offers(huge)
    assert not offer.closed and offer.price_source == "the scheduler decides" and known.pins(offer) == {}
    assert known.never(huge) == "" and shapes(node("a")).never(huge)


def test_nodes_without_a_type_are_one_offer_that_pins_nothing() -> None:
    known = shapes(node("a", ""), node("b", ""))
    (offer,) = known.offers(CPU4)
    assert offer.instance_type == "3.955cpu-15gib" and not offer.closed and known.pins(offer) == {}


@pytest.mark.parametrize(
    ("text", "number"), [("500m", 0.5), ("2", 2), ("8Gi", 8 * GIB), ("1e3", 1000), ("100k", 1e5), ("x", 0), ("", 0)]
)
def test_quantities_are_read(text: str, number: float) -> None:
    assert amount(text) == number
