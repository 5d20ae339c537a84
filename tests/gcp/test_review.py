"""What a spec names and Google Cloud does not have: each told at once, with its line and column, and nothing is made."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from clusterctl.client.registry import Registry
from clusterctl.client.specfile import SpecFile, read_spec
from clusterctl.client.up.launch import bring_up
from clusterctl.client.up.planning import plan_new
from clusterctl.client.up.review import review_spec
from clusterctl.spec.faults import SpecError
from tests.cloud.gcp.cloud import GcpCloud
from tests.cloud.gcp.world import PROJECT

SPEC = """\
cluster: demo
provider:
  gcp:
    project: {project}
    region: {region}
    network: {network}
    calls_per_second: 500
    endpoint_url: "{url}"{more}
engine: none
head: {head}
pools:
  - name: cpu
    max: 1
    {pool}
"""


class Desk:
    def __init__(self, cloud: GcpCloud, directory: Path) -> None:
        self.cloud, self.directory = cloud, directory

    def write(self, pool: str = "instances: [e2-standard-2]", **given: str) -> SpecFile:
        usual = {"project": PROJECT, "region": "us-central1", "network": "default", "more": "", "head": "{}"}
        more = "".join(f"\n    {key}: {value}" for key, value in given.items() if key not in usual)
        file = self.directory / "cluster.yaml"
        known = {key: value for key, value in given.items() if key in usual}
        file.write_text(SPEC.format(**{**usual, **known, "more": more, "pool": pool, "url": self.cloud.url}))
        return read_spec(file)

    def faults(self, pool: str = "instances: [e2-standard-2]", **given: str) -> list[str]:
        """LINE:COLUMN: text, of each."""
        with pytest.raises(SpecError) as caught:
            review_spec(self.write(pool, **given))
        return [str(fault).removeprefix(f"{self.directory}/cluster.yaml:") for fault in caught.value.faults]


@pytest.fixture
def desk(cloud: GcpCloud, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Desk]:
    monkeypatch.setenv("CLUSTERCTL_HOME", str(tmp_path / "home"))
    yield Desk(cloud, tmp_path)
    assert not cloud.leftovers() and not cloud.instances(), "nothing was made"


def test_a_spec_that_is_right_is_not_objected_to(desk: Desk) -> None:
    review_spec(desk.write("instances: [e2-standard-2, n1-standard-4+nvidia-tesla-t4x1]\n    zones: [us-central1-a]"))


def test_a_project(desk: Desk) -> None:
    (fault,) = desk.faults(project="some-other-project")
    assert fault.startswith("4:14: ") and "some-other-project" in fault


def test_a_project_that_one_may_use_and_not_read(desk: Desk) -> None:
    desk.cloud.world.denied.add("compute.projects.get")
    (fault,) = desk.faults("instances: [e2-standart-4]")
    assert fault.startswith("14:17: ")


def test_a_region(desk: Desk) -> None:
    (fault,) = desk.faults(region="us-centrl1")
    assert fault.startswith("5:13: ") and "Google Cloud has no region 'us-centrl1'" in fault


def test_a_network(desk: Desk) -> None:
    (fault,) = desk.faults(network="nett")
    assert fault.startswith("6:14: ") and "has no network 'nett'" in fault


def test_a_subnetwork(desk: Desk) -> None:
    (fault,) = desk.faults(subnet="subb")
    assert fault.startswith("9:13: ") and "subnetwork subb in us-central1: there is none" in fault


@pytest.mark.parametrize("key", ["service_account", "worker_service_account"])
def test_a_service_account(desk: Desk, key: str) -> None:
    email = f"nobody@{PROJECT}.iam.gserviceaccount.com"
    (fault,) = desk.faults(**{key: email})
    assert re.match(rf"9:\d+: there is no service account {email} \(make it", fault)
    (fault,) = desk.faults(**{key: "nobody"})
    assert f"there is no service account {email}" in fault


def test_service_accounts_that_are_there_or_made(desk: Desk) -> None:
    desk.cloud.add_account("somebody")
    review_spec(desk.write(service_account="somebody", worker_service_account="auto"))


def test_who_may_not_look_at_service_accounts_is_not_told_of_one(desk: Desk) -> None:
    desk.cloud.world.denied.add("iam.serviceAccounts.get")
    review_spec(desk.write(service_account="somebody"))


def test_a_zone(desk: Desk) -> None:
    (fault,) = desk.faults("instances: [e2-standard-2]\n    zones: [us-central1-a, us-central1-z]")
    assert fault == (
        "15:28: Google Cloud has no zone 'us-central1-z' (us-central1 has us-central1-a, us-central1-b, us-central1-c, "
        "us-central1-f)"
    )


def test_the_heads_zone_and_type(desk: Desk) -> None:
    assert desk.faults(head="{zone: us-central1-z, instance: e2-standard-3}") == [
        "10:14: Google Cloud has no zone 'us-central1-z' (us-central1 has us-central1-a, us-central1-b, us-central1-c, "
        "us-central1-f)",
        "10:39: us-central1 has no machine type 'e2-standard-3' (did you mean 'e2-standard-32'?)",
    ]


def test_a_machine_type(desk: Desk) -> None:
    (fault,) = desk.faults("instances: [e2-standard-2, e2-standart-4]")
    assert fault == "14:32: us-central1 has no machine type 'e2-standart-4' (did you mean 'e2-standard-4'?)"


def test_a_device_that_cannot_be_attached(desk: Desk) -> None:
    desk.cloud.world.sells = lambda name, zone: name != "nvidia-tesla-t4"
    (fault,) = desk.faults("instances: [n1-standard-8+nvidia-tesla-t4x1]")
    what = "us-central1 has no machine type 'n1-standard-8' to which 1 nvidia-tesla-t4 can be attached"
    assert fault.startswith(f"14:17: {what}")


def test_a_machine_type_that_the_pools_zones_do_not_sell(desk: Desk) -> None:
    desk.cloud.world.sells = lambda name, zone: name != "g2-standard-8" or zone == "us-central1-b"
    (fault,) = desk.faults("instances: [g2-standard-8]\n    zones: [us-central1-a]")
    assert fault == (
        "14:17: the pool's zones (us-central1-a) have no machine type 'g2-standard-8' (it is sold in us-central1-b)"
    )


def test_a_machine_type_that_google_sells_and_the_catalogue_does_not_know(desk: Desk) -> None:
    (fault,) = desk.faults("instances: [f1-micro]")
    assert fault.startswith(
        "14:17: us-central1 sells f1-micro, but the catalogue of this version does not know what it has"
    )


def test_an_image(desk: Desk) -> None:
    (fault,) = desk.faults("instances: [e2-standard-2]\n    image: family:ubuntu-os-cloud/ubuntu-1204-lts")
    assert fault.startswith("15:12: ") and "there is none" in fault


def test_an_image_for_another_architecture(desk: Desk) -> None:
    pool = "instances: [e2-standard-2]\n    image: family:ubuntu-os-cloud/ubuntu-2404-lts-arm64"
    (fault,) = desk.faults(pool)
    assert fault.startswith("15:12: ") and "is for arm64, the instance type is x86_64" in fault


def test_all_that_is_wrong_is_told_at_once(desk: Desk) -> None:
    faults = desk.faults("instances: [e2-standart-4]\n    zones: [us-central1-z]", network="nett")
    assert [fault.split(": ")[0] for fault in faults] == ["6:14", "14:17", "15:13"]


def test_what_cannot_be_told_is_no_fault(desk: Desk) -> None:
    desk.cloud.world.disabled_services.add("compute.googleapis.com")
    review_spec(desk.write(region="us-centrl1"))


def test_plan_and_up_say_it(desk: Desk) -> None:
    source = desk.write("instances: [e2-standart-4]")
    with pytest.raises(SpecError, match="no machine type 'e2-standart-4'"):
        plan_new(source)
    registry = Registry()
    with pytest.raises(SpecError, match="no machine type 'e2-standart-4'"):
        bring_up(registry, source, lambda text: None, lambda api: None)
    assert registry.names() == [], "no cluster is known that does not exist"
