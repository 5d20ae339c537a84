"""Client, head and agent of different versions say so, instead of misunderstanding each other."""

from __future__ import annotations

import json

import pytest
from clusterctl_runtime import wire

from clusterctl.version import __version__
from tests.security.knocking import Api
from tests.security.test_rogue_joins import ask
from tests.support.cluster import LocalCluster


@pytest.mark.parametrize("version", [0, wire.WIRE_VERSION + 1, None, "1", [1]])
def test_an_agent_of_another_wire_version_is_told_what_to_do_and_may_try_again(
    cluster: LocalCluster, version: object
) -> None:
    answer = ask(cluster, {"t": "hello", "wire": version, "purpose": "control", "node_id": "cpu-1", "generation": 1})
    assert answer is not None and answer["code"] == "wire_version"
    assert str(wire.WIRE_VERSION) in answer["reason"] and "clusterctl up" in answer["reason"]
    assert not answer["final"], "the node is mended by an upgrade of the head, not by its end"


def test_a_field_that_only_a_newer_client_knows_is_named(api: Api) -> None:
    answer = api.post("/api/v1/jobs", {"argv": ["true"], "quantum": True})
    assert answer.status == 422
    assert "quantum" in answer.message and f"clusterctl {__version__}" in answer.message


def test_a_call_that_only_a_newer_client_knows_names_the_heads_version(api: Api) -> None:
    answer = api.post("/api/v1/teleports", {})
    assert answer.status in (404, 405)
    assert f"clusterctl {__version__}" in answer.message and "version" in answer.document["error"]["fix"]


def test_head_and_status_say_which_version_they_are(cluster: LocalCluster, api: Api) -> None:
    assert api.get("/healthz")["version"] == __version__
    assert cluster.status()["head"]["version"] == __version__
    assert cluster.cli("version").stdout.startswith(f"clusterctl {__version__}")


def test_unknown_keys_of_a_newer_peer_are_passed_over_on_the_wire() -> None:
    report = wire.TaskReport.from_json({"task": "j/1/0", "state": "running", "invented": {"later": 1}})
    assert json.dumps(report.to_json()) and report.state == "running"
