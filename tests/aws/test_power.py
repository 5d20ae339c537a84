"""Stopping and starting instances over HTTP: one that fails never spoils the others, and each error has its type."""

from __future__ import annotations

from pathlib import Path

import pytest
from clusterctl_providers.aws.provider import AwsProvider

from clusterctl.core.errors import BadRequest, NoCapacity, ProviderError, Throttled, UnknownOutcome
from clusterctl.core.model import Instance
from tests.aws.stage import Stage, pool
from tests.cloud.aws.cloud import AwsCloud
from tests.support.cluster import wait_until


@pytest.fixture
def stage(cloud: AwsCloud, tmp_path: Path) -> Stage:
    return Stage(tmp_path, cloud, [pool(instances=["t3.micro"])])


def stopped(stage: Stage, count: int) -> list[str]:
    """Ids of instances in as many zones, in order."""
    offers = stage.provider.offers(stage.pools[0])[:count]
    made = stage.provider.create([stage.request(f"cpu-{n}", of) for n, of in enumerate(offers, 1)])
    ids = [result.id for result in made if isinstance(result, Instance)]
    assert len(ids) == count
    wait_until(lambda: set(states(stage.provider, ids)) == {"running"}, what="all running")
    stage.provider.stop(ids)
    wait_until(lambda: set(states(stage.provider, ids)) == {"stopped"}, what="all stopped")
    return ids


def states(provider: AwsProvider, ids: list[str]) -> list[str]:
    shown = {i.id: i.state for scope in provider.list() for i in scope.instances}
    return [shown.get(instance_id, "") for instance_id in ids]


def kinds(answers: list[ProviderError | None]) -> list[type[ProviderError] | None]:
    return [type(answer) if answer else None for answer in answers]


def test_a_zone_without_capacity_keeps_its_own_stopped_and_no_other(stage: Stage, cloud: AwsCloud) -> None:
    ids = stopped(stage, 3)
    cloud.world.capacity["t3.micro/us-east-1b/on-demand"] = 0
    answers = stage.provider.start(ids)
    assert kinds(answers) == [None, NoCapacity, None] and "us-east-1b" in str(answers[1])
    wait_until(lambda: states(stage.provider, ids) == ["running", "stopped", "running"], what="the two others running")


def test_what_is_gone_is_told_apart_from_what_starts(stage: Stage, cloud: AwsCloud) -> None:
    ids = stopped(stage, 3)
    stage.provider.terminate(ids[:1])
    wait_until(lambda: states(stage.provider, ids)[0] == "", what="the first one gone")
    never = "i-0123456789abcdef0"
    answers = stage.provider.start([*ids, never])
    assert kinds(answers)[1:3] == [None, None], answers
    assert isinstance(answers[0], ProviderError) and isinstance(answers[3], BadRequest)


def test_a_spot_instance_cannot_be_stopped_and_the_sentence_says_so(cloud: AwsCloud, tmp_path: Path) -> None:
    stage = Stage(tmp_path, cloud, [pool(instances=["t3.micro"], market=["spot"])])
    (made,) = stage.provider.create([stage.request("cpu-1")])
    assert isinstance(made, Instance)
    wait_until(lambda: states(stage.provider, [made.id]) == ["running"], what="it runs")
    with pytest.raises(BadRequest, match=f"stopping {made.id}.*one-time Spot"):
        stage.provider.stop([made.id])


def test_one_that_is_on_its_way_is_asked_again_later(stage: Stage, cloud: AwsCloud) -> None:
    cloud.world.end_seconds = 3600.0
    (made,) = stage.provider.create([stage.request("cpu-1")])
    assert isinstance(made, Instance)
    wait_until(lambda: states(stage.provider, [made.id]) == ["running"], what="it runs")
    stage.provider.stop([made.id])
    assert kinds(stage.provider.start([made.id])) == [UnknownOutcome]


def test_a_throttled_start_is_a_matter_of_time_for_all_of_the_call(stage: Stage, cloud: AwsCloud) -> None:
    ids = stopped(stage, 2)
    cloud.fault("StartInstances", code="RequestLimitExceeded", status=503)
    assert kinds(stage.provider.start(ids)) == [Throttled, Throttled]
    wait_until(lambda: stage.provider.start(ids) == [None, None], what="the bucket lets them pass")


def test_an_instance_of_another_cluster_is_neither_stopped_nor_started(
    stage: Stage, cloud: AwsCloud, tmp_path: Path
) -> None:
    ids = stopped(stage, 1)
    stranger = Stage(tmp_path / "other", cloud, stage.pools)
    before = len(cloud.world.calls)
    stranger.provider.stop(ids)
    assert kinds(stranger.provider.start(ids)) == [BadRequest]
    assert not {"ec2:StopInstances", "ec2:StartInstances"} & set(cloud.world.actions(before))
