"""What the stand-in for Google Cloud launches, and what it refuses to launch, is what Compute Engine does."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import pytest
from googleapiclient.errors import HttpError

from tests.cloud.gcp.cloud import GcpCloud
from tests.cloud.gcp.requests import HERE, ZONE, boot_disk, done, instance, like, made
from tests.cloud.gcp.world import PROJECT, Failure

FLEX = {
    "provisioningModel": "FLEX_START", "instanceTerminationAction": "DELETE", "maxRunDuration": {"seconds": "3600"},
    "onHostMaintenance": "TERMINATE",
}  # fmt: skip
STAYS = {"onHostMaintenance": "TERMINATE"}
T4 = [{"acceleratorType": f"zones/{ZONE}/acceleratorTypes/nvidia-tesla-t4", "acceleratorCount": 1}]
SCRATCH = {"type": "SCRATCH", "autoDelete": True, "initializeParams": {"diskType": f"zones/{ZONE}/diskTypes/local-ssd"}}
ARM = "projects/ubuntu-os-cloud/global/images/family/ubuntu-2404-lts-arm64"


def items(**metadata: str) -> dict[str, Any]:
    return {"items": [{"key": key, "value": value} for key, value in metadata.items()]}


@pytest.fixture(scope="module")
def shared() -> Iterator[GcpCloud]:
    with GcpCloud() as place:
        yield place


@pytest.fixture
def cloud(shared: GcpCloud) -> Iterator[GcpCloud]:
    yield shared
    world = shared.world
    world.capacity.clear()
    world.refused_policies.clear()
    world.stillborn, world.operation_seconds = None, 0.0
    client = shared.client()
    for left in shared.instances():
        made(client, client.instances().delete(**HERE, instance=left.name).execute())
    assert shared.leftovers() == []


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"machineType": "n2-standard-4"}, "The URL is malformed"),
        ({"machineType": "zones/us-central1-b/machineTypes/n2-standard-4"}, "must be in zone"),
        ({"machineType": f"zones/{ZONE}/machineTypes/n2-huge"}, "does not exist in zone"),
        ({"disks": []}, "No disks are specified"),
        ({"disks": [{"source": f"zones/{ZONE}/disks/nowhere", "boot": True}]}, "was not found"),
        ({"disks": [boot_disk(sourceImage="global/images/mine")]}, "was not found"),
        ({"disks": [boot_disk(diskSizeGb="5")]}, "cannot be smaller than the image size"),
        ({"disks": [boot_disk(diskType="pd-ssd")]}, "The URL is malformed"),
        ({"disks": [boot_disk(diskType=f"zones/{ZONE}/diskTypes/hyperdisk-ml")]}, "cannot be a boot disk"),
        ({"disks": [boot_disk(sourceImage=ARM)]}, "is not compatible with machine type architecture"),
        ({"disks": [boot_disk(), {**SCRATCH, "type": "PERSISTENT"}]}, "Local SSDs are of type SCRATCH"),
        ({"disks": [boot_disk(), *[SCRATCH] * 9]}, "Number of local SSDs"),
        ({"networkInterfaces": []}, "At least one network interface"),
        ({"networkInterfaces": [{"subnetwork": "regions/us-east1/subnetworks/default"}]}, "not in region"),
        ({"networkInterfaces": [{"network": "global/networks/nowhere"}]}, "cannot be found"),
        ({"labels": {"Capital": "x"}}, "Label keys must start with a lowercase character"),
        ({"labels": {"a": "With Space"}}, "Label values can only contain"),
        ({"labels": {f"l{n}": "" for n in range(65)}}, "at most 64"),
        ({"metadata": items(k="x" * 262145)}, "too large"),
        ({"metadata": {"items": [{"key": "a", "value": ""}] * 2}}, "duplicate key"),
        ({"guestAccelerators": T4, "scheduling": STAYS}, "features are not compatible"),
        ({"scheduling": {"provisioningModel": "SPOT", "automaticRestart": True}}, "automaticRestart be false"),
        ({"scheduling": {"instanceTerminationAction": "DELETE"}}, "only supported for Spot"),
        ({"scheduling": FLEX}, "not supported with the FLEX_START"),
        ({"params": {"requestValidForDuration": {"seconds": "120"}}}, "only supported for FLEX_START"),
        ({"serviceAccounts": [{"email": "default", "scopes": []}]}, "At least one scope"),
        ({"serviceAccounts": [{"email": "me", "scopes": ["x"]}]}, "must be an e-mail address"),
    ],
)
def test_an_instance_that_google_would_refuse_is_refused(cloud: GcpCloud, wrong: dict[str, Any], words: str) -> None:
    with pytest.raises(HttpError) as error:
        cloud.client().instances().insert(**HERE, body=instance(**wrong)).execute()
    assert words in error.value.reason and error.value.status_code in (400, 404)
    assert cloud.leftovers() == []


@pytest.mark.parametrize(
    ("type_", "more", "words"),
    [
        ("n1-standard-8", {"guestAccelerators": T4}, "do not support live migration"),
        ("g2-standard-8", {}, "do not support live migration"),
        ("g2-standard-8", {"guestAccelerators": T4, "scheduling": STAYS}, "features are not compatible"),
        ("n1-standard-8", {"guestAccelerators": [{**T4[0], "acceleratorCount": 3}], "scheduling": STAYS}, "one of [1, 2, 4]"),
        ("c4-standard-8", {"disks": [boot_disk(diskType=f"zones/{ZONE}/diskTypes/pd-ssd")]}, "not compatible"),
        ("g2-standard-8", {"scheduling": {**FLEX, "maxRunDuration": None}}, "must have maxRunDuration"),
        ("g2-standard-8", {"scheduling": {**FLEX, "maxRunDuration": {"seconds": "60"}}}, "The duration must be"),
    ],
)  # fmt: skip
def test_a_machine_type_is_refused_with_what_it_cannot_have(
    cloud: GcpCloud, type_: str, more: dict[str, Any], words: str
) -> None:
    with pytest.raises(HttpError) as error:
        cloud.client().instances().insert(**HERE, body=instance(type_=type_, **more)).execute()
    assert words in error.value.reason


def test_machines_with_devices_are_launched_and_counted_by_what_they_have(cloud: GcpCloud) -> None:
    client = cloud.client()
    cloud.world.capacity[f"n1-standard-8+nvidia-tesla-t4x1/{ZONE}/on-demand"] = 0
    body = instance(type_="n1-standard-8", guestAccelerators=T4, scheduling=STAYS)
    ended = done(client, client.instances().insert(**HERE, body=body).execute())
    told = ended["error"]["errors"][0]["errorDetails"][2]["errorInfo"]["metadatas"]
    assert told["attachment"] == "nvidia-tesla-t4:1" and told["vmType"] == "n1-standard-8"
    for number, type_ in enumerate(
        ("g2-standard-8", "a3-highgpu-8g", "a2-highgpu-1g", "g4-standard-48", "c4-standard-8")
    ):
        body = instance(f"m{number}", type_, scheduling=STAYS)
        made(client, client.instances().insert(**HERE, body=body).execute())
    disk = client.disks().get(**HERE, disk="m4").execute()
    assert disk["type"].endswith("/hyperdisk-balanced")


def test_a_flex_start_machine_is_pending_until_there_is_room_or_its_time_is_up(cloud: GcpCloud) -> None:
    client, now = cloud.client(), [100.0]
    clock, cloud.world.clock = cloud.world.clock, lambda: now[0]
    try:
        cloud.world.capacity[f"g2-standard-8/{ZONE}/flex-start"] = 0
        params = {"requestValidForDuration": {"seconds": "600"}}
        body = instance(type_="g2-standard-8", scheduling=FLEX, params=params)
        operation = client.instances().insert(**HERE, body=body).execute()
        now[0] += 300
        assert client.instances().get(**HERE, instance="n1").execute()["status"] == "PENDING"
        assert client.zoneOperations().get(**HERE, operation=operation["name"]).execute()["status"] == "RUNNING"
        cloud.world.capacity[f"g2-standard-8/{ZONE}/flex-start"] = 1
        now[0] += 1
        assert "error" not in client.zoneOperations().get(**HERE, operation=operation["name"]).execute()
        assert client.instances().get(**HERE, instance="n1").execute()["status"] == "RUNNING"
        operation = client.instances().insert(**HERE, body={**body, "name": "n2"}).execute()
        now[0] += 700
        ended = client.zoneOperations().get(**HERE, operation=operation["name"]).execute()
        assert ended["error"]["errors"][0]["code"] == "ZONE_RESOURCE_POOL_EXHAUSTED"
        now[0] += 3600
        assert cloud.instances() == [], "Google deletes it when its time is up"
    finally:
        cloud.world.clock = clock


def test_an_account_that_is_not_there_or_may_not_be_used_ends_the_launch_and_not_the_call(cloud: GcpCloud) -> None:
    client = cloud.client()
    nobody = [{"email": f"no@{PROJECT}.iam.gserviceaccount.com", "scopes": ["x"]}]
    ended = done(client, client.instances().insert(**HERE, body=instance(serviceAccounts=nobody)).execute())
    (error,) = ended["error"]["errors"]
    assert (
        error["code"] == "EXTERNAL_RESOURCE_NOT_FOUND" and "of type 'serviceAccount' was not found" in error["message"]
    )
    cloud.world.denied.add("iam.serviceAccounts.actAs")
    default = [{"email": "default", "scopes": ["x"]}]
    ended = done(client, client.instances().insert(**HERE, body=instance(serviceAccounts=default)).execute())
    cloud.world.denied.clear()
    (error,) = ended["error"]["errors"]
    assert error["code"] == "SERVICE_ACCOUNT_ACCESS_DENIED" and ended["httpErrorStatusCode"] == 400


def test_an_organisation_policy_refuses_by_its_name(cloud: GcpCloud) -> None:
    cloud.world.refused_policies["constraints/compute.vmExternalIpAccess"] = ""
    card = {"network": "global/networks/default", "accessConfigs": [{}]}
    with pytest.raises(HttpError, match="vmExternalIpAccess violated") as error:
        cloud.client().instances().insert(**HERE, body=instance(networkInterfaces=[card])).execute()
    assert error.value.status_code == 412


def test_machines_of_a_bulk_insert_that_come_to_nothing_are_told_and_too_few_are_none(cloud: GcpCloud) -> None:
    client = cloud.client()
    failure = Failure(
        "INTERNAL_ERROR", "Internal error. Please try again or contact Google Support.", 503, "SERVICE UNAVAILABLE"
    )
    cloud.world.stillborn = lambda name: failure if name in ("b", "c") else None
    body = {
        "count": "3",
        "minCount": "1",
        "perInstanceProperties": {"a": {}, "b": {}, "c": {}},
        "instanceProperties": like(),
    }
    ended = made(client, client.instances().bulkInsert(**HERE, body=body).execute())
    status = ended["instancesBulkInsertOperationMetadata"]["perLocationStatus"][f"zones/{ZONE}"]
    assert (status["createdVmCount"], status["failedToCreateVmCount"]) == (1, 2)
    group = f"operationGroupId = {ended['operationGroupId']}"
    each = client.zoneOperations().list(**HERE, filter=group).execute()["items"]
    assert sorted("error" in operation for operation in each) == [False, False, True, True]
    made(client, client.instances().delete(**HERE, instance="a").execute())
    ended = done(client, client.instances().bulkInsert(**HERE, body={**body, "minCount": "2"}).execute())
    assert ended["error"]["errors"][0]["code"] == "VM_MIN_COUNT_NOT_REACHED"
    assert cloud.leftovers() == []


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"count": "0"}, "between 1 and 1000"),
        ({"minCount": "3"}, "between 1 and the count"),
        ({"namePattern": "w"}, "one run of # characters"),
        ({"namePattern": "w-#", "perInstanceProperties": {"a": {}, "b": {}}}, "Exactly one of"),
        ({"namePattern": None, "perInstanceProperties": {"a": {}}}, "as many entries as count"),
        ({"instanceProperties": like(f"zones/{ZONE}/machineTypes/n2-standard-4")}, "not a URL"),
        ({"instanceProperties": like(disks=[boot_disk(diskType=f"zones/{ZONE}/diskTypes/pd-ssd")])}, "not a URL"),
    ],
)
def test_a_bulk_insert_that_google_would_refuse_is_refused(cloud: GcpCloud, wrong: dict[str, Any], words: str) -> None:
    body = {"count": "2", "namePattern": "w-##", "instanceProperties": like(), **wrong}
    with pytest.raises(HttpError) as error:
        cloud.client().instances().bulkInsert(**HERE, body=body).execute()
    assert words in error.value.reason and cloud.instances() == []


def test_two_hundred_are_launched_and_two_thousand_listed_in_little_time(cloud: GcpCloud) -> None:
    """Far below what would slow other tests: a limit that a busy machine keeps."""
    client = cloud.client()
    metadata = items(**{"startup-script": "#!/bin/sh\n" + "echo a line of it\n" * 500})
    for _ in range(10):
        properties = like(labels={"cluster": "c"}, metadata=metadata)
        body = {"count": "200", "namePattern": "w-####", "instanceProperties": properties}
        started = time.monotonic()
        made(client, client.instances().bulkInsert(**HERE, body=body).execute())
        assert time.monotonic() - started < 10
    started, found, request = time.monotonic(), 0, client.instances().list(**HERE, filter="labels.cluster = c")
    while request is not None:
        answer = request.execute()
        found += len(answer["items"])
        request = client.instances().list_next(request, answer)
    assert found == 2000 and time.monotonic() - started < 10
    print(f"a list of 2,000 took {time.monotonic() - started:.2f} s")
    for left in cloud.instances():  # quicker than by calls
        cloud.vanish(left.handle)
