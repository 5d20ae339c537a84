"""An `az` of the tests' own, on PATH in a directory that `installed` makes: of the real one it has `network bastion tunnel`,
`extension show` and `account show`, with their options, their words and what they end with.

The tunnel asks `facts` where a machine is, by its id; it takes one caller after the other, as the real one does.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import shlex
import signal
import socket
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

FACTS = "CLUSTERCTL_TEST_AZ"
_LACKS = """\
ERROR: 'bastion' is misspelled or not recognized by the system.
The command requires the extension bastion. Unable to prompt for extension install confirmation as no tty available. Run \
'az extension add --name bastion' to install it."""


@contextlib.contextmanager
def installed(directory: Path, **facts: Any) -> Iterator[Callable[..., None]]:
    """`machines`: id -> [address, port]; `extension`, `login`: whether there is one; `hosts`: ids of the Bastion hosts that have
    tunnels. Yields what changes them."""
    directory.mkdir(exist_ok=True)
    file = directory / "facts.json"
    known: dict[str, Any] = {"machines": {}, "extension": True, "login": True, "hosts": None, **facts}

    def change(**more: Any) -> None:
        known.update(more)
        file.write_text(json.dumps(known))

    change()
    program = directory / "az"
    # as the real one: a shell that runs Python, and waits for it
    argv = " ".join(map(shlex.quote, [sys.executable, "-I", __file__]))
    program.write_text(f'#!/bin/sh\n{FACTS}={shlex.quote(str(file))} {argv} "$@"\nexit $?\n')
    program.chmod(0o700)
    before = os.environ["PATH"]
    os.environ["PATH"] = f"{directory}{os.pathsep}{before}"
    try:
        yield change
    finally:
        os.environ["PATH"] = before


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="az")
    groups = parser.add_subparsers(required=True)
    extension = groups.add_parser("extension").add_subparsers(required=True).add_parser("show")
    account = groups.add_parser("account").add_subparsers(required=True).add_parser("show")
    network = groups.add_parser("network").add_subparsers(required=True)
    tunnel = network.add_parser("bastion").add_subparsers(required=True).add_parser("tunnel")
    extension.add_argument("--name", "-n", required=True)
    for one in (extension, account, tunnel):
        one.add_argument("--output", "-o", default="json")
        one.add_argument("--subscription", default="")
    for names in (["--name", "-n"], ["--resource-group", "-g"], ["--resource-port"], ["--port"]):
        tunnel.add_argument(*names, required=True)
    for name in ("--target-resource-id", "--target-ip-address", "--timeout"):
        tunnel.add_argument(name, default="")
    extension.set_defaults(run=_extension)
    account.set_defaults(run=_account)
    tunnel.set_defaults(run=_tunnel)
    return parser


def _extension(given: argparse.Namespace, facts: Mapping[str, Any]) -> None:
    if given.name != "bastion" or not facts["extension"]:
        _fail(f"The extension {given.name} is not installed.", 3)


def _account(given: argparse.Namespace, facts: Mapping[str, Any]) -> None:
    if not facts["login"]:
        _fail("Please run 'az login' to setup account.")


def _tunnel(given: argparse.Namespace, facts: Mapping[str, Any]) -> None:
    if not facts["extension"]:
        assert os.environ.get("AZURE_EXTENSION_USE_DYNAMIC_INSTALL") == "no", "it would have asked, or installed it"
        sys.exit(f"{_LACKS}")
    _account(given, facts)
    base = f"/subscriptions/{given.subscription}/resourceGroups/{given.resource_group}/providers/Microsoft.Network"
    host = f"{base}/bastionHosts/{given.name}"
    if facts["hosts"] is not None and host.lower() not in map(str.lower, facts["hosts"]):
        _fail("Bastion Host SKU must be Standard or Premium and Native Client must be enabled.")
    with socket.socket() as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(("localhost", int(given.port)))
        serving = threading.Thread(target=_serve, args=(listener, given, facts), daemon=True)
        serving.start()
        for line in (f"Opening tunnel on port: {given.port}", f"Tunnel is ready, connect on port {given.port}"):
            print(f"WARNING: {line}", file=sys.stderr, flush=True)
        print("WARNING: Ctrl + C to close", file=sys.stderr, flush=True)
        signal.signal(signal.SIGINT, lambda *_: sys.exit(0))
        while serving.is_alive():
            serving.join(0.2)


def _serve(listener: socket.socket, given: argparse.Namespace, facts: Mapping[str, Any]) -> None:
    listener.listen(100)
    while True:
        client, _ = listener.accept()
        place = {key.lower(): value for key, value in facts["machines"].items()}.get(given.target_resource_id.lower())
        if place is None:
            print("Exception in thread Thread-1 (_start_tunnel):\nmsrestazure.azure_exceptions.CloudError: Resource not found",
                  file=sys.stderr, flush=True)  # fmt: skip
            return
        with client, socket.create_connection((place[0], place[1] or int(given.resource_port))) as machine:
            back = threading.Thread(target=_pass_on, args=(machine, client), daemon=True)
            back.start()
            _pass_on(client, machine)
            back.join()


def _pass_on(source: socket.socket, target: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while data := source.recv(4096):
            target.sendall(data)
    for end in (source, target):
        with contextlib.suppress(OSError):
            end.shutdown(socket.SHUT_RDWR)


def _fail(text: str, code: int = 1) -> None:
    print(f"ERROR: {text}", file=sys.stderr)
    sys.exit(code)


if __name__ == "__main__":
    words = _parser().parse_args()
    words.run(words, json.loads(Path(os.environ[FACTS]).read_text()))
