"""A Prometheus of this machine as a child of this process: found, started on 127.0.0.1, awaited, and ended with us."""

from __future__ import annotations

import contextlib
import http.client
import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

from clusterctl_runtime.backoff import Backoff, wait_until

from clusterctl.client.local_port import listening_socket
from clusterctl.core.errors import ClusterctlError
from clusterctl.provision import isolated

TIED = "clusterctl.client.monitoring.tied"
KEPT_DAYS, KEPT_SIZE = 15, "2GB"  # of figures, whichever is less
OLDEST = (2, 28)  # knows HTTP service discovery
START_SECONDS = 60.0
END_SECONDS = 15.0
_VERSION = re.compile(r"prometheus, version (\d+)\.(\d+)")
HOW_TO_GET = (
    "install it (Debian, Ubuntu: `apt install prometheus`, which also starts one as a service of this machine; macOS: "
    "`brew install prometheus`), or unpack one from https://prometheus.io/download/ and say --prometheus PATH"
)


def found(path: str) -> str:
    """The program at `path`, or on PATH where that is "". Raises ClusterctlError, which says how to get one."""
    program = shutil.which(path or "prometheus")
    if program is None:
        what = f"no program is at {path}" if path else "there is no `prometheus` on the PATH"
        raise ClusterctlError(f"{what}: {HOW_TO_GET}")
    try:
        said = subprocess.run(
            [program, "--version"], capture_output=True, text=True, timeout=30, stdin=subprocess.DEVNULL
        )
    except (OSError, subprocess.SubprocessError, UnicodeDecodeError) as error:
        raise ClusterctlError(f"{program} cannot be run here ({error}): {HOW_TO_GET}") from error
    version = _VERSION.search(said.stdout + said.stderr)
    if version is None:
        raise ClusterctlError(f"{program} does not say that it is a Prometheus: {HOW_TO_GET}")
    if (int(version[1]), int(version[2])) < OLDEST:
        oldest = ".".join(map(str, OLDEST))
        raise ClusterctlError(
            f"{program} is Prometheus {version[1]}.{version[2]}, and {oldest} is needed: {HOW_TO_GET}"
        )
    return str(Path(program).absolute())


@contextlib.contextmanager
def running(program: str, directory: Path, port: int) -> Iterator[subprocess.Popen[bytes]]:
    """It serves on 127.0.0.1:`port` in the block, by `directory`/prometheus.yml, with its data and its log beside that. It ends
    with the block and, on Linux, with this process. Raises ClusterctlError with the end of its log where it does not start."""
    listening_socket(port, "choose another --port").close()  # a sentence of ours for what is found at once
    log = directory / "prometheus.log"
    process = _started(program, directory, port, log)
    try:
        _await_ready(process, port, log)
        yield process
    finally:
        _end(process)


def ended_text(process: subprocess.Popen[bytes], directory: Path) -> str:
    """How it ended by itself."""
    return f"Prometheus ended with code {process.wait()}.{_tail(directory / 'prometheus.log')}"


def _started(program: str, directory: Path, port: int, log: Path) -> subprocess.Popen[bytes]:
    arguments = [
        program,
        f"--config.file={directory / 'prometheus.yml'}",
        f"--storage.tsdb.path={directory / 'data'}",
        f"--storage.tsdb.retention.time={KEPT_DAYS}d",
        f"--storage.tsdb.retention.size={KEPT_SIZE}",
        f"--web.listen-address=127.0.0.1:{port}",
    ]
    output = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    try:
        return subprocess.Popen(
            [*isolated.module(TIED), str(os.getpid()), *arguments],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            cwd=directory,
            umask=0o077,
            start_new_session=True,  # Ctrl-C is for us, who end it in order
        )
    finally:
        os.close(output)


def _await_ready(process: subprocess.Popen[bytes], port: int, log: Path) -> None:
    pauses = Backoff(0.05, 0.5, seconds=START_SECONDS)
    if not wait_until(lambda: process.poll() is not None or _is_ready(port), pauses):
        raise ClusterctlError(f"Prometheus does not serve after {START_SECONDS:g} s.{_tail(log)}")
    if process.poll() is not None:
        raise ClusterctlError(f"Prometheus did not start: it ended with code {process.returncode}.{_tail(log)}")


def _is_ready(port: int) -> bool:
    try:
        with closing(http.client.HTTPConnection("127.0.0.1", port, timeout=5.0)) as connection:
            connection.request("GET", "/-/ready")
            return connection.getresponse().status == http.HTTPStatus.OK
    except (OSError, http.client.HTTPException):
        return False


def _end(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(END_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def _tail(log: Path, size: int = 1500) -> str:
    lines = log.read_bytes()[-size:].decode(errors="replace").splitlines()[-8:]
    if not lines:
        return " It said nothing."
    return f" The end of {log}:\n" + "\n".join(f"  {line}" for line in lines)
