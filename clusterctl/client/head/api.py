"""The head's HTTP API, spoken with the standard library's `http.client`: its import costs a tenth of httpx's, and the
command line is measured by how fast it answers (docs/adr/0201-cli-speaks-http-with-the-standard-library.md).

Answers are plain JSON data. Failures arrive as the errors of `clusterctl.core.errors`, by status:
401, 403, 409, 429 -> Refused; 404 -> NotFound; 400, 413, 422 -> UsageError; no connection -> Unreachable.
"""

from __future__ import annotations

import http.client
import json
import time
from collections.abc import Callable, Generator, Iterable
from contextlib import closing
from typing import IO, Any
from urllib.parse import quote, urlencode

from clusterctl_runtime.backoff import Backoff

from clusterctl.client.head.endpoint import ANSWER_SECONDS, Endpoint, Gone, connect, locate, why_text
from clusterctl.client.registry import Cluster
from clusterctl.core.errors import ClusterctlError, NotFound, Refused, Unreachable, UsageError

Json = dict[str, Any]

PIECE = 256 * 1024  # bytes of an upload that are read at a time
SILENCE_SECONDS = 45.0  # a stream carries a keep-alive every 15 s: three missing ones mean that it is lost
PATIENCE_SECONDS = 30.0  # for which a stream or a submission waits for a head that is being started again
STEADY_SECONDS = 1.0  # a stream that lasted so long was a good one, also when there was nothing to say

_BY_STATUS: dict[int, type[ClusterctlError]] = {
    400: UsageError,
    401: Refused,
    403: Refused,
    404: NotFound,
    409: Refused,
    413: UsageError,
    422: UsageError,
    429: Refused,
}


class Lost(Unreachable):
    """The connection broke in the middle: whether the request was carried out is unknown. `begun`: the head had begun to
    answer, so that it was there a while ago."""

    begun = False


