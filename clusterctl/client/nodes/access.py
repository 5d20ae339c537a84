"""Getting to a node as a person does: a shell, a command, a copy. By the way that its provider has.

ssh           OpenSSH or paramiko to the node's host, with the logins of the spec
local, fake   a process of this machine, in the node's directory
docker        in its container, through the engine
pods          in them, through the API server
"""

from __future__ import annotations

import os
import shlex
import shutil
import socket
import stat
import subprocess
from collections.abc import Sequence
from contextlib import closing
from functools import partial
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any, Protocol

from clusterctl.client.head.api import Api
from clusterctl.client.nodes.command_result import CommandResult
from clusterctl.client.nodes.kept import Kept
from clusterctl.client.nodes.machines import head_machine
from clusterctl.client.nodes.node_list import list_nodes
from clusterctl.client.nodes.ports import SocketWay, hosts_of, nothing_listens, reach
from clusterctl.client.registry import Cluster, machine_of
from clusterctl.core.errors import BadRequest, ClusterctlError, NotFound, UsageError
from clusterctl.provision.carried import NothingListens, Way
from clusterctl.provision.ssh.command import ssh_argv
from clusterctl.provision.ssh.openssh import as_word

if TYPE_CHECKING:
    from clusterctl.provision.ssh.hosts import Hosts
    from clusterctl.provision.ssh.inventory import Machine
    from clusterctl.provision.ssh.target import Target


class Access(Protocol):
    """One node."""

    def shell_argv(self) -> list[str]:
        """What to run here to have a shell there."""
        ...

    def run(self, argv: Sequence[str]) -> CommandResult:
        """Runs one command to its end. Raises ClusterctlError where it could not be begun."""
        ...

    def put(self, source: Path, target: str) -> None:
        """Copies a file or directory to the node."""
        ...

    def get(self, source: str, target: Path) -> None:
        """Copies a file or directory from the node."""
        ...

    def knock(self) -> None:
        """Makes the way to the node and speaks to nothing there. Raises ClusterctlError where there is none."""
        ...

    def dial(self, port: int) -> Way:
        """A connection to a port of the node, as a program on it would have. For several threads at once. Raises NothingListens,
        and ClusterctlError where the way there broke."""
        ...


def nodes_of(cluster: Cluster, names: Sequence[str] = (), *, pool: str = "") -> list[dict[str, Any]]:
    """The nodes of these names, or all (of a pool) whose agents have dialled in. Raises NotFound."""
    with Api.of(cluster) as api:
        if names:
            return [api.get(f"/api/v1/nodes/{name}") for name in names]
        return list_nodes(api, pool=pool, state="joining,ready,draining")["nodes"]


def access(cluster: Cluster, node: dict[str, Any]) -> Access:
    """The way to a node. Raises ClusterctlError where its provider has none."""
    if cluster.on_hosts:
        return SshAccess(cluster, node)
    machine = machine_of({"provider": node.get("provider") or cluster.provider})
    if machine == "process":
        return LocalAccess(cluster, node)
    if machine == "container":
        from clusterctl.client.nodes.containers import ContainerAccess

        return ContainerAccess(cluster, node)
    if machine == "pod":
        from clusterctl.client.nodes.pods import PodAccess

        return PodAccess(cluster, node)
    if cluster.head_is_remote and node["pool"] == "head":
        return SshAccess(cluster, node)
    if cluster.head_is_remote:
        return BehindHead(cluster, node)
    raise ClusterctlError(f"nodes of provider {node.get('provider')!r} cannot be logged in to from here yet")


class LocalAccess:
    """Nodes are processes of this machine: a command beside them, in the node's own directory."""

    def __init__(self, cluster: Cluster, node: dict[str, Any]) -> None:
        self._node = node["id"]
        self._address = str(node.get("address") or "")
        self._directory = _directory_on_disk(cluster, node)
        self._named = {
            "CLUSTERCTL_CLUSTER": cluster.name,
            "CLUSTERCTL_NODE_ID": node["id"],
            "CLUSTERCTL_FILES": str(self._directory / "files"),
            "CLUSTERCTL_MOUNTS": str(self._directory / "mounts"),
        }
        self._env = {**os.environ, **self._named}

    def shell_argv(self) -> list[str]:
        shell = os.environ.get("SHELL") or "/bin/sh"
        return ["env", "-C", str(self._directory), *(f"{k}={v}" for k, v in self._named.items()), shell]

    def run(self, argv: Sequence[str]) -> CommandResult:
        try:
            done = subprocess.run(list(argv), cwd=self._directory, env=self._env, capture_output=True)
        except OSError as error:
            return CommandResult(self._node, 127, b"", os.fsencode(f"{argv[0]}: {error.strerror}\n"))
        return CommandResult(self._node, shell_code(done.returncode), done.stdout, done.stderr)

    def put(self, source: Path, target: str) -> None:
        _copy(source, self._directory / target, f"copying {source} to {self._node}")

    def get(self, source: str, target: Path) -> None:
        _copy(self._directory / source, target, f"copying {source} from {self._node}")

    def knock(self) -> None:
        """It is this machine."""

    def dial(self, port: int) -> Way:
        """The nodes of this machine share its ports, but for what listens on a node's own address."""
        for host in hosts_of(self._address):
            try:
                return SocketWay(socket.create_connection((host, port)))
            except OSError:
                continue
        raise nothing_listens(self._node, port)


