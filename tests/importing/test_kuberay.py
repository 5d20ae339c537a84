"""`init --from` objects of KubeRay: its own samples, and what `export kuberay` writes, which comes back as it was."""

from __future__ import annotations

import json
from typing import Any

import pytest
import yaml
from clusterctl_providers.catalog.store import machine_types
from hypothesis import given, settings
from hypothesis import strategies as st

from clusterctl.cli.verbs.spec_files import known_names
from clusterctl.core.errors import UsageError
from clusterctl.importing import kuberay
from clusterctl.importing.draft import Imported
from clusterctl.importing.given import read_given
from clusterctl.importing.paths import Moved
from clusterctl.importing.quantities import amount
from clusterctl.importing.read import convert
from clusterctl.kuberay.export import export, plain
from clusterctl.kuberay.options import Options, SecretRef
from clusterctl.spec.load import parse_spec
from tests.kuberay import crd
from tests.kuberay.examples import samples

MACHINES = tuple(machine_types().values())


def read(documents: list[dict[str, Any]], provider: str = "gcp/us-central1") -> Imported:
    text = yaml.safe_dump_all(documents, sort_keys=False)
    return convert(text, "ray.yaml", Moved("/here", "/here"), read_given(provider), "x", known_names)


def test_every_key_of_a_raycluster_is_known() -> None:
    assert set(kuberay.SPEC_KEYS) == set(crd.load("RayCluster")["schema"]["properties"]["spec"]["properties"])


@pytest.mark.parametrize("name", samples())
@pytest.mark.parametrize("provider", ["", "local", "gcp/us-central1"])
def test_each_sample_becomes_a_spec_or_is_refused_with_the_reason(name: str, provider: str) -> None:
    documents = samples()[name]
    if "google.com/tpu" in json.dumps(documents):
        with pytest.raises(UsageError, match="no pool has TPUs"):
            read(documents, provider)
        return
    found = read(documents, provider)
    spec = parse_spec(found.texts["cluster.yaml"])
    body = documents[0]["spec"]
    job = body.get("jobTemplate", body)
    cluster = job.get("rayClusterSpec") or body.get("rayClusterConfig") or body
    groups = cluster.get("workerGroupSpecs") or [cluster["headGroupSpec"]]
    assert len(spec.pools) == len(groups) and spec.ray is not None
    for pool, group in zip(spec.pools, groups, strict=True):
        limits = group["template"]["spec"]["containers"][0]["resources"].get("limits") or {}
        if "cpu" in limits and not group.get("rayStartParams", {}).get("num-cpus"):
            assert pool.resources["CPU"] >= (amount(str(limits["cpu"])) or 0)
        gpus = pool.gpu.count if pool.gpu else pool.resources.get("GPU", 0)
        assert gpus == int(limits.get("nvidia.com/gpu") or group.get("resources", {}).get("GPU") or 0)
    if documents[0]["kind"] == "RayService":
        assert found.commands == ("clusterctl serve deploy serve.yaml",)
        assert found.texts["serve.yaml"].rstrip() == body["serveConfigV2"].rstrip()
    if entrypoint := job.get("entrypoint"):
        assert found.commands[0].startswith("clusterctl submit --engine ")
        assert entrypoint.strip() in found.commands[0] + found.texts.get("job.sh", "")


RICH = """\
cluster: vision
provider: {gcp: {region: us-central1}}
engine: {ray: {version: 2.60.0, object_store: 4GiB}}
env: {HF_HOME: /data/hf}
mounts: [{from: "nfs://10.0.0.5/export", to: /data, mode: read-only}]
head: {resources: {CPU: 4, memory: 16GiB}, disk: 100GiB}
pools:
  - {name: cpu, max: 8, min: 1, instances: [n2-standard-8, e2-standard-8], market: [spot, on-demand], idle_timeout: 3m}
  - {name: gpu, max: 4, gpu: {name: A100-80GB, count: 2}, resources: {CPU: 20, memory: 160GiB}, labels: {team: vision}}
  - {name: own, max: 2, resources: {CPU: 2, memory: 4GiB, FAST: 3}, zones: [us-central1-a], disk: 50GiB, env: {A: $(B)}}
"""


def back(text: str, **options: Any) -> str:
    """Exported, and read again."""
    made = export(parse_spec(text), MACHINES, Options(**options))
    assert made.refused == ()
    return read([plain(made.documents[0])]).texts["cluster.yaml"]


