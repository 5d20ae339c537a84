"""OpenSSH's own client as the way to a host, for what paramiko cannot: algorithms, tokens, tickets. One login (`ssh -M`) that
everything else goes through, behind the few members of a paramiko transport that this package uses.

It asks nothing of anybody (BatchMode) and ends with this process, also when that is killed: a shell beside it waits for the end
of a pipe. Whom it believes is ours to say: it is given a file with exactly the keys that are known of the host.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import subprocess
import tempfile
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import paramiko

from clusterctl.provision.ssh.command import ssh_argv
from clusterctl.provision.ssh.hostkeys import Distrusted, Trust, names_of
from clusterctl.provision.ssh.knownhosts import read_known_hosts
from clusterctl.provision.ssh.openssh import as_word
from clusterctl.provision.ssh.target import Target
from clusterctl.provision.ssh.trouble import HostTrouble, said

LOOK_SECONDS = 0.02
END_SECONDS = 5.0
# Runs its arguments until they end, or until its input does, upon which the directory goes that its name is.
_UNTIL_WE_END = (
    'exec 3<&0; "$@" </dev/null 3<&- & p=$!; { cat <&3 >/dev/null; kill $p; rm -rf -- "$0"; } & w=$!; '
    "wait $p; code=$?; kill $w 2>/dev/null; exit $code"
)
_OPTIONS = (
    "BatchMode=yes", "ControlPersist=no", "PermitLocalCommand=no", "RemoteCommand=none", "RequestTTY=no", "ForwardAgent=no",
    "ForwardX11=no", "ClearAllForwardings=yes", "UpdateHostKeys=no", "CheckHostIP=no", "VerifyHostKeyDNS=no",
    "HashKnownHosts=no", "GlobalKnownHostsFile=none", "ServerAliveInterval=15", "LogLevel=ERROR", "EscapeChar=none",
    "IgnoreUnknown=KnownHostsCommand", "KnownHostsCommand=none",
)  # fmt: skip


class Master:
    """A login by OpenSSH's client. Raises HostTrouble, and Distrusted where the key of the host cannot be judged."""

    def __init__(self, hop: Target, way: Sequence[str], trust: Trust, seconds: float, where: str) -> None:
        """`hop` with its jump hosts; `way`, a program that leads there instead. `seconds`: that the login may take."""
        self.hop = hop
        self.saved_exception: Exception | None = None
        self._place = Path(tempfile.mkdtemp(prefix="cctl-ssh-"))  # short: a socket's path may have 100 bytes
        self._trust, self._known_files = trust, dict[str, str]()
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        try:
            self._log_in(way, seconds, where)
        except BaseException:
            self.close()
            raise

    # ------------------------------------------------------------ the login

    def _log_in(self, way: Sequence[str], seconds: float, where: str) -> None:
        hop = self.hop
        is_new = not self._trust.knows(hop)
        options = [*_OPTIONS, f"ConnectTimeout={seconds:.0f}", f"IdentitiesOnly={'no' if hop.all_of_agent else 'yes'}"]
        argv = ssh_argv(hop, self._known_file, options, way)
        if is_new:
            self._trust.refuse_unseen(hop)
            own = argv.index("StrictHostKeyChecking=yes")  # the first; those of jump hosts stay
            argv[own] = "StrictHostKeyChecking=accept-new"
        argv += ["-M", "-N", "-S", str(self._socket), "--", hop.given]
        with (self._place / "log").open("wb") as log:
            self._process = subprocess.Popen(
                ["/bin/sh", "-c", _UNTIL_WE_END, str(self._place), *argv],
                stdin=subprocess.PIPE, stdout=log, stderr=log, start_new_session=True, env=_environment(),
            )  # fmt: skip
        self._await_login(seconds, where)
        if is_new:
            self._note_new_key(hop)

    def _await_login(self, seconds: float, where: str) -> None:
        assert self._process is not None
        deadline = time.monotonic() + seconds
        while not self._socket.exists():
            if self._process.poll() is not None:
                raise HostTrouble(
                    "openssh", f"OpenSSH's client did not get into {where} either. It says: {self._stderr_tail()}"
                )
            if time.monotonic() > deadline:
                raise HostTrouble("slow_login", f"OpenSSH's client did not get into {where} within {seconds:g} s")
            time.sleep(LOOK_SECONDS)

    def _known_file(self, hop: Target) -> str:
        """A file with what is known of a host and of nobody else, as a word for OpenSSH."""
        if hop.given not in self._known_files:
            path = self._place / f"known-{len(self._known_files)}"
            names = ",".join(names_of(hop))
            path.write_text("".join(line.text(names) for line in self._trust.lines(hop)))
            self._known_files[hop.given] = str(path)
        return as_word(self._known_files[hop.given])

    def _note_new_key(self, hop: Target) -> None:
        """What OpenSSH accepted as new is judged and remembered by us."""
        for line in read_known_hosts(Path(self._known_files[hop.given])):
            self._trust.check(hop, paramiko.PKey.from_type_string(line.kind, line.blob))
            return
        raise Distrusted("OpenSSH's client did not say which host key it accepted")

    def _stderr_tail(self) -> str:
        return said((self._place / "log").read_bytes()) or "nothing"

    @property
    def _socket(self) -> Path:
        return self._place / "s"

    # ------------------------------------------------------------ what a transport has

    def is_active(self) -> bool:
        """Whether OpenSSH's client, which holds the login, still runs."""
        return self._process is not None and self._process.poll() is None

    def open_session(self, timeout: float | None = None) -> Channel:
        """Raises EOFError when OpenSSH's client has ended."""
        if not self.is_active():
            raise EOFError(f"OpenSSH's client ended: {self._stderr_tail()}")
        return Channel(self)

    def open_channel(
        self, kind: str, there: tuple[str, int], here: Any = None, timeout: float | None = None
    ) -> Channel:
        """Whether anybody is there shows when it is used."""
        channel = self.open_session()
        channel.begin(["-W", f"[{there[0]}]:{there[1]}"], [])
        return channel

    def open_subsystem(self, name: str) -> Channel:
        """Raises EOFError when OpenSSH's client has ended."""
        channel = self.open_session()
        channel.begin(["-s"], [name])
        return channel

    def way_to(self, host: str, port: int) -> list[str]:
        """A program whose input and output lead there."""
        return self.argv(["-W", f"[{host}]:{port}"])

    def argv(self, options: list[str]) -> list[str]:
        """Through this login or not at all: without one, `ssh` would log in by itself."""
        lone = ["-o", "ProxyCommand=false", "-o", "LogLevel=ERROR", "-o", "BatchMode=yes", "-o", "ControlMaster=no"]
        return ["ssh", *self.hop.options, "-S", str(self._socket), *lone, *options, "--", self.hop.given]

    def close(self) -> None:
        """Ends OpenSSH's client, by force after END_SECONDS, and removes its directory. Can be repeated."""
        with self._lock:
            process, self._process = self._process, None
        if process is not None:
            assert process.stdin is not None
            process.stdin.close()
            try:
                process.wait(END_SECONDS)
            except subprocess.TimeoutExpired:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(process.pid, 9)
                process.wait()
        shutil.rmtree(self._place, ignore_errors=True)


