"""`export kuberay` with what stands beside a cluster: files, claims, Kueue, quotas, network policies, setup commands."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner

from clusterctl.cli.verbs.export import app
from clusterctl.core.errors import UsageError
from clusterctl.kuberay.besides import PART_OF
from clusterctl.kuberay.export import export, plain
from clusterctl.kuberay.options import Options, Queue
from clusterctl.spec.load import parse_spec
from tests.kuberay.crd import faults
from tests.kuberay.operator import operator_faults
from tests.kuberay.test_export import MACHINES, PLAIN, POOL, group, pod

FIXED = "pools: [{name: w, min: 2, max: 2, resources: {CPU: 2, memory: 4GiB}}]\n"
EVERYTHING = (
    *("--pvc", "models:/models:100GiB:fast", "--pvc", "there:/there", "--quota", "--network-policy"),
    *("--kueue-queue", "gpus", "--kueue-priority", "high", "--kueue-elastic", "--setup-at-start"),
)
CONTAINERS = PLAIN.replace("local", "docker")
FILES = "files: [{from: conf, to: conf}, {from: a.txt, to: /etc/a.txt}]\n"
FULL = CONTAINERS + "limits: {nodes: 4, gpus: 2}\nsetup: [make]\n" + FILES + POOL


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "conf" / "sub").mkdir(parents=True)
    (tmp_path / "conf" / "sub" / "b.yaml").write_text("b: 1\n")
    (tmp_path / "conf" / "a.yaml").write_text("a: 1\n")
    (tmp_path / "a.txt").write_text("hello\n")
    return tmp_path


def ran(text: str, *options: str) -> list[dict[str, Any]]:
    Path("cluster.yaml").write_text(text)
    done = CliRunner().invoke(app, ["kuberay", "cluster.yaml", "-q", *options])
    if done.exception is not None:
        raise done.exception
    return list(yaml.safe_load_all(done.stdout))


def refused(text: str, *options: str) -> str:
    with pytest.raises(UsageError) as caught:
        ran(text, *options)
    return str(caught.value)


def of_kind(documents: list[dict[str, Any]], kind: str) -> list[dict[str, Any]]:
    return [document for document in documents if document["kind"] == kind]


@pytest.mark.parametrize("work", [(), ("--entrypoint", "python a.py")], ids=["cluster", "job"])
def test_all_of_it_together_is_what_the_operator_and_kueue_take(here: Path, work: tuple[str, ...]) -> None:
    documents = ran(FULL, "--namespace", "ml", *EVERYTHING, *work)
    kinds = [document["kind"] for document in documents]
    assert kinds[1:] == ["PersistentVolumeClaim", "ConfigMap", "ResourceQuota", "NetworkPolicy", "NetworkPolicy"]
    assert faults(documents[0]) == [] and operator_faults(documents[0]) == []
    assert {document["metadata"]["namespace"] for document in documents} == {"ml"}
    assert not any("kueue" in json.dumps(document["metadata"]) for document in documents[1:])


def test_files_are_a_config_map_that_every_group_mounts_where_they_belong(here: Path) -> None:
    cluster, config, *_ = ran(CONTAINERS + FILES + POOL)
    assert config["kind"] == "ConfigMap" and sorted(config["data"].values()) == ["a: 1\n", "b: 1\n", "hello\n"]
    for template in (cluster["spec"]["headGroupSpec"], group(cluster, "w")):
        container, volumes = pod(template)["containers"][0], {one["name"]: one for one in pod(template)["volumes"]}
        mounts = {one["mountPath"]: one for one in container["volumeMounts"]}
        assert set(mounts) == {"/clusterctl/files/conf", "/etc/a.txt"} and mounts["/etc/a.txt"]["subPath"] == "file"
        (items,) = [volumes[mounts["/clusterctl/files/conf"]["name"]]["configMap"]["items"]]
        assert {one["path"]: config["data"][one["key"]] for one in items} == {
            "a.yaml": "a: 1\n",
            "sub/b.yaml": "b: 1\n",
        }
        assert {"name": "CLUSTERCTL_FILES", "value": "/clusterctl/files"} in container["env"]


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"\xff\xfe\x00", "a.txt is no text"),
        (b"x" * 950_000, "a ConfigMap holds 900 KiB"),
        (b"token: hf_abcdefghijklmnopqrstuvwx", "looks as if it had a secret in it"),
    ],
    ids=["binary", "large", "secret"],
)
def test_a_file_that_no_config_map_can_hold_is_refused_at_its_place(here: Path, content: bytes, words: str) -> None:
    (here / "a.txt").write_bytes(content)
    text = CONTAINERS + FILES + POOL
    said = refused(text)
    assert "cluster.yaml:4:" in said and words in said and "hf_abc" not in said
    assert "hf_abc" not in json.dumps(ran(text, "--lossy"))


def test_a_home_that_is_not_known_is_refused(here: Path) -> None:
    text = CONTAINERS + "files: [{from: a.txt, to: ~/a.txt}]\n" + POOL
    assert "which home the image's user has is not known" in refused(text, "--image", "registry.example/a:2.60.0")
    cluster, _ = ran(text)
    assert pod(group(cluster, "w"))["containers"][0]["volumeMounts"][0]["mountPath"] == "/home/ray/a.txt"
    assert "there is no file or directory" in refused(PLAIN + "files: [{from: nowhere, to: a}]\n" + POOL)


def test_a_claim_is_written_when_it_has_a_size(here: Path) -> None:
    cluster, claim = ran(PLAIN + POOL, "--pvc", "models:/models:100GiB:fast", "--pvc", "there:/there")
    assert claim["kind"] == "PersistentVolumeClaim" and claim["metadata"]["name"] == "models"
    assert claim["spec"] == {
        "accessModes": ["ReadWriteMany"],
        "resources": {"requests": {"storage": "100Gi"}},
        "storageClassName": "fast",
    }
    claims = [one["persistentVolumeClaim"]["claimName"] for one in pod(group(cluster, "w"))["volumes"]]
    assert claims == ["models", "there"]
    for wrong in ("models", "models:models", ":/x", "a:/x:many", "a:/x:1GiB:b:c"):
        assert f"--pvc {wrong}" in refused(PLAIN + POOL, "--pvc", wrong)


def test_kueue_gets_clusters_of_one_size(here: Path) -> None:
    (cluster,) = ran(PLAIN + FIXED, "--kueue-queue", "gpus", "--kueue-priority", "high")
    assert cluster["metadata"]["labels"]["kueue.x-k8s.io/queue-name"] == "gpus"
    assert cluster["metadata"]["labels"]["kueue.x-k8s.io/priority-class"] == "high"
    assert "enableInTreeAutoscaling" not in cluster["spec"] and group(cluster, "w")["replicas"] == 2
    assert operator_faults(cluster) == []


def test_what_kueue_does_not_admit_is_refused_at_its_place(here: Path) -> None:
    assert "what Kueue admits keeps its size, and this pool has 0 to 2 nodes" in refused(
        PLAIN + POOL, "--kueue-queue", "q"
    )
    pools = ", ".join(f"{{name: w{n}, min: 1, max: 1, resources: {{CPU: 2, memory: 4GiB}}}}" for n in range(8))
    said = refused(PLAIN + f"pools: [{pools}]\n", "--kueue-queue", "q")
    assert said.startswith("cluster.yaml:4:1: Kueue takes 7 groups")
    (cluster,) = ran(PLAIN + POOL, "--kueue-queue", "q", "--kueue-elastic")
    assert cluster["metadata"]["annotations"]["kueue.x-k8s.io/elastic-job"] == "true" and operator_faults(cluster) == []
    assert "a RayCronJob does not hand its label" in refused(
        PLAIN + FIXED, "--kueue-queue", "q", "--entrypoint", "a", "--schedule", "@daily"
    )
    assert "say --kueue-queue NAME" in refused(PLAIN + FIXED, "--kueue-priority", "q")


def test_a_quota_holds_the_limits_that_groups_cannot(here: Path) -> None:
    text = PLAIN + "limits: {nodes: 2, gpus: 4}\n" + POOL
    assert "may have 3 nodes with the head" in refused(text)
    _, quota = ran(text, "--quota")
    assert quota["spec"]["hard"] == {"pods": "2", "requests.nvidia.com/gpu": "4"}
    _, quota = ran(text, "--quota", "--entrypoint", "python a.py")
    assert quota["spec"]["hard"]["pods"] == "3", "the one that submits the job"
    assert "there is no limit of nodes or GPUs" in refused(PLAIN + POOL, "--quota")


def test_policies_and_monitors_select_the_pods_whatever_the_operator_calls_the_cluster(here: Path) -> None:
    (here / "app.yaml").write_text("applications: [{name: a, import_path: main:app}]\n")
    documents = ran(PLAIN + POOL, "--network-policy", "--prometheus", "podmonitor", "--serve", "app.yaml")
    policies, (monitor,) = of_kind(documents, "NetworkPolicy"), of_kind(documents, "PodMonitor")
    assert [one["metadata"]["name"] for one in policies] == ["c-pods", "c-head", "c-applications"]
    cluster = documents[0]["spec"]["rayClusterConfig"]
    for template in (cluster["headGroupSpec"], cluster["workerGroupSpecs"][0]):
        assert template["template"]["metadata"]["labels"] == {PART_OF: "c"}
    for one in (*policies, monitor):
        selector = one["spec"].get("podSelector") or one["spec"]["selector"]
        assert selector["matchLabels"][PART_OF] == "c"
    assert policies[1]["spec"]["ingress"][0]["ports"] == [{"protocol": "TCP", "port": 8265}]


OPERATOR = '%s && echo limits; ray() { echo "ray $1" > started; }; ray start'  # what it makes of a container's command


@pytest.mark.parametrize(
    ("commands", "starts"), [(["touch 'a b'", "touch c"], True), (["touch c", "false", "touch d"], False)]
)
def test_setup_runs_before_ray_and_a_command_that_fails_ends_the_container(
    here: Path, commands: list[str], starts: bool
) -> None:
    spec = parse_spec(PLAIN + f"setup: {json.dumps(commands)}\n" + POOL)
    made = export(spec, MACHINES, Options(setup_at_start=True))
    assert made.refused == () and any("every pod runs it again" in one.message for one in made.told)
    (command,) = pod(group(plain(made.documents[0]), "w"))["containers"][0]["command"]
    script = OPERATOR % command.replace("$$(", "$(")
    environment = {"HOME": str(here), "PATH": "/usr/bin:/bin"}
    done = subprocess.run(["bash", "-c", script], cwd=here, env=environment, timeout=60, check=False)
    assert ((here / "started").exists(), done.returncode == 0, (here / "d").exists()) == (starts, starts, False)
    assert (here / "c").exists()


SECRETS = [
    ("setup: ['login --token abcdefgh']\n", ("--setup-at-start",), "setup.0"),
    ("env: {URL: 'https://me:hunter22@db.example/x'}\n", (), "env.URL"),
]


@pytest.mark.parametrize(("more", "options", "path"), SECRETS, ids=[path for *_, path in SECRETS])
def test_what_looks_like_a_secret_is_refused_wherever_it_stands(
    here: Path, more: str, options: tuple[str, ...], path: str
) -> None:
    made = export(parse_spec(PLAIN + more + POOL), MACHINES, Options(setup_at_start=bool(options)))
    assert [".".join(map(str, one.path)) for one in made.refused] == [path]
    assert "a secret in it" in refused(PLAIN + POOL, "--entrypoint", "login --token abcdefgh")


PODS = (
    "cluster: c\nengine: {ray: {version: 2.60.0}}\n"
    "provider: {kubernetes: {namespace: ml, image: 'registry.example/a:2.60.0', kueue_queue: gpus%s}}\n"
)
OWN = (
    "head: {node_selector: {disk: slow}, tolerations: [{key: team}]}\n"
    "pools:\n  - {name: w, min: 1, max: 1, resources: {CPU: 2, memory: 4GiB}, node_selector: {disk: fast},"
    " tolerations: [{key: team}]}\n"
)


def test_pods_of_a_spec_keep_what_they_are(here: Path) -> None:
    (cluster,) = ran(PODS % "" + OWN)
    worker = pod(group(cluster, "w"))
    head = pod(cluster["spec"]["headGroupSpec"])
    assert head["nodeSelector"] == {"disk": "slow"} and head["tolerations"][0]["key"] == "team"
    assert cluster["metadata"]["namespace"] == "ml" and worker["containers"][0]["image"] == "registry.example/a:2.60.0"
    assert worker["nodeSelector"] == {"disk": "fast"} and worker["tolerations"] == [
        {"operator": "Exists", "key": "team"}
    ]
    assert cluster["metadata"]["labels"]["kueue.x-k8s.io/queue-name"] == "gpus"
    assert faults(cluster) == [] and operator_faults(cluster) == []
    said = refused(PODS % ", priority_class: high, volumes: [{claim: a, to: /a}]" + OWN)
    assert "it is not written into groups of KubeRay" in said and "say --claim /PATH=NAME" in said


def test_the_object_says_of_which_spec_it_was_made(here: Path) -> None:
    (first,), (same,), (other,) = ran(PLAIN + POOL), ran(PLAIN + POOL + "# a word\n"), ran(PLAIN + FIXED)
    hashes = [one["metadata"]["annotations"]["clusterctl/spec-hash"] for one in (first, same, other)]
    assert hashes[0] == hashes[1] != hashes[2]


def test_what_helps_is_told_and_not_refused() -> None:
    small = export(parse_spec(PLAIN + "head: {resources: {CPU: 1, memory: 4GiB}}\n" + POOL), MACHINES, Options())
    other = export(parse_spec(PLAIN + POOL), MACHINES, Options(image="registry.example/a:1"))
    queue = export(parse_spec(PLAIN + "queue: {preemption: true}\n" + FIXED), MACHINES, Options(queue=Queue("q")))
    for made, words in [
        (small, "too small for what Ray runs"),
        (other, "the image has to have Ray 2.60.0"),
        (queue, "no queue of jobs"),
    ]:
        assert made.refused == () and any(words in one.message for one in made.told)
