"""From an address to a login: the connection, the server's key, the user's. Nothing is sent before the key was judged.

Uses paramiko's Transport, not its SSHClient, so that the host's key is judged by us and nothing is tried that was not asked for.
"""

from __future__ import annotations

import logging
import random
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import paramiko
from paramiko.common import OPEN_FAILED_ADMINISTRATIVELY_PROHIBITED

from clusterctl.provision.ssh.gateways import Forwarded
from clusterctl.provision.ssh.greeting import Greeted, NoAlgorithm, is_worth_another_dial
from clusterctl.provision.ssh.hostkeys import CERTIFICATES, Distrusted, Trust
from clusterctl.provision.ssh.login import log_in
from clusterctl.provision.ssh.master import Beyond, Login, Master, can_more
from clusterctl.provision.ssh.proxy import Proxy
from clusterctl.provision.ssh.target import Target
from clusterctl.provision.ssh.trouble import HostTrouble

logging.getLogger("paramiko").setLevel(logging.CRITICAL)  # it prints tracebacks of what is handled here

KEEPALIVE_SECONDS = 15
HUNG_UP_PAUSES = (0.3, 1.0, 2.0)  # seconds, about, between dials of a server that hung up
_KEY_KINDS = [["ssh-ed25519"], [f"ecdsa-sha2-nistp{bits}" for bits in (256, 384, 521)], ["ssh-rsa"]]


@dataclass(frozen=True)
class Patience:
    """Seconds. A lost packet or two, slow look-ups of names and of users (PAM) are no reason to give a host up."""

    connect: float = 20.0
    greet: float = 30.0  # until it names itself, and again until it has shown its key
    login: float = 60.0  # for each key


def dial(hop: Target, trust: Trust, through: Login | None, patience: Patience, target: Target) -> Login:
    """A login to `hop`, on the way to `target` or there: by paramiko, or by OpenSSH's client where only that can do it. Raises
    HostTrouble."""
    where = place_of(hop) if hop is target else f"its jump host {place_of(hop)}"
    beyond = Beyond(trust)
    try:
        if beyond.is_noted(hop):
            return _dial_by_openssh(hop, trust, through, patience, where, target)
        try:
            return _dial(hop, trust, through, patience, where, hop_before(hop, target))
        except HostTrouble as trouble:
            if not can_more(trouble, hop):
                raise
            try:
                made = _dial_by_openssh(hop, trust, through, patience, where, target)
            except HostTrouble as error:
                raise HostTrouble(trouble.code, f"{trouble}. {error}") from error
            beyond.note(hop)
            return made
    except Distrusted as refusal:
        raise HostTrouble("host_key", f"{where}: {refusal}") from refusal


def _dial(
    hop: Target, trust: Trust, through: Login | None, patience: Patience, where: str, before: str
) -> paramiko.Transport:
    """A pinned key may be of any kind, and a server shows one: each kind is asked for until the pinned one comes. Raises
    Distrusted and HostTrouble."""
    refusal: Distrusted | None = None
    for kinds in _KEY_KINDS if hop.host_key else [trust.kinds(hop)]:
        try:
            return _greet_patiently(
                hop, trust, kinds, lambda: _socket(hop, through, patience, where, before), patience, where
            )
        except Distrusted as error:
            refusal = refusal or error
    assert refusal is not None
    raise refusal


def _dial_by_openssh(
    hop: Target, trust: Trust, through: Login | None, patience: Patience, where: str, target: Target
) -> Master:
    """Through a login to the jump host that OpenSSH's client has, else with one of its own."""
    seconds = patience.connect + patience.greet + patience.login
    if isinstance(through, Master):
        return Master(replace(hop, jumps=()), through.way_to(hop.host, hop.port), trust, seconds, where)
    hops = target.jumps if hop is target else target.jumps[: target.jumps.index(hop)]
    return Master(replace(hop, jumps=hops), (), trust, seconds, where)


def place_of(hop: Target) -> str:
    """ "host:port", an IPv6 address in brackets."""
    return f"[{hop.host}]:{hop.port}" if ":" in hop.host else f"{hop.host}:{hop.port}"


def hop_before(hop: Target, target: Target) -> str:
    """The jump host from which `hop` is dialled, "" where it is this machine."""
    if hop is target:
        return place_of(target.jumps[-1]) if target.jumps else ""
    return next((place_of(a) for a, b in zip(target.jumps, target.jumps[1:], strict=False) if b is hop), "")


def _greet_patiently(
    hop: Target, trust: Trust, kinds: list[str], connect: Callable[[], Any], patience: Patience, where: str
) -> paramiko.Transport:
    for dials, pause in enumerate((*HUNG_UP_PAUSES, None), 1):
        try:
            return _greet(hop, trust, kinds, connect(), patience, where, dials)
        except HostTrouble as trouble:
            if not is_worth_another_dial(trouble) or pause is None:
                raise
            time.sleep(pause * (0.5 + random.random()))  # so that not all come again at once
    raise AssertionError("unreachable: the last try returns or raises")