class Channel:
    """A program on the host, or a way from there to a port: what paramiko's Channel has of it."""

    def __init__(self, master: Master) -> None:
        self._master = master
        self.sock, self._theirs = socket.socketpair()
        self._process: subprocess.Popen[bytes] | None = None
        self._unread = ""

    def begin(self, options: list[str], arguments: list[str]) -> None:
        """Starts OpenSSH's client in the shared login, with the channel as its standard input and output."""
        theirs = self._theirs.fileno()
        argv = [*self._master.argv(options), *arguments]
        self._process = subprocess.Popen(argv, stdin=theirs, stdout=theirs, stderr=subprocess.PIPE, env=_environment())
        self._theirs.close()

    def exec_command(self, command: str) -> None:
        """Once in the life of a channel."""
        self.begin([], [command])

    def settimeout(self, seconds: float | None) -> None:
        self.sock.settimeout(seconds)

    def recv(self, size: int) -> bytes:
        """b"" at the end, also where the other side was reset."""
        try:
            return self.sock.recv(size)
        except ConnectionResetError:  # it ended before it had read all that was sent to it
            return b""

    def recv_stderr(self, size: int) -> bytes:
        """b"" at the end, and once it is closed."""
        assert self._process is not None and self._process.stderr is not None
        try:
            return os.read(self._process.stderr.fileno(), size)
        except ValueError:  # it is closed
            return b""

    def send(self, data: bytes) -> int:
        return self.sock.send(data)

    def sendall(self, data: bytes) -> None:
        self.sock.sendall(data)

    def shutdown_write(self) -> None:
        """The program sees the end of its input; what it says still comes."""
        self.sock.shutdown(socket.SHUT_WR)

    def fileno(self) -> int:
        return self.sock.fileno()

    def get_name(self) -> str:
        return "openssh"

    @property
    def closed(self) -> bool:
        return self.sock.fileno() < 0

    _closed = closed  # what paramiko calls it of a socket

    def get_transport(self) -> Master:
        return self._master

    def recv_exit_status(self) -> int:
        """-1 where the login ended before the program did."""
        assert self._process is not None
        code = self._process.wait()
        return -1 if code < 0 or (code == 255 and not self._master.is_active()) else code

    def stderr_tail(self) -> str:
        """What was said to nobody before it ended."""
        self.close()
        return self._unread

    def close(self) -> None:
        """Ends the program and waits for it; the rest of its stderr is kept. Can be repeated."""
        self.sock.close()
        self._theirs.close()
        if self._process is not None:
            self._process.terminate()
            self._process.wait()
            assert self._process.stderr is not None
            if not self._process.stderr.closed:
                self._unread = said(self._process.stderr.read())
                self._process.stderr.close()


class Beyond:
    """Hosts that only OpenSSH's client gets into, noted so that they are not dialled in vain each time: lines of "place user"."""

    def __init__(self, trust: Trust) -> None:
        self._path = trust.remembered.with_name("openssh_hosts")

    def is_noted(self, hop: Target) -> bool:
        """Whether the hop is one of them, and OpenSSH's client is installed here."""
        try:
            return _noted(hop) in self._path.read_text().splitlines() and shutil.which("ssh") is not None
        except FileNotFoundError:
            return False

    def note(self, hop: Target) -> None:
        """From now on OpenSSH's client is used for it at once."""
        with self._path.open("a") as file:
            file.write(f"{_noted(hop)}\n")


def _noted(hop: Target) -> str:
    return f"[{hop.host}]:{hop.port} {hop.user}"


def can_more(trouble: HostTrouble, hop: Target) -> bool:
    """Whether OpenSSH's client may get in where paramiko did not, and is here."""
    fits = trouble.code == "no_algorithm" or (
        trouble.code in ("login", "no_keys_taken", "login_cut") and bool(hop.beyond)
    )
    return fits and shutil.which("ssh") is not None


def _environment() -> dict[str, str]:
    """No window that asks for a passphrase opens, either."""
    return {**os.environ, "SSH_ASKPASS_REQUIRE": "never"}


Login = paramiko.Transport | Master
