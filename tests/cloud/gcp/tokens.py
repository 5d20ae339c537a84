"""Google's token endpoint, and who a bearer of one of its tokens is. Service accounts prove themselves by a signed JWT."""

from __future__ import annotations

import base64
import functools
import json
import secrets
import time
from dataclasses import dataclass, field
from typing import Any

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from google.auth import crypt, jwt
from werkzeug.wrappers import Request, Response

from tests.cloud.gcp.world import PROJECT, Principal, Refusal, World

HOST = "oauth2.googleapis.com"
JWT_BEARER = "urn:ietf:params:oauth:grant-type:jwt-bearer"
_SHORT_LIVED = (
    "Invalid JWT: Token must be a short-lived token (60 minutes) and in a reasonable timeframe. Check your iat and exp "
    "values in the JWT claim."
)


@dataclass
class Account:
    """A service account. `keys`: id of a key -> its public half, PEM."""

    email: str
    unique_id: str
    project: str = PROJECT
    display_name: str = ""
    disabled: bool = False
    known_from: float = 0.0  # by the world's clock: when Compute Engine hears of it
    keys: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class _Token:
    principal: Principal
    until: float  # by the world's clock


class Tokens:
    def __init__(self, world: World) -> None:
        self._world = world
        self._issued: dict[str, _Token] = {}
        self._refresh: dict[str, str] = {}  # a user's refresh token -> his e-mail address

    def issue(self, email: str, scopes: tuple[str, ...]) -> tuple[str, int]:
        """(token, seconds for which it is good)."""
        token, seconds = f"ya29.{secrets.token_urlsafe(24)}", self._world.token_seconds
        with self._world.lock:
            self._issued[token] = _Token(Principal(email, scopes), self._world.clock() + seconds)
        return token, int(seconds)

    def add_user(self, email: str) -> dict[str, str]:
        """What `gcloud auth application-default login` leaves for a user, without a token_uri."""
        token = f"1//{secrets.token_urlsafe(16)}"
        self._refresh[token] = email
        return {"type": "authorized_user", "client_id": "clusterctl-test.apps.googleusercontent.com",
                "client_secret": "not-a-secret", "refresh_token": token}  # fmt: skip

    def principal(self, authorization: str) -> Principal:
        """Raises Refusal for an unknown or lapsed token."""
        scheme, _, token = authorization.partition(" ")
        if not authorization:
            raise Refusal(
                401, "required",
                "Request is missing required authentication credential. Expected OAuth 2 access token, login cookie or "
                "other valid authentication credential. See "
                "https://developers.google.com/identity/sign-in/web/devconsole-project.",
                status="UNAUTHENTICATED", location="Authorization",
            )  # fmt: skip
        with self._world.lock:
            known = self._issued.get(token) if scheme == "Bearer" else None
        account = self._world.accounts.get(known.principal.email) if known else None
        if known is None or self._world.lapsed or known.until <= self._world.clock() or (account and account.disabled):
            raise Refusal(
                401, "authError",
                "Request had invalid authentication credentials. Expected OAuth 2 access token, login cookie or other valid "
                "authentication credential. See https://developers.google.com/identity/sign-in/web/devconsole-project.",
                status="UNAUTHENTICATED", location="Authorization",
                details=[{"@type": "type.googleapis.com/google.rpc.ErrorInfo", "reason": "ACCESS_TOKEN_EXPIRED",
                          "domain": "googleapis.com", "metadata": {"service": "compute.googleapis.com"}}],
            )  # fmt: skip
        return known.principal

    # ------------------------------------------------------------ the endpoint

    def answer(self, request: Request, path: str) -> Response:
        form = request.form
        if path != "/token" or request.method != "POST":
            return Response("Not found", status=404)
        if self._world.lapsed:
            return _error("invalid_grant", "Token has been expired or revoked.")
        kind = form.get("grant_type", "")
        if kind == JWT_BEARER:
            return self._for_assertion(form.get("assertion", ""))
        if kind == "refresh_token":
            email = self._refresh.get(form.get("refresh_token", ""))
            if email is None:
                return _error("invalid_grant", "Token has been expired or revoked.")
            return self._granted(email, "https://www.googleapis.com/auth/cloud-platform")
        return _error("unsupported_grant_type", f"Invalid grant_type: {kind}")

    def _for_assertion(self, assertion: str) -> Response:
        try:
            header = jwt.decode_header(assertion)
            claims: dict[str, Any] = dict(jwt.decode(assertion, verify=False))
        except ValueError:
            return _error("invalid_request", "Invalid JWT: Failed to parse.")
        account = self._world.accounts.get(claims.get("iss", ""))
        if account is None:
            return _error("invalid_grant", "Invalid grant: account not found")
        if account.disabled:
            return _error("invalid_grant", "Invalid grant: account disabled")
        key = account.keys.get(header.get("kid", ""))
        if key is None or not crypt.verify_signature(*_signed(assertion), key):
            return _error("invalid_grant", "Invalid JWT Signature.")
        now = time.time() + self._world.clock_offset
        made, until = claims.get("iat", 0), claims.get("exp", 0)
        if not (made <= now + 300 and now < until <= made + 3660):
            return _error("invalid_grant", _SHORT_LIVED)
        if not str(claims.get("aud", "")).endswith(f"{HOST}/token"):
            return _error("invalid_grant", "Invalid JWT: aud must be the token endpoint")
        if not claims.get("scope"):
            return _error("invalid_scope", "Invalid OAuth scope or ID token audience provided.")
        return self._granted(account.email, claims["scope"])

    def _granted(self, email: str, scope: str) -> Response:
        token, seconds = self.issue(email, tuple(scope.split()))
        answer = {"access_token": token, "expires_in": seconds, "token_type": "Bearer"}
        return Response(json.dumps(answer), content_type="application/json; charset=UTF-8")


def _signed(assertion: str) -> tuple[bytes, bytes]:
    """(what was signed, signature)."""
    text, _, signature = assertion.rpartition(".")
    return text.encode(), base64.urlsafe_b64decode(signature + "=" * (-len(signature) % 4))


def _error(code: str, description: str) -> Response:
    text = json.dumps({"error": code, "error_description": description})
    return Response(text, status=400, content_type="application/json; charset=UTF-8")


@functools.cache
def _key_pair() -> tuple[str, str]:
    """(private, public), PEM: the making takes a while, so all accounts of the tests share one."""
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    public = key.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    return private.decode(), public.decode()


def make_key(account: Account, url: str) -> dict[str, str]:
    """A new key of the account, as the JSON file that Google gives once. `url`: the stand-in's."""
    private, public = _key_pair()
    name = secrets.token_hex(20)
    account.keys[name] = public
    return {
        "type": "service_account", "project_id": account.project, "private_key_id": name, "private_key": private,
        "client_email": account.email, "client_id": account.unique_id, "token_uri": f"{url}/{HOST}/token",
        "universe_domain": "googleapis.com",
    }  # fmt: skip
