"""Speaking to an engine through `ssh HOST docker system dial-stdio`, as the docker command does.

Each connection is one end of a socket pair whose other end is ssh's stdin and stdout. So it is a socket like any other: it
can be polled, times out, is known to be closed when it is, and carries the two-way streams of `exec`.
"""

from __future__ import annotations

import os
import shlex
import socket
import subprocess
import tempfile
import threading
from typing import Any
from urllib.parse import urlsplit

from docker.transport.basehttpadapter import BaseHTTPAdapter
from urllib3.connection import HTTPConnection
from urllib3.connectionpool import HTTPConnectionPool

CONNECT_SECONDS = 30
SCHEME = "ssh://"
_NOT_FOR_SSH = ("LD_LIBRARY_PATH", "SSL_CERT_FILE")  # of an environment that was made for this program


def ssh_argv(host: str) -> list[str]:
    """For an address such as ssh://me@build.lab:2222."""
    address = urlsplit(host)
    argv = ["ssh", "-o", f"ConnectTimeout={CONNECT_SECONDS}", "-T"]
    argv += ["-l", address.username] if address.username else []
    argv += ["-p", str(address.port)] if address.port else []
    elsewhere = ["--host", f"unix://{address.path}"] if address.path not in ("", "/") else []
    return [*argv, "--", address.hostname or "", shlex.join(["docker", *elsewhere, "system", "dial-stdio"])]


class SshAdapter(BaseHTTPAdapter):
    """For requests; `said` is what ssh had to say when a connection failed last."""

    def __init__(self, host: str, timeout: float, connections: int) -> None:
        super().__init__()
        self._pool = _Pool(ssh_argv(host), timeout, connections)

    @property
    def said(self) -> str:
        return self._pool.said()

    def get_connection(self, url: Any, proxies: Any = None) -> HTTPConnectionPool:
        """One pool for every url: all of its connections lead to the same engine."""
        return self._pool

    def request_url(self, request: Any, proxies: Any) -> str:
        """The path alone, as to a server: no proxy of the environment's is asked."""
        return str(request.path_url)

    def close(self) -> None:
        super().close()
        self._pool.close()


class _Pool(HTTPConnectionPool):
    def __init__(self, argv: list[str], timeout: float, connections: int) -> None:
        super().__init__("localhost", timeout=timeout, maxsize=connections)
        self._argv, self._seconds = argv, timeout
        self._errors: list[Any] = []  # what the latest ssh programs print

    def _new_conn(self) -> Any:
        errors = tempfile.TemporaryFile()  # noqa: SIM115  it lives as long as somebody may ask
        self._errors = [*self._errors[-3:], errors]
        return _Connection(self._argv, self._seconds, errors)

    def said(self) -> str:
        """The last line that the newest ssh with something to say has printed, 300 characters at most; else ""."""
        for errors in reversed(self._errors):
            size = errors.seek(0, os.SEEK_END)
            errors.seek(max(0, size - 4096))
            if lines := errors.read().decode(errors="replace").split("\n"):
                told = [
                    line.strip() for line in lines if line.strip() and not line.startswith("Warning: Permanently added")
                ]
                if told:
                    return told[-1][:300]
        return ""


class _Connection(HTTPConnection):
    def __init__(self, argv: list[str], seconds: float, errors: Any) -> None:
        super().__init__("localhost", timeout=seconds)
        self._argv, self._seconds, self._errors = argv, seconds, errors

    def connect(self) -> None:
        """Starts ssh; whether it gets through shows with the first answer. Raises OSError where there is no ssh."""
        ours, theirs = socket.socketpair()
        environment = {name: value for name, value in os.environ.items() if name not in _NOT_FOR_SSH}
        with theirs:
            try:
                process = subprocess.Popen(
                    self._argv, stdin=theirs.fileno(), stdout=theirs.fileno(), stderr=self._errors, env=environment
                )
            except OSError:
                ours.close()
                raise
        threading.Thread(target=process.wait, name="docker-ssh", daemon=True).start()  # it ends when our end is closed
        ours.settimeout(self._seconds)
        self.sock = ours
