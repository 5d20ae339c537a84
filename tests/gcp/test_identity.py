"""The service accounts of a cluster's machines: made when they are needed, bound to the cluster, and gone with it."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from typing import Any

import pytest
from clusterctl_providers.gcp.calls import Calls
from clusterctl_providers.gcp.rights.identity import USER, Identity
from clusterctl_providers.gcp.roles import permissions_of

from clusterctl.core.errors import AuthFailed, BadRequest
from tests.cloud.gcp.cloud import ADMIN, GcpCloud
from tests.cloud.gcp.world import PROJECT, Principal
from tests.gcp.parts import Parts

HEAD_ROLE = f"projects/{PROJECT}/roles/clusterctl_head"
STEPS = [
    "iam.serviceAccounts.get", "iam.serviceAccounts.create", "iam.roles.get", "iam.roles.create",
    "resourcemanager.projects.getIamPolicy", "resourcemanager.projects.setIamPolicy",
]  # fmt: skip


@pytest.fixture
def parts(cloud: GcpCloud) -> Iterator[Parts]:
    yield Parts(cloud)


def identity(parts: Parts, **settings: Any) -> Identity:
    """As a process of its own has it."""
    settings = {**parts.settings, **settings}
    return Identity(
        Calls(settings), settings, parts.cluster, parts.uid, clock=lambda: parts.now, pause=lambda s: pause(parts, s)
    )


def pause(parts: Parts, seconds: float) -> None:
    parts.now += seconds


def accounts(cloud: GcpCloud) -> list[str]:
    return sorted(email.partition("@")[0] for email in cloud.rights.made & cloud.world.accounts.keys())


def member(email: str) -> str:
    return f"serviceAccount:{email}"


def may(cloud: GcpCloud, email: str, permission: str, resource: str) -> bool:
    return cloud.rights.permits(Principal(email), permission, f"projects/{PROJECT}/{resource}")


def test_a_head_gets_an_account_that_may_touch_machines_of_its_own_cluster_only(cloud: GcpCloud, parts: Parts) -> None:
    email = identity(parts).head_account()
    assert email == f"clusterctl-{parts.uid[:8]}-head@{PROJECT}.iam.gserviceaccount.com"
    assert parts.uid in cloud.rights.descriptions[email]
    assert cloud.rights.members(HEAD_ROLE) == [member(email)]
    ours, theirs = (
        f"zones/us-central1-a/instances/clusterctl-demo-{part}-cpu-1-1" for part in (parts.uid[:8], "00000000")
    )
    for verb in ("create", "delete", "stop", "setMetadata"):
        assert may(cloud, email, f"compute.instances.{verb}", ours)
        assert not may(cloud, email, f"compute.instances.{verb}", theirs)
    assert not may(cloud, email, "compute.instances.delete", "zones/us-central1-a/instances/somebodys")
    assert not may(cloud, email, "compute.disks.create", "zones/us-central1-a/disks/somebodys")
    assert cloud.rights.permits(Principal(email), "compute.instances.list", f"projects/{PROJECT}")
    assert not may(cloud, email, "iam.serviceAccounts.create", "serviceAccounts/x")


def test_an_account_is_made_once(cloud: GcpCloud, parts: Parts) -> None:
    first = identity(parts)
    assert first.head_account() == first.head_account() == identity(parts).head_account()
    assert cloud.world.actions().count("iam.projects.serviceAccounts.create") == 1
    assert cloud.world.actions().count("cloudresourcemanager.projects.setIamPolicy") == 1


@pytest.mark.parametrize("step", STEPS)
def test_what_is_half_made_is_finished_by_the_next_try(cloud: GcpCloud, parts: Parts, step: str) -> None:
    cloud.world.denied = {step}
    with pytest.raises(AuthFailed) as caught:
        identity(parts).head_account()
    assert step in str(caught.value) and "service_account: ..." in str(caught.value)
    cloud.world.denied = set()
    for method in (
        "iam.projects.serviceAccounts.create",
        "iam.projects.roles.create",
        "cloudresourcemanager.projects.setIamPolicy",
    ):
        cloud.fault(method, "lost", status=503, code="backendError")
    email = identity(parts).head_account()
    assert accounts(cloud) == [email.partition("@")[0]]
    assert cloud.rights.members(HEAD_ROLE) == [member(email)]


def test_a_policy_that_somebody_else_changes_meanwhile_keeps_both_changes(
    cloud: GcpCloud, parts: Parts, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, others = Calls.change, iter(["one", "two"])
    for name in ("one", "two"):
        cloud.add_account(name, "compute.zones.list")

    def change(calls: Calls, method: str, path: str, *rest: Any, **more: Any) -> dict[str, Any]:
        if path.endswith("setIamPolicy") and (name := next(others, "")):
            cloud.rights.grant(f"{name}@{PROJECT}.iam.gserviceaccount.com", "roles/owner")
        return real(calls, method, path, *rest, **more)

    monkeypatch.setattr(Calls, "change", change)
    email = identity(parts).head_account()
    assert cloud.rights.members(HEAD_ROLE) == [member(email)]
    assert [m.partition("@")[0] for m in cloud.rights.members("roles/owner")] == [
        f"serviceAccount:{name}" for name in ("admin", "one", "two")
    ]
    assert parts.now > 0, "it waited between the tries"


def test_conditions_of_others_survive_a_change_of_the_policy(cloud: GcpCloud, parts: Parts) -> None:
    cloud.rights.grant(ADMIN, USER, condition="resource.name.startsWith('projects/')")
    before = [b for b in cloud.rights.policy(f"projects/{PROJECT}")["bindings"] if b["role"] == USER]
    identity(parts).head_account()
    assert identity(parts).sweep() == []
    assert [b for b in cloud.rights.policy(f"projects/{PROJECT}")["bindings"] if b["role"] == USER] == before


def test_an_account_that_google_does_not_show_everywhere_yet_is_waited_for(cloud: GcpCloud, parts: Parts) -> None:
    gone = {"code": "notFound", "message": "Unknown service account", "status": 404}
    cloud.fault("iam.projects.serviceAccounts.get", **gone, times=3)
    unknown = "Service account clusterctl-x-head@p.iam.gserviceaccount.com does not exist."
    cloud.fault("cloudresourcemanager.projects.setIamPolicy", code="badRequest", message=unknown, status=400, times=2)
    email = identity(parts).head_account()
    assert cloud.rights.members(HEAD_ROLE) == [member(email)]


def test_an_account_of_that_name_without_our_uid_is_not_used(cloud: GcpCloud, parts: Parts) -> None:
    name = identity(parts).name_of("head")
    cloud.add_account(name)
    with pytest.raises(BadRequest, match="does not carry the uid of cluster demo"):
        identity(parts).head_account()
    with pytest.raises(BadRequest, match="remove it"):
        identity(parts).sweep()


def test_accounts_that_are_named_are_taken_as_they_are(cloud: GcpCloud, parts: Parts) -> None:
    given = identity(parts, service_account="mine", worker_service_account="w@other.iam.gserviceaccount.com")
    assert given.head_account() == f"mine@{PROJECT}.iam.gserviceaccount.com"
    assert given.worker_account() == "w@other.iam.gserviceaccount.com"
    assert not given.makes_some and cloud.world.actions() == []
    (attached,) = given.attached(head=True)
    assert "https://www.googleapis.com/auth/cloud-platform" not in attached["scopes"], "a head is for machines only"


def test_workers_have_no_account_unless_the_spec_says_so(parts: Parts) -> None:
    assert identity(parts).attached(head=False) == []
    assert (
        identity(parts, worker_service_account="auto")
        .worker_account()
        .startswith(f"clusterctl-{parts.uid[:8]}-worker@")
    )


def test_a_head_may_start_workers_with_their_account_and_with_no_other(cloud: GcpCloud, parts: Parts) -> None:
    ours = identity(parts, worker_service_account="auto")
    head, worker = ours.head_account(), ours.worker_account()
    cloud.add_account("somebody")
    assert may(cloud, head, "iam.serviceAccounts.actAs", f"serviceAccounts/{worker}")
    assert not may(cloud, head, "iam.serviceAccounts.actAs", f"serviceAccounts/{head}")
    assert not may(
        cloud, head, "iam.serviceAccounts.actAs", f"serviceAccounts/somebody@{PROJECT}.iam.gserviceaccount.com"
    )


def test_a_head_takes_the_workers_account_without_looking_for_it(
    cloud: GcpCloud, parts: Parts, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It may not: its scopes are Compute Engine's."""
    made = identity(parts, worker_service_account="auto")
    made.renew()
    cloud.world.allowed = set(permissions_of("head"))
    assert identity(parts, worker_service_account="auto").worker_account() == made.worker_account()


