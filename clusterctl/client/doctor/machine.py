"""What `doctor` looks at on this machine. Reads only; each check is one line with its fix."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import resource
import shutil
import socket
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from clusterctl.client.doctor.check import Check
from clusterctl.client.doctor.providers import provider_checks
from clusterctl.client.head.api import Api
from clusterctl.client.registry import Cluster, Registry
from clusterctl.core.errors import ClusterctlError

if TYPE_CHECKING:
    from clusterctl.spec.model import ClusterSpec

GIB = 2**30
RAY_FLOOR = (2, 56)  # older ones answer without a token


def diagnose(registry: Registry, *specs: ClusterSpec) -> list[Check]:
    """What was looked at, each with what to do: this machine, the clouds that `specs` or the clusters known here use, and the
    heads and hosts of those clusters."""
    return [
        _python(),
        _home(registry.home),
        _disk(registry.home),
        _shared_memory(),
        _open_files(),
        _loopback(),
        check_ray(),
        _program("ssh", "for ssh hosts: install OpenSSH's client (apt install openssh-client)"),
        _ssh_library(),
        *provider_checks(registry, *specs),
        *(_head(cluster) for cluster in registry.all()),
        *(check for cluster in registry.all() if cluster.on_hosts for check in _hosts(cluster)),
    ]


def _python() -> Check:
    found = f"{platform.python_version()} at {sys.executable}"
    return Check("python", sys.version_info >= (3, 10), found, "use Python 3.10 or newer", needed=True)


def _home(home: Path) -> Check:
    """The home may be missing (the first `up` makes it), but not be writable by others."""
    fix = f"make {home} yours alone: chmod 700 {home}"
    existing = next(path for path in (home, *home.parents) if path.exists())
    if not os.access(existing, os.W_OK):
        return Check(
            "home", False, f"{existing} is not writable", "set CLUSTERCTL_HOME to a directory of yours", needed=True
        )
    if existing != home:
        return Check("home", True, f"{home} (not there yet)", "", needed=True)
    status = home.stat()
    private = status.st_uid == os.getuid() and not status.st_mode & 0o077
    return Check("home", private, f"{home}, mode {status.st_mode & 0o777:o}", fix, needed=True)


def _disk(home: Path) -> Check:
    existing = next(path for path in (home, *home.parents) if path.exists())
    free = shutil.disk_usage(existing).free
    return Check(
        "disk", free > GIB, f"{free / GIB:.1f} GiB free at {existing}", "free at least 1 GiB there", needed=True
    )


def _shared_memory() -> Check:
    """The engine keeps its objects in shared memory."""
    path = Path("/dev/shm")  # noqa: S108
    if not path.is_dir():
        return Check("shared memory", sys.platform == "darwin", "no /dev/shm", "mount a tmpfs at /dev/shm")
    size = shutil.disk_usage(path).total
    return Check(
        "shared memory", size > GIB // 2, f"{size / GIB:.1f} GiB", "give /dev/shm at least 0.5 GiB (docker: --shm-size)"
    )


def _open_files() -> Check:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    unlimited = soft == resource.RLIM_INFINITY
    return Check(
        "open files",
        unlimited or soft >= 4096,
        f"{'unlimited' if unlimited else soft} (hard {hard})",
        "raise it: ulimit -n 65536",
    )


def _loopback() -> Check:
    try:
        with socket.socket() as sock:
            sock.bind(("127.0.0.1", 0))
            port = sock.getsockname()[1]
    except OSError as error:
        return Check(
            "ports",
            False,
            f"127.0.0.1: {error.strerror}",
            "bring the loopback interface up: ip link set lo up",
            needed=True,
        )
    return Check("ports", True, f"127.0.0.1 has free ports ({port})", "", needed=True)


def check_ray() -> Check:
    """Whether this environment has a Ray that can be trusted with tokens; Ray itself is not imported."""
    fix = "for `engine: ray`: pip install 'clusterctl[ray]'; or write `engine: none`"
    try:
        version = importlib.metadata.version("ray")
    except importlib.metadata.PackageNotFoundError:
        return Check("ray", False, "not installed in this environment", fix)
    numbers = tuple(int(part) for part in version.split(".")[:2] if part.isdigit())
    return Check(
        "ray",
        numbers >= RAY_FLOOR,
        version,
        f"Ray {'.'.join(map(str, RAY_FLOOR))} or newer: pip install -U 'clusterctl[ray]'",
    )


def _program(name: str, fix: str) -> Check:
    path = shutil.which(name)
    return Check(name, path is not None, path or "not on PATH", fix)


def _ssh_library() -> Check:
    """What `provider: ssh` needs here, and whether the user's SSH configuration can be understood."""
    fix = "for `provider: ssh`: pip install 'clusterctl[ssh]'"
    try:
        version = importlib.metadata.version("paramiko")
    except importlib.metadata.PackageNotFoundError:
        return Check("paramiko", False, "not installed in this environment", fix)
    from clusterctl.provision.ssh.target import Config

    try:
        Config()
    except ClusterctlError as error:
        return Check("paramiko", False, str(error), "mend ~/.ssh/config")
    return Check("paramiko", True, version, "")


def _hosts(cluster: Cluster) -> list[Check]:
    """The hosts of an ssh cluster that are not connected, each with why; one line when all are."""
    try:
        with Api.of(cluster) as api:
            hosts = api.get("/api/v1/hosts")["hosts"]
    except ClusterctlError:
        return []  # its head's own check says so
    fix = f"clusterctl up {cluster.spec_path or 'SPEC'}: it mends what it can and says the rest"
    bad = [Check(f"host {host['id']}", False, host["reason"], fix) for host in hosts if not host["connected"]]
    return bad or [Check(f"hosts of {cluster.name}", True, f"all {len(hosts)} are connected", "")]


def _head(cluster: Cluster) -> Check:
    name = f"cluster {cluster.name}"
    try:
        with Api.of(cluster) as api:
            return Check(name, True, f"its head answers (version {api.get('/healthz').get('version')})", "")
    except ClusterctlError as error:
        return Check(
            name, False, str(error), f"clusterctl up {cluster.spec_path or 'SPEC'}, or clusterctl down {cluster.name}"
        )
