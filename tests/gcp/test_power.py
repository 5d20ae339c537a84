"""Stopping and starting instances over HTTP: one that fails never spoils the others, and each error has its type."""

from __future__ import annotations

from pathlib import Path

import pytest
from clusterctl_providers.gcp.provider import GcpProvider

from clusterctl.core.errors import BadRequest, NoCapacity, ProviderError, Throttled, UnknownOutcome
from clusterctl.core.model import Instance
from tests.cloud.gcp.cloud import GcpCloud
from tests.gcp.stage import Stage, pool
from tests.support.cluster import wait_until


@pytest.fixture
def stage(cloud: GcpCloud, tmp_path: Path) -> Stage:
    return Stage(tmp_path, cloud, [pool(instances=["e2-small"])])


def stopped(stage: Stage, count: int) -> list[str]:
    """Ids of instances in as many zones, in order."""
    offers = sorted(stage.provider.offers(stage.pools[0]), key=lambda offer: offer.zone)[:count]
    made = [stage.provider.create([stage.request(f"cpu-{n}", of)])[0] for n, of in enumerate(offers, 1)]
    ids = [result.id for result in made if isinstance(result, Instance)]
    assert len(ids) == count
    wait_until(lambda: set(states(stage.provider, ids)) == {"running"}, what="all running")
    stage.provider.stop(ids)
    wait_until(lambda: set(states(stage.provider, ids)) == {"stopped"}, what="all stopped")
    return ids


def states(provider: GcpProvider, ids: list[str]) -> list[str]:
    shown = {i.id: i.state for scope in provider.list() for i in scope.instances}
    return [shown.get(instance_id, "") for instance_id in ids]


def kinds(answers: list[ProviderError | None]) -> list[type[ProviderError] | None]:
    return [type(answer) if answer else None for answer in answers]


def test_a_zone_without_capacity_keeps_its_own_stopped_and_no_other(stage: Stage, cloud: GcpCloud) -> None:
    ids = stopped(stage, 3)
    zone = ids[1].partition("/")[0]
    cloud.world.capacity[f"e2-small/{zone}/on-demand"] = 0
    answers = stage.provider.start(ids)
    assert kinds(answers) == [None, NoCapacity, None] and zone in str(answers[1])
    wait_until(lambda: states(stage.provider, ids) == ["running", "stopped", "running"], what="the two others running")


def test_what_is_gone_is_told_apart_from_what_starts(stage: Stage) -> None:
    ids = stopped(stage, 3)
    stage.provider.terminate(ids[:1])
    wait_until(lambda: states(stage.provider, ids)[0] == "", what="the first one gone")
    answers = stage.provider.start([*ids, "us-central1-a/never-was"])
    assert kinds(answers)[1:3] == [None, None], answers
    assert isinstance(answers[0], ProviderError) and isinstance(answers[3], BadRequest)


def test_what_somebody_suspended_by_hand_is_told_and_left_to_them(stage: Stage, cloud: GcpCloud) -> None:
    (made,) = stage.provider.create([stage.request("cpu-1")])
    assert isinstance(made, Instance)
    zone, _, name = made.id.partition("/")
    cloud.client().instances().suspend(project=stage.settings["project"], zone=zone, instance=name).execute()
    wait_until(lambda: states(stage.provider, [made.id]) == ["stopped"], what="it is suspended")
    (shown,) = stage.provider.list()[0].instances
    assert "suspended it" in shown.detail
    (answer,) = stage.provider.start([made.id])
    assert isinstance(answer, BadRequest) and "suspended by hand" in str(answer)


def test_one_that_is_on_its_way_is_asked_again_later(stage: Stage, cloud: GcpCloud) -> None:
    cloud.world.end_seconds = 3600.0
    (made,) = stage.provider.create([stage.request("cpu-1")])
    assert isinstance(made, Instance)
    wait_until(lambda: states(stage.provider, [made.id]) == ["running"], what="it runs")
    stage.provider.stop([made.id])
    assert kinds(stage.provider.start([made.id])) == [UnknownOutcome]


def test_a_throttled_start_is_a_matter_of_time(stage: Stage, cloud: GcpCloud) -> None:
    ids = stopped(stage, 2)
    cloud.fault("compute.instances.start", code="rateLimitExceeded", status=403, times=2)
    assert kinds(stage.provider.start(ids)) == [Throttled, Throttled]
    wait_until(lambda: stage.provider.start(ids) == [None, None], what="the bucket lets them pass")


def test_an_instance_of_another_cluster_is_neither_stopped_nor_started(
    stage: Stage, cloud: GcpCloud, tmp_path: Path
) -> None:
    ids = stopped(stage, 1)
    stranger = Stage(tmp_path / "other", cloud, stage.pools)
    before = len(cloud.world.calls)
    stranger.provider.stop(ids)
    assert kinds(stranger.provider.start(ids)) == [BadRequest]
    assert not {"compute.instances.stop", "compute.instances.start"} & set(cloud.world.actions(before))


def test_ends_are_sent_together_and_one_that_fails_keeps_no_other_alive(stage: Stage, cloud: GcpCloud) -> None:
    of = stage.provider.offers(stage.pools[0])[0]
    made = stage.provider.create([stage.request(f"cpu-{n}", of) for n in range(1, 31)])
    ids = [result.id for result in made if isinstance(result, Instance)]
    cloud.fault("compute.instances.delete", code="backendError", status=500, match=f"{ids[4].partition('/')[2]}")
    with pytest.raises(ProviderError, match=ids[4]):
        stage.provider.terminate(ids)
    wait_until(lambda: len(cloud.instances()) == 1, what="all others gone")
    stage.provider.terminate(ids)
    wait_until(lambda: not cloud.instances(), what="all gone")
