"""`image build` makes an image once, goes on where it was interrupted, and leaves nothing but the image."""

from __future__ import annotations

import base64
import json
import os
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from clusterctl_providers.aws.policies import actions_of, render_policy

from clusterctl.client.down.gc import collect_strays
from clusterctl.client.images.build import build_image, builds
from clusterctl.client.registry import Registry
from clusterctl.core.errors import BadRequest, ClusterctlError, UsageError
from clusterctl.spec.load import parse_spec
from tests.cloud.aws import made_images as aws_made_images
from tests.cloud.aws.cloud import AwsCloud, credentials
from tests.cloud.aws.machines import AwsMachines
from tests.cloud.machines import CIDR

RAY = "2.60.0"
WHEELS = Path("/var/tmp/clusterctl-test-wheels")


@pytest.fixture
def registry(tmp_path: Path) -> Registry:
    assert aws_made_images  # instances that stop are shown as such
    return Registry(tmp_path / "home")


def spec_for(cloud: AwsCloud, more: str = "", env: str = "") -> Any:
    vpc = f"vpc: {cloud.vpc}, " if cloud.vpc else ""
    return parse_spec(
        f"cluster: demo\nprovider: {{aws: {{region: us-east-1, {vpc}endpoint_url: '{cloud.url}', calls_per_second: 100}}}}\n"
        f"engine: {{ray: {{version: {RAY}, extras: [data]}}}}\nenv: {{{env}}}\n"
        f"pools:\n  - {{name: cpu, instances: [m6i.large]{more}}}\n"
    )


def images(cloud: AwsCloud) -> list[dict[str, Any]]:
    return cloud.client().describe_images(Owners=["self"])["Images"]


class Machine:
    """Stands in for the build's machine where only its end matters: turns itself off and says so."""

    def __init__(self, cloud: AwsCloud, word: str = "done {content}") -> None:
        self.cloud, self.word, self.said = cloud, word, ""
        cloud.world.listeners.append(self.changed)
        cloud.world.consoles = lambda _: self.said

    def changed(self, state: str, instance: Any) -> None:
        if state == "running" and instance.user_data:
            text = base64.b64decode(instance.user_data.as_bytes()).decode()
            content = json.loads(text.rpartition("#clusterctl-document\n")[2])["content"]
            self.said = f"booting\nclusterctl-image: {self.word.format(content=content)}\n"
            instance.stop()


@pytest.fixture
def machine(cloud: AwsCloud) -> Iterator[Machine]:
    yield Machine(cloud)
    cloud.world.consoles = None


def launches(cloud: AwsCloud) -> list[dict[str, Any]]:
    return [parameters for _, action, parameters in cloud.world.calls if action == "ec2:RunInstances"]


def test_an_image_is_made_once_for_its_content_and_nothing_else_is_left(
    registry: Registry, cloud: AwsCloud, machine: Machine
) -> None:
    told: list[str] = []
    first = build_image(registry, spec_for(cloud), "", told.append)
    (image,) = images(cloud)
    assert (
        first["image"] == image["ImageId"]
        and first["fresh"]
        and first["name"].startswith(f"clusterctl-ray-{RAY}-x86_64")
    )
    assert cloud.instances() == [] and cloud.leftovers() == [] and builds(registry) == []
    (call,) = launches(cloud)
    assert call["InstanceInitiatedShutdownBehavior"] == "stop" and call["MetadataOptions"]["HttpTokens"] == "required"
    assert "IamInstanceProfile" not in call and "KeyName" not in call
    again = build_image(registry, spec_for(cloud), "", told.append)
    assert (again["image"], again["fresh"]) == (first["image"], False) and len(launches(cloud)) == 1
    build_image(registry, spec_for(cloud, ", disk: 60GiB"), "", told.append)
    assert len(images(cloud)) == 2, "another content is another image"


def test_a_build_needs_the_clients_policy_and_that_for_images(
    registry: Registry, cloud: AwsCloud, machine: Machine
) -> None:
    facts = {"region": "us-east-1", "account": "123456789012"}
    cloud.world.allowed = actions_of(render_policy("client", **facts)) | actions_of(render_policy("image", **facts))
    build_image(registry, spec_for(cloud), "", lambda _: None)
    assert "ec2:CreateImage" in cloud.world.actions()


def test_a_gpu_pools_image_keeps_its_driver_and_is_built_without_a_gpu(
    registry: Registry, cloud: AwsCloud, machine: Machine
) -> None:
    spec = parse_spec(
        spec_for(cloud).model_dump_json(exclude_defaults=True, by_alias=True).replace("m6i.large", "g6.xlarge")
    )
    build_image(registry, spec, "cpu", lambda _: None)
    (call,) = launches(cloud)
    assert (call["ImageId"], call["InstanceType"]) == ("ami-0deeplearning00001", "m6i.large")
    assert call["BlockDeviceMappings"][0]["Ebs"]["VolumeSize"] == 100