class SshAccess:
    """Nodes are claims on hosts: the host is logged in to with the spec's logins and host keys."""

    def __init__(self, cluster: Cluster, node: dict[str, Any]) -> None:
        from clusterctl.client.nodes.machines import known_hosts, open_hosts

        self._node = node["id"]
        self._address = str(node.get("address") or "")
        self._known_hosts = known_hosts(cluster.directory)
        self._hosts: Hosts = open_hosts(cluster.directory, lambda text: print(text))
        self._machine = _machine_of(cluster, node["id"], self._hosts.machines)
        self._login = Kept(lambda: self._hosts.connect(self._machine))

    def shell_argv(self) -> list[str]:
        """OpenSSH with the user's own configuration for this host; what the spec says wins, and host keys are ours to judge."""
        target = self._hosts.target(self._machine)
        return [*ssh_argv(target, self._known), "--", target.given]

    def _known(self, target: Target) -> str:
        return " ".join(as_word(str(path)) for path in (*target.known_hosts, self._known_hosts))

    def run(self, argv: Sequence[str]) -> CommandResult:
        connection = self._hosts.connect(self._machine)
        try:
            done = connection.run(shlex.join(argv))
        finally:
            connection.close()
        return CommandResult(self._node, done.code, done.stdout, done.stderr)

    def put(self, source: Path, target: str) -> None:
        self._with_files(lambda files: _put(files, source, target))

    def get(self, source: str, target: Path) -> None:
        self._with_files(lambda files: _get(files, source, target))

    def knock(self) -> None:
        """Logs in, for all that is dialled."""
        self._login.get()

    def dial(self, port: int) -> Way:
        """Through one login, which is made anew when it does not serve."""
        try:
            return reach(self._login, port, hosts_of(self._address), f"host {self._machine.id}")
        except NothingListens as error:
            raise nothing_listens(self._node, port) from error

    def _with_files(self, work: Any) -> None:
        import paramiko

        connection = self._hosts.connect(self._machine)
        try:
            with connection.files() as files:
                work(files)
        except (OSError, EOFError, paramiko.SSHException) as error:
            raise ClusterctlError(f"copying with host {self._machine.id} failed: {error}") from error
        finally:
            connection.close()


class BehindHead:
    """A worker on a cloud: only the head's machine has SSH, and the worker's ports are reached from there."""

    def __init__(self, cluster: Cluster, node: dict[str, Any]) -> None:
        from clusterctl.client.nodes.machines import open_hosts

        self._node, self._pool, self._address = str(node["id"]), str(node["pool"]), str(node.get("address") or "")
        hosts, machine = open_hosts(cluster.directory, lambda text: print(text)), head_machine(cluster.directory)
        self._login = Kept(lambda: hosts.connect(machine))

    def shell_argv(self) -> list[str]:
        raise self._no_login()

    def run(self, argv: Sequence[str]) -> CommandResult:
        raise self._no_login()

    def put(self, source: Path, target: str) -> None:
        raise self._no_login()

    def get(self, source: str, target: Path) -> None:
        raise self._no_login()

    def _no_login(self) -> ClusterctlError:
        return ClusterctlError(
            f"nothing is logged in to on {self._node}: only the head's machine has SSH. Run it as a job on that pool: "
            f"`clusterctl submit --pool {self._pool} -- CMD`"
        )

    def knock(self) -> None:
        """Logs in to the head's machine."""
        if not self._address:
            raise ClusterctlError(
                f"the address of {self._node} is not known yet: `clusterctl nodes` shows what it is doing"
            )
        self._login.get()

    def dial(self, port: int) -> Way:
        """What listens on 127.0.0.1 of the worker alone is out of reach, and told as that."""
        self.knock()
        try:
            return reach(self._login, port, [self._address], "the head's machine")
        except NothingListens as error:
            raise NothingListens(
                f"nothing takes connections on {self._address}:{port}, which is {self._node} as the head's machine sees it: is "
                "the program running, and does it listen on 0.0.0.0? What listens on 127.0.0.1 of a cloud's worker alone "
                "is not reached, since only the head's machine has SSH"
            ) from error


def _machine_of(cluster: Cluster, node_id: str, machines: Sequence[Machine]) -> Machine:
    if not cluster.on_hosts:
        return head_machine(cluster.directory)
    with Api.of(cluster) as api:
        hosts = api.get("/api/v1/hosts", node=node_id)["hosts"]
    for host in hosts:
        if node_id in host["nodes"]:
            return next(machine for machine in machines if machine.id == host["id"])
    raise NotFound(f"node {node_id} is on no host at this moment: `clusterctl nodes` shows what it is doing")


