"""What builds have made is listed, and removed, whatever comes in between."""

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
from tests.cloud.gcp.cloud import GcpCloud
from tests.cloud.gcp.world import REGION
from tests.gcp.parts import Parts
from tests.gcp.test_image_build import Machine, images, machine, registry, spec_for

assert machine and registry  # fixtures


@pytest.fixture
def built(registry: Registry, cloud: GcpCloud, machine: Machine) -> dict[str, Any]:
    return build_image(registry, spec_for(cloud), "", lambda _: None)


def remove(registry: Registry, cloud: GcpCloud, *wanted: str) -> dict[str, Any]:
    return remove_images(registry, spec_for(cloud), wanted, lambda _: None)


def somebody_elses(cloud: GcpCloud) -> None:
    parts = Parts(cloud)
    disk = {"name": "data", "sizeGb": "10", "type": "zones/us-central1-a/diskTypes/pd-balanced"}
    parts.calls.run("POST", "zones/us-central1-a/disks", "making", disk)
    body = {"name": "somebody-elses", "sourceDisk": "zones/us-central1-a/disks/data"}
    parts.calls.run("POST", "global/images", "making", body)


def test_the_list_says_what_each_image_is_and_who_starts_from_it(
    registry: Registry, cloud: GcpCloud, built: dict[str, Any]
) -> None:
    other = build_image(registry, spec_for(cloud, ", disk: 60GiB"), "", lambda _: None)
    somebody_elses(cloud)
    cluster = registry.create("mine", provider="gcp", engine="ray", spec_path="")
    cluster.spec_file.write_text(f"pools: [{{name: cpu, image: {other['image']}}}]")
    document = list_images(registry, spec_for(cloud))
    assert (document["provider"], document["region"]) == ("gcp", REGION)
    assert {row["image"]: row["used_by"] for row in document["images"]} == {
        built["image"]: [],
        other["image"]: ["mine"],
    }
    row = next(row for row in document["images"] if row["image"] == built["image"])
    assert (row["name"], row["state"], row["arch"]) == (built["name"], "available", "x86_64")
    assert row["size"] == 30 << 30 and row["snapshots"] == [] and row["created"] > 1.7e9


def test_an_image_goes_and_what_is_not_ours_stays(registry: Registry, cloud: GcpCloud, built: dict[str, Any]) -> None:
    somebody_elses(cloud)
    with pytest.raises(NotFound, match="no image 'somebody-elses' was made by clusterctl"):
        remove(registry, cloud, built["name"], "somebody-elses")
    assert len(images(cloud)) == 2, "nothing is removed where one of the names is wrong"
    (removed,) = remove(registry, cloud, built["image"], built["image"])["removed"]
    assert removed["image"] == built["image"]
    assert [image["name"] for image in images(cloud)] == ["somebody-elses"]


def test_a_removal_that_was_refused_is_told_and_finished_by_the_next(
    registry: Registry, cloud: GcpCloud, built: dict[str, Any]
) -> None:
    cloud.fault(
        "compute.images.delete", code="forbidden", message="Required 'compute.images.delete' permission", status=403
    )
    with pytest.raises(ClusterctlError, match=r"permission compute\.images\.delete"):
        remove(registry, cloud, built["image"])
    cloud.fault("compute.images.delete", "lost")
    remove(registry, cloud, built["name"])
    assert images(cloud) == [] and list_images(registry, spec_for(cloud))["images"] == []


def test_an_image_that_a_cluster_starts_from_is_refused_by_name(
    registry: Registry, cloud: GcpCloud, built: dict[str, Any]
) -> None:
    cluster = registry.create("mine", provider="gcp", engine="ray", spec_path="")
    cluster.spec_file.write_text(f"head: {{image: {built['image']}}}")
    with pytest.raises(Refused, match="named in the spec of mine"):
        remove(registry, cloud, built["image"])
    assert len(images(cloud)) == 1


def test_the_commands_list_and_remove(
    registry: Registry, cloud: GcpCloud, built: dict[str, Any], tmp_path: Path
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
