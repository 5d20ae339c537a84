"""`image build` makes an image once, goes on where it was interrupted, and leaves nothing but the image."""

from __future__ import annotations

import json
import shutil
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from clusterctl.client.down.gc import collect_strays
from clusterctl.client.images.build import build_image, builds
from clusterctl.client.registry import Registry
from clusterctl.core.errors import ClusterctlError
from clusterctl.spec.load import parse_spec
from tests.cloud.azure.cloud import AzureCloud
from tests.cloud.azure.machine import Machine
from tests.cloud.azure.machines import AzureMachines
from tests.cloud.azure.world import REGION, SUBSCRIPTION
from tests.cloud.machines import CIDR

RAY = "2.60.0"
WHEELS = Path("/var/tmp/clusterctl-test-wheels-azure")
VERSION = "Microsoft.Compute/galleries/images/versions"
KEPT = ("resourceGroups/clusterctl-images",)  # group and gallery stay


@pytest.fixture
def registry(tmp_path: Path) -> Registry:
    return Registry(tmp_path / "home")


def spec_for(
    cloud: AzureCloud, more: str = "", env: str = "", type_: str = "Standard_D2s_v5", settings: str = ""
) -> Any:
    where = f"subscription: {SUBSCRIPTION}, region: {REGION}, endpoint_url: '{cloud.url}', calls_per_second: 500"
    return parse_spec(
        f"cluster: demo\nprovider: {{azure: {{{where}{settings}}}}}\n"
        f"engine: {{ray: {{version: {RAY}, extras: [data]}}}}\nenv: {{{env}}}\n"
        f"pools:\n  - {{name: cpu, instances: [{type_}]{more}}}\n"
    )


def images(cloud: AzureCloud) -> list[dict[str, Any]]:
    with cloud.world.lock:
        cloud.advance()
        return cloud.store.of_type(VERSION)


def left(cloud: AzureCloud) -> list[str]:
    return [path for path in cloud.leftovers() if not path.startswith(KEPT)]


class Builder:
    """Stands in for the build's machine where only its end matters: says its word, and turns itself off."""

    def __init__(self, cloud: AzureCloud, word: str = "done {content}") -> None:
        self.cloud, self.word, self.said = cloud, word, dict[str, str]()
        cloud.world.listeners.append(self.changed)
        cloud.world.consoles = lambda machine: self.said.get(machine, "")

    def changed(self, power: str, machine: Machine) -> None:
        text = machine.user_data.decode()
        if power == "running" and "#clusterctl-document" in text:
            document = json.loads(text.rpartition("#clusterctl-document\n")[2])
            assert document["linger"] == 0, "its console outlives it"
            self.said[machine.id] = f"booting\nclusterctl-image: {self.word.format(content=document['content'])}\n"
            self.cloud.power.shut_down(machine)


@pytest.fixture
def machine(cloud: AzureCloud) -> Iterator[Builder]:
    yield Builder(cloud)
    cloud.world.consoles = None


def launches(cloud: AzureCloud) -> list[dict[str, Any]]:
    return [p["body"] for _, _, p in cloud.world.calls if p["operation"] == "virtualMachines.createOrUpdate"]


def test_an_image_is_made_once_for_its_content_and_nothing_else_is_left(
    registry: Registry, cloud: AzureCloud, machine: Builder
) -> None:
    told: list[str] = []
    first = build_image(registry, spec_for(cloud), "", told.append)
    (image,) = images(cloud)
    assert first["image"].lower() == image["id"].lower() and first["fresh"]
    assert image["id"].split("/")[-3] == first["name"] and first["name"].startswith("clusterctl-ray-2.60.0-x86_64-")
    assert left(cloud) == [] and builds(registry) == []
    (body,) = launches(cloud)
    assert not body.get("identity"), "it may do nothing"
    keys = body["properties"]["osProfile"]["linuxConfiguration"]["ssh"]["publicKeys"]
    assert len(keys) == 1, "whose other half is nowhere, and nobody gets in"
    card = body["properties"]["networkProfile"]["networkInterfaceConfigurations"][0]["properties"]
    assert "publicIPAddressConfiguration" not in json.dumps(card)
    again = build_image(registry, spec_for(cloud), "", told.append)
    assert (again["image"], again["fresh"]) == (first["image"], False) and len(launches(cloud)) == 1
    build_image(registry, spec_for(cloud, ", disk: 60GiB"), "", told.append)
    assert len(images(cloud)) == 2, "another content is another image"


def test_machines_of_an_image_can_be_what_those_of_its_base_can_be(
    registry: Registry, cloud: AzureCloud, machine: Builder
) -> None:
    build_image(registry, spec_for(cloud), "", lambda _: None)
    (definition,) = cloud.store.of_type("Microsoft.Compute/galleries/images")
    properties = definition["properties"]
    features = {each["name"]: each["value"] for each in properties["features"]}
    assert features == {"SecurityType": "TrustedLaunchSupported", "DiskControllerTypes": "SCSI, NVMe"}
    assert (properties["hyperVGeneration"], properties["architecture"], properties["osState"]) == (
        "V2",
        "x64",
        "Generalized",
    )
    (body,) = launches(cloud)
    assert body["properties"]["securityProfile"]["securityType"] == "TrustedLaunch"
    operations = [
        name for name in cloud.world.operations() if name.startswith("virtualMachines.") and "nstanceView" not in name
    ]
    steps = [
        name.partition(".")[2]
        for name in operations
        if name.partition(".")[2] in ("deallocate", "generalize", "delete")
    ]
    assert steps == ["deallocate", "generalize", "delete"]


