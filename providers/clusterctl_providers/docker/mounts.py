"""What of the engine's machine a container sees: the mounts of the spec, and an engine environment. Never an engine's socket."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

from clusterctl.core.errors import BadRequest
from clusterctl_providers.docker.endpoint import DEFAULT_HOST

# Who may speak to one of these is root on the machine.
_SOCKETS = (
    "/var/run/docker.sock",
    "/run/docker.sock",
    "/run/containerd/containerd.sock",
    "/run/podman/podman.sock",
    "/var/run/crio/crio.sock",
)
_PREFIXES = "import sys; print(sys.base_prefix); print(sys.base_exec_prefix)"


def binds(settings: Mapping[str, Any], host: str, shared: str) -> list[str]:
    """Docker's "source:target:mode" of everything to mount. `shared`: a directory of engines, "" for none. Raises
    BadRequest for what must not be, or is not there."""
    wanted = [_parsed(str(text), host) for text in settings.get("mounts") or ()]
    environment = str(settings.get("engine_env") or "")
    wanted += [(path, path, "ro") for path in environment_paths(environment)] if environment else []
    if shared and host.startswith("unix://"):
        wanted.append((shared, shared, "ro"))
    return [f"{source}:{target}:{mode}" for source, target, mode in dict.fromkeys(wanted)]


def environment_paths(environment: str) -> Sequence[str]:
    """An environment's own directory and those of the Python it is made from, where an image does not have them."""
    python = Path(environment) / "bin" / "python"
    try:
        answer = subprocess.run(
            [str(python), "-I", "-c", _PREFIXES], capture_output=True, text=True, timeout=30, check=True
        )
    except (OSError, subprocess.SubprocessError) as error:
        raise BadRequest(
            f"provider.docker.engine_env: {python} does not run here ({error}): name the directory of a virtual environment "
            "with Ray in it (python -m venv DIR; DIR/bin/pip install 'clusterctl[ray]')"
        ) from error
    bases = [path for path in answer.stdout.split() if not path.startswith("/usr") and path != "/"]
    paths = [environment, *bases, os.path.realpath(environment), *(os.path.realpath(base) for base in bases)]
    return list(dict.fromkeys(str(PurePosixPath(path)) for path in paths))


def _parsed(text: str, host: str) -> tuple[str, str, str]:
    source, _, rest = text.partition(":")
    target, _, mode = rest.partition(":")
    target, mode = target or source, mode or "rw"
    if not source.startswith("/") or not target.startswith("/") or mode not in ("ro", "rw"):
        raise BadRequest(f"provider.docker.mounts: {text!r} is not SOURCE[:TARGET[:ro]] with absolute paths")
    if socket := reaches_socket(source, host):
        raise BadRequest(
            f"provider.docker.mounts: {source} would give containers the engine's socket {socket}, and with it this machine: "
            "mount the directory that the jobs need"
        )
    return source, target, mode


def reaches_socket(source: str, host: str) -> str:
    """The socket of a container engine that is `source` or below it, "" if there is none."""
    addresses = [address.removeprefix("unix://") for address in (host, DEFAULT_HOST) if address.startswith("unix://")]
    real = PurePosixPath(os.path.realpath(source))
    for socket in dict.fromkeys([*addresses, *_SOCKETS]):
        for path in {PurePosixPath(socket), PurePosixPath(os.path.realpath(socket))}:
            if path.is_relative_to(real) or path.is_relative_to(PurePosixPath(source)):
                return socket
    return ""
