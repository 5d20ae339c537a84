"""Kubernetes' own programs: built once per recipe (`build.sh`), kept beside the other things that tests make once.

`python -m tests.support.kubernetes.programs` makes them beforehand.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from tests.support.docker_engine import cache_directory

BUILD = Path(__file__).with_name("build.sh")
NAMES = ("etcd", "kube-apiserver", "kube-controller-manager", "kube-scheduler", "kubelet", "pause")
CANNOT = 75  # the recipe's exit code where its parts cannot be had


class Unavailable(Exception):
    """The programs cannot be made on this machine; says why."""


def programs() -> Path:
    """The directory that holds `NAMES`. Who asks first builds for minutes, the others wait for that.

    Raises Unavailable where their parts are not to be had, and RuntimeError where they are and do not build.
    """
    directory = _directory()
    if not directory.is_dir():
        with _alone(directory.parent):
            if not directory.is_dir():
                _build(directory)
    return directory


def are_built() -> bool:
    """Whether `programs` answers at once."""
    return _directory().is_dir()


def _directory() -> Path:
    return cache_directory() / "kubernetes" / hashlib.sha256(BUILD.read_bytes()).hexdigest()[:12]


@contextlib.contextmanager
def _alone(store: Path) -> Iterator[None]:
    store.mkdir(exist_ok=True)
    with (store / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _build(directory: Path) -> None:
    """All of it or nothing: what a killed build left is thrown away."""
    for left in directory.parent.glob(f"{directory.name}.*"):
        shutil.rmtree(left, ignore_errors=True)
    part = directory.with_name(f"{directory.name}.part")
    part.mkdir()
    # Niced, because tests run meanwhile; it ends with this process.
    command = ["setpriv", "--pdeathsig", "TERM", "nice", "/bin/sh", str(BUILD), str(part)]
    done = subprocess.run(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace", check=False
    )
    said = done.stdout.strip()
    if done.returncode:
        shutil.rmtree(part)
        if done.returncode == CANNOT:
            raise Unavailable(said.splitlines()[-1])
        raise RuntimeError(f"Kubernetes could not be built; the end of what {BUILD.name} said:\n{said[-3000:]}")
    part.rename(directory)


if __name__ == "__main__":
    try:
        print(programs())
    except Unavailable as error:
        sys.exit(f"no Kubernetes for tests: {error}")
