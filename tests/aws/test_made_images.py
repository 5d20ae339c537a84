"""What builds have made is listed, and removed with its snapshots, whatever comes in between."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from clusterctl_providers.aws.policies import actions_of, render_policy

from clusterctl.client.images.build import build_image
from clusterctl.client.images.made import list_images, remove_images
from clusterctl.client.registry import Registry
from clusterctl.core.errors import ClusterctlError, NotFound, Refused
from tests.aws.test_image_build import Machine, images, machine, registry, spec_for
from tests.cloud.aws.cloud import AwsCloud

assert machine and registry  # fixtures
FACTS = {"region": "us-east-1", "account": "123456789012"}


def snapshots(cloud: AwsCloud) -> list[str]:
    tagged = [{"Name": "tag-key", "Values": ["clusterctl-image"]}]
    return [row["SnapshotId"] for row in cloud.client().describe_snapshots(Filters=tagged)["Snapshots"]]


@pytest.fixture
def built(registry: Registry, cloud: AwsCloud, machine: Machine) -> dict[str, Any]:
    return build_image(registry, spec_for(cloud), "", lambda _: None)


def remove(registry: Registry, cloud: AwsCloud, *wanted: str) -> dict[str, Any]:
    return remove_images(registry, spec_for(cloud), wanted, lambda _: None)


def test_the_list_says_what_each_image_is_and_who_starts_from_it(
    registry: Registry, cloud: AwsCloud, built: dict[str, Any]
) -> None:
    other = build_image(registry, spec_for(cloud, ", disk: 60GiB"), "", lambda _: None)
    cloud.client().register_image(Name="somebody-elses", RootDeviceName="/dev/sda1")
    cluster = registry.create("mine", provider="aws", engine="ray", spec_path="")
    cluster.spec_file.write_text(f"pools: [{{name: cpu, image: {other['image']}}}]")
    document = list_images(registry, spec_for(cloud))
    assert (document["provider"], document["region"]) == ("aws", "us-east-1")
    assert {row["image"]: row["used_by"] for row in document["images"]} == {
        built["image"]: [],
        other["image"]: ["mine"],
    }
    row = next(row for row in document["images"] if row["image"] == built["image"])
    assert (row["name"], row["state"], row["arch"]) == (built["name"], "available", "x86_64")
    assert row["size"] > 0 and len(row["snapshots"]) == 1 and row["created"] > 1.7e9


def test_an_image_goes_with_its_snapshots_and_what_is_not_ours_stays(
    registry: Registry, cloud: AwsCloud, built: dict[str, Any]
) -> None:
    cloud.client().register_image(Name="somebody-elses", RootDeviceName="/dev/sda1")
    with pytest.raises(NotFound, match="no image 'somebody-elses' was made by clusterctl"):
        remove(registry, cloud, built["name"], "somebody-elses")
    assert len(images(cloud)) == 2, "nothing is removed where one of the names is wrong"
    cloud.world.allowed = actions_of(render_policy("client", **FACTS)) | actions_of(render_policy("image", **FACTS))
    (removed,) = remove(registry, cloud, built["image"], built["image"])["removed"]
    cloud.world.allowed = None
    assert removed["image"] == built["image"] and snapshots(cloud) == []
    assert [image["Name"] for image in images(cloud)] == ["somebody-elses"]


@pytest.mark.parametrize("step", ["DeregisterImage", "DeleteSnapshot"])
def test_a_removal_that_was_interrupted_is_seen_and_finished_by_the_next(
    registry: Registry, cloud: AwsCloud, built: dict[str, Any], step: str
) -> None:
    cloud.fault(step, code="UnauthorizedOperation", message="no", status=403)
    with pytest.raises(ClusterctlError, match="permission"):
        remove(registry, cloud, built["image"])
    (row,) = list_images(registry, spec_for(cloud))["images"]
    assert (row["name"], len(row["snapshots"])) == (built["name"], 1)
    assert (row["image"], row["state"]) == (("", "gone") if step == "DeleteSnapshot" else (built["image"], "available"))
    remove(registry, cloud, built["name"])
    assert images(cloud) == [] and snapshots(cloud) == []
    assert list_images(registry, spec_for(cloud))["images"] == []


@pytest.mark.parametrize("step", ["DeregisterImage", "DeleteSnapshot"])
def test_a_lost_answer_is_no_failure(registry: Registry, cloud: AwsCloud, built: dict[str, Any], step: str) -> None:
    cloud.fault(step, "lost")
    remove(registry, cloud, built["image"])
    assert images(cloud) == [] and snapshots(cloud) == []


def test_a_snapshot_that_is_said_to_be_in_use_for_a_moment_is_tried_again(
    registry: Registry, cloud: AwsCloud, built: dict[str, Any]
) -> None:
    cloud.fault("DeleteSnapshot", code="InvalidSnapshot.InUse", message="in use by the image", status=400)
    remove(registry, cloud, built["image"])
    assert snapshots(cloud) == []


def test_an_image_that_a_cluster_starts_from_is_refused_by_name(
    registry: Registry, cloud: AwsCloud, built: dict[str, Any]
) -> None:
    cluster = registry.create("mine", provider="aws", engine="ray", spec_path="")
    cluster.spec_file.write_text(f"head: {{image: {built['image']}}}")
    with pytest.raises(Refused, match="named in the spec of mine"):
        remove(registry, cloud, built["image"])
    assert len(images(cloud)) == 1 and len(snapshots(cloud)) == 1


def test_the_commands_list_and_remove(
    registry: Registry, cloud: AwsCloud, built: dict[str, Any], tmp_path: Path
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
    assert run("rm", "ami-nobody", "--spec", str(spec)).returncode == 3
    done = run("rm", built["image"], "--spec", str(spec), "--json")
    assert json.loads(done.stdout)["removed"][0]["image"] == built["image"], done.stderr
    assert run("list", str(spec)).stdout == "no images of clusterctl there\n"
    assert run("list").returncode == 2