def test_a_users_account_for_workers_is_opened_to_the_head_and_closed_again_by_down(
    cloud: GcpCloud, parts: Parts
) -> None:
    cloud.add_account("data")
    resource = f"projects/{PROJECT}/serviceAccounts/data@{PROJECT}.iam.gserviceaccount.com"
    head = identity(parts, worker_service_account="data").head_account()
    assert cloud.rights.members(USER, resource) == [member(head)]
    assert identity(parts, worker_service_account="data").sweep() == []
    assert cloud.rights.members(USER, resource) == []


def test_the_role_of_heads_gets_what_it_lacks_and_keeps_what_it_has(cloud: GcpCloud, parts: Parts) -> None:
    cloud.rights.roles[HEAD_ROLE] = {
        "name": HEAD_ROLE,
        "includedPermissions": ["compute.zones.list", "storage.buckets.get"],
    }
    identity(parts).head_account()
    has = set(cloud.rights.roles[HEAD_ROLE]["includedPermissions"])
    assert has == permissions_of("head") | {"compute.zones.list", "storage.buckets.get"}
    before = len(cloud.world.calls)
    identity(parts).head_account()
    assert "iam.projects.roles.patch" not in cloud.world.actions(before)


def test_a_role_that_somebody_deleted_is_brought_back(cloud: GcpCloud, parts: Parts) -> None:
    """Its name is taken for weeks."""
    identity(parts).head_account()
    cloud.rights.roles[HEAD_ROLE]["deleted"] = True
    email = identity(parts).head_account()
    assert may(cloud, email, "compute.machineTypes.list", "zones/us-central1-a")


