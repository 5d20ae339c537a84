"""Getting into the head's pod: its provider begins programs there, so that there are no keys, no host key and nothing to wait for
but the pod itself. Its disk comes with it."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from clusterctl_runtime.files.private import write_private

from clusterctl.client.head import tunnels
from clusterctl.client.nodes.machines import open_hosts, save_machines, saved_machines
from clusterctl.client.registry import Cluster
from clusterctl.core.errors import Unreachable
from clusterctl.provision.ssh.connection import HostTrouble
from clusterctl.provision.ssh.inventory import Login, Machine

if TYPE_CHECKING:
    from clusterctl_providers.base import HeadDisk, HeadMachine, Whereabouts

    from clusterctl.core.model import Node
    from clusterctl.provision.ssh.hosts import Bundle, Hosts, Reached

BEGUN = "head-begun"  # a file in the cluster's directory
FIRST_LOGIN_SECONDS = 120.0  # of a pod that runs
LOOK_SECONDS = 0.3
_LASTING = frozenset({"auth_failed", "no_python"})  # troubles that no waiting mends


class PodLogin:
    """See `HeadLogin`. `options`: see `save_machines`."""

    def __init__(self, cluster: Cluster, provider: str, options: dict[str, Any], tell: Callable[[str], None]) -> None:
        self._cluster, self._provider, self._options, self._tell = cluster, provider, options, tell

    def check(self) -> None:
        """It takes nothing but what the provider does."""

    def is_begun(self) -> bool:
        return (self._cluster.directory / BEGUN).exists()

    def auth(self) -> dict[str, Any]:
        if not self.is_begun():
            write_private(self._cluster.directory / BEGUN, "")
        return {}

    def head_machine(self, machine: HeadMachine) -> HeadMachine:
        return machine

    def for_bootstrap(self, node: Node) -> dict[str, Any]:
        return {}

    def machine(self, node: Node, where: Whereabouts) -> Machine:
        login = Login(node.instance_id, provider=self._provider, place=dict(where.login))
        machine = Machine(node.id, login, head=True)
        if saved_machines(self._cluster.directory) != [machine]:
            tunnels.stop(self._cluster)
        save_machines(self._cluster.directory, [machine], self._options)
        return machine

    def wait(self, node: Node, machine: Machine, console: Callable[[], str]) -> Machine:
        """Its kubelet may be a moment later than what the API server shows."""
        deadline = time.monotonic() + FIRST_LOGIN_SECONDS
        while True:
            try:
                open_hosts(self._cluster.directory, self._tell, [machine]).connect(machine).close()
                return machine
            except HostTrouble as error:
                if error.code in _LASTING or time.monotonic() > deadline:
                    end = "\n".join(f"  {line}" for line in console().strip().splitlines()[-25:])
                    shown = f"\nThe end of its log:\n{end}" if end else ""
                    what = f"the head's pod {machine.login.host} cannot be got into: {error}{shown}"
                    raise Unreachable(f"{what}\n`up` again goes on, `down` ends it") from error
            time.sleep(LOOK_SECONDS)

    def with_disk(self, hosts: Hosts, reached: Reached, bundle: Bundle, disk: HeadDisk) -> tuple[Reached, bool]:
        return reached, bool(reached.facts["head_config"])
