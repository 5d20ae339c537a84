"""The gate in front of the head's HTTP API: who may speak to it, from which page, and what every answer must carry.

A browser on this machine can be made to call any local port by any web page (cross-site requests), and to believe that
a foreign name is this address (DNS rebinding). So `Host` must be a loopback name, `Origin` must be that same host, a
request that a foreign page started is refused, and a bearer header (never a cookie) is asked of all that carries data.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from clusterctl_runtime.head.api.callers import Answered, Body, body_of

Authenticate = Callable[[str], Any]  # token -> principal, or None when the token is unknown

CONTENT_SECURITY_POLICY = "; ".join(
    (
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "connect-src 'self'",
        "img-src 'self' data:",
        "frame-ancestors 'none'",
        "base-uri 'none'",
        "form-action 'none'",
        "require-trusted-types-for 'script'",  # the browser itself refuses innerHTML and its kin
        "trusted-types 'none'",
    )
)
SECURITY_HEADERS = (
    (b"content-security-policy", CONTENT_SECURITY_POLICY.encode()),
    (b"x-content-type-options", b"nosniff"),
    (b"x-frame-options", b"DENY"),
    (b"referrer-policy", b"no-referrer"),
    (b"cross-origin-opener-policy", b"same-origin"),
    (b"cross-origin-resource-policy", b"same-origin"),
)
_OURS = frozenset(name for name, _ in SECURITY_HEADERS)
_LOOPBACK = re.compile(r"(?:127\.0\.0\.1|localhost|\[::1\])(?::[0-9]{1,5})?", re.IGNORECASE)
_BEARER = re.compile(r"bearer +([!-~]{1,2048})", re.IGNORECASE)
_DEFAULT_PORTS = {"http": ":80", "https": ":443"}


@dataclass(frozen=True)
class Refusal:
    """An answer given instead of the application's: HTTP status, machine-readable code, sentence, and what to do."""

    status: int
    code: str
    message: str
    fix: str

    def body(self) -> bytes:
        """In JSON, like every error of the API."""
        return json.dumps({"error": {"code": self.code, "message": self.message, "fix": self.fix}}).encode()


class Guard:
    """ASGI middleware for http and websocket scopes; what passes finds its principal in `request.state.principal`.

    `authenticate` maps a bearer token to a principal or None, and compares in constant time. Only `GET /healthz`, the
    static page and the exchange of a ticket pass without a token.
    """

    def __init__(self, app: ASGIApp, authenticate: Authenticate) -> None:
        self.app = app
        self.authenticate = authenticate

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] not in ("http", "websocket"):
            await self.app(scope, receive, send)
            return
        send = _with_security_headers(scope, send)
        refusal = self.refuse(scope)
        if refusal is None and scope["type"] == "http":
            await self._call(scope, receive, send)
        elif refusal is None:
            await self.app(scope, receive, send)
        elif scope["type"] == "http":
            await _answer(refusal, send)
        else:
            await _close(refusal, scope, receive, send)

    async def _call(self, scope: Scope, receive: Receive, send: Send) -> None:
        """The application with a body that is counted. Where that is too much, the caller hears so and not what the application
        makes of a body that broke off."""
        body = body_of(scope, receive, scope["state"]["principal"])
        answer = Answered(send, lambda: bool(body.exceeded))
        try:
            await self.app(scope, body, answer)
        except Exception:
            if not body.exceeded:
                raise
        if body.exceeded and not answer.begun:
            await _answer(_too_much(body), send)

    def refuse(self, scope: Scope) -> Refusal | None:
        """Why this request may not pass, or None; a good token's principal is left in the scope's state."""
        refusal = _refuse_place(scope) or _refuse_path(scope)
        if refusal is not None:
            return refusal
        principal = self._principal(scope)
        if principal is None and not _is_public(scope):
            return Refusal(
                401,
                "unauthenticated",
                "This call needs a valid token in the header `Authorization: Bearer TOKEN`.",
                "Use the clusterctl command line, or run `clusterctl dashboard` for the page.",
            )
        scope.setdefault("state", {})["principal"] = principal
        return None

    def _principal(self, scope: Scope) -> Any:
        values = _header(scope, b"authorization")
        match = _BEARER.fullmatch(values[0]) if len(values) == 1 else None
        return self.authenticate(match.group(1)) if match else None


def _header(scope: Scope, name: bytes) -> list[str]:
    return [value.decode("latin-1").strip() for key, value in scope["headers"] if key.lower() == name]


