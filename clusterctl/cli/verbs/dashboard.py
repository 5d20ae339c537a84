"""`clusterctl dashboard`."""

from __future__ import annotations

import asyncio
import os
import sys
import webbrowser
from contextlib import suppress
from typing import Annotated

import typer

from clusterctl.cli import output
from clusterctl.cli.call import Call, verb
from clusterctl.client.head.api import Api
from clusterctl.client.head.endpoint import connect, locate
from clusterctl.client.head.forward import can_tell_users_apart, forward
from clusterctl.client.local_port import listening_socket


@verb
def dashboard(
    call: Call,
    port: Annotated[int, typer.Option(min=0, max=65535, metavar="N", help="The local port; 0 is any free one.")] = 0,
    browser: Annotated[
        bool, typer.Option("--browser/--no-browser", help="Open a browser where there is a screen.")
    ] = True,
) -> None:
    """Open the cluster's web page through a local port.

    The printed address works once and for a minute. Ends on Ctrl-C.

    \b
    Example:
      clusterctl dashboard --no-browser
    """
    cluster = call.cluster()
    with listening_socket(port, "choose another --port, or leave it out") as sock:
        base = f"http://127.0.0.1:{sock.getsockname()[1]}/"

        def make_ticket() -> str:
            with Api.of(cluster) as api:
                return str(api.post("/api/v1/tickets")["ticket"])

        document = {"cluster": cluster.name, "url": f"{base}#ticket={make_ticket()}"}
        if call.json:
            output.write_json_line(document)
        else:
            output.write_line(document["url"])
        call.say("the address works once, within a minute; Ctrl-C ends this")
        if browser and can_tell_users_apart() and _has_screen():
            webbrowser.open(f"{base}open")  # no secret in it: others can read the browser's command line
        with suppress(KeyboardInterrupt):
            asyncio.run(forward(sock, lambda: connect(locate(cluster), cluster.name), make_ticket))


def _has_screen() -> bool:
    return sys.stdout.isatty() and bool(os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY"))
