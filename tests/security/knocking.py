"""Raw calls of a head: with whatever headers and bodies, without the client that would make them proper."""

from __future__ import annotations

import hashlib
import http.client
import json
from dataclasses import dataclass
from typing import Any

from tests.support.cluster import LocalCluster, wait_until


@dataclass(frozen=True)
class Answer:
    status: int
    body: bytes

    @property
    def document(self) -> Any:
        return json.loads(self.body)

    @property
    def message(self) -> str:
        return str(self.document["error"]["message"])


class Api:
    """Calls the head of `cluster`, each over a connection of its own."""

    def __init__(self, cluster: LocalCluster) -> None:
        self.cluster = cluster
        self.token = json.loads((cluster.head_dir.parent / "client.json").read_text())["token"]

    @property
    def port(self) -> int:
        return int(json.loads((self.cluster.head_dir / "head.json").read_text())["port"])

    def call(
        self,
        method: str,
        target: str,
        body: bytes | None = None,
        headers: dict[str, str] | None = None,
        *,
        token: str | None = None,
        timeout: float = 30.0,
    ) -> Answer:
        """`token` None: the cluster's own; "": none at all."""
        shown = self.token if token is None else token
        sent = {"Authorization": f"Bearer {shown}"} if shown else {}
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=timeout)
        try:
            connection.request(method, target, body, {"Content-Type": "application/json", **sent, **(headers or {})})
            response = connection.getresponse()
            return Answer(response.status, response.read())
        finally:
            connection.close()

    def get(self, target: str) -> Any:
        answer = self.call("GET", target)
        assert answer.status == 200, answer
        return answer.document

    def post(self, target: str, document: Any) -> Answer:
        return self.call("POST", target, json.dumps(document).encode())

    def upload(self, data: bytes) -> str:
        digest = hashlib.sha256(data).hexdigest()
        answer = self.call("PUT", f"/api/v1/blobs/{digest}", data, {"Content-Type": "application/octet-stream"})
        assert answer.status in (200, 201), answer
        return digest

    def run(self, **request: Any) -> dict[str, Any]:
        """Submits a job and waits for its end."""
        return self.ended(self.submit(**request))

    def submit(self, **request: Any) -> str:
        answer = self.post("/api/v1/jobs", {"argv": ["true"], **request})
        assert answer.status == 201, answer
        return answer.document["id"]

    def ended(self, job_id: str, seconds: float = 40.0) -> dict[str, Any]:
        def final() -> dict[str, Any] | None:
            job = self.get(f"/api/v1/jobs/{job_id}")
            return job if job["state"] in ("succeeded", "failed", "cancelled") else None

        return wait_until(final, seconds, f"the end of {job_id}")

    def log(self, job_id: str) -> str:
        answer = self.call("GET", f"/api/v1/jobs/{job_id}/logs")
        lines = [json.loads(line) for line in answer.body.splitlines() if line]
        return "".join(line.get("data", "") for line in lines)

    def events(self) -> list[dict[str, Any]]:
        return self.get("/api/v1/events?since=0&limit=10000")["events"]
