"""The calls of a build on EC2 (`cloud.image_build.BuildCalls`)."""

from __future__ import annotations

from typing import Any

from clusterctl.core.errors import BadRequest
from clusterctl_providers.aws.calls import Calls
from clusterctl_providers.aws.errors import code_behind
from clusterctl_providers.aws.images import GIB, Image
from clusterctl_providers.aws.network import Network
from clusterctl_providers.base import TAG_UID
from clusterctl_providers.cloud.image_build import BuildMachine
from clusterctl_providers.cloud.image_store import TAG_IMAGE

BUILDERS = {"x86_64": "m6i.large", "arm64": "m6g.large"}  # no GPU is needed: its driver is in the base image already


class Ec2Build:
    """`base` is the image that the machine starts from."""

    linger = 0.0  # the console outlives the machine

    def __init__(self, calls: Calls, network: Network, base: Image, uid: str) -> None:
        self._calls, self._network, self._base, self._uid = calls, network, base, uid

    @property
    def region(self) -> str:
        return self._calls.region

    def image(self, content: str) -> str:
        what = f"looking for an image of this content in {self.region}"
        filters = [
            {"Name": f"tag:{TAG_IMAGE}", "Values": [content]},
            {"Name": "state", "Values": ["available", "pending"]},
        ]
        found = self._calls.read("ec2", "describe_images", what, Owners=["self"], Filters=filters)["Images"]
        return str(found[0]["ImageId"]) if found else ""

    def machine(self) -> str:
        filters = [
            {"Name": f"tag:{TAG_UID}", "Values": [self._uid]},
            {"Name": "instance-state-name", "Values": ["pending", "running", "stopping", "stopped"]},
        ]
        what = "looking for the machine of the build"
        for page in self._calls.pages("ec2", "describe_instances", what, Filters=filters):
            for reservation in page["Reservations"]:
                for row in reservation["Instances"]:
                    return str(row["InstanceId"])
        return ""

    def zones(self) -> list[str]:
        return list(self._network.subnets())

    def launch(self, machine: BuildMachine, zone: str, token: str) -> str:
        what = f"launching a machine to make an image of {machine.base} ({machine.type} in {zone})"
        made = self._calls.read(  # repeated when the answer is lost: the token makes it one instance
            "ec2", "run_instances", what, ClientToken=token, SubnetId=self._network.subnets()[zone],
            SecurityGroupIds=self._network.security_groups(), **self._parameters(machine),
        )  # fmt: skip
        return str(made["Instances"][0]["InstanceId"])

    def _parameters(self, machine: BuildMachine) -> dict[str, Any]:
        size = -(-machine.disk // GIB)
        ebs = {"VolumeType": "gp3", "VolumeSize": size, "Encrypted": True, "DeleteOnTermination": True}
        tags = [
            self._network.tags(kind, **{TAG_IMAGE: machine.content, "Name": machine.name})[0]
            for kind in ("instance", "volume", "network-interface")
        ]
        return {
            "ImageId": machine.base,
            "InstanceType": machine.type,
            "MinCount": 1,
            "MaxCount": 1,
            "UserData": machine.user_data,
            "InstanceInitiatedShutdownBehavior": "stop",  # what was done stays, and is made an image of
            "MetadataOptions": {"HttpEndpoint": "enabled", "HttpTokens": "required", "HttpPutResponseHopLimit": 1},
            "BlockDeviceMappings": [{"DeviceName": self._base.root_device, "Ebs": ebs}],
            "TagSpecifications": tags,
        }

    def state(self, machine: str) -> str:
        what = f"asking for the state of {machine}"
        filters = [{"Name": "instance-id", "Values": [machine]}]
        answer = self._calls.read("ec2", "describe_instances", what, Filters=filters)
        rows = [row for reservation in answer["Reservations"] for row in reservation["Instances"]]
        return str(rows[0]["State"]["Name"]) if rows else "pending"

    def console(self, machine: str) -> str:
        """ "" while EC2 has none of it."""
        what = f"reading the console of {machine}"
        return str(self._calls.read("ec2", "get_console_output", what, InstanceId=machine).get("Output") or "")

    def image_name(self, wanted: str) -> str:
        return wanted

    def create(self, machine: str, name: str, content: str) -> str:
        pairs = [{"Key": TAG_IMAGE, "Value": content}, {"Key": "Name", "Value": name}]
        tags = [{"ResourceType": kind, "Tags": pairs} for kind in ("image", "snapshot")]
        try:
            made = self._calls.read(
                "ec2", "create_image", f"making the image {name} of {machine}", InstanceId=machine, Name=name,
                TagSpecifications=tags, Description=f"made by clusterctl of {machine}",
            )  # fmt: skip
        except BadRequest as error:
            found = self.image(content)  # a lost answer, or another build of the same
            if not found or code_behind(error) != "InvalidAMIName.Duplicate":
                raise
            return found
        return str(made["ImageId"])

    def image_state(self, image: str) -> str:
        filters = [{"Name": "image-id", "Values": [image]}]
        what = f"waiting for the image {image}"
        found = self._calls.read("ec2", "describe_images", what, Owners=["self"], Filters=filters)["Images"]
        state = str(found[0].get("State")) if found else "pending"
        return "pending" if state == "transient" else state

    def end(self, machine: str) -> None:
        """Its disk goes along with it."""
        self._calls.call("ec2", "terminate_instances", f"ending {machine}", InstanceIds=[machine])

    def sweep(self) -> list[str]:
        return self._network.sweep()
