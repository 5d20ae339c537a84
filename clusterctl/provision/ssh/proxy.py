"""The program of a ProxyCommand as a socket. (paramiko's own class reads on for ever when the program has ended.)"""

from __future__ import annotations

import contextlib
import shlex
import socket
import subprocess
import tempfile
import threading

from clusterctl.provision.ssh.trouble import said

OWN_END_SECONDS = 0.5  # for a program to end by itself, once nobody is at the other side
END_SECONDS = 2.0  # for one that was told to end


class Proxy(socket.socket):
    """One end of a pair of sockets; the other one is the program's stdin and stdout. Raises OSError and ValueError where the
    command cannot be run. It may be closed by several threads."""

    def __init__(self, command: str) -> None:
        self.words = shlex.split(command)
        self._ending = threading.Lock()
        self._said: str | None = None
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115  it is closed with the socket
        ours, theirs = socket.socketpair()
        with theirs:
            super().__init__(fileno=ours.detach())
            try:
                end = theirs.fileno()
                self._process = subprocess.Popen(self.words, stdin=end, stdout=end, stderr=self._errors)
            except BaseException:
                super().close()
                self._errors.close()
                raise

    def close(self) -> None:
        """Waits for the program, which is killed where it does not end when it is told to. Can be repeated."""
        super().close()
        self.stderr_tail()

    def stderr_tail(self) -> str:
        """What it said on stderr. It has ended by then."""
        with self._ending:
            if self._said is None:
                self._end()
                self._errors.seek(0)
                self._said = said(self._errors.read()) or "it said nothing"
                self._errors.close()
            return self._said

    def _end(self) -> None:
        for tell, seconds in ((lambda: None, OWN_END_SECONDS), (self._process.terminate, END_SECONDS)):
            tell()
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(seconds)
                return
        self._process.kill()
        self._process.wait()
