"""How the page in a browser gets its token: a one-time ticket in the address is exchanged for a session token.

A ticket may show up in a browser's history or on a shared screen, so it lives for a minute and works once. A session
token is sealed with the head's key and not stored: whoever holds one keeps it over a restart of the head, and a new
key ends all of them. Times are unix seconds, passed in.
"""

from __future__ import annotations

import base64
import hashlib
import json
import secrets
from dataclasses import dataclass

from cryptography.fernet import Fernet, InvalidToken

TICKET_SECONDS = 60.0
SESSION_SECONDS = 12 * 3600.0
MAX_TICKETS = 256  # unused at one time; the oldest give way, so that asking for tickets cannot fill the memory


@dataclass(frozen=True)
class Ticket:
    """`text` is the secret that goes into the address; it is not kept here."""

    text: str
    expires: float


@dataclass(frozen=True)
class Session:
    """Who a session token speaks for. `expires` in unix seconds."""

    token: str
    role: str
    user: str
    expires: float


@dataclass(frozen=True)
class _Waiting:
    role: str
    user: str
    expires: float


class Tickets:
    """Tickets in memory, sessions sealed. `key_material` is any secret of the head's of at least 16 bytes that
    survives its restarts; None draws a new one, and then sessions end with this process."""

    def __init__(self, key_material: bytes | None = None) -> None:
        if key_material is not None and len(key_material) < 16:
            raise ValueError(f"the secret for session tokens has {len(key_material)} bytes; give at least 16")
        material = key_material or secrets.token_bytes(32)
        key = hashlib.sha256(b"clusterctl dashboard sessions\0" + material).digest()
        self._seal = Fernet(base64.urlsafe_b64encode(key))
        self._waiting: dict[bytes, _Waiting] = {}  # sha256 of the ticket -> whom it admits, oldest first

    def issue(self, *, role: str, user: str, now: float) -> Ticket:
        """A new ticket that admits its bearer once, with `role`, for TICKET_SECONDS."""
        self._drop_expired(now)
        while len(self._waiting) >= MAX_TICKETS:
            del self._waiting[next(iter(self._waiting))]
        text = secrets.token_urlsafe(32)
        self._waiting[_digest(text)] = _Waiting(role, user, now + TICKET_SECONDS)
        return Ticket(text, now + TICKET_SECONDS)

    def exchange(self, ticket: str, *, now: float) -> Session | None:
        """The session for a ticket, which is used up by this; None when it is unknown, used or too old."""
        waiting = self._waiting.pop(_digest(ticket), None)
        if waiting is None or now >= waiting.expires:
            return None
        claims = {"role": waiting.role, "user": waiting.user}
        token = self._seal.encrypt_at_time(json.dumps(claims).encode(), int(now)).decode()
        return Session(token, waiting.role, waiting.user, int(now) + SESSION_SECONDS)

    def session(self, token: str, *, now: float) -> Session | None:
        """Whom a session token speaks for, or None when it is not one of this head's or has run out.

        The seal is checked in constant time."""
        try:
            claims = json.loads(self._seal.decrypt_at_time(token, int(SESSION_SECONDS), int(now)))
        except InvalidToken:
            return None
        expires = self._seal.extract_timestamp(token) + SESSION_SECONDS
        return Session(token, claims["role"], claims["user"], expires)

    def _drop_expired(self, now: float) -> None:
        for digest in [digest for digest, waiting in self._waiting.items() if now >= waiting.expires]:
            del self._waiting[digest]


def _digest(ticket: str) -> bytes:
    return hashlib.sha256(ticket.encode("utf-8", "surrogatepass")).digest()
