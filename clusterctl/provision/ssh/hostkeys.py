"""Host keys: a host is believed only when its key is pinned in the spec, known already, or (if the spec says so) new.

Everything is decided from the key exchange, before this side has shown who it is: an impostor gets nothing.
"""

from __future__ import annotations

import base64
import hashlib
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import paramiko
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import serialization

from clusterctl.provision.ssh.knownhosts import Known, matches, read_known_hosts
from clusterctl.provision.ssh.target import Target

CERTIFICATE = "-cert-v01@openssh.com"
CERTIFICATES = [
    f"{kind}{CERTIFICATE}"
    for kind in (
        "ssh-ed25519",
        *(f"ecdsa-sha2-nistp{bits}" for bits in (256, 384, 521)),
        "rsa-sha2-512",
        "rsa-sha2-256",
    )
]


class Distrusted(Exception):
    """The host's key is not the one it should be, or nobody vouches for it; the message says what to do."""


class Trust:
    """`policy`: "known_hosts" or "accept-new". `remembered` is our own file of keys that were accepted when first seen;
    the user's own known_hosts is only read. `tell` gets a loud line for each of them."""

    def __init__(self, policy: str, remembered: Path, tell: Callable[[str], None]) -> None:
        self.remembered = remembered
        self._policy, self._tell = policy, tell
        self._lock = threading.Lock()
        self._files: dict[str, list[Known]] = {}

    def kinds(self, target: Target) -> list[str]:
        """The kinds of keys that are known of a host, for the negotiation to prefer them."""
        found: list[str] = []
        with self._lock:
            for line in self._lines(target):
                found += CERTIFICATES if line.marker == "@cert-authority" else [line.kind] if not line.marker else []
        return sorted(dict.fromkeys(found), key=lambda kind: kind not in CERTIFICATES)

    def check(self, target: Target, key: paramiko.PKey) -> None:
        """Raises Distrusted unless this is the host that is meant."""
        shown, certificate = fingerprint(key), _certificate(key)
        with self._lock:
            lines = list(self._lines(target))
            _refuse_revoked(lines, key, certificate, shown)
            if target.host_key:
                self._check_pinned(target, lines, key, shown)
                return
            if certificate is not None:
                _check_certificate(target, lines, certificate, shown)
                return
            keys = [line for line in lines if not line.marker]
            if any(line.blob == key.asbytes() for line in keys):
                return
            self._refuse_changed(target, keys, shown)
            if self._policy != "accept-new":
                raise Distrusted(
                    f"its host key {shown} is not known: log in once with ssh to check it, or pin it in the spec "
                    f"(host_key: {shown}), or write `auth: {{host_keys: accept-new}}`"
                )
            self._remember(names_of(target)[0], key)
        self._tell(f"WARNING: host {target.given} was never seen before; its key {shown} is trusted from now on")

    def lines(self, target: Target) -> list[Known]:
        """What another program needs to know to judge the host as `check` does: of a host that is pinned no other key."""
        with self._lock:
            return [line for line in self._lines(target) if self._counts(target, line)]

    def knows(self, target: Target) -> bool:
        """Whether any key of the target is known; revoked ones do not count."""
        return any(line.marker != "@revoked" for line in self.lines(target))

    def refuse_unseen(self, target: Target) -> None:
        """Raises Distrusted unless a host of which nothing is known may be accepted as it is."""
        if target.host_key:
            raise Distrusted(
                "only the fingerprint of its host key is known here, and OpenSSH's client wants the key itself: put it into "
                f"known_hosts (`ssh-keyscan -p {target.port} {target.host}`); only the one that is pinned will be believed"
            )
        if self._policy != "accept-new":
            raise Distrusted("its host key is not known: log in once with ssh to check it")

    @staticmethod
    def _counts(target: Target, line: Known) -> bool:
        if line.marker == "@revoked" or not target.host_key:
            return True
        return not line.marker and _fingerprint(line.blob) == target.host_key

    def _lines(self, target: Target) -> Iterator[Known]:
        """All that is said of this host."""
        names = names_of(target)
        for path in (*(Path(path).expanduser() for path in target.known_hosts), self.remembered):
            if str(path) not in self._files:
                self._files[str(path)] = read_known_hosts(path)
            yield from (line for line in self._files[str(path)] if any(line.is_of(name) for name in names))

    def _refuse_changed(self, target: Target, keys: list[Known], shown: str) -> None:
        """A host of which another key is known is not a new one, even if the other is of another kind."""
        name = names_of(target)[0]
        known = next((line for line in keys if line.is_of(name)), None)
        if known is not None:
            raise Distrusted(
                f"its host key has CHANGED to {shown}: somebody may be in between, or it was installed anew. If you "
                f"know that it was, remove the old key: ssh-keygen -R '{name}' -f {known.path}"
            )

    def _check_pinned(self, target: Target, lines: list[Known], key: paramiko.PKey, shown: str) -> None:
        """One that is right is noted for `clusterctl ssh`: OpenSSH knows keys, not fingerprints."""
        if shown != target.host_key:
            raise Distrusted(
                f"its host key {shown} is not the one pinned in the spec ({target.host_key}): somebody may be in "
                "between; ask who runs the host before you change `host_key`"
            )
        if not any(line.blob == key.asbytes() for line in lines if not line.marker):
            self._remember(names_of(target)[0], key)

    def _remember(self, name: str, key: paramiko.PKey) -> None:
        line = f"{name} {key.get_name()} {key.get_base64()}\n"
        self.remembered.touch(mode=0o600)
        with self.remembered.open("a", encoding="ascii") as file:
            file.write(line)
        self._files.pop(str(self.remembered), None)


