"""What stands before the services on the wire: routes a call, knows who makes it, checks it against Google's own document,
throttles, loses answers, refuses."""

from __future__ import annotations

import json
from collections.abc import Iterable
from http import HTTPStatus
from typing import Any
from urllib.parse import parse_qsl

from werkzeug.wrappers import Request, Response

from tests.cloud.gcp.fields import select
from tests.cloud.gcp.schema import Request as Checked
from tests.cloud.gcp.services import Call, Service, Services
from tests.cloud.gcp.tokens import Tokens
from tests.cloud.gcp.world import PROJECT_NUMBER, Failure, Refusal, Violation, World
from tests.cloud.wire import Broken, Half, hang_up, misbehave
from tests.cloud.world import Fault

JSON = "application/json; charset=UTF-8"
_STATUS = {
    400: "INVALID_ARGUMENT",
    401: "UNAUTHENTICATED",
    403: "PERMISSION_DENIED",
    404: "NOT_FOUND",
    409: "ALREADY_EXISTS",
    412: "FAILED_PRECONDITION",
    429: "RESOURCE_EXHAUSTED",
    500: "INTERNAL",
    503: "UNAVAILABLE",
}


class Front:
    def __init__(self, world: World, services: Services, tokens: Tokens) -> None:
        self._world, self._services, self._tokens = world, services, tokens

    def __call__(self, environ: dict[str, Any], start: Any) -> Iterable[bytes]:
        request = Request(environ)
        host, _, path = request.path.lstrip("/").partition("/")
        try:
            answer = self._answer(request, host, "/" + path)
        except Broken:
            hang_up(environ)
            raise ConnectionResetError from None
        return answer(environ, start)

    def _answer(self, request: Request, host: str, path: str) -> Any:
        plain = self._services.plain.get(host)
        if plain:
            return plain(request, path)
        service = self._services.by_host.get(host)
        if service is None:
            self._world.violations.append(f"{request.method} {request.path}: the stand-in has no such service")
            return Response("Not found", status=404, content_type="text/html")
        text = request.get_data(cache=True).decode("utf-8", "replace")
        try:
            checked = self._check(service, request, path, text)
            call = self._admit(service, request, checked)
            return self._respond(service, call, f"{request.full_path}\n{text}")
        except Refusal as refusal:
            if isinstance(refusal, Violation):
                self._record(f"{request.method} {path}: {refusal.message}")
            return refused(refusal, service.older)
        except Broken:
            raise
        except Exception as error:
            self._record(f"{request.method} {path}: the stand-in itself broke: {error!r}")
            raise

    def _check(self, service: Service, request: Request, path: str, text: str) -> Checked:
        document = service.document
        query = parse_qsl(request.query_string.decode(), keep_blank_values=True)
        try:
            method, found = document.method(request.method, path)
            return document.check(method, found, query, _body(request, text))
        except Refusal as refusal:
            raise Violation(
                refusal.code, refusal.reason, refusal.message, status=refusal.status or "INVALID_ARGUMENT"
            ) from refusal

    def _admit(self, service: Service, request: Request, checked: Checked) -> Call:
        """Who calls, if he may."""
        principal = self._tokens.principal(request.headers.get("Authorization", ""))
        world, name = self._world, service.name
        call = Call(world, principal, checked.method.id, checked.path, checked.query, checked.body)
        with world.lock:
            parameters = {**checked.path, **checked.query, **({"body": checked.body} if checked.body else {})}
            world.calls.append((world.clock(), checked.method.id, parameters))
        if name in world.disabled_services:
            raise disabled(name)
        if not set(service.scopes) & set(principal.scopes):
            raise _short_of_scopes(name, checked.method.id)
        if service.older and not world.billing:
            raise _no_billing()
        world.check_rate(checked.method.id)
        for permission, resource in service.needs(call):
            call.need(permission, resource)
        return call

    def _respond(self, service: Service, call: Call, text: str) -> Any:
        world = self._world
        fault = world.fault_for(call.method, text)
        if fault and fault.effect == "operation":
            call.failure = Failure(fault.code, fault.message, fault.status, HTTPStatus(fault.status).phrase.upper())
            fault = None
        if fault and fault.effect == "garbled":
            return Half(self._carry_out(service, call))
        if fault:
            misbehave(fault, lambda: self._do(service, call), _refusal)
        return self._carry_out(service, call)

    def _carry_out(self, service: Service, call: Call) -> Response:
        handler = service.handlers.get(call.method)
        if handler is None:
            raise Violation(501, "notImplemented", f"The stand-in has no {call.method}", status="UNIMPLEMENTED")
        answer = service.invoke(call, handler)
        if "fields" in call.query:
            answer = select(call.query["fields"], answer)
        return Response(json.dumps(answer), content_type=JSON)

    def _do(self, service: Service, call: Call) -> None:
        self._carry_out(service, call)

    def _record(self, what: str) -> None:
        with self._world.lock:
            self._world.violations.append(what)


