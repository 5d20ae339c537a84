"""Free ports for the raylets of one machine, claimed so that several that start at once never pick the same."""

from __future__ import annotations

import contextlib
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


def is_free(port: int) -> bool:
    with contextlib.closing(socket.socket(socket.AF_INET, socket.SOCK_STREAM)) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("", port))
        except OSError:
            return False
    return True
