"""`clusterctl forward`."""

from __future__ import annotations

import contextlib
import re
import threading
from typing import Annotated, Any

import typer

from clusterctl.cli import output
from clusterctl.cli.call import Call, verb
from clusterctl.client.nodes.forwarding import Ports, Route, forwardings
from clusterctl.core.errors import UsageError

_PORTS = re.compile(r"(\d{1,5})(?::(\d{1,5}))?")
_HIGHEST = 65535


@verb
def forward(
    call: Call,
    words: Annotated[
        list[str],
        typer.Argument(
            metavar="PORT[:NODE_PORT]... [NODE|JOB]",
            help="Local ports, each with the node's if it is another, then the node, or a job [default: the head's node].",
            show_default=False,
        ),
    ],
) -> None:
    """Make ports of a node ports of this machine.

    Of a job it is the node of its rank 0. Local port 0 is any free one. Only this machine can connect. Ends on Ctrl-C.

    \b
    Examples:
      clusterctl forward 8888 gpu-3
      clusterctl forward 6006 0:8000 j-abcd2345
    """
    wanted, name = _parsed(words)
    route = Route(call.cluster(), name, call.say)
    made = forwardings(route, wanted)
    with contextlib.ExitStack() as open_ones:
        for forwarding in made:
            open_ones.callback(forwarding.local.close)
            forwarding.local.begin()
            document = {"cluster": call.cluster().name, **forwarding.document()}
            if call.json:
                output.write_json_line(document)
            else:
                output.write_line(f"{document['address']} -> {document['node']}:{document['node_port']}")
        call.say("Ctrl-C ends this")
        with contextlib.suppress(KeyboardInterrupt):
            threading.Event().wait()


def _parsed(words: list[str]) -> tuple[list[Ports], str]:
    """The ports, and the one word that is none."""
    ports = [found for word in words if (found := _PORTS.fullmatch(word))]
    names = [word for word in words if not _PORTS.fullmatch(word)]
    if not ports:
        raise UsageError("say which port: clusterctl forward PORT[:NODE_PORT] [NODE|JOB]")
    if len(names) > 1:
        raise UsageError(
            f"one node or job at a time, and {' and '.join(names)} are {len(names)}: run one `forward` for each"
        )
    return [_ports(found) for found in ports], "".join(names)


def _ports(found: re.Match[str]) -> Ports:
    here, there = int(found[1]), int(found[2] or found[1])
    if here > _HIGHEST or not 0 < there <= _HIGHEST:
        what: Any = found[0]
        raise UsageError(f"{what} names no port: a node's are 1 to {_HIGHEST}, and 0 here is any free one (0:8888)")
    return Ports(here, there)
