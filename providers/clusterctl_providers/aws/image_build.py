"""Makes a machine image of which nodes start faster: the pool's own image, with an environment that has Ray.

One instance runs a fixed script and turns itself off; an image is made of it; the instance is ended. Everything carries
the build's uid, and the image a digest of its content, so that a build that was interrupted anywhere goes on, is found
done, or is swept.
"""

from __future__ import annotations

import hashlib
import json
import re
import time
from collections.abc import Callable, Mapping
from importlib import resources
from typing import Any

from clusterctl.core.errors import BadRequest, NoCapacity, ProviderError
from clusterctl_providers.aws.calls import Calls
from clusterctl_providers.aws.errors import code_behind
from clusterctl_providers.aws.image_store import TAG_IMAGE
from clusterctl_providers.aws.images import Image, Images
from clusterctl_providers.aws.network import Network
from clusterctl_providers.base import BuildEnded, ImageRecipe, MadeImage, PoolRequest

BUILDERS = {"x86_64": "m6i.large", "arm64": "m6g.large"}  # no GPU is needed: its driver is in the base image already
GIB = 1024**3
SAID = re.compile(r"clusterctl-image: (done [0-9a-f]+|failed: .*)")
PATIENCE = 3600.0  # seconds for the machine to turn itself off
CONSOLE_PATIENCE = 300.0  # EC2 shows the console's last lines some minutes late
IMAGE_PATIENCE = 3600.0


