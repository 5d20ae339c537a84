from __future__ import annotations

import json
import os
import socket
import threading
import time
from collections.abc import Iterator
from itertools import count

import pytest

from clusterctl.client.head.api import PATIENCE_SECONDS, Api, follow
from clusterctl.client.registry import Registry
from clusterctl.client.submit.submission import Wanted, mint_id, submit
from clusterctl.core.errors import ClusterctlError, NotFound, Refused, Unreachable, UsageError
from tests.support.stub_head import Asked, Stream, StubHead, write_whole

OK = (200, {"ok": True})


def refuse(status: int) -> tuple[int, dict[str, object]]:
    return status, {"error": {"code": "x", "message": "it was refused", "fix": "do this"}}


def test_every_request_carries_the_token_and_a_loopback_host(stub: StubHead) -> None:
    stub.on("GET", "/api/v1/status", OK)
    with Api.of(stub.cluster) as api:
        api.get("/api/v1/status")
    headers = stub.asked[0].headers
    assert headers["Authorization"] == "Bearer secret-token" and headers["Host"].startswith("127.0.0.1:")


@pytest.mark.parametrize(
    ("status", "kind", "code"),
    [
        (400, UsageError, 2),
        (401, Refused, 5),
        (403, Refused, 5),
        (404, NotFound, 3),
        (409, Refused, 5),
        (413, UsageError, 2),
        (422, UsageError, 2),
        (500, ClusterctlError, 1),
        (503, ClusterctlError, 1),
    ],
)
def test_a_refusal_is_the_heads_own_sentence_with_its_exit_code(
    stub: StubHead, status: int, kind: type, code: int
) -> None:
    stub.on("POST", "/api/v1/x", refuse(status))
    with Api.of(stub.cluster) as api, pytest.raises(kind, match="it was refused do this") as caught:
        api.post("/api/v1/x")
    assert caught.value.exit_code == code


def test_an_answer_without_a_sentence_still_becomes_one(stub: StubHead) -> None:
    stub.on("GET", "/api/v1/x", (500, "Internal Server Error"))
    with Api.of(stub.cluster) as api, pytest.raises(ClusterctlError, match="answered GET /api/v1/x with 500"):
        api.get("/api/v1/x")


def test_a_dead_head_is_unreachable_with_what_starts_it_again(stub: StubHead) -> None:
    stub.stop()
    with Api.of(stub.cluster) as api, pytest.raises(Unreachable, match="is the head running") as caught:
        api.get("/healthz")
    assert caught.value.exit_code == 4


def test_the_token_is_not_sent_to_a_port_whose_head_has_died(stub: StubHead) -> None:
    head = stub.cluster.read_head() | {"pid": 2**22 + 1}
    write_whole(stub.cluster.head_dir / "head.json", json.dumps(head))
    with (
        Api.of(stub.cluster) as api,
        pytest.raises(Unreachable, match=r"is not running; `clusterctl up cluster\.yaml`"),
    ):
        api.get("/healthz")
    assert stub.asked == []


def test_an_interrupted_up_is_told_to_be_finished(registry: Registry) -> None:
    cluster = registry.create("half", provider="local", engine="none", spec_path="c.yaml")
    with Api.of(cluster) as api, pytest.raises(Unreachable, match=r"interrupted; `clusterctl up c\.yaml`"):
        api.get("/healthz")


def test_a_stream_goes_on_from_the_last_number_when_the_head_is_started_again(stub: StubHead) -> None:
    def events(asked: Asked) -> Stream:
        since = int(asked.query.get("since", 0))
        return Stream([{"seq": n} for n in range(since + 1, min(since + 3, 6))] + [None], cut=since < 4)

    stub.on("GET", "/api/v1/events", events)
    seen: list[int] = []
    with Api.of(stub.cluster) as api:
        for event in follow(lambda: api.stream("/api/v1/events", since=seen[-1] if seen else 0, follow=1)):
            seen.append(event["seq"])
            if event["seq"] == 2:  # it comes back on another port
                stub.stop()
                stub.start()
    assert seen == [1, 2, 3, 4, 5]


def test_a_stream_gives_up_when_the_head_stays_away(stub: StubHead) -> None:
    stub.on("GET", "/api/v1/events", Stream([{"seq": 1}], cut=True))
    with Api.of(stub.cluster) as api, pytest.raises(Unreachable):
        for _ in follow(lambda: api.stream("/api/v1/events"), patience=0.3):
            stub.stop()


