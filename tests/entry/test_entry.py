"""The entry of services, as a process, between real clients and real servers."""

from __future__ import annotations

import asyncio
import hashlib
import http.client
import json
import os
import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
from clusterctl_runtime.entry.target import Target
from clusterctl_runtime.head.services.entry import Entry

from tests.support.cluster import wait_until
from tests.support.web_program import Load, WebProgram

TOKEN = "secret-of-llm"
TOKENS = (hashlib.sha256(TOKEN.encode()).hexdigest(),)


class Running:
    """An `Entry` whose loop runs in a thread."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self.loop.run_forever, daemon=True)
        self._thread.start()
        self.entry: Entry = self.call(lambda: Entry(directory, lambda: None, lambda name: None))
        self._task = asyncio.run_coroutine_threadsafe(self.entry.run(), self.loop)

    def call(self, function: Callable[[], Any]) -> Any:
        async def called() -> Any:
            return function()

        return asyncio.run_coroutine_threadsafe(called(), self.loop).result(30)

    def use(self, *targets: Target) -> None:
        self.call(lambda: self.entry.set("llm", targets, TOKENS))
        wait_until(lambda: self.entry.port, what="the entry listens")

    def open_at(self, target: Target) -> int | None:
        return self.call(lambda: self.entry.open_requests("llm", target.id))

    def ask(self, path: str = "/", method: str = "GET", token: str = TOKEN, **more: Any) -> tuple[int, bytes]:
        connection = http.client.HTTPConnection("127.0.0.1", self.entry.port, timeout=60)
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        connection.request(method, f"/services/llm{path}", headers={**headers, **more.pop("headers", {})}, **more)
        response = connection.getresponse()
        body = response.read()
        connection.close()
        return response.status, body

    def pid(self) -> int:
        """It is on disk a moment after the entry listens."""
        file = self.directory / "entry.json"
        wait_until(file.exists, what="the entry is noted")
        return json.loads(file.read_text())["pid"]

    def name(self) -> str:
        status, body = self.ask()
        assert status == 200, body
        return body.decode()

    def end(self, for_good: bool = True) -> None:
        self.call(lambda: self.entry.close(for_good))
        self._task.cancel()
        wait_until(self._task.done)
        self.call(lambda: None)
        self.loop.call_soon_threadsafe(self.loop.stop)
        self._thread.join(30)
        self.loop.close()


@pytest.fixture
def running(tmp_path: Path) -> Iterator[Running]:
    made = Running(tmp_path)
    yield made
    made.end()


@pytest.fixture
def programs() -> Iterator[Callable[[str], WebProgram]]:
    made: list[WebProgram] = []

    def make(name: str) -> WebProgram:
        made.append(WebProgram(name))
        return made[-1]

    yield make
    for program in made:
        program.close()


def to(program: WebProgram, check: str | None = None, prefix: str = "") -> Target:
    return Target(program.name, "127.0.0.1", program.port, prefix, check)


def test_who_shows_no_token_or_a_wrong_one_is_refused_and_learns_nothing(running: Running, programs: Any):
    a = programs("a")
    running.use(to(a))
    assert [running.ask(token=token)[0] for token in ("", "wrong", TOKEN)] == [401, 401, 200]
    assert running.ask("/../../other")[0] == 200  # a path of the program's
    connection = http.client.HTTPConnection("127.0.0.1", running.entry.port, timeout=60)
    connection.request("POST", "/services/none/", body=b"x" * 300_000, headers={"Authorization": f"Bearer {TOKEN}"})
    assert connection.getresponse().status == 401
    assert a.paths == ["/", "/../../other"]


def test_a_request_arrives_as_it_was_but_for_what_was_meant_for_the_entry(running: Running, programs: Any):
    running.use(to(programs("a"), prefix="/v3"))
    _, seen = running.ask("/seen?x=1&y=%20", headers={"X-Mine": "yes"})
    assert seen == b"a"  # its path begins with the prefix
    running.use(to(programs("b")))
    lies = {"X-Forwarded-For": "10.9.8.7", "X-Forwarded-Prefix": "/lie", "Connection": "X-Hop", "X-Hop": "lie"}
    _, seen = running.ask("/seen?x=1&y=%20", headers={"X-Mine": "yes", **lies})
    text = seen.decode()
    assert "127.0.0.1" in text and "/services/llm" in text and "10.9.8.7" not in text and "lie" not in text
    assert text.startswith("/seen?x=1&y=%20\n") and "X-Mine: yes".lower() in text.lower() and TOKEN not in text
    _, seen = running.ask("/seen", headers={"X-Clusterctl-Token": TOKEN, "Authorization": "Bearer theirs"})
    assert "Bearer theirs" in seen.decode() and TOKEN not in seen.decode()
    body = os.urandom(3_000_000)
    assert running.ask("/", "POST", body=body) == (200, hashlib.sha256(body).hexdigest().encode())


def test_an_answer_streams_and_an_upgraded_connection_carries_bytes_both_ways(running: Running, programs: Any):
    a = programs("a")
    running.use(to(a))
    connection = http.client.HTTPConnection("127.0.0.1", running.entry.port, timeout=60)
    connection.request("GET", "/services/llm/stream", headers={"Authorization": f"Bearer {TOKEN}"})
    response = connection.getresponse()
    assert response.readline() == b"first\n"  # while the program has not said the rest
    a.released.set()
    assert response.read() == b"last\n"
    with socket.create_connection(("127.0.0.1", running.entry.port), 60) as sock:
        sock.sendall(f"CLUSTERCTL llm {TOKEN}\n".encode())  # as `service forward` begins each connection
        sock.sendall(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: twice\r\n\r\n")
        answer = b""
        while b"\r\n\r\n" not in answer:
            answer += sock.recv(1000)
        assert answer.startswith(b"HTTP/1.1 101")
        sock.sendall(b"hey")
        assert sock.recv(6, socket.MSG_WAITALL) == b"heyhey"


def test_targets_are_swapped_under_load_without_a_failed_request_and_what_is_open_ends_at_the_old_one(
    running: Running, programs: Any
):
    old, new = programs("old"), programs("new")
    running.use(to(old))
    slow: list[tuple[int, bytes]] = []
    waiting = threading.Thread(target=lambda: slow.append(running.ask("/slow")))
    waiting.start()
    assert old.waiting.wait(60)
    load = Load(running.name)
    wait_until(lambda: len(load.answers) > 50)
    running.use(to(new))
    wait_until(lambda: running.open_at(to(old)) == 1, what="only the slow one is open")
    at = len(load.answers)
    wait_until(lambda: len(load.answers) > at + 50)
    load.end()
    assert not load.failures
    assert set(load.answers[:40]) == {"old"} and set(load.answers[at + 10 :]) == {"new"}
    old.released.set()
    waiting.join(60)
    assert slow == [(200, b"old")]
    wait_until(lambda: running.open_at(to(old)) == 0, what="nothing is open there")


def test_a_target_gets_requests_while_it_is_well_and_another_is_tried_where_nothing_listens(
    running: Running, programs: Any
):
    a, b = programs("a"), programs("b")
    b.healthy = False
    running.use(to(a, "/ready"), to(b, "/ready"))
    assert {running.name() for _ in range(10)} == {"a"}
    assert running.entry.state("llm", "b").why in ("", "GET /ready was answered with 503")
    b.healthy = True
    wait_until(lambda: running.name() == "b", what="it gets requests once it is well")
    a.close()
    assert {running.name() for _ in range(20)} == {"b"}
    b.close()
    status, said = running.ask()
    assert status == 503
    assert b"none of its replicas takes connections" in said or b"no replica of it is well" in said


def test_when_the_head_is_started_again_requests_go_on_at_the_same_address(tmp_path: Path, programs: Any):
    a = programs("a")
    first = Running(tmp_path)
    second = None
    try:
        first.use(to(a, "/ready"))
        port = first.entry.port
        load = Load(first.name)
        wait_until(lambda: len(load.answers) > 20)
        first.end(for_good=False)
        at = len(load.answers)
        wait_until(lambda: len(load.answers) > at + 20, what="the process serves without its head")
        second = Running(tmp_path)
        second.use(to(a, "/ready"))
        assert second.entry.port == port
        wait_until(lambda: second.open_at(to(a)) is not None, what="the earlier one has gone")
        at = len(load.answers)
        wait_until(lambda: len(load.answers) > at + 20, what="the next one serves")
        load.end()
        assert not load.failures
    finally:
        (second or first).end()


def test_an_entry_that_dies_is_started_again_at_its_port(running: Running, programs: Any):
    running.use(to(programs("a"), "/ready"))
    port, pid = running.entry.port, running.pid()
    psutil.Process(pid).kill()
    wait_until(lambda: running.pid() != pid, what="there is another one")
    assert running.name() == "a"
    assert running.entry.port == port


def test_a_request_that_makes_no_sense_is_refused_and_so_is_a_body_that_nobody_may_send(
    running: Running, programs: Any
):
    a = programs("a")
    running.use(to(a))
    for request in (
        b"GET /services/llm/ HTTP/1.1\r\n\r\n",  # no Host
        b"POST /services/llm/ HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
        b"GET /services/llm/ HTTP/1.1\r\nHost: x\r\nX: " + b"x" * 100_000,
    ):
        with socket.create_connection(("127.0.0.1", running.entry.port), 60) as sock:
            sock.sendall(request)
            assert sock.recv(12) in (b"HTTP/1.1 400", b"HTTP/1.1 401", b"HTTP/1.1 431")
    assert a.paths == []
