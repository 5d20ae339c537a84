"""What becomes of instances of the stand-in for Google Cloud is what becomes of Google's."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from googleapiclient.errors import HttpError

from tests.cloud.gcp.cloud import GcpCloud
from tests.cloud.gcp.requests import HERE, ZONE, done, instance, made, reason
from tests.support.cluster import wait_until

SPOT = {"provisioningModel": "SPOT", "instanceTerminationAction": "DELETE"}


@pytest.fixture(scope="module")
def shared() -> Iterator[GcpCloud]:
    with GcpCloud() as place:
        yield place


@pytest.fixture
def cloud(shared: GcpCloud) -> Iterator[GcpCloud]:
    yield shared
    shared.world.capacity.clear()
    shared.world.preempt_seconds = shared.world.operation_seconds = 0.0
    client = shared.client()
    for path in shared.leftovers():
        if "/instances/" in path:
            made(client, client.instances().delete(**HERE, instance=path.rpartition("/")[2]).execute())
    assert shared.leftovers() == []


def state(client: Any, name: str = "n1") -> str:
    return client.instances().get(**HERE, instance=name).execute()["status"]


def test_a_stopped_instance_frees_its_capacity_and_needs_it_again_to_start(cloud: GcpCloud) -> None:
    cloud.world.capacity[f"n2-standard-4/{ZONE}/on-demand"] = 1
    client = cloud.client()
    made(client, client.instances().insert(**HERE, body=instance()).execute())
    assert cloud.world.capacity[f"n2-standard-4/{ZONE}/on-demand"] == 0
    made(client, client.instances().stop(**HERE, instance="n1").execute())
    assert state(client) == "TERMINATED" and cloud.world.capacity[f"n2-standard-4/{ZONE}/on-demand"] == 1
    cloud.world.capacity[f"n2-standard-4/{ZONE}/on-demand"] = 0
    ended = done(client, client.instances().start(**HERE, instance="n1").execute())
    assert ended["error"]["errors"][0]["code"] == "ZONE_RESOURCE_POOL_EXHAUSTED" and state(client) == "TERMINATED"
    cloud.world.capacity.clear()
    made(client, client.instances().start(**HERE, instance="n1").execute())
    assert state(client) == "RUNNING"


def test_a_suspended_instance_is_resumed_and_not_started(cloud: GcpCloud) -> None:
    client = cloud.client()
    made(client, client.instances().insert(**HERE, body=instance()).execute())
    made(client, client.instances().suspend(**HERE, instance="n1").execute())
    assert state(client) == "SUSPENDED"
    with pytest.raises(HttpError, match="SUSPENDED"):
        client.instances().start(**HERE, instance="n1").execute()
    made(client, client.instances().resume(**HERE, instance="n1").execute())
    assert state(client) == "RUNNING"


def test_a_preempted_instance_leaves_an_operation_and_is_gone(cloud: GcpCloud) -> None:
    cloud.world.preempt_seconds = 0.2
    client = cloud.client()
    made(client, client.instances().insert(**HERE, body=instance(scheduling=SPOT)).execute())
    cloud.preempt(f"{ZONE}/n1")
    assert state(client) == "STOPPING"
    cloud.world.preempt_seconds = 0.0
    found = client.zoneOperations().list(**HERE, filter='operationType = "compute.instances.preempted"').execute()
    assert found["items"][0]["targetLink"].endswith("/instances/n1") and found["items"][0]["user"] == "system"
    wait_until(lambda: not cloud.instances(), what="the end of the instance")
    assert cloud.leftovers() == []
    kept = {**SPOT, "instanceTerminationAction": "STOP"}
    made(client, client.instances().insert(**HERE, body=instance(scheduling=kept)).execute())
    cloud.preempt(f"{ZONE}/n1")
    assert state(client) == "TERMINATED"


def test_what_turns_itself_off_stays_and_what_loses_its_host_is_started_again_if_it_says_so(cloud: GcpCloud) -> None:
    client = cloud.client()
    made(client, client.instances().insert(**HERE, body=instance()).execute())
    cloud.shut_down(f"{ZONE}/n1")
    assert state(client) == "TERMINATED" and f"zones/{ZONE}/disks/n1" in cloud.leftovers()
    made(client, client.instances().start(**HERE, instance="n1").execute())
    cloud.host_error(f"{ZONE}/n1")
    assert state(client) in ("PROVISIONING", "STAGING", "RUNNING")
    made(
        client, client.instances().insert(**HERE, body=instance("n2", scheduling={"automaticRestart": False})).execute()
    )
    cloud.host_error(f"{ZONE}/n2")
    assert state(client, "n2") == "TERMINATED"


def test_maintenance_moves_an_instance_or_ends_it(cloud: GcpCloud) -> None:
    client = cloud.client()
    stays = {"onHostMaintenance": "TERMINATE", "automaticRestart": False}
    for name, scheduling in (("n1", {}), ("n2", stays)):
        made(client, client.instances().insert(**HERE, body=instance(name, scheduling=scheduling)).execute())
        cloud.maintain(f"{ZONE}/{name}")
    assert (state(client), state(client, "n2")) == ("RUNNING", "TERMINATED")


def test_changes_by_an_old_fingerprint_are_refused(cloud: GcpCloud) -> None:
    client = cloud.client()
    made(client, client.instances().insert(**HERE, body=instance(labels={"a": "b"})).execute())
    row = client.instances().get(**HERE, instance="n1").execute()
    body = {"labels": {"a": "c"}, "labelFingerprint": row["labelFingerprint"]}
    made(client, client.instances().setLabels(**HERE, instance="n1", body=body).execute())
    with pytest.raises(HttpError) as error:
        client.instances().setLabels(**HERE, instance="n1", body=body).execute()
    assert error.value.status_code == 412 and reason(error) == "conditionNotMet"
    items = {"items": [{"key": "k", "value": "v"}]}
    told = {**items, "fingerprint": row["metadata"]["fingerprint"]}
    made(client, client.instances().setMetadata(**HERE, instance="n1", body=told).execute())
    assert cloud.instance(f"{ZONE}/n1").metadata == {"k": "v"}
    with pytest.raises(HttpError) as error:
        client.instances().setMetadata(**HERE, instance="n1", body=told).execute()
    assert error.value.status_code == 412


def test_a_disk_is_attached_to_one_instance_at_a_time_and_outlives_it(cloud: GcpCloud) -> None:
    client = cloud.client()
    made(client, client.disks().insert(**HERE, body={"name": "d", "sizeGb": "10"}).execute())
    for name in ("n1", "n2"):
        made(client, client.instances().insert(**HERE, body=instance(name)).execute())
    body = {"source": f"zones/{ZONE}/disks/d", "deviceName": "data"}
    made(client, client.instances().attachDisk(**HERE, instance="n1", body=body).execute())
    for call in (
        client.instances().attachDisk(**HERE, instance="n2", body=body),
        client.disks().delete(**HERE, disk="d"),
    ):
        with pytest.raises(HttpError, match="already being used by") as error:
            call.execute()
        assert reason(error) == "resourceInUseByAnotherResource"
    made(client, client.instances().detachDisk(**HERE, instance="n1", deviceName="data").execute())
    made(client, client.instances().attachDisk(**HERE, instance="n2", body=body).execute())
    made(client, client.instances().delete(**HERE, instance="n2").execute())
    assert "users" not in (row := client.disks().get(**HERE, disk="d").execute()) or row["users"] == []
    made(client, client.disks().resize(**HERE, disk="d", body={"sizeGb": "20"}).execute())
    made(client, client.disks().delete(**HERE, disk="d").execute())