@pytest.mark.parametrize(
    "step", ["RunInstances", "DescribeInstances", "GetConsoleOutput", "CreateImage", "TerminateInstances"]
)
def test_a_build_that_was_interrupted_is_gone_on_with(
    registry: Registry, cloud: AwsCloud, machine: Machine, step: str
) -> None:
    fault = cloud.fault(step, code="UnauthorizedOperation", message="no", status=403, times=None)
    with pytest.raises(ClusterctlError, match="permission"):
        build_image(registry, spec_for(cloud), "", lambda _: None)
    assert len(builds(registry)) == 1
    cloud.world.faults.remove(fault)
    build_image(registry, spec_for(cloud), "", lambda _: None)
    assert len(images(cloud)) == 1 and cloud.leftovers() == [] and builds(registry) == []
    assert len({call["ClientToken"] for call in launches(cloud)}) == 1, "no second machine"


@pytest.mark.parametrize("action", ["RunInstances", "CreateImage"])
def test_a_lost_answer_makes_neither_a_second_machine_nor_a_second_image(
    registry: Registry, cloud: AwsCloud, machine: Machine, action: str
) -> None:
    cloud.fault(action, "lost")
    build_image(registry, spec_for(cloud), "", lambda _: None)
    assert len(images(cloud)) == 1 and cloud.leftovers() == []


def test_gc_ends_the_machine_of_a_build_that_nobody_goes_on_with(
    registry: Registry, cloud: AwsCloud, machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CLUSTERCTL_HOME", str(registry.home))
    cloud.fault("CreateImage", code="UnauthorizedOperation", message="no", status=403)
    with pytest.raises(ClusterctlError):
        build_image(registry, spec_for(cloud), "", lambda _: None)
    assert len(cloud.instances()) == 1
    (stray,) = [s for s in collect_strays(registry, dry_run=False) if s.provider == "aws"]
    assert stray.removed and cloud.leftovers() == []


def test_what_went_wrong_on_the_machine_is_told_and_nothing_is_left(registry: Registry, cloud: AwsCloud) -> None:
    Machine(cloud, "failed: pip ended with exit code 1: No matching distribution found for ray")
    with pytest.raises(ClusterctlError, match="No matching distribution"):
        build_image(registry, spec_for(cloud), "", lambda _: None)
    assert images(cloud) == [] and cloud.leftovers() == [] and builds(registry) == []


def test_what_cannot_be_built_is_refused_before_anything_is_made(registry: Registry, cloud: AwsCloud) -> None:
    with pytest.raises(UsageError, match="no pool is named 'gpu'"):
        build_image(registry, spec_for(cloud), "gpu", lambda _: None)
    with pytest.raises(UsageError, match="engine: none"):
        build_image(registry, parse_spec("cluster: a\nprovider: local\nengine: none\npools: [{name: a}]\n"), "", print)
    with pytest.raises(UsageError, match="provider 'local' makes no images"):
        build_image(registry, parse_spec("cluster: a\nprovider: local\npools: [{name: a}]\n"), "", print)
    with pytest.raises(BadRequest, match="PIP_INDEX_URL has a password"):
        build_image(registry, spec_for(cloud, env="PIP_INDEX_URL: 'https://me:secret@index.example/simple'"), "", print)
    assert launches(cloud) == []


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


def test_the_machine_really_installs_ray_and_turns_itself_off(tmp_path: Path, wheels: Path) -> None:
    with credentials(), AwsCloud(CIDR) as cloud, AwsMachines(cloud):
        (tmp_path / "cluster.yaml").write_text(
            f"cluster: demo\nprovider: {{aws: {{region: us-east-1, vpc: {cloud.vpc}, endpoint_url: '{cloud.url}'}}}}\n"
            f"engine: {{ray: {{version: {RAY}, extras: [data]}}}}\n"
            f"env: {{PIP_NO_INDEX: '1', PIP_FIND_LINKS: {wheels}}}\npools: [{{name: cpu, instances: [m6i.large]}}]\n"
        )
        command = [sys.executable, "-m", "clusterctl", "image", "build", str(tmp_path / "cluster.yaml"), "--json"]
        env = {**os.environ, "CLUSTERCTL_HOME": str(tmp_path / "home")}
        done = subprocess.run(command, capture_output=True, text=True, env=env, timeout=120)
        assert done.returncode == 0, done.stderr
        (image,) = images(cloud)
        assert json.loads(done.stdout)["image"] == image["ImageId"]
        assert "Ray is being installed" in done.stderr and cloud.leftovers() == []
        assert cloud.world.violations == []


def test_a_node_runs_its_agent_with_the_images_python_where_there_is_one() -> None:
    from clusterctl_providers.cloud.boot import boot_script

    candidates = next(line for line in boot_script().splitlines() if line.startswith("for python in"))
    assert candidates.split()[3] == "/opt/clusterctl/bin/python3"