class ImageBuild:
    """One build: `uid` is its own, as a cluster has one. Every step may be repeated."""

    def __init__(
        self,
        calls: Calls,
        network: Network,
        images: Images,
        uid: str,
        tell: Callable[[str], None],
        pause: Callable[[float], None] = time.sleep,
    ) -> None:
        self._calls, self._network, self._images, self._uid = calls, network, images, uid
        self._tell, self._pause = tell, pause

    def make(self, pool: PoolRequest, recipe: ImageRecipe, arch: str, nvidia: bool, disk: int) -> MadeImage:
        base = self._images.find(str(pool.spec.get("image") or ""), arch, nvidia)
        content = content_of(base, recipe, disk)
        name = f"clusterctl-ray-{recipe.ray}-{arch}-{content[:12]}"
        found = self._made(content)
        fresh = not found
        if fresh:
            instance = self._instance() or self._launch(base, recipe, content, name, arch, disk)
            self._wait_until_off(instance, content)
            found = self._create(instance, name, content)
        made = self._wait_until_there(found)
        self.clean_up()
        return MadeImage(made, name, fresh)

    # ------------------------------------------------------------ steps

    def _made(self, content: str) -> str:
        """An image of that content that is there, or on its way."""
        what = f"looking for an image of this content in {self._calls.region}"
        filters = [
            {"Name": f"tag:{TAG_IMAGE}", "Values": [content]},
            {"Name": "state", "Values": ["available", "pending"]},
        ]
        found = self._calls.read("ec2", "describe_images", what, Owners=["self"], Filters=filters)["Images"]
        return str(found[0]["ImageId"]) if found else ""

    def _instance(self) -> str:
        """The machine of this very build, where an earlier try got so far."""
        filters = [
            {"Name": "tag:clusterctl-uid", "Values": [self._uid]},
            {"Name": "instance-state-name", "Values": ["pending", "running", "stopping", "stopped"]},
        ]
        for page in self._calls.pages(
            "ec2", "describe_instances", "looking for the machine of the build", Filters=filters
        ):
            for reservation in page["Reservations"]:
                for row in reservation["Instances"]:
                    self._tell(f"going on with {row['InstanceId']}, which an earlier try launched")
                    return str(row["InstanceId"])
        return ""

    def _launch(self, base: Image, recipe: ImageRecipe, content: str, name: str, arch: str, disk: int) -> str:
        """One after the other zone is tried. The token makes a launch whose answer was lost the same launch."""
        groups, parameters = self._network.security_groups(), self._parameters(base, recipe, content, name, arch, disk)
        trouble: ProviderError | None = None
        for zone, subnet in self._network.subnets().items():
            what = f"launching a machine to make an image of {base.id} ({parameters['InstanceType']} in {zone})"
            token = hashlib.sha256(f"{self._uid}/{zone}/{content}".encode()).hexdigest()[:64]
            try:
                made = self._calls.read(  # repeated when the answer is lost: the token makes it one instance
                    "ec2", "run_instances", what, ClientToken=token, SubnetId=subnet, SecurityGroupIds=groups, **parameters
                )  # fmt: skip
            except NoCapacity as error:
                trouble = error
                continue
            instance = str(made["Instances"][0]["InstanceId"])
            self._tell(f"launched {instance} ({parameters['InstanceType']} in {zone}) from {base.id}")
            return instance
        raise trouble or ProviderError("the cluster has no subnet to launch a machine in")

    def _parameters(
        self, base: Image, recipe: ImageRecipe, content: str, name: str, arch: str, disk: int
    ) -> dict[str, Any]:
        ebs = {"VolumeType": "gp3", "VolumeSize": -(-disk // GIB), "Encrypted": True, "DeleteOnTermination": True}
        tags = [
            self._network.tags(kind, **{TAG_IMAGE: content, "Name": name})[0]
            for kind in ("instance", "volume", "network-interface")
        ]
        return {
            "ImageId": base.id,
            "InstanceType": BUILDERS[arch],
            "MinCount": 1,
            "MaxCount": 1,
            "UserData": user_data(recipe, content),
            "InstanceInitiatedShutdownBehavior": "stop",  # what was done stays, and is made an image of
            "MetadataOptions": {"HttpEndpoint": "enabled", "HttpTokens": "required", "HttpPutResponseHopLimit": 1},
            "BlockDeviceMappings": [{"DeviceName": base.root_device, "Ebs": ebs}],
            "TagSpecifications": tags,
        }

    def _wait_until_off(self, instance: str, content: str) -> None:
        """Until it has turned itself off. Raises ProviderError with what it said when it failed, and ends it then."""
        until, wait, told = time.monotonic() + PATIENCE, 0.5, ""
        while (state := self._state(instance)) != "stopped":
            if state in ("shutting-down", "terminated", "") or time.monotonic() > until:
                self.clean_up()
                raise BuildEnded(
                    f"the machine {instance} was {state or 'gone'} before its image could be made: try again"
                )
            told = self._tell_once(f"{instance} is {state}; Ray is being installed" if state == "running" else "", told)
            self._pause(wait)
            wait = min(wait * 1.5, 10.0)
        said = self._last_word(instance)
        if said != f"done {content}":
            self.clean_up()
            raise BuildEnded(f"the image was not made, the machine {instance} says: {said or 'nothing'}")

    def _tell_once(self, text: str, told: str) -> str:
        if text and text != told:
            self._tell(text)
        return text or told

    def _state(self, instance: str) -> str:
        what = f"asking for the state of {instance}"
        filters = [{"Name": "instance-id", "Values": [instance]}]
        answer = self._calls.read("ec2", "describe_instances", what, Filters=filters)
        rows = [row for reservation in answer["Reservations"] for row in reservation["Instances"]]
        return str(rows[0]["State"]["Name"]) if rows else "pending"  # not shown yet

    def _last_word(self, instance: str) -> str:
        until, wait = time.monotonic() + CONSOLE_PATIENCE, 0.5
        while True:
            what = f"reading the console of {instance}"
            said = SAID.findall(
                str(self._calls.read("ec2", "get_console_output", what, InstanceId=instance).get("Output") or "")
            )
            if said or time.monotonic() > until:
                return str(said[-1]).strip() if said else ""
            self._pause(wait)
            wait = min(wait * 2, 15.0)

    def _create(self, instance: str, name: str, content: str) -> str:
        what = f"making the image {name} of {instance}"
        pairs = [{"Key": TAG_IMAGE, "Value": content}, {"Key": "Name", "Value": name}]
        tags = [{"ResourceType": kind, "Tags": pairs} for kind in ("image", "snapshot")]
        try:
            made = self._calls.read(
                "ec2", "create_image", what, InstanceId=instance, Name=name, TagSpecifications=tags,
                Description=f"made by clusterctl of {instance}",
            )  # fmt: skip
        except BadRequest as error:
            found = self._made(content)  # a lost answer, or another build of the same
            if not found or code_behind(error) != "InvalidAMIName.Duplicate":
                raise
            return found
        self._tell(f"making {made['ImageId']} ({name})")
        return str(made["ImageId"])

    def _wait_until_there(self, image: str) -> str:
        until, wait = time.monotonic() + IMAGE_PATIENCE, 0.5
        while True:
            what = f"waiting for the image {image}"
            filters = [{"Name": "image-id", "Values": [image]}]
            found = self._calls.read("ec2", "describe_images", what, Owners=["self"], Filters=filters)["Images"]
            state = str(found[0].get("State")) if found else "pending"
            if state == "available":
                return image
            if state in ("failed", "error", "invalid") or time.monotonic() > until:
                raise ProviderError(f"{what}: it is {state}; remove it (`clusterctl image rm {image}`) and build again")
            self._pause(wait)
            wait = min(wait * 1.5, 15.0)

    def clean_up(self) -> None:
        """Ends the machine and removes what was made for it. Raises ProviderError with what is left."""
        instance = self._instance_quietly()
        if instance:
            self._calls.call("ec2", "terminate_instances", f"ending {instance}", InstanceIds=[instance])
        until, wait = time.monotonic() + 300.0, 0.2
        while waiting := (
            [f"{instance} is ending"] if instance and self._state(instance) != "terminated" else self._network.sweep()
        ):
            if time.monotonic() > until:
                raise ProviderError(f"the build is not cleaned up: {'; '.join(waiting)}; `clusterctl gc` does it later")
            self._pause(wait)
            wait = min(wait * 2, 5.0)

    def _instance_quietly(self) -> str:
        tell, self._tell = self._tell, lambda _: None
        try:
            return self._instance()
        finally:
            self._tell = tell


def content_of(base: Image, recipe: ImageRecipe, disk: int) -> str:
    """A digest that is equal for images that would be the same."""
    facts = [base.id, base.arch, recipe.ray, sorted(recipe.extras), sorted(recipe.env.items()), disk, script()]
    return hashlib.sha256(json.dumps(facts).encode()).hexdigest()[:32]


def script() -> str:
    return (
        resources.files("clusterctl_templates").joinpath("cloud-init").joinpath("image.sh").read_text(encoding="utf-8")
    )


def user_data(recipe: ImageRecipe, content: str) -> str:
    """The fixed script and its document. Raises BadRequest for an index that needs a password: user data is no place
    for secrets."""
    _refuse_secrets(recipe.env)
    requirement = f"ray[{','.join(sorted({*recipe.extras, 'default'}))}]=={recipe.ray}"
    document = {"requirement": requirement, "ray": recipe.ray, "content": content, "env": dict(recipe.env)}
    return f"{script().rstrip()}\n{json.dumps(document, separators=(',', ':'))}\n"


def _refuse_secrets(env: Mapping[str, str]) -> None:
    for name, value in env.items():
        if re.search(r"://[^/@\s]+@", value):
            raise BadRequest(
                f"{name} has a password in its address, and what an instance is started with can be read by others: use an "
                "index that needs none, or make the image yourself"
            )
