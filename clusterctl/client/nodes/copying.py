"""Copies to and from a machine without SFTP: `provision/ssh/programs/files.py` under way there."""

from __future__ import annotations

import io
import json
import tarfile
from pathlib import Path, PurePosixPath
from typing import Any

from clusterctl.client.nodes.archives import CHUNK, pack, unpack
from clusterctl.core.errors import ClusterctlError, UsageError
from clusterctl.provision.carried import Channel, line_of


def put(channel: Channel, source: Path, target: str, what: str) -> None:
    """Raises ClusterctlError with what the machine said. `what`: for sentences, as "copying a to b"."""
    if not source.exists():
        raise UsageError(f"{source} is not there")
    _ask(channel, do="put", target=target, name=source.resolve().name)
    try:
        with io.BufferedWriter(_Sent(channel), CHUNK) as sent:
            pack(source, source.name or "root", (0, 0), sent)
    except OSError:
        pass  # it ended before it had all, and says why
    if refusal := line_of(channel):
        raise ClusterctlError(f"{what} failed: {refusal}")


def get(channel: Channel, source: str, target: Path, what: str) -> None:
    """Regular files and directories only. Raises ClusterctlError."""
    _ask(channel, do="get", source=source)
    if refusal := line_of(channel):
        raise ClusterctlError(f"{what} failed: {refusal}")
    name = PurePosixPath(source).name
    target = target / name if target.is_dir() and name not in ("", "..") else target
    try:
        with tarfile.open(fileobj=io.BufferedReader(_Received(channel), CHUNK), mode="r|") as archive:
            if not unpack(archive, target):
                raise ClusterctlError(f"{what}: it is neither a file nor a directory")
    except tarfile.TarError as error:
        raise ClusterctlError(f"{what} broke off: {error}") from error


def _ask(channel: Channel, **request: str) -> None:
    channel.sendall(json.dumps(request).encode() + b"\n")


class _Sent(io.RawIOBase):
    """What is written goes to the channel."""

    def __init__(self, channel: Channel) -> None:
        self._channel = channel

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        self._channel.sendall(bytes(data))
        return len(data)


class _Received(io.RawIOBase):
    """What the channel says, to be read once."""

    def __init__(self, channel: Channel) -> None:
        self._channel = channel

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        data = self._channel.recv(len(buffer))
        buffer[: len(data)] = data
        return len(data)
