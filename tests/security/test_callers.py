"""What anybody who reaches the port may cost the head: little, and not for long."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from typing import Any

import psutil
import pytest
import uvicorn
from clusterctl_runtime.head.api import callers
from clusterctl_runtime.head.api.callers import BODY_BYTES, STRANGERS_BYTES, PunctualProtocol
from clusterctl_runtime.head.api.guard import Guard
from fastapi import FastAPI, Request
from starlette.responses import JSONResponse

from tests.security.knocking import Api

TOKEN = "a-good-token"
MIB = 1024 * 1024


def _app() -> FastAPI:
    app = FastAPI()

    @app.post("/api/v1/session")
    async def session(body: dict[str, Any], request: Request) -> JSONResponse:
        return JSONResponse({"bytes": len(await request.body())})

    @app.post("/api/v1/jobs")
    async def jobs(request: Request) -> JSONResponse:
        return JSONResponse({"bytes": len(await request.body())})

    @app.put("/api/v1/blobs/x")
    async def blob(request: Request) -> JSONResponse:
        return JSONResponse({"bytes": sum([len(chunk) async for chunk in request.stream()])})

    @app.get("/healthz")
    async def healthz() -> JSONResponse:
        return JSONResponse({"ok": True})

    return app


@contextmanager
def serving() -> Iterator[int]:
    listener = socket.create_server(("127.0.0.1", 0))
    guard = Guard(_app(), lambda token: "me" if token == TOKEN else None)
    config = uvicorn.Config(guard, http=PunctualProtocol, ws="none", log_level="error", lifespan="off")
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
    thread.start()
    try:
        yield listener.getsockname()[1]
    finally:
        server.should_exit = True
        thread.join(timeout=120)
        listener.close()


@pytest.fixture(scope="module")
def port() -> Iterator[int]:
    with serving() as port:
        yield port


def head_of(method: str, path: str, *headers: str) -> bytes:
    lines = [f"{method} {path} HTTP/1.1", "Host: 127.0.0.1", "Content-Type: application/json", *headers]
    return "\r\n".join([*lines, "", ""]).encode()


def spoken(port: int, *pieces: bytes) -> bytes:
    """All that the server says to these bytes until it hangs up, or to as many of them as it took."""
    with closing(socket.create_connection(("127.0.0.1", port), timeout=60)) as sock:
        try:
            for piece in pieces:
                sock.sendall(piece)
        except OSError:
            pass  # it has heard enough
        said = b""
        try:
            while data := sock.recv(65536):
                said += data
        except OSError:
            pass
        return said


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%s\r\n" % (len(data), data)


AUTHORIZED = f"Authorization: Bearer {TOKEN}"
LONG = "x" * (STRANGERS_BYTES + 1)


@pytest.mark.parametrize(
    "request_bytes",
    [
        (head_of("POST", "/api/v1/session", f"Content-Length: {len(LONG)}"), LONG.encode()),
        (head_of("POST", "/api/v1/session", "Content-Length: 400000000"), b"x" * 100_000),
        (head_of("POST", "/api/v1/session", "Transfer-Encoding: chunked"), *[chunk(b"x" * 1000)] * 100),
        (head_of("POST", "/api/v1/session", "Transfer-Encoding: chunked"), *[chunk(b"x")] * (STRANGERS_BYTES + 1)),
        (head_of("POST", "/api/v1/session", "Authorization: Bearer wrong", "Content-Length: 100000"), b"x" * 100_000),
    ],
    ids=["a byte too much", "a length that lies", "chunked", "byte by byte", "with a wrong token"],
)
def test_a_body_from_somebody_without_a_token_is_not_taken_beyond_a_few_kib(
    port: int, request_bytes: tuple[bytes, ...]
) -> None:
    said = spoken(port, *request_bytes)
    assert said.startswith(b"HTTP/1.1 413 ") and b'"too_large"' in said and b"connection: close" in said
    assert b"content-security-policy" in said


def test_a_ticket_of_the_size_that_tickets_have_is_taken(port: int) -> None:
    body = b'{"ticket":"%s"}' % (b"x" * 200)
    close = "Connection: close"
    said = spoken(port, head_of("POST", "/api/v1/session", f"Content-Length: {len(body)}", close), body)
    assert said.startswith(b"HTTP/1.1 200 ") and b'{"bytes":%d}' % len(body) in said


def test_who_has_a_token_may_send_some_mib_and_packages_of_any_size(port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    def send(method: str, path: str, size: int) -> bytes:
        head = head_of(method, path, AUTHORIZED, f"Content-Length: {size}", "Connection: close")
        return spoken(port, head, b"x" * size)

    assert b'{"bytes":%d}' % MIB in send("POST", "/api/v1/jobs", MIB)
    monkeypatch.setattr(callers, "BODY_BYTES", MIB)
    assert send("POST", "/api/v1/jobs", MIB + 1).startswith(b"HTTP/1.1 413 ")
    assert b'{"bytes":%d}' % (2 * MIB) in send("PUT", "/api/v1/blobs/x", 2 * MIB)
    assert BODY_BYTES >= 16 * MIB  # as much as one message to an agent may have, and more


def test_a_body_that_does_not_come_is_not_waited_for(port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(callers, "STRANGERS_SECONDS", 0.05)
    said = spoken(port, head_of("POST", "/api/v1/session", "Content-Length: 10"), b"{")
    assert said.startswith(b"HTTP/1.1 408 ") and b'"too_slow"' in said


@pytest.mark.parametrize(
    "begun",
    [b"", b"GET /healthz HT", head_of("GET", "/healthz")[:-2], head_of("GET", "/healthz") + b"GET /heal"],
    ids=["says nothing", "half a line", "headers without an end", "half a second request"],
)
def test_a_connection_on_which_nothing_is_asked_is_closed(
    port: int, monkeypatch: pytest.MonkeyPatch, begun: bytes
) -> None:
    monkeypatch.setattr(callers, "REQUEST_SECONDS", 0.05)
    said = spoken(port, begun)  # returns because the server hangs up
    assert said.count(b"HTTP/1.1 ") == begun.count(b"\r\n\r\n")


def test_headers_without_end_are_cut_off(port: int) -> None:
    said = spoken(port, b"GET /healthz HTTP/1.1\r\nHost: 127.0.0.1\r\n", *[b"X-A: " + b"x" * 1000 + b"\r\n"] * 1000)
    assert b"200 OK" not in said


def test_connections_without_number_leave_files_for_the_agents(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(callers, "MOST_CONNECTIONS", 3)
    with serving() as port:
        kept = [socket.create_connection(("127.0.0.1", port), timeout=60) for _ in range(3)]
        try:
            for sock in kept:  # each is known to the server once it has answered
                sock.sendall(head_of("GET", "/healthz"))
                assert sock.recv(65536).startswith(b"HTTP/1.1 200 ")
            assert spoken(port, head_of("GET", "/healthz", "Connection: close")) == b""
        finally:
            for sock in kept:
                sock.close()


def test_a_head_that_is_sent_hundreds_of_mib_without_a_token_stays_as_large_as_it_was(api: Api) -> None:
    process = psutil.Process(api.cluster.head_pid())
    before = process.memory_info().rss
    flood = [b"x" * MIB] * 200
    said = spoken(api.port, head_of("POST", "/api/v1/session", f"Content-Length: {200 * MIB}"), *flood)
    assert (
        said.startswith(b"HTTP/1.1 413 ") or said == b""
    )  # the answer may be lost where it hung up on bytes in flight
    spoken(api.port, head_of("POST", "/api/v1/session", "Transfer-Encoding: chunked"), *[chunk(b"x" * MIB)] * 50)
    assert process.memory_info().rss - before < 50 * MIB
    assert api.get("/healthz")["ok"]
