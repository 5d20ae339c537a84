"""The entry of services as the head has it: what it is to do is kept here, and said to its process whenever that is new.

The process is started with the first service. It goes on for a while without a head, so that requests do not notice when this
daemon is started again: the next one's process listens beside it, and then it is told to end what is open and go.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import socket
import subprocess
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil

from clusterctl.provision import isolated
from clusterctl_runtime.backoff import Backoff
from clusterctl_runtime.entry.target import Target
from clusterctl_runtime.files.private import write_private

log = logging.getLogger(__name__)
FILE = "entry.json"
LINE_BYTES = 16 * 1024 * 1024


@dataclass(frozen=True)
class TargetState:
    """`healthy` is None until it was well once or has failed; `open` are the requests that it is answering."""

    open: int = 0
    healthy: bool | None = None
    why: str = ""


@dataclass(frozen=True)
class Public:
    """Where others than this machine's programs reach services: with TLS by these two files."""

    host: str
    port: int
    certificate: Path
    key: Path


@dataclass
class _Route:
    targets: tuple[Target, ...]
    tokens: tuple[str, ...]
    number: int
    confirmed: int = 0
    states: dict[str, TargetState] = field(default_factory=dict)


class Entry:
    """`set` says where requests of a name go from now on; `open_requests` and `state` say what is known of a target. `changed` is
    told the name of which something has changed. Targets may be of any kind: replicas, or a proxy of Serve's."""

    def __init__(self, directory: Path, public: Callable[[], Public | None], changed: Callable[[str], None]) -> None:
        self._directory, self._public, self._changed = directory, public, changed
        self._routes: dict[str, _Route] = {}
        self._number = 0
        self._wanted = asyncio.Event()
        self._orders: asyncio.StreamWriter | None = None  # to the process that there is
        self._before: psutil.Process | None = _recorded(directory)
        self.port = 0  # on loopback; 0 while it does not listen
        self.public_port: int | None = None
        self.trouble = ""

    # ------------------------------------------------------------ what others say and ask

    def set(self, name: str, targets: Sequence[Target], tokens: Sequence[str]) -> None:
        """All at once: a request goes to one of these, or was with its target before. `tokens` (sha256, hex) let callers in."""
        known = self._routes.get(name)
        if known is not None and (known.targets, known.tokens) == (tuple(targets), tuple(tokens)):
            return
        self._number += 1
        states = known.states if known else {}
        self._routes[name] = _Route(tuple(targets), tuple(tokens), self._number, 0, states)
        self._say_route(name)
        self._wanted.set()

    def drop(self, name: str) -> None:
        """Nobody is let in under this name any more."""
        if self._routes.pop(name, None) is not None:
            self._say({"t": "drop", "name": name})

    def state(self, name: str, target_id: str) -> TargetState:
        """As far as it is known."""
        route = self._routes.get(name)
        return route.states.get(target_id, TargetState()) if route else TargetState()

    def open_requests(self, name: str, target_id: str) -> int | None:
        """None while that is not known: the entry has not confirmed the last `set`, or an earlier one still ends what it has
        open. Of a target that was taken out, 0 means that it will have none again."""
        route = self._routes.get(name)
        if route is None or route.confirmed != route.number or self._earlier_lives():
            return None
        return route.states.get(target_id, TargetState()).open

    def listen_anew(self) -> None:
        """Where others reach services has changed."""
        self._say_listen()

    # ------------------------------------------------------------ its process

    async def run(self) -> None:
        """Keeps the process, from the first service on, until it is cancelled."""
        await self._wanted.wait()
        pauses = Backoff(0.1, 5.0)
        while True:
            try:
                await self._live(pauses)
            except Exception:
                log.exception("the entry of services")
            self.port = 0
            await asyncio.sleep(pauses.next())

    def close(self, for_good: bool) -> None:
        """`for_good`: the cluster ends. Else the process goes on until the next head has one."""
        if for_good:
            self._say({"t": "end"})
            if self._earlier_lives() and self._before is not None:
                with suppress(psutil.Error):
                    self._before.terminate()
            (self._directory / FILE).unlink(missing_ok=True)

    async def _live(self, pauses: Backoff) -> None:
        ours, theirs = socket.socketpair()
        with theirs:
            process = await asyncio.to_thread(_start, self._directory, theirs)
        answers, self._orders = await asyncio.open_connection(sock=ours, limit=LINE_BYTES)
        try:
            self._say_listen()
            for name in self._routes:
                self._say_route(name)
            while line := await answers.readline():
                message = json.loads(line)
                if message["t"] == "listens":
                    self._listens(process.pid, message)
                    pauses.reset()
                else:
                    self._told(message)
        finally:
            self._orders.close()
            self._orders = None
        log.warning("the entry of services ended with code %s", await asyncio.to_thread(process.wait))

    def _listens(self, pid: int, message: dict[str, Any]) -> None:
        self.port, self.public_port, self.trouble = message["port"], message["public"], message["error"]
        if self._before is not None:
            with suppress(psutil.Error):
                self._before.terminate()
        record = {"pid": pid, "created": psutil.Process(pid).create_time(), "port": self.port}
        write_private(self._directory / FILE, json.dumps(record))
        for name in self._routes:
            self._changed(name)

    def _told(self, message: dict[str, Any]) -> None:
        name = message["name"]
        route = self._routes.get(name)
        if route is None:
            return
        if message["t"] == "set":
            if message["number"] == route.number:
                route.confirmed = route.number
                route.states = {key: TargetState(**state) for key, state in message["targets"].items()}
                self._changed(name)
            return
        target = message["id"]
        before = route.states.get(target, TargetState())
        now = route.states[target] = TargetState(message["open"], message["healthy"], message["why"])
        leaves = all(one.id != target for one in route.targets)
        if leaves and not now.open:
            del route.states[target]
        if (before.healthy, before.why) != (now.healthy, now.why) or leaves:
            self._changed(name)

    def _say_listen(self) -> None:
        port, public = _port_of(self._directory), _document(self._public())
        self._say({"t": "listen", "port": port, "public": public, "shares": self._earlier_lives()})

    def _say_route(self, name: str) -> None:
        route = self._routes[name]
        route.confirmed = 0
        targets = [target.to_json() for target in route.targets]
        self._say({"t": "set", "name": name, "number": route.number, "targets": targets, "tokens": route.tokens})

    def _say(self, message: dict[str, Any]) -> None:
        """To a process that there is; one that comes is told everything."""
        if self._orders is not None:
            self._orders.write(json.dumps(message).encode() + b"\n")

    def _earlier_lives(self) -> bool:
        if self._before is not None and not _lives(self._before):
            self._before = None
        return self._before is not None


def _start(directory: Path, orders: socket.socket) -> subprocess.Popen[bytes]:
    errors = os.open(directory / "entry.log", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    try:
        argv = isolated.module("clusterctl_runtime.entry")
        return subprocess.Popen(
            argv, stdin=orders.fileno(), stdout=orders.fileno(), stderr=errors, start_new_session=True
        )
    finally:
        os.close(errors)


def _lives(process: psutil.Process) -> bool:
    with suppress(psutil.Error):
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    return False


def _recorded(directory: Path) -> psutil.Process | None:
    """The entry that an earlier head had, where it lives."""
    try:
        record = json.loads((directory / FILE).read_text())
        process = psutil.Process(int(record["pid"]))
        return process if abs(process.create_time() - float(record["created"])) < 1 else None
    except (OSError, ValueError, KeyError, psutil.Error):
        return None


def _port_of(directory: Path) -> int:
    """The one of last time, so that what was told of it stays true."""
    with suppress(OSError, ValueError, KeyError):
        return int(json.loads((directory / FILE).read_text())["port"])
    return 0


def _document(public: Public | None) -> dict[str, Any] | None:
    if public is None:
        return None
    return {"host": public.host, "port": public.port, "certificate": str(public.certificate), "key": str(public.key)}
