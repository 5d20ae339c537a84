"""Whoever reaches the agents' port of a real head without being one of its nodes gets nothing, and harms nothing."""

from __future__ import annotations

import json
import socket
import ssl
import struct
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from clusterctl_runtime import wire

from tests.security.knocking import Api
from tests.support.cluster import LocalCluster, wait_until


@contextmanager
def dial(cluster: LocalCluster) -> Iterator[ssl.SSLSocket]:
    """A TLS connection to the agents' port, as an agent of this cluster would make it."""
    port = json.loads((cluster.head_dir / "head.json").read_text())["agent_port"]
    context = wire.client_context((cluster.head_dir / "ca.pem").read_text())
    with (
        socket.create_connection(("127.0.0.1", port), timeout=30) as raw,
        context.wrap_socket(raw, server_hostname=wire.server_name(uid_of(cluster))) as connection,
    ):
        yield connection


def uid_of(cluster: LocalCluster) -> str:
    return json.loads((cluster.head_dir.parent / "cluster.json").read_text())["uid"]


def receive(connection: ssl.SSLSocket) -> wire.Message | None:
    """The head's next message; None when it hung up."""
    data = b""
    try:
        while piece := connection.recv(65536):
            data += piece
            if len(data) >= 8 and len(data) >= 8 + sum(struct.unpack(">II", data[:8])):
                return json.loads(data[8 : 8 + struct.unpack(">I", data[:4])[0]])
    except (ConnectionError, ssl.SSLError):
        pass
    return None


def ask(cluster: LocalCluster, hello: wire.Message) -> wire.Message | None:
    with dial(cluster) as connection:
        connection.sendall(wire.encode(hello))
        return receive(connection)


@pytest.fixture(scope="module")
def worker(cluster: LocalCluster) -> dict[str, Any]:
    """The bootstrap document of the cluster's one worker, whose agent is connected."""
    papers = [json.loads(path.read_text()) for path in cluster.home.rglob("bootstrap.json")]
    return next(paper for paper in papers if paper["node_id"].startswith("cpu-"))


def hello(worker: dict[str, Any], **changes: Any) -> wire.Message:
    message = {
        "t": "hello",
        "wire": wire.WIRE_VERSION,
        "purpose": "control",
        "uid": worker["uid"],
        "node_id": worker["node_id"],
        "generation": worker["generation"],
        "secret": worker["join_token"],
        "boot_id": "rogue",
        "version": "0",
        "address": "127.0.0.1",
        "facts": {},
        "tasks": [],
    }
    return {**message, **changes}


REFUSED = {
    "a wrong token": ({"secret": "0" * 64}, "bad_secret"),
    "no token": ({"secret": ""}, "bad_secret"),
    "a token of another type": ({"secret": None}, "bad_secret"),
    "a used token from another boot": ({}, "token_used"),
    "the token of another node": ({"node_id": "head-1"}, "bad_secret"),
    "a node that is not in the journal": ({"node_id": "cpu-999"}, "unknown_node"),
    "an older generation": ({"generation": 0}, "stale_node"),
    "a generation to come": ({"generation": 2}, "stale_node"),
    "another cluster": ({"uid": "00000000-0000-0000-0000-000000000000"}, "wrong_cluster"),
    "a generation that is no number": ({"generation": "1; drop"}, "bad_hello"),
    "a node that is a list": ({"node_id": ["cpu-1"]}, "bad_hello"),
    "half a character": ({"node_id": "\ud800", "secret": "\ud800", "boot_id": "\ud800"}, "bad_hello"),
    "half a character from another cluster": ({"node_id": "\ud800", "uid": "\ud800"}, "wrong_cluster"),
    "half a character for a token": ({"secret": "\ud800"}, "bad_secret"),
    "another version of the protocol": ({"wire": 99}, "wire_version"),
    "no hello at all": ({"t": "tasks", "items": []}, "wire_version"),
}


@pytest.mark.parametrize("purpose", ["control", "blob"])
@pytest.mark.parametrize(("changes", "code"), REFUSED.values(), ids=REFUSED.keys())
def test_who_is_no_node_is_refused_with_a_reason_on_both_kinds_of_connection(
    cluster: LocalCluster, worker: dict[str, Any], changes: dict[str, Any], code: str, purpose: str
) -> None:
    answer = ask(cluster, hello(worker, purpose=purpose, **changes))
    assert answer is not None and (answer["t"], answer["code"]) == ("refuse", code)
    assert len(answer["reason"]) > 20 and worker["join_token"] not in json.dumps(answer)


