"""Programs that run beside a test, and end with it whatever happens."""

from __future__ import annotations

import signal
import socket
import subprocess
from collections.abc import Sequence
from pathlib import Path

SECONDS = 60.0  # to end when asked


class Running:
    """Their logs lie in `directory`, each as NAME.log. A test process that is killed takes them with it."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self._processes: dict[str, subprocess.Popen[bytes]] = {}
        self._ends: dict[str, signal.Signals] = {}

    def start(
        self, name: str, argv: Sequence[str], *, before: Sequence[str] = (), ends: signal.Signals = signal.SIGTERM
    ) -> None:
        """`before`: a command that runs argv, as `nsenter` does; `ends`: what ends it."""
        self._ends[name] = ends
        with (self.directory / f"{name}.log").open("ab") as log:
            self._processes[name] = subprocess.Popen(
                ["setpriv", "--pdeathsig", "KILL", *before, *argv],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd=self.directory, start_new_session=True,
            )  # fmt: skip

    def pid(self, name: str) -> int:
        return self._processes[name].pid

    def all_run(self) -> bool:
        """Raises AssertionError with the end of its log when one has ended."""
        for name, process in self._processes.items():
            assert process.poll() is None, (
                f"{name} ended with {process.returncode}; the end of its log:\n{self.log(name)}"
            )
        return True

    def log(self, name: str, size: int = 3000) -> str:
        return (self.directory / f"{name}.log").read_text(errors="replace")[-size:]

    def stop(self, name: str = "") -> None:
        """One, or all, the last one started first."""
        for each in [name] if name else list(reversed(self._processes)):
            process = self._processes.pop(each)
            process.send_signal(self._ends[each])
            try:
                process.wait(SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait(SECONDS)


def free_ports(count: int, address: str = "127.0.0.1") -> list[int]:
    """Different ones: all are held until the last is known."""
    sockets = [socket.socket() for _ in range(count)]
    try:
        for each in sockets:
            each.bind((address, 0))
        return [each.getsockname()[1] for each in sockets]
    finally:
        for each in sockets:
            each.close()
