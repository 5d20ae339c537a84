"""Makes a machine image of which nodes start faster: the pool's own image, with an environment that has Ray.

One machine runs a fixed script and turns itself off; an image is made of it; the machine is ended. Everything carries the
build's uid, and the image a digest of its content, so that a build that was interrupted anywhere goes on, is found done, or
is swept.

A cloud brings `BuildCalls`:

    AWS           an instance whose own shutdown stops it, CreateImage; the console comes some minutes late
    Google Cloud  an instance (TERMINATED means stopped there), images.insert of its boot disk; serial port 1, which can be read
                  of running machines only
    Azure         a VM, deallocated and generalized by `create`, then a version in a gallery; boot diagnostics
"""

from __future__ import annotations

import hashlib
import re
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from clusterctl_runtime.backoff import Backoff

from clusterctl.core.errors import NoCapacity, ProviderError
from clusterctl_providers.base import BuildEnded, ImageRecipe, MadeImage
from clusterctl_providers.cloud.image_recipe import content_of, user_data

SAID = re.compile(r"clusterctl-image: (done [0-9a-f]+|failed: .*)")
PATIENCE = 3600.0  # seconds for the machine to turn itself off
CONSOLE_PATIENCE = 300.0  # a cloud shows the console's last lines some minutes late
IMAGE_PATIENCE = 3600.0
END_PATIENCE = 300.0
OFF = "stopped"
OVER = "terminated"
_ON_ITS_WAY = ("pending", "running", "stopping")


@dataclass(frozen=True)
class BuildMachine:
    """What is launched for a build. `disk` in bytes."""

    type: str
    base: str
    disk: int
    user_data: str
    name: str
    content: str


class BuildCalls(Protocol):
    """Raises ProviderError. Everything that is made carries the build's uid; each may be called again after a crash."""

    linger: float  # seconds that the machine stays on after its last word, where its console is gone with it

    @property
    def region(self) -> str: ...

    def image(self, content: str) -> str:
        """One of that content that is there, or on its way; "" for none."""
        ...

    def machine(self) -> str:
        """That of this very build, where an earlier try got so far; "" for none, or one that has ended."""
        ...

    def zones(self) -> Sequence[str]:
        """To be tried in turn."""
        ...

    def launch(self, machine: BuildMachine, zone: str, token: str) -> str:
        """Its id. The same token is the same machine. Raises NoCapacity where another zone is to be tried."""
        ...

    def state(self, machine: str) -> str:
        """pending (also where it does not show yet), running, stopping, stopped (it turned itself off, its disk is there),
        terminated, or the cloud's word for another end."""
        ...

    def console(self, machine: str) -> str | None:
        """None where there is none, and none will come."""
        ...

    def image_name(self, wanted: str) -> str:
        """How this cloud writes such a name."""
        ...

    def create(self, machine: str, name: str, content: str) -> str:
        """Makes an image of a machine that is off; its id. One of that content that another was faster with will do."""
        ...

    def image_state(self, image: str) -> str:
        """pending, available, or the cloud's word for a failure."""
        ...

    def end(self, machine: str) -> None: ...

    def sweep(self) -> list[str]:
        """Removes all else that was made for the build. A sentence for each thing that has to wait."""
        ...


