"""The Docker engine: where it is, whether it is still the one that the cluster lives in, and its errors in our words.

Looked for like the docker command does: the spec's `host`, DOCKER_HOST, the current context (DOCKER_CONTEXT or that of
`docker context use`), the default socket. What a cluster was made in is noted in its state directory: a shell with
another DOCKER_HOST must not take an empty engine for a cluster that has lost all its nodes.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import docker
import requests
from docker.context import ContextAPI
from docker.errors import APIError, DockerException, ImageNotFound, NotFound
from docker.tls import TLSConfig

from clusterctl.core.errors import AuthFailed, BadRequest, NoCapacity, ProviderError, QuotaExceeded, UnknownOutcome

DEFAULT_HOST = "unix:///var/run/docker.sock"
TIMEOUT = 120  # seconds for one call; a start may wait for its turn in a busy engine
CONNECTIONS = 16  # calls at the same time
TROUBLE = (DockerException, requests.RequestException, OSError)

_NO_ROOM = (
    "no space left",
    "cannot allocate memory",
    "could not select device driver",
    "nvidia",
    "no such device",
    "resources exhausted",
)
_NOT_ALLOWED = ("permission denied", "unauthorized", "authentication required", "certificate")


@dataclass(frozen=True)
class Engine:
    """`api` speaks to it; `info` is what it said of itself when it was opened."""

    host: str
    api: docker.APIClient
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
    host, tls = _address(setting)
    if known and not setting and host != known.get("host"):  # another shell than the one that made the cluster
        host, tls = _address(str(known.get("host")))
    try:
        api = docker.APIClient(
            base_url=host, tls=tls, version="auto", timeout=TIMEOUT, max_pool_size=CONNECTIONS,
            use_ssh_client=host.startswith("ssh://"),
        )  # fmt: skip
        info: dict[str, Any] = api.info()
    except TROUBLE as error:
        raise _unreachable(host, error) from error
    if known and known.get("id") != info.get("ID"):
        api.close()
        raise ProviderError(
            f"the Docker engine at {host} is not the one that this cluster was made in ({known.get('host')}): set DOCKER_HOST "
            f"to that one; if it is gone for good, remove {note} and run the command again"
        )
    if note and not known:
        _write(note, {"host": host, "id": info.get("ID")})
    return Engine(host, api, info)


def _address(wanted: str) -> tuple[str, TLSConfig | bool]:
    """(address, TLS) as the docker command would choose them; `wanted` goes before all."""
    host = wanted or os.environ.get("DOCKER_HOST", "")
    if not host:
        context = ContextAPI.get_context(os.environ.get("DOCKER_CONTEXT") or None)
        host = str(getattr(context, "Host", "") or "").replace("http+unix://", "unix://") or DEFAULT_HOST
        if context is not None and context.TLSConfig is not None:
            return host, context.TLSConfig
    certificates = os.environ.get("DOCKER_CERT_PATH", "")
    if os.environ.get("DOCKER_TLS_VERIFY") and certificates and host.startswith("tcp://"):
        folder = Path(certificates)
        pair = (str(folder / "cert.pem"), str(folder / "key.pem"))
        return host, TLSConfig(client_cert=pair, ca_cert=str(folder / "ca.pem"), verify=True)
    return host, False


def _unreachable(host: str, error: Exception) -> ProviderError:
    text = in_words(error)
    if any(part in text.lower() for part in _NOT_ALLOWED):
        return AuthFailed(
            f"the Docker engine at {host} refuses this user ({text}): join the group docker (and log in anew), "
            "or set DOCKER_HOST to a rootless engine"
        )
    return ProviderError(
        f"no Docker engine answers at {host} ({text}): start it (systemctl start docker), install it (docker.io), "
        "or set DOCKER_HOST"
    )


def current_host() -> str:
    """Where the docker command of this shell would look."""
    return _address("")[0]


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


def in_words(error: Exception) -> str:
    """What the engine said, or what the system said of the way to it, in one line."""
    text = str(getattr(error, "explanation", "") or _systems_word(error) or error)
    return " ".join(text.split())[:500]


def _systems_word(error: BaseException) -> str:
    """ "No such file or directory", where the libraries have wrapped that again and again; "" where there is no such word."""
    todo: list[object] = [error]
    seen: list[object] = []
    while todo:
        found = todo.pop()
        if isinstance(found, tuple):
            todo += cast("tuple[object, ...]", found)
        if not isinstance(found, BaseException) or found in seen:
            continue
        seen.append(found)
        if isinstance(found, OSError) and not isinstance(found, requests.RequestException) and found.strerror:
            return found.strerror
        todo += [found.__cause__, found.__context__, getattr(found, "reason", None), *found.args]
    return ""


def _read(note: Path | None) -> dict[str, Any]:
    if note is None:
        return {}
    try:
        return json.loads(note.read_text())
    except (FileNotFoundError, ValueError):
        return {}


def _write(note: Path, data: Mapping[str, Any]) -> None:
    note.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    part = note.with_name(f".{note.name}.{os.getpid()}")
    part.write_text(json.dumps(data))
    part.replace(note)
