"""How an application proves itself without a secret: by a JWT that its certificate has signed, or that another provider has
issued whom it trusts (workload identity federation)."""

from __future__ import annotations

import base64
import hashlib
from typing import TYPE_CHECKING, Any

import jwt
from cryptography import x509
from cryptography.hazmat.primitives import serialization

if TYPE_CHECKING:
    from tests.cloud.azure.tokens import Application

ISSUER = "https://token.actions.githubusercontent.com"
AUDIENCE = "api://AzureADTokenExchange"
LEEWAY = 300.0  # seconds that the clocks of both may be apart


def word(subject: str, issuer: str = ISSUER, audience: str = AUDIENCE) -> str:
    """Another provider's token for `subject`."""
    return jwt.encode({"iss": issuer, "sub": subject, "aud": audience}, "another-providers-own-key-of-32-bytes")


def check(application: Application, assertion: str, endpoint: str, now: float) -> None:
    """Raises EntraError unless the assertion is the application's."""
    try:
        header = jwt.get_unverified_header(assertion)
        claims: dict[str, Any] = jwt.decode(assertion, options={"verify_signature": False})
    except jwt.InvalidTokenError:
        raise _error(50027, "JWT token is invalid or malformed.", "invalid_request", 400) from None
    if claims.get("iss") == application.principal.client_id:
        _check_signed(application, assertion, header, claims, endpoint, now)
    elif claims.get("aud") != AUDIENCE:
        raise _error(700212, f"No matching federated identity record found for presented assertion audience "
                     f"'{claims.get('aud')}'.")  # fmt: skip
    elif (claims.get("iss"), claims.get("sub")) not in application.trusted:
        raise _error(
            700213,
            f"No matching federated identity record found for presented assertion "
            f"subject '{claims.get('sub')}'. Please note that the matching is done using a case-sensitive comparison.",
        )


def _check_signed(
    application: Application, assertion: str, header: dict[str, Any], claims: dict[str, Any], endpoint: str, now: float
) -> None:
    known = {_thumbprint(pem, how): pem for pem in application.certificates for how in ("x5t", "x5t#S256")}
    pem = known.get(str(header.get("x5t#S256") or header.get("x5t") or "").rstrip("="))
    if pem is None:
        raise _error(700027, "The certificate with identifier used to sign the client assertion is not registered on "
                     "application. [Reason - The key was not found.]")  # fmt: skip
    key = x509.load_pem_x509_certificate(pem.encode()).public_key()
    public = key.public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    algorithms, unclocked = ["RS256", "PS256"], {"verify_exp": False, "verify_nbf": False, "verify_iat": False}
    try:
        jwt.decode(assertion, public, algorithms, audience=endpoint, options=unclocked)
    except jwt.InvalidTokenError:
        raise _error(700027, "Client assertion failed signature validation.") from None
    since, until = float(claims.get("nbf", claims.get("iat", 0))), float(claims.get("exp", 0))
    if not since - LEEWAY <= now <= until + LEEWAY:
        raise _error(700024, f"Client assertion is not within its valid time range. Current time: {now:.0f}, assertion valid "
                     f"from {since:.0f}, expiry time of assertion {until:.0f}.")  # fmt: skip


def _thumbprint(pem: str, how: str) -> str:
    der = x509.load_pem_x509_certificate(pem.encode()).public_bytes(serialization.Encoding.DER)
    digest = (hashlib.sha1 if how == "x5t" else hashlib.sha256)(der).digest()
    return base64.urlsafe_b64encode(digest).decode().rstrip("=")


def _error(number: int, text: str, error: str = "invalid_client", status: int = 401) -> Exception:
    from tests.cloud.azure.tokens import EntraError

    return EntraError(number, text, error, status)
