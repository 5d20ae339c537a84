"""What a launch asks of Compute Engine, and how many calls it takes."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from clusterctl_providers.base import TAG_UID, PoolRequest
from clusterctl_providers.gcp.machines.launch import MOST_USER_DATA
from clusterctl_providers.gcp.names import LONGEST, zone_and_name

from clusterctl.core.errors import BadRequest, NoCapacity, NotYet, ProviderError, QuotaExceeded, UnknownOutcome
from clusterctl.core.model import Instance
from tests.cloud.gcp.cloud import GcpCloud
from tests.cloud.gcp.world import PROJECT, REGION
from tests.gcp.stage import BOTH, Stage, pool

ONE, MANY = "compute.instances.insert", "compute.instances.bulkInsert"
GIB = 1024**3


@pytest.fixture
def stage(cloud: GcpCloud, tmp_path: Path) -> Iterator[Stage]:
    place = Stage(tmp_path, cloud)
    yield place
    place.close()


def launches(cloud: GcpCloud) -> list[dict[str, Any]]:
    """The bodies of all calls that launch."""
    return [parameters["body"] for _, action, parameters in cloud.world.calls if action in (ONE, MANY)]


def made(result: Instance | ProviderError) -> Instance:
    assert isinstance(result, Instance), result
    return result


def metadata(body: dict[str, Any]) -> dict[str, str]:
    items = body.get("instanceProperties", body)["metadata"]["items"]
    return {item["key"]: item["value"] for item in items}


def document(body: dict[str, Any]) -> dict[str, Any]:
    return json.loads(metadata(body)["startup-script"].rpartition("#clusterctl-document\n")[2])


def test_a_launch_has_all_that_keeps_a_machine_safe_and_ours(stage: Stage, cloud: GcpCloud) -> None:
    instance = made(stage.provider.create([stage.request("cpu-1")])[0])
    (body,) = launches(cloud)
    assert body["name"] == f"clusterctl-demo-{stage.uid[:8]}-cpu-1-1" == zone_and_name(instance.id)[1]
    assert body["scheduling"] == {
        "provisioningModel": "SPOT",
        "instanceTerminationAction": "DELETE",
        "automaticRestart": False,
        "onHostMaintenance": "TERMINATE",
    }
    (disk,) = body["disks"]
    assert disk["boot"] and disk["autoDelete"] and disk["initializeParams"]["diskSizeGb"] == "30"
    assert disk["initializeParams"]["diskType"].endswith("/pd-balanced")
    assert body["labels"][TAG_UID] == disk["initializeParams"]["labels"][TAG_UID] == stage.uid
    assert body["labels"]["clusterctl-node"] == "cpu-1" and len(body["labels"]["clusterctl-launch"]) <= LONGEST
    assert metadata(body)["enable-oslogin"] == "FALSE" and metadata(body)["block-project-ssh-keys"] == "TRUE"
    assert "ssh-keys" not in metadata(body) and "serviceAccounts" not in body, "workers need neither"
    assert body["shieldedInstanceConfig"]["enableSecureBoot"]
    (card,) = body["networkInterfaces"]
    assert card["nicType"] == "GVNIC" and card["accessConfigs"]


def test_on_demand_machines_move_to_another_host_and_stay_where_they_ended(stage: Stage, cloud: GcpCloud) -> None:
    stage.provider.create([stage.request("cpu-1", wanted=pool())])
    assert launches(cloud)[0]["scheduling"] == {
        "provisioningModel": "STANDARD",
        "automaticRestart": False,
        "onHostMaintenance": "MIGRATE",
    }


def test_the_users_disk_image_labels_key_and_addresses_are_taken(stage: Stage, cloud: GcpCloud) -> None:
    mine = pool(disk=200 * GIB, image="family:ubuntu-os-cloud/ubuntu-2204-lts")
    key = f"projects/{PROJECT}/locations/{REGION}/keyRings/ring/cryptoKeys/key"
    tags = {"team": "vision", TAG_UID: "not-yours", "note": "Loud"}
    provider = stage.open(tags=tags, kms_key=key, disk_type="pd-ssd", public_addresses=False)
    made(provider.create([stage.request("cpu-1", wanted=mine)])[0])
    (body,) = launches(cloud)
    (disk,) = body["disks"]
    assert disk["initializeParams"]["diskSizeGb"] == "200" and disk["diskEncryptionKey"] == {"kmsKeyName": key}
    assert disk["initializeParams"]["diskType"].endswith("/pd-ssd")
    assert "ubuntu-2204-jammy" in disk["initializeParams"]["sourceImage"]
    assert body["labels"]["team"] == "vision" and body["labels"][TAG_UID] == stage.uid
    assert metadata(body)["note"] == "Loud", "a label takes no capital letters"
    assert "accessConfigs" not in body["networkInterfaces"][0]
    assert not body["shieldedInstanceConfig"]["enableSecureBoot"], "what is in an image of the user's may not be signed"


def test_a_disk_that_the_image_does_not_fit_on_is_refused_before_the_launch(stage: Stage, cloud: GcpCloud) -> None:
    (answer,) = stage.provider.create([stage.request("cpu-1", wanted=pool(disk=5 * GIB))])
    assert isinstance(answer, BadRequest) and "10 GiB" in str(answer) and "`disk` of the pool says 5 GiB" in str(answer)
    assert launches(cloud) == []


@pytest.mark.parametrize(
    ("types", "image", "disk", "gib"),
    [
        (["c4a-standard-4"], "ubuntu-2404-noble-arm64", "hyperdisk-balanced", "30"),
        (["g2-standard-4"], "common-cu129-ubuntu-2404-nvidia-580", "pd-balanced", "100"),
        (["n4-standard-4"], "ubuntu-2404-noble-amd64", "hyperdisk-balanced", "30"),
        (["n2-standard-4"], "ubuntu-2404-noble-amd64", "pd-balanced", "30"),
        (["n1-standard-4+nvidia-tesla-t4x1"], "common-cu129-ubuntu-2404-nvidia-580", "pd-balanced", "100"),
    ],
)
def test_image_and_disk_fit_the_type(
    stage: Stage, cloud: GcpCloud, types: list[str], image: str, disk: str, gib: str
) -> None:
    cloud.world.quotas["GPUS_ALL_REGIONS"] = 8.0
    instance = made(stage.provider.create([stage.request("cpu-1", wanted=pool(instances=types))])[0])
    (body,) = launches(cloud)
    first = body["disks"][0]["initializeParams"]
    assert image in first["sourceImage"] and first["diskType"].endswith(f"/{disk}") and first["diskSizeGb"] == gib
    assert instance.instance_type == types[0]
    (shown,) = stage.provider.list()[0].instances
    assert shown.instance_type == types[0]


def test_devices_are_attached_where_they_do_not_come_with_the_type(stage: Stage, cloud: GcpCloud) -> None:
    cloud.world.quotas |= {"GPUS_ALL_REGIONS": 8.0, "NVIDIA_T4_GPUS": 8.0}
    for number, name in enumerate(["n1-standard-8+nvidia-tesla-t4x2", "g2-standard-4"]):
        made(stage.provider.create([stage.request(f"gpu-{number}", wanted=pool(instances=[name]))])[0])
    attached, bundled = launches(cloud)
    (device,) = attached["guestAccelerators"]
    assert device["acceleratorType"].endswith("/nvidia-tesla-t4") and device["acceleratorCount"] == 2
    assert attached["machineType"].endswith("/n1-standard-8")
    assert "guestAccelerators" not in bundled
    for body in (attached, bundled):
        assert body["scheduling"]["onHostMaintenance"] == "TERMINATE", "they do not move"
        assert not body["shieldedInstanceConfig"]["enableSecureBoot"], "NVIDIA's driver is not signed"


def test_two_hundred_nodes_take_one_launch_and_at_most_a_tenth_of_a_call_each(stage: Stage, cloud: GcpCloud) -> None:
    of = stage.provider.offers(stage.pools[0])[0]
    before = len(cloud.world.calls)
    results = stage.provider.create([stage.request(f"cpu-{n}", of) for n in range(1, 201)])
    assert len({made(result).id for result in results}) == 200
    (body,) = launches(cloud)
    assert (body["count"], body["minCount"]) == ("200", "1") and len(body["perInstanceProperties"]) == 200
    assert len(cloud.world.calls) - before <= 20, cloud.world.actions(before)
    assert [node[0] for node in document(body)["nodes"]] == [f"cpu-{n}" for n in range(1, 201)]
    assert document(body)["boot"]["names"] == list(body["perInstanceProperties"])
    assert len(metadata(body)["startup-script"].encode()) <= MOST_USER_DATA
    shown = {i.id: i.node_id for i in stage.provider.list()[0].instances}
    assert shown == {made(result).id: made(result).node_id for result in results}, "the list knows who is who"


def test_the_join_tokens_are_the_only_secrets_of_a_machine(stage: Stage, cloud: GcpCloud) -> None:
    of = stage.provider.offers(stage.pools[0])[0]
    stage.provider.create([stage.request("cpu-1", of), stage.request("cpu-2", of)])
    (body,) = launches(cloud)
    boot = document(body)["boot"]
    assert "join_token" not in boot and boot["metadata"] == "gcp" and boot["shutdown"] == "poweroff"
    assert [node[2] for node in document(body)["nodes"]] == ["s" * 64, "s" * 64]
    assert "clusterctl-node" not in body["instanceProperties"]["labels"], "they share their labels"


def test_what_there_is_capacity_for_is_taken_and_the_rest_is_told(stage: Stage, cloud: GcpCloud) -> None:
    of = stage.provider.offers(stage.pools[0])[0]
    cloud.world.capacity[f"{of.instance_type}/{of.zone}/spot"] = 2
    results = stage.provider.create([stage.request(f"cpu-{n}", of) for n in range(1, 6)])
    assert [type(result) for result in results] == [Instance] * 2 + [NoCapacity] * 3
    assert "ZONE_RESOURCE_POOL_EXHAUSTED" in str(results[4]) and len(launches(cloud)) == 1


def test_what_fits_under_a_quota_is_launched(stage: Stage, cloud: GcpCloud) -> None:
    of = stage.provider.offers(stage.pools[0])[0]
    cloud.world.quotas["PREEMPTIBLE_CPUS"] = 8.0  # four nodes of two
    results = stage.provider.create([stage.request(f"cpu-{n}", of) for n in range(1, 9)])
    assert [type(result) for result in results] == [Instance] * 4 + [QuotaExceeded] * 4
    assert len(launches(cloud)) <= 5


def test_a_quota_of_nothing_is_told_by_name_without_a_launch(stage: Stage, cloud: GcpCloud) -> None:
    cloud.world.quotas["GPUS_ALL_REGIONS"] = 0.0
    (answer,) = stage.provider.create([stage.request("gpu-1", wanted=pool(instances=["g2-standard-4"]))])
    assert isinstance(answer, QuotaExceeded) and answer.quota == "GPUS_ALL_REGIONS"
    assert "iam-admin/quotas" in str(answer) and launches(cloud) == []


@pytest.mark.parametrize("effect", ["lost", "reset"])
@pytest.mark.parametrize("action", [MANY, "compute.zoneOperations.get"])
def test_a_lost_answer_of_a_batch_is_asked_for_again_under_the_same_number(
    stage: Stage, cloud: GcpCloud, effect: str, action: str
) -> None:
    of = stage.provider.offers(stage.pools[0])[0]
    requests = [stage.request(f"cpu-{n}", of) for n in range(1, 11)]
    cloud.fault(action, effect, times=8)
    answers = stage.provider.create(requests)
    assert all(isinstance(answer, UnknownOutcome) for answer in answers)
    cloud.world.faults.clear()
    again = stage.open().create(requests[3:6])  # a new process, and some are not wanted any more
    assert [made(i).node_id for i in again] == ["cpu-4", "cpu-5", "cpu-6"]
    assert len(cloud.instances()) == 10, "nothing was launched twice"
    assert {i.node_id for i in stage.provider.list()[0].instances} == {f"cpu-{n}" for n in range(1, 11)}


def test_a_lost_book_does_not_launch_twice(stage: Stage, cloud: GcpCloud) -> None:
    of = stage.provider.offers(stage.pools[0])[0]
    requests = [stage.request(f"cpu-{n}", of) for n in range(1, 4)]
    first = stage.provider.create(requests)
    for path in (stage.directory / "state" / "gcp-launches").glob("*.json"):
        path.unlink()
    again = stage.open().create(requests)
    assert [made(i).id for i in again] == [made(i).id for i in first]
    assert len(cloud.instances()) == 3


def test_a_call_that_failed_is_not_made_again_under_its_old_number(stage: Stage, cloud: GcpCloud) -> None:
    """Google would answer with the operation that has failed, for as long as it remembers it."""
    request = stage.request("cpu-1")
    cloud.fault(ONE, "operation", code="RESOURCE_NOT_READY", message="The resource 'x' is not ready", status=400)
    (answer,) = stage.provider.create([request])
    assert isinstance(answer, NotYet) and "not ready" in str(answer), answer
    made(stage.provider.create([request])[0])
    numbers = [p["requestId"] for _, action, p in cloud.world.calls if action == ONE]
    assert len(set(numbers)) == 2


def test_nodes_launched_together_are_one_call_per_kind(stage: Stage, cloud: GcpCloud) -> None:
    offers = stage.provider.offers(stage.pools[0])
    spot, demand = offers[0], next(o for o in offers if o.market == BOTH[1])
    stage.provider.create([stage.request("cpu-1", spot), stage.request("cpu-2", demand), stage.request("cpu-3", spot)])
    several, alone = launches(cloud)
    assert several["count"] == "2" and alone["name"].endswith("-cpu-2-1")


def test_nodes_whose_papers_do_not_fit_into_one_launch_take_several(stage: Stage, cloud: GcpCloud) -> None:
    of = stage.provider.offers(stage.pools[0])[0]
    long = {"labels": {"note": "x" * 190_000}}
    requests = [stage.request(f"cpu-{n}", of) for n in range(1, 101)]
    requests = [replace(request, bootstrap={**request.bootstrap, **long}) for request in requests]
    for result in stage.provider.create(requests):
        made(result)
    assert len(launches(cloud)) > 1
    assert all(len(metadata(body)["startup-script"].encode()) <= MOST_USER_DATA for body in launches(cloud))


def test_a_node_whose_name_is_too_long_is_launched_alone_and_known_by_its_labels(stage: Stage, cloud: GcpCloud) -> None:
    long = pool("p" * 40, market=["on-demand"])
    of = stage.provider.offers(long)[0]
    names = [f"{long.name}-{n}" for n in (1234, 1235)]
    for result in stage.provider.create([stage.request(name, of, long) for name in names]):
        made(result)
    assert len(launches(cloud)) == 2
    assert sorted(i.node_id for i in stage.provider.list()[0].instances) == names


def test_no_launch_is_made_before_its_book_is_on_disk(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError("no space left on device")

    monkeypatch.setattr("clusterctl_runtime.files.private.os.fsync", full)
    with pytest.raises(OSError, match="no space"):
        stage.provider.create([stage.request("cpu-1")])
    assert stage.cloud.instances() == []


def test_a_look_at_a_cluster_does_not_transfer_startup_scripts(stage: Stage, cloud: GcpCloud) -> None:
    stage.provider.create([stage.request("cpu-1")])
    stage.provider.list()
    looks = [p for _, action, p in cloud.world.calls if action == "compute.instances.list"]
    assert looks and all("metadata" not in query["fields"] for query in looks)


def test_a_zone_that_does_not_answer_makes_the_list_incomplete_and_hides_no_other(
    stage: Stage, cloud: GcpCloud
) -> None:
    offers = {offer.zone: offer for offer in stage.provider.offers(pool())}
    first, second = sorted(offers)[:2]
    for number, zone in enumerate((first, second)):
        made(stage.provider.create([stage.request(f"cpu-{number}", offers[zone], pool())])[0])
    cloud.world.unreachable.add(first)
    (scope,) = stage.provider.list()
    assert not scope.complete and first in scope.error
    assert [i.zone for i in scope.instances] == [second]
    cloud.world.unreachable = {"europe-west4-a"}
    (scope,) = stage.provider.list()
    assert scope.complete and len(scope.instances) == 2, "what other regions do is nothing to this one"


def test_a_machine_of_flex_start_waits_in_googles_line(stage: Stage, cloud: GcpCloud) -> None:
    cloud.world.quotas["GPUS_ALL_REGIONS"] = 8.0
    flex = PoolRequest("cpu", {"instances": ["g2-standard-4"], "market": ["flex-start"], "orphan_timeout": 900.0})
    provider = stage.open(flex_start_for=7200.0)
    of = provider.offers(flex)[0]
    results = provider.create([stage.request(f"cpu-{n}", of, flex) for n in (1, 2)])
    assert all(made(result).market == "flex-start" for result in results)
    for body in launches(cloud):
        assert body["scheduling"]["provisioningModel"] == "FLEX_START"
        assert body["scheduling"]["maxRunDuration"] == {"seconds": "7200"}
        assert body["params"]["requestValidForDuration"] == {"seconds": "7200"}
        assert body["reservationAffinity"] == {"consumeReservationType": "NO_RESERVATION"}
    assert len(launches(cloud)) == 2, "each is asked for by itself"
