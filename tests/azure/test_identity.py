"""The managed identities of a cluster's machines: made when they are needed, let into the cluster's group, and gone with it."""

from __future__ import annotations

import uuid
from typing import Any

import pytest
from clusterctl_providers.azure.calls import Calls
from clusterctl_providers.azure.network.group import ResourceGroup
from clusterctl_providers.azure.rights.identity import ATTACHES, READER, Identity
from clusterctl_providers.azure.roles import actions_of, grants_only, role_guid, role_name

from clusterctl.core.errors import AuthFailed, BadRequest
from tests.azure.parts import Parts
from tests.cloud.azure.assignments import ROOT
from tests.cloud.azure.cloud import AzureCloud
from tests.cloud.azure.world import SUBSCRIPTION, Principal

HEAD, LOOKUP = role_name("head", SUBSCRIPTION), role_name("lookup", SUBSCRIPTION)
WRITE = "Microsoft.Compute/virtualMachines/write"
STEPS = [
    "Microsoft.ManagedIdentity/userAssignedIdentities/read", "Microsoft.Resources/subscriptions/resourceGroups/write",
    "Microsoft.ManagedIdentity/userAssignedIdentities/write", "Microsoft.Authorization/roleDefinitions/read",
    "Microsoft.Authorization/roleDefinitions/write", "Microsoft.Authorization/roleAssignments/write",
]  # fmt: skip


@pytest.fixture
def parts(cloud: AzureCloud) -> Parts:
    return Parts(cloud)


def identity(parts: Parts, *elsewhere: str, **settings: Any) -> Identity:
    """As a process of its own has it."""
    settings = {**parts.settings, **settings}
    calls = Calls(settings, pause=lambda _: None)
    group = ResourceGroup(calls, settings, parts.cluster, parts.uid)
    return Identity(calls, settings, group, elsewhere, clock=lambda: parts.now, pause=lambda s: pause(parts, s))


def pause(parts: Parts, seconds: float) -> None:
    parts.now += seconds


def group_of(parts: Parts) -> str:
    return ResourceGroup(parts.calls, parts.settings, parts.cluster, parts.uid).path()


def principal(cloud: AzureCloud, id_: str) -> Principal:
    return cloud.tokens.identities[id_.lower()]


def roles(cloud: AzureCloud, id_: str) -> dict[str, str]:
    """Scope -> role."""
    return cloud.rights.roles_of(principal(cloud, id_).object_id)


def mine(parts: Parts, name: str = "mine") -> str:
    return parts.make(f"Microsoft.ManagedIdentity/userAssignedIdentities/{name}", {})


# ------------------------------------------------------------ made


def test_a_heads_identity_may_touch_machines_of_its_own_group_only(cloud: AzureCloud, parts: Parts) -> None:
    id_ = identity(parts).head_identity()
    assert id_ == f"{group_of(parts)}/providers/Microsoft.ManagedIdentity/userAssignedIdentities/" + (
        f"clusterctl-demo-{parts.uid[:8]}-head"
    )
    assert cloud.resource(id_)["tags"]["clusterctl-uid"] == parts.uid
    assert roles(cloud, id_) == {group_of(parts): HEAD, ROOT: LOOKUP}
    who = principal(cloud, id_)
    assert cloud.rights.permits(who, WRITE, f"{group_of(parts)}/providers/Microsoft.Compute/virtualMachines/x")
    assert not cloud.rights.permits(
        who, WRITE, f"{ROOT}/resourceGroups/other/providers/Microsoft.Compute/virtualMachines/x"
    )
    assert cloud.rights.permits(who, "Microsoft.Compute/skus/read", ROOT)
    for action in (
        "Microsoft.Authorization/roleAssignments/write",
        "Microsoft.ManagedIdentity/userAssignedIdentities/write",
    ):
        assert not cloud.rights.permits(who, action, group_of(parts)), "it can give no rights away"


def test_an_identity_is_made_once(cloud: AzureCloud, parts: Parts) -> None:
    first = identity(parts)
    assert first.head_identity() == first.head_identity() == identity(parts).head_identity()
    made = cloud.world.operations()
    assert made.count("userAssignedIdentities.createOrUpdate") == 1
    assert made.count("roleAssignments.create") == 2 and made.count("roleDefinitions.createOrUpdate") == 2


@pytest.mark.parametrize("step", STEPS)
def test_what_is_half_made_is_finished_by_the_next_try(cloud: AzureCloud, parts: Parts, step: str) -> None:
    cloud.world.denied = {step}
    with pytest.raises(AuthFailed) as caught:
        identity(parts).head_identity()
    assert step in str(caught.value) and "{azure: {identity: ...}}" in str(caught.value)
    cloud.world.denied = set()
    for operation in (
        "userAssignedIdentities.createOrUpdate",
        "roleDefinitions.createOrUpdate",
        "roleAssignments.create",
    ):
        cloud.fault(operation, "lost", status=503, code="ServiceUnavailable")
    id_ = identity(parts).head_identity()
    assert roles(cloud, id_) == {group_of(parts): HEAD, ROOT: LOOKUP}


