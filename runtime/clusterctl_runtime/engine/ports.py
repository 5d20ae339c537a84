"""Free ports for the raylets of one machine, claimed so that several that start at once never pick the same."""

from __future__ import annotations

import contextlib
import errno
import random
import socket
from dataclasses import dataclass

FIRST, LAST = 12_000, 20_000  # below the ephemeral ports, and below those that gangs use for their rendezvous
BLOCK = 12


@dataclass
class PortBlock:
    """`BLOCK` consecutive TCP ports. The claim is a UDP socket on the first of them: it lives as long as its process, leaves no
    file behind, and keeps no TCP port busy."""

    first: int
    claim: socket.socket

    def release(self) -> None:
        self.claim.close()


def claim_block() -> PortBlock:
    """Raises OSError when the machine has no free block left."""
    starts = list(range(FIRST, LAST - BLOCK, BLOCK))
    random.shuffle(starts)
    for first in starts:
        claim = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        try:
            claim.bind(("127.0.0.1", first))
        except OSError:
            claim.close()
            continue
        if all(is_free(port) for port in range(first, first + BLOCK)):
            return PortBlock(first, claim)
        claim.close()
    raise OSError(f"no {BLOCK} consecutive free TCP ports are left between {FIRST} and {LAST}")


def claim_port(port: int) -> socket.socket | None:
    """A claim like a block's, for one port; None when another program of this machine has the port or its claim."""
    claim = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    try:
        claim.bind(("127.0.0.1", port))
    except OSError:
        claim.close()
        return None
    if is_free(port):
        return claim
    claim.close()
    return None


def is_free(port: int) -> bool:
    """Whether nobody listens there on any address of either family; what this machine has not is free."""
    return all(_is_free(port, family) for family in (socket.AF_INET, socket.AF_INET6))


def _is_free(port: int, family: socket.AddressFamily) -> bool:
    try:
        probe = socket.socket(family, socket.SOCK_STREAM)
    except OSError:
        return True
    with contextlib.closing(probe):
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            probe.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        try:
            probe.bind(("", port))
        except OSError as error:
            return error.errno == errno.EADDRNOTAVAIL
    return True
