"""Microsoft Entra's login as far as programs use it, and who the bearer of one of its tokens is: applications with a secret, a
certificate or another provider's word, people whom `az` has logged in, and the identities of machines."""

from __future__ import annotations

import datetime
import json
import re
import secrets
import time
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import jwt
from werkzeug.wrappers import Request, Response

from tests.cloud.azure import federation
from tests.cloud.azure.services import Services
from tests.cloud.azure.world import TENANT, Principal, Refusal, World

_AUDIENCES = ("https://management.azure.com", "https://management.core.windows.net")
_ASSERTION = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
_SIGNED = "tokens-are-known-by-heart-here-and-nobody-checks"


@dataclass
class Application:
    """An app registration with its service principal. `secrets` are those that are good, `certificates` PEM, `trusted` (issuer,
    subject) of other providers' tokens."""

    principal: Principal
    secrets: set[str] = field(default_factory=set)
    expired: set[str] = field(default_factory=set)
    certificates: list[str] = field(default_factory=list)
    trusted: set[tuple[str, str]] = field(default_factory=set)
    enabled: bool = True


@dataclass(frozen=True)
class _Token:
    principal: Principal
    audience: str
    until: float  # by the world's clock


class EntraError(Exception):
    """One of the numbers that Microsoft's documents list, with its text."""

    def __init__(self, number: int, text: str, error: str = "invalid_client", status: int = 401) -> None:
        super().__init__(text)
        self.number, self.error, self.status = number, error, status


