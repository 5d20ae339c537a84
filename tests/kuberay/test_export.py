"""`export kuberay`: what the pods of a spec are, and what is refused rather than lost."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from clusterctl_providers.catalog.store import machine_types
from typer.testing import CliRunner

from clusterctl.cli.verbs.export import app
from clusterctl.core.errors import UsageError
from clusterctl.kuberay.export import Export, export, plain
from clusterctl.kuberay.options import Options, SecretRef
from clusterctl.kuberay.work import serving_fault
from clusterctl.spec.load import parse_spec
from clusterctl.spec.to_core import core_pools
from tests.kuberay.crd import faults
from tests.kuberay.operator import operator_faults

MACHINES = tuple(machine_types().values())
RICH = """\
cluster: vision
provider: {gcp: {project: vision-123456, region: us-central1}}
engine: {ray: {version: 2.60.0, object_store: 4GiB}}
env: {HF_HOME: /data/hf}
mounts: [{from: "nfs://10.0.0.5/export", to: /data, mode: read-only}]
head: {instance: e2-standard-8, disk: 100GiB, zone: us-central1-a}
limits: {nodes: 40}
pools:
  - {name: cpu, max: 8, min: 1, instances: [n2-standard-8, e2-standard-8], market: [spot, on-demand], idle_timeout: 3m}
  - {name: gpu, max: 4, gpu: {name: A100-80GB, count: 2}, resources: {CPU: 20, memory: 160GiB}, labels: {team: vision}}
  - name: own
    max: 2
    resources: {CPU: 2, memory: 4GiB, FAST: 3}
    zones: [us-central1-a, us-central1-b]
    one_zone: true
    disk: 50GiB
