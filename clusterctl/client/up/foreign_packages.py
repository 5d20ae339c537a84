"""The head's packages for a machine with another Python than the one that runs here.

This machine gets them from the package index, compiled ones for that Python and processor, and sends them like its own. So
a laptop of any kind brings up heads of any kind, and their machines need neither pip nor a way to the index.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
from collections.abc import Collection, Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from clusterctl.core.errors import ClusterctlError
from clusterctl.provision.ssh.distribution import head_packages, head_requirements
from clusterctl.provision.ssh.requirements import linux_environment

# By processor and C library; as old a C library as the packages are built for.
PLATFORMS = {
    ("x86_64", "glibc"): "x86_64-manylinux2014",
    ("aarch64", "glibc"): "aarch64-manylinux2014",
    ("x86_64", ""): "x86_64-unknown-linux-musl",
    ("x86_64", "musl"): "x86_64-unknown-linux-musl",
    ("aarch64", ""): "aarch64-unknown-linux-musl",
    ("aarch64", "musl"): "aarch64-unknown-linux-musl",
}
SECONDS = 600.0


class NotForThatPython(ClusterctlError):
    """The index was asked, and has not all of them."""


def packages_for(facts: Mapping[str, Any], cache: Path, extras: tuple[str, ...] = ()) -> Path:
    """A directory with the packages that the head needs besides our own, in the versions that are installed here, or, where
    that Python has not all of these, in others that will do. `facts` are those of the machine. Kept in `cache`. Raises
    ClusterctlError where they cannot be had."""
    platform = PLATFORMS.get((facts["machine"], facts["libc"]))
    if platform is None:
        raise ClusterctlError(
            f"there are no ready-made packages for {facts['machine']} ({facts['libc'] or 'no glibc'})"
        )
    wanted = head_requirements(linux_environment(facts["python_minor"], facts["machine"]), extras)
    pins = _pinned(wanted, extras)
    key = hashlib.sha256(repr((pins, facts["python_minor"], platform)).encode()).hexdigest()[:16]
    place = cache / f"packages-{key}"
    if not place.exists():
        cache.mkdir(mode=0o700, parents=True, exist_ok=True)
        part = cache / f".{place.name}.{os.getpid()}"
        try:
            try:
                _install(pins, facts["python_minor"], platform, part, cache)
            except NotForThatPython:
                _install(sorted(map(_without_marker, wanted)), facts["python_minor"], platform, part, cache)
            _put(part, place)
        finally:
            shutil.rmtree(part, ignore_errors=True)
    return place


def _pinned(wanted: Collection[Requirement], extras: tuple[str, ...]) -> list[str]:
    """The versions that are installed here; what only that machine's Python needs has none here."""
    here = head_packages(extras)
    others = [_without_marker(one) for one in wanted if canonicalize_name(one.name) not in here]
    return sorted([*(f"{name}=={metadata.version(name)}" for name in here), *others])


def _without_marker(requirement: Requirement) -> str:
    """It holds there: an extra of ours in it would say nothing to the installer."""
    plain = Requirement(str(requirement))
    plain.marker = None
    return str(plain)


def _install(pins: list[str], python: str, platform: str, target: Path, cache: Path) -> None:
    from clusterctl_runtime.engine.index import find_uv, uv_environment

    env = uv_environment()
    command = [find_uv(cache, env), "pip", "install", "--quiet", "--no-progress"]
    command += ["--python", sys.executable, "--target", str(target), "--python-version", python]
    command += ["--python-platform", platform, "--only-binary", ":all:", *pins]
    try:
        done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=SECONDS)
    except (OSError, subprocess.SubprocessError) as error:
        raise ClusterctlError(f"packages for Python {python} could not be got here: {error}") from error
    if done.returncode:
        said = " ".join(done.stderr.split())[-400:]
        raise NotForThatPython(f"packages for Python {python} on {platform} could not be got here: {said}")


def _put(part: Path, place: Path) -> None:
    try:
        part.replace(place)
    except OSError:
        if not place.exists():  # else another process was faster
            raise