def test_intruders_are_told_to_people_and_in_the_log_but_cannot_fill_either(
    cluster: LocalCluster, worker: dict[str, Any], api: Api
) -> None:
    before = len([e for e in api.events() if e["kind"] == "security"])
    for number in range(60):
        ask(cluster, hello(worker, uid=f"other-{number}", node_id="x\nforged line" + "y" * 10_000))
        ask(cluster, hello(worker, secret=str(number)))
    told = [e for e in api.events() if e["kind"] == "security"]
    assert {"bad_secret", "wrong_cluster"} <= {e["code"] for e in told}
    assert len(told) - before <= 30 and max(len(e["subject"]) for e in told) <= 80
    log = (cluster.head_dir / "head.log").read_text()
    assert "was refused" in log
    assert not [line for line in log.splitlines() if line.startswith("forged line")]


NONSENSE = {
    "plain text": b"hello?\r\n\r\n" * 10,
    "a frame over the limit": struct.pack(">II", 2**31, 0) + b"x" * 1000,
    "a hello over its own limit": struct.pack(">II", wire.MAX_HELLO + 1, 0) + b"{" * 1000,
    "a payload over the limit": struct.pack(">II", 2, 2**31) + b"{}" * 500,
    "no JSON": struct.pack(">II", 4, 0) + b"\xff\xfe\x00{",
    "JSON that is no object": struct.pack(">II", 2, 0) + b"[]",
    "an object without a type": struct.pack(">II", 2, 0) + b"{}",
    "JSON too deep to read": struct.pack(">II", 200_000, 0) + b"[" * 200_000,
    "numbers that are none": struct.pack(">II", 48, 0) + b'{"t":"hello","wire":1,"generation":NaN,"uid":1e9}'[:48],
    "a broken request for the bundle": b"GET " + b"x" * 300_000,
    "a bundle that is a path": b"GET /bundle/../../head/ca.key HTTP/1.1\r\n\r\n",
}


@pytest.mark.parametrize("data", NONSENSE.values(), ids=NONSENSE.keys())
def test_nonsense_ends_its_own_connection_and_nothing_else(cluster: LocalCluster, api: Api, data: bytes) -> None:
    pid = cluster.head_pid()
    with dial(cluster) as connection:
        try:
            connection.sendall(data)
            connection.settimeout(60)
            answer = b"".join(iter(lambda: connection.recv(65536), b""))
        except (ConnectionError, ssl.SSLError):
            answer = b""
    assert b"PRIVATE KEY" not in answer and b"welcome" not in answer
    assert api.get("/healthz")["ok"] and cluster.head_pid() == pid


def test_a_stranger_who_says_nothing_or_stops_halfway_is_hung_up_on(cluster: LocalCluster) -> None:
    started = time.monotonic()
    with dial(cluster) as silent, dial(cluster) as slow:
        slow.sendall(struct.pack(">II", 1000, 0) + b'{"t": "he')
        for connection in (silent, slow):
            connection.settimeout(120)
            assert connection.recv(1) == b""
    assert time.monotonic() - started > 10


def test_a_crowd_of_silent_strangers_does_not_keep_the_nodes_out(
    cluster: LocalCluster, worker: dict[str, Any], api: Api
) -> None:
    port = json.loads((cluster.head_dir / "head.json").read_text())["agent_port"]
    crowd = [socket.create_connection(("127.0.0.1", port), timeout=60) for _ in range(300)]
    try:
        job = api.run(argv=["echo", "served"])
        assert job["state"] == "succeeded"
        assert len(cluster.ready_nodes()) == 1
        answer = ask(cluster, hello(worker, secret="nobody's"))
        assert answer is not None and answer["code"] == "bad_secret", "who dials in after them is heard"
    finally:
        for connection in crowd:
            connection.close()


def test_a_peer_without_tls_gets_nothing(cluster: LocalCluster, worker: dict[str, Any]) -> None:
    port = json.loads((cluster.head_dir / "head.json").read_text())["agent_port"]
    with socket.create_connection(("127.0.0.1", port), timeout=60) as plain:
        plain.sendall(wire.encode(hello(worker)))
        try:
            answer = plain.recv(65536)
        except ConnectionError:
            answer = b""
    assert b"welcome" not in answer and b"refuse" not in answer


def test_after_all_of_this_the_node_of_before_still_works(cluster: LocalCluster, api: Api) -> None:
    [node] = cluster.ready_nodes()
    assert node["generation"] == 1
    assert api.run(argv=["true"])["state"] == "succeeded"
    wait_until(lambda: "Traceback" not in cluster.head_log(10**7), what="a head that logs no traceback")
