"""Logins to jump hosts, shared by all hosts behind them: one each, however many hosts there are.

A jump host with OpenSSH's defaults hangs up on most of 64 logins at once (MaxStartups 10:30:100), while one login carries as
many forwarded connections as are asked for.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import paramiko

from clusterctl.core.errors import ClusterctlError
from clusterctl.provision.ssh.master import Channel, Login
from clusterctl.provision.ssh.target import Target

Dial = Callable[[Target, Login | None], Login]
Key = tuple[tuple[str, int, str], ...]


@dataclass
class _Gate:
    """`trouble` is told to all that wait for the same jump host; who comes later tries again."""

    lock: threading.Lock = field(default_factory=threading.Lock)
    users: int = 0
    transport: Login | None = None
    trouble: ClusterctlError | None = None


class Forwarded:
    """A forwarded connection as the socket of another transport. A `Channel` that is closed by one thread while another
    sends in it writes after its end, upon which sshd hangs up on all that share the login: here one waits for the other."""

    def __init__(self, channel: paramiko.Channel | Channel) -> None:
        self._channel = channel
        self._lock = threading.Lock()

    def send(self, data: bytes) -> int:
        with self._lock:
            return self._channel.send(data)

    def close(self) -> None:
        with self._lock:
            self._channel.close()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._channel, name)


class Gateways:
    """Thread-safe. What `enter` gave is to be given back with `leave`; the last one out closes the login."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._gates: dict[Key, _Gate] = {}

    def enter(self, hops: Sequence[Target], dial: Dial) -> Login | None:
        """The login to the last of `hops`, through the others; None without hops. Raises what `dial` raises."""
        if not hops:
            return None
        key = _key(hops)
        with self._lock:
            gate = self._gates.setdefault(key, _Gate())
            gate.users += 1
        try:
            with gate.lock:
                if gate.trouble is not None:
                    raise gate.trouble
                if gate.transport is not None and not gate.transport.is_active():
                    gate.transport = None  # it broke: its own way there is given back
                    self.leave(hops[:-1])
                if gate.transport is None:
                    gate.transport = self._open(hops, dial, gate)
                return gate.transport
        except BaseException:
            self._release(key)
            raise

    def leave(self, hops: Sequence[Target]) -> None:
        """Gives back what `enter` gave for these hops."""
        if hops:
            self._release(_key(hops))

    def _open(self, hops: Sequence[Target], dial: Dial, gate: _Gate) -> Login:
        before = self.enter(hops[:-1], dial)
        try:
            return dial(hops[-1], before)
        except BaseException as error:
            self.leave(hops[:-1])
            if isinstance(error, ClusterctlError):
                gate.trouble = error
            raise

    def _release(self, key: Key) -> None:
        with self._lock:
            gate = self._gates[key]
            gate.users -= 1
            if gate.users:
                return
            del self._gates[key]
        if gate.transport is not None:
            gate.transport.close()
            if key[:-1]:
                self._release(key[:-1])


def _key(hops: Sequence[Target]) -> Key:
    return tuple((hop.host, hop.port, hop.user) for hop in hops)
