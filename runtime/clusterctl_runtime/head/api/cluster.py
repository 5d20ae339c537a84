"""The cluster over HTTP: status, events, explain, offers, cost, metrics."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Any, Literal

from fastapi import APIRouter, Query, Response
from fastapi.responses import JSONResponse

from clusterctl.proof import is_challenge, proof_of
from clusterctl.version import __version__
from clusterctl_runtime.head.api.context import LARGEST, BoardDep, ExpositionDep, HeadDep
from clusterctl_runtime.head.api.documents import offer_documents, status_document
from clusterctl_runtime.head.api.explaining import explain_document
from clusterctl_runtime.head.api.streams import SignOfLife, ndjson
from clusterctl_runtime.head.metrics.text import CONTENT_TYPE

if TYPE_CHECKING:
    from clusterctl_runtime.head.head import Head

router = APIRouter(tags=["cluster"])


@router.get("/healthz")
async def health(head: HeadDep, challenge: str = "") -> dict[str, Any]:
    """With a `challenge` of 32 hex digits also "proof", by which the caller knows this head before it shows its token."""
    answer = {"ok": True, "uid": head.config.uid, "version": __version__}
    if is_challenge(challenge):
        answer["proof"] = proof_of(head.config.token_sha256, challenge, head.port)
    return answer


@router.get("/api/v1/status", response_model=None)
async def status(head: HeadDep, board: BoardDep, watch: bool = False) -> dict[str, Any] | Response:
    return ndjson(board.watch()) if watch else status_document(head)


@router.get("/api/v1/events", response_model=None)
async def events(
    head: HeadDep,
    since: int = Query(default=0, ge=-LARGEST, le=LARGEST),
    follow: bool = False,
    limit: int = Query(default=1000, ge=1, le=10_000),
    subject: str = "",
) -> dict[str, Any] | Response:
    if follow:
        return ndjson(_follow_events(head, since, limit, subject))
    last = head.events.last  # before the events: whoever asks on from there misses none
    return {"events": await head.events.since(since, limit, subject), "last": last}


async def _follow_events(head: Head, since: int, limit: int, subject: str) -> AsyncIterator[Any]:
    life = SignOfLife()
    while True:
        last = head.events.last
        batch = await head.events.since(since, limit, subject)
        for event in batch:
            life.said()
            yield event
        since = max(since, batch[-1]["seq"] if batch else since)
        if len(batch) < limit:
            since = max(since, last)  # there is no other of this subject up to there
            await head.events.wait(since, life.due_in)
            if life.is_due():
                yield None


@router.get("/api/v1/explain/{subject}")
async def explain(subject: str, head: HeadDep) -> dict[str, Any]:
    return await explain_document(head, subject)


@router.get("/api/v1/offers")
async def offers(head: HeadDep) -> dict[str, Any]:
    return {"offers": offer_documents(head), "error": head.autoscaler.offers_error}


@router.get("/api/v1/cost")
async def cost(head: HeadDep, by: str = "pool") -> dict[str, Any]:
    return head.costs(by)


@router.get("/api/v1/history", response_model=None)
async def history(head: HeadDep, span: Literal["hour", "day", "month"] = "hour") -> Response:
    document = head.history.document(span)
    return await asyncio.to_thread(JSONResponse, document)  # a month has some 3,000 rows


@router.get("/metrics")
async def metrics(exposition: ExpositionDep) -> Response:
    return Response(await exposition.text(), media_type=CONTENT_TYPE)
