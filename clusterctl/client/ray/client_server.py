"""The server for `ray://`: a driver of the queue on the head node, there for as long as somebody uses it.

Whoever connects gets a program of Ray's there, which runs the client's code: under the queue's books like any other driver, and
not beside them. Tokens are asked for as everywhere in Ray.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Callable
from contextlib import closing
from importlib import resources

from clusterctl.client.head.api import Api
from clusterctl.client.registry import Cluster
from clusterctl.client.submit.logs import LogReader, Piece
from clusterctl.core.errors import ClusterctlError, NotFound

NAME = "ray-client"
IDLE_SECONDS = 3600
_LISTENS = re.compile(r"^clusterctl-ray-client (\d+)$", re.MULTILINE)
_PYTHON = 'exec "$(command -v python || command -v python3)" -u -c "$0" "$@"'  # the engine's is first on a job's PATH


class ClientServer:
    """Of one cluster; started when it is first asked for. For several threads."""

    def __init__(self, cluster: Cluster, tell: Callable[[str], None]) -> None:
        self._cluster, self._tell = cluster, tell
        self._lock = threading.Lock()
        self._job = ""
        self._place = ("", 0)

    def ensure(self) -> tuple[str, int]:
        """(node, port) where it listens. Raises ClusterctlError."""
        with self._lock, Api.of(self._cluster) as api:
            if not self._job or not _runs(api, self._job):
                self._job = ""
                job = self._start(api)
                self._place = str(api.get(f"/api/v1/jobs/{job}")["attempts"][-1]["nodes"][0]), self._port(api, job)
                self._job = job
            return self._place

    def end(self) -> None:
        """Ends it, and so whatever is connected."""
        with self._lock:
            job, self._job = self._job, ""
            if job:
                try:
                    with Api.of(self._cluster) as api:
                        api.post(f"/api/v1/jobs/{job}/cancel")
                except ClusterctlError as error:
                    self._tell(f"job {job}, the server for ray://, ends by itself when nobody uses it: {error}")

    def _start(self, api: Api) -> str:
        text = resources.files("clusterctl.client.ray").joinpath("client_program.py").read_text()
        argv = ["sh", "-c", _PYTHON, text, str(IDLE_SECONDS)]
        return str(api.post("/api/v1/jobs", {"name": NAME, "argv": argv, "driver": True, "max_retries": 0})["id"])

    def _port(self, api: Api, job: str) -> int:
        """Once it says so. Raises ClusterctlError where it ended instead."""
        said = ""
        with closing(LogReader(api.clone(), job).pieces(follow_on=True)) as pieces:
            for piece in pieces:
                if isinstance(piece, Piece):
                    said += piece.data.decode(errors="replace")
                    if found := _LISTENS.search(said):
                        return int(found[1])
        raise ClusterctlError(f"the server for ray:// did not start: `clusterctl logs {job}` has what it said")


def _runs(api: Api, job: str) -> bool:
    try:
        return api.get(f"/api/v1/jobs/{job}")["state"] == "running"
    except NotFound:
        return False