def _greet(
    hop: Target, trust: Trust, kinds: list[str], sock: Any, patience: Patience, where: str, dials: int
) -> paramiko.Transport:
    """Raises Distrusted before anything of ours is sent, and HostTrouble."""
    transport = Greeted(sock)
    try:
        transport.banner_timeout = transport.handshake_timeout = patience.greet
        _prefer(transport, kinds)
        _start(transport, sock, patience, where, dials)
        trust.check(hop, transport.get_remote_server_key())
        log_in(transport, hop, where, patience.login)
        transport.set_keepalive(KEEPALIVE_SECONDS)
        if isinstance(sock, socket.socket) and not isinstance(sock, Proxy):
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return transport
    except BaseException:
        transport.close()
        raise


def _start(transport: Greeted, sock: Any, patience: Patience, where: str, dials: int) -> None:
    began = time.monotonic()
    try:
        transport.start_client(timeout=2 * patience.greet)
        if not transport.initial_kex_done:
            raise TimeoutError  # start_client returns then, as if all were well
    except NoAlgorithm as error:
        raise HostTrouble("no_algorithm", f"{where} and this side have no algorithm in common. {error}") from error
    except (paramiko.SSHException, EOFError, OSError) as error:
        if time.monotonic() - began >= patience.greet or isinstance(error, TimeoutError):
            raise HostTrouble(
                "hangs",
                f"{where} takes connections, but its SSH server did not answer within {patience.greet:g} s: it hangs or is "
                "overloaded; look at it on the machine's console, restart sshd",
            ) from error
        if isinstance(sock, Proxy):
            raise _proxy_trouble(sock, where) from error
        if words := getattr(sock, "stderr_tail", str)():
            raise HostTrouble("unreachable", f"its jump host got no connection to {where}: {words}") from error
        raise transport.hung_up(where, dials, error) from error


def _proxy_trouble(proxy: Proxy, where: str) -> HostTrouble:
    """What a ProxyCommand said, which is not of the host but of the way to it."""
    return HostTrouble("unreachable", f"the ProxyCommand to {where} ({proxy.words[0]}) ended: {proxy.stderr_tail()}")


def _socket(hop: Target, through: Login | None, patience: Patience, where: str, before: str) -> Any:
    if through is not None:
        return _forwarded(hop, through, patience, where, before)
    if hop.command:
        return _proxy(hop.command, where)
    timeout = patience.connect
    try:
        return socket.create_connection((hop.host, hop.port), timeout=timeout)
    except socket.gaierror as error:
        raise _no_name(hop.host, error) from error
    except TimeoutError as error:
        raise HostTrouble(
            "silent", f"{where} does not answer within {timeout:g} s: is it on, and is its network reachable from here?"
        ) from error
    except ConnectionRefusedError as error:
        raise HostTrouble(
            "no_sshd", f"{where} refuses connections: start its SSH server there, or set `port`"
        ) from error
    except OSError as error:
        raise HostTrouble(
            "unreachable",
            f"{where} cannot be reached ({error.strerror or error}): check its address and the network",
        ) from error


def _no_name(host: str, error: socket.gaierror) -> HostTrouble:
    if error.errno == socket.EAI_AGAIN:
        return HostTrouble(
            "no_dns", f"the name {host!r} could not be looked up ({error.strerror}): this machine's DNS does not answer"
        )
    return HostTrouble("no_name", f"the name {host!r} is not known ({error.strerror}): check its spelling, or DNS")


def _proxy(command: str, where: str) -> Proxy:
    try:
        return Proxy(command)
    except (OSError, ValueError) as error:
        text = getattr(error, "strerror", None) or error
        raise HostTrouble("unreachable", f"the ProxyCommand to {where} ({command}) cannot be run: {text}") from error


def _forwarded(hop: Target, through: Login, patience: Patience, where: str, before: str) -> Forwarded:
    """Dialled from a jump host, which looks the name up as well."""
    there = (hop.host, hop.port)
    try:
        return Forwarded(through.open_channel("direct-tcpip", there, ("127.0.0.1", 0), timeout=patience.connect))
    except paramiko.ChannelException as error:
        if error.code == OPEN_FAILED_ADMINISTRATIVELY_PROHIBITED:
            raise HostTrouble(
                "no_forwarding",
                f"the jump host {before} lets in and forwards no connection to {where}: AllowTcpForwarding, PermitOpen or "
                "DisableForwarding in its sshd_config, or an option of the key in its authorized_keys",
            ) from error
        raise HostTrouble(
            "unreachable",
            f"the jump host {before} got no connection to {where}: is it on, does its sshd listen on that port, and is its "
            "name known there?",
        ) from error
    except (OSError, EOFError, paramiko.SSHException) as error:
        text = f"within {patience.connect:g} s" if "Timeout" in str(error) else f"({error or type(error).__name__})"
        raise HostTrouble(
            "unreachable",
            f"the jump host {before} got no connection to {where} {text}: is it on, and reachable from there?",
        ) from error


def _prefer(transport: paramiko.Transport, kinds: list[str]) -> None:
    """Negotiates a key that can be compared with what is known; certificates only where an authority is known."""
    if kinds:
        options = transport.get_security_options()
        wanted = [t for k in kinds for t in (("rsa-sha2-512", "rsa-sha2-256", k) if k == "ssh-rsa" else (k,))]
        have = list(options.key_types)
        able = {*have, *CERTIFICATES}
        options.key_types = [k for k in wanted if k in able] + [k for k in have if k not in wanted]
