"""The real `promtool` and `prometheus`, from Debian's package, which is unpacked below the cache directory and not installed: an
installed one would start a service of this machine. The first time takes some seconds and the network, nothing afterwards."""

from __future__ import annotations

import fcntl
import shutil
import subprocess
import tempfile
from pathlib import Path

import pytest

from tests.support.docker_engine import cache_directory

PACKAGE = "prometheus"


def promtool() -> str:
    """The path of the program that checks metrics, rules and configurations."""
    return str(_unpacked() / "usr/bin/promtool")


def prometheus() -> str:
    """The path of the server. Its console templates and libraries are beside it, as in the package."""
    return str(_unpacked() / "usr/bin/prometheus")


def _unpacked() -> Path:
    """Where the package lies whole. Fails the test where it cannot be had."""
    place = cache_directory() / "prometheus"
    with (cache_directory() / "prometheus.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not place.exists():
            part = Path(tempfile.mkdtemp(prefix="prometheus.", dir=cache_directory()))
            try:
                _download(part)
                (part / "root").rename(place)
            finally:
                shutil.rmtree(part, ignore_errors=True)
    return place


def _download(part: Path) -> None:
    """Leaves its files below `part`/root."""
    answers = [_run(part, "apt-get", "-q", "download", PACKAGE)]
    if answers[-1].returncode:  # a machine that has not fetched the lists of packages yet
        answers += [_run(part, "apt-get", "-q", "update"), _run(part, "apt-get", "-q", "download", PACKAGE)]
    found = list(part.glob("*.deb"))
    if found:
        answers.append(_run(part, "dpkg", "-x", str(found[0]), str(part / "root")))
    if not found or answers[-1].returncode:
        told = "\n".join(answer.stdout + answer.stderr for answer in answers)
        pytest.fail(f"these tests need Debian's package {PACKAGE}, which could not be had:\n{told[-3000:]}")


def _run(directory: Path, *argv: str) -> subprocess.CompletedProcess[str]:
    try:
        return subprocess.run(
            argv, cwd=directory, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=300, check=False
        )
    except (OSError, subprocess.SubprocessError) as error:
        return subprocess.CompletedProcess(argv, 1, "", str(error))