def test_down_removes_accounts_and_their_roles_and_leaves_those_of_other_clusters(
    cloud: GcpCloud, parts: Parts
) -> None:
    other = Parts(cloud, "other")
    kept = identity(other).head_account()
    ours = identity(parts, worker_service_account="auto")
    ours.renew()
    assert ours.clusters() == sorted([("demo", parts.uid), ("other", other.uid)])
    assert ours.sweep() == [] and identity(parts).sweep() == []
    assert accounts(cloud) == [kept.partition("@")[0]]
    assert cloud.rights.members(HEAD_ROLE) == [member(kept)], (
        "nothing of ours stays in the policy, not by a number either"
    )
    assert identity(other).sweep() == [] and cloud.leftovers() == []


def test_a_cluster_of_another_region_is_no_leftover_of_this_one(cloud: GcpCloud, parts: Parts) -> None:
    identity(parts).head_account()
    assert identity(parts, region="europe-west4").clusters() == []


def test_clusters_are_found_on_every_page(cloud: GcpCloud, parts: Parts) -> None:
    cloud.world.page_size = 1
    others = [Parts(cloud, f"c{n}") for n in range(3)]
    for one in others:
        identity(one).head_account()
    assert identity(parts).clusters() == sorted((one.cluster, one.uid) for one in others)


def test_removal_that_stops_anywhere_is_finished_by_the_next(cloud: GcpCloud, parts: Parts) -> None:
    identity(parts, worker_service_account="auto").renew()
    for step in ("resourcemanager.projects.setIamPolicy", "iam.serviceAccounts.delete"):
        cloud.world.denied = {step}
        with pytest.raises(AuthFailed, match=step):
            identity(parts, worker_service_account="auto").sweep()
    cloud.world.denied = set()
    cloud.fault("iam.projects.serviceAccounts.delete", "lost", status=503)
    assert identity(parts).sweep() == [] and cloud.leftovers() == []


def test_who_may_not_look_at_accounts_needs_them_only_where_we_make_some(cloud: GcpCloud, parts: Parts) -> None:
    cloud.world.denied = {"iam.serviceAccounts.get", "iam.serviceAccounts.list"}
    assert identity(parts, service_account="mine").sweep() == []
    assert identity(parts, head_address="10.0.0.5").sweep() == []
    assert identity(parts).clusters() == []
    with pytest.raises(AuthFailed, match=r"iam\.serviceAccounts\.get"):
        identity(parts).sweep()


def test_an_organisation_that_lets_no_account_be_made_is_named(cloud: GcpCloud, parts: Parts) -> None:
    cloud.rights.organisation["constraints/iam.disableServiceAccountCreation"] = [{"enforce": True}]
    with pytest.raises(BadRequest, match=r"constraints/iam\.disableServiceAccountCreation"):
        identity(parts).head_account()


def test_whoever_may_give_away_the_role_of_heads_only_can_make_a_cluster_and_no_owner(
    cloud: GcpCloud, parts: Parts, monkeypatch: pytest.MonkeyPatch
) -> None:
    from clusterctl_providers.gcp.roles import grants_only

    cloud.add_account(
        "bounded", "iam.roles.create", "iam.roles.get", *(p for p in permissions_of("accounts") if "serviceAcc" in p)
    )
    email = f"bounded@{PROJECT}.iam.gserviceaccount.com"
    policy = ["resourcemanager.projects.getIamPolicy", "resourcemanager.projects.setIamPolicy"]
    cloud.rights.allow(email, policy, condition=grants_only(PROJECT, "head"))
    with cloud.credentials(cloud.add_account("bounded")):
        ours = identity(parts)
        ours.head_account()
        calls = Calls(parts.settings)
        path = f"v3/projects/{PROJECT}:setIamPolicy"
        wide = {
            "policy": {
                **cloud.rights.policy(f"projects/{PROJECT}"),
                "bindings": [{"role": "roles/owner", "members": [member(email)]}],
            }
        }
        with pytest.raises(AuthFailed, match="Policy update access denied"):
            calls.change("POST", path, "becoming an owner", wide, "cloudresourcemanager")
        assert ours.sweep() == []


def test_the_name_of_an_account_is_one_that_google_takes() -> None:
    ours = Identity(Calls({"project": "example.com:lab", "region": "r"}), {}, "c" * 40, str(uuid.uuid4()))
    for kind in ("head", "worker"):
        assert 6 <= len(ours.name_of(kind)) <= 30
    assert ours._email("x") == "x@lab.example.com.iam.gserviceaccount.com"
