"""The HTTP API v1 (docs/architecture.md): one router per noun, errors as sentences, everything behind the guard."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING, Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from clusterctl.core.errors import BadRequest, ClusterctlError, NotFound, Refused, UsageError
from clusterctl.provision.bootstrap import JOIN_SECRET
from clusterctl.version import __version__
from clusterctl_runtime.dashboard import mount
from clusterctl_runtime.head.api import cluster, control, engine, hosts, jobs, logs, nodes, serve, services
from clusterctl_runtime.head.api.documents import status_document
from clusterctl_runtime.head.api.guard import Guard
from clusterctl_runtime.head.api.status_board import StatusBoard
from clusterctl_runtime.head.api.tickets import Tickets
from clusterctl_runtime.head.jobs.book import SubmissionConflict
from clusterctl_runtime.head.metrics.render import Exposition
from clusterctl_runtime.head.nodes.admission import Tokens
from clusterctl_runtime.head.nodes.draining import NotAsked
from clusterctl_runtime.head.storage.blobs import TooLarge
from clusterctl_runtime.head.storage.store import StoreUnavailable

if TYPE_CHECKING:
    from clusterctl_runtime.head.head import Head

_STATUS: tuple[tuple[type[ClusterctlError], int, str], ...] = (
    (SubmissionConflict, 409, "conflict"),
    (StoreUnavailable, 503, "store_unavailable"),
    (NotAsked, 503, "engine_unavailable"),
    (TooLarge, 413, "too_large"),
    (BadRequest, 400, "bad_request"),
    (UsageError, 422, "invalid"),
    (NotFound, 404, "not_found"),
    (Refused, 403, "refused"),
)


class Json(JSONResponse):
    """JSON of any text: half a character (a lone surrogate) is written as its escape instead of ending in an error."""

    def render(self, content: Any) -> bytes:
        """Raises ValueError for NaN and infinities, which JSON does not have."""
        text = json.dumps(content, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
        return text.encode("utf-8", "backslashreplace")


def error_response(status: int, code: str, message: str, fix: str = "") -> JSONResponse:
    """Every error of the API looks like this: `code` is for programs, `message` a sentence, `fix` what to do or nothing."""
    return Json({"error": {"code": code, "message": message, "fix": fix}}, status_code=status)


def create_app(head: Head) -> Guard:
    """All of the API of `head`, behind its guard; an ASGI application."""
    app = FastAPI(
        title="clusterctl head",
        version=__version__,
        docs_url=None,
        redoc_url=None,
        openapi_url="/api/v1/openapi.json",
        default_response_class=Json,
    )
    tickets = Tickets((head.config.directory / JOIN_SECRET).read_bytes())
    app.state.head, app.state.tickets = head, tickets
    app.state.board = StatusBoard(lambda: status_document(head), head.events)
    app.state.exposition = Exposition(head)
    for router in (
        cluster.router, nodes.router, hosts.router, jobs.router, logs.router, control.router, engine.router,
        services.router,
        serve.router,
    ):  # fmt: skip
        app.include_router(router)
    mount(app)

    @app.exception_handler(ClusterctlError)
    async def _sentence(_: Request, error: ClusterctlError) -> JSONResponse:
        status, code = next(((s, c) for kind, s, c in _STATUS if isinstance(error, kind)), (500, "failed"))
        return error_response(status, code, str(error))

    @app.exception_handler(RequestValidationError)
    async def _invalid(_: Request, error: RequestValidationError) -> JSONResponse:
        return error_response(422, "invalid", "; ".join(_fault(e) for e in error.errors()))

    @app.exception_handler(HTTPException)
    async def _no_such_call(request: Request, error: HTTPException) -> JSONResponse:
        message = f"this head (clusterctl {__version__}) has no {request.method} {request.url.path[:200]}"
        fix = "Use the clusterctl of the same version, or `clusterctl up` with the newer one."
        if error.status_code not in (404, 405):
            message, fix = str(error.detail), ""
        code = "no_such_call" if fix else "invalid"
        return error_response(error.status_code, code, message, fix)

    return Guard(app, lambda token: _principal(token, head.tokens, tickets))


def _principal(token: str, tokens: Tokens, tickets: Tickets) -> str | None:
    """Whom a bearer token speaks for: a client, or a page that a ticket let in; None when it is unknown or has run out."""
    if principal := tokens.principal(token):
        return principal
    session = tickets.session(token, now=time.time())
    return f"page:{session.user}" if session else None


def _fault(error: dict[str, object]) -> str:
    location = error.get("loc")
    place = ".".join(str(part) for part in location if part != "body") if isinstance(location, tuple) else ""
    message = str(error.get("msg", "")).removeprefix("Value error, ")
    if error.get("type") == "extra_forbidden":
        message = f"this head (clusterctl {__version__}) does not know this field; clients of other versions may"
    return f"{place}: {message}" if place else message
