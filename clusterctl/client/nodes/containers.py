"""Getting into nodes that are containers, through the engine that the cluster was made in, whatever this shell's DOCKER_HOST."""

from __future__ import annotations

import contextlib
import io
import shutil
import socket
import tarfile
import tempfile
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO, cast

from clusterctl.client.nodes.archives import CHUNK, IN_MEMORY, pack, unpack
from clusterctl.client.nodes.command_result import CommandResult
from clusterctl.client.nodes.ports import hosts_of, nothing_listens
from clusterctl.client.registry import Cluster
from clusterctl.core.errors import ClusterctlError, NotFound, UsageError
from clusterctl.provision.carried import Carried, NothingListens, Way
from clusterctl.provision.ssh.trouble import said
from clusterctl.provision.used_providers import scratch

ROOM = "/clusterctl/node"  # as the provider lays a container out
_IS_DIRECTORY = "import os, sys; sys.exit(not os.path.isdir(sys.argv[1]))"


class ContainerAccess:
    """One node. Commands run as the image's user, with the node's directory of `files` in CLUSTERCTL_FILES."""

    def __init__(self, cluster: Cluster, node: dict[str, Any]) -> None:
        self._cluster = cluster
        self._node, self._container = str(node["id"]), str(node["instance_id"])
        self._address = str(node.get("address") or "")
        self._notes = scratch(cluster.provider_dir, str(node.get("provider") or cluster.provider), cluster.provider)
        self._environment = {
            "CLUSTERCTL_CLUSTER": cluster.name,
            "CLUSTERCTL_NODE_ID": self._node,
            "CLUSTERCTL_FILES": f"{ROOM}/files",
        }

    def shell_argv(self) -> list[str]:
        if shutil.which("docker") is None:
            raise ClusterctlError(
                "a shell in a container is opened with the docker command, which is not on the PATH: install Docker's "
                f"client, or run single commands with `clusterctl exec {self._node} -- CMD`"
            )
        from clusterctl_providers.docker.client import noted_endpoint
        from clusterctl_providers.docker.endpoint import endpoint_of_shell

        noted = noted_endpoint(self._notes)
        try:
            where = noted.options() if noted and noted != endpoint_of_shell() else []
        except ClusterctlError:
            where = noted.options() if noted else []
        named = [f"--env={name}={value}" for name, value in self._environment.items()]
        shell = ["sh", "-c", "exec $(command -v bash || command -v sh)"]
        return ["docker", *where, "exec", "-it", *named, self._container, *shell]

    def run(self, argv: Sequence[str]) -> CommandResult:
        api = self._open()
        try:
            code, stdout, stderr = self._run(api, argv)
        finally:
            api.close()
        return CommandResult(self._node, code, stdout, stderr)

    def put(self, source: Path, target: str) -> None:
        """As cp does: into a directory that exists, else under the target's own name. It belongs to the image's user."""
        if not source.exists():
            raise UsageError(f"{source} is not there")
        api = self._open()
        try:
            into = self._run(api, ["python3", "-I", "-c", _IS_DIRECTORY, target])[0] == 0
            place = PurePosixPath("/", target, source.name) if into else PurePosixPath("/", target)
            with tempfile.SpooledTemporaryFile(IN_MEMORY) as room:
                pack(source, place.name, self._owner(api), cast(BinaryIO, room))
                room.seek(0)
                self._call(f"copying {source} to {self._node}", api.put_archive, str(place.parent), room)
        finally:
            api.close()

    def get(self, source: str, target: Path) -> None:
        api, what = self._open(), f"copying {source} from {self._node}"
        try:
            stream, _ = self._call(what, api.get_archive, str(PurePosixPath("/", source)))
            name = PurePosixPath(source).name
            target = target / name if target.is_dir() and name != ".." else target
            with tarfile.open(fileobj=io.BufferedReader(_Chunks(stream), CHUNK), mode="r|") as archive:
                if not unpack(archive, target):
                    raise ClusterctlError(f"{what}: it is neither a file nor a directory")
        except OSError as error:
            raise ClusterctlError(f"{what} failed: {error.filename or target}: {error.strerror or error}") from error
        finally:
            api.close()

    def knock(self) -> None:
        """Raises where the container does not run."""
        api = self._open()
        try:
            seen = self._call(f"looking at {self._node}", api.inspect_container)
        finally:
            api.close()
        if not seen["State"]["Running"]:
            raise ClusterctlError(
                f"the container of {self._node} does not run: `clusterctl explain {self._node}` tells why"
            )

    def dial(self, port: int) -> Way:
        """A program in the container carries the bytes: it reaches what listens there on any address, wherever the engine is."""
        api = self._open()
        try:
            channel = self._call(f"running python3 on {self._node}", lambda container: _Program(api, container))
        except BaseException:
            api.close()
            raise
        try:
            return Carried(channel, port, hosts_of(self._address))
        except NothingListens as error:
            raise nothing_listens(self._node, port) from error
        except (EOFError, OSError) as error:
            raise ClusterctlError(
                f"port {port} of {self._node} is reached by python3 in its container, and that did not run "
                f"({channel.said() or error})"
            ) from error

    # ------------------------------------------------------------ inside

    def _open(self) -> Any:
        from clusterctl_providers.docker.client import open_engine

        return open_engine("", self._notes).api

    def _call(self, what: str, call: Any, *arguments: Any) -> Any:
        from clusterctl_providers.docker.client import TROUBLE, in_words
        from docker.errors import NotFound as Missing

        try:
            return call(self._container, *arguments)
        except Missing as error:
            raise NotFound(f"{what}: {in_words(error)}") from error
        except TROUBLE as error:
            raise ClusterctlError(f"{what} failed: {in_words(error)}") from error

    def _run(self, api: Any, argv: Sequence[str]) -> tuple[int, bytes, bytes]:
        from clusterctl_providers.docker.stream import STDERR, Stream

        def run(container: str) -> tuple[int, bytes, bytes]:
            made = api.exec_create(container, list(argv), environment=self._environment)["Id"]
            said: dict[bool, list[bytes]] = {False: [], True: []}
            for stream, data in Stream(api.exec_start(made, socket=True)).frames():
                said[stream == STDERR].append(data)
            return int(api.exec_inspect(made)["ExitCode"] or 0), b"".join(said[False]), b"".join(said[True])

        return self._call(f"running {argv[0]} on {self._node}", run)

    def _owner(self, api: Any) -> tuple[int, int]:
        """The user and group that the node runs as."""
        code, said, _ = self._run(api, ["python3", "-I", "-c", "import os; print(os.getuid(), os.getgid())"])
        user, group = (int(word) for word in said.split()) if code == 0 else (0, 0)
        return user, group


