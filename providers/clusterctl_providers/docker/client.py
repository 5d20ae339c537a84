"""The Docker engine: where it is, whether it is still the one that the cluster lives in, and its errors in our words.

Looked for like the docker command does: the spec's `host`, DOCKER_HOST, the current context (DOCKER_CONTEXT or that of
`docker context use`), the default socket. What a cluster was made in is noted in its state directory: a shell with
another DOCKER_HOST must not take an empty engine for a cluster that has lost all its nodes, and one without the TLS variables
must find the certificates.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import requests
from clusterctl_runtime.files.private import write_private
from docker.errors import APIError, DockerException, ImageNotFound, NotFound

from clusterctl.core.errors import BadRequest, NoCapacity, ProviderError, QuotaExceeded, UnknownOutcome
from clusterctl_providers.docker.api import Api, way_of
from clusterctl_providers.docker.endpoint import Endpoint, endpoint_of_shell
from clusterctl_providers.docker.unreachable import in_words as in_words
from clusterctl_providers.docker.unreachable import unreachable

TROUBLE = (DockerException, requests.RequestException, OSError)

_NO_ROOM = (
    "no space left",
    "cannot allocate memory",
    "could not select device driver",
    "nvidia",
    "no such device",
    "resources exhausted",
)


@dataclass(frozen=True)
class Engine:
    """`api` speaks to it; `info` is what it said of itself when it was opened."""

    host: str
    api: Api
    info: Mapping[str, Any]

    @property
    def cpus(self) -> float:
        return float(self.info.get("NCPU") or 1)

    @property
    def memory(self) -> float:
        """Bytes."""
        return float(self.info.get("MemTotal") or 0)

    @property
    def is_desktop(self) -> bool:
        return "Docker Desktop" in str(self.info.get("OperatingSystem", ""))


def open_engine(setting: str, state: Path | None) -> Engine:
    """Connects and checks that it is the cluster's engine. `state` None: for no cluster in particular."""
    note = state / "engine.json" if state else None
    known = _read(note)
    endpoint = _endpoint(setting, known)
    api: Api | None = None
    way = way_of(endpoint)
    try:
        api = Api(endpoint, way)
        info: dict[str, Any] = api.info()
    except TROUBLE as error:
        raise unreachable(endpoint, error, way.said if way else "") from error
    if known and known.get("id") != info.get("ID"):
        api.close()
        raise ProviderError(
            f"the Docker engine at {endpoint.host} is not the one that this cluster was made in ({known.get('host')}): set "
            f"DOCKER_HOST to that one; if it is gone for good, remove {note} and run the command again"
        )
    noted = {**endpoint.note(), "id": info.get("ID")}
    if note and known != noted:  # also when its certificates are elsewhere now
        _write(note, noted)
    return Engine(endpoint.host, api, info)


def noted_endpoint(state: Path) -> Endpoint | None:
    """Of the engine that a cluster was made in; None where there is none yet."""
    known = _read(state / "engine.json")
    return Endpoint.noted(known) if known.get("host") else None


def _endpoint(setting: str, known: Mapping[str, Any]) -> Endpoint:
    """The one of this shell, or that which the cluster was made in: its address where they differ, and its certificates where
    this shell has none."""
    noted = Endpoint.noted(known) if known else None
    if noted is None or not noted.host:
        return endpoint_of_shell(setting)
    try:
        mine = endpoint_of_shell(setting)
    except BadRequest:
        if setting and setting != noted.host:
            raise
        return noted
    if mine.host != noted.host:
        return mine if setting else noted
    return mine if mine.tls else noted


def translated(error: Exception, what: str) -> ProviderError:
    """The error of a call as one that callers branch on; `what` is the start of its sentence: what was tried on what."""
    text = in_words(error)
    low = text.lower()
    if isinstance(error, ProviderError):
        return error
    if not isinstance(error, APIError):
        return UnknownOutcome(f"{what} had no clear outcome ({text})")
    if isinstance(error, ImageNotFound):
        return BadRequest(f"{what} failed ({text}): name an image that is there in the pool's `image`")
    if "device driver" in low or "nvidia" in low:
        return NoCapacity(f"{what} failed ({text}): install the NVIDIA container toolkit on the engine's machine")
    if any(part in low for part in _NO_ROOM):
        return NoCapacity(f"{what} failed ({text}): free disk or memory on the engine's machine")
    if "address pool" in low:
        return QuotaExceeded(
            f"{what} failed ({text}): remove unused networks (docker network prune), or name one in provider.docker.network",
            quota="Docker networks",
        )
    if "address already in use" in low or "port is already allocated" in low:
        return BadRequest(
            f"{what} failed ({text}): end the program that has the port, or name another in provider.docker.ports"
        )
    if isinstance(error, NotFound) or error.is_client_error() or "exec:" in low or "range of cpus" in low:
        return BadRequest(f"{what} was refused: {text}")
    return ProviderError(f"{what} failed: {text}")


def _read(note: Path | None) -> dict[str, Any]:
    if note is None:
        return {}
    try:
        return json.loads(note.read_text())
    except (FileNotFoundError, ValueError):
        return {}


def _write(note: Path, data: Mapping[str, Any]) -> None:
    note.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    write_private(note, json.dumps(data))
