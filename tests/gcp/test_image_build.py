"""`image build` makes an image once, goes on where it was interrupted, and leaves nothing but the image."""

from __future__ import annotations

import json
import shutil
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from clusterctl_providers.gcp.images.build import GceBuild
from clusterctl_providers.gcp.roles import permissions_of

from clusterctl.client.down.gc import collect_strays
from clusterctl.client.images.build import build_image, builds
from clusterctl.client.images.made import remove_images
from clusterctl.client.registry import Registry
from clusterctl.core.errors import ClusterctlError
from clusterctl.spec.load import parse_spec
from tests.cloud.gcp.cloud import GcpCloud
from tests.cloud.gcp.machines import GcpMachines
from tests.cloud.gcp.world import PROJECT, REGION
from tests.cloud.machines import CIDR

RAY = "2.60.0"
WHEELS = Path("/var/tmp/clusterctl-test-wheels-gcp")


@pytest.fixture
def registry(tmp_path: Path) -> Registry:
    return Registry(tmp_path / "home")


def spec_for(cloud: GcpCloud, more: str = "", env: str = "", type_: str = "e2-standard-2") -> Any:
    where = f"project: {PROJECT}, region: {REGION}, endpoint_url: '{cloud.url}', calls_per_second: 500"
    return parse_spec(
        f"cluster: demo\nprovider: {{gcp: {{{where}}}}}\n"
        f"engine: {{ray: {{version: {RAY}, extras: [data]}}}}\nenv: {{{env}}}\n"
        f"pools:\n  - {{name: cpu, instances: [{type_}]{more}}}\n"
    )


def images(cloud: GcpCloud) -> list[dict[str, Any]]:
    return [dict(row) for row in cloud.compute.store.collection(f"projects/{PROJECT}/global/images")]


def left(cloud: GcpCloud) -> list[str]:
    return [path for path in cloud.leftovers() if not path.startswith("global/images/")]


class Machine:
    """Stands in for the build's machine where only its end matters: says its word while it runs, and turns itself off once
    somebody has heard it."""

    def __init__(self, cloud: GcpCloud, word: str = "done {content}") -> None:
        self.cloud, self.word, self.said = cloud, word, dict[str, str]()
        self.silent = False  # nobody hears it before it is off
        cloud.world.listeners.append(self.changed)
        cloud.world.consoles = self.console

    def changed(self, status: str, instance: Any) -> None:
        if status == "RUNNING" and "#clusterctl-document" in instance.metadata.get("startup-script", ""):
            document = json.loads(instance.metadata["startup-script"].rpartition("#clusterctl-document\n")[2])
            assert document["linger"] > 30, "it stays on until its word was heard"
            self.said[instance.id] = f"booting\nclusterctl-image: {self.word.format(content=document['content'])}\n"
            if self.silent:
                self.cloud.shut_down(instance.id)

    def console(self, instance_id: str) -> str:
        if self.said.get(instance_id) and not self.silent:
            self.cloud.shut_down(instance_id)
        return self.said.get(instance_id, "")


@pytest.fixture
def machine(cloud: GcpCloud) -> Iterator[Machine]:
    yield Machine(cloud)
    cloud.world.consoles = None


def launches(cloud: GcpCloud) -> list[dict[str, Any]]:
    return [parameters for _, action, parameters in cloud.world.calls if action == "compute.instances.insert"]


def test_an_image_is_made_once_for_its_content_and_nothing_else_is_left(
    registry: Registry, cloud: GcpCloud, machine: Machine
) -> None:
    told: list[str] = []
    first = build_image(registry, spec_for(cloud), "", told.append)
    (image,) = images(cloud)
    assert first["image"] == f"projects/{PROJECT}/global/images/{image['name']}" and first["fresh"]
    assert first["name"] == image["name"] and image["name"].startswith("clusterctl-ray-2-60-0-x86-64-")
    assert cloud.instances() == [] and left(cloud) == [] and builds(registry) == []
    (call,) = launches(cloud)
    body = call["body"]
    assert not body.get("serviceAccounts") and not body.get("tags"), "it may do nothing, and nobody gets in"
    metadata = {item["key"]: item["value"] for item in body["metadata"]["items"]}
    assert metadata["block-project-ssh-keys"] == "TRUE" and "ssh-keys" not in metadata
    again = build_image(registry, spec_for(cloud), "", told.append)
    assert (again["image"], again["fresh"]) == (first["image"], False) and len(launches(cloud)) == 1
    build_image(registry, spec_for(cloud, ", disk: 60GiB"), "", told.append)
    assert len(images(cloud)) == 2, "another content is another image"


