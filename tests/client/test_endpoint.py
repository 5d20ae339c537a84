"""The token goes to the head and to nobody else, whoever has its port."""

from __future__ import annotations

import errno
import hashlib
import http.client
import json
import os
import subprocess
import sys
import urllib.request
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest
from clusterctl_runtime.head.clock import start_ticks

from clusterctl.client.head import process as headprocess
from clusterctl.client.head import tunnels
from clusterctl.client.head.api import Api
from clusterctl.client.head.endpoint import Endpoint, Unproven, connect, locate
from clusterctl.client.registry import Registry
from clusterctl.core.errors import Unreachable
from clusterctl.proof import is_challenge, is_proof, new_challenge, proof_of
from tests.support.stub_head import Asked, StubHead, write_whole

OK = (200, {"ok": True})


@pytest.fixture
def stranger(stub: StubHead) -> StubHead:
    """Another program has the head's port: it answers whatever it is asked, and knows no token."""
    stub.token = ""
    stub.on("GET", "/api/v1/status", OK)
    stub.on("PUT", "/api/v1/spec", OK)
    return stub


def no_token_was_sent(stranger: StubHead) -> bool:
    shown = [asked.headers for asked in stranger.asked] + [asked.body for asked in stranger.asked]
    return "Authorization" not in str(shown) and "secret-token" not in str(shown)


def head_json(stub: StubHead, **changes: object) -> None:
    write_whole(stub.cluster.head_dir / "head.json", json.dumps(stub.cluster.read_head() | changes))


def test_a_program_that_got_the_id_of_the_heads_process_is_not_the_head(stranger: StubHead) -> None:
    head_json(stranger, pid=os.getpid(), start_ticks=(start_ticks() or 0) - 1)
    with Api.of(stranger.cluster) as api, pytest.raises(Unreachable, match="is not running"):
        api.get("/api/v1/status")
    assert stranger.asked == []


@pytest.mark.parametrize(
    "call",
    [
        lambda api: api.get("/api/v1/status"),
        lambda api: api.post("/api/v1/down"),
        lambda api: api.put("/api/v1/spec", {}),
        lambda api: api.has("/api/v1/blobs/x"),
        lambda api: list(api.stream("/api/v1/events")),
    ],
)
def test_whoever_has_the_heads_port_gets_no_token_by_any_call(
    stranger: StubHead, call: Callable[[Api], object]
) -> None:
    with (
        Api.of(stranger.cluster) as api,
        pytest.raises(Unproven, match=r"did not prove that it is the head .* got no token"),
    ):
        call(api)
    assert stranger.asked and no_token_was_sent(stranger)


def test_up_does_not_take_a_stranger_for_a_head_that_answers(stranger: StubHead) -> None:
    assert not headprocess.answers(stranger.cluster)
    assert no_token_was_sent(stranger)


@pytest.mark.parametrize(
    "said", [{"proof": "0" * 64}, {"proof": None}, {"proof": "\udcff"}, {"proof": ["x"]}, ["proof"], "proof", 5]
)
def test_a_wrong_proof_is_none(stranger: StubHead, said: object) -> None:
    stranger.on("GET", "/healthz", (200, said))
    with Api.of(stranger.cluster) as api, pytest.raises(Unproven):
        api.get("/api/v1/status")
    assert no_token_was_sent(stranger)


def test_a_proof_that_was_heard_before_does_not_serve_again(stub: StubHead) -> None:
    heard = stub.proof(new_challenge())
    stub.token = ""
    stub.on("GET", "/healthz", (200, {"proof": heard}))
    with Api.of(stub.cluster) as api, pytest.raises(Unproven):
        api.get("/api/v1/status")


def test_a_stranger_who_passes_the_challenge_on_to_the_head_gains_nothing(stub: StubHead, tmp_path: Path) -> None:
    def ask_the_head(asked: Asked) -> tuple[int, object]:
        url = f"http://127.0.0.1:{stub.port}/healthz?challenge={asked.query['challenge']}"
        with urllib.request.urlopen(url, timeout=60) as answer:
            return 200, json.load(answer)

    between = StubHead(Registry(tmp_path / "theirs", environment={}))
    between.token = ""
    between.on("GET", "/healthz", ask_the_head)
    between.start()
    try:
        head_json(stub, port=between.port)
        with Api.of(stub.cluster) as api, pytest.raises(Unproven):
            api.get("/api/v1/status")
        assert between.asked and no_token_was_sent(between)
    finally:
        between.stop()


def test_a_connection_that_was_cut_is_not_opened_again_to_whoever_listens_now(stub: StubHead) -> None:
    stub.on("GET", "/api/v1/status", OK)
    endpoint = locate(stub.cluster)
    with closing(connect(endpoint, "demo")) as connection:
        connection.close()
        with pytest.raises(http.client.NotConnected):
            connection.request("GET", "/api/v1/status", headers={"Authorization": f"Bearer {endpoint.token}"})
    assert stub.asked == []


def test_a_tunnel_is_ours_only_while_a_process_of_this_user_has_its_words(
    registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    cluster = registry.create("far", provider="ssh", engine="none", spec_path="c.yaml")
    program = "import sys; print('runs', flush=True); sys.stdin.read()"
    words = [sys.executable, "-c", program, tunnels.PROGRAM, str(cluster.directory)]
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None and process.stdout.readline() == b"runs\n"
        document = {"pid": process.pid, "port": 5, "head_port": 7}
        write_whole(cluster.directory / "tunnel.json", json.dumps(document))
        assert (tunnels.tunnel_port(cluster), tunnels.head_port(cluster)) == (5, 7)

        def of_another_user(pid: int, number: int) -> None:
            raise PermissionError(errno.EPERM, "Operation not permitted")

        with monkeypatch.context() as there:
            there.setattr("os.kill", of_another_user)
            assert tunnels._living(cluster) == 0


def test_through_a_tunnel_the_heads_own_port_is_proven(stub: StubHead) -> None:
    direct = locate(stub.cluster)
    for port, right in ((stub.port, True), (stub.port + 1, False), (0, False)):
        through = Endpoint(direct.host, direct.port, direct.token, head_port=lambda port=port: port)
        if right:
            connect(through, "demo").close()
        else:
            with pytest.raises(Unproven):
                connect(through, "demo")


def test_the_page_is_led_to_nobody_but_the_head(stranger: StubHead) -> None:
    with pytest.raises(Unproven):
        connect(locate(stranger.cluster), "demo")
    assert [asked.path for asked in stranger.asked] == ["/healthz"]


def test_a_proof_is_of_one_token_one_challenge_and_one_port() -> None:
    token, challenge = "the-token", new_challenge()
    shown = proof_of(hashlib.sha256(token.encode()).hexdigest(), challenge, 80)
    assert is_challenge(challenge) and is_proof(shown, token, challenge, 80)
    assert not is_proof(shown, "another", challenge, 80)
    assert not is_proof(shown, token, new_challenge(), 80)
    assert not is_proof(shown, token, challenge, 81)
    assert token not in shown and hashlib.sha256(token.encode()).hexdigest() not in shown
