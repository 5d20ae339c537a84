"""`clusterctl dashboard`."""

from __future__ import annotations

import asyncio
import os
import secrets
import socket
import sys
import webbrowser
from contextlib import suppress
from typing import Annotated

import typer

from clusterctl.cli import output
from clusterctl.cli.call import Call, verb
from clusterctl.client.head.api import Api
from clusterctl.client.head.endpoint import connect, locate
from clusterctl.client.head.forward import forward
from clusterctl.client.local_page import can_tell_users_apart
from clusterctl.client.local_port import listening_socket
from clusterctl.client.ray.environment import reached
from clusterctl.client.ray.page import await_answer, lead
from clusterctl.client.registry import Cluster

TICKET_SECONDS = 60.0
START_SECONDS = 60.0  # of Ray's dashboard, after the rest of Ray


@verb
def dashboard(
    call: Call,
    port: Annotated[int, typer.Option(min=0, max=65535, metavar="N", help="The local port; 0 is any free one.")] = 0,
    browser: Annotated[
        bool, typer.Option("--browser/--no-browser", help="Open a browser where there is a screen.")
    ] = True,
    ray: Annotated[bool, typer.Option("--ray", help="Ray's own dashboard instead.")] = False,
) -> None:
    """Open the cluster's web page through a local port.

    The printed address works once and for a minute. Ends on Ctrl-C; with --ray once the page was opened.

    \b
    Examples:
      clusterctl dashboard --no-browser
      clusterctl dashboard --ray
    """
    with listening_socket(port, "choose another --port, or leave it out") as sock:
        (_ray_page if ray else _own_page)(call, call.cluster(), sock, browser)


def _own_page(call: Call, cluster: Cluster, sock: socket.socket, browser: bool) -> None:
    base = _base(sock)

    def make_ticket() -> str:
        with Api.of(cluster) as api:
            return str(api.post("/api/v1/tickets")["ticket"])

    _tell(call, cluster, base, f"#ticket={make_ticket()}", browser)
    call.say("the address works once, within a minute; Ctrl-C ends this")
    with suppress(KeyboardInterrupt):
        asyncio.run(forward(sock, lambda: connect(locate(cluster), cluster.name), make_ticket))


def _ray_page(call: Call, cluster: Cluster, sock: socket.socket, browser: bool) -> None:
    found = reached(cluster)
    target, token = found.variables["RAY_DASHBOARD_ADDRESS"], found.token_path.read_text().strip()
    await_answer(target, START_SECONDS)
    ticket = secrets.token_urlsafe(24)
    _tell(call, cluster, _base(sock), ticket, browser)
    call.say(f"the address works once, within {TICKET_SECONDS:g} s; Ray's dashboard stays open after that")
    asyncio.run(lead(sock, ticket, target, token, TICKET_SECONDS))


def _base(sock: socket.socket) -> str:
    return f"http://127.0.0.1:{sock.getsockname()[1]}/"


def _tell(call: Call, cluster: Cluster, base: str, secret: str, browser: bool) -> None:
    """Where the page is, and a browser that is started on it."""
    if call.json:
        output.write_json_line({"cluster": cluster.name, "url": base + secret})
    else:
        output.write_line(base + secret)
    if browser and can_tell_users_apart() and _has_screen():
        webbrowser.open(f"{base}open")  # no secret in it: others can read the browser's command line


def _has_screen() -> bool:
    return sys.stdout.isatty() and bool(os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY"))
