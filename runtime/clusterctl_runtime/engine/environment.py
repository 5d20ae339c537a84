"""The engine environment: an interpreter that has a Ray which is new enough to be trusted with tokens."""

from __future__ import annotations

import json
import secrets
import subprocess
import sys
from dataclasses import dataclass

from clusterctl.core.errors import ClusterctlError

MIN_VERSION = (2, 56)
_PROBE = """
import importlib.metadata as m, json, sys
def version(name):
    try: return m.version(name)
    except m.PackageNotFoundError: return ""
print(json.dumps({"ray": version("ray"), "default": bool(version("aiohttp") and version("prometheus-client")),
                  "python": "%d.%d.%d" % sys.version_info[:3]}))
"""
INSTALL = "pip install 'clusterctl[ray]'"


class EngineUnavailable(ClusterctlError):
    """There is no Ray to use, or one that is refused; the message says how to install it, or to do without (`engine: none`)."""


@dataclass(frozen=True)
class EngineEnvironment:
    python: str
    version: str
    python_version: str


def find_environment(python: str = "") -> EngineEnvironment:
    """The environment of `python` (default: the interpreter that runs this). Takes about 50 ms: Ray itself is not imported."""
    interpreter = python or sys.executable
    try:
        answer = subprocess.run(
            [interpreter, "-I", "-c", _PROBE], capture_output=True, text=True, timeout=30, check=True
        )
        found = json.loads(answer.stdout)
    except (OSError, ValueError, subprocess.SubprocessError) as error:
        raise EngineUnavailable(
            f"the engine's interpreter {interpreter} does not run ({error}): set engine.ray.python to a Python that has Ray"
        ) from error
    check_version(found["ray"], interpreter)
    if not found["default"]:
        raise EngineUnavailable(
            f"Ray {found['ray']} of {interpreter} lacks its dashboard's libraries: {INSTALL}, or pip install 'ray[default]'"
        )
    return EngineEnvironment(interpreter, found["ray"], found["python"])


def check_version(version: str, interpreter: str) -> None:
    """Older versions serve jobs to anyone who can reach their port: they are refused, not warned about."""
    if not version:
        raise EngineUnavailable(
            f"Ray is not installed in the environment of {interpreter}: {INSTALL}, or write `engine: none` to do without it"
        )
    numbers = tuple(int("".join(c for c in part if c.isdigit()) or 0) for part in version.split(".")[:2])
    if numbers < MIN_VERSION:
        floor = ".".join(map(str, MIN_VERSION))
        raise EngineUnavailable(
            f"Ray {version} of {interpreter} is refused: before {floor} its token authentication is not dependable. "
            f"Upgrade with pip install 'ray[default]>={floor}'"
        )


def mint_token() -> str:
    """256 bits in hex: whoever has it may run code on the cluster."""
    return secrets.token_hex(32)