def fingerprint(key: paramiko.PKey) -> str:
    """As `ssh-keygen -l` writes it: SHA256:BASE64 without padding."""
    return _fingerprint(key.asbytes())


def _fingerprint(blob: bytes) -> str:
    return "SHA256:" + base64.b64encode(hashlib.sha256(blob).digest()).decode().rstrip("=")


def names_of(target: Target) -> list[str]:
    """By which a host is looked up; that with its port first. OpenSSH takes the bare one as well."""
    if target.alias:
        return [target.alias.lower()]
    host = target.host.lower()
    return [host] if target.port == 22 else [f"[{host}]:{target.port}", host]


def _certificate(key: paramiko.PKey) -> serialization.SSHCertificate | None:
    """That which came with the key, None where the key came alone."""
    if key.public_blob is None:
        return None
    text = f"{key.public_blob.key_type} {base64.b64encode(key.public_blob.key_blob).decode()}"
    found = serialization.load_ssh_public_identity(text.encode())
    return found if isinstance(found, serialization.SSHCertificate) else None


def _refuse_revoked(
    lines: list[Known], key: paramiko.PKey, certificate: serialization.SSHCertificate | None, shown: str
) -> None:
    shown_keys = {key.asbytes(), *([_signer(certificate)] if certificate else [])}
    revoked = next((line for line in lines if line.marker == "@revoked" and line.blob in shown_keys), None)
    if revoked is not None:
        raise Distrusted(
            f"its host key {shown} is marked as revoked in {revoked.path}: whoever has it may be anybody; give the host a new key"
        )


def _check_certificate(
    target: Target, lines: list[Known], certificate: serialization.SSHCertificate, shown: str
) -> None:
    """By one of the authorities that are known for this host, for this host, and of this day."""
    if _signer(certificate) not in {line.blob for line in lines if line.marker == "@cert-authority"}:
        raise Distrusted(f"its host certificate ({shown}) is signed by an authority that is not known for it")
    name = target.alias or target.host
    principals = [principal.decode(errors="replace") for principal in certificate.valid_principals]
    if principals and not any(matches(pattern, name) for pattern in principals):
        raise Distrusted(f"its host certificate is for {', '.join(principals)}, and not for {name!r}")
    if not certificate.valid_after <= time.time() < certificate.valid_before:
        raise Distrusted("its host certificate is not valid at this time: renew it, or set this machine's clock")
    try:
        certificate.verify_cert_signature()
    except InvalidSignature as error:
        raise Distrusted("the signature of its host certificate is wrong") from error
    if certificate.type is not serialization.SSHCertificateType.HOST or certificate.critical_options:
        raise Distrusted("its certificate is none of a host")


def _signer(certificate: serialization.SSHCertificate) -> bytes:
    text = certificate.signature_key().public_bytes(serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH)
    return base64.b64decode(text.split()[1])
