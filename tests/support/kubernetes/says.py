"""What a kubelet says of a pod: its status."""

from __future__ import annotations

from datetime import datetime, timezone
from typing import Any

from tests.support.kubernetes.api import Object

ADDRESS = "127.0.0.1"  # a pod's processes run on this machine


def running(pod: Object, restarts: int) -> Object:
    state = {"running": {"startedAt": _now()}}
    return _status(pod, "Running", state, restarts, podIP=ADDRESS, hostIP=ADDRESS, startTime=_now())


def waiting(pod: Object, reason: str, message: str) -> Object:
    return _status(pod, "Pending", {"waiting": {"reason": reason, "message": message}}, 0)


def ended(pod: Object, code: int, restarts: int, evicted: str) -> Object:
    """`evicted`: the message, when the pod was."""
    code = 128 - code if code < 0 else code  # as a subprocess has it: the signal
    state = {"terminated": {"exitCode": code, "reason": "Error" if code else "Completed", "finishedAt": _now()}}
    why = {"reason": "Evicted", "message": evicted} if evicted else {}
    return _status(pod, "Failed" if code or evicted else "Succeeded", state, restarts, **why)


def _status(pod: Object, phase: str, state: Object, restarts: int, **more: Any) -> Object:
    ready = phase == "Running"
    conditions = {"Initialized": True, "Ready": ready, "ContainersReady": ready, "PodScheduled": True}
    return {
        "phase": phase,
        "conditions": [{"type": name, "status": str(holds)} for name, holds in conditions.items()],
        "containerStatuses": [
            {
                "name": container["name"],
                "image": container["image"],
                "imageID": "",
                "ready": ready,
                "restartCount": restarts,
                "state": state,
            }
            for container in pod["spec"]["containers"]
        ],
        **more,
    }


def _now() -> str:
    return datetime.now(timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")
