"""Ray Serve's applications over HTTP: deploy, look, follow, roll back, delete, and what their replicas wrote."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Annotated, Any

from fastapi import APIRouter, Query, Response
from pydantic import BaseModel, ConfigDict, Field

from clusterctl.core.errors import UsageError
from clusterctl.core.serving import Version
from clusterctl_runtime.head.api.context import HeadDep
from clusterctl_runtime.head.api.serve_documents import log_document, serve_document, told_document
from clusterctl_runtime.head.api.streams import SignOfLife, first_of, ndjson
from clusterctl_runtime.head.clock import steady_time
from clusterctl_runtime.head.serve.control import MOST_APPLICATIONS, ServeControl

if TYPE_CHECKING:
    from clusterctl_runtime.head.head import Head

router = APIRouter(prefix="/api/v1/serve", tags=["serve"])
WAITS_SECONDS = 1.0  # between looks at what a new version waits for, while somebody follows it
SECONDS = 1800.0  # that a new version has to become ready in
Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$")]
Route = Annotated[str, Field(pattern=r"^/[^\s{}?#]*$", max_length=200)]


class Wanted(BaseModel):
    """One application. `config`: as Serve's schema has it, without name, route and package, which are beside it."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)

    name: Name
    route: Route | None = "/"
    package: str = Field(default="", pattern=r"^([0-9a-f]{64})?$")
    config: dict[str, Any]


class Deployment(BaseModel):
    """`options`: Serve's config beside its applications, as far as it is said. `seconds`: within which they must be ready."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)

    applications: list[Wanted] = Field(min_length=1, max_length=MOST_APPLICATIONS)
    options: dict[str, Any] = {}
    seconds: float = Field(default=SECONDS, gt=0, le=7 * 86400)


class Rollback(BaseModel):
    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)

    to: int | None = Field(default=None, ge=1)
    seconds: float = Field(default=SECONDS, gt=0, le=7 * 86400)


def _serve(head: Head) -> ServeControl:
    if head.serve is None:
        raise UsageError("this cluster has no engine (`engine: none`), so there is no Ray Serve on it")
    return head.serve


@router.post("/applications", status_code=202)
async def deploy(body: Deployment, head: HeadDep) -> dict[str, Any]:
    now = steady_time()
    wanted = {
        one.name: Version(0, one.config, one.route, one.package, 0, now, now + body.seconds)
        for one in body.applications
    }
    if len(wanted) < len(body.applications):
        raise UsageError("two applications have the same name: give each its own")
    before = {name: _newest(head, name) for name in wanted}
    deployed = await _serve(head).deploy(wanted, body.options)
    documents = [told_document(application) for application in deployed]
    return {"applications": [{**d, "changed": d["newest"] != before[d["name"]]} for d in documents]}


def _newest(head: Head, name: str) -> int:
    known = _serve(head).records.applications.get(name)
    return known.versions[-1].number if known and known.versions else 0


@router.get("")
async def show(head: HeadDep) -> dict[str, Any]:
    return await serve_document(head, _serve(head))


@router.get("/watch")
async def watch(head: HeadDep) -> Response:
    """The applications as they are wanted, whenever that has changed, or what a new version waits for."""
    return ndjson(_watch(head, _serve(head)))


async def _watch(head: Head, serve: ServeControl) -> AsyncIterator[Any]:
    told, life = None, SignOfLife()
    while True:
        changed = serve.changed()
        applications = [told_document(a, head) for a in serve.records.applications.values()]
        document = {"applications": applications, "trouble": serve.trouble}
        if document != told:
            told = document
            life.said()
            yield document
        elif life.is_due():
            yield None
        await first_of([changed], min(WAITS_SECONDS, life.due_in))


@router.post("/applications/{name}/rollback", status_code=202)
async def rollback(name: str, body: Rollback, head: HeadDep) -> dict[str, Any]:
    return told_document(await _serve(head).roll_back(name, body.to, body.seconds))


@router.delete("/applications/{name}", status_code=202)
async def delete(name: str, head: HeadDep) -> dict[str, Any]:
    return told_document(await _serve(head).delete(name))


@router.get("/applications/{name}/logs")
async def logs(
    name: str,
    head: HeadDep,
    version: int | None = Query(default=None, ge=1),
    deployment: str = "",
    lines: int = Query(default=200, ge=1, le=10_000),
) -> dict[str, Any]:
    """The last lines of each replica of a version, by default the live one."""
    return await log_document(_serve(head), name, version, deployment, lines)
