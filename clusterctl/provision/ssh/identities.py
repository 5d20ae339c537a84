"""The keys by which a host is logged in to: files, and those of ssh-agent."""

from __future__ import annotations

import base64
import socket
import struct
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import paramiko
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from paramiko.agent import AgentKey, AgentSSH

from clusterctl.provision.ssh.target import Target

_OPENSSH = b"openssh-key-v1\0"


class KeyTrouble(Exception):
    """A key that the spec names cannot be used; the message says why."""


class Agent(AgentSSH):
    """The agent at a socket; without keys when it does not answer. `why` says why not."""

    def __init__(self, path: str) -> None:
        super().__init__()
        self.why = "no ssh-agent runs (SSH_AUTH_SOCK is not set)" if not path else ""
        if not path:
            return
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            sock.connect(path)
            cast(Any, self)._connect(sock)  # the way in of those that derive from it
        except (OSError, paramiko.SSHException, struct.error) as error:
            sock.close()
            self.why = f"ssh-agent at {path} does not answer ({getattr(error, 'strerror', None) or error})"

    def find(self, public: bytes) -> AgentKey | None:
        """The agent's key with this public part; None where it has none."""
        return next((key for key in self.get_keys() if public and key.blob == public), None)

    def close(self) -> None:
        cast(Any, self)._close()


def identities(hop: Target, tried: list[str]) -> Iterator[paramiko.PKey]:
    """Every key to try, named ones first; `tried` gets a word on each, and on those that could not be tried. Raises
    KeyTrouble."""
    agent = Agent(hop.agent)
    try:
        used: set[bytes] = set()
        for path in hop.keys:
            key = _named(path, agent, tried)
            if key is not None:
                used.add(key.blob if isinstance(key, AgentKey) else key.asbytes())
                yield from _with_certificates(key, path, hop.certificates, tried)
        for key in agent.get_keys() if hop.all_of_agent else ():
            if key.blob not in used:
                tried.append(f"{key.comment or 'a key'} of ssh-agent")
                yield key
    finally:
        agent.close()


def _named(path: str, agent: Agent, tried: list[str]) -> paramiko.PKey | None:
    """The key of a file; that of the agent where the file has a passphrase, or the public half only."""
    try:
        key = paramiko.PKey.from_path(path)
        tried.append(path)
        return key
    except FileNotFoundError as error:
        if not Path(f"{path}.pub").is_file():
            raise KeyTrouble(f"the key {path} is not there") from error
        why = "only its public half is there"
    except (paramiko.PasswordRequiredException, TypeError):
        why = "has a passphrase"
    except (paramiko.SSHException, ValueError, UnsupportedAlgorithm):
        why = "is no private key"
    except OSError as error:
        raise KeyTrouble(f"the key {path} cannot be read ({error.strerror})") from error
    held = agent.find(public_half(path))
    if held is not None:
        tried.append(f"{path} (by ssh-agent)")
        return held
    without = agent.why or "ssh-agent does not have it"
    tried.append(f"{path} ({why}, and {without}: ssh-add {path})")
    return None


def _with_certificates(
    key: paramiko.PKey, path: str, certificates: tuple[str, ...], tried: list[str]
) -> Iterator[paramiko.PKey]:
    """The key with each certificate that was made for it and holds today, then alone."""
    for name in (f"{path}-cert.pub", *certificates):
        place = Path(name).expanduser()
        certificate = _certificate_of(place, key)
        if certificate is None:
            continue
        if why := _not_of_today(certificate):
            tried.append(f"{path} without its certificate: {place} {why}")
            continue
        key.load_certificate(str(place))
        yield key
    key.public_blob = None
    yield key


def _certificate_of(path: Path, key: paramiko.PKey) -> serialization.SSHCertificate | None:
    try:
        found = serialization.load_ssh_public_identity(path.read_bytes())
    except (OSError, ValueError, UnsupportedAlgorithm):
        return None
    return (
        found
        if isinstance(found, serialization.SSHCertificate) and _blob(found.public_key()) == key.asbytes()
        else None
    )


def _not_of_today(certificate: serialization.SSHCertificate) -> str:
    now = time.time()
    if now >= certificate.valid_before:
        return f"expired on {_day(certificate.valid_before)}: have it renewed"
    if now < certificate.valid_after:
        return f"is valid from {_day(certificate.valid_after)} on: wait, or set this machine's clock"
    return ""


def _day(seconds: int) -> str:
    return time.strftime("%Y-%m-%d %H:%M", time.localtime(seconds))


def public_half(path: str) -> bytes:
    """The public key of a file, as it is on the wire: of a public key, of the one beside a private key, or the one inside of it,
    which is not encrypted. Empty where it is not to be known."""
    for place in (path, f"{path}.pub"):
        try:
            data = Path(place).read_bytes()
        except OSError:
            continue
        if found := _public_line(data) or _inside(data):
            return found
    return b""


def _public_line(data: bytes) -> bytes:
    try:
        return _blob(serialization.load_ssh_public_key(data))
    except (ValueError, UnsupportedAlgorithm):
        words = data.split()  # of a kind that is not known here, such as that of a security key
        return _decoded(words[1]) if len(words) > 1 and words[0].startswith((b"sk-", b"ssh-", b"ecdsa-")) else b""


def _inside(data: bytes) -> bytes:
    """Of OpenSSH's own format: magic, cipher, kdf, its options, the number of keys, the first public key."""
    lines = data.split(b"\n")
    if not lines[0].startswith(b"-----BEGIN OPENSSH PRIVATE KEY"):
        return b""
    body = _decoded(b"".join(line for line in lines if not line.startswith(b"-----")))
    if not body.startswith(_OPENSSH):
        return b""
    message = paramiko.Message(body[len(_OPENSSH) :])
    for _ in range(3):
        message.get_binary()
    return message.get_binary() if message.get_int() else b""


def _decoded(text: bytes) -> bytes:
    try:
        return base64.b64decode(text)
    except ValueError:
        return b""


def _blob(key: serialization.SSHPublicKeyTypes) -> bytes:
    text = key.public_bytes(serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH)
    return base64.b64decode(text.split()[1])