"""
PLAIN = "cluster: c\nprovider: local\nengine: {ray: {version: 2.60.0}}\n"
POOL = "pools: [{name: w, max: 2, resources: {CPU: 2, memory: 4GiB}}]\n"


def made(text: str, **options: Any) -> Export:
    return export(parse_spec(text), MACHINES, Options(**options))


def cluster_of(text: str, **options: Any) -> dict[str, Any]:
    found = made(text, **options)
    assert found.refused == ()
    return plain(found.documents[0])


def group(document: dict[str, Any], name: str) -> dict[str, Any]:
    return next(one for one in document["spec"]["workerGroupSpecs"] if one["groupName"] == name)


def pod(group_spec: dict[str, Any]) -> dict[str, Any]:
    return group_spec["template"]["spec"]


@pytest.mark.parametrize("target", ["generic", "gke", "eks", "aks"])
@pytest.mark.parametrize("prometheus", ["none", "annotations", "podmonitor"])
def test_what_is_written_is_what_kuberay_takes(target: str, prometheus: str) -> None:
    more: dict[str, Any] = {"claims": {"/models": "models"}, "secrets": {"HF_TOKEN": SecretRef("hf", "token")}}
    found = made(
        RICH, target=target, prometheus=prometheus, namespace="ml", redis=("redis:6379", SecretRef("r", "p")), **more
    )
    assert found.refused == () and len(found.documents) == (2 if prometheus == "podmonitor" else 1)
    for document in map(plain, found.documents):
        assert faults(document) == [] and operator_faults(document) == []


def test_pods_have_the_least_of_their_machines_and_room_for_the_kubelet() -> None:
    document = cluster_of(RICH, target="gke")
    spot, other = group(document, "cpu-spot"), group(document, "cpu")
    assert [(one["minReplicas"], one["maxReplicas"], one["priority"]) for one in (spot, other)] == [
        (1, 8, 20),
        (0, 8, 10),
    ]
    assert spot["resources"] == {"CPU": "7", "memory": str(28 * 2**30)} and spot["idleTimeoutSeconds"] == 180
    assert pod(spot)["nodeSelector"] == {"cloud.google.com/gke-spot": "true"} and "nodeSelector" not in pod(other)
    (term,) = pod(other)["affinity"]["nodeAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"][
        "nodeSelectorTerms"
    ]
    assert term["matchExpressions"][0]["values"] == ["n2-standard-8", "e2-standard-8"]
    head = document["spec"]["headGroupSpec"]
    (term,) = pod(head)["affinity"]["nodeAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"][
        "nodeSelectorTerms"
    ]
    assert [one["values"] for one in term["matchExpressions"]] == [["e2-standard-8"], ["us-central1-a"]]
    assert head["resources"]["CPU"] == "0" and pod(head)["containers"][0]["resources"]["limits"]["cpu"] == "7"
    assert head["rayStartParams"] == {"object-store-memory": str(4 * 2**30)}


@pytest.mark.parametrize(
    ("target", "label"),
    [
        ("gke", {"cloud.google.com/gke-accelerator": "nvidia-a100-80gb"}),
        ("generic", {"nvidia.com/gpu.product": "NVIDIA-A100-SXM4-80GB"}),
    ],
)
def test_gpus_are_asked_for_by_what_the_platform_calls_them(target: str, label: dict[str, str]) -> None:
    gpu = group(cluster_of(RICH, target=target), "gpu")
    assert pod(gpu)["nodeSelector"] == label
    container = pod(gpu)["containers"][0]
    assert container["resources"]["limits"] == {"cpu": "20", "memory": "160Gi", "nvidia.com/gpu": "2"}
    assert container["image"].endswith("-gpu") and gpu["labels"] == {"team": "vision"}
    assert {"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"} in pod(gpu)["tolerations"]


def test_on_a_platform_without_such_labels_machines_that_have_room_are_named() -> None:
    text = PLAIN.replace("local", "{aws: {region: us-east-1}}") + (
        "pools: [{name: g, max: 1, gpu: {name: L4}, resources: {CPU: 6, memory: 24GiB}}]\n"
    )
    (term,) = pod(group(cluster_of(text, target="eks"), "g"))["affinity"]["nodeAffinity"][
        "requiredDuringSchedulingIgnoredDuringExecution"
    ]["nodeSelectorTerms"]
    types = term["matchExpressions"][0]["values"]
    assert "g6.2xlarge" in types and "g6.xlarge" not in types, "4 CPUs are too few"


REFUSED = [
    ("limits: {budget: {per_day: 5}}\n", "limits.budget.per_day", "no prices"),
    ("limits: {cost_per_hour: 5}\n", "limits.cost_per_hour", "no prices"),
    ("limits: {nodes: 2}\n", "limits.nodes", "may have 3 nodes with the head"),
    ("limits: {per_user: {ann: {nodes: 1}}}\n", "limits.per_user", "no users"),
    ("lifetime: {idle: 2h}\n", "lifetime.idle", "does not end itself"),
    ("setup: [make]\n", "setup", "runs no commands"),
    ("files: [{from: ./data, to: data}]\n", "files.0", "copies no files"),
    ("services: {listen: '0.0.0.0:8443'}\n", "services.listen", "no entry"),
    ("queue: {preemption: true}\n", "queue.preemption", "no queue"),
    ("env: {HF_TOKEN: hf_abcdef}\n", "env.HF_TOKEN", "looks like a secret"),
    ("env: {RAY_enable_autoscaler_v2: '1'}\n", "env.RAY_enable_autoscaler_v2", "set by KubeRay"),
    ("mounts: [{from: 's3://bucket', to: /data}]\n", "mounts.0", "by a claim"),
]


@pytest.mark.parametrize(("more", "path", "words"), REFUSED, ids=[path for _, path, _ in REFUSED])
def test_what_cannot_be_said_is_refused_at_its_place(more: str, path: str, words: str) -> None:
    found = made(PLAIN + more + POOL)
    assert [(".".join(map(str, one.path)), words in one.message) for one in found.refused] == [(path, True)]
    assert faults(plain(found.documents[0])) == [], "what --lossy writes"


POOLS = [
    ("{name: w, resources: {CPU: 2}}", "resources", "how much memory"),
    ("{name: w, instances: [m6i.large, z9.huge]}", "instances.1", "does not know how large"),
    ("{name: w, instances: [g6.xlarge, g6.12xlarge]}", "instances", "different ones"),
    (
        "{name: w, gpu: {name: A100}, resources: {CPU: 4, memory: 8GiB}}",
        "gpu.name",
        "is not known for --target generic",
    ),
    ("{name: w, instances: [m6i.large], reservation: cr-0123456789abcdef0}", "reservation", "belongs to nodes"),
    ("{name: w-, instances: [m6i.large]}", "name", "no group"),
    ("{name: headgroup, instances: [m6i.large]}", "name", "no group"),
    ("{name: w, max: 3000000000, instances: [m6i.large]}", "max", "counts up to"),
    ("{name: w, idle_timeout: 30000d, instances: [m6i.large]}", "idle_timeout", "counts up to"),
    ('{name: w, instances: [m6i.large], resources: {"it\'s": 1}}', "resources.it's", "apostrophe"),
    ("{name: w, instances: [m6i.large], keep_stopped: 1}", "keep_stopped", "not stopped"),
]


@pytest.mark.parametrize(("pool", "path", "words"), POOLS, ids=[path for _, path, _ in POOLS])
def test_a_pool_that_no_group_can_be_is_refused_at_its_place(pool: str, path: str, words: str) -> None:
    found = made(PLAIN.replace("local", "{aws: {region: us-east-1}}") + f"pools: [{pool}]\n")
    assert [(".".join(map(str, one.path[2:])), words in one.message) for one in found.refused] == [(path, True)]


def test_two_groups_of_one_name_are_refused() -> None:
    text = PLAIN.replace("local", "{aws: {region: us-east-1}}") + (
        "pools: [{name: g, instances: [m6i.large], market: [spot, on-demand]}, {name: g-spot, instances: [m6i.large]}]\n"
    )
    (one,) = made(text, target="eks").refused
    assert (one.path, one.message) == (("pools", 1, "name"), "pool g-spot and pool g would both have a group g-spot")


def test_a_value_is_taken_by_its_letters() -> None:
    document = cluster_of(PLAIN + "env: {A: b, C: '$(A)/c'}\n" + POOL)
    env = {one["name"]: one["value"] for one in pod(group(document, "w"))["containers"][0]["env"]}
    assert env == {"A": "b", "C": "$$(A)/c"}


def test_a_pool_without_a_size_is_refused() -> None:
    (one,) = made(PLAIN + "pools: [{name: w}]\n").refused
    assert (one.path, one.message) == (("pools", 0, "name"), "nothing says how large a pod of pool w is")


def test_a_secrets_value_is_nowhere_in_what_is_written() -> None:
    text = PLAIN + "env: {HF_TOKEN: hf_abcdef}\n" + POOL
    document = cluster_of(text, secrets={"HF_TOKEN": SecretRef("hugging-face", "token")})
    assert "hf_abcdef" not in json.dumps(document) and faults(document) == []
    env = pod(group(document, "w"))["containers"][0]["env"]
    assert env == [{"name": "HF_TOKEN", "valueFrom": {"secretKeyRef": {"name": "hugging-face", "key": "token"}}}]


def test_an_image_of_ones_own_has_run_the_setup_and_is_all_pods() -> None:
    text = PLAIN.replace("2.60.0", "2.60.0, packages: [torch]") + "setup: [make]\n" + POOL
    document = cluster_of(text, image="registry.example/vision:1")
    images = {pod(one)["containers"][0]["image"] for one in (document["spec"]["headGroupSpec"], group(document, "w"))}
    assert images == {"registry.example/vision:1"}
    assert "runAsUser" not in json.dumps(document), "whose user that image has is not known"


READER = """
import json, sys
from ray.autoscaler._private.kuberay.autoscaling_config import _derive_autoscaling_config_from_ray_cr as read
print(json.dumps(read(json.load(sys.stdin))))
"""


def test_rays_own_reader_sees_the_shapes_that_our_planner_has() -> None:
    document = cluster_of(RICH, target="gke")
    document["metadata"]["namespace"] = "ml"
    done = subprocess.run(
        [sys.executable, "-c", READER],
        input=json.dumps(document),
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    types = json.loads(done.stdout)["available_node_types"]
    core = {pool.name: pool for pool in core_pools(parse_spec(RICH))}
    for name, pool in (("cpu-spot", "cpu"), ("gpu", "gpu"), ("own", "own")):
        seen = types[name]
        assert (seen["min_workers"], seen["max_workers"]) == (core[pool].min, core[pool].max)
        assert seen["idle_timeout_s"] == core[pool].idle_timeout
    hardware = {name: {k: v for k, v in types[name]["resources"].items() if "node" not in k} for name in types}
    assert hardware["gpu"] == {"CPU": 20, "GPU": 2, "memory": 160 * 2**30}
    assert hardware["own"] == {"CPU": 2, "memory": 4 * 2**30, "FAST": 3}
    assert hardware["cpu"] == hardware["cpu-spot"] == {"CPU": 7, "memory": 28 * 2**30}
    assert types["gpu"]["labels"] == {"team": "vision"}


def ran(spec: Path, *options: str) -> dict[str, Any]:
    done = CliRunner().invoke(app, ["kuberay", str(spec), "-q", *options])
    assert done.exit_code == 0, done.output
    (document,) = yaml.safe_load_all(done.stdout)
    assert faults(document) == [] and operator_faults(document) == []
    return document


def test_a_job_brings_its_cluster_and_ends_it(tmp_path: Path) -> None:
    spec = tmp_path / "cluster.yaml"
    spec.write_text(PLAIN + "lifetime: {after_last_job: 10m}\n" + POOL)
    options = ("--entrypoint", "python train.py", "--env", "MODE=fast", "--max-retries", "2", "--timeout", "2h")
    options += ("--cpus", "2", "--gpus", "0.5", "--resource", "FAST=1")
    job = ran(spec, *options)
    body = job["spec"]
    cluster = body.pop("rayClusterSpec")
    assert job["kind"] == "RayJob" and cluster["workerGroupSpecs"][0]["groupName"] == "w"
    assert body == {
        "entrypoint": "python train.py",
        "runtimeEnvYAML": "env_vars:\n  MODE: fast\n",
        "entrypointNumCpus": 2,
        "entrypointNumGpus": 0.5,
        "entrypointResources": '{"FAST": 1.0}',
        "shutdownAfterJobFinishes": True,
        "ttlSecondsAfterFinished": 600,
        "backoffLimit": 2,
        "activeDeadlineSeconds": 7200,
    }
    by_clock = ran(spec, *options, "--schedule", "0 3 * * *", "--time-zone", "Europe/Berlin")
    assert by_clock["kind"] == "RayCronJob" and by_clock["spec"]["jobTemplate"] == job["spec"] | {
        "rayClusterSpec": cluster
    }


def test_a_service_has_serves_own_file_as_it_is(tmp_path: Path) -> None:
    spec, config = tmp_path / "cluster.yaml", tmp_path / "app.yaml"
    spec.write_text(PLAIN + POOL)
    config.write_text("applications:\n  - {name: a, import_path: main:app}  # ours\n")
    service = ran(spec, "--serve", str(config))
    assert service["kind"] == "RayService" and service["spec"]["serveConfigV2"] == config.read_text()


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("a: [", "no YAML"),
        ("a: 1", "no list of `applications`"),
        ("applications: [{name: a}]", "no `import_path`"),
        ("applications: [{import_path: m:a, runtime_env: {working_dir: ./code}}]", "pods do not have ./code"),
    ],
)
def test_a_file_that_pods_could_not_serve_by_is_refused(text: str, words: str) -> None:
    assert words in serving_fault(text)


def clusterctl(*arguments: str, home: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "clusterctl", "export", "kuberay", *arguments], capture_output=True, text=True, timeout=120,
        env={"CLUSTERCTL_HOME": str(home), "PATH": "/usr/bin:/bin"}, stdin=subprocess.DEVNULL,
    )  # fmt: skip


def test_the_command_writes_yaml_with_its_warnings_and_refuses_with_places(tmp_path: Path) -> None:
    spec = tmp_path / "cluster.yaml"
    spec.write_text(PLAIN + POOL)
    done = clusterctl(str(spec), home=tmp_path)
    assert done.returncode == 0 and "warning: " in done.stderr
    (document,) = yaml.safe_load_all(done.stdout)
    assert faults(document) == [] and "# Not as in the spec: " in done.stdout
    spec.write_text(PLAIN + "setup: [make]\n" + POOL)
    done = clusterctl(str(spec), home=tmp_path)
    assert (done.returncode, done.stdout) == (
        2,
        "",
    ) and f"{spec}:4:1: KubeRay runs no commands on new nodes" in done.stderr
    done = clusterctl(str(spec), "--lossy", "--json", home=tmp_path)
    assert done.returncode == 0 and len(json.loads(done.stdout)["documents"]) == 1


@pytest.mark.parametrize(
    "option",
    [
        ("--secret", "RAY_REDIS_ADDRESS=a/b"),
        ("--ttl", "5m"),
        ("--cpus", "2"),
        ("--schedule", "0 3 * * *"),
        ("--time-zone", "UTC"),
        ("--serve", "/nowhere"),
        ("--entrypoint", "x", "--env", "API_KEY=1"),
        ("--entrypoint", "x", "--schedule", "daily"),
        ("--target", "gce"),
        ("--claim", "data=x"),
        ("--secret", "A=b"),
        ("--redis", "nowhere"),
        ("--gpu-label", "x"),
    ],
    ids=" ".join,
)
def test_options_that_contradict_or_say_nothing_are_refused(tmp_path: Path, option: tuple[str, ...]) -> None:
    spec = tmp_path / "cluster.yaml"
    spec.write_text(PLAIN + POOL)
    done = CliRunner().invoke(app, ["kuberay", str(spec), *option])
    assert isinstance(done.exception, UsageError)
    assert option[-2] in str(done.exception) or option[-1] in str(done.exception)
