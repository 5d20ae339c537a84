"""A process of this user's that serves several commands of a cluster: the tunnel to its head, the ways to Ray's servers.

It says where it listens in `NAME.json` of the cluster's directory ({"pid", ...}, or {"pid", "error"}), and ends by itself.
"""

from __future__ import annotations

import os
import signal
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from clusterctl_runtime.backoff import Backoff, wait_until

from clusterctl.client.processes import arguments_of, is_running
from clusterctl.client.registry import read_note
from clusterctl.core.errors import ClusterctlError
from clusterctl.provision import isolated

END_SECONDS = 5.0
LOOK_SECONDS = 0.01


@dataclass(frozen=True)
class Companion:
    """`directory` is the cluster's, and the only argument of `program`, a module."""

    directory: Path
    program: str
    name: str

    @property
    def file(self) -> Path:
        return self.directory / f"{self.name}.json"

    @property
    def log(self) -> Path:
        return self.directory / f"{self.name}.log"

    def said(self) -> dict[str, Any]:
        """What it said last, whether it runs or not."""
        return read_note(self.file)

    def living(self) -> dict[str, Any]:
        """What it says, when it really is ours: after a crash another user's process may have the port, and would get the token.
        {} where it does not run, or does not serve yet."""
        document = self.said()
        return document if "error" not in document and self._is_ours(int(document.get("pid") or 0)) else {}

    def await_living(self, seconds: float) -> dict[str, Any]:
        """What it says once it serves; started where it does not run. Raises ClusterctlError."""
        if found := self.living():
            return found
        process, deadline = self.start(), time.monotonic() + seconds
        while not (found := self.living()):
            ended = process.poll() is not None
            if ended or time.monotonic() > deadline:
                what = "ended" if ended else f"did not serve within {seconds:g} s"
                raise ClusterctlError(f"a process that was started here ({self.program}) {what}: see {self.log}")
            time.sleep(LOOK_SECONDS)
        return found

    def start(self) -> subprocess.Popen[bytes]:
        """In a session of its own: it serves later commands as well."""
        self.file.unlink(missing_ok=True)
        log = os.open(self.log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        try:
            return subprocess.Popen(
                [*isolated.module(self.program), str(self.directory)],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd="/",
                start_new_session=True,
            )
        finally:
            os.close(log)

    def stop(self) -> None:
        """Ends it; the next command that needs one starts another."""
        pid = int(self.said().get("pid") or 0)
        if self._is_ours(pid):
            os.kill(pid, signal.SIGTERM)
        wait_until(lambda: not self._is_ours(pid), Backoff(0.01, 0.01, seconds=END_SECONDS))

    def _is_ours(self, pid: int) -> bool:
        if not is_running(pid):  # of this user: anybody can start a program with these words in its command line
            return False
        arguments = arguments_of(pid)
        return os.fsencode(self.directory) in arguments and self.program.encode() in arguments