def shapes(text: str) -> list[Any]:
    spec = parse_spec(text)
    return [
        (
            pool.name,
            pool.min,
            pool.max,
            pool.idle_timeout,
            pool.gpu,
            pool.market,
            pool.zones,
            pool.disk,
            pool.env,
            pool.labels,
        )
        for pool in spec.pools
    ]


def test_what_was_exported_comes_back() -> None:
    again = back(RICH, target="gke")
    assert shapes(again) == shapes(RICH)
    before, after = parse_spec(RICH), parse_spec(again)
    assert (after.env, after.mounts, after.ray) == (before.env, before.mounts, before.ray)
    assert (after.head.resources, after.head.disk) == (before.head.resources, before.head.disk)
    for pool, other in zip(after.pools, before.pools, strict=True):
        assert pool.instances == other.instances and other.resources.items() <= pool.resources.items()
    assert back(again, target="gke") == again


AMOUNTS: Any = st.fixed_dictionaries(
    {"CPU": st.integers(1, 64), "memory": st.integers(1, 512).map(lambda n: f"{n}GiB")}
)
POOLS: Any = st.lists(
    st.fixed_dictionaries(
        {
            "name": st.from_regex(r"[a-d][a-z0-9]{0,6}", fullmatch=True),
            "min": st.integers(0, 3),
            "max": st.integers(3, 9),
            "idle_timeout": st.integers(1, 7200).map(lambda n: f"{n}s"),
            "resources": AMOUNTS,
        },
        optional={
            "market": st.sampled_from([["spot"], ["spot", "on-demand"], ["on-demand", "spot"], ["on-demand"]]),
            "gpu": st.sampled_from([{"name": "L4", "count": 2}, {"name": "T4", "count": 1}]),
            "zones": st.sampled_from([["us-central1-a"], ["us-central1-a", "us-central1-b"]]),
            "disk": st.sampled_from(["50GiB", "500MiB"]),
            "env": st.dictionaries(
                st.sampled_from(["A", "B"]), st.sampled_from(["", "x", "$(A)", "yes", "1e3", "a: b", "#"])
            ),
        },
    ),
    min_size=1,
    max_size=3,
    unique_by=lambda pool: str(pool["name"]),
)


@settings(max_examples=25)
@given(POOLS)
def test_whatever_was_exported_comes_back(pools: list[dict[str, Any]]) -> None:
    spec = {"cluster": "c", "provider": {"gcp": {"region": "us-central1"}}, "pools": pools}
    text = yaml.safe_dump(spec, sort_keys=False)
    again = back(text, target="gke")
    before, after = parse_spec(text), parse_spec(again)
    assert [(p.name, p.min, p.max, p.idle_timeout, p.gpu, p.market, p.zones, p.disk) for p in after.pools] == [
        (p.name, p.min, p.max, p.idle_timeout, p.gpu, p.market, p.zones, p.disk) for p in before.pools
    ]
    assert [p.env for p in after.pools] == [p.env for p in before.pools]
    assert [p.resources for p in after.pools] == [p.resources for p in before.pools]


def cluster(**changes: Any) -> dict[str, Any]:
    made = export(parse_spec(RICH), MACHINES, Options(target="gke", secrets={"HF_TOKEN": SecretRef("hf", "token")}))
    document = plain(made.documents[0])
    document["spec"].update(changes)
    return document


def test_secrets_are_not_copied_and_that_is_said() -> None:
    document = cluster()
    for group in document["spec"]["workerGroupSpecs"]:
        group["template"]["spec"]["containers"][0]["env"] += [
            {"name": "DB_PASSWORD", "value": "hunter22"},
            {"name": "REPO", "value": "https://me:hunter22@git.example/x"},
        ]
    found = read([document])
    assert "hunter22" not in json.dumps(found.texts) + "".join(map(str, found.notes))
    said = [note.message for note in found.notes]
    assert any("DB_PASSWORD looks like a secret" in text for text in said)
    assert any("the value of HF_TOKEN is elsewhere" in text for text in said)


def test_what_stands_beside_the_cluster_is_told_of() -> None:
    config = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "x"}, "data": {}}
    found = read([config, cluster()])
    assert any(note.line == 1 and "ConfigMap: only the cluster" in note.message for note in found.notes)


