"""How the machine that a head runs on is got into for the first time: what differs between an instance with SSH and a pod."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from clusterctl_providers.base import HeadDisk, HeadMachine, Whereabouts

    from clusterctl.core.model import Node
    from clusterctl.provision.ssh.hosts import Bundle, Hosts, Reached
    from clusterctl.provision.ssh.inventory import Machine


class HeadLogin(Protocol):
    """Of one cluster."""

    def check(self) -> None:
        """Raises ClusterctlError where something is not here that it takes."""
        ...

    def is_begun(self) -> bool:
        """Whether an `up` from this home has launched the head, or was about to."""
        ...

    def auth(self) -> dict[str, Any]:
        """What the provider is told under `auth` besides what the spec says. From now on it is begun."""
        ...

    def head_machine(self, machine: HeadMachine) -> HeadMachine:
        """The same, with who may reach it."""
        ...

    def for_bootstrap(self, node: Node) -> dict[str, Any]:
        """What of it goes to the machine beside its agent's document."""
        ...

    def machine(self, node: Node, where: Whereabouts) -> Machine:
        """How it is got into from now on, kept for the tunnel and for later commands."""
        ...

    def wait(self, node: Node, machine: Machine, console: Callable[[], str]) -> Machine:
        """Until programs can be begun there. Raises Unreachable."""
        ...

    def with_disk(self, hosts: Hosts, reached: Reached, bundle: Bundle, disk: HeadDisk) -> tuple[Reached, bool]:
        """The machine with the head's disk in its place, and whether an earlier head's state is on that. Raises HostTrouble."""
        ...