def test_who_may_give_no_roles_is_told_the_command_for_who_may_and_goes_on_after_it(
    cloud: AzureCloud, parts: Parts
) -> None:
    cloud.world.denied = {"Microsoft.Authorization/roleAssignments/write"}
    given: list[str] = []
    for scope, role in ((group_of(parts), HEAD), (ROOT, LOOKUP)):
        with pytest.raises(AuthFailed) as caught:
            identity(parts).head_identity()
        who = principal(cloud, identity(parts).id_of("head"))
        command = (
            f"az role assignment create --assignee-object-id {who.object_id} --assignee-principal-type ServicePrincipal --role "
            f"'{role}' --scope {scope}"
        )
        assert f"`{command}`" in str(caught.value)
        given.append(role_guid({HEAD: "head", LOOKUP: "lookup"}[role], SUBSCRIPTION))
        cloud.rights.give(who, given[-1], scope)
    assert identity(parts).head_identity(), "what somebody else has given is enough"


def test_who_may_make_no_roles_is_told_how_to_have_them_made(cloud: AzureCloud, parts: Parts) -> None:
    cloud.world.denied = {"Microsoft.Authorization/roleDefinitions/write"}
    with pytest.raises(AuthFailed) as caught:
        identity(parts).head_identity()
    assert f"`python -m clusterctl_providers.azure.roles head --subscription {SUBSCRIPTION} > head.json`" in str(
        caught.value
    )
    assert "`az role definition create --role-definition @head.json`" in str(caught.value)


def test_a_principal_and_a_role_that_azure_does_not_know_everywhere_yet_are_waited_for(
    cloud: AzureCloud, parts: Parts
) -> None:
    cloud.world.clock = lambda: parts.now
    cloud.identities.slow, cloud.rights.slow_roles = 4.0, 8.0
    id_ = identity(parts).head_identity()
    assert roles(cloud, id_) == {group_of(parts): HEAD, ROOT: LOOKUP} and parts.now > 0, "it waited between the tries"


def test_a_principal_that_never_appears_is_told_in_the_end(cloud: AzureCloud, parts: Parts) -> None:
    cloud.fault("roleAssignments.create", code="PrincipalNotFound", message="x", status=400, times=None)
    with pytest.raises(Exception, match="PrincipalNotFound"):
        identity(parts).head_identity()
    assert 30 < parts.now < 120


def test_an_identity_of_that_name_without_our_uid_is_not_used(cloud: AzureCloud, parts: Parts) -> None:
    id_ = identity(parts).id_of("head")
    ours = ResourceGroup(parts.calls, parts.settings, parts.cluster, parts.uid)
    ours.ensure()
    parts.calls.ask("PUT", id_, "making", {"location": "eastus"})
    with pytest.raises(BadRequest, match="does not carry the uid of cluster demo"):
        identity(parts).head_identity()
    with pytest.raises(BadRequest, match="remove it"):
        identity(parts).sweep()


# ------------------------------------------------------------ named


def test_identities_that_are_named_are_taken_as_they_are(cloud: AzureCloud, parts: Parts) -> None:
    theirs = "/subscriptions/1/resourceGroups/o/providers/Microsoft.ManagedIdentity/userAssignedIdentities/w"
    given = identity(parts, resource_group="corp", identity="mine", worker_identity=theirs)
    kind = "Microsoft.ManagedIdentity/userAssignedIdentities"
    assert given.attached(head=True) == f"{ROOT}/resourceGroups/corp/providers/{kind}/mine"
    assert given.attached(head=False) == theirs
    assert not given.makes_some and cloud.world.operations() == []


def test_workers_have_no_identity_unless_the_spec_says_so(cloud: AzureCloud, parts: Parts) -> None:
    assert identity(parts).attached(head=False) == ""
    id_ = identity(parts, worker_identity="auto").attached(head=False)
    assert id_.endswith(f"{parts.uid[:8]}-worker") and roles(cloud, id_) == {}
    assert identity(parts, head_address="10.0.0.5").attached(head=True) == ""


def test_a_head_takes_the_workers_identity_without_making_it(cloud: AzureCloud, parts: Parts) -> None:
    made = identity(parts, worker_identity="auto")
    made.renew()
    cloud.world.allowed = set(actions_of("head") | actions_of("lookup"))
    assert identity(parts, worker_identity="auto").worker_identity() == made.worker_identity()


