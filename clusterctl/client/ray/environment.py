"""What Ray's own tools need of a shell to speak to a cluster: variables, and how a shell is told of them.

RAY_ADDRESS                 the GCS: `ray status`, `ray.init()` on a machine of the cluster
RAY_API_SERVER_ADDRESS      Jobs and state API: `ray job ...`, `ray list ...`
RAY_DASHBOARD_ADDRESS       `serve ...`, and the dashboard in a browser
RAY_AUTH_TOKEN_PATH         a file with the token, which is in no variable and no argument
CLUSTERCTL_RAY_CLIENT       for `ray.init(...)` on this machine
"""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from clusterctl_runtime.files.private import write_private

from clusterctl.client.head.api import Api
from clusterctl.client.head.companion import Companion
from clusterctl.client.registry import Cluster
from clusterctl.core.errors import ClusterctlError

PROGRAM = "clusterctl.client.ray.ways"
START_SECONDS = 30.0
UNWANTED = ("RAY_AUTH_TOKEN", "RAY_JOB_HEADERS", "RAY_NAMESPACE")  # the first would win over the file
SHELLS = ("sh", "fish")
_LOOK = "import importlib.metadata as m, platform as p; print(m.version('ray'), p.python_version())"


@dataclass(frozen=True)
class Reached:
    """Ray of one cluster, as this machine reaches it. `version` and `python` (its version) are the cluster's."""

    variables: Mapping[str, str]
    version: str
    python: str

    @property
    def token_path(self) -> Path:
        return Path(self.variables["RAY_AUTH_TOKEN_PATH"])

    def document(self) -> dict[str, Any]:
        """As `--json` has it."""
        return {"variables": dict(self.variables), "unset": [*UNWANTED], "version": self.version, "python": self.python}

    def whole(self, inherited: Mapping[str, str]) -> dict[str, str]:
        """An environment for a program."""
        return {**{k: v for k, v in inherited.items() if k not in UNWANTED}, **self.variables}


def reached(cluster: Cluster) -> Reached:
    """Starts the ways there where none run. Raises ClusterctlError, Refused while Ray is not ready."""
    with Api.of(cluster) as api:
        access = api.get("/api/v1/engine/access")
    token = cluster.directory / "ray.token"
    write_private(token, str(access["token"]))
    ports = _ports(ways(cluster))
    served = f"http://127.0.0.1:{ports['dashboard']}"
    variables = {
        "RAY_ADDRESS": f"127.0.0.1:{ports['gcs']}",
        "RAY_API_SERVER_ADDRESS": served,
        "RAY_DASHBOARD_ADDRESS": served,
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN_PATH": str(token),
        "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",  # else Ray takes this machine's own address for 127.0.0.1
        "CLUSTERCTL_RAY_CLIENT": f"ray://127.0.0.1:{ports['client']}",
        **_around_proxies(os.environ),
    }
    return Reached(variables, str(access["version"]), str(access["python"]))


def ways(cluster: Cluster) -> Companion:
    """The process that holds the ports."""
    return Companion(cluster.directory, PROGRAM, "ray")


def _ports(companion: Companion) -> dict[str, int]:
    found = companion.await_living(START_SECONDS)
    return {name: int(port) for name, port in found["ports"].items()}


def _around_proxies(environment: Mapping[str, str]) -> dict[str, str]:
    """Where this shell has a proxy, it is none for 127.0.0.1."""
    names = {name.lower() for name in environment}
    if not names & {"http_proxy", "all_proxy", "grpc_proxy"}:
        return {}
    given = environment.get("no_proxy") or environment.get("NO_PROXY") or ""
    words = [word for word in given.split(",") if word]
    joined = ",".join(words if "127.0.0.1" in words else [*words, "127.0.0.1"])
    return {"no_proxy": joined, "NO_PROXY": joined}


def render_shell(found: Reached, shell: str) -> str:
    """Commands for a shell of Bourne's family, or for fish."""
    if shell == "fish":
        lines = [f"set -e {name};" for name in UNWANTED]
        lines += [f"set -gx {name} {_fish(value)};" for name, value in found.variables.items()]
    else:
        lines = [f"unset {' '.join(UNWANTED)}"]
        lines += [f"export {name}={shlex.quote(value)}" for name, value in found.variables.items()]
    return "\n".join(lines)


def _fish(text: str) -> str:
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"


def unlike(found: Reached, path: str) -> str:
    """What does not fit of the `ray` on this PATH, with what to do; "" where nothing is wrong."""
    install = f"pip install 'ray[default]=={found.version}' with Python {_minor(found.python)}"
    program = shutil.which("ray", path=path)
    if program is None:
        return f"there is no `ray` on the PATH: {install}"
    try:
        first = Path(program).read_bytes().split(b"\n", 1)[0].decode()
        interpreter = shlex.split(first.removeprefix("#!"))[:1] if first.startswith("#!") else []
        said = subprocess.run([*interpreter, "-I", "-c", _LOOK], capture_output=True, text=True, timeout=30, check=True)
        version, python = said.stdout.split()
    except (OSError, ValueError, subprocess.SubprocessError):
        return ""  # another kind of program: Ray itself tells what does not fit
    if version != found.version:
        return f"{program} is of Ray {version}, and the cluster has {found.version}, which Ray refuses: {install}"
    if _minor(python) != _minor(found.python) and found.python:
        return (
            f"{program} runs on Python {python}, and the cluster on {found.python}: the command line works, and "
            f"ray.init(...) is refused by Ray: {install}"
        )
    return ""


def _minor(version: str) -> str:
    return ".".join(version.split(".")[:2])


def run(found: Reached, argv: list[str]) -> int:
    """The program's exit code. Raises ClusterctlError where it cannot be begun."""
    try:
        return subprocess.run(argv, env=found.whole(os.environ)).returncode
    except OSError as error:
        raise ClusterctlError(f"{argv[0]} cannot be run here: {error.strerror}") from error
