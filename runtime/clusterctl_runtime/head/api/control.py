"""Steering the cluster over HTTP: its spec, plans, its end, and the tickets that let a page in."""

from __future__ import annotations

import time
from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse

from clusterctl.spec.load import parse_spec
from clusterctl_runtime.head.api.context import HeadDep, TicketsDep
from clusterctl_runtime.head.api.planning import plan_document
from clusterctl_runtime.head.jobs.requests import SpecText, TicketText

router = APIRouter(prefix="/api/v1", tags=["control"])


@router.put("/spec")
async def put_spec(body: SpecText, head: HeadDep) -> dict[str, Any]:
    files = None if body.files is None else [entry.model_dump(by_alias=True) for entry in body.files]
    return {"changed": await head.use_spec(body.yaml, files)}


@router.get("/spec")
async def get_spec(head: HeadDep) -> dict[str, Any]:
    return {"yaml": head.config.spec_yaml}


@router.post("/plan")
async def plan(body: SpecText, head: HeadDep) -> dict[str, Any]:
    return plan_document(head, parse_spec(body.yaml, f"{head.config.name}.yaml"))


@router.post("/down")
async def down(head: HeadDep) -> dict[str, Any]:
    return await head.take_down()


@router.post("/tickets")
async def ticket(request: Request, tickets: TicketsDep) -> dict[str, Any]:
    issued = tickets.issue(role="admin", user=str(request.state.principal), now=time.time())
    return {"ticket": issued.text, "expires": issued.expires}


@router.post("/session", response_model=None)
async def session(body: TicketText, tickets: TicketsDep) -> dict[str, Any] | JSONResponse:
    opened = tickets.exchange(body.ticket, now=time.time())
    if opened is None:
        message = "this ticket was used before or is too old"
        fix = "run `clusterctl dashboard` again"
        return JSONResponse({"error": {"code": "bad_ticket", "message": message, "fix": fix}}, status_code=401)
    return {"token": opened.token, "expires": opened.expires}
