"""The fixed script of a new machine on Google Cloud: it knows itself by its name, and runs at every boot."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.aws.test_boot import BundlePort, Machine, boot_of
from tests.cloud.gcp.metadata import answer
from tests.cloud.metadata import MetadataServer

NAMES = [f"clusterctl-demo-5f3a6f0e-cpu-{n}-1" for n in range(5)]
NODES = [(f"cpu-{n}", 1, f"t{n}") for n in range(5)]


@pytest.fixture
def port(tmp_path: Path) -> Iterator[BundlePort]:
    place = BundlePort(tmp_path / "head")
    yield place
    place.close()


@pytest.fixture
def metadata() -> Iterator[str]:
    server = MetadataServer("127.0.0.1", lambda _: {"instance/name": NAMES[2]}, answer, port=0)
    yield f"http://127.0.0.1:{server.port}"
    server.close()


def test_machines_of_one_launch_tell_themselves_apart_by_their_name(
    port: BundlePort, tmp_path: Path, metadata: str
) -> None:
    machine = Machine(tmp_path / "m")
    machine.run(boot_of(port, metadata="gcp", names=NAMES), NODES, metadata)
    assert machine.agent_says() == "agent of cpu-2"
    papers = json.loads((machine.state / "bootstrap.json").read_text())
    assert papers["join_token"] == "t2" and "names" not in papers


def test_at_a_later_boot_the_agent_is_only_started(port: BundlePort, tmp_path: Path, metadata: str) -> None:
    machine = Machine(tmp_path / "m")
    boot = boot_of(port, metadata="gcp", names=NAMES)
    machine.run(boot, NODES, metadata)
    assert machine.agent_says() == "agent of cpu-2"
    (machine.state / "agent.log").unlink()
    served, papers = port.served, (machine.state / "bootstrap.json").read_text()
    machine.run(boot, NODES, metadata)
    assert machine.agent_says() == "agent of cpu-2"
    assert port.served == served and (machine.state / "bootstrap.json").read_text() == papers


def test_nothing_but_this_script_starts_the_agent_at_a_later_boot(port: BundlePort, tmp_path: Path) -> None:
    machine = Machine(tmp_path / "m")
    machine.run(boot_of(port, metadata="gcp"), NODES[:1])
    assert machine.agent_says() == "agent of cpu-0"
    assert (machine.state / "start").exists(), "cloud-init, which images of Google's have too, runs nothing there"


def test_a_machine_made_of_another_nodes_disk_does_not_take_its_place(
    port: BundlePort, tmp_path: Path, metadata: str
) -> None:
    machine = Machine(tmp_path / "m")
    machine.run(boot_of(port, metadata="gcp"), [("cpu-9", 1, "old")])
    assert machine.agent_says() == "agent of cpu-9"
    (machine.state / "agent.log").unlink()
    machine.run(boot_of(port, metadata="gcp", names=NAMES), NODES, metadata)
    assert machine.agent_says() == "agent of cpu-2"


def test_a_name_that_is_not_in_the_launch_turns_the_machine_off(port: BundlePort, tmp_path: Path) -> None:
    server = MetadataServer("127.0.0.1", lambda _: {"instance/name": "somebody-else"}, answer, port=0)
    try:
        machine = Machine(tmp_path / "m")
        said = machine.run(boot_of(port, metadata="gcp", names=NAMES), NODES, f"http://127.0.0.1:{server.port}")
        assert "cannot join its cluster" in said and machine.off()
    finally:
        server.close()


def test_the_first_boot_that_broke_off_is_done_again(port: BundlePort, tmp_path: Path) -> None:
    machine = Machine(tmp_path / "m")
    good = port.bundle.read_bytes()
    port.bundle.write_bytes(good[:-2] + b"!\n")
    boot = boot_of(port, metadata="gcp")
    machine.run(boot, NODES[:1])
    assert machine.off()
    port.bundle.write_bytes(good)
    machine.run(boot, NODES[:1])
    assert machine.agent_says() == "agent of cpu-0"
