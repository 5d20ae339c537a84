"""Nodes that are only objects, whose pods run all the same: what a kubelet would write is written by a thread."""

from __future__ import annotations

import threading
from typing import Any

from tests.support.kubernetes.api import ApiError
from tests.support.kubernetes.plane import ControlPlane

Object = dict[str, Any]


class Kubelet:
    """For all nodes of a control plane. A pod of an image whose name says so fails as such an image does."""

    def __init__(self, plane: ControlPlane) -> None:
        self._api, self._ended = plane.api, threading.Event()
        self._number = 0
        self._thread = threading.Thread(target=self._live, name="kubelet", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        self._ended.set()

    def _live(self) -> None:
        while not self._ended.is_set():
            try:
                pods = self._api.get("/api/v1/pods", resourceVersion="0")["items"]
                for pod in pods:
                    self._care_for(pod)
                since = self._api.get("/api/v1/pods", limit=1)["metadata"]["resourceVersion"]
                for kind, pod in self._api.watch("/api/v1/pods", resourceVersion=since, timeoutSeconds=5):
                    if kind in ("ADDED", "MODIFIED"):
                        self._care_for(pod)
            except Exception:
                if self._ended.is_set():
                    return

    def _care_for(self, pod: Object) -> None:
        meta, status = pod["metadata"], pod.get("status") or {}
        path = f"/api/v1/namespaces/{meta['namespace']}/pods/{meta['name']}"
        try:
            if meta.get("deletionTimestamp"):
                self._api._ask("DELETE", path, json={"gracePeriodSeconds": 0})
            elif (
                pod["spec"].get("nodeName") and status.get("phase") == "Pending" and not status.get("containerStatuses")
            ):
                self._api.patch(f"{path}/status", {"status": self._started(pod)})
        except ApiError as error:
            if error.code not in (404, 409):
                raise

    def _started(self, pod: Object) -> Object:
        container = pod["spec"]["containers"][0]
        self._number += 1
        shown = {"name": container["name"], "image": container["image"], "imageID": "", "restartCount": 0}
        if "nowhere" in container["image"]:
            why = {"reason": "ErrImagePull", "message": f"manifest for {container['image']} not found"}
            return {"containerStatuses": [{**shown, "ready": False, "state": {"waiting": why}}]}
        address = f"10.1.{self._number // 250 % 250}.{self._number % 250 + 1}"
        began = {"startedAt": meta_time(pod)}
        return {
            "phase": "Running",
            "podIP": address,
            "podIPs": [{"ip": address}],
            "containerStatuses": [{**shown, "ready": True, "state": {"running": began}}],
        }


def meta_time(pod: Object) -> str:
    return str(pod["metadata"]["creationTimestamp"])
