"""What stands before the services on the wire: routes a call, knows who makes it, checks it against Microsoft's own packages,
throttles, loses answers, refuses."""

from __future__ import annotations

import json
import re
import uuid
from collections.abc import Callable, Iterable
from typing import Any

from werkzeug.wrappers import Request, Response

from tests.cloud.azure.operations import Operations
from tests.cloud.azure.resources import Resources
from tests.cloud.azure.schema.check import problems
from tests.cloud.azure.schema.routes import Route, routes
from tests.cloud.azure.services import Answer, Call, Services, action_of, scope_of
from tests.cloud.azure.subscriptions import check_subscription
from tests.cloud.azure.tokens import Tokens
from tests.cloud.azure.world import Failure, Refusal, Violation, World
from tests.cloud.wire import Broken, Half, hang_up, misbehave
from tests.cloud.world import Fault

JSON = "application/json; charset=utf-8"
_OPERATION = re.compile(
    r"/subscriptions/[^/]+/(?:providers/([^/]+)/locations/[^/]+/(operations|operationResults)|operationresults)/([-\w]+)",
    re.I,
)
_ALWAYS = frozenset({"api-version", "$skiptoken"})


class Front:
    def __init__(
        self,
        world: World,
        services: Services,
        tokens: Tokens,
        resources: Resources,
        operations: Operations,
        advance: Callable[[], None],
    ) -> None:
        """`advance`: what is due happens."""
        self._world, self._services, self._tokens = world, services, tokens
        self._resources, self._operations, self._advance = resources, operations, advance

    def __call__(self, environ: dict[str, Any], start: Any) -> Iterable[bytes]:
        request = Request(environ)
        try:
            answer = self._answer(request)
        except Broken:
            hang_up(environ)
            raise ConnectionResetError from None
        return answer(environ, start)

    def _answer(self, request: Request) -> Any:
        for pattern, plain in self._services.plains:
            if match := pattern.fullmatch(request.path):
                return plain(request, match)
        try:
            return self._resource_manager(request)
        except Refusal as refusal:
            if isinstance(refusal, Violation):
                self._record(f"{request.method} {request.full_path}: {refusal.message}")
            return self._response(refused(refusal))
        except Broken:
            raise
        except Exception as error:
            self._record(f"{request.method} {request.path}: the stand-in itself broke: {error!r}")
            raise

    def _resource_manager(self, request: Request) -> Any:
        principal = self._tokens.principal(request.headers.get("Authorization", ""))
        if match := _OPERATION.fullmatch(request.path):
            return self._ask_operation(request, match)
        text = request.get_data(cache=True).decode("utf-8", "replace")
        route, path = self._route(request)
        query = self._query(request, route)
        body = _body(request, route, text)
        call = Call(self._world, principal, route, request.path.rstrip("/"), path, query, body, request.headers)
        self._admit(call)
        return self._respond(call, f"{request.full_path}\n{text}")

    def _ask_operation(self, request: Request, match: re.Match[str]) -> Response:
        namespace, kind, id_ = match.groups()
        operation = (
            "operations.result" if (kind or "operationresults").lower() == "operationresults" else "operations.status"
        )
        action = f"{namespace or 'Microsoft.Resources'}/locations/operations/read"
        with self._world.lock:
            self._log(action, {"operation": operation, "id": request.path})
            self._world.check_rate(operation)
            fault = self._world.fault_for(operation, request.full_path)
        if fault:
            misbehave(fault, lambda: None, _refusal)
        with self._world.lock:
            self._operations.url = request.host_url.rstrip("/")
            self._advance()
            answer = self._operations.status(id_) if operation == "operations.status" else self._operations.outcome(id_)
            return self._response(answer)

    # ------------------------------------------------------------ is it a call at all?

    def _route(self, request: Request) -> tuple[Route, dict[str, str]]:
        verb, path = str(request.method), request.path
        route, given, verbs = routes().find(verb, path)
        if route is None and verbs:
            raise Violation(405, "MethodNotAllowed", f"The requested resource does not support http method '{verb}'.")
        if route is None:
            raise Violation(404, "InvalidResourceType", f"The resource type could not be found for the path {path}.")
        return route, given

    def _query(self, request: Request, route: Route) -> dict[str, str]:
        query = {key: request.args[key] for key in request.args}
        version = query.get("api-version")
        if version is None:
            message = "The api-version query parameter (?api-version=) is required for all requests."
            raise Violation(400, "MissingApiVersionParameter", message)
        if version != route.version:
            message = (
                f"The api-version '{version}' is invalid for {route.operation}: the stand-in speaks {route.version}."
            )
            raise Violation(400, "InvalidApiVersionParameter", message)
        for key in query:
            if key not in route.query and key not in _ALWAYS:
                raise Violation(400, "InvalidQueryParameter", f"{route.operation} has no query parameter {key}")
        for key in route.required - query.keys():
            raise Violation(400, "MissingQueryParameter", f"{route.operation} needs the query parameter {key}")
        return query

    # ------------------------------------------------------------ may it be made?

    def _admit(self, call: Call) -> None:
        world, route = self._world, call.route
        action, scope = action_of(route, call.path), scope_of(route, call.id)
        with world.lock:
            parameters = {"operation": route.operation, "id": call.id, **call.path, **call.query}
            self._log(action, {**parameters, **({"body": call.body} if call.body is not None else {})})
        check_subscription(world, call.id, route.verb)
        world.check_rate(route.operation)
        if scope != "/":  # there, everybody sees what he has a right to
            call.need(action, scope)

    def _log(self, action: str, parameters: dict[str, Any]) -> None:
        self._world.calls.append((self._world.clock(), action, parameters))

    # ------------------------------------------------------------ what comes of it

    def _respond(self, call: Call, text: str) -> Any:
        fault = self._world.fault_for(call.route.operation, text)
        if fault and fault.effect == "operation":
            call.failure, fault = Failure(fault.code, fault.message), None
        if fault and fault.effect == "garbled":
            return Half(self._carry_out(call))
        if fault:
            misbehave(fault, lambda: self._do(call), _refusal)
        return self._carry_out(call)

    def _do(self, call: Call) -> None:
        self._carry_out(call)

    def _carry_out(self, call: Call) -> Response:
        handler = self._services.handlers.get(call.route.operation, self._resources.serve)
        with self._world.lock:
            self._operations.url = f"https://{call.headers['Host']}"
            self._advance()
            found = handler(call)
            self._advance()
        return self._response(found if isinstance(found, Answer) else Answer(200, found))

    def _response(self, answer: Answer) -> Response:
        text = "" if answer.body is None else json.dumps(answer.body)
        response = Response(text, status=answer.status, content_type=JSON)
        response.headers.update({
            "x-ms-request-id": str(uuid.uuid4()), "x-ms-correlation-request-id": str(uuid.uuid4()),
            "x-ms-ratelimit-remaining-subscription-reads": "11999",
            "x-ms-ratelimit-remaining-subscription-writes": "1199", **answer.headers,
        })  # fmt: skip
        return response

    def _record(self, what: str) -> None:
        with self._world.lock:
            self._world.violations.append(what)


def _body(request: Request, route: Route, text: str) -> Any:
    if not text.strip():
        if route.needs_body:
            raise _bad_body(f"{route.operation} needs a body")
        return None if route.body is None else {}
    if request.mimetype != "application/json":
        message = f"The content media type '{request.mimetype or 'not said'}' is not supported."
        raise Violation(415, "UnsupportedMediaType", f"{message} Only 'application/json' is supported.")
    try:
        found = json.loads(text)
    except ValueError as error:
        raise _bad_body(str(error)) from None
    if route.body is None:
        raise _bad_body(f"{route.operation} takes no body")
    if wrong := list(problems(found, route.body)):
        raise _bad_body("; ".join(wrong))
    return found


def _bad_body(why: str) -> Violation:
    message = f"The request content was invalid and could not be deserialized: '{why}'."
    return Violation(400, "InvalidRequestContent", message)


def refused(refusal: Refusal) -> Answer:
    headers = {"x-ms-failure-cause": "gateway", "x-ms-error-code": refusal.code, **refusal.headers}
    return Answer(refusal.status, refusal.body(), headers)


def _refusal(fault: Fault) -> Refusal:
    return Refusal(fault.status, fault.code, fault.message)
