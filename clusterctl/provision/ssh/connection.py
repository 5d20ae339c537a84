"""One connection to one host: made once, checked before anything is sent, used for everything.

Uses paramiko's Transport, not its SSHClient, so that the host's key is judged by us and nothing is tried that was not asked for.
"""

from __future__ import annotations

import json
import logging
import random
import socket
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from importlib import resources
from typing import Any

import paramiko
from paramiko.common import OPEN_FAILED_ADMINISTRATIVELY_PROHIBITED

from clusterctl.core.errors import ClusterctlError
from clusterctl.provision.ssh.gateways import Forwarded, Gateways
from clusterctl.provision.ssh.hostkeys import CERTIFICATES, Distrusted, Trust
from clusterctl.provision.ssh.identities import KeyTrouble, identities
from clusterctl.provision.ssh.target import Target

logging.getLogger("paramiko").setLevel(logging.CRITICAL)  # it prints tracebacks of what is handled here

CONNECT_SECONDS = 10.0
KEEPALIVE_SECONDS = 15
HUNG_UP_PAUSES = (0.2, 0.5, 1.0, 2.0)  # seconds, about, between dials of a server that hung up
_KEY_KINDS = [["ssh-ed25519"], [f"ecdsa-sha2-nistp{bits}" for bits in (256, 384, 521)], ["ssh-rsa"]]
_BOOT = "import sys;b=sys.stdin.buffer;exec(b.read(int(b.readline())))"
# The first Python that is new enough. No word of the user's is in here, and no $ reaches the inner quotes unquoted.
_FIND_PYTHON = (
    "sh -c 'for p in python3 python3.14 python3.13 python3.12 python3.11 python3.10 /usr/local/bin/python3; do "
    'if "$p" -I -c "import sys; sys.exit(sys.version_info < (3, 10))" 2>/dev/null; then '
    f'exec "$p" -I -c "{_BOOT}"; fi; done; '
    "echo clusterctl-no-python; python3 -V 2>&1'"
)


class HostTrouble(ClusterctlError):
    """A host cannot be used. `code` is for machines, the message a sentence with its fix."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


@dataclass
class Answered:
    """What a program on a host left: its exit code and output."""

    code: int
    stdout: bytes
    stderr: bytes


@lru_cache
def _program(name: str) -> bytes:
    return resources.files("clusterctl.provision.ssh").joinpath(name).read_bytes()


class Connection:
    """Thread-safe for running things at once; `close` ends it, and the logins to its jump hosts when nobody else uses them."""

    def __init__(self, target: Target, transport: paramiko.Transport, gateways: Gateways) -> None:
        self.target, self.transport, self._gateways = target, transport, gateways
        self.bytes_sent = 0
        self._closed = threading.Lock()

    def ask(self, request: dict[str, Any], blob: bytes = b"", timeout: float | None = 60.0) -> dict[str, Any]:
        """Has the host carry out a request (see `onhost`); its answer. Raises HostTrouble."""
        return self._ask(_FIND_PYTHON, "onhost.py", request, blob, timeout)

    def ask_as_root(self, request: dict[str, Any], timeout: float | None = 60.0) -> dict[str, Any]:
        """The same with the requests of `onmachine`, on a machine where the user may use sudo without a password."""
        command = _FIND_PYTHON if self.target.user == "root" else f"sudo -n {_FIND_PYTHON}"
        return self._ask(command, "onmachine.py", request, b"", timeout)

    def _ask(
        self, command: str, name: str, request: dict[str, Any], blob: bytes, timeout: float | None
    ) -> dict[str, Any]:
        program = _program(name)
        body = json.dumps({**request, "blob_size": len(blob)}).encode()
        data = b"".join((b"%d\n" % len(program), program, b"%d\n" % len(body), body, blob))
        self.bytes_sent += len(data)
        done = self.run(command, data, timeout)
        lines = done.stdout.decode(errors="replace").strip().splitlines()
        if "clusterctl-no-python" in lines:
            found = lines[-1] if lines[-1].startswith("Python ") else "none"
            raise HostTrouble(
                "no_python", f"it has no Python 3.10 or newer (found: {found}): apt install python3 there"
            )
        try:
            answer = json.loads(lines[-1])
        except (IndexError, ValueError):
            text = (done.stderr or done.stdout).decode(errors="replace").strip()[-400:]
            raise HostTrouble("no_answer", f"its shell did not run our program: {text or 'no output'}") from None
        if not answer["ok"]:
            raise HostTrouble("refused", answer["error"])
        return answer

    def run(self, command: str, data: bytes = b"", timeout: float | None = None) -> Answered:
        """Runs a command line in the user's shell there. Raises HostTrouble when the connection breaks."""
        try:
            channel = self.transport.open_session(timeout=CONNECT_SECONDS)
        except (paramiko.SSHException, EOFError, OSError) as error:
            raise HostTrouble("lost", f"the connection to it broke: {error or type(error).__name__}") from error
        try:
            channel.settimeout(timeout)
            channel.exec_command(command)
            sender = threading.Thread(target=_send, args=(channel, data), daemon=True)
            sender.start()
            errors: list[bytes] = []
            reader = threading.Thread(target=_read_errors, args=(channel, errors), daemon=True)
            reader.start()
            out = b"".join(iter(lambda: channel.recv(1 << 16), b""))
            reader.join()
            code = channel.recv_exit_status()
            if code < 0:  # the channel ended without one
                raise EOFError(self.transport.saved_exception or "it was cut off before the program had ended")
            return Answered(code, out, b"".join(errors))
        except (TimeoutError, paramiko.SSHException, EOFError, OSError) as error:
            what = (
                f"it did not answer for {timeout:g} s"
                if isinstance(error, socket.timeout)
                else f"the connection broke: {error}"
            )
            raise HostTrouble("lost", what) from error
        finally:
            channel.close()

    def reach(self, port: int) -> paramiko.Channel:
        """A channel to a port of 127.0.0.1 there. Where its sshd forwards none, a program on the host carries the bytes.
        Raises what paramiko raises."""
        there = ("127.0.0.1", port)
        try:
            return self.transport.open_channel("direct-tcpip", there, ("127.0.0.1", 0), timeout=CONNECT_SECONDS)
        except paramiko.ChannelException as error:
            if error.code != OPEN_FAILED_ADMINISTRATIVELY_PROHIBITED:
                raise
        channel = self.transport.open_session(timeout=CONNECT_SECONDS)
        channel.exec_command(_FIND_PYTHON)
        program = _program("onport.py")
        channel.sendall(b"%d\n%s%d\n" % (len(program), program, port))
        return channel

    def close(self) -> None:
        if self._closed.acquire(blocking=False):
            self.transport.close()
            self._gateways.leave(self.target.jumps)