def test_a_list_of_objects_is_what_is_in_it() -> None:
    alone = read([cluster()])
    for kind, version in (("List", "v1"), ("RayClusterList", "ray.io/v1")):
        found = read([{"apiVersion": version, "kind": kind, "metadata": {}, "items": [cluster()]}])
        assert parse_spec(found.texts["cluster.yaml"]) == parse_spec(alone.texts["cluster.yaml"])
        assert min(note.line for note in found.notes) > 1, "places are those of the file"


def test_a_cluster_without_workers_has_a_pool_like_its_head() -> None:
    spec = parse_spec(read([cluster(workerGroupSpecs=[])]).texts["cluster.yaml"])
    assert [(pool.name, pool.max, pool.resources) for pool in spec.pools] == [
        ("workers", 1, {"CPU": 4, "memory": 16 * 2**30})
    ]


POD = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "x"}, "spec": {}}
COMPOSE = "services:\n  web: {image: nginx}\n"
OTHERS = [
    (yaml.safe_dump(POD), "there is no object of KubeRay with a cluster in it, but Pod"),
    (COMPOSE, "a file of Docker Compose"),
    (RICH, "it is a spec of clusterctl already (`clusterctl up f.yaml`)"),
    ("a: 1\n", "it is none of a RayCluster"),
    ("[1, 2]\n", "it is none of a RayCluster"),
    ("", "there is nothing in it"),
    ("a: [\n", "f.yaml:2:1"),
    (yaml.safe_dump_all([cluster(), cluster()]), "there are 2 clusters in it"),
    (yaml.safe_dump({**cluster(), "kind": "RayJob", "spec": {"clusterSelector": {"a": "b"}}}), "it runs on a cluster"),
    (yaml.safe_dump({"apiVersion": "v1", "kind": "List", "items": [cluster(), POD, cluster()]}), "there are 2 clusters in it"),
    (yaml.safe_dump({"apiVersion": "v1", "kind": "List", "items": []}), "there is nothing in it"),
    (yaml.safe_dump(cluster(rayVersion="{{ .Values.ray }}")), "{{ .Values is of a template of Helm"),
    ("apiVersion: ray.io/v1\nspec:\n  {{- if .Values.a }}\n", "f.yaml:3:3: {{- if is of a template of Helm"),
    (yaml.safe_dump(cluster(workerGroupSpec=[])), "spec.workerGroupSpec: there is no such key"),
]  # fmt: skip


@pytest.mark.parametrize(("text", "words"), OTHERS, ids=[words for _, words in OTHERS])
def test_what_is_no_such_file_is_refused_with_what_it_is(text: str, words: str) -> None:
    with pytest.raises(UsageError) as caught:
        convert(text, "f.yaml", Moved("/", "/"), read_given("gcp/us-central1"), "x", known_names)
    assert words in str(caught.value)


def test_pods_stay_pods_unless_a_place_is_given() -> None:
    document = cluster()
    document["metadata"]["namespace"] = "ml"
    document["metadata"]["labels"]["kueue.x-k8s.io/queue-name"] = "gpus"
    claim = [{"name": "c", "persistentVolumeClaim": {"claimName": "models"}}]
    for group in (document["spec"]["headGroupSpec"], *document["spec"]["workerGroupSpecs"]):
        pod = group["template"]["spec"]
        pod["volumes"] = pod.get("volumes", []) + claim
        pod["containers"][0]["volumeMounts"] += [{"name": "c", "mountPath": "/models"}]
        pod["nodeSelector"] = {**pod.get("nodeSelector", {}), "disk": "fast"}
        pod["tolerations"] = [
            *pod.get("tolerations", []),
            {"key": "team", "operator": "Exists", "tolerationSeconds": 9},
        ]
    spec = parse_spec(read([document], "").texts["cluster.yaml"])
    claims = [{"claim": "models", "to": "/models"}]
    assert spec.provider_settings == {"namespace": "ml", "kueue_queue": "gpus", "volumes": claims}
    gpu = next(pool for pool in spec.pools if pool.name == "gpu")
    assert gpu.node_selector == {"disk": "fast"} and gpu.gpu is not None and gpu.image.endswith("-gpu")
    assert [one.model_dump(exclude_defaults=True) for one in gpu.tolerations] == [
        {"key": "team", "operator": "Exists", "seconds": 9}
    ]


def test_a_place_that_is_none_is_refused() -> None:
    for wrong, words in [("gcp", "in which region"), ("local/here", "has no regions"), ("gpc/x", "did you mean 'gcp'")]:
        with pytest.raises(UsageError, match=words):
            read_given(wrong)
