"""Images of instances, where moto does not go so far: names are unique, snapshots are tagged."""

from __future__ import annotations

from typing import Any

from moto.core.responses import ActionResult
from moto.ec2.models.amis import Ami
from moto.ec2.responses import EC2Response

from tests.cloud.aws import moto as aws_moto
from tests.cloud.aws.world import Refusal


def _create_image(self: Any) -> Any:
    self.error_on_dryrun()
    backend, name = self.ec2_backend, self._get_param("Name")
    if any(image.name == name for image in backend.amis.values()):
        raise Refusal("InvalidAMIName.Duplicate", f"AMI name {name} is already in use by this account.")
    given = self._get_param("TagSpecifications", [])
    of_images = [item for item in given if item["ResourceType"] == "image"]
    image = backend.create_image(
        self._get_param("InstanceId"), name, self._get_param("Description", ""), tag_specifications=of_images
    )
    for item in given:
        for tag in item["Tags"] if item["ResourceType"] == "snapshot" else ():
            image.ebs_snapshot.add_tag(tag["Key"], tag["Value"])
    return ActionResult({"ImageId": image.id})


def _disks_of(self: Any) -> list[dict[str, Any]]:
    """moto gives every image one disk of 15 GiB."""
    disks = aws_moto.WORLD.image_disks.get(self.id)
    if disks is None:
        return _plain_disks(self)
    return [{"DeviceName": name, "Ebs": {"VolumeSize": size}} for name, size in disks.items()]


_plain_disks = Ami.block_device_mappings.fget  # type: ignore[attr-defined]
Ami.block_device_mappings = property(_disks_of)  # type: ignore[assignment, method-assign]
EC2Response.create_image = _create_image
