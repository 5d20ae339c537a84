"""What builds have made is listed, and removed with its definition, whatever comes in between."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from clusterctl.client.images.build import build_image
from clusterctl.client.images.made import list_images, remove_images
from clusterctl.client.registry import Registry
from clusterctl.core.errors import ClusterctlError, NotFound, Refused
from tests.azure.parts import Parts
from tests.azure.test_image_build import Builder, images, machine, registry, spec_for
from tests.cloud.azure.cloud import AzureCloud
from tests.cloud.azure.world import REGION

assert machine and registry  # fixtures


@pytest.fixture
def built(registry: Registry, cloud: AzureCloud, machine: Builder) -> dict[str, Any]:
    return build_image(registry, spec_for(cloud), "", lambda _: None)


def remove(registry: Registry, cloud: AzureCloud, *wanted: str) -> dict[str, Any]:
    return remove_images(registry, spec_for(cloud), wanted, lambda _: None)


def definitions(cloud: AzureCloud) -> list[str]:
    return [row["name"] for row in cloud.store.of_type("Microsoft.Compute/galleries/images")]


def somebody_elses(cloud: AzureCloud) -> None:
    parts = Parts(cloud)
    gallery = parts.calls.path("Microsoft.Compute", "galleries", f"clusterctl_{REGION}", group="clusterctl-images")
    properties = {
        "osType": "Linux", "osState": "Generalized", "hyperVGeneration": "V2",
        "identifier": {"publisher": "corp", "offer": "os", "sku": "s"},
    }  # fmt: skip
    body = {"location": REGION, "properties": properties}
    parts.calls.run("PUT", f"{gallery}/images/somebody-elses", "making", body)


def test_the_list_says_what_each_image_is_and_who_starts_from_it(
    registry: Registry, cloud: AzureCloud, built: dict[str, Any]
) -> None:
    other = build_image(registry, spec_for(cloud, ", disk: 60GiB"), "", lambda _: None)
    somebody_elses(cloud)
    cluster = registry.create("mine", provider="azure", engine="ray", spec_path="")
    cluster.spec_file.write_text(f"pools: [{{name: cpu, image: {other['image']}}}]")
    document = list_images(registry, spec_for(cloud))
    assert (document["provider"], document["region"]) == ("azure", REGION)
    assert {row["image"]: row["used_by"] for row in document["images"]} == {
        built["image"]: [],
        other["image"]: ["mine"],
    }
    row = next(row for row in document["images"] if row["image"] == built["image"])
    assert (row["name"], row["state"], row["arch"]) == (built["name"], "available", "x86_64")
    assert row["size"] == 30 << 30 and len(row["snapshots"]) == 1 and row["created"] > 1.7e9


def test_an_image_goes_with_its_definition_and_what_is_not_ours_stays(
    registry: Registry, cloud: AzureCloud, built: dict[str, Any]
) -> None:
    somebody_elses(cloud)
    with pytest.raises(NotFound, match="no image 'somebody-elses' was made by clusterctl"):
        remove(registry, cloud, built["name"], "somebody-elses")
    assert len(images(cloud)) == 1, "nothing is removed where one of the names is wrong"
    (removed,) = remove(registry, cloud, built["image"], built["image"])["removed"]
    assert removed["image"] == built["image"]
    assert images(cloud) == [] and definitions(cloud) == ["somebody-elses"]


def test_a_removal_that_was_refused_is_told_and_finished_by_the_next(
    registry: Registry, cloud: AzureCloud, built: dict[str, Any]
) -> None:
    message = "does not have authorization to perform action 'Microsoft.Compute/galleries/images/delete'"
    cloud.fault("galleryImages.delete", code="AuthorizationFailed", message=message, status=403)
    with pytest.raises(ClusterctlError, match=r"Microsoft.Compute/galleries/images/delete"):
        remove(registry, cloud, built["image"])
    (row,) = list_images(registry, spec_for(cloud))["images"]
    assert row["state"] == "gone" and row["name"] == built["name"]
    cloud.fault("galleryImages.delete", "lost")
    remove(registry, cloud, built["name"])
    assert definitions(cloud) == [] and list_images(registry, spec_for(cloud))["images"] == []


def test_a_definition_whose_version_azure_still_knows_of_is_tried_again(
    registry: Registry, cloud: AzureCloud, built: dict[str, Any]
) -> None:
    cloud.fault("galleryImages.delete", code="CannotDeleteResource", message="nested resources exist", status=409)
    remove(registry, cloud, built["image"])
    assert definitions(cloud) == []


def test_an_image_that_a_cluster_starts_from_is_refused_by_name(
    registry: Registry, cloud: AzureCloud, built: dict[str, Any]
) -> None:
    cluster = registry.create("mine", provider="azure", engine="ray", spec_path="")
    cluster.spec_file.write_text(f"head: {{image: {built['image']}}}")
    with pytest.raises(Refused, match="named in the spec of mine"):
        remove(registry, cloud, built["image"])
    assert len(images(cloud)) == 1


def test_the_commands_list_and_remove(
    registry: Registry, cloud: AzureCloud, built: dict[str, Any], tmp_path: Path
) -> None:
    spec = tmp_path / "cluster.yaml"
    spec.write_text(spec_for(cloud).model_dump_json(exclude_defaults=True, by_alias=True))
    env = {**os.environ, "CLUSTERCTL_HOME": str(registry.home)}

    def run(*argv: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "clusterctl", "image", *argv]
        return subprocess.run(command, capture_output=True, text=True, env=env, timeout=120)

    shown = run("list", str(spec))
    assert shown.stdout.splitlines()[0].split() == ["IMAGE", "NAME", "ARCH", "DISK", "STATE", "MADE", "USED", "BY"]
    assert built["image"] in shown.stdout and built["name"] in shown.stdout
    done = run("rm", built["image"], "--spec", str(spec), "--json")
    assert json.loads(done.stdout)["removed"][0]["image"] == built["image"], done.stderr
    assert run("list", str(spec)).stdout == "no images of clusterctl there\n"
