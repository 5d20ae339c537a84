"""EBS volumes that behave like EC2's where moto's do not: states that take time, zones, what may be attached to what,
and what becomes of them when their instance ends. Patches moto once per process; what they do is ruled by `WORLD`."""

from __future__ import annotations

from typing import Any, Protocol

from moto.core.responses import ActionResult
from moto.ec2.models.elastic_block_store import Volume
from moto.ec2.models.instances import Instance
from moto.ec2.responses import EC2Response

from tests.cloud.aws.world import Refusal, World
from tests.cloud.world import Timetable

_DUE = Timetable()  # of volumes that are `creating`, `attaching` or `detaching`
_TOKENS: dict[str, tuple[str, str]] = {}  # ClientToken -> (parameters, volume)


class Disks(Protocol):
    """The hardware behind the volumes, where there is some."""

    def attach(self, instance_id: str, volume_id: str, gib: int) -> None: ...

    def release(self, volume_id: str, force: bool) -> bool:
        """False while the machine still uses it."""
        ...

    def erase(self, volume_id: str) -> None: ...


def forget() -> None:
    _DUE.clear()
    _TOKENS.clear()


def advance(world: World, backend: Any) -> None:
    """Moves every volume on whose time has come. Call with the world's lock held."""
    now = world.clock()
    for volume_id, _ in _DUE.take(now):
        volume = backend.volumes.get(volume_id)
        if volume is None or volume.attachment is None:
            continue
        if volume.attachment.status == "attaching":
            _attached(world, volume)
        elif not _let_go(world, volume):
            _DUE.put(volume_id, now + 0.05)


def started(world: World, instance: Any) -> None:
    """The volumes that were made with the instance are there when it runs."""
    for device, block in instance.get_block_device_mapping:
        volume = instance.ec2_backend.volumes.get(block.volume_id)
        if volume is not None and device != _root_of(instance) and world.disks:
            world.disks.attach(instance.id, volume.id, int(volume.size))


def ended(world: World, instance: Any) -> None:
    """What EC2 does when an instance is terminated: each volume is deleted or set free, as its mapping says."""
    root = _root_of(instance)
    for device, block in instance.get_block_device_mapping:
        volume = instance.ec2_backend.volumes.get(block.volume_id)
        if volume is None or volume.attachment is None or volume.attachment.instance is not instance:
            continue
        volume.delete_on_end = bool(block.delete_on_termination)
        volume.forced = True
        volume.attachment.status = "detaching"
        if device != root and world.disks:
            _DUE.put(volume.id, world.clock())
        else:
            _let_go(world, volume)


def _root_of(instance: Any) -> str:
    devices = [device for device, _ in instance.get_block_device_mapping]
    return next((d for d in devices if d in ("/dev/sda1", "/dev/xvda")), devices[0] if devices else "")


def _attached(world: World, volume: Any) -> None:
    volume.attachment.status = "attached"
    if world.disks:
        world.disks.attach(volume.attachment.instance.id, volume.id, int(volume.size))


def _let_go(world: World, volume: Any) -> bool:
    if world.disks and not world.disks.release(volume.id, getattr(volume, "forced", False)):
        return False
    volume.attachment.instance.block_device_mapping.pop(volume.attachment.device, None)
    volume.attachment = None
    if getattr(volume, "delete_on_end", False):
        _delete(world, volume)
    return True


def _delete(world: World, volume: Any) -> None:
    volume.ec2_backend.volumes.pop(volume.id, None)
    if world.disks:
        world.disks.erase(volume.id)


def _status(self: Any) -> str:
    if self.attachment:
        return "in-use"
    return "creating" if self.id in _DUE else "available"


def install(world: World) -> None:
    """Patches moto's classes."""
    Volume.status = property(_status)
    Instance.teardown_defaults = lambda self: None  # `ended` does it, when the instance is terminated
    plain_create, plain_attach = EC2Response.create_volume, EC2Response.attach_volume

    def create(self: Any) -> Any:
        get = self._get_param
        zones = [zone.name for zone in self.ec2_backend.describe_availability_zones()]
        if get("AvailabilityZone") not in zones:
            raise Refusal("InvalidZone.NotFound", f"The zone '{get('AvailabilityZone')}' does not exist.")
        token, said = get("ClientToken"), repr(sorted((k, v) for k, v in self.querystring.items() if k != "DryRun"))
        if token and token in _TOKENS:
            known, volume_id = _TOKENS[token]
            if known != said:
                raise Refusal("IdempotentParameterMismatch", "The client token was used with other parameters.")
            if volume_id in self.ec2_backend.volumes:
                return ActionResult(self.ec2_backend.volumes[volume_id])
        answer = plain_create(self)
        if world.volume_seconds:
            _DUE.put(answer.result.id, world.clock() + world.volume_seconds)
        if token:
            _TOKENS[token] = (said, answer.result.id)
        return answer

    def attach(self: Any) -> Any:
        volume, instance = self._volume(), self.ec2_backend.get_instance(self._get_param("InstanceId"))
        device = self._get_param("Device")
        if volume.attachment:
            raise Refusal("VolumeInUse", f"{volume.id} is already attached to an instance")
        if volume.status != "available":
            raise Refusal("IncorrectState", f"Volume '{volume.id}' is in the '{volume.status}' state.")
        if instance._state.name not in ("running", "stopped"):
            raise Refusal("IncorrectState", f"Instance '{instance.id}' is not 'running'.")
        if volume.zone.name != instance._placement.zone:
            text = f"The volume '{volume.id}' is not in the same availability zone as instance '{instance.id}'"
            raise Refusal("InvalidVolume.ZoneMismatch", text)
        if device in instance.block_device_mapping:
            text = f"Invalid value '{device}' for unixDevice. Attachment point {device} is already in use"
            raise Refusal("InvalidParameterValue", text)
        answer = plain_attach(self)
        volume.forced = volume.delete_on_end = False
        volume.attachment.status = "attaching"
        _DUE.put(volume.id, world.clock() + world.volume_seconds)
        return answer

    def detach(self: Any) -> Any:
        volume = self._volume()
        self.error_on_dryrun()
        attachment = volume.attachment
        if attachment is None:
            raise Refusal("IncorrectState", f"Volume '{volume.id}' is in the 'available' state.")
        if self._get_param("InstanceId") not in (None, attachment.instance.id):
            text = f"'{volume.id}' is not attached to '{self._get_param('InstanceId')}'"
            raise Refusal("InvalidAttachment.NotFound", text)
        attachment.status = "detaching"
        volume.forced = self._get_bool_param("Force", False)
        _DUE.put(volume.id, world.clock() + world.volume_seconds)
        return ActionResult({
            "VolumeId": volume.id, "InstanceId": attachment.instance.id, "Device": attachment.device,
            "State": "detaching", "AttachTime": attachment.attach_time,
        })  # fmt: skip

    def delete(self: Any) -> Any:
        volume = self._volume()
        self.error_on_dryrun()
        if volume.attachment:
            text = f"Volume {volume.id} is currently attached to {volume.attachment.instance.id}"
            raise Refusal("VolumeInUse", text)
        _delete(world, volume)
        return ActionResult({})

    def the_volume(self: Any) -> Any:
        volume_id = str(self._get_param("VolumeId"))
        if volume_id not in self.ec2_backend.volumes:
            raise Refusal("InvalidVolume.NotFound", f"The volume '{volume_id}' does not exist.")
        return self.ec2_backend.volumes[volume_id]

    EC2Response._volume = the_volume
    EC2Response.create_volume, EC2Response.attach_volume = create, attach
    EC2Response.detach_volume, EC2Response.delete_volume = detach, delete
