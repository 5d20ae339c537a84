"""Ray Serve, spoken to over its REST interface on Ray's dashboard, by the engine's helper: that runs where the dashboard
listens."""

from __future__ import annotations

import json
import re
import socket
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol
from urllib.parse import urlencode

from clusterctl.core.errors import ClusterctlError
from clusterctl.core.serving import RUNNING, Told
from clusterctl_runtime.engine.client import EngineClient, EngineRefused

PATH = "/api/serve/applications/"
APPLY_SECONDS = 90.0  # Serve's controller may have to be started first
OURS = re.compile(r"(?P<name>.+)~(?P<number>[0-9]+)")
NO_SERVE = (
    "Ray Serve is not in the environment of this cluster's Ray: write `extras: [serve]` below `engine: {ray: ...}` in the spec, "
    "and launch the cluster with that"
)
PORT = 8000  # of Serve's HTTP proxy
MOST_TEXT = 4000  # characters of what Ray says in one go
_FAULT = re.compile(r"^(?P<path>[a-z_]+(?:\.[\w\-~]+)*)\n  (?P<text>.*?)(?: \[type=.*)?$", re.MULTILINE)


class ServeRefused(ClusterctlError):
    """Serve does not take what it was asked for: trying again is of no use. `faults`: (dotted path in its config, message)."""

    def __init__(self, message: str, faults: Sequence[tuple[str, str]] = ()) -> None:
        super().__init__(message)
        self.faults = tuple(faults)


class ServeSilent(ClusterctlError):
    """Serve, or Ray, does not answer now."""


class RayEngine(Protocol):
    def helper(self) -> EngineClient: ...

    def dashboard(self) -> str: ...


class RayServe:
    """`engine()`: Ray of this cluster, which may not be ready (Refused)."""

    def __init__(self, engine: Callable[[], RayEngine]) -> None:
        self._engine = engine

    async def details(self) -> dict[str, Any]:
        """What Serve has: its schema's ServeInstanceDetails, {} where it has never run. Raises ServeRefused, ServeSilent."""
        return json.loads(await self._ask("GET", PATH))

    async def apply(self, config: dict[str, Any]) -> None:
        """Serve has these applications from now on, and no others of those it was given this way. Returns before they run."""
        await self._ask("PUT", PATH, config, APPLY_SECONDS)

    async def shut_down(self) -> None:
        """Serve ends, with all that it has."""
        await self._ask("DELETE", PATH, None, APPLY_SECONDS)

    async def log(self, **which: Any) -> str:
        """The end of a file among Ray's logs, by Ray's own words for which. Raises ServeSilent where there is none (any more)."""
        return await self._ask("GET", f"/api/v0/logs/file?{urlencode(which)}")

    async def _ask(self, method: str, path: str, body: Any = None, seconds: float = 20.0) -> str:
        engine = self._engine()
        try:
            status, text = await engine.helper().http(method, engine.dashboard() + path, body, seconds)
        except EngineRefused as error:
            raise ServeSilent(f"Serve cannot be asked now ({error})") from error
        if status < 300:
            return text
        if status == 501:
            raise ServeRefused(NO_SERVE)
        if status == 400:
            faults = faults_of(text)
            what = "; ".join(f"{path}: {message}" for path, message in faults) or _last_lines(text)
            raise ServeRefused(f"Serve does not take it: {what}", faults)
        raise ServeSilent(
            f"Ray's dashboard answered {method} {path.partition('?')[0]} with {status}: {_last_lines(text)}"
        )


def default_options(shared: bool) -> dict[str, Any]:
    """Of a Serve that is about to be started: one proxy, on the head node, for that node's own programs. `shared`: other clusters
    have the same ports, so the first free one is taken. More proxies on one machine would share a port, and requests would
    reach those that are not ready yet or about to go."""
    port = _free_port() if shared else PORT
    return {"proxy_location": "HeadOnly", "http_options": {"host": "127.0.0.1", "port": port}}


def _free_port() -> int:
    for port in range(PORT, PORT + 100):
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
    return PORT


def faults_of(text: str) -> list[tuple[str, str]]:
    """(dotted path, message) of what Serve's own schema found wrong."""
    return [(match["path"], match["text"]) for match in _FAULT.finditer(text)]


def told_of(details: Mapping[str, Any]) -> dict[str, Told]:
    """By the name in Serve, of the applications that it was given by REST and that it does not delete already."""
    rows = details.get("applications") or {}
    return {
        name: Told(
            status=str(row.get("status")),
            message=_last_lines(str(row.get("message") or "")),
            route_asked=(row.get("deployed_app_config") or {}).get("route_prefix"),
            route=row.get("route_prefix"),
            deployments={
                deployment: _last_lines(str(one.get("message") or ""))
                for deployment, one in (row.get("deployments") or {}).items()
                if row.get("status") != RUNNING
            },
        )
        for name, row in rows.items()
        if row.get("source") == "declarative" and row.get("status") != "DELETING"
    }


def foreign(details: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Configs of applications that somebody else has given to Serve by REST: it deletes what it is not told again."""
    return [
        row["deployed_app_config"]
        for name, row in (details.get("applications") or {}).items()
        if row.get("source") == "declarative"
        and row.get("status") != "DELETING"
        and row.get("deployed_app_config")
        and not OURS.fullmatch(name)
    ]


def _last_lines(text: str) -> str:
    """The end, where Python's tracebacks say what it was."""
    text = text.strip()
    return text if len(text) <= MOST_TEXT else f"...{text[-MOST_TEXT:]}"
