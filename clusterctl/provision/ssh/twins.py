"""Which machine each host of an inventory turned out to be: one that is listed under two names is used under one of them."""

from __future__ import annotations

import threading
from collections.abc import Iterable

from clusterctl.provision.ssh.connection import HostTrouble
from clusterctl.provision.ssh.hosts import Reached
from clusterctl.provision.ssh.inventory import Machine


class Twins:
    """Thread-safe. Every host is noted as soon as it was looked at, and checked before anything is done to it: the name that
    an earlier `up` used goes first, then the one that was noted first."""

    def __init__(self, machines: Iterable[Machine]) -> None:
        self._wanted = {machine.id for machine in machines}
        self._names: dict[str, str] = {}  # running system -> the name under which it is used
        self._lock = threading.Lock()

    def note(self, reached: Reached) -> None:
        """A host was looked at; it has told which system it is."""
        system = str(reached.facts["system"])
        if system and not self._installed_as(reached):
            with self._lock:
                self._names.setdefault(system, reached.id)

    def check(self, reached: Reached) -> None:
        """Raises HostTrouble for the second name of a machine, and for a second machine that cannot be told from the first."""
        name, other = reached.id, self._installed_as(reached)
        with self._lock:
            known = self._names.get(str(reached.facts["system"]), name)
        if known != name:
            raise HostTrouble(
                "same_machine", f"{name} and {known} are the same machine: list it once, under one of the names"
            )
        if other:
            raise HostTrouble(
                "same_directory",
                f"{name} and {other} have one directory, {reached.facts['directory']}: they are one machine, or share a home "
                "and have the same /etc/machine-id and host name. List the machine once, or give one of them an id and a name "
                "of its own (`systemd-machine-id-setup`, `hostnamectl set-hostname`)",
            )

    def _installed_as(self, reached: Reached) -> str:
        """Another host of this inventory whose settings are in the directory of this one; "" where there is none."""
        found = str(reached.facts["host"])
        return found if found != reached.id and found in self._wanted else ""
