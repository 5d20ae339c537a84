"""The head's machine on AWS: the EBS volume with its state, which outlives it, and the network place that a successor
takes over, so that the nodes find it again (docs/adr/0502)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from clusterctl.core.errors import BadRequest, NotYet
from clusterctl_providers.aws.calls import Calls
from clusterctl_providers.aws.errors import code_behind
from clusterctl_providers.aws.network import Network
from clusterctl_providers.base import TAG_DISK, TAG_UID, AddressHolder, HeadDisk, HeadMachine, NetworkPlace, Whereabouts

DEVICE = "/dev/sdh"  # what AttachVolume calls it; Nitro instances show it under the volume's id
GIB = 1024**3
_NOT_YET = (
    "IncorrectState",
    "IncorrectInstanceState",
    "VolumeInUse",
    "InvalidVolume.NotFound",  # a volume that was just made is not known everywhere at once
    "InvalidInstanceID.NotFound",
)


class HeadParts:
    """Implements `base.HasHeadMachine` for the provider."""

    def __init__(self, calls: Calls, network: Network, uid: str) -> None:
        self._calls, self._network, self._uid = calls, network, uid

    def disk(self) -> HeadDisk | None:
        """The oldest one, should there ever be two."""
        filters = [
            {"Name": f"tag:{TAG_UID}", "Values": [self._uid]},
            {"Name": f"tag:{TAG_DISK}", "Values": ["head"]},
            {"Name": "status", "Values": ["creating", "available", "in-use"]},
        ]
        pages = self._calls.pages("ec2", "describe_volumes", "looking for the volume of the head", Filters=filters)
        rows = [row for page in pages for row in page["Volumes"]]
        return _disk(min(rows, key=lambda row: (str(row.get("CreateTime")), row["VolumeId"]))) if rows else None

    def make_disk(self, zone: str, size: int, token: str) -> HeadDisk:
        """A gp3 volume, encrypted; `size` in bytes is rounded up to whole GiB. The same token is the same volume."""
        return _disk(
            self._calls.read(  # repeated when the answer is lost: the token makes it one volume
                "ec2", "create_volume", f"making the head's volume in {zone}",
                AvailabilityZone=zone, Size=max(1, -(-size // GIB)), VolumeType="gp3", Encrypted=True, ClientToken=token,
                TagSpecifications=self._network.tags("volume", **{TAG_DISK: "head"}),
            )
        )  # fmt: skip

    def attach(self, disk: HeadDisk, instance_id: str) -> bool:
        """False, too, while another instance still has it, or EC2 does not know one of them everywhere yet."""
        try:
            found = self._read(disk.id)
            if found.attached_to:
                return found.attached_to == instance_id  # its former instance is about to let it go
            self._calls.call(
                "ec2", "attach_volume", f"attaching the head's volume {disk.id} to {instance_id}",
                VolumeId=disk.id, InstanceId=instance_id, Device=DEVICE,
            )  # fmt: skip
        except BadRequest as error:
            if code_behind(error) not in _NOT_YET:
                raise
            return False
        return True

    def _read(self, volume_id: str) -> HeadDisk:
        what = f"looking at the head's volume {volume_id}"
        return _disk(self._calls.read("ec2", "describe_volumes", what, VolumeIds=[volume_id])["Volumes"][0])

    def whereabouts(self, instance_id: str) -> Whereabouts:
        """Raises NotYet while AWS does not show the instance."""
        what = f"asking for the addresses of {instance_id}"
        answer = self._calls.read("ec2", "describe_instances", what, InstanceIds=[instance_id])
        row: dict[str, Any] | None = next((i for r in answer["Reservations"] for i in r["Instances"]), None)
        if row is None:
            raise NotYet(f"{what}: AWS does not show it yet")
        place = NetworkPlace(str(row.get("SubnetId") or ""), str(row.get("PrivateIpAddress") or ""))
        return Whereabouts(str(row.get("PublicIpAddress") or ""), place)

    def address_holder(self, place: NetworkPlace) -> AddressHolder | None:
        """A stopped instance keeps its address, and holds it."""
        filters = [
            {"Name": "subnet-id", "Values": [place.subnet]},
            {"Name": "private-ip-address", "Values": [place.private]},
            {"Name": "instance-state-name", "Values": ["pending", "running", "stopping", "stopped", "shutting-down"]},
        ]
        what = f"asking who has {place.private} in {place.subnet}"
        answer = self._calls.read("ec2", "describe_instances", what, Filters=filters)
        row: dict[str, Any] | None = next((i for r in answer["Reservations"] for i in r["Instances"]), None)
        if row is None:
            return None
        return AddressHolder(str(row["InstanceId"]), str(row["State"]["Name"]) == "shutting-down")


def head_interface(head: HeadMachine, place: NetworkPlace | None, subnet: str, groups: list[str]) -> dict[str, Any]:
    """The part of RunInstances that says where the head's machine goes; without a `place` into `subnet`."""
    interface: dict[str, Any] = {
        "DeviceIndex": 0,
        "SubnetId": place.subnet if place else subnet,
        "Groups": groups,
        "AssociatePublicIpAddress": head.public,
        "DeleteOnTermination": True,
    }
    if place:
        interface["PrivateIpAddress"] = place.private
    return {"NetworkInterfaces": [interface]}


def _disk(row: Mapping[str, Any]) -> HeadDisk:
    volume = str(row["VolumeId"])
    places = [a for a in row.get("Attachments") or () if a.get("State") != "detached"]
    by_id = f"/dev/disk/by-id/nvme-Amazon_Elastic_Block_Store_{volume.replace('-', '')}"
    others = [DEVICE, DEVICE.replace("/sd", "/xvd")]  # machines before Nitro
    return HeadDisk(
        volume, str(row["AvailabilityZone"]), (by_id, *others), str(places[0]["InstanceId"]) if places else ""
    )
