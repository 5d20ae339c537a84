"""What is read and not carried out is said before anything is bought, with its place."""

from __future__ import annotations

from typing import Any

import pytest

from clusterctl.core.errors import UsageError
from clusterctl.spec.load import parse_located, parse_spec
from clusterctl.spec.model import ClusterSpec
from clusterctl.spec.providers.registry import KINDS
from clusterctl.spec.support import NOT_YET, Row, check_supported, unsupported
from clusterctl.spec.wording import annotations_at
from tests.spec.examples import SMALLEST

ROWS = (
    Row("files", "nothing would be copied", "submit with --working-dir"),
    Row("pools.*.setup", "nothing would be run", ""),
    Row("engine.ray.version", "nothing would be installed", "", "local"),
    Row("provider", "no machine can be had there", "", "gcp"),
)


@pytest.fixture
def rows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("clusterctl.spec.support.NOT_YET", ROWS)
    monkeypatch.setattr("clusterctl.spec.support.__version__", "9.9")


def places(text: str) -> list[str]:
    spec, document = parse_located(text)
    return [f"{fault.line}:{fault.column} {fault.message.split(' does')[0]}" for fault in unsupported(spec, document)]


def test_the_smallest_spec_is_wholly_supported() -> None:
    spec, document = parse_located(SMALLEST)
    assert unsupported(spec, document) == ()
    check_supported(spec, document)


@pytest.mark.usefixtures("rows")
def test_each_part_is_named_at_its_key() -> None:
    text = """\
cluster: a
provider: local
engine: {ray: {version: 2.60.0}}
pools:
  - {name: x}
  - {name: y, setup: [ls], provider: local}
  - {name: z, provider: fake}
  - {name: v, provider: ssh, hosts: [h]}
files: [{from: ., to: x}]
"""
    hosts = "hosts reached by SSH are pools of a cluster whose head is one of them, and this one's is on this machine"
    wanted = ["3:16 'engine.ray.version'", "6:15 'pools.setup'", f"8:15 {hosts}", "9:1 'files'"]
    assert places(text) == wanted


@pytest.mark.usefixtures("rows")
def test_up_is_refused_with_all_of_it_and_says_what_would_not_happen() -> None:
    spec, document = parse_located(SMALLEST + "files: [{from: ., to: x}]\n")
    with pytest.raises(UsageError) as caught:
        check_supported(spec, document)
    wanted = "cluster.yaml:5:1: 'files' does not work in clusterctl 9.9 yet: nothing would be copied (submit with --working-dir)"
    assert str(caught.value) == wanted


@pytest.mark.usefixtures("rows")
def test_a_provider_that_is_not_there_yet_is_named() -> None:
    text = "cluster: a\nprovider: {gcp: {region: us-central1}}\npools: [{name: x, instances: [e2-small]}]\n"
    assert places(text) == ["2:1 provider 'gcp'"]


@pytest.mark.usefixtures("rows")
def test_a_default_written_out_needs_no_support() -> None:
    assert places(SMALLEST + "files: []\nengine: {ray: {}}\n") == []


@pytest.mark.usefixtures("rows")
def test_a_spec_without_its_text_is_checked_as_well() -> None:
    (fault,) = unsupported(parse_spec(SMALLEST + "files: [{from: ., to: x}]\n"))
    assert str(fault).startswith("demo: 'files' does not work in clusterctl 9.9 yet")


@pytest.mark.parametrize("row", NOT_YET, ids=lambda row: f"{row.field}-{row.provider}")
def test_every_row_names_a_key_that_exists_and_speaks_in_sentences(row: Row) -> None:
    path = tuple(0 if step == "*" else step for step in row.field.split("."))
    assert annotations_at(path) and row.lacks and row.fix
    assert row.provider in ("", *KINDS)


def test_rows_are_found_wherever_the_key_is_set() -> None:
    """Each row fires on a spec that sets its key, whatever the key is."""
    for row in NOT_YET:
        spec = _spec_setting(row)
        assert unsupported(spec), row


VALUES: dict[str, Any] = {
    "files": [{"from": ".", "to": "x"}],
    "setup": ["ls"],
    "version": "2.60.0",
    "extras": ["train"],
    "packages": ["optuna"],
    "object_store": "1GiB",
    "python": "/usr/bin/python3",
    "fair_share": "user",
    "preemption": True,
    "per_user": {"alice": {"gpus": 1}},
}


def _spec_setting(row: Row) -> ClusterSpec:
    provider = row.provider or "local"
    pool: dict[str, Any] = {"name": "x", "resources": {"CPU": 1.0}}
    if KINDS[provider].machine == "host":
        pool["hosts"] = ["h"]
    data: dict[str, Any] = {"cluster": "a", "provider": KINDS[provider].example, "pools": [pool]}
    *parents, last = row.field.replace("pools.*.", "").split(".")
    if row.field != "provider":
        here = pool if row.field.startswith("pools") else data
        for parent in parents:
            here = here.setdefault(parent, {})
        here[last] = VALUES[last]
    return ClusterSpec.model_validate(data)