def test_an_image_that_was_built_is_one_to_start_nodes_from(
    registry: Registry, cloud: AzureCloud, machine: Builder
) -> None:
    from clusterctl_providers.azure.images.lookup import GIB, Images

    from tests.azure.parts import Parts

    made = build_image(registry, spec_for(cloud), "", lambda _: None)
    found = Images(Parts(cloud).calls).find(made["image"], "x86_64", False)
    assert found.trusted and found.size == 30 * GIB and "NVMe" in found.controllers


def test_a_gpu_pools_image_keeps_its_driver_and_is_built_without_a_gpu(
    registry: Registry, cloud: AzureCloud, machine: Builder
) -> None:
    build_image(registry, spec_for(cloud, type_="Standard_NC24ads_A100_v4"), "cpu", lambda _: None)
    (body,) = launches(cloud)
    assert body["properties"]["hardwareProfile"]["vmSize"] == "Standard_D2s_v5"
    storage = body["properties"]["storageProfile"]
    assert storage["imageReference"]["publisher"] == "microsoft-dsvm" and storage["osDisk"]["diskSizeGB"] >= 64


@pytest.mark.parametrize(
    "step",
    [
        "virtualMachines.createOrUpdate", "virtualMachines.instanceView", "virtualMachines.retrieveBootDiagnosticsData",
        "virtualMachines.deallocate", "virtualMachines.generalize", "galleries.createOrUpdate", "galleryImages.createOrUpdate",
        "galleryImageVersions.createOrUpdate", "virtualMachines.delete", "resourceGroups.delete",
    ],
)  # fmt: skip
def test_a_build_that_was_interrupted_is_gone_on_with(
    registry: Registry, cloud: AzureCloud, machine: Builder, step: str
) -> None:
    message = "does not have authorization to perform action 'it'"
    fault = cloud.fault(step, code="AuthorizationFailed", message=message, status=403, times=None)
    with pytest.raises(ClusterctlError, match="may not do the action"):
        build_image(registry, spec_for(cloud), "", lambda _: None)
    assert len(builds(registry)) == 1
    cloud.world.faults.remove(fault)
    build_image(registry, spec_for(cloud), "", lambda _: None)
    assert len(images(cloud)) == 1 and left(cloud) == [] and builds(registry) == []
    assert len({body["properties"]["osProfile"]["computerName"] for body in launches(cloud)}) == 1, "no second machine"


@pytest.mark.parametrize(
    "operation", ["virtualMachines.createOrUpdate", "galleryImageVersions.createOrUpdate", "virtualMachines.delete"]
)
def test_a_lost_answer_makes_neither_a_second_machine_nor_a_second_image(
    registry: Registry, cloud: AzureCloud, machine: Builder, operation: str
) -> None:
    cloud.fault(operation, "lost")
    for _ in range(2):
        try:
            build_image(registry, spec_for(cloud), "", lambda _: None)
            break
        except ClusterctlError:
            pass
    assert len(images(cloud)) == 1 and left(cloud) == []


def test_another_zone_is_tried_where_one_has_no_capacity(
    registry: Registry, cloud: AzureCloud, machine: Builder
) -> None:
    cloud.world.capacity["*/1/*"] = 0
    told: list[str] = []
    build_image(registry, spec_for(cloud), "", told.append)
    assert any("in 2) from" in line for line in told), told
    assert left(cloud) == []


def test_gc_ends_the_machine_of_a_build_that_nobody_goes_on_with(
    registry: Registry, cloud: AzureCloud, machine: Builder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CLUSTERCTL_HOME", str(registry.home))
    cloud.fault("galleryImages.createOrUpdate", code="AuthorizationFailed", message="no", status=403)
    with pytest.raises(ClusterctlError):
        build_image(registry, spec_for(cloud), "", lambda _: None)
    assert left(cloud)
    (stray,) = [s for s in collect_strays(registry, dry_run=False) if s.provider == "azure"]
    assert stray.removed and left(cloud) == []


def test_what_went_wrong_on_the_machine_is_told_and_nothing_is_left(registry: Registry, cloud: AzureCloud) -> None:
    Builder(cloud, "failed: pip ended with exit code 1: No matching distribution found for ray")
    with pytest.raises(ClusterctlError, match="No matching distribution"):
        build_image(registry, spec_for(cloud), "", lambda _: None)
    assert cloud.leftovers() == [] and builds(registry) == []


@pytest.fixture
def wheels() -> Iterator[Path]:
    """An index for the machine, which has no network: a stand-in for Ray that pip really installs."""
    WHEELS.mkdir(exist_ok=True)
    info = f"ray-{RAY}.dist-info"
    files = {
        "ray/__init__.py": "",
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: ray\nVersion: {RAY}\nProvides-Extra: default\nProvides-Extra: data\n",
        f"{info}/WHEEL": "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    with zipfile.ZipFile(WHEELS / f"ray-{RAY}-py3-none-any.whl", "w") as archive:
        for name, text in files.items():
            archive.writestr(name, text)
        archive.writestr(f"{info}/RECORD", "".join(f"{name},,\n" for name in [*files, f"{info}/RECORD"]))
    yield WHEELS
    shutil.rmtree(WHEELS)


def test_the_machine_really_installs_ray_says_so_and_turns_itself_off(registry: Registry, wheels: Path) -> None:
    with AzureCloud() as cloud, cloud.credentials(), AzureMachines(cloud):
        told: list[str] = []
        env = f"PIP_NO_INDEX: '1', PIP_FIND_LINKS: {wheels}"
        spec = spec_for(cloud, env=env, settings=f", address_space: {CIDR}")
        made = build_image(registry, spec, "", told.append)
        (image,) = images(cloud)
        assert made["image"].lower() == image["id"].lower()
        assert any("Ray is being installed" in line for line in told) and left(cloud) == []
        assert cloud.world.violations == []
