"""The stand-in for Google Cloud does what Compute Engine does, as Google's own client sees it."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from typing import Any

import pytest
import requests
from google.auth.exceptions import RefreshError
from google.auth.transport.requests import Request
from googleapiclient.errors import HttpError

from tests.cloud.gcp.cloud import GcpCloud
from tests.cloud.gcp.fields import select
from tests.cloud.gcp.filter import compile_filter
from tests.cloud.gcp.requests import HERE, ZONE, done, instance, like, reason
from tests.cloud.gcp.world import PROJECT, Violation


@pytest.fixture
def cloud() -> Iterator[GcpCloud]:
    with GcpCloud() as place:
        yield place


def test_an_instance_is_launched_by_an_operation_and_ends_with_its_disk(cloud: GcpCloud) -> None:
    client = cloud.client()
    operation = done(client, client.instances().insert(**HERE, body=instance(labels={"a": "b"})).execute())
    assert operation["status"] == "DONE" and "error" not in operation
    made = client.instances().get(**HERE, instance="n1").execute()
    assert made["status"] == "RUNNING" and made["networkInterfaces"][0]["networkIP"] == "10.128.0.2"
    assert made["disks"][0]["source"].endswith(f"/zones/{ZONE}/disks/n1")
    assert made["machineType"].startswith("https://www.googleapis.com/compute/v1/projects/")
    assert cloud.leftovers() == [f"zones/{ZONE}/disks/n1", f"zones/{ZONE}/instances/n1"]
    done(client, client.instances().delete(**HERE, instance="n1").execute())
    assert cloud.leftovers() == []
    with pytest.raises(HttpError) as error:
        client.instances().get(**HERE, instance="n1").execute()
    assert error.value.status_code == 404 and reason(error) == "notFound"


def test_a_stockout_comes_after_the_call_was_accepted_and_the_instance_vanishes(cloud: GcpCloud) -> None:
    cloud.world.capacity[f"n2-standard-4/{ZONE}/on-demand"] = 0
    cloud.world.operation_seconds = 0.2
    client = cloud.client()
    operation = client.instances().insert(**HERE, body=instance()).execute()
    assert client.instances().get(**HERE, instance="n1").execute()["status"] == "PROVISIONING"
    ended = done(client, operation)
    (error,) = ended["error"]["errors"]
    assert error["code"] == "ZONE_RESOURCE_POOL_EXHAUSTED" and ended["httpErrorStatusCode"] == 503
    told = error["errorDetails"][2]["errorInfo"]["metadatas"]
    assert told["vmType"] == "n2-standard-4" and told["zonesAvailable"] == "us-central1-b,us-central1-c,us-central1-f"
    assert cloud.leftovers() == []


def test_bulk_insert_makes_as_many_as_there_is_room_for_but_not_fewer_than_the_least(cloud: GcpCloud) -> None:
    cloud.world.capacity[f"n2-standard-4/{ZONE}/*"] = 3
    client = cloud.client()
    body = {"count": "5", "minCount": "2", "namePattern": "w-##", "instanceProperties": like()}
    ended = done(client, client.instances().bulkInsert(**HERE, body=body).execute())
    status = ended["instancesBulkInsertOperationMetadata"]["perLocationStatus"][f"zones/{ZONE}"]
    assert (status["createdVmCount"], status["failedToCreateVmCount"]) == (3, 2)
    each = (
        client.zoneOperations()
        .list(**HERE, filter=f"operationGroupId = {ended['operationGroupId']}")
        .execute()["items"]
    )
    assert sorted(o["operationType"] for o in each) == ["bulkInsert", *["insert"] * 5]
    failed = [o["error"]["errors"][0]["code"] for o in each if "error" in o]
    assert failed == ["ZONE_RESOURCE_POOL_EXHAUSTED"] * 2
    assert [i.name for i in cloud.instances()] == ["w-01", "w-02", "w-03"]
    ended = done(client, client.instances().bulkInsert(**HERE, body=body).execute())
    assert ended["error"]["errors"][0]["code"] == "VM_MIN_COUNT_NOT_REACHED", "why, those of the single ones tell"
    own = {"count": "2", "perInstanceProperties": {"x": {}, "y": {}}, "instanceProperties": like()}
    cloud.world.capacity.clear()
    done(client, client.instances().bulkInsert(**HERE, body=own).execute())
    assert [i.handle for i in cloud.instances()][3:] == [f"{ZONE}/x", f"{ZONE}/y"]


def test_the_same_request_id_is_one_launch(cloud: GcpCloud) -> None:
    client, number = cloud.client(), str(uuid.uuid4())
    first = client.instances().insert(**HERE, body=instance(), requestId=number).execute()
    second = client.instances().insert(**HERE, body=instance(), requestId=number).execute()
    assert first["name"] == second["name"] and len(cloud.instances()) == 1
    with pytest.raises(HttpError) as error:
        client.instances().insert(**HERE, body=instance()).execute()
    assert error.value.status_code == 409 and reason(error) == "alreadyExists"


@pytest.mark.parametrize(
    "wrong",
    [
        {"colour": "red"},
        {"canIpForward": "maybe"},
        {"scheduling": {"provisioningModel": "CHEAP"}},
        {"name": "Capital"},
        {"disks": [{"initializeParams": {"diskSizeGb": "big"}}]},
        {"shieldedInstanceConfig": {"enableSecureBoot": 1}},
    ],
)
def test_what_googles_document_does_not_allow_is_refused_and_fails_whoever_uses_the_cloud(
    wrong: dict[str, Any],
) -> None:
    with pytest.raises(AssertionError, match="instances"), GcpCloud() as cloud:
        with pytest.raises(HttpError) as error:
            cloud.client().instances().insert(**HERE, body=instance(**wrong)).execute()
        assert error.value.status_code == 400 and cloud.instances() == []


def test_unknown_paths_methods_and_parameters_are_refused_and_recorded() -> None:
    cloud = GcpCloud()
    session = requests.Session()
    credentials: Any = cloud.signed_in()
    credentials.refresh(Request())
    session.headers["Authorization"] = f"Bearer {credentials.token}"
    compute = f"{cloud.url}/compute.googleapis.com/compute/v1/projects/{PROJECT}"
    for verb, path, code in (
        ("GET", "/zones/us-central1-a/machines", 404),
        ("PUT", "/zones/us-central1-a/instances", 405),
        ("GET", "/zones/us-central1-a/instances?colour=red", 400),
        ("GET", "/zones/us-central1-a/instances?maxResults=many", 400),
        ("GET", "/zones/us-central1-a/instances?filter=labels.a%20like%20b", 400),
        ("GET", "/zones/us-central1-a/instances?fields=items(name", 400),
    ):
        assert session.request(verb, compute + path).status_code == code, path
    assert len(cloud.world.violations) == 6
    cloud.close()


def test_who_has_no_token_or_a_lapsed_one_is_refused(cloud: GcpCloud) -> None:
    now = [100.0]
    cloud.world.clock = lambda: now[0]
    credentials: Any = cloud.signed_in()
    credentials.refresh(Request())
    url = f"{cloud.url}/compute.googleapis.com/compute/v1/projects/{PROJECT}/zones"
    bearer = {"Authorization": f"Bearer {credentials.token}"}
    assert requests.get(url).status_code == 401
    assert requests.get(url, headers={"Authorization": "Bearer made-up"}).status_code == 401
    assert requests.get(url, headers=bearer).status_code == 200
    now[0] += 3601
    assert requests.get(url, headers=bearer).status_code == 401


def test_a_key_that_the_account_does_not_have_gets_no_token(cloud: GcpCloud) -> None:
    key = cloud.add_account("me")
    cloud.world.accounts[key["client_email"]].keys.clear()
    with pytest.raises(RefreshError, match="invalid_grant"):
        cloud.signed_in(key).refresh(Request())


def test_a_permission_that_is_missing_is_named(cloud: GcpCloud) -> None:
    cloud.world.denied.add("compute.instances.create")
    with pytest.raises(HttpError) as error:
        cloud.client().instances().insert(**HERE, body=instance()).execute()
    wanted = f"Required 'compute.instances.create' permission for 'projects/{PROJECT}/zones/{ZONE}/instances/n1'"
    assert error.value.status_code == 403 and error.value.reason == wanted
    cloud.world.denied.clear()
    cloud.client().instances().insert(**HERE, body=instance(labels={"a": "b"})).execute()
    needed = {permission for who, permission in cloud.world.called_by if who.startswith("admin@")}
    assert needed == {
        "compute.instances.create", "compute.instances.setLabels", "compute.disks.create", "compute.subnetworks.use",
    }  # fmt: skip


def test_lists_come_in_pages_and_say_which_places_do_not_answer(cloud: GcpCloud) -> None:
    cloud.world.page_size = 2
    client = cloud.client()
    for name in ("a", "b", "c"):
        client.instances().insert(**HERE, body=instance(name)).execute()
    request, pages = client.instances().list(**HERE), []
    while request is not None:
        answer = request.execute()
        pages.append([row["name"] for row in answer["items"]])
        request = client.instances().list_next(request, answer)
    assert pages == [["a", "b"], ["c"]]
    cloud.world.unreachable = {"us-east1-b"}
    answer = client.instances().aggregatedList(project=PROJECT).execute()
    assert len(answer["items"][f"zones/{ZONE}"]["instances"]) == 2 and answer["nextPageToken"]
    assert answer["unreachables"] == [f"projects/{PROJECT}/zones/us-east1-b"]
    assert answer["items"]["zones/us-east1-b"]["warning"]["code"] == "UNREACHABLE"
    assert answer["items"]["zones/us-east1-c"]["warning"]["code"] == "NO_RESULTS_ON_PAGE"


def test_filters_are_read_as_google_reads_them() -> None:
    row = {
        "name": "w-1",
        "labels": {"a": "b", "c": ""},
        "status": "RUNNING",
        "scheduling": {"preemptible": True},
        "n": "7",
    }
    for text, wanted in (
        ("labels.a = b", True), ("labels.a=c", False), ("labels.a != c", True), ("labels.c:*", True), ("labels.d:*", False),
        ("(labels.a = b) (status = RUNNING)", True), ("labels.a = b AND status = STOPPING", False),
        ("status = STOPPING OR name = w-1", True), ("NOT name = w-1", False), ('name eq "w-.*"', True),
        ("name ne w-.*", False), ("scheduling.preemptible = true", True), ("n >= 7", True), ("n < 7", False),
        ("labels.a = b AND (status = STOPPING OR status = RUNNING)", True),
    ):  # fmt: skip
        assert compile_filter(text)(row) is wanted, text
    for text in (
        "",
        "labels.a",
        "labels.a = ",
        "labels.a == b",
        "name = w-*",
        "(name = a",
        "name like a",
        "labels.a ~ b",
    ):
        with pytest.raises(Violation):
            compile_filter(text)


def test_only_the_wanted_fields_are_answered() -> None:
    answer = {"items": [{"name": "a", "labels": {"x": "y"}, "id": "1"}], "kind": "k", "nextPageToken": "t"}
    assert select("items(name,labels/x),nextPageToken", answer) == {
        "items": [{"name": "a", "labels": {"x": "y"}}], "nextPageToken": "t",
    }  # fmt: skip
    assert select("items/*/instances(name)", {"items": {"z": {"instances": [{"name": "a", "id": "1"}]}}}) == {
        "items": {"z": {"instances": [{"name": "a"}]}}
    }


def test_too_many_calls_a_disabled_service_and_missing_billing_are_refused_in_googles_words(cloud: GcpCloud) -> None:
    client = cloud.client()

    def refusal() -> tuple[int, str]:
        with pytest.raises(HttpError) as error:
            client.zones().list(project=PROJECT).execute(num_retries=0)
        return error.value.status_code, error.value.content.decode()

    cloud.world.limit("*", burst=0, per_second=0)
    code, text = refusal()
    assert code == 403 and "rateLimitExceeded" in text and "RATE_LIMIT_EXCEEDED" in text
    cloud.world.rates.clear()
    cloud.world.disabled_services.add("compute.googleapis.com")
    code, text = refusal()
    assert code == 403 and "SERVICE_DISABLED" in text and "apis/api/compute.googleapis.com/overview" in text
    cloud.world.disabled_services.clear()
    cloud.world.billing = False
    code, text = refusal()
    assert code == 403 and "BILLING_DISABLED" in text


def test_faults_lose_answers_and_end_operations(cloud: GcpCloud) -> None:
    client = cloud.client()
    cloud.fault("compute.instances.insert", "lost", code="backendError", status=503)
    with pytest.raises(HttpError) as error:
        client.instances().insert(**HERE, body=instance()).execute()
    assert error.value.status_code == 503 and [i.name for i in cloud.instances()] == ["n1"]
    cloud.fault("compute.instances.insert", "operation", code="RESOURCE_NOT_READY", message="Not yet", status=400)
    ended = done(client, client.instances().insert(**HERE, body=instance("n2")).execute())
    assert ended["error"]["errors"] == [{"code": "RESOURCE_NOT_READY", "message": "Not yet"}]
    assert [i.name for i in cloud.instances()] == ["n1"]
    cloud.fault("compute.instances.list", "reset", times=None)
    with pytest.raises((OSError, HttpError)):
        client.instances().list(**HERE).execute()
    cloud.world.faults.clear()
    assert len(client.instances().list(**HERE).execute()["items"]) == 1