def _refuse_place(scope: Scope) -> Refusal | None:
    """Refuses what a foreign name, a foreign page or a CORS preflight sent, before anything else is looked at."""
    hosts, origins, sites = (_header(scope, name) for name in (b"host", b"origin", b"sec-fetch-site"))
    if len(hosts) != 1 or not _LOOPBACK.fullmatch(hosts[0]):
        return Refusal(
            403,
            "foreign_host",
            "The Host header of this request does not name this machine's loopback address.",
            "Open the page as http://127.0.0.1:PORT/, as `clusterctl dashboard` prints it.",
        )
    if origins and (len(origins) != 1 or not _same_origin(scope, origins[0], hosts[0])):
        return _foreign_page("A page of another origin made this request.")
    if sites and sites not in (["same-origin"], ["none"]):
        return _foreign_page("Another site made this request.")
    if scope["type"] == "http" and scope["method"] == "OPTIONS":
        return _foreign_page("OPTIONS is refused: this API is for its own page and for the command line only.")
    return None


def _foreign_page(message: str) -> Refusal:
    fix = "Type or paste the address that `clusterctl dashboard` prints into the address bar."
    return Refusal(403, "foreign_page", message, fix)


def _same_origin(scope: Scope, origin: str, host: str) -> bool:
    given = str(scope["scheme"])
    scheme = {"ws": "http", "wss": "https"}.get(given, given)
    default = _DEFAULT_PORTS.get(scheme, "")
    return origin.lower().removesuffix(default) == f"{scheme}://{host.lower().removesuffix(default)}"


def _refuse_path(scope: Scope) -> Refusal | None:
    """Paths that could mean one thing here and another to a file system or to the router are refused outright."""
    path: str = scope["path"]
    odd = "\\" in path or "//" in path or any(ord(character) < 32 for character in path)
    if odd or any(part in (".", "..") for part in path.split("/")):
        return Refusal(
            400,
            "bad_path",
            "The path of this request has empty, dot or control parts.",
            "Ask for the plain path of the API, as in /openapi.json.",
        )
    return None


def _is_public(scope: Scope) -> bool:
    if scope["type"] != "http":
        return False
    path: str = scope["path"]
    if scope["method"] in ("GET", "HEAD"):
        return path in ("/", "/healthz") or path.startswith("/static/")
    return scope["method"] == "POST" and path == "/api/v1/session"


def _with_security_headers(scope: Scope, send: Send) -> Send:
    """Adds our headers to every answer and takes out what would open it to other origins, whoever set it."""

    async def send_guarded(message: Message) -> None:
        if message["type"] in ("http.response.start", "websocket.http.response.start"):
            kept = [(key, value) for key, value in message.get("headers", ()) if _may_stay(key.lower())]
            if scope["path"].startswith("/api"):
                kept = [(key, value) for key, value in kept if key.lower() != b"cache-control"]
                kept.append((b"cache-control", b"no-store"))
            message = {**message, "headers": [*kept, *SECURITY_HEADERS]}
        await send(message)

    return send_guarded


def _may_stay(name: bytes) -> bool:
    return name not in _OURS and not name.startswith(b"access-control-")


def _start(refusal: Refusal, kind: str) -> Message:
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(refusal.body())).encode())]
    headers.append((b"cache-control", b"no-store"))
    if refusal.status in (408, 413):
        headers.append((b"connection", b"close"))  # the rest of that body is not read
    if refusal.status == 401:
        headers.append((b"www-authenticate", b"Bearer"))
    return {"type": f"{kind}.response.start", "status": refusal.status, "headers": headers}


def _too_much(body: Body) -> Refusal:
    if body.exceeded == "seconds":
        return Refusal(
            408,
            "too_slow",
            f"The body of this request was not there after {body.seconds:g} s.",
            "Send it at once, or with a token.",
        )
    return Refusal(
        413,
        "too_large",
        f"The body of this request is over {body.most} bytes, the most that this call takes.",
        "Split it: jobs can be submitted in several batches. Files travel in packages.",
    )


async def _answer(refusal: Refusal, send: Send) -> None:
    await send(_start(refusal, "http"))
    await send({"type": "http.response.body", "body": refusal.body()})


async def _close(refusal: Refusal, scope: Scope, receive: Receive, send: Send) -> None:
    """Refuses a websocket before it is accepted: an HTTP answer where the server can, else its own 403."""
    await receive()  # websocket.connect
    if "websocket.http.response" in scope.get("extensions", {}):
        await send(_start(refusal, "websocket.http"))
        await send({"type": "websocket.http.response.body", "body": refusal.body()})
    else:
        await send({"type": "websocket.close", "code": 1008, "reason": refusal.code})
