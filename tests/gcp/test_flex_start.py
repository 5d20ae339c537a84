"""Flex-start: a place in Google's line, which is kept however long it takes, once per node, and given up with the node."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from clusterctl_providers.cloud import listing

from clusterctl.core.errors import ProviderError
from clusterctl.core.model import Instance, NodeState
from tests.cloud.gcp.cloud import GcpCloud
from tests.gcp.stage import Stage, pool

ONE = "compute.instances.insert"
HOUR = 3600.0


class Hands:
    """Those of the cloud's clock."""

    def __init__(self, cloud: GcpCloud) -> None:
        self._clock, self.moved = cloud.world.clock, 0.0
        cloud.world.clock = lambda: self._clock() + self.moved


@pytest.fixture
def stage(cloud: GcpCloud, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Stage]:
    monkeypatch.setattr(listing, "SEEN_BY", 0.0)
    flex = pool(instances=["g2-standard-4"], market=["flex-start", "on-demand"], zones=["us-central1-a"])
    cloud.world.quotas |= {"GPUS_ALL_REGIONS": 8.0, "PREEMPTIBLE_NVIDIA_L4_GPUS": 8.0, "NVIDIA_L4_GPUS": 8.0}
    place = Stage(tmp_path, cloud, [flex])
    place.provider._listing._clock = lambda: place.now
    yield place
    place.close()


def test_a_node_waits_in_line_and_says_so_and_runs_when_its_turn_comes(stage: Stage, cloud: GcpCloud) -> None:
    hands = Hands(cloud)
    cloud.world.capacity["g2-standard-4/*/flex-start"] = 0
    (outcome,) = stage.want(1)
    assert outcome.ok and outcome.node and outcome.node.state is NodeState.REQUESTED
    assert "it waits until Google has the capacity for it" in outcome.node.reason
    for _ in range(6):
        stage.now += 1000
        hands.moved += 1000
        assert stage.want(1) == [], "nothing is overdue, and nothing else is bought"
    (shown,) = stage.provider.list()[0].instances
    assert (shown.state, shown.queued, shown.market) == ("pending", True, "flex-start")
    cloud.world.capacity["g2-standard-4/*/flex-start"] = 1
    hands.moved += 1
    cloud.instances()
    hands.moved += 1
    stage.now += 10
    stage.want(1)
    assert [node.state for node in stage.journal.nodes().values()] == [NodeState.BOOTING]
    assert cloud.world.actions().count(ONE) == 1


def test_a_crash_takes_no_second_place_in_the_line(stage: Stage, cloud: GcpCloud) -> None:
    cloud.world.capacity["g2-standard-4/*/flex-start"] = 0
    request = stage.request("cpu-1")
    (first,) = stage.provider.create([request])
    (again,) = stage.open().create([request])  # a new process, with the book
    for path in (stage.directory / "state" / "gcp-launches").glob("*.json"):
        path.unlink()
    (once_more,) = stage.open().create([request])  # and one without
    ids = {result.id for result in (first, again, once_more) if isinstance(result, Instance)}
    assert len(ids) == 1 and len(cloud.instances()) == 1


def test_a_turn_that_never_comes_is_a_refusal_and_the_next_market_is_tried(stage: Stage, cloud: GcpCloud) -> None:
    hands = Hands(cloud)
    cloud.world.capacity["g2-standard-4/*/flex-start"] = 0
    (outcome,) = stage.want(1)
    assert outcome.node and len(cloud.instances()) == 1
    hands.moved += 3 * HOUR
    assert cloud.instances() == []
    stage.now += 3 * HOUR
    ended = [o.node for o in stage.want(0) if o.node and o.node.id == outcome.node.id]
    assert [node.code for node in ended] == ["no_capacity"] and "ZONE_RESOURCE_POOL_EXHAUSTED" in ended[0].reason
    stage.want(1)
    assert [i.market for i in cloud.instances("RUNNING")] == ["on-demand"]


def test_a_node_that_is_given_up_leaves_the_line(stage: Stage, cloud: GcpCloud) -> None:
    cloud.world.capacity["g2-standard-4/*/flex-start"] = 0
    (made,) = stage.provider.create([stage.request("cpu-1")])
    assert isinstance(made, Instance), made
    stage.provider.terminate([made.id])
    hands = Hands(cloud)
    hands.moved += 1
    assert cloud.instances() == [] and stage.provider.list()[0].instances == ()


def test_a_request_that_google_refuses_at_once_is_told_at_once(stage: Stage, cloud: GcpCloud) -> None:
    cloud.fault(ONE, code="invalid", message="Flex-start is not supported for this machine type", status=400)
    (answer,) = stage.provider.create([stage.request("cpu-1")])
    assert isinstance(answer, ProviderError) and answer.code == "bad_request" and "not supported" in str(answer)
