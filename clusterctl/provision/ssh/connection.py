"""One connection to one host: made once, checked before anything is sent, used for everything."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import paramiko
from clusterctl_providers.login import MachineLogin, open_login
from paramiko.common import OPEN_FAILED_ADMINISTRATIVELY_PROHIBITED, OPEN_FAILED_CONNECT_FAILED

from clusterctl.core.errors import ProviderError
from clusterctl.provision.carried import Carried, NothingListens, Way
from clusterctl.provision.ssh.dialing import Patience, dial
from clusterctl.provision.ssh.gateways import Gateways
from clusterctl.provision.ssh.hostkeys import Trust
from clusterctl.provision.ssh.master import Login, Master
from clusterctl.provision.ssh.programs.running import (
    FIND_PYTHON,
    NO_SESSION,
    READY_PATIENCE,
    Answered,
    AnyChannel,
    Framed,
    NotBegun,
    Program,
    source,
)
from clusterctl.provision.ssh.target import Target
from clusterctl.provision.ssh.trouble import HostTrouble

OPEN_SECONDS = 60.0  # that a channel may take: what PAM does for a session comes before it
LOOPBACK = "127.0.0.1"
TURN_SECONDS = 5.0  # that sshd gets to notice that a session has ended, where it allows so few


class Connection:
    """Thread-safe for running things at once; `close` ends it, and the logins to its jump hosts when nobody else uses them."""

    def __init__(self, target: Target, transport: Login | MachineLogin, gateways: Gateways) -> None:
        self.target, self.transport, self._gateways = target, transport, gateways
        self.bytes_sent = 0
        self._closed = threading.Lock()
        self._turn = threading.Condition()
        self._sessions = 0

    def ask(self, request: dict[str, Any], blob: bytes = b"", timeout: float | None = 60.0) -> dict[str, Any]:
        """Has the host carry out a request (`programs/host.py`); its answer. `timeout`: s of silence. Raises HostTrouble."""
        return self._ask(FIND_PYTHON, "host.py", request, blob, timeout)

    def ask_as_root(self, request: dict[str, Any], timeout: float | None = 60.0) -> dict[str, Any]:
        """The same with the requests of `programs/machine.py`, on a machine where the user may use sudo without a password."""
        command = FIND_PYTHON if self.target.user == "root" else f"sudo -n {FIND_PYTHON}"
        return self._ask(command, "machine.py", request, b"", timeout)

    def _ask(
        self, command: str, name: str, request: dict[str, Any], blob: bytes, timeout: float | None
    ) -> dict[str, Any]:
        framed = Framed(name, request, blob)
        self.bytes_sent += len(framed.data)
        with self._ready(command, timeout) as program:
            program.send(framed.data)
            return framed.read(program.answer(timeout))

    @contextmanager
    def _ready(self, command: str, timeout: float | None) -> Iterator[Program]:
        """Our program, waiting for its text. Login files that are only slow get a second chance, and more time; where sessions
        are few, each waits for its turn."""
        patience, latest = READY_PATIENCE[0], time.monotonic() + OPEN_SECONDS
        while True:
            with self._program(command, timeout) as program:
                try:
                    program.await_ready(patience)
                except NotBegun as error:
                    if error.is_slow and patience == READY_PATIENCE[0]:
                        patience = READY_PATIENCE[1]
                    elif not error.is_refused or time.monotonic() > latest:
                        raise error.trouble() from None
                else:
                    yield program
                    return
            with self._turn:
                self._turn.wait(0.1)

    def run(self, command: str, data: bytes = b"", timeout: float | None = None) -> Answered:
        """Runs a command line in the user's shell there. Raises HostTrouble when the connection breaks."""
        with self._program(command, timeout) as program:
            program.send(data)
            return program.answer(timeout)

    @contextmanager
    def _program(self, command: str, timeout: float | None) -> Iterator[Program]:
        """Whatever the channel raises meanwhile is told as HostTrouble."""
        channel = self._open_session()
        try:
            yield _begin(channel, command)
        except TimeoutError as error:
            raise HostTrouble("lost", f"it did not answer for {timeout or OPEN_SECONDS:g} s") from error
        except (paramiko.SSHException, EOFError, OSError) as error:
            raise HostTrouble("lost", f"the connection broke: {error or type(error).__name__}") from error
        except ProviderError as error:
            raise HostTrouble(error.code, str(error)) from error
        finally:
            self._close_session(channel)

    def _open_session(self, longest: float | None = None) -> AnyChannel:
        """Where sshd allows few at once (MaxSessions), each waits for its turn: `longest` seconds, or as long as those of ours
        take that are under way; and a little for sshd to notice that they have ended."""
        began = idle_since = time.monotonic()
        with self._turn:
            while True:
                try:
                    channel = self.transport.open_session(timeout=OPEN_SECONDS)
                    break
                except paramiko.ChannelException as error:
                    now = time.monotonic()
                    if self._sessions:
                        idle_since = now
                    if now - idle_since > TURN_SECONDS or (longest is not None and now - began > longest):
                        raise _no_turn(self._sessions) from error
                    self._turn.wait(TURN_SECONDS if self._sessions else 0.1)
                except (paramiko.SSHException, EOFError, OSError) as error:
                    raise HostTrouble("lost", _why_no_session(error)) from error
            self._sessions += 1
            return channel

    def _close_session(self, channel: AnyChannel) -> None:
        channel.close()
        with self._turn:
            self._sessions -= 1
            self._turn.notify_all()

    def reach(self, port: int, hosts: Sequence[str] = (LOOPBACK,)) -> Way:
        """A way to a port of the first of `hosts` that takes it, as seen from there. Where its sshd forwards none, a program on
        the host carries the bytes. Raises NothingListens, HostTrouble, and what paramiko raises."""
        if not isinstance(self.transport, paramiko.Transport):
            return self._carried(
                port, hosts
            )  # OpenSSH's client does not say whether it was forwarded; others forward none
        for host in hosts:
            try:
                there = (host, port)
                return self.transport.open_channel("direct-tcpip", there, (LOOPBACK, 0), timeout=OPEN_SECONDS)
            except paramiko.ChannelException as error:
                if error.code == OPEN_FAILED_ADMINISTRATIVELY_PROHIBITED:
                    return self._carried(port, hosts)
                if error.code != OPEN_FAILED_CONNECT_FAILED:
                    raise
        raise NothingListens(f"nothing answers on port {port}")

    def _carried(self, port: int, hosts: Sequence[str]) -> Carried:
        return Carried(self.begin("port.py"), port, hosts)

    def begin(self, name: str) -> Session:
        """One of our programs, which goes on to speak with whoever holds the channel; that one closes it. Raises HostTrouble, and
        what the channel raises."""
        channel = self._open_session(longest=TURN_SECONDS)
        try:
            _begin(channel, FIND_PYTHON).await_ready(READY_PATIENCE[-1])
            text = source(name)
            channel.settimeout(None)
            channel.sendall(b"%d\n%s" % (len(text), text))
        except NotBegun as error:
            self._close_session(channel)
            raise error.trouble() from None
        except ProviderError as error:
            self._close_session(channel)
            raise HostTrouble(error.code, str(error)) from error
        except BaseException:
            self._close_session(channel)
            raise
        return Session(channel, self._close_session)

    @contextmanager
    def files(self) -> Iterator[paramiko.SFTPClient]:
        """Raises HostTrouble where there is no such service, and what paramiko raises."""
        try:
            client = self._open_files()
        except (paramiko.SSHException, paramiko.SFTPError, EOFError, OSError) as error:
            raise HostTrouble(
                "no_files",
                "it lets us in, and copying files does not begin: its sshd_config has no `Subsystem sftp internal-sftp`, or a "
                f"login file prints something to everybody ({error or type(error).__name__})",
            ) from error
        with client:
            yield client

    def _open_files(self) -> paramiko.SFTPClient:
        if isinstance(self.transport, Master):
            channel: Any = self.transport.open_subsystem("sftp")  # it takes what is like a socket
            return paramiko.SFTPClient(channel)
        if not isinstance(self.transport, paramiko.Transport):
            raise OSError("its provider copies no files")
        client = paramiko.SFTPClient.from_transport(self.transport)
        assert client is not None
        return client

    def close(self) -> None:
        """Can be repeated; jump hosts that nobody else uses are left, too."""
        if self._closed.acquire(blocking=False):
            self.transport.close()
            self._gateways.leave(self.target.jumps)


