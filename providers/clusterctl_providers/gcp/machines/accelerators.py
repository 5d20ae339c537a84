"""What an instance type of ours is to Compute Engine: a machine type, and for N1 the devices that are attached to it.

g2-standard-8                       one name at Google, too: the devices of an accelerator-optimized type come with it
n1-standard-8+nvidia-tesla-t4x2     machine type n1-standard-8, guestAccelerators: two nvidia-tesla-t4
"""

from __future__ import annotations

import re
from dataclasses import dataclass

_ATTACHED = re.compile(r"(?P<machine>[a-z0-9-]+)\+(?P<device>[a-z0-9-]+?)x(?P<count>[1-9]\d*)")


@dataclass(frozen=True)
class Machine:
    """`device` is attached `count` times; "" and 0 where nothing is."""

    machine_type: str
    device: str = ""
    count: int = 0


def machine_of(instance_type: str) -> Machine:
    """The parts of a name of ours; a name of another form is a machine type."""
    found = _ATTACHED.fullmatch(instance_type)
    return Machine(found["machine"], found["device"], int(found["count"])) if found else Machine(instance_type)


def type_of(machine_type: str, device: str = "", count: int = 0) -> str:
    """The name of ours for an instance of that machine type with `count` devices attached; devices that come with a
    machine type are not written."""
    return f"{machine_type}+{device}x{count}" if count and machine_type.startswith("n1-") else machine_type
