"""Gives every running instance of a pretended cloud a real machine, and takes it away with the instance.

A cloud brings a `Face`; the machines, their disks, consoles, clocks and metadata service are the same for all.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from typing import Any, Literal, Protocol

from tests.cloud.machines import GATEWAY, Machines, MachineSpec
from tests.cloud.metadata import Dialect
from tests.cloud.world import World

Step = Literal["boot", "halt", "destroy"]


class Face(Protocol):
    """`instance` is whatever the world's listeners are told of; its `id` names its machine."""

    name: str
    world: World
    url: str  # of its API, where it is called now
    steps: Mapping[str, Step]  # the cloud's word for a state -> what its machine does then
    dialect: Dialect  # how its metadata service is spoken to

    def listen(self, address: str) -> str:
        """Its API at one more address. Returns the URL."""
        ...

    def machine_of(self, instance: Any, clock: int) -> MachineSpec: ...

    def disk_link(self, disk_id: str) -> str:
        """The name below /dev/disk by which a machine sees a disk."""
        ...

    def powered_off(self, instance_id: str) -> None:
        """Its machine has turned itself off."""
        ...

    def advance(self) -> None:
        """What is due happens, though nobody asks."""
        ...


class Booter:
    """Closes before the cloud does."""

    def __init__(self, face: Face, gateway: str = f"{GATEWAY}/16", never_boots: bool = False) -> None:
        self.face, self.never_boots = face, never_boots
        self.clock_of: Callable[[Any], int] = lambda instance: 0  # seconds by which its machine's clock is wrong
        self.machines = Machines(gateway, face.powered_off, face.dialect, face.disk_link)
        self._url = face.url
        face.url = face.listen(str(self.machines.gateway.ip))  # as the machines reach it
        face.world.disks = self.machines.disks
        face.world.consoles = self.machines.console
        face.world.listeners.append(self._changed)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._keep_time, name=f"{face.name}-machines", daemon=True)
        self._thread.start()

    def __enter__(self) -> Booter:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self._stop.set()
        self._thread.join(60)
        world = self.face.world
        world.listeners.remove(self._changed)
        world.disks = world.consoles = None
        self.face.url = self._url
        self.machines.close()

    def _changed(self, state: str, instance: Any) -> None:
        step = self.face.steps.get(state)
        if step == "boot" and not self.never_boots:
            self.machines.boot(self.face.machine_of(instance, self.clock_of(instance)))
        elif step == "halt":
            self.machines.halt(instance.id)
        elif step == "destroy":
            threading.Thread(target=self.machines.destroy, args=(instance.id,), daemon=True).start()

    def _keep_time(self) -> None:
        while not self._stop.wait(0.05):
            self.face.advance()