def _put(files: Any, source: Path, target: str) -> None:
    """A file or a whole directory; as with cp, a directory that exists is copied into."""
    if not source.exists():
        raise UsageError(f"{source} is not there")
    try:
        if stat.S_ISDIR(files.stat(os.fsencode(target)).st_mode):
            target = str(PurePosixPath(target) / source.name)
    except FileNotFoundError:
        pass  # then it is the name of the copy
    if source.is_file():
        _put_file(files, source, os.fsencode(target))
        return
    _make_directory(files, os.fsencode(target))
    for path in sorted(source.rglob("*")):
        place = os.fsencode(PurePosixPath(target) / path.relative_to(source).as_posix())
        if path.is_dir():
            _make_directory(files, place)
        elif path.is_file():
            _put_file(files, path, place)


def _put_file(files: Any, source: Path, place: bytes) -> None:
    files.put(str(source), place)
    files.chmod(place, source.stat().st_mode & 0o777)


def _make_directory(files: Any, path: bytes) -> None:
    try:
        files.mkdir(path)
    except OSError:
        files.listdir(path)  # raises unless it is there


def _get(files: Any, source: str, target: Path) -> None:
    """Regular files and directories only. Names come from the node: none of them may lead out of `target`."""
    if target.is_dir():
        target = target / PurePosixPath(source).name
    place = os.fsencode(source)
    if not stat.S_ISDIR(files.stat(place).st_mode):
        files.get(place, str(target))
        return
    target.mkdir(exist_ok=True)
    _get_into(files, source, target)


def _get_into(files: Any, source: str, target: Path) -> None:
    for entry in _list(files, source):
        if "/" in entry.filename or "\0" in entry.filename or entry.filename in ("", ".", ".."):
            continue
        inside = target / entry.filename
        if stat.S_ISDIR(entry.st_mode or 0):
            inside.mkdir(exist_ok=True)
            _get_into(files, f"{source}/{entry.filename}", inside)
        elif stat.S_ISREG(entry.st_mode or 0):
            files.get(os.fsencode(f"{source}/{entry.filename}"), str(inside))


def _list(files: Any, directory: str) -> Any:
    try:
        return files.listdir_attr(os.fsencode(directory))
    except UnicodeDecodeError as error:  # paramiko knows no other names
        name = error.object.decode(errors="backslashreplace")
        raise ClusterctlError(
            f"{directory} on that node has a name that is not UTF-8 ({name}), which a copy from it cannot carry: pack it there, "
            f"as with `clusterctl exec NODE -- tar -c {directory} > FILE.tar`"
        ) from error


def _directory_on_disk(cluster: Cluster, node: dict[str, Any]) -> Path:
    """Where a node that is a process of this machine lives. Raises NotFound."""
    from clusterctl_providers.base import HasDirectory

    from clusterctl.client.down.take_down import providers_of

    spec = cluster.read_config().get("spec") or {"provider": cluster.provider}
    providers = providers_of(cluster, spec)
    try:
        with closing(providers[node.get("provider") or cluster.provider]) as provider:
            directory = provider.directory(node["id"]) if isinstance(provider, HasDirectory) else ""
    except BadRequest as error:
        raise NotFound(str(error)) from error
    if not directory:
        raise NotFound(f"node {node['id']} has no directory yet, or has it no more: `clusterctl nodes` shows its state")
    return Path(directory)


def _copy(source: Path, target: Path, what: str) -> None:
    """As cp does it: into a directory that exists. Links arrive as links."""
    if not source.exists():
        raise NotFound(f"{what}: {source} is not there")
    try:
        if source.is_dir():
            into = target / source.resolve().name if target.is_dir() else target
            shutil.copytree(source, into, symlinks=True, dirs_exist_ok=True, ignore=partial(_make_room, source, into))
        else:
            shutil.copy2(source, target)
    except shutil.Error as error:  # of a tree: (from, to, why) of each that failed
        failed: list[tuple[str, str, str]] = error.args[0]
        raise ClusterctlError(f"{what} failed for {len(failed)} of its files: {failed[0][2]}") from error
    except OSError as error:
        raise ClusterctlError(f"{what} failed: {error.filename or target}: {error.strerror}") from error


def _make_room(source: Path, target: Path, directory: str, names: list[str]) -> tuple[str, ...]:
    """As copytree's `ignore`, which leaves nothing out: links are made anew, and for that what they replace has to go."""
    there = target / Path(directory).relative_to(source)
    for name in names:
        old = there / name
        if Path(directory, name).is_symlink() and (old.is_symlink() or old.is_file()):
            old.unlink()
    return ()


def shell_code(code: int) -> int:
    """What a shell makes of an ended process: 128+N for a program that signal N ended."""
    return 128 - code if code < 0 else code