class Tokens:
    """`rule`: a number and text by which Entra refuses whoever asks, as conditional access does. `attached`: ids of the
    identities of the machine that asks at /metadata. `broken`: a status in place of every token."""

    def __init__(self, world: World, services: Services) -> None:
        self._world = world
        self._issued: dict[str, _Token] = {}
        self.url = ""  # of the stand-in
        self.urls: set[str] = set()  # all that it ever had
        self.tenants = [TENANT]
        self.applications: dict[str, Application] = {}  # by client id
        self.identities: dict[str, Principal] = {}  # by the id of the resource, in small letters
        self.attached: list[str] = []
        self.rule: tuple[int, str] | None = None
        self.broken = 0
        self.asked: list[str] = []  # paths
        services.plain(r"/([^/]+)/(?:v2\.0/)?\.well-known/openid-configuration", self._configuration)
        services.plain(r"/([^/]+)/oauth2/v2\.0/token", self._answer)
        services.plain(r"/metadata/identity/oauth2/token", self._metadata)

    def add(self, name: str, **more: Any) -> Application:
        """With a secret, unless `more` says otherwise."""
        principal = Principal(name, str(uuid.uuid4()), str(uuid.uuid4()))
        application = Application(principal, **{"secrets": {secrets.token_urlsafe(24)}, **more})
        self.applications[principal.client_id] = application
        return application

    def issue(self, principal: Principal, audience: str) -> tuple[str, int]:
        """(token, seconds for which it is good)."""
        seconds, now = self._world.token_seconds, time.time() + self._world.clock_offset
        claims = {
            "aud": audience, "iss": f"https://sts.windows.net/{TENANT}/", "tid": TENANT, "oid": principal.object_id,
            "sub": principal.object_id, "iat": int(now), "exp": int(now + seconds), "uti": uuid.uuid4().hex,
            **self._who(principal),
        }  # fmt: skip
        token = jwt.encode(claims, _SIGNED)
        with self._world.lock:
            self._issued[token] = _Token(principal, audience, self._world.clock() + seconds)
        return token, int(seconds)

    def _who(self, principal: Principal) -> dict[str, str]:
        if not principal.client_id:
            return {"idtyp": "user", "upn": principal.name}
        plain = {"idtyp": "app", "appid": principal.client_id}
        identity = next((id_ for id_, one in self.identities.items() if one == principal), "")
        return {**plain, "xms_mirid": identity} if identity else {**plain, "app_displayname": principal.name}

    def principal(self, authorization: str) -> Principal:
        """Raises Refusal (401) for an unknown or lapsed token, and for one that is for another service."""
        scheme, _, token = authorization.partition(" ")
        if not authorization or scheme != "Bearer":
            raise _refusal("AuthenticationFailed", "Authentication failed. The 'Authorization' header is missing.")
        with self._world.lock:
            known = self._issued.get(token)
        if known is None:
            raise _refusal("InvalidAuthenticationToken", "The access token is invalid.")
        if self._world.lapsed or known.until <= self._world.clock():
            message = "The access token expiry UTC time is earlier than current UTC time."
            raise _refusal("ExpiredAuthenticationToken", message)
        if known.audience.rstrip("/") not in (*_AUDIENCES, *self.urls):
            message = f"The access token has been obtained for wrong audience or resource '{known.audience}'."
            raise _refusal("InvalidAuthenticationTokenAudience", message)
        return known.principal

    # ------------------------------------------------------------ the login service

    def _configuration(self, request: Request, match: re.Match[str]) -> Response:
        def answer() -> Response:
            base = f"{self.url}/{match.group(1)}"
            return _json({
                "issuer": f"{base}/v2.0", "authorization_endpoint": f"{base}/oauth2/v2.0/authorize",
                "token_endpoint": f"{base}/oauth2/v2.0/token",
                "device_authorization_endpoint": f"{base}/oauth2/v2.0/devicecode", "tenant_region_scope": "NA",
                "cloud_instance_name": "microsoftonline.com",
            })  # fmt: skip

        return self._said(request, match.group(1), answer)

    def _answer(self, request: Request, match: re.Match[str]) -> Response:
        endpoint = f"{self.url}/{match.group(1)}/oauth2/v2.0/token"
        return self._said(request, match.group(1), lambda: self._token(request.form, endpoint))

    def _said(self, request: Request, tenant: str, answer: Any) -> Response:
        self.asked.append(request.path)
        if self.broken:
            return _json({}, self.broken)
        try:
            if tenant not in self.tenants:
                text = (
                    f"Tenant '{tenant}' not found. Check to make sure you have the correct tenant ID and are signing into the "
                    "correct cloud. Check with your subscription administrator, this may happen if there are no active "
                    "subscriptions for the tenant."
                )
                raise EntraError(90002, text, "invalid_tenant", 400)
            return answer()
        except EntraError as error:
            return _json(_told(error), error.status)

    def _token(self, form: Mapping[str, str], endpoint: str) -> Response:
        client = form.get("client_id", "")
        if form.get("grant_type") != "client_credentials":
            text = f"The app requested an unsupported grant type '{form.get('grant_type')}'."
            raise EntraError(70003, text, "unsupported_grant_type", 400)
        application = self.applications.get(client)
        if application is None:
            text = (
                f"Application with identifier '{client}' was not found in the directory 'clusterctl test'. This can happen if "
                "the application has not been installed by the administrator of the tenant or consented to by any user in the "
                "tenant. You may have sent your authentication request to the wrong tenant."
            )
            raise EntraError(700016, text, "unauthorized_client", 400)
        self._prove(application, form, endpoint)
        if not application.enabled:
            text = f"Application '{client}'({application.principal.name}) is disabled."
            raise EntraError(7000112, text, "unauthorized_client", 400)
        if self.rule:
            raise EntraError(*self.rule, "interaction_required", 400)
        return self.granted(application.principal, form.get("scope", ""))

    def granted(self, principal: Principal, scope: str) -> Response:
        """`scope`: what the token is for, and `/.default`."""
        scopes = [each for each in scope.split() if each.endswith("/.default")]
        if len(scopes) != 1:
            text = f"The provided value for scope {scope} is not valid."
            raise EntraError(1002012, text, "invalid_scope", 400)
        token, seconds = self.issue(principal, scopes[0].removesuffix("/.default"))
        return _json({"token_type": "Bearer", "expires_in": seconds, "ext_expires_in": seconds, "access_token": token})

    def _prove(self, application: Application, form: Mapping[str, str], endpoint: str) -> None:
        client, secret = application.principal.client_id, form.get("client_secret")
        if form.get("client_assertion_type") == _ASSERTION:
            federation.check(
                application, form.get("client_assertion", ""), endpoint, time.time() + self._world.clock_offset
            )
        elif secret is None:
            text = "The request body must contain the following parameter: 'client_assertion' or 'client_secret'."
            raise EntraError(7000218, text)
        elif secret in application.expired or self._world.lapsed:
            text = (
                f"The provided client secret keys for app '{client}' are expired. Visit the Azure portal to create new keys for "
                "your app: https://aka.ms/NewClientSecret, or consider using certificate credentials for added security: "
                "https://aka.ms/certCreds."
            )
            raise EntraError(7000222, text)
        elif secret not in application.secrets:
            text = (
                "Invalid client secret provided. Ensure the secret being sent in the request is the client secret value, not the "
                f"client secret ID, for a secret added to app '{client}'."
            )
            raise EntraError(7000215, text)

    # ------------------------------------------------------------ a machine's metadata service

    def _metadata(self, request: Request, match: re.Match[str]) -> Response:
        if self.broken:
            return _json({}, self.broken)
        status, body = self.of_machine(request.args, request.headers, self.attached)
        return _json(body, status)

    def of_machine(
        self, query: Mapping[str, str], headers: Mapping[str, str], attached: Sequence[str]
    ) -> tuple[int, dict[str, Any]]:
        """The answer to GET /metadata/identity/oauth2/token of a machine to which these identities are attached (ids of their
        resources)."""
        if headers.get("Metadata", "").lower() != "true":
            return 400, _refused("Required metadata header not specified")
        if query.get("api-version") != "2018-02-01" or not query.get("resource"):
            return 400, _refused("Required query variable 'api-version' or 'resource' is missing")
        resource = (query.get("msi_res_id") or query.get("mi_res_id") or "").lower()
        mine = {id_.lower(): self.identities[id_.lower()] for id_ in attached if id_.lower() in self.identities}
        wanted = [
            one for id_, one in mine.items()
            if query.get("client_id") in (None, one.client_id) and query.get("object_id") in (None, one.object_id)
            and resource in ("", id_)
        ]  # fmt: skip
        if not wanted:
            return 400, _refused("Identity not found")
        if len(wanted) > 1:
            return 400, _refused(
                "Multiple user assigned identities exist, please specify the clientId / resourceId of the identity in the token "
                "request"
            )
        token, seconds = self.issue(wanted[0], query["resource"])
        until = int(time.time()) + seconds
        return 200, {
            "access_token": token, "client_id": wanted[0].client_id, "expires_in": str(seconds), "expires_on": str(until),
            "ext_expires_in": str(seconds), "not_before": str(until - seconds), "resource": query["resource"],
            "token_type": "Bearer",
        }  # fmt: skip


def _told(error: EntraError) -> dict[str, Any]:
    when = datetime.datetime.now(datetime.timezone.utc).strftime("%Y-%m-%d %H:%M:%SZ")
    trace, correlation = str(uuid.uuid4()), str(uuid.uuid4())
    text = f"AADSTS{error.number}: {error} Trace ID: {trace} Correlation ID: {correlation} Timestamp: {when}"
    return {
        "error": error.error, "error_description": text, "error_codes": [error.number], "timestamp": when, "trace_id": trace,
        "correlation_id": correlation, "error_uri": f"https://login.microsoftonline.com/error?code={error.number}",
    }  # fmt: skip


def _refused(text: str) -> dict[str, Any]:
    return {"error": "invalid_request", "error_description": text}


def _refusal(code: str, message: str) -> Refusal:
    where = f'Bearer authorization_uri="https://login.microsoftonline.com/{TENANT}", error="invalid_token"'
    return Refusal(401, code, message, headers={"WWW-Authenticate": where})


def _json(body: Mapping[str, Any], status: int = 200) -> Response:
    return Response(json.dumps(body), status=status, content_type="application/json; charset=utf-8")
