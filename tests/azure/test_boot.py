"""The fixed script of a new machine on Azure: it has its own papers, and runs at its first boot."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.aws.test_boot import BundlePort, Machine, boot_of
from tests.aws.test_boot import port as port
from tests.cloud.azure.metadata import answer
from tests.cloud.metadata import MetadataServer

NAMES = [f"clusterctl-demo-5f3a6f0e-cpu-{n}-1" for n in range(5)]
FACTS = {"instance/compute/name": NAMES[2], "instance/compute/location": "eastus"}


def test_a_machine_knows_who_it_is_without_asking(port: BundlePort, tmp_path: Path) -> None:
    machine = Machine(tmp_path / "m")
    machine.run(boot_of(port, metadata="azure"), [("cpu-2", 1, "t2")])
    assert machine.agent_says() == "agent of cpu-2"
    assert json.loads((machine.state / "bootstrap.json").read_text())["join_token"] == "t2"


def test_what_it_asks_azures_metadata_service_is_what_that_answers(port: BundlePort, tmp_path: Path) -> None:
    server = MetadataServer("127.0.0.1", lambda _: FACTS, answer, port=0)
    try:
        machine = Machine(tmp_path / "m")
        nodes = [(f"cpu-{n}", 1, f"t{n}") for n in range(5)]
        machine.run(boot_of(port, metadata="azure", names=NAMES), nodes, f"http://127.0.0.1:{server.port}")
        assert machine.agent_says() == "agent of cpu-2"
    finally:
        server.close()


@pytest.mark.parametrize(
    ("path", "headers", "status"),
    [
        ("instance/compute/name?api-version=2021-02-01&format=text", {"Metadata": "true"}, 200),
        ("instance/compute/name?api-version=2021-02-01&format=text", {}, 400),
        ("instance/compute/name?format=text", {"Metadata": "true"}, 400),
        ("instance/compute/name?api-version=2021-02-01", {"Metadata": "true"}, 400),
        ("instance/compute/name?api-version=2021-02-01&format=text", {"Metadata": "true", "X-Forwarded-For": "x"}, 400),
        ("instance/nothing?api-version=2021-02-01", {"Metadata": "true"}, 404),
    ],
)
def test_the_stand_in_of_the_service_wants_what_azures_wants(path: str, headers: dict[str, str], status: int) -> None:
    assert answer("GET", f"/metadata/{path}", headers, FACTS).status == status


def test_a_part_of_the_facts_is_had_as_json() -> None:
    facts = {**FACTS, "instance/network/interface/0/ipv4/ipAddress/0/privateIpAddress": "10.224.0.4"}
    found = answer("GET", "/metadata/instance?api-version=2021-02-01", {"Metadata": "true"}, facts)
    assert json.loads(found.text)["network"]["interface"][0]["ipv4"]["ipAddress"][0]["privateIpAddress"] == "10.224.0.4"
