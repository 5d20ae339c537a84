"""One program on a host: begun through the user's shell there, of which nothing is taken for granted.

The command line is always the same. Our text and data are sent only after our own line has come back, so a login file that
reads, or that runs another shell, never gets hold of them; and the answer stands between two lines made for this time alone,
so whatever login files print, before or afterwards, is not taken for it.
"""

from __future__ import annotations

import json
import secrets
import threading
import time
from dataclasses import dataclass
from functools import lru_cache
from importlib import resources
from typing import Any

import paramiko
from clusterctl_providers.login import ProgramChannel

from clusterctl.provision.ssh.master import Channel
from clusterctl.provision.ssh.trouble import HostTrouble, said

AnyChannel = paramiko.Channel | Channel | ProgramChannel
READY = b"clusterctl-ready"
NO_PYTHON = b"clusterctl-no-python"
READY_PATIENCE = (20.0, 60.0)  # seconds that login files get, the first time and the second
END_SECONDS = 40.0  # that they get to end, once they can read nothing more
AT_ONCE = 2.0
NO_SESSION = (
    "it lets us in and opens no session: MaxSessions in its sshd_config is 0, or all are in use by others of this login"
)
_BOOT = "import sys;print();print(sys.argv[1],flush=True);b=sys.stdin.buffer;exec(b.read(int(b.readline())))"
# The first Python that is new enough. Read alike by sh, bash, zsh, fish and csh: one line, and no word of the user's, no
# backslash, no exclamation mark and no quote in it. No $ reaches the inner quotes unquoted.
FIND_PYTHON = (
    "sh -c 'for p in python3 python3.14 python3.13 python3.12 python3.11 python3.10 /usr/local/bin/python3 /usr/bin/python3 "
    "~/.local/bin/python3 ~/.local/bin/python3.1? /opt/*/bin/python3 ~/*conda*/bin/python3 ~/miniforge*/bin/python3; do "
    'if "$p" -I -c "import sys; sys.exit(sys.version_info < (3, 10))" 2>/dev/null; then '
    f'exec "$p" -I -c "{_BOOT}" {READY.decode()}; fi; done; '
    f"echo; echo {NO_PYTHON.decode()}; python3 -V 2>&1'"
)
_GUARD = (
    "let the file (~/.bashrc, ~/.zshenv, ~/.cshrc, ~/.config/fish/config.fish, or its like in /etc) end at its top for shells "
    "that are not interactive, as with `[[ $- == *i* ]] || return`"
)
_IN_THE_WAY = (
    "What may be in the way: a forced command (`command=` in authorized_keys, ForceCommand in its sshd_config), an account "
    f"without a shell (nologin), or a login file with `exit` or `exec`: {_GUARD}"
)
_NO_MORE_PROCESSES = (
    "its user may start no more processes there (`ulimit -u`, nproc in limits.conf): end some, or raise the limit"
)
_KNOWN_WORDS = (
    ("assword change required", "the password of its user has expired: log in with `ssh` at a terminal and change it"),
    ("assword has expired", "the password of its user has expired: log in with `ssh` at a terminal and change it"),
    (
        "effective uid is not 0",
        "sudo makes nobody root there: a file system that is mounted `nosuid`, or a container or service without new privileges",
    ),
    ("no new privileges", "sudo makes nobody root there: a container or a service was started without new privileges"),
    ("sudo: ", "its user may not use sudo without a password (NOPASSWD in /etc/sudoers)"),
    ("annot fork", _NO_MORE_PROCESSES),
    ("Resource temporarily unavailable", _NO_MORE_PROCESSES),
)


@dataclass
class Answered:
    """What a program on a host left: its exit code and output."""

    code: int
    stdout: bytes
    stderr: bytes


class NotBegun(Exception):
    """The command line ended without our line, or after `waited` seconds its input was ended: what there was instead.
    `is_slow`: our line came after all, and not because of that."""

    def __init__(self, answered: Answered, waited: float, is_slow: bool = False) -> None:
        super().__init__()
        self.answered, self.waited, self.is_slow = answered, waited, is_slow

    @property
    def is_refused(self) -> bool:
        """By sshd, as OpenSSH's client tells it: there are as many sessions as it allows."""
        return b"Session open refused by peer" in self.answered.stderr

    def trouble(self) -> HostTrouble:
        """What is wrong with the host, as far as it shows, and what to do."""
        if self.is_refused:
            return HostTrouble("no_session", NO_SESSION)
        lines = self.answered.stdout.split(b"\n")
        if NO_PYTHON in lines:
            found = said(lines[lines.index(NO_PYTHON) + 1])
            known = found if found.startswith("Python ") else "none"
            return HostTrouble(
                "no_python", f"it has no Python 3.10 or newer (found: {known}): apt install python3 there"
            )
        if self.waited:
            return HostTrouble(
                "no_shell",
                f"it let us in and did not begin our program within {self.waited:g} s; nothing was sent to it. A file that its "
                f"shell reads at login waits for input, runs another shell (`exec`), or takes that long: {_GUARD}",
            )
        words = said(self.answered.stderr.strip() or self.answered.stdout)
        ended = f"(exit code {self.answered.code})"
        why = next((why for word, why in _KNOWN_WORDS if word in words), "")
        return HostTrouble(
            "no_shell",
            f"it let us in and did not begin our program {ended}. It says: {words or 'nothing'}. "
            + (why or _IN_THE_WAY),
        )


