"""Where agents dial a head on a host of an inventory. Each `up` says what is wanted: addresses in `endpoint.json`, which count
for the next node, and the port in `port.json`, which counts from the next start. The head takes a port that is free, says
which (`head.json`), and goes on listening where it listened before: nodes that run dial it there."""

from __future__ import annotations

import contextlib
import json
import socket
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from clusterctl_runtime.head.network.listening import EVERYWHERE, bound, listen_first

FIRST_PORT, SPARE_PORTS = 7420, 10
MOST_FORMER = 4


@dataclass(frozen=True)
class Endpoint:
    """`hosts` are dialled in turn. `port` None: any from 7420 on, the same after every start."""

    hosts: tuple[str, ...]
    port: int | None

    @classmethod
    def load(cls, directory: Path) -> Endpoint | None:
        """None where the client wrote none: the head's own machine, or its cloud's instance, is not of an inventory."""
        try:
            hosts = json.loads((directory / "endpoint.json").read_text())["hosts"]
            return cls(tuple(hosts), json.loads((directory / "port.json").read_text())["port"])
        except FileNotFoundError:
            return None

    def open(self, ports: Mapping[str, Any]) -> list[socket.socket]:
        """Sockets of which the first is the one to be dialled from now on. `ports`: what the last start took. Raises
        ClusterctlError, with a port that is free to be chosen by the user, where none can be had."""
        before = [int(port) for port in (ports.get("agents"), *ports.get("former", ())) if port]
        if self.port is not None:
            wanted = [self.port]
        elif before:
            wanted = before[:1]
        else:
            wanted = list(range(FIRST_PORT, FIRST_PORT + SPARE_PORTS))
        first = listen_first(EVERYWHERE, wanted)
        former: list[socket.socket] = []
        for port in dict.fromkeys(before):
            if port != first.getsockname()[1] and len(former) < MOST_FORMER:
                with contextlib.suppress(OSError):  # somebody else has it now: whoever dialled it is lost anyway
                    former.append(bound(EVERYWHERE, port))
        return [first, *former]


def address(host: str, port: int) -> str:
    """ "HOST:PORT" as agents read it."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
