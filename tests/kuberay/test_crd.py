"""The validator of KubeRay's objects takes what KubeRay's authors wrote and finds what is planted, and nothing else."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest

from tests.kuberay import crd
from tests.kuberay.crd import Schema, faults
from tests.kuberay.examples import ABSENT, example, planted, samples
from tests.kuberay.paths import dotted

GROUP = "spec.workerGroupSpecs[0]"
POD = f"{GROUP}.template.spec"
BOX = f"{POD}.containers[0]"
RULE = "spec.deletionStrategy.deletionRules[0]"
ENDPOINT = "spec.podMetricsEndpoints[0]"
QUANTITY = (
    r"^(\+|-)?(([0-9]+(\.[0-9]*)?)|(\.[0-9]+))(([KMGTPE]i)|[numkMGTPE]|([eE](\+|-)?(([0-9]+(\.[0-9]*)?)|(\.[0-9]+))))?$"
)
BIG = 2**31
# Words of a schema that say nothing about a value, or that are read with others.
MUTE = {"additionalProperties", "default", "items", "nullable", "x-kubernetes-map-type"}

# kind, path, value, what is said: the whole fault, or some words of it
PLANTED: list[tuple[str, str, Any, str]] = [
    # what is there
    ("RayCluster", "apiVersion", "ray.io/v1alpha1", "apiVersion: must be ray.io/v1"),
    ("PodMonitor", "apiVersion", ABSENT, "apiVersion: must be monitoring.coreos.com/v1"),
    ("RayCluster", "spec.headGroupSpecs", {}, "spec: unknown field 'headGroupSpecs'"),
    ("RayCluster", f"{GROUP}.name", "gpu", f"{GROUP}: unknown field 'name'"),
    ("RayCluster", f"{BOX}.resource", {}, f"{BOX}: unknown field 'resource'"),
    ("RayJob", "spec.retries", 3, "spec: unknown field 'retries'"),
    ("RayService", "spec.serveConfig", "", "spec: unknown field 'serveConfig'"),
    ("RayCronJob", "spec.jobTemplate.shutdown", True, "spec.jobTemplate: unknown field 'shutdown'"),
    ("PodMonitor", f"{ENDPOINT}.relabeling", [], f"{ENDPOINT}: unknown field 'relabeling'"),
    ("RayCluster", "state", {}, ".: unknown field 'state'"),
    ("RayCluster", f"{GROUP}.template.metadata.uid", "x", f"{GROUP}.template.metadata: unknown field 'uid'"),
    # what is not there
    ("RayCluster", "spec.headGroupSpec", ABSENT, "spec: lacks 'headGroupSpec'"),
    ("RayCluster", f"{GROUP}.groupName", ABSENT, f"{GROUP}: lacks 'groupName'"),
    ("RayCluster", f"{BOX}.name", ABSENT, f"{BOX}: lacks 'name'"),
    (
        "RayCluster",
        f"{BOX}.env[1].valueFrom.secretKeyRef.key",
        ABSENT,
        f"{BOX}.env[1].valueFrom.secretKeyRef: lacks 'key'",
    ),
    ("RayService", "spec.rayClusterConfig", ABSENT, "spec: lacks 'rayClusterConfig'"),
    ("RayCronJob", "spec.schedule", ABSENT, "spec: lacks 'schedule'"),
    ("RayJob", f"{RULE}.policy", ABSENT, f"{RULE}: lacks 'policy'"),
    ("PodMonitor", "spec.selector", ABSENT, "spec: lacks 'selector'"),
    # types
    ("RayCluster", "spec.rayVersion", 2.6, "spec.rayVersion: must be of type string, not float"),
    ("RayCluster", f"{GROUP}.replicas", "2", f"{GROUP}.replicas: must be of type integer, not str"),
    ("RayCluster", f"{GROUP}.replicas", True, f"{GROUP}.replicas: must be of type integer, not bool"),
    ("RayCluster", f"{GROUP}.replicas", 1.5, f"{GROUP}.replicas: must be of type integer, not float"),
    (
        "RayCluster",
        "spec.enableInTreeAutoscaling",
        "true",
        "spec.enableInTreeAutoscaling: must be of type boolean, not str",
    ),
    (
        "RayCluster",
        f"{GROUP}.rayStartParams.num-cpus",
        4,
        f"{GROUP}.rayStartParams.num-cpus: must be of type string, not int",
    ),
    ("RayCluster", f"{GROUP}.resources.CPU", 4, f"{GROUP}.resources.CPU: must be of type string, not int"),
    ("RayCluster", f"{BOX}.env[0].value", 1, f"{BOX}.env[0].value: must be of type string, not int"),
    ("RayCluster", f"{POD}.containers", {}, f"{POD}.containers: must be of type array, not dict"),
    ("RayCluster", f"{BOX}.args", ["a", None], f"{BOX}.args[1]: must be of type string, not NoneType"),
    ("RayJob", "spec.entrypointNumCpus", "1", "spec.entrypointNumCpus: must be of type number, not str"),
    ("RayService", "spec.serveConfigV2", {}, "spec.serveConfigV2: must be of type string, not dict"),
    (
        "RayCluster",
        f"{BOX}.resources.limits.cpu",
        0.5,
        f"{BOX}.resources.limits.cpu: must be an integer or text, not float",
    ),
    (
        "RayCluster",
        f"{BOX}.resources.limits.cpu",
        True,
        f"{BOX}.resources.limits.cpu: must be an integer or text, not bool",
    ),
    # ranges, patterns, choices
    ("RayCluster", f"{GROUP}.maxReplicas", BIG, f"{GROUP}.maxReplicas: {BIG} is out of range for int32"),
    ("RayCluster", f"{GROUP}.priority", -BIG - 1, f"{GROUP}.priority: {-BIG - 1} is out of range for int32"),
    (
        "RayCluster",
        f"{POD}.activeDeadlineSeconds",
        2**63,
        f"{POD}.activeDeadlineSeconds: {2**63} is out of range for int64",
    ),
    ("RayJob", f"{RULE}.condition.ttlSeconds", -1, f"{RULE}.condition.ttlSeconds: -1 is less than the minimum of 0"),
    ("RayJob", "spec.preRunningDeadlineSeconds", 0, "spec.preRunningDeadlineSeconds: 0 is less than the minimum of 1"),
    (
        "PodMonitor",
        f"{ENDPOINT}.portNumber",
        65536,
        f"{ENDPOINT}.portNumber: 65536 is greater than the maximum of 65535",
    ),
    *(
        (
            "RayCluster",
            f"{BOX}.resources.{field}.memory",
            text,
            f"{BOX}.resources.{field}.memory: {text!r} does not match {QUANTITY}",
        )
        for field, text in [
            ("limits", "8 GiB"),
            ("requests", "8GB"),
            ("limits", "8gi"),
            ("limits", ""),
            ("limits", "8Gi\n"),
        ]
    ),
    ("PodMonitor", f"{ENDPOINT}.interval", "15 s", "does not match"),
    (
        "PodMonitor",
        f"{ENDPOINT}.scheme",
        "ftp",
        f"{ENDPOINT}.scheme: 'ftp' is not one of ['http', 'https', 'HTTP', 'HTTPS']",
    ),
    (
        "RayCluster",
        "spec.autoscalerOptions.version",
        "v3",
        "spec.autoscalerOptions.version: 'v3' is not one of ['v1', 'v2']",
    ),
    (
        "RayCluster",
        "spec.authOptions.mode",
        "tokens",
        "spec.authOptions.mode: 'tokens' is not one of ['disabled', 'token']",
    ),
    (
        "RayCluster",
        "spec.upgradeStrategy.type",
        "New",
        "spec.upgradeStrategy.type: 'New' is not one of ['Recreate', 'None']",
    ),
    (
        "RayJob",
        f"{RULE}.condition.jobStatus",
        "DONE",
        f"{RULE}.condition.jobStatus: 'DONE' is not one of ['SUCCEEDED', 'FAILED']",
    ),
    ("RayCronJob", "spec.timeZone", "", "spec.timeZone: '' should be non-empty"),
    (
        "RayJob",
        "spec.deletionStrategy.deletionRules",
        [],
        "spec.deletionStrategy.deletionRules: [] should be non-empty",
    ),
    ("RayCluster", "status.lastUpdateTime", "today", "status.lastUpdateTime: 'today' is no time of RFC 3339"),
    # keys of lists
    ("RayCluster", f"{BOX}.env[2]", {"name": "MODE"}, f'{BOX}.env: two entries have name "MODE"'),
    (
        "RayCluster",
        f"{BOX}.ports[2]",
        {"containerPort": 6379},
        f'{BOX}.ports: two entries have containerPort 6379, protocol "TCP"',
    ),
    ("RayCluster", f"{POD}.volumes[1]", {"name": "data"}, f'{POD}.volumes: two entries have name "data"'),
    (
        "RayCluster",
        f"{BOX}.volumeMounts[1]",
        {"name": "other", "mountPath": "/data"},
        f'{BOX}.volumeMounts: two entries have mountPath "/data"',
    ),
    (
        "PodMonitor",
        "spec.scrapeProtocols",
        ["PrometheusText0.0.4"] * 2,
        'spec.scrapeProtocols: "PrometheusText0.0.4" is there twice',
    ),
    # CEL
    (
        "RayCluster",
        "spec.managedBy",
        "me",
        "spec.managedBy: the managedBy field value must be either 'ray.io/kuberay-operator' or 'kueue.x-k8s.io/multikueue'",
    ),
    (
        "RayJob",
        "spec.deletionStrategy.onFailure",
        {"policy": "DeleteNone"},
        "spec.deletionStrategy: legacy policies (onSuccess/onFailure) and deletionRules cannot be used together within the same "
        "deletionStrategy",
    ),
    (
        "RayJob",
        "spec.deletionStrategy",
        {"onFailure": {"policy": "DeleteNone"}},
        "spec.deletionStrategy: deletionStrategy requires either BOTH onSuccess and onFailure, OR the deletionRules field "
        "(cannot be empty)",
    ),
    (
        "RayJob",
        f"{RULE}.condition.jobDeploymentStatus",
        "Failed",
        f"{RULE}.condition: JobStatus and JobDeploymentStatus cannot be used together within the same deletion condition.",
    ),
    (
        "RayJob",
        f"{RULE}.condition.jobStatus",
        None,
        f"{RULE}.condition: the deletion condition requires either the JobStatus or the JobDeploymentStatus field.",
    ),
    # metadata
    ("RayCluster", "metadata", ABSENT, "metadata: must be an object"),
    ("RayCluster", "metadata", "fleet", "metadata: must be of type object, not str"),
    ("RayCluster", "metadata.name", ABSENT, "metadata.name: '' is no DNS subdomain of RFC 1123"),
    ("RayCluster", "metadata.name", "Fleet", "metadata.name: 'Fleet' is no DNS subdomain of RFC 1123"),
    ("RayCluster", "metadata.name", "fleet-", "metadata.name: 'fleet-' is no DNS subdomain of RFC 1123"),
    ("RayCluster", "metadata.namespace", "a.b", "metadata.namespace: 'a.b' is no DNS label of RFC 1123"),
    ("RayCluster", "metadata.label", {}, "metadata: unknown field 'label'"),
    ("RayCluster", "metadata.labels.team", 1, "metadata.labels.team: must be of type string, not int"),
    ("RayCluster", "metadata.labels.team", "a b", "metadata.labels.team: 'a b' is no value of a label"),
    ("RayCluster", "metadata.labels.a b", "x", "metadata.labels.a b: 'a b' is no name of a label"),
    ("RayCluster", "metadata.labels", ["x"], "metadata.labels: must be an object"),
    (
        "RayCluster",
        "metadata.annotations.a/b/c",
        "x",
        "metadata.annotations.a/b/c: 'a/b/c' is no name of an annotation",
    ),
    ("RayCluster", "metadata.annotations.big", "x" * 2**18, "metadata.annotations: more than 262144 bytes"),
]


@pytest.mark.parametrize("name", sorted(samples()))
def test_each_manifest_of_kuberays_authors_has_no_fault(name: str) -> None:
    assert [faults(document) for document in samples()[name]] == [[]] * len(samples()[name])


def test_the_manifests_are_sixty_six_of_all_kinds() -> None:
    kinds = Counter(document["kind"] for documents in samples().values() for document in documents)
    assert kinds == {"RayCluster": 34, "RayJob": 15, "RayService": 15, "RayCronJob": 2}


@pytest.mark.parametrize("kind", crd.KINDS)
def test_the_example_of_each_kind_has_no_fault(kind: str) -> None:
    assert faults(example(kind)) == []


@pytest.mark.parametrize(
    ("kind", "path", "value", "said"),
    PLANTED,
    ids=[f"{kind} {path} {str(value)!r:.20}" for kind, path, value, _ in PLANTED],
)
def test_a_planted_fault_is_found_and_nothing_else(kind: str, path: str, value: Any, said: str) -> None:
    [fault] = faults(planted(kind, {path: value}))
    assert fault == said if ": " in said else said in fault


@pytest.mark.parametrize("kind", crd.KINDS)
def test_a_misspelt_key_is_found_wherever_it_stands(kind: str) -> None:
    document, schema = example(kind), crd.load(kind)["schema"]
    places = list(_closed((), document, schema))
    assert len(places) > 4
    for path, place in places:
        place["misspelt"] = 1
        assert faults(document) == [f"{dotted(path)}: unknown field 'misspelt'"]
        del place["misspelt"]


def test_several_faults_are_all_told() -> None:
    changes = {"spec.rayVersion": 2, f"{GROUP}.groupName": ABSENT, f"{BOX}.resources.limits.memory": "8 GiB"}
    assert [fault.partition(": ")[0] for fault in faults(planted("RayCluster", changes))] == [
        "spec.rayVersion",
        f"{BOX}.resources.limits.memory",
        GROUP,
    ]


@pytest.mark.parametrize("document", [None, [], {}, {"kind": "Pod"}])
def test_what_is_no_object_of_these_kinds_is_told_so(document: Any) -> None:
    assert faults(document) == ["kind: must be one of PodMonitor, RayCluster, RayCronJob, RayJob, RayService"]


@pytest.mark.parametrize(("path", "value"), [("metadata.labels", {1: "x"}), (f"{BOX}.args", ("a",))])
def test_what_json_has_no_word_for_is_a_fault(path: str, value: Any) -> None:
    [fault] = faults(planted("RayCluster", {path: value}))
    assert "JSON has no word" in fault


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (f"{GROUP}.minReplicas", ABSENT),  # has a default
        (f"{GROUP}.maxReplicas", None),  # is dropped, then has its default
        ("spec.autoscalerOptions", None),
        (f"{BOX}.resources.limits.cpu", "500m"),
        (f"{BOX}.resources.limits.cpu", 4),
        (f"{POD}.nodeSelector", {"any.key/at-all": "x"}),
        ("metadata.annotations", {"Any.Case/Note": "free text, with signs"}),
        ("metadata.creationTimestamp", None),
        ("spec.managedBy", "kueue.x-k8s.io/multikueue"),
        ("status.lastUpdateTime", "2026-08-19T09:21:52Z"),
        ("status.lastUpdateTime", None),  # nullable
    ],
)
def test_what_the_server_takes_is_no_fault(path: str, value: Any) -> None:
    assert faults(planted("RayCluster", {path: value})) == []


def test_a_generated_name_is_a_name() -> None:
    assert faults(planted("RayJob", {"metadata.name": ABSENT, "metadata.generateName": "fleet-"})) == []


def test_defaults_are_filled_in_as_the_server_does() -> None:
    stored = crd.filled(planted("RayCluster", {f"{GROUP}.maxReplicas": None}), crd.load("RayCluster")["schema"])
    group = stored["spec"]["workerGroupSpecs"][0]
    assert (group["maxReplicas"], group["numOfHosts"]) == (2**31 - 1, 1)
    assert group["template"]["spec"]["containers"][0]["ports"][0]["protocol"] == "TCP"


# -- the schemas themselves: a newer one may say what nobody here has read


def test_every_rule_in_cel_is_written_out() -> None:
    said = {
        rule["rule"]
        for kind in crd.KINDS
        for each in _schemas(kind)
        for rule in each.get("x-kubernetes-validations", ())
    }
    assert said == crd.CEL.keys()


def test_every_word_of_the_schemas_is_known() -> None:
    words = {word for kind in crd.KINDS for each in _schemas(kind) for word in each}
    assert words <= crd.VALIDATOR.VALIDATORS.keys() | MUTE
    assert {each["format"] for kind in crd.KINDS for each in _schemas(kind) if "format" in each} == {
        *crd.RANGES,
        "date-time",
    }


def test_only_the_metadata_of_an_object_is_open() -> None:
    for kind in crd.KINDS:
        opened = [each for each in _schemas(kind) if each == {"type": "object"}]
        assert opened == [crd.load(kind)["schema"]["properties"]["metadata"]]


@pytest.mark.parametrize("kind", crd.KINDS)
def test_a_schema_says_where_it_is_from(kind: str) -> None:
    assert "Apache-2.0" in crd.load(kind)["source"]
    assert crd.load(kind)["kind"] == kind


def _closed(
    path: tuple[str | int, ...], value: Any, schema: Schema
) -> Iterator[tuple[tuple[str | int, ...], dict[str, Any]]]:
    """The objects of a document to which nothing may be added, each with its path."""
    if isinstance(value, list):
        for n, each in enumerate(value):
            yield from _closed((*path, n), each, schema["items"])
    elif isinstance(value, dict) and "properties" in schema:
        yield path, value
        for name, each in value.items():
            yield from _closed((*path, name), each, schema["properties"][name])


def _schemas(kind: str) -> Iterator[Schema]:
    waiting: list[Schema] = [crd.load(kind)["schema"]]
    while waiting:
        schema = waiting.pop()
        yield schema
        waiting += schema.get("properties", {}).values()
        waiting += [schema[word] for word in ("items", "additionalProperties") if isinstance(schema.get(word), dict)]