def test_patience_begins_when_a_stream_breaks_and_not_when_it_last_had_something_to_say(
    stub: StubHead, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = SteppedClock()
    monkeypatch.setattr("clusterctl.client.head.api.time", clock)

    def silent_for_an_hour() -> Iterator[None]:
        clock.now += 3600
        yield None

    def answer(asked: Asked) -> Stream:
        return Stream(silent_for_an_hour(), cut=True) if len(stub.asked) < 3 else Stream([{"seq": 1}])

    stub.on("GET", "/api/v1/events", answer)
    with Api.of(stub.cluster) as api:
        assert list(follow(lambda: api.stream("/api/v1/events"))) == [{"seq": 1}]


class SteppedClock:
    """Time that passes only where a test says so."""

    now = 1.0

    def monotonic(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds


def test_a_kept_connection_that_died_is_made_anew(stub: StubHead) -> None:
    stub.on("GET", "/api/v1/status", OK)
    with Api.of(stub.cluster) as api:
        api.get("/api/v1/status")
        stub.stop()
        assert api._connection is not None and api._connection.sock is not None
        api._connection.sock.shutdown(socket.SHUT_RDWR)
        stub.start()
        assert api.get("/api/v1/status") == {"ok": True}


def test_a_submission_whose_answer_was_lost_is_made_again_under_the_same_id(stub: StubHead) -> None:
    number = count()

    def jobs(asked: Asked) -> object:
        if next(number) == 0:
            return Stream([], cut=True)  # it is done, and the answer is lost
        return 200, {"id": asked.json()["submission_id"], "state": "queued"}

    stub.on("POST", "/api/v1/jobs", jobs)
    with Api.of(stub.cluster) as api:
        accepted = submit(api, Wanted(["true"], submission_id=mint_id()))
    bodies = [asked.body for asked in stub.asked]
    assert len(bodies) == 2 and bodies[0] == bodies[1]
    assert accepted["id"] == json.loads(bodies[0])["submission_id"]


def test_a_submission_waits_for_a_head_that_is_being_started_again(stub: StubHead) -> None:
    stub.on("POST", "/api/v1/jobs", (201, {"id": "a", "state": "queued"}))
    stub.stop()
    (stub.cluster.head_dir / "head.json").unlink()
    (stub.cluster.head_dir / "supervisor.pid").write_text(str(os.getpid()))
    threading.Timer(0.2, stub.start).start()
    with Api.of(stub.cluster) as api:
        assert submit(api, Wanted(["true"], submission_id="a"))["id"] == "a"


def test_nobody_waits_for_a_head_that_nobody_starts(stub: StubHead) -> None:
    stub.stop()
    (stub.cluster.head_dir / "head.json").unlink()
    began = time.monotonic()
    with Api.of(stub.cluster) as api, pytest.raises(Unreachable, match="is not running"):
        submit(api, Wanted(["true"], submission_id="a"))
    with Api.of(stub.cluster) as api, pytest.raises(Unreachable, match="is not running"):
        list(follow(lambda: api.stream("/api/v1/events")))
    assert time.monotonic() - began < PATIENCE_SECONDS / 2


def test_a_refused_submission_is_not_tried_again(stub: StubHead) -> None:
    stub.on("POST", "/api/v1/jobs", refuse(409))
    with Api.of(stub.cluster) as api, pytest.raises(Refused):
        submit(api, Wanted(["true"], submission_id="a"))
    assert len(stub.asked) == 1


def test_a_plain_command_costs_one_request(stub: StubHead) -> None:
    stub.on("POST", "/api/v1/jobs", (201, {"id": "a", "state": "queued"}))
    with Api.of(stub.cluster) as api:
        submit(api, Wanted(["true"], submission_id="a"))
    assert stub.paths() == ["POST /api/v1/jobs"]


def test_a_silent_stream_counts_as_lost(stub: StubHead, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("clusterctl.client.head.api.SILENCE_SECONDS", 0.2)
    release = threading.Event()

    def lines():
        yield {"seq": 1}
        release.wait()

    stub.on("GET", "/api/v1/events", lambda _: Stream(lines()))
    try:
        with Api.of(stub.cluster) as api, pytest.raises(Unreachable, match="broke off"):
            list(api.stream("/api/v1/events"))
    finally:
        release.set()
