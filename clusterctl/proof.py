"""How a head shows that it is the head, before anybody hands it a token.

The client asks with a fresh challenge; the head answers with a keyed digest of it. The key is the digest of the admin token,
which the head has on disk and the client can compute; the token itself is neither sent nor needed. The port that the head
listens on is part of what is proven: a stranger on another port may pass the challenge on to the real head, and gains an
answer that fits that head's port only. See docs/adr/0130.
"""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets

_CHALLENGE = re.compile(r"[0-9a-f]{32}")
_PURPOSE = "clusterctl head proof 1"  # the digest of the token proves nothing else


def new_challenge() -> str:
    """128 random bits in hex, for one question."""
    return secrets.token_hex(16)


def is_challenge(text: str) -> bool:
    """Whether it has the form of one."""
    return _CHALLENGE.fullmatch(text) is not None


def proof_of(token_sha256: str, challenge: str, port: int) -> str:
    """What the head that listens on `port` answers; `token_sha256`: hex digest of its admin token."""
    text = f"{_PURPOSE}\0{challenge}\0{port}"
    return hmac.new(bytes.fromhex(token_sha256), text.encode(), hashlib.sha256).hexdigest()


def is_proof(shown: str, token: str, challenge: str, port: int) -> bool:
    """Whether `shown` comes from a head that knows the digest of `token` and listens on `port`."""
    expected = proof_of(hashlib.sha256(token.encode()).hexdigest(), challenge, port)
    return hmac.compare_digest(shown.encode("utf-8", "surrogatepass"), expected.encode())
