"""What `export kuberay` writes, KubeRay's own manifests and planted faults, in dry runs of a real API server: nothing is made."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner

from clusterctl.cli.verbs.export import app
from tests.kuberay import crd
from tests.kuberay.examples import example, planted, samples
from tests.kuberay.test_crd import PLANTED
from tests.kuberay.test_export import PLAIN, POOL, RICH
from tests.kubernetes import definitions
from tests.support.kubernetes.dry_run import DryRun
from tests.support.kubernetes.plane import ControlPlane

# What a server of today refuses and this one does not: the range of numbers, entries of a list with the same key, rules in CEL.
LATER = ("is out of range for int32", "two entries have", "spec.managedBy: ", "spec.deletionStrategy")
NULL = {"ray-job.interactive-mode.yaml"}  # a null where text is: newer servers drop it
SERVED = frozenset({"v1", "ray.io/v1", "monitoring.coreos.com/v1", "networking.k8s.io/v1"})

EVERYTHING = (
    *("--namespace", "ml", "--claim", "/models=models", "--secret", "HF_TOKEN=hf/token"),
    *("--redis", "redis:6379,r/p", "--prometheus", "podmonitor"),
)
JOB = ("--entrypoint", "python train.py", "--env", "MODE=fast", "--max-retries", "2", "--timeout", "2h")
BESIDES = "limits: {nodes: 4, gpus: 2}\nsetup: [make]\nfiles: [{from: app.yaml, to: conf/app.yaml}]\n"
BESIDE = (
    *("--pvc", "models:/models:100GiB:fast", "--quota", "--network-policy", "--setup-at-start"),
    *("--kueue-queue", "gpus", "--kueue-priority", "high", "--kueue-elastic"),
)
EXPORTS: dict[str, tuple[str, tuple[str, ...]]] = {
    **{f"rich-{target}": (RICH, (*EVERYTHING, "--target", target)) for target in ("generic", "gke", "eks", "aks")},
    "plain": (PLAIN + POOL, ("--prometheus", "annotations")),
    "job": (PLAIN + POOL, JOB),
    "by-clock": (PLAIN + POOL, (*JOB, "--schedule", "0 3 * * *", "--time-zone", "Europe/Berlin")),
    "besides": (PLAIN.replace("local", "docker") + BESIDES + POOL, BESIDE),
    "service": (PLAIN + POOL, ("--serve", "app.yaml")),
}


@pytest.fixture(scope="module")
def dry_run(control_plane: ControlPlane) -> DryRun:
    definitions.load(control_plane)
    return DryRun(control_plane.api, control_plane.namespace())


@pytest.mark.parametrize("name", EXPORTS)
def test_an_export_is_taken_whole(name: str, dry_run: DryRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text, options = EXPORTS[name]
    monkeypatch.chdir(tmp_path)
    Path("cluster.yaml").write_text(text)
    Path("app.yaml").write_text("applications: [{name: a, import_path: main:app}]\n")
    done = CliRunner().invoke(app, ["kuberay", "cluster.yaml", "-q", "--lossy", *options])
    assert done.exit_code == 0, done.output
    documents = list(yaml.safe_load_all(done.stdout))
    pods = [made for document in documents for made in pods_of(document)]
    assert len(pods) >= 2, "a head and a worker"
    for document in documents:
        assert dry_run.serves(document) or document["apiVersion"] not in SERVED
    for document in [*filter(dry_run.serves, documents), *pods]:
        assert dry_run.faults(document) == [], yaml.safe_dump(document)


def test_kuberays_own_manifests_are_taken_whole(dry_run: DryRun) -> None:
    found = {
        f"{name} {document['kind']}": dry_run.faults(document)
        for name, documents in samples().items()
        for document in documents
        if name not in NULL
    }
    assert len(found) == 65 and not any(found.values()), {name: said for name, said in found.items() if said}


def test_a_real_server_refuses_what_our_reader_of_schemas_refuses(dry_run: DryRun) -> None:
    whole = [(kind, path, value, said) for kind, path, value, said in PLANTED if not path.startswith("metadata")]
    taken = [
        said
        for kind, path, value, said in whole
        if not any(word in said for word in LATER) and not dry_run.faults(planted(kind, {path: value}))
    ]
    assert taken == []
    assert sum(any(word in said for word in LATER) for *_, said in whole) < len(whole) / 4


@pytest.mark.parametrize("kind", crd.KINDS)
def test_an_example_of_each_kind_is_taken_whole(dry_run: DryRun, kind: str) -> None:
    assert dry_run.faults(example(kind)) == []


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"restartPolice": "Never"}, "unknown field spec.restartPolice"),
        ({"nodeSelector": {"a b": "c"}}, "name part must consist of"),
        ({"terminationGracePeriodSeconds": "soon"}, "terminationGracePeriodSeconds"),
        (
            {"containers": [{"name": "x", "image": "x", "resources": {"limits": {"memory": "8 GiB"}}}]},
            "quantities must",
        ),
    ],
    ids=["misspelt", "label", "number", "quantity"],
)
def test_a_fault_in_a_pod_is_found(dry_run: DryRun, change: dict[str, Any], said: str) -> None:
    good = {"containers": [{"name": "x", "image": "x"}]}
    document = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "x"}, "spec": {**good, **change}}
    (fault,) = dry_run.faults(document)
    assert said in fault


def pods_of(document: Any) -> Iterator[dict[str, Any]]:
    """The pods that an operator would make from the templates in a document, wherever they stand."""
    if isinstance(document, dict):
        template = document.get("template")
        if isinstance(template, dict) and "containers" in template.get("spec", {}):
            metadata = {**template.get("metadata", {}), "name": "made-from-a-template"}
            yield {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": template["spec"]}
    for each in document.values() if isinstance(document, dict) else document if isinstance(document, list) else ():
        yield from pods_of(each)
