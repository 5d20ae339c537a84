"""The wheels of the engine over HTTP: what a head that reaches no package index waits for, and a client that brings it."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from fastapi import APIRouter

from clusterctl_runtime.engine.wheelhouse import Wheel
from clusterctl_runtime.head.api.context import HeadDep
from clusterctl_runtime.head.jobs.requests import WheelList

router = APIRouter(prefix="/api/v1/engine", tags=["engine"])


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