class _Program:
    """`ssh/programs/port.py` under way in a container, as a channel. A thread takes what it says out of the engine's stream."""

    def __init__(self, api: Any, container: str) -> None:
        from clusterctl_providers.docker.stream import Stream

        from clusterctl.provision.ssh.programs.running import source

        argv = ["python3", "-I", "-c", source("port.py").decode()]
        made = api.exec_create(container, argv, stdin=True)["Id"]
        self._api, self._stream = api, Stream(api.exec_start(made, socket=True))
        self._ours, self._theirs = socket.socketpair()
        self._errors = b""
        self._thread = threading.Thread(target=self._carry, daemon=True)
        self._thread.start()
        self.recv, self.sendall = self._ours.recv, self._ours.sendall

    def said(self) -> str:
        """The end of its stderr, after it has ended."""
        return said(self._errors.rstrip())

    def close(self) -> None:
        """Ends it, and the connection to the engine. Can be repeated."""
        with contextlib.suppress(OSError):
            self._ours.shutdown(socket.SHUT_RDWR)
        self._ours.close()
        self._thread.join()

    def _carry(self) -> None:
        from clusterctl_providers.docker.stream import STDERR

        with (
            contextlib.closing(self._api),
            contextlib.suppress(OSError),
            contextlib.closing(self._stream),
            self._theirs,
        ):
            for stream, data in self._stream.frames(self._theirs.fileno(), self._stream.close):
                if stream == STDERR:
                    self._errors = (self._errors + data)[-1000:]
                else:
                    self._theirs.sendall(data)


class _Chunks(io.RawIOBase):
    """The engine's answer as a file that is read once."""

    def __init__(self, chunks: Iterator[bytes]) -> None:
        self._chunks, self._rest = iter(chunks), memoryview(b"")

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        while not self._rest:
            chunk = next(self._chunks, None)
            if chunk is None:
                return 0
            self._rest = memoryview(chunk)
        size = min(len(buffer), len(self._rest))
        buffer[:size], self._rest = self._rest[:size], self._rest[size:]
        return size