class Api:
    """Calls of one cluster's head over one kept connection. Not for use by several threads: `clone` makes another."""

    def __init__(self, find: Callable[[], Endpoint], name: str) -> None:
        self._find = find
        self.name = name
        self._connection: http.client.HTTPConnection | None = None
        self._token = ""
        self._reason: Callable[[], str] = str

    @classmethod
    def of(cls, cluster: Cluster) -> Api:
        """Of the cluster's head, wherever it is; it is looked for at the first call."""
        return cls(lambda: locate(cluster), cluster.name)

    def clone(self) -> Api:
        """Another connection to the same head, for another thread."""
        return Api(self._find, self.name)

    def close(self) -> None:
        """Ends the connection; the next call makes another."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def __enter__(self) -> Api:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # ---- one request, one answer

    def get(self, path: str, **query: Any) -> Json:
        """The answer's document. Raises what the head's error means, or Unreachable."""
        return self._again_if_stale("GET", path, query=query)

    def get_at_last(self, path: str, **query: Any) -> Json:
        """`get` for what follows on something that was waited for: a head that is just being started again is waited for, too."""
        return with_patience(lambda: self.get(path, **query), PATIENCE_SECONDS)

    def post(self, path: str, body: Json | None = None, *, timeout: float | None = ANSWER_SECONDS) -> Json:
        """One try: a Lost answer leaves open whether it was done. `timeout` None waits for ever."""
        return self._json("POST", path, _encoded(body), timeout=timeout)

    def post_once(self, path: str, body: Json, *, patience: float = PATIENCE_SECONDS) -> Json:
        """Posts what carries its own id, so that the head does it once however often it is asked: tried again while
        the head cannot be reached, for `patience` seconds."""
        return with_patience(lambda: self.post(path, body), patience)

    def put(self, path: str, body: Json) -> Json:
        """As `get`: the call may be repeated."""
        return self._again_if_stale("PUT", path, data=_encoded(body))

    def delete(self, path: str) -> Json:
        """As `get`: the call may be repeated."""
        return self._again_if_stale("DELETE", path)

    def upload(
        self, path: str, file: IO[bytes], size: int, reached: Callable[[int], object] = lambda position: None
    ) -> None:
        """PUT of `size` bytes from `file`, read as they are sent. `reached` is told how many were, now and then."""

        def pieces() -> Generator[bytes]:
            while piece := file.read(PIECE):
                yield piece
                reached(file.tell())

        def attempt() -> Json:
            file.seek(0)
            return self._json("PUT", path, pieces(), kind="application/octet-stream", size=size, timeout=None)

        with_patience(attempt, PATIENCE_SECONDS)

    def has(self, path: str) -> bool:
        """HEAD: whether the head has it."""
        try:
            self._again_if_stale("HEAD", path)
        except NotFound:
            return False
        return True

    # ---- one request, many answers

    def stream(self, path: str, *, silence: float | None = None, **query: Any) -> Generator[Json, None, None]:
        """The objects of an NDJSON answer until it ends; raises Lost when it breaks off in the middle, or says nothing for
        `silence` seconds."""
        with closing(self.clone()) as own:
            response = own._send("GET", path, query=query)  # a head under load may take its time to begin
            own._expect_within(silence or SILENCE_SECONDS)
            try:
                for line in _lines(response):
                    if line:
                        yield json.loads(line)
            except (OSError, http.client.HTTPException, ValueError) as error:
                lost = Lost(f"the head of cluster {self.name!r} broke off in the middle of an answer ({error})")
                lost.begun = True
                raise lost from error

    # ---- below: one connection

    def _expect_within(self, seconds: float) -> None:
        if self._connection is not None and self._connection.sock is not None:
            self._connection.sock.settimeout(seconds)

    def _again_if_stale(self, method: str, path: str, **rest: Any) -> Json:
        """Idempotent calls are made once more when a kept connection turns out to be dead."""
        kept = self._connection is not None
        try:
            return self._json(method, path, **rest)
        except Lost:
            if not kept:
                raise
            return self._json(method, path, **rest)

    def _json(self, method: str, path: str, data: bytes | Iterable[bytes] | None = None, **rest: Any) -> Json:
        response = self._send(method, path, data, **rest)
        body = self._read(response)
        if not body:
            return {}
        try:
            return json.loads(body)
        except ValueError as error:
            raise ClusterctlError(f"the head of cluster {self.name!r} answered {method} {path} with no JSON") from error

    def _send(
        self,
        method: str,
        path: str,
        data: bytes | Iterable[bytes] | None = None,
        *,
        query: Json | None = None,
        kind: str = "application/json",
        size: int | None = None,
        timeout: float | None = ANSWER_SECONDS,
    ) -> http.client.HTTPResponse:
        connection = self._connect()
        assert connection.sock is not None
        connection.sock.settimeout(timeout)
        wanted = {k: v for k, v in (query or {}).items() if v is not None and v is not False and v != ""}
        target = quote(path, safe="/:") + (f"?{urlencode(wanted)}" if wanted else "")  # ids come from the user
        headers = {"Authorization": f"Bearer {self._token}"}
        if data is not None:
            headers["Content-Type"] = kind
        if size is not None:
            headers["Content-Length"] = str(size)
        try:
            connection.request(method, target, body=data, headers=headers)
            response = connection.getresponse()
        except (OSError, http.client.HTTPException) as error:
            self.close()
            text = f"did not answer {method} {path} ({why_text(error)})"
            if reason := self._reason():
                text = f"cannot be reached: {reason}"
            raise Lost(f"the head of cluster {self.name!r} {text}") from error
        if response.status >= 400:
            raise self._error(response, method, path)
        return response

    def _connect(self) -> http.client.HTTPConnection:
        if self._connection is None:
            endpoint = self._find()
            connection = connect(endpoint, self.name)
            self._connection, self._token, self._reason = connection, endpoint.token, endpoint.why
        return self._connection

    def _read(self, response: http.client.HTTPResponse) -> bytes:
        try:
            body = response.read()
        except (OSError, http.client.HTTPException) as error:
            self.close()
            raise Lost(
                f"the head of cluster {self.name!r} broke off in the middle of an answer ({why_text(error)})"
            ) from error
        if response.will_close:
            self.close()
        return body

    def _error(self, response: http.client.HTTPResponse, method: str, path: str) -> ClusterctlError:
        body = self._read(response)
        kind = _BY_STATUS.get(response.status, ClusterctlError)
        return kind(
            error_sentence(body) or f"the head answered {method} {path} with {response.status} {response.reason}"
        )


def with_patience(call: Callable[[], Json], patience: float) -> Json:
    """`call` again and again while the head cannot be reached, for `patience` seconds."""
    pauses = _pauses(patience)
    while True:
        try:
            return call()
        except Unreachable as error:
            if isinstance(error, Gone) or not pauses.wait():
                raise


def follow(
    open_stream: Callable[[], Generator[Json, None, None]], *, patience: float = PATIENCE_SECONDS
) -> Generator[Json]:
    """The objects of a stream, opened again whenever it breaks off: `open_stream` asks from where the last left off.
    Ends when the stream itself ends; raises Unreachable when the head stays away for `patience` seconds, which begin when
    a stream breaks and not when it last had something to say."""
    pauses = _pauses(patience)
    while True:
        opened = time.monotonic()
        try:
            for item in open_stream():
                pauses.reset()
                yield item
            return
        except Unreachable as error:
            if isinstance(error, Lost) and error.begun and time.monotonic() - opened > STEADY_SECONDS:
                pauses.reset()
            if isinstance(error, Gone) or not pauses.wait():
                raise


def _pauses(patience: float) -> Backoff:
    return Backoff(0.02, 0.5, seconds=patience, clock=time.monotonic, sleep=time.sleep)


def _lines(response: http.client.HTTPResponse) -> Generator[bytes, None, None]:
    """The lines of an answer. Reads with `read1`, since `readline` takes a connection that broke off for the end."""
    rest = b""
    while data := response.read1(1 << 16):
        *lines, rest = (rest + data).split(b"\n")
        yield from lines
    if rest:
        raise http.client.IncompleteRead(rest)


def error_sentence(body: bytes) -> str:
    """The message and the fix of an error document, as one text; "" when it is none."""
    try:
        error = json.loads(body)["error"]
        return " ".join(part for part in (str(error["message"]).rstrip(), error.get("fix") or "") if part)
    except (ValueError, KeyError, TypeError):
        return ""


def _encoded(body: Json | None) -> bytes:
    return json.dumps(body or {}, separators=(",", ":")).encode()
