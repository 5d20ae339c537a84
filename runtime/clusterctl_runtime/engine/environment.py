"""The engine environment: an interpreter that has a Ray which is new enough to be trusted with tokens."""

from __future__ import annotations

import json
import pkgutil
import secrets
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field

from clusterctl.core.errors import ClusterctlError

MIN_VERSION = (2, 56)
TESTED_VERSION = "2.60.0"  # what is installed where neither the spec nor a machine says which
_SAY = "\nimport json\nprint(json.dumps(read_engine_facts()))\n"
INSTALL = "pip install 'clusterctl[ray]'"


class EngineUnavailable(ClusterctlError):
    """There is no Ray to use, or one that is refused; the message says how to install it, or to do without (`engine: none`)."""


@dataclass(frozen=True)
class EngineEnvironment:
    python: str
    version: str
    python_version: str  # "3.11.7"
    extras: tuple[str, ...] = ()  # those whose requirements are installed
    packages: Mapping[str, str] = field(default_factory=dict)  # name -> version of what is installed


def find_environment(python: str = "") -> EngineEnvironment:
    """The environment of `python` (default: the interpreter that runs this). Takes about 50 ms: Ray itself is not imported."""
    interpreter = python or sys.executable
    source = pkgutil.get_data("clusterctl_runtime.engine", "found.py")
    assert source is not None
    try:
        answer = subprocess.run(
            [interpreter, "-I", "-c", source.decode() + _SAY], capture_output=True, text=True, timeout=30, check=True
        )
        found = json.loads(answer.stdout)
    except (OSError, ValueError, subprocess.SubprocessError) as error:
        raise EngineUnavailable(
            f"the engine's interpreter {interpreter} does not run ({_short(error)}): set engine.ray.python to a Python that "
            "has Ray"
        ) from error
    check_version(found["ray"], interpreter)
    if "default" not in found["extras"]:
        raise EngineUnavailable(
            f"Ray {found['ray']} of {interpreter} lacks its dashboard's libraries: {INSTALL}, or pip install 'ray[default]'"
        )
    return EngineEnvironment(
        interpreter, found["ray"], found["python_version"], tuple(found["extras"]), found["packages"]
    )


def _short(error: Exception) -> str:
    """Without the program, which is long."""
    if isinstance(error, subprocess.CalledProcessError):
        return f"exit code {error.returncode}: {(error.stderr or '').strip()[-300:]}"
    return "no answer within 30 s" if isinstance(error, subprocess.TimeoutExpired) else str(error)


def is_new_enough(version: str) -> bool:
    """Whether this Ray checks tokens everywhere; False for ""."""
    numbers = tuple(int("".join(c for c in part if c.isdigit()) or 0) for part in version.split(".")[:2])
    return bool(version) and numbers >= MIN_VERSION


def check_version(version: str, interpreter: str) -> None:
    """Older versions serve jobs to anyone who can reach their port: they are refused, not warned about."""
    if not version:
        raise EngineUnavailable(
            f"Ray is not installed in the environment of {interpreter}: {INSTALL}, or write `engine: none` to do without it"
        )
    if not is_new_enough(version):
        floor = ".".join(map(str, MIN_VERSION))
        raise EngineUnavailable(
            f"Ray {version} of {interpreter} is refused: before {floor} its token authentication is not dependable. "
            f"Upgrade with pip install 'ray[default]>={floor}'"
        )


def mint_token() -> str:
    """256 bits in hex: whoever has it may run code on the cluster."""
    return secrets.token_hex(32)
