"""The engine over HTTP: the way to Ray itself, and its wheels, which a head that reaches no package index waits for."""

from __future__ import annotations

import asyncio
from dataclasses import asdict
from typing import Any

from fastapi import APIRouter

from clusterctl.core.errors import UsageError
from clusterctl_runtime.engine.wheelhouse import Wheel
from clusterctl_runtime.head.api.context import HeadDep
from clusterctl_runtime.head.jobs.requests import WheelList

router = APIRouter(prefix="/api/v1/engine", tags=["engine"])


@router.get("/access")
async def access(head: HeadDep) -> dict[str, Any]:
    """How to speak to Ray itself, with its token: for whoever may do everything here."""
    if head.engine is None:
        raise UsageError("this cluster has no engine (`engine: none`), so there is no Ray to speak to")
    return {**head.engine.access(), "token": await asyncio.to_thread(head.engine.read_token)}


@router.get("/jobs")
async def own_jobs(head: HeadDep) -> dict[str, Any]:
    """Jobs of Ray's own, which the queue knows nothing of: asked of Ray when somebody asks."""
    return {"jobs": await head.engine.own_jobs() if head.engine else []}


@router.get("/figures")
async def figures(head: HeadDep) -> dict[str, Any]:
    """Where Ray's own figures are for Prometheus, node by node: a port that takes no token."""
    return {"nodes": head.engine.figures() if head.engine else []}


@router.get("/wheels")
async def wanted_wheels(head: HeadDep) -> dict[str, Any]:
    missing = head.engine.supply.missing if head.engine else {}
    return {"wanted": [{"key": key, **asdict(wanted)} for key, wanted in sorted(missing.items())]}


@router.put("/wheels/{key}")
async def bring_wheels(key: str, body: WheelList, head: HeadDep) -> dict[str, Any]:
    """Its wheels were uploaded as blobs before."""
    supply = head.engine.supply if head.engine else None
    wheels = [Wheel(wheel.file, wheel.sha256, wheel.size) for wheel in body.wheels]
    if supply is not None:
        supply.bring(key, wheels, head.blobs)
    return {"wheels": len(wheels)}
