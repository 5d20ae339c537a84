"""Files of known host keys, as sshd(8) describes them: patterns, hashed names, [host]:port, @cert-authority and @revoked."""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Literal


@dataclass(frozen=True)
class Known:
    """One line. `kind` is as in "ssh-ed25519", `blob` the public key on the wire."""

    path: str
    marker: Literal["", "@cert-authority", "@revoked"]
    names: tuple[str, ...]
    kind: str
    blob: bytes

    def is_of(self, name: str) -> bool:
        """Whether it is meant for `name`, which is "host" or "[host]:port" in lower case."""
        if any(pattern.startswith("!") and _matches(pattern[1:], name) for pattern in self.names):
            return False
        return any(not pattern.startswith("!") and _matches(pattern, name) for pattern in self.names)

    def text(self, names: str) -> str:
        """The line for other names, such as "host,[host]:2200"."""
        return f"{self.marker} {names} {self.kind} {base64.b64encode(self.blob).decode()}\n".lstrip()


def read_known_hosts(path: Path) -> list[Known]:
    """Lines that cannot be understood are passed over, as OpenSSH does; so is a file that is not there."""
    try:
        text = path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return []
    return [known for known in (_line(str(path), line) for line in text.splitlines()) if known is not None]


def _line(path: str, line: str) -> Known | None:
    words = line.split()
    marker: Literal["", "@cert-authority", "@revoked"] = ""
    if words and words[0] in ("@cert-authority", "@revoked"):
        marker = "@revoked" if words.pop(0) == "@revoked" else "@cert-authority"
    if len(words) < 3 or words[0][:1] in "#@":
        return None
    try:
        blob = base64.b64decode(words[2], validate=True)
    except binascii.Error:
        return None
    return Known(path, marker, tuple(words[0].split(",")), words[1], blob)


def _matches(pattern: str, name: str) -> bool:
    if pattern.startswith("|1|"):
        return _is_hash_of(pattern, name)
    return matches(pattern, name)


def matches(pattern: str, name: str) -> bool:
    """A pattern of ssh_config(5): * and ? are wild, and case does not count."""
    wild = {"*": ".*", "?": "."}
    return (
        re.fullmatch("".join(wild.get(c) or re.escape(c) for c in pattern), name, re.IGNORECASE | re.DOTALL) is not None
    )


def _is_hash_of(pattern: str, name: str) -> bool:
    try:
        salt, digest = (base64.b64decode(part, validate=True) for part in pattern.split("|")[2:])
    except (binascii.Error, ValueError):
        return False
    return hmac.compare_digest(hmac.new(salt, name.encode(), hashlib.sha1).digest(), digest)
