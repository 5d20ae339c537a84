"""Entra's token endpoint, and who the bearer of one of its tokens is: applications prove themselves by a secret."""

from __future__ import annotations

import base64
import json
import re
import secrets
import time
import uuid
from dataclasses import dataclass, field
from typing import Any

from werkzeug.wrappers import Request, Response

from tests.cloud.azure.services import Services
from tests.cloud.azure.world import TENANT, Principal, Refusal, World

_AUDIENCES = ("https://management.azure.com", "https://management.core.windows.net")


@dataclass
class Application:
    """An app registration with its service principal. `secrets`: those that are good."""

    principal: Principal
    secrets: set[str] = field(default_factory=set)
    enabled: bool = True


@dataclass(frozen=True)
class _Token:
    principal: Principal
    audience: str
    until: float  # by the world's clock


class Tokens:
    def __init__(self, world: World, services: Services) -> None:
        self._world = world
        self._issued: dict[str, _Token] = {}
        self.applications: dict[str, Application] = {}  # by client id
        self.url = ""  # of the stand-in
        services.plain(r"/([^/]+)/(?:v2\.0/)?\.well-known/openid-configuration", self._configuration)
        services.plain(r"/([^/]+)/oauth2/v2\.0/token", self._answer)

    def add(self, name: str) -> Application:
        principal = Principal(name, str(uuid.uuid4()), str(uuid.uuid4()))
        application = Application(principal, {secrets.token_urlsafe(24)})
        self.applications[principal.client_id] = application
        return application

    def issue(self, principal: Principal, audience: str) -> tuple[str, int]:
        """(token, seconds for which it is good)."""
        seconds, now = self._world.token_seconds, time.time() + self._world.clock_offset
        claims = {
            "aud": audience, "iss": f"https://sts.windows.net/{TENANT}/", "tid": TENANT, "oid": principal.object_id,
            "sub": principal.object_id, "iat": int(now), "exp": int(now + seconds),
            **({"appid": principal.client_id, "idtyp": "app"} if principal.client_id else {"upn": principal.name}),
        }  # fmt: skip
        parts = [json.dumps(part).encode() for part in ({"typ": "JWT", "alg": "RS256"}, claims)]
        token = ".".join(
            base64.urlsafe_b64encode(part).decode().rstrip("=") for part in (*parts, secrets.token_bytes(32))
        )
        with self._world.lock:
            self._issued[token] = _Token(principal, audience, self._world.clock() + seconds)
        return token, int(seconds)

    def principal(self, authorization: str) -> Principal:
        """Raises Refusal (401) for an unknown or lapsed token, and for one that is for another service."""
        scheme, _, token = authorization.partition(" ")
        if not authorization or scheme != "Bearer":
            message = "Authentication failed. The 'Authorization' header is missing."
            raise self._refusal("AuthenticationFailed", message)
        with self._world.lock:
            known = self._issued.get(token)
        if known is None:
            raise self._refusal("InvalidAuthenticationToken", "The access token is invalid.")
        if self._world.lapsed or known.until <= self._world.clock():
            raise self._refusal(
                "ExpiredAuthenticationToken", "The access token expiry UTC time is earlier than current UTC time."
            )
        if known.audience.rstrip("/") not in (*_AUDIENCES, self.url):
            message = f"The access token has been obtained for wrong audience or resource '{known.audience}'."
            raise self._refusal("InvalidAuthenticationTokenAudience", message)
        return known.principal

    def _refusal(self, code: str, message: str) -> Refusal:
        where = f'Bearer authorization_uri="https://login.microsoftonline.com/{TENANT}", error="invalid_token"'
        return Refusal(401, code, message, headers={"WWW-Authenticate": where})

    # ------------------------------------------------------------ the endpoint

    def _configuration(self, request: Request, match: re.Match[str]) -> Response:
        base = f"{self.url}/{match.group(1)}"
        return _json({
            "issuer": f"{base}/v2.0", "authorization_endpoint": f"{base}/oauth2/v2.0/authorize",
            "token_endpoint": f"{base}/oauth2/v2.0/token", "device_authorization_endpoint": f"{base}/oauth2/v2.0/devicecode",
            "tenant_region_scope": "NA", "cloud_instance_name": "microsoftonline.com",
        })  # fmt: skip

    def _answer(self, request: Request, match: re.Match[str]) -> Response:
        form = request.form
        if match.group(1) != TENANT:
            message = (
                f"AADSTS90002: Tenant '{match.group(1)}' not found. Check to make sure you have the correct tenant ID."
            )
            return error("invalid_request", message, 90002)
        application = self.applications.get(form.get("client_id", ""))
        if application is None:
            message = (
                f"AADSTS700016: Application with identifier '{form.get('client_id', '')}' was not found in the directory "
                "'clusterctl test'."
            )
            return error("unauthorized_client", message, 700016)
        if form.get("grant_type") != "client_credentials":
            return error("unsupported_grant_type", "AADSTS70003: The app requested an unsupported grant type.", 70003)
        if not application.enabled or self._world.lapsed:
            return error("unauthorized_client", "AADSTS7000112: Application is disabled.", 7000112)
        if form.get("client_secret") not in application.secrets:
            message = (
                "AADSTS7000215: Invalid client secret provided. Ensure the secret being sent in the request is the client secret "
                "value."
            )
            return error("invalid_client", message, 7000215)
        return self.granted(application.principal, form.get("scope", ""))

    def granted(self, principal: Principal, scope: str) -> Response:
        """`scope`: what the token is for, and `/.default`."""
        scopes = [each for each in scope.split() if each.endswith("/.default")]
        if len(scopes) != 1:
            message = f"AADSTS1002012: The provided value for scope {scope} is not valid."
            return error("invalid_scope", message, 1002012)
        token, seconds = self.issue(principal, scopes[0].removesuffix("/.default"))
        return _json({"token_type": "Bearer", "expires_in": seconds, "ext_expires_in": seconds, "access_token": token})


def _json(body: dict[str, Any], status: int = 200) -> Response:
    return Response(json.dumps(body), status=status, content_type="application/json; charset=utf-8")


def error(code: str, description: str, number: int) -> Response:
    """As Entra says it; the number is what its documents list."""
    status = 401 if code in ("invalid_client", "unauthorized_client") else 400
    body = {"error": code, "error_description": f"{description} Trace ID: {uuid.uuid4()}", "error_codes": [number]}
    return _json(body, status)
