"""Where a Docker engine is, and with which certificates it is spoken to: chosen as the docker command chooses."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from docker.context import ContextAPI
from docker.tls import TLSConfig

from clusterctl.core.errors import BadRequest

_CONTEXTS = "`docker context ls` shows those that there are"
DEFAULT_HOST = "unix:///var/run/docker.sock"


@dataclass(frozen=True)
class Tls:
    """Paths of files, "" for none: the CA that has signed the engine's certificate (none: those that this machine trusts), and
    a certificate of ours with its key. `verify`: whether the engine's is looked at."""

    ca: str = ""
    cert: str = ""
    key: str = ""
    verify: bool = True

    def config(self) -> TLSConfig:
        """Raises BadRequest where a file is not there."""
        for path in filter(None, (self.ca, self.cert, self.key)):
            if not Path(path).is_file():
                raise BadRequest(
                    f"{path}, with which the Docker engine is spoken to, is not there: put it back, or set DOCKER_TLS_VERIFY=1 "
                    "and DOCKER_CERT_PATH to the directory with ca.pem, cert.pem and key.pem"
                )
        pair = (self.cert, self.key) if self.cert and self.key else None
        return TLSConfig(client_cert=pair, ca_cert=self.ca or None, verify=self.verify)

    def options(self) -> list[str]:
        """For the docker command: paths of files, which are not looked at."""
        named = {"--tlscacert": self.ca, "--tlscert": self.cert, "--tlskey": self.key}
        return ["--tlsverify" if self.verify else "--tls", *(f"{name}={path}" for name, path in named.items() if path)]


@dataclass(frozen=True)
class Endpoint:
    host: str
    tls: Tls | None = None

    def options(self) -> list[str]:
        """For the docker command of any shell."""
        return ["--host", self.host, *(self.tls.options() if self.tls else [])]

    def note(self) -> dict[str, Any]:
        """JSON data that `noted` reads."""
        return {"host": self.host, "tls": asdict(self.tls) if self.tls else None}

    @classmethod
    def noted(cls, note: Mapping[str, Any]) -> Endpoint:
        """The endpoint of which `note` made this."""
        tls = note.get("tls")
        return cls(str(note.get("host") or ""), Tls(**tls) if tls else None)


def endpoint_of_shell(wanted: str = "") -> Endpoint:
    """As the docker command of this shell would have it; `wanted` goes before all. Raises BadRequest."""
    host = wanted or os.environ.get("DOCKER_HOST", "")
    if host:
        return Endpoint(host, _tls_of_shell(host))
    name = os.environ.get("DOCKER_CONTEXT") or None
    try:
        context: Any = ContextAPI.get_context(name)
    except Exception as error:  # of whatever kind its files are broken
        raise BadRequest(f"the Docker context cannot be read ({error}): {_CONTEXTS}") from error
    if context is None:
        what = (
            f"Docker has no context {name!r}, which DOCKER_CONTEXT names"
            if name
            else "Docker's current context is not there"
        )
        raise BadRequest(f"{what}: {_CONTEXTS}")
    host = str(getattr(context, "Host", "") or "").replace("http+unix://", "unix://") or DEFAULT_HOST
    tls: TLSConfig | None = context.TLSConfig
    if tls is None:
        return Endpoint(host, _tls_of_shell(host))
    cert, key = tls.cert or ("", "")
    return Endpoint(host, Tls(str(tls.ca_cert or ""), str(cert), str(key), bool(tls.verify)))


def _tls_of_shell(host: str) -> Tls | None:
    verify = bool(os.environ.get("DOCKER_TLS_VERIFY"))
    if not host.startswith("tcp://") or not (verify or os.environ.get("DOCKER_TLS")):
        return None
    home = Path.home() / ".docker"
    folder = Path(os.environ.get("DOCKER_CERT_PATH") or os.environ.get("DOCKER_CONFIG") or home).absolute()
    if not folder.is_dir():
        raise BadRequest(
            f"DOCKER_CERT_PATH names {folder}, where no directory is: it holds ca.pem, cert.pem and key.pem"
        )
    ca, cert, key = (
        str(path) if (path := folder / name).is_file() else "" for name in ("ca.pem", "cert.pem", "key.pem")
    )
    return Tls(ca if verify else "", cert, key, verify)