# ------------------------------------------------------------ what lies elsewhere


def test_a_head_gets_its_role_at_what_the_spec_names_elsewhere(cloud: AzureCloud, parts: Parts) -> None:
    network = parts.make_network("v", {"name": "s", "addressPrefix": "10.50.1.0/24"})
    workers = mine(parts)
    gallery = f"{ROOT}/resourceGroups/corp/providers/Microsoft.Compute/galleries/g/images/i"
    id_ = identity(
        parts, gallery, network=network, subnet=f"{network}/subnets/s", worker_identity=workers
    ).head_identity()
    given = {scope: role for scope, role in roles(cloud, id_).items() if role == HEAD}
    assert set(given) == {group_of(parts), network, workers, gallery}
    who = principal(cloud, id_)
    assert cloud.rights.permits(who, "Microsoft.ManagedIdentity/userAssignedIdentities/assign/action", workers)
    assert not cloud.rights.permits(
        who, "Microsoft.ManagedIdentity/userAssignedIdentities/assign/action", mine(parts, "other")
    )


def test_what_is_in_the_same_group_needs_no_role_of_its_own(cloud: AzureCloud, parts: Parts) -> None:
    network = parts.make_network("v", {"name": "s", "addressPrefix": "10.50.1.0/24"})
    settings = {"resource_group": "corp", "network": network, "security_group": "nsg"}
    id_ = identity(parts, **settings).head_identity()
    assert roles(cloud, id_) == {f"{ROOT}/resourceGroups/corp": HEAD, ROOT: LOOKUP}


def test_things_of_another_subscription_are_reached_by_roles_of_azures_own(parts: Parts) -> None:
    ours = identity(parts)
    other = "/subscriptions/00000000-0000-0000-0000-000000000000/resourceGroups/o/providers"
    assert ours._role_for(f"{other}/Microsoft.Compute/galleries/g/images/i", "x") == (READER, "Reader")
    assert ours._role_for(f"{other}/Microsoft.ManagedIdentity/userAssignedIdentities/w", "x")[0] == ATTACHES


# ------------------------------------------------------------ the role


def test_the_role_of_heads_gets_what_it_lacks_and_keeps_what_it_has(cloud: AzureCloud, parts: Parts) -> None:
    identity(parts).head_identity()
    role = cloud.resource(f"providers/Microsoft.Authorization/roleDefinitions/{role_guid('head', SUBSCRIPTION)}")
    permission = role["properties"]["permissions"][0]
    permission["actions"] = ["Microsoft.Compute/virtualMachines/READ", "Microsoft.Storage/storageAccounts/read"]
    identity(Parts(cloud, "another")).head_identity()
    role = cloud.resource(role["id"])
    has = set(role["properties"]["permissions"][0]["actions"])
    assert (
        has > actions_of("head") - {"Microsoft.Compute/virtualMachines/read"}
        and "Microsoft.Storage/storageAccounts/read" in has
    )
    before = len(cloud.world.calls)
    identity(parts).head_identity()
    assert "roleDefinitions.createOrUpdate" not in cloud.world.operations(before)


def test_a_role_that_somebody_has_made_by_hand_is_taken(cloud: AzureCloud, parts: Parts) -> None:
    guid = cloud.rights.allow(Principal("x", "x"), actions_of("head"))
    role = cloud.resource(f"providers/Microsoft.Authorization/roleDefinitions/{guid}")
    role["properties"]["roleName"] = HEAD
    id_ = identity(parts).head_identity()
    (given,) = [
        row
        for row in cloud.rights.reaching(principal(cloud, id_), group_of(parts))
        if row["id"].startswith(group_of(parts))
    ]
    assert given["properties"]["roleDefinitionId"].endswith(guid)


def test_whoever_may_give_away_the_roles_of_heads_only_can_make_a_cluster_and_no_owner(
    cloud: AzureCloud, parts: Parts
) -> None:
    identity(Parts(cloud, "first")).head_identity()  # somebody has made the roles
    makes = [
        "Microsoft.Resources/subscriptions/resourceGroups/*", "Microsoft.ManagedIdentity/userAssignedIdentities/*",
        "Microsoft.Authorization/*/read",
    ]  # fmt: skip
    bounded = cloud.rights.add("bounded", *makes)
    guids = [role_guid(name, SUBSCRIPTION) for name in ("head", "lookup")]
    assigns = actions_of("access") - {"Microsoft.Authorization/roleDefinitions/write"}
    cloud.rights.allow(bounded.principal, assigns, condition=grants_only(*guids))
    with cloud.credentials(bounded):
        ours = identity(parts)
        assert ours.head_identity()
        owner = {
            "roleDefinitionId": f"{ROOT}/providers/Microsoft.Authorization/roleDefinitions/8e3af657-a8ff-443c-a75c-2fe8c4bcb635",
            "principalId": bounded.principal.object_id, "principalType": "ServicePrincipal",
        }  # fmt: skip
        path = f"{ROOT}/providers/Microsoft.Authorization/roleAssignments/{uuid.uuid4()}"
        with pytest.raises(AuthFailed, match="ABAC condition"):
            Calls(parts.settings).change("PUT", path, "becoming an owner", {"properties": owner})
        assert ours.sweep() == []