class ImageBuild:
    """One build: `uid` is its own, as a cluster has one. Every step may be repeated."""

    def __init__(
        self,
        calls: BuildCalls,
        uid: str,
        tell: Callable[[str], None],
        clock: Callable[[], float] = time.monotonic,
        pause: Callable[[float], None] = time.sleep,
    ) -> None:
        self._calls, self._uid, self._tell = calls, uid, tell
        self._clock, self._pause = clock, pause

    def make(self, base: str, arch: str, machine_type: str, recipe: ImageRecipe, disk: int) -> MadeImage:
        """`base` is the image's id, `disk` in bytes. Raises BuildEnded where nothing is left to go on with."""
        content = content_of(base, arch, recipe, disk)
        name = self._calls.image_name(f"clusterctl-ray-{recipe.ray}-{arch}-{content[:12]}")
        found = self._calls.image(content)
        fresh = not found
        if fresh:
            wanted = BuildMachine(
                machine_type, base, disk, user_data(recipe, content, self._calls.linger), name, content
            )
            machine = self._begun() or self._launch(wanted)
            self._wait_until_off(machine, content)
            found = self._calls.create(machine, name, content)
            self._tell(f"making {found} ({name})")
        made = self._wait_until_there(found)
        self.clean_up()
        return MadeImage(made, name, fresh)

    def _begun(self) -> str:
        machine = self._calls.machine()
        if machine:
            self._tell(f"going on with {machine}, which an earlier try launched")
        return machine

    def _launch(self, wanted: BuildMachine) -> str:
        """One after the other zone is tried. The token makes a launch whose answer was lost the same launch."""
        trouble: ProviderError | None = None
        for zone in self._calls.zones():
            token = hashlib.sha256(f"{self._uid}/{zone}/{wanted.content}".encode()).hexdigest()[:64]
            try:
                machine = self._calls.launch(wanted, zone, token)
            except NoCapacity as error:
                trouble = error
                continue
            self._tell(f"launched {machine} ({wanted.type} in {zone}) from {wanted.base}")
            return machine
        raise trouble or ProviderError("the cluster has no subnet to launch a machine in")

    def _wait_until_off(self, machine: str, content: str) -> None:
        """Until it has turned itself off. Raises BuildEnded with what it said when it failed, and ends it then."""
        backoff, told = self._backoff(0.5, 10.0, PATIENCE), False
        while (state := self._calls.state(machine)) != OFF:
            if state == "running" and not told:
                told = True
                self._tell(f"{machine} is running; Ray is being installed")
            if state not in _ON_ITS_WAY or not backoff.wait():
                self.clean_up()
                raise BuildEnded(f"the machine {machine} was {state} before its image could be made: try again")
        said = self._last_word(machine)
        if said != f"done {content}":
            self.clean_up()
            raise BuildEnded(f"the image was not made, the machine {machine} says: {said or 'nothing'}")

    def _last_word(self, machine: str) -> str:
        """Raises BuildEnded where nobody heard it while it could be heard."""
        backoff = self._backoff(0.5, 15.0, CONSOLE_PATIENCE)
        while True:
            console = self._calls.console(machine)
            if console is None:
                self.clean_up()
                raise BuildEnded(
                    f"the machine {machine} is off, and its console cannot be read any more: whether it was done is not known, "
                    "and nothing of it is left; build again"
                )
            if said := SAID.findall(console):
                return str(said[-1]).strip()
            if not backoff.wait():
                return ""

    def _wait_until_there(self, image: str) -> str:
        backoff = self._backoff(0.5, 15.0, IMAGE_PATIENCE)
        while (state := self._calls.image_state(image)) != "available":
            if state != "pending" or not backoff.wait():
                raise ProviderError(
                    f"waiting for the image {image}: it is {state}; remove it (`clusterctl image rm {image}`) and build again"
                )
        return image

    def clean_up(self) -> None:
        """Ends the machine and removes what was made for it. Raises ProviderError with what is left."""
        machine = self._calls.machine()
        if machine:
            self._calls.end(machine)
        backoff = self._backoff(0.2, 5.0, END_PATIENCE)
        while waiting := self._left(machine):
            if not backoff.wait():
                raise ProviderError(f"the build is not cleaned up: {'; '.join(waiting)}; `clusterctl gc` does it later")

    def _backoff(self, first: float, longest: float, seconds: float) -> Backoff:
        return Backoff(first, longest, factor=1.5, seconds=seconds, clock=self._clock, sleep=self._pause)

    def _left(self, machine: str) -> list[str]:
        if machine and self._calls.state(machine) != OVER:
            return [f"{machine} is ending"]
        return self._calls.sweep()
