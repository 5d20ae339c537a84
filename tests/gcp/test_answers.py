"""Google's own words for a refusal, over the wire: what the cluster makes of each, whether it comes at once or with the
operation. What each becomes, word by word, is in test_errors."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from clusterctl.core.errors import (
    AuthFailed,
    BadRequest,
    NoCapacity,
    NotYet,
    ProviderError,
    QuotaExceeded,
    Throttled,
    UnknownOutcome,
)
from clusterctl.core.model import Instance, NodeState
from tests.cloud.gcp.cloud import GcpCloud
from tests.cloud.gcp.world import PROJECT, REGION, quota_exceeded
from tests.gcp.stage import BOTH, Stage, pool

ONE, MANY = "compute.instances.insert", "compute.instances.bulkInsert"


@pytest.fixture
def stage(cloud: GcpCloud, tmp_path: Path) -> Iterator[Stage]:
    place = Stage(tmp_path, cloud)
    yield place
    place.close()


def alive(cloud: GcpCloud) -> list[tuple[str, str]]:
    return sorted((i.type, i.market) for i in cloud.instances("PROVISIONING", "STAGING", "RUNNING"))


def refused(stage: Stage, effect: str = "operation", **fault: Any) -> ProviderError:
    stage.cloud.fault(ONE, effect, **fault)
    (answer,) = stage.provider.create([stage.request("cpu-1")])
    assert isinstance(answer, ProviderError), answer
    assert stage.cloud.instances() == []
    return answer


# ---------------------------------------------------------------- capacity


def test_without_spot_capacity_anywhere_on_demand_is_launched_without_a_pause(stage: Stage, cloud: GcpCloud) -> None:
    cloud.world.capacity["*/*/spot"] = 0
    began, started = stage.now, time.monotonic()
    stage.provisioner.offers()
    while not alive(cloud):
        (outcome,) = stage.want(1)
        assert outcome.ok or outcome.code == "no_capacity"
        assert time.monotonic() - started < 120, "it never launches on-demand"
    assert alive(cloud)[0][1] == "on-demand"
    refusals = cloud.world.actions().count(ONE) - 1
    assert refusals >= 3 and stage.now == began, "no pause between them"


@pytest.mark.parametrize(
    "code",
    [
        "ZONE_RESOURCE_POOL_EXHAUSTED",
        "ZONE_RESOURCE_POOL_EXHAUSTED_WITH_DETAILS",
        "STOCKOUT",
        "INTERNAL_ERROR",
        "VM_MIN_COUNT_NOT_REACHED",
    ],
)
def test_a_stockout_after_the_launch_was_accepted_blocks_its_offer_and_the_next_one_is_tried(
    stage: Stage, cloud: GcpCloud, code: str
) -> None:
    cloud.fault(ONE, "operation", code=code, message="The zone does not have enough resources", status=503)
    (outcome,) = stage.want(1)
    assert outcome.code == "no_capacity" and code in outcome.error
    (again,) = stage.want(1)
    assert again.ok and again.node and again.node.offer.key != outcome.node.offer.key  # type: ignore[union-attr]
    assert len(cloud.instances()) == 1


def test_why_some_of_a_launch_were_not_made_is_told_by_their_own_operations(stage: Stage, cloud: GcpCloud) -> None:
    of = stage.provider.offers(stage.pools[0])[0]
    full = quota_exceeded("IN_USE_ADDRESSES", 4, REGION)
    cloud.world.stillborn = lambda name: full if name.endswith(("-cpu-3-1", "-cpu-5-1")) else None
    results = stage.provider.create([stage.request(f"cpu-{n}", of) for n in range(1, 6)])
    assert [type(r) for r in results] == [Instance, Instance, QuotaExceeded, Instance, QuotaExceeded], results
    assert results[2].quota == "IN_USE_ADDRESSES" and len(cloud.instances()) == 3  # type: ignore[union-attr]


def test_a_gang_of_which_one_comes_to_nothing_is_rolled_back_and_its_reason_told(stage: Stage, cloud: GcpCloud) -> None:
    gang = pool("gang", instances=["n2-standard-4"], one_zone=True)
    of = stage.provider.offers(gang)[0]
    out = cloud.world.exhausted("n2-standard-4", of.zone)
    cloud.world.stillborn = lambda name: out if name.endswith("-gang-3-1") else None
    answers = stage.provider.create([stage.request(f"gang-{n}", of, gang) for n in range(4)])
    assert all(isinstance(answer, NoCapacity) for answer in answers), answers
    assert cloud.instances("PROVISIONING", "STAGING", "RUNNING") == []


# ---------------------------------------------------------------- quotas


def test_a_quota_that_only_the_operation_tells_is_named(stage: Stage) -> None:
    text = "Quota 'N2_CPUS' exceeded.  Limit: 24.0 in region us-central1."
    error = refused(stage, code="QUOTA_EXCEEDED", message=text, status=403)
    assert isinstance(error, QuotaExceeded) and error.quota == "N2_CPUS" and "24" in str(error)
    assert f"iam-admin/quotas?project={PROJECT}" in str(error)


def test_quotas_that_cannot_be_looked_up_keep_no_launch_away(stage: Stage, cloud: GcpCloud) -> None:
    cloud.world.denied |= {"compute.regions.get", "compute.projects.get"}
    cloud.world.quotas["GPUS_ALL_REGIONS"] = 0.0
    offers = stage.provider.catalogue_offers(pool(zones=["us-central1-a"]))
    (answer,) = stage.provider.create([stage.request("cpu-1", offers[0], pool())])
    assert isinstance(answer, Instance | ProviderError)
    assert not isinstance(answer, QuotaExceeded)


# ---------------------------------------------------------------- busy, or unclear


def test_what_google_limits_is_a_matter_of_time_and_nothing_is_lost(stage: Stage, cloud: GcpCloud) -> None:
    request = stage.request("cpu-1")
    cloud.fault(ONE, code="rateLimitExceeded", status=403)
    (answer,) = stage.provider.create([request])
    assert isinstance(answer, Throttled) and cloud.instances() == []
    deadline = time.monotonic() + 60
    while not isinstance((answer := stage.provider.create([request])[0]), Instance):
        assert isinstance(answer, Throttled) and time.monotonic() < deadline, answer
    assert len(cloud.instances()) == 1


@pytest.mark.parametrize("effect", ["error", "lost", "reset", "cut", "garbled"])
def test_an_unclear_answer_keeps_the_intent_and_comes_to_one_instance(
    stage: Stage, cloud: GcpCloud, effect: str
) -> None:
    request = stage.request("cpu-1")
    cloud.fault(ONE, effect, status=500)
    (answer,) = stage.provider.create([request])
    assert isinstance(answer, UnknownOutcome), answer
    (made,) = stage.provider.create([request])
    assert isinstance(made, Instance) and len(cloud.instances()) == 1


@pytest.mark.parametrize("code", ["RESOURCE_NOT_READY", "RESOURCE_IN_USE_BY_ANOTHER_RESOURCE"])
def test_what_is_still_on_its_way_is_waited_for_and_then_launched(stage: Stage, cloud: GcpCloud, code: str) -> None:
    cloud.fault(ONE, "operation", code=code, message="The subnetwork resource 'x' is not ready", status=400)
    (outcome,) = stage.want(1)
    assert outcome.node and outcome.node.state is NodeState.PLANNED and "not yet" in outcome.node.reason
    stage.now += 5
    (outcome,) = stage.provisioner.resume()
    assert outcome.ok and outcome.node and outcome.node.instance_id and len(cloud.instances()) == 1


# ---------------------------------------------------------------- who we are, and what may be


@pytest.mark.parametrize(
    ("constraint", "says"),
    [
        ("constraints/compute.vmExternalIpAccess", "constraints/compute.vmExternalIpAccess forbids it"),
        ("constraints/compute.requireOsLogin", "constraints/compute.requireOsLogin forbids it"),
    ],
)
def test_a_policy_of_the_organisation_is_named(stage: Stage, cloud: GcpCloud, constraint: str, says: str) -> None:
    cloud.world.refused_policies = {constraint: "Ask the security team."}
    (answer,) = stage.provider.create([stage.request("cpu-1")])
    assert isinstance(answer, BadRequest) and says in str(answer)


def test_without_public_addresses_the_policy_against_them_is_kept(stage: Stage, cloud: GcpCloud) -> None:
    cloud.world.refused_policies = {"constraints/compute.vmExternalIpAccess": ""}
    (made,) = stage.open(public_addresses=False).create([stage.request("cpu-1")])
    assert isinstance(made, Instance), made


def test_the_permission_that_is_lacking_is_the_one_that_google_names(stage: Stage, cloud: GcpCloud) -> None:
    of = stage.provider.offers(stage.pools[0])[0]
    cloud.world.denied.add("compute.instances.create")
    (answer,) = stage.provider.create([stage.request("cpu-1", of)])
    assert isinstance(answer, AuthFailed) and "compute.instances.create" in str(answer)


def test_a_disabled_api_comes_with_the_command_that_enables_it(stage: Stage, cloud: GcpCloud) -> None:
    cloud.world.disabled_services.add("compute.googleapis.com")
    (scope,) = stage.open().list()
    assert not scope.complete and scope.code == AuthFailed.code
    assert f"gcloud services enable compute.googleapis.com --project {PROJECT}" in scope.error


def test_a_project_without_billing_is_told_as_that(stage: Stage, cloud: GcpCloud) -> None:
    cloud.world.billing = False
    (scope,) = stage.open().list()
    assert not scope.complete and "no active billing account" in scope.error


def test_credentials_that_lapse_hold_everything_back_and_say_what_to_renew(stage: Stage, cloud: GcpCloud) -> None:
    cloud.world.lapsed = True
    (scope,) = stage.open().list()
    assert (
        not scope.complete and scope.code == AuthFailed.code and "gcloud auth application-default login" in scope.error
    )


# ---------------------------------------------------------------- what Google does not know yet, or any more


def test_an_account_that_was_made_a_moment_ago_is_waited_for(stage: Stage, cloud: GcpCloud) -> None:
    provider = stage.open(worker_service_account="auto")
    text = f"The resource 'projects/{PROJECT}/serviceAccounts/x' of type 'serviceAccount' was not found."
    cloud.fault(ONE, code="notFound", message=text, status=404, times=2)
    (made,) = provider.create([stage.request("cpu-1")])
    assert isinstance(made, Instance), made
    assert cloud.world.actions().count(ONE) == 3


def test_an_account_of_the_users_that_is_not_there_is_told_and_not_waited_for(stage: Stage, cloud: GcpCloud) -> None:
    provider = stage.open(worker_service_account=f"nobody@{PROJECT}.iam.gserviceaccount.com")
    (answer,) = provider.create([stage.request("cpu-1")])
    assert isinstance(answer, BadRequest) and "nobody@" in str(answer)
    assert cloud.world.actions().count(ONE) == 1


def test_a_placement_policy_that_somebody_deleted_is_made_again(stage: Stage, cloud: GcpCloud) -> None:
    gang = pool("gang", instances=["n2-standard-4"], one_zone=True)
    clock = [0.0]
    stage.provider._network._clock = lambda: clock[0]
    of = stage.provider.offers(gang)[0]
    (first,) = stage.provider.create([stage.request("gang-1", of, gang)])
    assert isinstance(first, Instance)
    stage.provider.terminate([first.id])
    (policy,) = [path for path in cloud.leftovers() if "/resourcePolicies/" in path]
    name = policy.rpartition("/")[2]
    cloud.client().resourcePolicies().delete(project=PROJECT, region=REGION, resourcePolicy=name).execute()
    clock[0] += 3600
    request = stage.request("gang-2", of, gang)
    (answer,) = stage.provider.create([request])
    assert isinstance(answer, NotYet) and "any more" in str(answer), answer
    (made,) = stage.provider.create([request])
    assert isinstance(made, Instance), made


def test_an_image_that_was_withdrawn_is_looked_up_again(stage: Stage, cloud: GcpCloud) -> None:
    clock = [0.0]
    stage.provider._images._clock = lambda: clock[0]
    (first,) = stage.provider.create([stage.request("cpu-1")])
    assert isinstance(first, Instance)
    clock[0] += 86_400
    image = stage.provider._images.find("", "x86_64", False).id
    cloud.fault(ONE, code="notFound", message=f"The resource '{image}' was not found", status=404)
    asked = cloud.world.actions().count("compute.images.getFromFamily")
    request = stage.request("cpu-2")
    (answer,) = stage.provider.create([request])
    assert isinstance(answer, NotYet), answer
    (made,) = stage.provider.create([request])
    assert isinstance(made, Instance) and cloud.world.actions().count("compute.images.getFromFamily") == asked + 1


@pytest.mark.parametrize(
    ("image", "says"),
    [
        ("nothing-of-that-name", "there is none, or it is not shared"),
        ("family:ubuntu-os-cloud/ubuntu-9999", "there is none, or it is not shared"),
        ("projects/nobody-12/global/images/x", "there is none, or it is not shared"),
        ("ami-0123456789abcdef0/x", "is no image of Google Cloud's"),
        ("family:ubuntu-os-cloud/ubuntu-2404-lts-arm64", "is for arm64, the instance type is x86_64"),
    ],
)
def test_an_image_that_will_not_do_is_refused_before_the_launch(
    stage: Stage, cloud: GcpCloud, image: str, says: str
) -> None:
    (answer,) = stage.provider.create([stage.request("cpu-1", wanted=pool(image=image))])
    assert isinstance(answer, BadRequest) and says in str(answer), answer
    assert ONE not in cloud.world.actions()


def test_a_token_that_another_call_used_leads_to_what_that_one_made(stage: Stage, cloud: GcpCloud) -> None:
    """As when two heads launch the same node, and neither has the other's book."""
    request = stage.request("cpu-1")
    (first,) = stage.provider.create([request])
    other = Stage(stage.directory / "other", cloud)
    other.uid = stage.uid
    (again,) = other.open().create([request])
    assert isinstance(first, Instance) and isinstance(again, Instance) and first.id == again.id
    assert len(cloud.instances()) == 1
    other.close()


def test_spot_and_on_demand_of_one_node_are_markets_of_their_own(stage: Stage, cloud: GcpCloud) -> None:
    offers = stage.provider.offers(stage.pools[0])
    assert {offer.market for offer in offers} == set(BOTH)
    assert all(offer.zone.startswith(f"{REGION}-") for offer in offers)
    cloud.world.capacity["*/*/spot"] = 0
    (answer,) = stage.provider.create([stage.request("cpu-1", offers[0])])
    assert isinstance(answer, NoCapacity)