def connect(
    target: Target, trust: Trust, timeout: float = CONNECT_SECONDS, gateways: Gateways | None = None
) -> Connection:
    """A connection that has proven whom it leads to and has logged in. `gateways`: logins to jump hosts that others share.
    Raises HostTrouble."""
    gateways = gateways or Gateways()

    def dial(hop: Target, through: paramiko.Transport | None) -> paramiko.Transport:
        return _transport(hop, trust, through, timeout, target)

    through = gateways.enter(target.jumps, dial)
    try:
        return Connection(target, dial(target, through), gateways)
    except BaseException:
        gateways.leave(target.jumps)
        raise


def _transport(
    hop: Target, trust: Trust, through: paramiko.Transport | None, timeout: float, target: Target
) -> paramiko.Transport:
    """A pinned key may be of any kind, and a server shows one: each kind is asked for until the pinned one comes."""
    where = f"{hop.host}:{hop.port}" if hop is target else f"its jump host {hop.host}:{hop.port}"
    refusal: Distrusted | None = None
    for kinds in _KEY_KINDS if hop.host_key else [trust.kinds(hop)]:
        try:
            return _open_patiently(hop, trust, kinds, lambda: _socket(hop, through, timeout, where), timeout, where)
        except Distrusted as error:
            refusal = refusal or error
    raise HostTrouble("host_key", f"{where}: {refusal}") from refusal


def _open_patiently(
    hop: Target, trust: Trust, kinds: list[str], dial: Callable[[], Any], timeout: float, where: str
) -> paramiko.Transport:
    """Dials again where the server hung up before it said who it is: a busy one does so to some of many who call at once
    (MaxStartups), and sshd while it restarts."""
    for pause in (*HUNG_UP_PAUSES, None):
        try:
            return _open_transport(hop, trust, kinds, dial(), timeout, where)
        except HostTrouble as trouble:
            if trouble.code != "hung_up" or pause is None:
                raise
            time.sleep(pause * (0.5 + random.random()))  # so that not all come again at once
    raise AssertionError("unreachable: the last try returns or raises")