def test_a_build_needs_the_clients_role_and_that_for_images(
    registry: Registry, cloud: GcpCloud, machine: Machine
) -> None:
    cloud.world.allowed = {*permissions_of("client"), *permissions_of("image")}
    made = build_image(registry, spec_for(cloud), "", lambda _: None)
    remove_images(registry, spec_for(cloud), [made["image"]], lambda _: None)
    assert images(cloud) == [] and left(cloud) == []


def test_a_gpu_pools_image_keeps_its_driver_and_is_built_without_a_gpu(
    registry: Registry, cloud: GcpCloud, machine: Machine
) -> None:
    build_image(registry, spec_for(cloud, type_="g2-standard-4"), "cpu", lambda _: None)
    (call,) = launches(cloud)
    body = call["body"]
    assert body["machineType"].endswith("/e2-standard-2") and not body.get("guestAccelerators")
    first = body["disks"][0]["initializeParams"]
    assert "deeplearning-platform-release" in first["sourceImage"] and first["diskSizeGb"] == "100"


@pytest.mark.parametrize(
    "step", ["instances.insert", "instances.get", "instances.getSerialPortOutput", "images.insert", "instances.delete"]
)
def test_a_build_that_was_interrupted_is_gone_on_with(
    registry: Registry, cloud: GcpCloud, machine: Machine, step: str
) -> None:
    fault = cloud.fault(
        f"compute.{step}", code="forbidden", message="Required 'compute.it' permission", status=403, times=None
    )
    with pytest.raises(ClusterctlError, match="permission"):
        build_image(registry, spec_for(cloud), "", lambda _: None)
    assert len(builds(registry)) == 1
    cloud.world.faults.remove(fault)
    build_image(registry, spec_for(cloud), "", lambda _: None)
    assert len(images(cloud)) == 1 and left(cloud) == [] and builds(registry) == []
    made = [call for call in launches(cloud) if call["body"]["name"]]
    assert len({call["body"]["name"] for call in made}) == 1, "no second machine"


@pytest.mark.parametrize("action", ["instances.insert", "images.insert", "instances.delete"])
def test_a_lost_answer_makes_neither_a_second_machine_nor_a_second_image(
    registry: Registry, cloud: GcpCloud, machine: Machine, action: str
) -> None:
    cloud.fault(f"compute.{action}", "lost")
    build_image(registry, spec_for(cloud), "", lambda _: None)
    assert len(images(cloud)) == 1 and left(cloud) == []


def test_another_zone_is_tried_where_one_has_no_capacity(registry: Registry, cloud: GcpCloud, machine: Machine) -> None:
    cloud.world.capacity["*/us-central1-a/*"] = 0
    told: list[str] = []
    build_image(registry, spec_for(cloud), "", told.append)
    assert any("in us-central1-b) from" in line for line in told) and left(cloud) == []


def test_gc_ends_the_machine_of_a_build_that_nobody_goes_on_with(
    registry: Registry, cloud: GcpCloud, machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CLUSTERCTL_HOME", str(registry.home))
    cloud.fault("compute.images.insert", code="forbidden", message="no permission", status=403)
    with pytest.raises(ClusterctlError):
        build_image(registry, spec_for(cloud), "", lambda _: None)
    assert len(cloud.instances("TERMINATED")) == 1
    (stray,) = [s for s in collect_strays(registry, dry_run=False) if s.provider == "gcp"]
    assert stray.removed and cloud.leftovers() == []


def test_what_went_wrong_on_the_machine_is_told_and_nothing_is_left(registry: Registry, cloud: GcpCloud) -> None:
    Machine(cloud, "failed: pip ended with exit code 1: No matching distribution found for ray")
    with pytest.raises(ClusterctlError, match="No matching distribution"):
        build_image(registry, spec_for(cloud), "", lambda _: None)
    assert cloud.leftovers() == [] and builds(registry) == []


def test_a_machine_whose_word_nobody_heard_before_it_was_off_is_not_believed(
    registry: Registry, cloud: GcpCloud, machine: Machine
) -> None:
    """The serial port can be read while it runs, and not afterwards."""
    machine.silent = True
    with pytest.raises(ClusterctlError, match="its console cannot be read any more: whether it was done is not known"):
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


def test_the_machine_really_installs_ray_says_so_while_it_can_be_heard_and_turns_itself_off(
    registry: Registry, wheels: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(GceBuild, "linger", 15.0)  # it is looked at every ten seconds at least
    with GcpCloud(CIDR) as cloud, cloud.credentials(), GcpMachines(cloud):
        told: list[str] = []
        spec = spec_for(cloud, env=f"PIP_NO_INDEX: '1', PIP_FIND_LINKS: {wheels}")
        made = build_image(registry, spec, "", told.append)
        (image,) = images(cloud)
        assert made["image"].endswith(image["name"]) and image["status"] == "READY"
        assert any("Ray is being installed" in line for line in told) and left(cloud) == []
        assert cloud.world.violations == []
