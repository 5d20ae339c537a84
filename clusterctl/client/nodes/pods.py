"""Getting into nodes without SSH on which their provider begins programs: pods, by way of the API server."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

from clusterctl.client.nodes import copying
from clusterctl.client.nodes.command_result import CommandResult
from clusterctl.client.nodes.kept import Kept
from clusterctl.client.nodes.ports import hosts_of, nothing_listens, reach
from clusterctl.client.registry import Cluster
from clusterctl.core.errors import ClusterctlError, NotFound
from clusterctl.provision.carried import NothingListens, Way
from clusterctl.provision.ssh.connection import Connection, without_ssh
from clusterctl.provision.ssh.inventory import Login
from clusterctl.provision.ssh.target import login_target

_SHELL = ["sh", "-c", "exec $(command -v bash || command -v sh)"]


class PodAccess:
    """One node. Commands run as the container's user, with the environment of its command."""

    def __init__(self, cluster: Cluster, node: dict[str, Any]) -> None:
        self._node, self._address = str(node["id"]), str(node.get("address") or "")
        provider = str(node.get("provider") or cluster.provider)
        self._target = login_target(Login(self._node, provider=provider, place=_place(cluster, provider, node)))
        self._login = Kept(self._connect)

    def _connect(self) -> Connection:
        return without_ssh(self._target)

    def shell_argv(self) -> list[str]:
        from clusterctl_providers.login import open_login

        with closing(open_login(self._target.provider, self._target.place)) as login:
            return login.shell_argv(_SHELL)

    def run(self, argv: Sequence[str]) -> CommandResult:
        """Without stdin, which may have no end there."""
        with closing(self._connect()) as connection:
            done = connection.run(f"{shlex.join(argv)} </dev/null")
        return CommandResult(self._node, done.code, done.stdout, done.stderr)

    def put(self, source: Path, target: str) -> None:
        self._copy(copying.put, source, target, f"copying {source} to {self._node}")

    def get(self, source: str, target: Path) -> None:
        self._copy(copying.get, source, target, f"copying {source} from {self._node}")

    def _copy(self, work: Any, source: Any, target: Any, what: str) -> None:
        try:
            with closing(self._connect()) as connection, closing(connection.begin("files.py")) as channel:
                work(channel, source, target, what)
        except (OSError, EOFError) as error:
            raise ClusterctlError(f"{what} failed: {error or type(error).__name__}") from error

    def knock(self) -> None:
        """Raises where its pod is gone, or does not run."""
        self._login.get()

    def dial(self, port: int) -> Way:
        """A program in the pod carries the bytes: it reaches what listens there on any address."""
        try:
            return reach(self._login, port, hosts_of(self._address), f"the pod of {self._node}")
        except NothingListens as error:
            raise nothing_listens(self._node, port) from error


def _place(cluster: Cluster, provider: str, node: Mapping[str, Any]) -> Mapping[str, str]:
    """What its provider finds it by. Raises NotFound."""
    from clusterctl_providers.base import HasPlace

    from clusterctl.client.down.take_down import providers_of

    if not node.get("instance_id"):
        raise NotFound(f"node {node['id']} has no pod yet: `clusterctl explain {node['id']}` says what it waits for")
    spec = cluster.read_config().get("spec") or {"provider": cluster.provider}
    with closing(providers_of(cluster, spec)[provider]) as made:
        assert isinstance(made, HasPlace), f"{provider} begins no programs on its nodes"
        return made.place(str(node["instance_id"]))
