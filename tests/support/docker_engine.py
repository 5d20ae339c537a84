"""A Docker engine for tests, and hosts with sshd in it.

`docker_engine` (a session fixture) gives the engine of DOCKER_HOST or the default socket when one answers. Otherwise it
starts a private `dockerd` below the cache directory, which test sessions that run at the same time share; the last of
them stops it. Everything that is made in it carries the label `clusterctl-test`, and goes away by that label.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import docker
import psutil
import pytest
from docker.errors import DockerException, ImageNotFound, NotFound

from tests.support.cluster import wait_until

LABEL = "clusterctl-test"
START_SECONDS = 60.0
BUILD = Path(__file__).with_name("docker_rootfs.sh")


@dataclass(frozen=True)
class DockerEngine:
    """`host` is its address as DOCKER_HOST has it; `client` speaks to it."""

    host: str
    client: docker.DockerClient


def cache_directory() -> Path:
    """Where the engine's data and the image's files stay from one test run to the next."""
    base = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    path = Path(base) / "clusterctl-tests"
    path.mkdir(parents=True, exist_ok=True, mode=0o700)
    return path


@pytest.fixture(scope="session")
def docker_engine() -> Iterator[DockerEngine]:
    """An engine that runs, in DOCKER_HOST too, so that what the tests start finds it."""
    before = os.environ.get("DOCKER_HOST")
    with running_engine() as engine:
        os.environ["DOCKER_HOST"] = engine.host
        try:
            yield engine
        finally:
            engine.client.close()
            os.environ.pop("DOCKER_HOST")
            if before is not None:
                os.environ["DOCKER_HOST"] = before


@contextlib.contextmanager
def running_engine() -> Iterator[DockerEngine]:
    host = os.environ.get("DOCKER_HOST") or "unix:///var/run/docker.sock"
    client = _answering(host)
    if client is not None:
        yield DockerEngine(host, client)
        return
    directory = cache_directory() / "docker"
    directory.mkdir(exist_ok=True, mode=0o700)
    host = f"unix://{directory / 'docker.sock'}"
    with (directory / "users").open("w") as users:
        with _locked(directory / "start"):
            fcntl.flock(users, fcntl.LOCK_SH)
            client = _answering(host) or _start(directory, host)
        try:
            yield DockerEngine(host, client)
        finally:
            _stop_if_last(directory, users)


def client_of(host: str) -> docker.DockerClient:
    return docker.DockerClient(base_url=host, timeout=120)


def _answering(host: str) -> docker.DockerClient | None:
    try:
        client = client_of(host)
    except DockerException:
        return None
    try:
        client.ping()
    except (DockerException, OSError):
        client.close()
        return None
    return client


def _start(directory: Path, host: str) -> docker.DockerClient:
    """Starts the private engine and waits until it answers. With iptables: containers reach each other and the host."""
    program = shutil.which("dockerd", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/local/sbin")
    if program is None:
        pytest.fail("these tests need a Docker engine, and there is no dockerd: apt-get install docker.io")
    if os.getuid() != 0:
        pytest.fail(
            "these tests start a Docker engine, which needs root: set DOCKER_HOST to one that runs, or use sudo"
        )
    for number in (
        "docker.pid",
        "exec/containerd/containerd.pid",
    ):  # of an engine that was killed: others may have it now
        (directory / number).unlink(missing_ok=True)
    log = (directory / "log").open("wb")
    with log:
        process = subprocess.Popen(
            [
                program,
                *("--data-root", str(directory / "data"), "--exec-root", str(directory / "exec")),
                *("--pidfile", str(directory / "docker.pid"), "--host", host),
            ],
            stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True,
        )  # fmt: skip
    deadline = time.monotonic() + START_SECONDS
    while (client := _answering(host)) is None:
        if process.poll() is not None or time.monotonic() > deadline:
            tail = (directory / "log").read_text(errors="replace")[-2000:]
            process.kill()
            pytest.fail(f"dockerd did not start within {START_SECONDS:.0f} s; the end of its log:\n{tail}")
        time.sleep(0.05)
    remove_labelled(client)  # what a killed session left behind
    return client


def _stop_if_last(directory: Path, users: object) -> None:
    """The engine ends with the last session that uses it, whoever started it."""
    with _locked(directory / "start"):
        try:
            fcntl.flock(users, fcntl.LOCK_EX | fcntl.LOCK_NB)  # type: ignore[arg-type]
        except BlockingIOError:
            return
        try:
            process = psutil.Process(int((directory / "docker.pid").read_text()))
            if "dockerd" in process.name():
                process.send_signal(signal.SIGTERM)
                # As a zombie it is over, too: the session that started it may still run.
                wait_until(lambda: process.status() == psutil.STATUS_ZOMBIE, START_SECONDS, "dockerd ends")
        except (FileNotFoundError, ValueError, psutil.NoSuchProcess):
            return


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[None]:
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def remove_labelled(client: docker.DockerClient, label: str = LABEL) -> None:
    """Removes the containers and networks with this label ("NAME" or "NAME=VALUE")."""
    wanted: dict[str, str | list[str] | bool] = {"label": label}
    for container in client.containers.list(all=True, filters=wanted, ignore_removed=True):
        with contextlib.suppress(NotFound):
            container.remove(force=True, v=True)
    for network in client.networks.list(filters=wanted):
        with contextlib.suppress(NotFound):
            network.remove()


# ------------------------------------------------------------ the image


def base_image(engine: DockerEngine) -> str:
    """`clusterctl-test/host:DIGEST`: Debian with sshd, sudo, Python, cron and two users, `admin` (sudo without a
    password) and `tester` (no sudo). Made from Debian packages: a minute at first, nothing afterwards."""
    digest = hashlib.sha256(BUILD.read_bytes()).hexdigest()[:12]
    name = f"{LABEL}/host:{digest}"
    with _locked(cache_directory() / "image.lock"):
        try:
            engine.client.images.get(name)
        except ImageNotFound:
            repository, _, tag = name.partition(":")
            tarball = _rootfs(digest)
            engine.client.api.import_image_from_file(
                str(tarball), repository=repository, tag=tag, changes=['CMD ["/usr/local/sbin/host"]']
            )
    return name


def _rootfs(digest: str) -> Path:
    tarball = cache_directory() / f"rootfs-{digest}.tar"
    if tarball.exists():
        return tarball
    for program, package in {"debootstrap": "debootstrap", "tar": "tar"}.items():
        if shutil.which(program, path=f"{os.environ.get('PATH', '')}:/usr/sbin") is None:
            pytest.fail(f"the test hosts' image is made with {program}, which is missing: apt-get install {package}")
    answer = subprocess.run(["/bin/sh", str(BUILD), str(tarball)], capture_output=True, text=True, check=False)
    if answer.returncode:
        pytest.fail(f"the test hosts' image could not be made:\n{(answer.stdout + answer.stderr)[-3000:]}")
    return tarball
