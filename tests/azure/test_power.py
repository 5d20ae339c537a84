"""Stopping and starting VMs over HTTP: one that fails never spoils the others, and each error has its type."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from clusterctl_providers.azure.provider import AzureProvider

from clusterctl.core.errors import BadRequest, NoCapacity, ProviderError, Throttled
from clusterctl.core.model import Instance
from tests.azure.stage import DELETE, Stage, names, pool, vms
from tests.cloud.azure.cloud import AzureCloud
from tests.support.cluster import wait_until

START, STOP = "virtualMachines.start", "virtualMachines.deallocate"


@pytest.fixture
def stage(cloud: AzureCloud, tmp_path: Path) -> Iterator[Stage]:
    place = Stage(tmp_path, cloud, [pool(instances=["Standard_B2s"])])
    yield place
    place.close()


def running(stage: Stage, count: int) -> list[str]:
    """Ids of VMs in as many zones, in order."""
    offers = sorted((o for o in stage.provider.offers(stage.pools[0]) if o.zone), key=lambda offer: offer.zone)[:count]
    made = [stage.provider.create([stage.request(f"cpu-{n}", of)])[0] for n, of in enumerate(offers, 1)]
    ids = [result.id for result in made if isinstance(result, Instance)]
    assert len(ids) == count
    wait_until(lambda: set(states(stage.provider, ids)) == {"running"}, what="all running")
    return ids


def stopped(stage: Stage, count: int) -> list[str]:
    ids = running(stage, count)
    stage.provider.stop(ids)
    wait_until(lambda: set(states(stage.provider, ids)) == {"stopped"}, what="all stopped")
    return ids


def states(provider: AzureProvider, ids: list[str]) -> list[str]:
    shown = {i.id: i.state for scope in provider.list() for i in scope.instances}
    return [shown.get(instance_id, "") for instance_id in ids]


def kinds(answers: list[ProviderError | None]) -> list[type[ProviderError] | None]:
    return [type(answer) if answer else None for answer in answers]


def test_what_is_stopped_is_let_go_and_seen_at_the_next_look_though_the_graph_lags(
    stage: Stage, cloud: AzureCloud
) -> None:
    ids = running(stage, 2)
    cloud.world.graph_delay = 3600.0
    stage.provider.stop(ids)
    wait_until(lambda: states(stage.provider, ids) == ["stopped", "stopped"], what="both stopped")
    assert "virtualMachines.powerOff" not in cloud.world.operations(), "that would cost what it did"
    assert stage.provider.start(ids) == [None, None]
    wait_until(lambda: states(stage.provider, ids) == ["running", "running"], what="both running")


def test_a_zone_without_capacity_keeps_its_own_stopped_and_no_other(stage: Stage, cloud: AzureCloud) -> None:
    ids = stopped(stage, 3)
    cloud.world.capacity["Standard_B2s/2/on-demand"] = 0
    answers = stage.provider.start(ids)
    assert kinds(answers) == [None, NoCapacity, None] and "AllocationFailed" in str(answers[1])
    wait_until(lambda: states(stage.provider, ids) == ["running", "stopped", "running"], what="the two others running")


def test_what_is_gone_is_told_apart_from_what_starts(stage: Stage) -> None:
    ids = stopped(stage, 3)
    stage.provider.terminate(ids[:1])
    wait_until(lambda: states(stage.provider, ids)[0] == "", what="the first one gone")
    answers = stage.provider.start([*ids, "clusterctl-never-was"])
    assert kinds(answers)[1:3] == [None, None], answers
    assert isinstance(answers[0], ProviderError) and isinstance(answers[3], BadRequest)


def test_what_runs_is_started_already(stage: Stage) -> None:
    ids = running(stage, 1)
    assert stage.provider.start(ids) == [None]


def test_a_throttled_start_is_a_matter_of_time(stage: Stage, cloud: AzureCloud) -> None:
    ids = stopped(stage, 2)
    cloud.fault(START, code="TooManyRequests", status=429, times=2)
    assert kinds(stage.provider.start(ids)) == [Throttled, Throttled]
    wait_until(lambda: stage.provider.start(ids) == [None, None], what="the bucket lets them pass")


def test_a_machine_of_another_cluster_is_neither_stopped_nor_started_nor_ended(
    stage: Stage, cloud: AzureCloud, tmp_path: Path
) -> None:
    ids = running(stage, 1)
    stranger = Stage(tmp_path / "other", cloud, stage.pools, resource_group=stage.provider._network.group.name)
    before = len(cloud.world.calls)
    stranger.provider.stop(ids)
    stranger.provider.terminate(ids)
    assert kinds(stranger.provider.start(ids)) == [BadRequest]
    assert not {START, STOP, DELETE} & set(cloud.world.operations(before))
    stranger.close()


def test_ends_are_sent_together_and_one_that_fails_keeps_no_other_alive(stage: Stage, cloud: AzureCloud) -> None:
    of = stage.provider.offers(stage.pools[0])[0]
    made = stage.provider.create([stage.request(f"cpu-{n}", of) for n in range(1, 31)])
    ids = [result.id for result in made if isinstance(result, Instance)]
    cloud.fault(DELETE, status=500, match=f"{ids[4]}?")
    with pytest.raises(ProviderError, match=ids[4]):
        stage.provider.terminate(ids)
    wait_until(lambda: names(cloud) == [ids[4]], what="all others gone")
    stage.provider.terminate(ids)
    wait_until(lambda: not vms(cloud), what="all gone")


def test_an_end_is_forced_and_takes_card_and_disk_along(stage: Stage, cloud: AzureCloud) -> None:
    ids = running(stage, 2)
    stage.provider.terminate(ids)
    ends = [p for _, _, p in cloud.world.calls if p["operation"] == DELETE]
    assert [p["forceDeletion"] for p in ends] == ["true", "true"]
    wait_until(lambda: not [p for p in cloud.leftovers() if "/disks/" in p or "/networkInterfaces/" in p], what="gone")


def test_what_a_lock_keeps_is_named_with_its_lock(stage: Stage, cloud: AzureCloud) -> None:
    ids = running(stage, 2)
    message = (
        f"The scope '/subscriptions/s/resourceGroups/g/providers/Microsoft.Compute/virtualMachines/{ids[0]}' cannot perform "
        "delete operation because following scope(s) are locked: '/subscriptions/s/resourceGroups/g'. Please remove the lock "
        "and try again."
    )
    cloud.fault(DELETE, code="ScopeLocked", status=409, message=message, match=f"{ids[0]}?", times=None)
    with pytest.raises(BadRequest, match=r"a lock on /subscriptions/s/resourceGroups/g forbids it.*az lock"):
        stage.provider.terminate(ids)
    wait_until(lambda: names(cloud) == [ids[0]], what="the other one gone")