class Program:
    """A command line under way in a channel, which is closed by who opened it."""

    def __init__(self, channel: AnyChannel, command: str) -> None:
        self.channel = channel
        self._out = bytearray()
        self._errors = bytearray()
        channel.exec_command(command)
        self._reader = threading.Thread(target=self._read_errors, daemon=True)
        self._reader.start()

    def await_ready(self, patience: float) -> None:
        """Until our own line comes. Raises NotBegun, and what the channel raises."""
        deadline, ended_at = time.monotonic() + patience, 0.0
        while READY not in self._out.split(b"\n"):
            self.channel.settimeout(max(0.0, deadline - time.monotonic()))
            try:
                piece = self.channel.recv(1 << 16)
            except TimeoutError:
                if ended_at:
                    raise NotBegun(self._so_far(), patience) from None
                # Whoever waits for input gets its end, and so goes on or ends; from then on nothing can be sent.
                self.channel.shutdown_write()
                ended_at = time.monotonic()
                deadline = ended_at + END_SECONDS
                continue
            if not piece:
                raise NotBegun(self.answer(), patience if ended_at else 0.0)
            self._out += piece
        if ended_at:
            raise NotBegun(self._so_far(), patience, is_slow=time.monotonic() - ended_at > AT_ONCE)

    def _so_far(self) -> Answered:
        return Answered(-1, bytes(self._out), bytes(self._errors))

    def send(self, data: bytes) -> None:
        """Sends in a thread of its own: the program may answer before it has read all."""
        threading.Thread(target=_send, args=(self.channel, data), daemon=True).start()

    def answer(self, timeout: float | None = None) -> Answered:
        """All that it says, once it has ended. `timeout`: seconds of silence. Raises what the channel raises, EOFError when the
        connection ended first."""
        self.channel.settimeout(timeout)
        while piece := self.channel.recv(1 << 16):
            self._out += piece
        self._reader.join()
        code = self.channel.recv_exit_status()
        if code < 0:  # the channel ended without one
            raise EOFError(
                self.channel.get_transport().saved_exception or "it was cut off before the program had ended"
            )
        return Answered(code, bytes(self._out), bytes(self._errors))

    def _read_errors(self) -> None:
        try:
            while data := self.channel.recv_stderr(1 << 16):
                self._errors += data
        except OSError:
            return


class Framed:
    """One of our programs with its request and data, as it goes to a host; and its answer as it comes back."""

    def __init__(self, name: str, request: dict[str, Any], blob: bytes) -> None:
        mark = secrets.token_hex(8)
        self._begin, self._end = f"clusterctl-{mark}-begin".encode(), f"clusterctl-{mark}-end".encode()
        frame = (
            f"print('\\n{self._begin.decode()}', flush=True)\n"
            "exec(b.read(int(b.readline())))\n"
            f"print('\\n{self._end.decode()}', flush=True)\n"
        ).encode()
        body = json.dumps({**request, "blob_size": len(blob)}).encode()
        program = source(name)
        self.data = b"".join(b"%d\n%s" % (len(part), part) for part in (frame, program, body)) + blob

    def read(self, answered: Answered) -> dict[str, Any]:
        """Raises HostTrouble where there is no answer, or it is a refusal."""
        lines = answered.stdout.split(b"\n")
        found: Any = None
        if self._begin in lines and self._end in lines:
            found = _last_object(lines[lines.index(self._begin) + 1 : lines.index(self._end)])
        if not isinstance(found, dict):
            words = said(answered.stderr or answered.stdout, 400) or "no output"
            raise HostTrouble(
                "no_answer", f"our program ended there (exit code {answered.code}) without an answer: {words}"
            )
        if not found["ok"]:
            raise HostTrouble("refused", found["error"])
        return found


@lru_cache
def source(name: str) -> bytes:
    """The text of a program that is sent to hosts."""
    return resources.files("clusterctl.provision.ssh.programs").joinpath(name).read_bytes()


def _last_object(lines: list[bytes]) -> dict[str, Any] | None:
    """Whatever else of the host's wrote in between is passed over."""
    for line in reversed(lines):
        try:
            found = json.loads(line)
        except ValueError:
            continue
        if isinstance(found, dict) and "ok" in found:
            return found
    return None


def _send(channel: AnyChannel, data: bytes) -> None:
    try:
        channel.settimeout(None)
        channel.sendall(data)
        channel.shutdown_write()
    except OSError:
        return  # the other side ended before it read everything: its exit code tells
