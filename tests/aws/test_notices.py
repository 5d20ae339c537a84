"""The agent reads EC2's notices from the metadata service, with tokens, and tells each once."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Iterator
from types import SimpleNamespace

import pytest
from clusterctl_runtime.agent.notices import source
from clusterctl_runtime.agent.notices.aws import REBALANCE_SECONDS, AwsMetadata
from clusterctl_runtime.agent.notices.source import Notice
from clusterctl_runtime.agent.notices.watch import watch_notices

from tests.cloud.aws.metadata import Imds
from tests.cloud.metadata import Facts, MetadataServer

ACTION, REBALANCE = "spot/instance-action", "events/recommendations/rebalance"
AT = "2026-01-31T12:00:00Z"
SECONDS = 1769860800.0


@pytest.fixture
def facts() -> Facts:
    return {}


@pytest.fixture
def server(facts: Facts) -> Iterator[MetadataServer]:
    place = MetadataServer("127.0.0.1", lambda _: facts, Imds(), port=0)
    yield place
    place.close()


def reader(server: MetadataServer) -> AwsMetadata:
    return AwsMetadata(f"http://127.0.0.1:{server.port}/latest")


def test_nothing_announced_is_no_notice(server: MetadataServer) -> None:
    assert reader(server).notice() is None


def test_an_interruption_says_when(server: MetadataServer, facts: Facts) -> None:
    facts[ACTION] = json.dumps({"action": "terminate", "time": AT})
    facts[REBALANCE] = json.dumps({"noticeTime": AT})
    assert reader(server).notice() == ("terminate", SECONDS), "it goes before a recommendation"


def test_a_recommendation_to_rebalance_leaves_some_minutes(server: MetadataServer, facts: Facts) -> None:
    facts[REBALANCE] = json.dumps({"noticeTime": AT})
    assert reader(server).notice() == ("rebalance", SECONDS + REBALANCE_SECONDS)


@pytest.mark.parametrize("wrong", [600, -600])
def test_a_machine_whose_clock_is_wrong_knows_how_much_time_is_left(
    server: MetadataServer, facts: Facts, monkeypatch: pytest.MonkeyPatch, wrong: int
) -> None:
    """EC2 says when by its own clock, which dates its answers."""
    in_two_minutes = time.time() + 120
    facts[ACTION] = json.dumps({
        "action": "terminate", "time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(in_two_minutes))
    })  # fmt: skip
    clock = SimpleNamespace(time=lambda: time.time() + wrong)
    monkeypatch.setattr(source, "time", clock)
    metadata = reader(server)
    notice = metadata.notice()
    assert notice and notice[1] - clock.time() == pytest.approx(120, abs=10)
    assert metadata.notice() == notice, "and it is one and the same notice"


def test_a_token_that_has_run_out_is_replaced(server: MetadataServer, facts: Facts) -> None:
    facts["instance-id"] = "i-1"
    metadata = reader(server)
    metadata._token = "an old one"
    assert metadata.get("instance-id") == "i-1"


def test_a_service_that_does_not_answer_is_an_error_and_no_notice() -> None:
    with pytest.raises(OSError):
        AwsMetadata("http://127.0.0.1:1/latest").notice()


def test_each_notice_is_told_once(server: MetadataServer, facts: Facts, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(AwsMetadata, "every", 0.01)
    told: list[Notice] = []

    async def live() -> None:
        task = asyncio.ensure_future(watch_notices(told.append, reader(server)))
        for fact, text in ((REBALANCE, {"noticeTime": AT}), (ACTION, {"action": "terminate", "time": AT})):
            facts[fact] = json.dumps(text)
            count, deadline = len(server.asked), time.monotonic() + 60
            while len(server.asked) < count + 8 and time.monotonic() < deadline:
                await asyncio.sleep(0.01)
        task.cancel()

    asyncio.run(live())
    assert [kind for kind, _ in told] == ["rebalance", "terminate"]
