"""The API server as tests speak to it: paths and objects as its reference has them, no library between."""

from __future__ import annotations

import contextlib
import json
import socket
import ssl
from collections.abc import Iterator
from typing import Any

import httpx

Object = dict[str, Any]
MERGE = "application/merge-patch+json"


class ApiError(Exception):
    """What the server refused: `code` of HTTP, `reason` as Kubernetes names it (NotFound, Forbidden ...), `status` whole."""

    def __init__(self, code: int, status: Object) -> None:
        super().__init__(f"{code} {status.get('reason', '')}: {status.get('message', '')}")
        self.code, self.status = code, status
        self.reason, self.message = str(status.get("reason", "")), str(status.get("message", ""))


class Watch:
    """(ADDED | MODIFIED | DELETED | ERROR, object) after the other, until the server ends it or another thread closes it."""

    def __init__(self, client: httpx.Client, path: str, params: Object) -> None:
        self._answer = client.send(client.build_request("GET", path, params=params, timeout=None), stream=True)

    def __iter__(self) -> Iterator[tuple[str, Object]]:
        try:
            for line in self._answer.iter_lines():
                event = json.loads(line)
                yield event["type"], event["object"]
        except (httpx.TransportError, json.JSONDecodeError):
            return  # closed, here or there, perhaps in the middle of a line
        finally:
            self._answer.close()

    def close(self) -> None:
        connection = self._answer.extensions["network_stream"].get_extra_info("socket")
        with contextlib.suppress(OSError):  # gone already
            # Not its own method: that ends encryption first, and whoever reads reads the rest as it came.
            socket.socket.shutdown(connection, socket.SHUT_RDWR)


class Api:
    """One user's view of a server. Threads may share it."""

    def __init__(self, url: str, trust: ssl.SSLContext, token: str = "") -> None:
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        limits = httpx.Limits(max_connections=200)
        self._client = httpx.Client(
            base_url=url, verify=trust, headers=headers, timeout=60, limits=limits, trust_env=False
        )

    def close(self) -> None:
        self._client.close()

    def get(self, path: str, **params: Any) -> Object:
        return self._ask("GET", path, params=params)

    def create(self, path: str, thing: Object, **params: Any) -> Object:
        return self._ask("POST", path, params=params, json=thing)

    def replace(self, path: str, thing: Object, **params: Any) -> Object:
        return self._ask("PUT", path, params=params, json=thing)

    def patch(self, path: str, change: Object, **params: Any) -> Object:
        """A merge patch: lists are replaced whole."""
        content = json.dumps(change).encode()
        return self._ask("PATCH", path, params=params, content=content, headers={"Content-Type": MERGE})

    def delete(self, path: str, options: Object | None = None, **params: Any) -> Object:
        return self._ask("DELETE", path, params=params, json=options)

    def text(self, path: str, **params: Any) -> str:
        """Of what is no object: a container's log, `/readyz`."""
        answer = self._client.get(path, params=params)
        if answer.is_error:
            raise ApiError(answer.status_code, {"message": answer.text})
        return answer.text

    def watch(self, path: str, **params: Any) -> Watch:
        """What changes from now on, or from `resourceVersion` on."""
        return Watch(self._client, path, {**params, "watch": "1"})

    def _ask(self, verb: str, path: str, **more: Any) -> Object:
        answer = self._client.request(verb, path, **more)
        try:
            said = answer.json()
        except ValueError:
            said = {"message": answer.text}
        if answer.is_error:
            raise ApiError(answer.status_code, said)
        return said