class Session:
    """A channel whose turn is given back when it is closed."""

    def __init__(self, channel: AnyChannel, close: Callable[[AnyChannel], None]) -> None:
        self._channel, self._close = channel, close
        self.recv, self.sendall = channel.recv, channel.sendall

    def close(self) -> None:
        self._close(self._channel)


def connect(
    target: Target, trust: Trust, patience: Patience | None = None, gateways: Gateways | None = None
) -> Connection:
    """A connection that has proven whom it leads to and has logged in. `gateways`: logins to jump hosts that others share.
    Raises HostTrouble."""
    gateways, patience = gateways or Gateways(), patience or Patience()
    if target.provider:
        return without_ssh(target)

    def step(hop: Target, through: Login | None) -> Login:
        return dial(hop, trust, through, patience, target)

    through = gateways.enter(target.jumps, step)
    try:
        return Connection(target, step(target, through), gateways)
    except BaseException:
        gateways.leave(target.jumps)
        raise


def without_ssh(target: Target) -> Connection:
    """A connection to a machine on which its provider begins programs. Raises HostTrouble."""
    try:
        return Connection(target, open_login(target.provider, target.place), Gateways())
    except ProviderError as error:
        raise HostTrouble(error.code, str(error)) from error


def _begin(channel: AnyChannel, command: str) -> Program:
    try:
        return Program(channel, command)
    except paramiko.SSHException as error:
        if not channel.get_transport().is_active():
            raise
        raise HostTrouble(
            "no_session",
            "it lets us in, and its sshd cannot start a program for us: its user may have too many processes (`ulimit -u`, "
            "nproc in limits.conf), or the key may only forward ports; its log tells (`journalctl -u ssh` there)",
        ) from error


def _why_no_session(error: Exception) -> str:
    if "Timeout" in str(error):
        return (
            f"it let us in and opened no session within {OPEN_SECONDS:g} s: what it does for each (PAM, a home that is mounted) "
            "does not end"
        )
    return f"the connection to it broke: {error or type(error).__name__}"


def _no_turn(ours: int) -> HostTrouble:
    if ours:
        return HostTrouble(
            "no_session",
            f"its sshd allows no more than {ours} at a time of what runs there (MaxSessions) and forwards no ports: raise "
            "MaxSessions, or write `AllowTcpForwarding local` into its sshd_config",
        )
    return HostTrouble("no_session", NO_SESSION)
