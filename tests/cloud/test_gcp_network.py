"""Networks, addresses, firewall rules, placement policies and reservations of the stand-in for Google Cloud."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from googleapiclient.errors import HttpError

from tests.cloud.gcp.cloud import GcpCloud
from tests.cloud.gcp.requests import HERE, THERE, ZONE, done, instance, like, made, reason
from tests.cloud.gcp.world import PROJECT, REGION

SUBNETWORK = f"regions/{REGION}/subnetworks/default"


@pytest.fixture(scope="module")
def cloud() -> Iterator[GcpCloud]:
    with GcpCloud() as place:
        yield place


@pytest.fixture
def client(cloud: GcpCloud) -> Iterator[Any]:
    client = cloud.client()
    yield client
    for path in sorted(cloud.leftovers(), key=lambda path: "/instances/" not in path):  # of a test that failed
        if path not in cloud.leftovers():
            continue  # gone with another
        *_, collection, name = path.split("/")
        place = HERE if path.startswith("zones/") else THERE if path.startswith("regions/") else {"project": PROJECT}
        member = {"addresses": "address", "resourcePolicies": "resourcePolicy"}.get(
            collection, collection.removesuffix("s")
        )
        made(client, getattr(client, collection)().delete(**place, **{member: name}).execute())


def test_a_reserved_address_is_one_instances_at_a_time(client: Any) -> None:
    body = {"name": "head", "addressType": "INTERNAL", "subnetwork": SUBNETWORK, "labels": {"a": "b"}}
    made(client, client.addresses().insert(**THERE, body=body).execute())
    address = client.addresses().get(**THERE, address="head").execute()
    assert address["status"] == "RESERVED" and address["address"].startswith("10.128.0.")
    card = {"subnetwork": SUBNETWORK, "networkIP": address["address"]}
    made(client, client.instances().insert(**HERE, body=instance(networkInterfaces=[card])).execute())
    address = client.addresses().get(**THERE, address="head").execute()
    assert address["status"] == "IN_USE" and address["users"][0].endswith("/instances/n1")
    ended = done(client, client.instances().insert(**HERE, body=instance("n2", networkInterfaces=[card])).execute())
    assert ended["error"]["errors"][0]["code"] == "IP_IN_USE_BY_ANOTHER_RESOURCE"
    with pytest.raises(HttpError) as error:
        client.addresses().delete(**THERE, address="head").execute()
    assert reason(error) == "resourceInUseByAnotherResource"
    made(client, client.instances().delete(**HERE, instance="n1").execute())
    found = client.addresses().list(**THERE, filter=f'address = "{address["address"]}"').execute()["items"]
    assert found[0]["status"] == "RESERVED"
    made(client, client.addresses().delete(**THERE, address="head").execute())


def test_a_public_address_must_be_reserved_before_it_is_named(client: Any) -> None:
    card = {"network": "global/networks/default", "accessConfigs": [{"type": "ONE_TO_ONE_NAT"}]}
    made(client, client.instances().insert(**HERE, body=instance(networkInterfaces=[card])).execute())
    row = client.instances().get(**HERE, instance="n1").execute()
    assert row["networkInterfaces"][0]["accessConfigs"][0]["natIP"].startswith("34.")
    named = {**card, "accessConfigs": [{"natIP": "34.118.9.9"}]}
    with pytest.raises(HttpError, match="was not found in region"):
        client.instances().insert(**HERE, body=instance("n2", networkInterfaces=[named])).execute()


@pytest.mark.parametrize(
    "wrong",
    [
        {"allowed": [], "denied": []},
        {"allowed": [{"IPProtocol": "icmp", "ports": ["22"]}]},
        {"allowed": [{"IPProtocol": "tcp", "ports": ["99-22"]}]},
        {"allowed": [{"IPProtocol": "quic"}]},
        {"sourceRanges": ["10.0.0.1/8"]},
        {"sourceTags": ["Capital"]},
        {"network": "global/networks/nowhere"},
        {"priority": 70000},
    ],
)
def test_a_firewall_rule_that_google_would_refuse_is_refused(client: Any, wrong: dict[str, Any]) -> None:
    body = {"name": "f", "allowed": [{"IPProtocol": "tcp", "ports": ["22"]}], **wrong}
    with pytest.raises(HttpError) as error:
        client.firewalls().insert(project=PROJECT, body=body).execute()
    assert error.value.status_code == 400


def test_a_firewall_rule_is_patched_and_updated(client: Any) -> None:
    body = {
        "name": "f",
        "allowed": [{"IPProtocol": "tcp", "ports": ["22"]}],
        "targetTags": ["head"],
        "description": "d",
    }
    made(client, client.firewalls().insert(project=PROJECT, body=body).execute())
    rule = client.firewalls().get(project=PROJECT, firewall="f").execute()
    assert rule["sourceRanges"] == ["0.0.0.0/0"] and rule["direction"] == "INGRESS" and rule["priority"] == 1000
    change = {"name": "f", "sourceRanges": ["192.0.2.0/24"]}
    made(client, client.firewalls().patch(project=PROJECT, firewall="f", body=change).execute())
    rule = client.firewalls().get(project=PROJECT, firewall="f").execute()
    assert rule["sourceRanges"] == ["192.0.2.0/24"] and rule["targetTags"] == ["head"]
    whole = {"name": "f", "allowed": [{"IPProtocol": "all"}], "sourceTags": ["x"]}
    made(client, client.firewalls().update(project=PROJECT, firewall="f", body=whole).execute())
    rule = client.firewalls().get(project=PROJECT, firewall="f").execute()
    assert "targetTags" not in rule and "sourceRanges" not in rule and rule["sourceTags"] == ["x"]


def test_a_network_goes_after_what_is_in_it(client: Any) -> None:
    made(
        client, client.networks().insert(project=PROJECT, body={"name": "n", "autoCreateSubnetworks": False}).execute()
    )
    with pytest.raises(HttpError, match="custom subnet mode"):
        card = {"network": "global/networks/n"}
        client.instances().insert(**HERE, body=instance(networkInterfaces=[card])).execute()
    body = {"name": "s", "network": "global/networks/n", "ipCidrRange": "10.9.0.0/24"}
    made(client, client.subnetworks().insert(**THERE, body=body).execute())
    with pytest.raises(HttpError, match="conflicts with existing subnetwork"):
        client.subnetworks().insert(**THERE, body={**body, "name": "t"}).execute()
    with pytest.raises(HttpError, match="already being used by"):
        client.networks().delete(project=PROJECT, network="n").execute()
    made(client, client.subnetworks().delete(**THERE, subnetwork="s").execute())
    made(client, client.networks().delete(project=PROJECT, network="n").execute())


def test_machines_of_a_placement_policy_hold_it(client: Any) -> None:
    body = {"name": "close", "groupPlacementPolicy": {"collocation": "COLLOCATED"}}
    made(client, client.resourcePolicies().insert(**THERE, body=body).execute())
    link = f"regions/{REGION}/resourcePolicies/close"
    with pytest.raises(HttpError, match="not supported with a compact placement policy"):
        client.instances().insert(**HERE, body=instance(type_="e2-standard-4", resourcePolicies=[link])).execute()
    properties = like(resourcePolicies=["close"])
    body = {"count": "2", "namePattern": "g-#", "instanceProperties": properties}
    made(client, client.instances().bulkInsert(**HERE, body=body).execute())
    with pytest.raises(HttpError, match="already being used by"):
        client.resourcePolicies().delete(**THERE, resourcePolicy="close").execute()


def test_instances_consume_the_reservation_that_they_name(client: Any) -> None:
    specific = {"count": "1", "instanceProperties": {"machineType": "n2-standard-4"}}
    body = {"name": "r", "specificReservation": specific, "specificReservationRequired": True}
    made(client, client.reservations().insert(**HERE, body=body).execute())
    affinity = {
        "consumeReservationType": "SPECIFIC_RESERVATION", "key": "compute.googleapis.com/reservation-name", "values": ["r"],
    }  # fmt: skip
    made(client, client.instances().insert(**HERE, body=instance(reservationAffinity=affinity)).execute())
    used = lambda: client.reservations().get(**HERE, reservation="r").execute()["specificReservation"]["inUseCount"]  # noqa: E731
    assert used() == "1"
    ended = done(client, client.instances().insert(**HERE, body=instance("n2", reservationAffinity=affinity)).execute())
    (error,) = ended["error"]["errors"]
    assert error["code"] == "CONDITION_NOT_MET" and "does not have available resources" in error["message"]
    with pytest.raises(HttpError, match="do not exist"):
        other = {**affinity, "values": ["s"]}
        client.instances().insert(**HERE, body=instance("n2", reservationAffinity=other)).execute()
    made(client, client.instances().delete(**HERE, instance="n1").execute())
    assert used() == "0"
    made(client, client.reservations().delete(**HERE, reservation="r").execute())


def test_quotas_refuse_by_operation_and_are_told_by_region(cloud: GcpCloud, client: Any) -> None:
    cloud.world.quotas["N2_CPUS"] = 6
    try:
        made(client, client.instances().insert(**HERE, body=instance()).execute())
        ended = done(client, client.instances().insert(**HERE, body=instance("n2")).execute())
        (error,) = ended["error"]["errors"]
        assert error["code"] == "QUOTA_EXCEEDED" and ended["httpErrorStatusCode"] == 403
        assert error["errorDetails"][0]["quotaInfo"]["limit"] == 6.0
        quotas = client.regions().get(project=PROJECT, region=REGION).execute()["quotas"]
        assert {"metric": "N2_CPUS", "limit": 6.0, "usage": 4.0} in quotas
    finally:
        cloud.world.quotas.clear()


def test_images_are_made_of_disks_that_nobody_writes_to(client: Any) -> None:
    made(client, client.instances().insert(**HERE, body=instance()).execute())
    body = {"name": "i", "family": "mine", "sourceDisk": f"zones/{ZONE}/disks/n1", "labels": {"a": "b"}}
    with pytest.raises(HttpError, match="already being used by"):
        client.images().insert(project=PROJECT, body=body).execute()
    made(client, client.instances().stop(**HERE, instance="n1").execute())
    made(client, client.images().insert(project=PROJECT, body=body).execute())
    found = client.images().getFromFamily(project=PROJECT, family="mine").execute()
    assert found["name"] == "i" and found["diskSizeGb"] == "20" and found["labels"] == {"a": "b"}
    boot = {"boot": True, "autoDelete": True, "initializeParams": {"sourceImage": "global/images/i"}}
    made(client, client.instances().insert(**HERE, body=instance("n2", disks=[boot])).execute())
    made(client, client.images().delete(project=PROJECT, image="i").execute())
