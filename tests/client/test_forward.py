from __future__ import annotations

import asyncio
import http.client
import socket
import threading
from collections.abc import Iterator

import pytest

from clusterctl.client.head.endpoint import connect, locate
from clusterctl.client.head.forward import forward
from clusterctl.client.local_page import _TCP_TABLE, _in_table
from clusterctl.client.local_port import listening_socket
from clusterctl.core.errors import ClusterctlError
from tests.support.stub_head import Stream, StubHead


@pytest.fixture
def port(stub: StubHead) -> Iterator[int]:
    """The local port of a forwarder to the stub."""
    sock = listening_socket(0, "choose another")
    ended: list[asyncio.Future[None]] = []
    begun = threading.Event()

    async def serve() -> None:
        loop = asyncio.get_running_loop()
        ended.append(loop.create_future())
        serving = loop.create_task(
            forward(sock, lambda: connect(locate(stub.cluster), stub.cluster.name), lambda: "one-time")
        )
        begun.set()
        await ended[0]
        serving.cancel()

    thread = threading.Thread(target=lambda: asyncio.run(serve()), daemon=True)
    thread.start()
    assert begun.wait(60)
    yield sock.getsockname()[1]
    ended[0].get_loop().call_soon_threadsafe(ended[0].set_result, None)
    thread.join(60)
    sock.close()


def ask(
    port: int, path: str, headers: dict[str, str] | None = None, method: str = "GET"
) -> tuple[int, dict[str, str], bytes]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    connection.request(method, path, headers=headers or {})
    answer = connection.getresponse()
    result = answer.status, dict(answer.getheaders()), answer.read()
    connection.close()
    return result


def test_requests_reach_the_head_as_they_are(stub: StubHead, port: int) -> None:
    stub.on("GET", "/api/v1/status", (200, {"state": "ready"}))
    assert ask(port, "/api/v1/status", {"Authorization": "Bearer x"})[2] == b'{"state": "ready"}'
    assert stub.asked[0].headers["Authorization"] == "Bearer x" and stub.asked[0].headers["Host"] == f"127.0.0.1:{port}"


def test_a_stream_passes_piece_by_piece(stub: StubHead, port: int) -> None:
    go_on = threading.Event()

    def lines():
        yield {"seq": 1}
        go_on.wait(60)
        yield {"seq": 2}

    stub.on("GET", "/api/v1/events", lambda _: Stream(lines()))
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    connection.request("GET", "/api/v1/events")
    answer = connection.getresponse()
    assert answer.readline() == b'{"seq": 1}\n'
    go_on.set()
    assert answer.readline() == b'{"seq": 2}\n'
    connection.close()


def test_a_head_that_was_started_again_elsewhere_is_found(stub: StubHead, port: int) -> None:
    stub.stop()
    assert ask(port, "/healthz")[0] == 502
    stub.start()
    assert ask(port, "/healthz")[0] == 200


def test_open_leads_this_user_to_the_page_with_a_ticket_in_the_fragment(stub: StubHead, port: int) -> None:
    status, headers, _ = ask(port, "/open")
    assert (status, headers["Location"], headers["Cache-Control"]) == (303, "/#ticket=one-time", "no-store")
    assert ask(port, "/open", {"Sec-Fetch-Site": "none"})[0] == 303
    assert stub.asked == []


@pytest.mark.parametrize(
    "headers",
    [
        {"Host": "evil.example"},
        {"Host": "localhost"},
        {"Host": "127.0.0.1:1"},
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-origin"},
    ],
)
def test_open_gives_no_ticket_to_what_another_page_or_name_asked_for(port: int, headers: dict[str, str]) -> None:
    status, answered, body = ask(port, "/open", headers)
    assert status == 403 and "Location" not in answered and b"one-time" not in body


def test_open_gives_no_ticket_to_another_user(port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.getuid", lambda: 12345)
    status, answered, body = ask(port, "/open")
    assert status == 403 and "Location" not in answered and b"another user" in body


def test_a_taken_port_is_a_sentence(port: int) -> None:
    with pytest.raises(ClusterctlError, match=rf"cannot listen on 127\.0\.0\.1:{port} \(.*\): choose another --port"):
        listening_socket(port, "choose another --port")


def test_addresses_are_written_as_the_kernel_writes_them() -> None:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        sock.listen()
        assert _in_table(*sock.getsockname()) in _TCP_TABLE.read_text()