# ------------------------------------------------------------ and removed


def test_down_removes_identities_and_their_roles_and_leaves_those_of_other_clusters(
    cloud: AzureCloud, parts: Parts
) -> None:
    network = parts.make_network("v", {"name": "s", "addressPrefix": "10.50.1.0/24"})
    other = Parts(cloud, "other")
    kept = identity(other, network=network).head_identity()
    before = roles(cloud, kept)
    ours = identity(parts, worker_identity="auto", network=network)
    ours.renew()
    assert ours.clusters() == sorted([("demo", parts.uid), ("other", other.uid)])
    assert ours.sweep() == [] and identity(parts).sweep() == []
    assert roles(cloud, kept) == before and cloud.rights.orphans() == []
    assert list(cloud.tokens.identities) == [kept.lower()]
    assert identity(other, network=network).sweep() == []
    left = [id_ for id_ in cloud.leftovers() if "/roleAssignments/" in id_ or "/userAssignedIdentities/" in id_]
    assert left == []


def test_roles_of_an_identity_that_somebody_has_deleted_are_found_and_removed(cloud: AzureCloud, parts: Parts) -> None:
    id_ = identity(parts).head_identity()
    parts.calls.run("DELETE", id_, "deleting it behind our back")
    assert len(cloud.rights.orphans()) == 2
    assert identity(parts).clusters() == [("demo", parts.uid)]
    assert identity(parts).sweep() == [] and cloud.rights.orphans() == []
    assert identity(parts).clusters() == []


def test_a_cluster_of_another_region_is_no_leftover_of_this_one(cloud: AzureCloud, parts: Parts) -> None:
    identity(parts).head_identity()
    assert identity(parts, region="westeurope").clusters() == []


def test_clusters_are_found_on_every_page(cloud: AzureCloud, parts: Parts) -> None:
    cloud.world.page_size = 1
    others = [Parts(cloud, f"c{n}") for n in range(3)]
    for one in others:
        identity(one).head_identity()
    assert identity(parts).clusters() == sorted((one.cluster, one.uid) for one in others)


def test_removal_that_stops_anywhere_is_finished_by_the_next(cloud: AzureCloud, parts: Parts) -> None:
    identity(parts, worker_identity="auto").renew()
    for step in (
        "Microsoft.Authorization/roleAssignments/delete",
        "Microsoft.ManagedIdentity/userAssignedIdentities/delete",
    ):
        cloud.world.denied = {step}
        with pytest.raises(AuthFailed, match=step):
            identity(parts, worker_identity="auto").sweep()
    cloud.world.denied = set()
    cloud.fault("userAssignedIdentities.delete", "lost", status=503)
    for _ in range(2):
        waiting = identity(parts).sweep()
    assert waiting == [] and cloud.rights.orphans() == [] and cloud.tokens.identities == {}


def test_who_may_look_at_roles_in_his_group_only_takes_them_away_there(cloud: AzureCloud, parts: Parts) -> None:
    identity(parts).head_identity()
    narrow = cloud.rights.add("narrow", "*", scope=group_of(parts))
    with cloud.credentials(narrow):
        assert identity(parts).sweep() == []
    (left,) = cloud.rights.orphans()
    assert left.startswith(f"{ROOT}/providers/")


def test_who_may_not_look_at_identities_needs_them_only_where_we_make_some(cloud: AzureCloud, parts: Parts) -> None:
    cloud.world.denied = {
        "Microsoft.ManagedIdentity/userAssignedIdentities/read", "Microsoft.Authorization/roleAssignments/read",
    }  # fmt: skip
    assert identity(parts, identity="/subscriptions/1/x").sweep() == []
    assert identity(parts, head_address="10.0.0.5").sweep() == []
    assert identity(parts).clusters() == []
    with pytest.raises(AuthFailed, match="userAssignedIdentities/read"):
        identity(parts).sweep()


def test_the_name_of_an_identity_is_one_that_azure_takes(cloud: AzureCloud) -> None:
    parts = Parts(cloud, "c" * 120)
    for kind in ("head", "worker"):
        assert 3 <= len(identity(parts).id_of(kind).rpartition("/")[2]) <= 128