def _body(request: Request, text: str) -> Any:
    if not text.strip():
        return None
    if request.mimetype != "application/json":
        raise Refusal(
            400, "parseError", f"Invalid JSON payload received: its type is {request.mimetype or 'not said'}."
        )
    try:
        return json.loads(text)
    except ValueError:
        raise Refusal(400, "parseError", "Invalid JSON payload received. Unexpected end of string.") from None


def refused(refusal: Refusal, older: bool) -> Response:
    """`older`: with `error.errors` beside `status`."""
    error: dict[str, Any] = {"code": refusal.code, "message": refusal.message}
    if older:
        one = {"message": refusal.message, "domain": refusal.domain, "reason": refusal.reason}
        if refusal.location:
            one |= {"location": refusal.location, "locationType": "header"}
        error["errors"] = [one]
    status = refusal.status or ("" if older else _STATUS.get(refusal.code, "UNKNOWN"))
    if status:
        error["status"] = status
    if refusal.details:
        error["details"] = refusal.details
    return Response(json.dumps({"error": error}), status=refusal.code, content_type=JSON)


def _refusal(fault: Fault) -> Refusal:
    return Refusal(fault.status, fault.code, fault.message)


def _info(reason: str, service: str) -> dict[str, Any]:
    return {
        "@type": "type.googleapis.com/google.rpc.ErrorInfo", "reason": reason, "domain": "googleapis.com",
        "metadata": {"service": service, "consumer": f"projects/{PROJECT_NUMBER}"},
    }  # fmt: skip


def disabled(service: str) -> Refusal:
    title = {"compute.googleapis.com": "Compute Engine API"}.get(service, service)
    url = f"https://console.developers.google.com/apis/api/{service}/overview?project={PROJECT_NUMBER}"
    message = (
        f"{title} has not been used in project {PROJECT_NUMBER} before or it is disabled. Enable it by visiting {url} then "
        "retry. If you enabled this API recently, wait a few minutes for the action to propagate to our systems and retry."
    )
    links = [{"description": "Google developers console API activation", "url": url}]
    help_ = {"@type": "type.googleapis.com/google.rpc.Help", "links": links}
    details = [help_, _info("SERVICE_DISABLED", service)]
    return Refusal(403, "accessNotConfigured", message, "usageLimits", "PERMISSION_DENIED", details)


def _no_billing() -> Refusal:
    url = f"https://console.developers.google.com/billing/enable?project={PROJECT_NUMBER}"
    message = (
        f"This API method requires billing to be enabled. Please enable billing on project #{PROJECT_NUMBER} by visiting "
        f"{url} then retry. If you enabled billing for this project recently, wait a few minutes for the action to "
        "propagate to our systems and retry."
    )
    help_ = {
        "@type": "type.googleapis.com/google.rpc.Help",
        "links": [{"description": "Google developers console billing", "url": url}],
    }
    details = [help_, _info("BILLING_DISABLED", "compute.googleapis.com")]
    return Refusal(403, "forbidden", message, "global", "PERMISSION_DENIED", details)


def _short_of_scopes(service: str, method: str) -> Refusal:
    info = _info("ACCESS_TOKEN_SCOPE_INSUFFICIENT", service)
    info["metadata"] = {"service": service, "method": method}
    return Refusal(
        403, "insufficientPermissions", "Request had insufficient authentication scopes.", "global", "PERMISSION_DENIED", [info]
    )  # fmt: skip
