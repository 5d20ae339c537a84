"""Listening sockets: the same port after every start, so that open pages and agents find the head again."""

from __future__ import annotations

import contextlib
import errno
import pwd
import socket
from collections.abc import Iterable, Sequence
from pathlib import Path

from clusterctl.core.errors import ClusterctlError

EVERYWHERE = "::"  # every address of this machine, of either family
_NOWHERE = frozenset({errno.EAFNOSUPPORT, errno.EADDRNOTAVAIL, errno.EPROTONOSUPPORT})  # a machine without IPv6
TRIES = 8  # ports to be had on several addresses
_LISTENS = "0A"  # as /proc/net/tcp has it


def listen(host: str, port: int, *, fall_back: bool = False) -> socket.socket:
    """A bound socket on `port`, or on any port when that one is taken and `fall_back` is set."""
    try:
        return bound(host, port)
    except OSError as error:
        if port and fall_back:
            return listen(host, 0)
        raise ClusterctlError(
            f"the head could not listen on {host}:{port} ({error.strerror}): end the program that has this port "
            f"(`ss -ltnp 'sport = :{port}'` names it), then run `clusterctl up` again"
        ) from error


def listen_on_all(hosts: Sequence[str], port: int) -> list[socket.socket]:
    """Sockets of one port on each of these addresses of this machine, of which one may be EVERYWHERE. Raises ClusterctlError."""
    if EVERYWHERE in hosts:
        return [listen(EVERYWHERE, port)]
    tries = 1 if port else TRIES
    while True:
        tries -= 1
        sockets = [listen(hosts[0], port)]
        try:
            sockets += [
                listen(host, sockets[0].getsockname()[1]) for host in dict.fromkeys(hosts[1:]) if host != hosts[0]
            ]
            return sockets
        except ClusterctlError:  # the port that the first one got is another program's elsewhere
            for sock in sockets:
                sock.close()
            if not tries:
                raise


def listen_first(host: str, ports: Iterable[int]) -> socket.socket:
    """A bound socket on the first of these ports that is free."""
    last: OSError | None = None
    tried: list[int] = []
    for port in ports:
        tried.append(port)
        try:
            return bound(host, port)
        except OSError as error:
            last = error
    owners = sorted({owner for port in tried if (owner := owner_of(port))})
    whose = f" by programs of {' and '.join(owners)}" if owners else ""
    several = f"ports {tried[0]} to {tried[-1]} are" if len(tried) > 1 else f"port {tried[0]} is"
    raise ClusterctlError(
        f"{several} taken on the head's machine{whose} ({last.strerror if last else 'none was given'}), maybe by the head of "
        "another cluster: write a free one as `provider: {ssh: {port: ...}}`, then run `clusterctl up` again"
    ) from last


def bound(host: str, port: int) -> socket.socket:
    """Raises OSError."""
    if host in (EVERYWHERE, "0.0.0.0"):  # noqa: S104  TLS with the cluster's own authority, and a token per node
        with contextlib.suppress(_NoIpv6):
            return _bound(socket.AF_INET6, EVERYWHERE, port)
        return _bound(socket.AF_INET, "0.0.0.0", port)  # noqa: S104
    return _bound(socket.AF_INET6 if ":" in host else socket.AF_INET, host, port)


class _NoIpv6(OSError):
    """This machine has none, or it is turned off."""


def _bound(family: socket.AddressFamily, host: str, port: int) -> socket.socket:
    try:
        sock = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)  # else asyncio sets no TCP_NODELAY
    except OSError as error:
        raise _NoIpv6(error.errno, error.strerror) from error
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if host == EVERYWHERE:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        sock.bind((host, port))
        return sock
    except OSError as error:
        sock.close()
        if host == EVERYWHERE and error.errno in _NOWHERE:
            raise _NoIpv6(error.errno, error.strerror) from error
        raise


def owner_of(port: int) -> str:
    """The user whose program listens on a port of this machine, "" where that is not told."""
    for table in ("tcp", "tcp6"):
        try:
            rows = [line.split() for line in Path(f"/proc/net/{table}").read_text().splitlines()[1:]]
        except OSError:
            continue
        for row in rows:
            if row[3] == _LISTENS and int(row[1].rpartition(":")[2], 16) == port:
                uid = int(row[7])
                try:
                    return f"user {pwd.getpwuid(uid).pw_name}"
                except KeyError:
                    return f"the user with the id {uid}"
    return ""
