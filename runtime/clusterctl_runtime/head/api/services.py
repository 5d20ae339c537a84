"""Services over HTTP: a new version, how they are, and what users want of them."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Any

from fastapi import APIRouter, Response

from clusterctl.core.errors import BadRequest
from clusterctl_runtime.head.api.context import HeadDep
from clusterctl_runtime.head.api.job_documents import wait_of
from clusterctl_runtime.head.api.streams import SignOfLife, first_of, ndjson
from clusterctl_runtime.head.jobs.requests import Scale, ServiceRequest
from clusterctl_runtime.head.services.controller import Seen
from clusterctl_runtime.head.services.record import Record
from clusterctl_runtime.wire import server_name

if TYPE_CHECKING:
    from clusterctl_runtime.head.head import Head

router = APIRouter(prefix="/api/v1/services", tags=["services"])


@router.get("")
async def list_services(head: HeadDep) -> dict[str, Any]:
    names = sorted(head.services.records)
    return {"services": [service_document(head, head.services.records[name]) for name in names]}


@router.get("/{name}")
async def show_service(name: str, head: HeadDep) -> dict[str, Any]:
    return service_document(head, head.services.get(name))


@router.put("/{name}", status_code=201)
async def ask_for_service(name: str, body: ServiceRequest, head: HeadDep) -> dict[str, Any]:
    check_port(head, body)
    await head.services.ask(name, body)
    return service_document(head, head.services.get(name))


@router.post("/{name}/scale")
async def scale_service(name: str, body: Scale, head: HeadDep) -> dict[str, Any]:
    def scale(record: Record) -> None:
        record.replicas = body.replicas

    return service_document(head, await head.services.change(name, scale, f"{body.replicas} replicas are wanted"))


@router.post("/{name}/rollback")
async def roll_service_back(name: str, head: HeadDep) -> dict[str, Any]:
    return service_document(head, await head.services.change(name, Record.roll_back, "the version before is wanted"))


@router.post("/{name}/stop")
async def stop_service(name: str, head: HeadDep) -> dict[str, Any]:
    return service_document(head, await head.services.change(name, Record.stop, "it is to stop"))


@router.get("/{name}/token")
async def token_of_service(name: str, head: HeadDep) -> dict[str, Any]:
    return _token_document(head, head.services.get(name))


@router.post("/{name}/token")
async def new_token_of_service(name: str, head: HeadDep) -> dict[str, Any]:
    """The one before lets nobody in from now on."""

    def renew(record: Record) -> None:
        record.token += 1

    return _token_document(head, await head.services.change(name, renew, "it has a new token"))


def _token_document(head: Head, record: Record) -> dict[str, Any]:
    """`ca` and `server_name`: by what callers from outside know the entry, where it has the cluster's own certificate."""
    document = {"name": record.name, "token": head.services.token(record)}
    if head.config.spec.services.certificate is None:
        ca = (head.config.directory / "ca.pem").read_text()
        document |= {"ca": ca, "server_name": server_name(head.config.uid)}
    return document


@router.get("/{name}/watch")
async def watch_service(name: str, head: HeadDep) -> Response:
    head.services.get(name)
    return ndjson(_watch(head, name))


async def _watch(head: Head, name: str) -> AsyncIterator[Any]:
    """Its document whenever it has changed. Does not end by itself."""
    told, life = None, SignOfLife()
    while True:
        record = head.services.get(name)
        changed = head.services.changed(name)
        waiting = [head.book.changed(part.job) for part in record.parts]  # why they wait is told by their jobs
        document = service_document(head, record)
        if document != told:
            told = document
            life.said()
            yield document
        elif life.is_due():
            yield None
        await first_of([changed, *waiting], life.due_in)


def check_port(head: Head, request: ServiceRequest) -> None:
    """Raises BadRequest for a port that only one replica can have, where an update needs two at a time."""
    spec = head.config.spec
    pools = [pool for pool in spec.pools if request.job.pool in ("", pool.name)]
    if request.port and any(spec.kind_of(pool).machine == "process" for pool in pools):
        raise BadRequest(
            f"nodes of this cluster share one machine, so that port {request.port} can be had once, and an update needs it "
            "twice: leave out --port, and let the program listen on $PORT; {port} in its command stands for it"
        )


def service_document(head: Head, record: Record) -> dict[str, Any]:
    """As `service status --json` shows it."""
    replicas = [_replica_document(head, record, seen) for seen in head.services.seen(record)]
    well = sum(one["state"] == "well" for one in replicas)
    shown = record.wanted or record.current or record.given_up
    request = record.version(shown).asked if shown and any(v.number == shown for v in record.versions) else None
    return {
        "name": record.name,
        "state": state_of(record, well),
        "replicas": 0 if record.stopped else record.replicas,
        "well": well,
        "version": 0 if record.stopped else record.current,
        "wanted": record.wanted,
        "given_up": {"version": record.given_up, "why": record.failure, "job": record.failed_job}
        if record.given_up
        else None,
        "versions": [{"version": v.number, "created": v.created, "served": v.number in record.served} for v in record.versions],
        "entrypoint": request["job"]["argv"] if request else [],
        "script": request["job"]["script"] if request else "",
        "health": request["health"] if request else "",
        "user": request["job"]["user"] if request else "",
        "path": f"/services/{record.name}/",
        "entry_port": head.services.entry.port or None,
        "public_port": head.services.entry.public_port,
        "entry_trouble": head.services.entry.trouble,
        "members": replicas,
    }  # fmt: skip


def state_of(record: Record, well: int) -> str:
    """ "stopped", "failed" (no version of it ever served), "updating", "starting", "well", or "degraded": fewer are well than are
    wanted."""
    if record.stopped:
        return "stopped"
    if not record.wanted:
        return "failed"
    if record.wanted != record.current:
        return "updating" if record.current else "starting"
    return "well" if well >= record.replicas else "degraded"


def _replica_document(head: Head, record: Record, seen: Seen) -> dict[str, Any]:
    replica = head.services.replica(seen)
    state, why = ("leaving", seen.part.leaving) if seen.part.leaving else (replica.state, replica.why)
    if state == "waiting" and seen.job is not None:
        why = (wait_of(head, seen.job) or {}).get("text", "")
    return {
        "job": seen.part.job,
        "version": seen.part.version,
        "state": "ended" if state == "broken" else state,
        "why": why,
        "node": seen.attempt.nodes[0] if seen.attempt else "",
        "moving": replica.moving,
        "address": f"{seen.target.host}:{seen.target.port}" if seen.target else "",
        "open": seen.state.open,
    }