def _open_transport(
    hop: Target, trust: Trust, kinds: list[str], sock: Any, timeout: float, where: str
) -> paramiko.Transport:
    """Raises Distrusted before anything of ours is sent, and HostTrouble."""
    began = time.monotonic()
    transport = paramiko.Transport(sock)
    try:
        transport.banner_timeout = transport.auth_timeout = transport.handshake_timeout = timeout
        _prefer(transport, kinds)
        transport.start_client(timeout=timeout)
        if not transport.initial_kex_done and transport.is_active():
            raise TimeoutError  # start_client returns then, as if all were well
        trust.check(hop, transport.get_remote_server_key())
        _log_in(transport, hop)
        transport.set_keepalive(KEEPALIVE_SECONDS)
        if isinstance(sock, socket.socket):
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return transport
    except (Distrusted, HostTrouble):
        transport.close()
        raise
    except (paramiko.SSHException, EOFError, OSError) as error:
        transport.close()
        raise _no_session(transport, error, time.monotonic() - began >= timeout, timeout, where) from error


def _no_session(
    transport: paramiko.Transport, error: Exception, too_long: bool, timeout: float, where: str
) -> HostTrouble:
    """What kept the server from showing its key."""
    if too_long or isinstance(error, TimeoutError):
        return HostTrouble(
            "hangs",
            f"{where} takes connections, but its SSH server did not answer within {timeout:g} s: it hangs or is overloaded; "
            "look at it on the machine's console, restart sshd",
        )
    if transport.remote_version or "protocol version" not in str(error):
        return HostTrouble(
            "hung_up",
            f"{where} hung up before the login, {len(HUNG_UP_PAUSES) + 1} times: its sshd is busy (MaxStartups), blocks "
            "this address (fail2ban, PerSourcePenalties) or is broken (`sshd -t` there); or that is not its port",
        )
    return HostTrouble("no_ssh", f"{where} answers, but not as an SSH server should ({error}): is that its port?")


def _socket(hop: Target, through: paramiko.Transport | None, timeout: float, where: str) -> Any:
    try:
        if through is not None:
            there = (hop.host, hop.port)
            return Forwarded(through.open_channel("direct-tcpip", there, ("127.0.0.1", 0), timeout=timeout))
        if hop.command:
            return paramiko.ProxyCommand(hop.command)
        return socket.create_connection((hop.host, hop.port), timeout=timeout)
    except socket.gaierror as error:
        raise HostTrouble(
            "no_name", f"the name {hop.host!r} is not known ({error.strerror}): check its spelling, or DNS"
        ) from error
    except TimeoutError as error:
        raise HostTrouble(
            "silent", f"{where} does not answer within {timeout:g} s: is it on, and is its network reachable from here?"
        ) from error
    except ConnectionRefusedError as error:
        raise HostTrouble(
            "no_sshd", f"{where} refuses connections: start its SSH server there, or set `port`"
        ) from error
    except (OSError, paramiko.SSHException) as error:
        text = getattr(error, "strerror", None) or error
        raise HostTrouble(
            "unreachable", f"{where} cannot be reached ({text}): check its address and the network"
        ) from error


def _prefer(transport: paramiko.Transport, kinds: list[str]) -> None:
    """Negotiates a key that can be compared with what is known; certificates only where an authority is known."""
    if kinds:
        options = transport.get_security_options()
        wanted = [t for k in kinds for t in (("rsa-sha2-512", "rsa-sha2-256", k) if k == "ssh-rsa" else (k,))]
        have = list(options.key_types)
        able = {*have, *CERTIFICATES}
        options.key_types = [k for k in wanted if k in able] + [k for k in have if k not in wanted]


def _log_in(transport: paramiko.Transport, hop: Target) -> None:
    tried: list[str] = []
    try:
        for key in identities(hop, tried):
            try:
                transport.auth_publickey(hop.user, key)
                return
            except paramiko.AuthenticationException:
                if transport.is_active():
                    continue
                break
            except (paramiko.SSHException, EOFError, OSError):
                break
    except KeyTrouble as error:
        raise HostTrouble("no_key", f"{error}: check `key` in the spec") from error
    keys = ", ".join(dict.fromkeys(tried)) or "no key at all: set `auth.key`"
    if not transport.is_active():
        raise HostTrouble(
            "login_cut",
            f"it hung up while {hop.user!r} logged in (tried {keys}): too many keys for it (MaxAuthTries; name the right one "
            "in `key`), or its sshd is shutting down",
        )
    raise HostTrouble(
        "login",
        f"it does not let {hop.user!r} in (tried {keys}): put the public key into ~{hop.user}/.ssh/authorized_keys there",
    )


def _send(channel: paramiko.Channel, data: bytes) -> None:
    try:
        channel.sendall(data)
        channel.shutdown_write()
    except OSError:
        return  # the other side ended before it read everything: its exit code tells


def _read_errors(channel: paramiko.Channel, into: list[bytes]) -> None:
    try:
        while data := channel.recv_stderr(1 << 16):
            into.append(data)
    except OSError:
        return
