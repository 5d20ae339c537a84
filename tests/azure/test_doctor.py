"""`doctor` names each action that is missing, and no other; and what else stands in the way of a cluster."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
from clusterctl_providers.azure.calls import Calls
from clusterctl_providers.azure.doctor import OPTIONAL, USUAL, examine
from clusterctl_providers.azure.market.quotas import Limits, limit_rows
from clusterctl_providers.azure.market.skus import Skus
from clusterctl_providers.azure.roles import actions_of, role_name
from clusterctl_providers.cloud.quotas import Quotas

from tests.cloud.azure import policies
from tests.cloud.azure.assignments import ROOT
from tests.cloud.azure.cloud import AzureCloud
from tests.cloud.azure.world import REGION, SUBSCRIPTION

NEEDED = (actions_of("client") | actions_of("access")) - OPTIONAL
LOOKS = actions_of("lookup") | {"Microsoft.Authorization/permissions/read", "Microsoft.Resources/subscriptions/read"}
FEATURES = f"{ROOT}/providers/Microsoft.Features/featureProviders/Microsoft.Compute/subscriptionFeatureRegistrations"
FEATURE = f"{FEATURES}/EncryptionAtHost"
NO_GATEWAYS = {"listOfResourceTypesNotAllowed": ["Microsoft.Network/natGateways"]}
PERMISSION = "permission "
Rows = list[tuple[str, bool, str]]


def rows(cloud: AzureCloud, wanted: Sequence[tuple[str, str]] = USUAL[:1], **settings: Any) -> Rows:
    given = {
        "subscription": SUBSCRIPTION,
        "region": REGION,
        "endpoint_url": cloud.url,
        "calls_per_second": 500.0,
        **settings,
    }
    calls = Calls(given, pause=lambda _: None)
    skus = Skus(calls)
    makes = not given.get("identity") and not given.get("head_address")

    def quotas() -> Rows:
        return limit_rows(Quotas(Limits(calls)), wanted, calls, skus)

    return examine(calls, given, skus, wanted, quotas, identities=makes or given.get("worker_identity") == "auto")


def failed(found: Sequence[tuple[str, bool, str]]) -> dict[str, str]:
    return {what: fix for what, ok, fix in found if not ok}


def lacking(found: Sequence[tuple[str, bool, str]]) -> set[str]:
    return {what.removeprefix(PERMISSION) for what in failed(found)}


def test_all_that_the_roles_allow_is_asked_for(cloud: AzureCloud) -> None:
    found = rows(cloud)
    assert failed(found) == {}
    asked = {what.removeprefix(PERMISSION) for what, _, _ in found if what.startswith(PERMISSION)}
    assert asked == {f"{action} in {ROOT}" for action in NEEDED}
    assert found[0][0] == f"Azure knows us as admin in the subscription clusterctl test ({SUBSCRIPTION}), {REGION}"


def test_each_missing_action_is_named_alone_with_the_role_that_has_it(cloud: AzureCloud) -> None:
    for action in sorted(NEEDED - {"Microsoft.Resources/subscriptions/read", "Microsoft.Compute/skus/read"}):
        cloud.world.denied = {action}
        found = failed(rows(cloud))
        assert list(found) == [f"{PERMISSION}{action} in {ROOT}"], found
        (fix,) = found.values()
        role = next(name for name in ("client", "access", "lookup") if action in actions_of(name))
        assert f"--role '{role_name(role, SUBSCRIPTION)}' --scope {ROOT}" in fix
        assert f"--assignee {cloud.admin.principal.object_id}" in fix
    cloud.world.denied = set(OPTIONAL) - {"Microsoft.Authorization/permissions/read"}
    assert failed(rows(cloud)) == {}


@pytest.mark.parametrize("names", [("client", "access"), ("client",)])
def test_the_roles_as_they_are_printed_satisfy_doctor(cloud: AzureCloud, names: Sequence[str]) -> None:
    """With identities of one's own, `client` is enough."""
    actions = frozenset[str]().union(*map(actions_of, names))
    theirs = f"{ROOT}/resourceGroups/o/providers/Microsoft.ManagedIdentity/userAssignedIdentities/mine"
    given = {} if "access" in names else {"identity": theirs}
    with cloud.credentials(cloud.rights.add("who", *actions)):
        assert failed(rows(cloud, **given)) == {}


def test_wildcards_and_exceptions_of_ones_roles_are_read(cloud: AzureCloud) -> None:
    contributor = cloud.rights.add("contributor")
    cloud.rights.give(contributor.principal, "b24988ac-6180-42a0-ab88-20f7382dd24c")
    with cloud.credentials(contributor):
        found = lacking(rows(cloud))
    changing = {action for action in actions_of("access") if not action.endswith("/read")}
    assert found == {f"{action} in {ROOT}" for action in changing}, "a contributor may give no roles away"


def test_with_a_group_of_the_users_actions_are_asked_for_there(cloud: AzureCloud) -> None:
    cloud.store.put(group("corp"))
    where = f"{ROOT}/resourceGroups/corp"
    somebody = cloud.rights.add("somebody", *NEEDED, scope=where)
    with cloud.credentials(somebody):
        cloud.rights.allow(somebody.principal, LOOKS)
        assert failed(rows(cloud, resource_group="corp")) == {}
        found = lacking(rows(cloud))
        assert f"Microsoft.Compute/virtualMachines/write in {ROOT}" in found
        (what,) = failed(rows(cloud, resource_group="none"))
        assert what == f"way to look permissions up in {ROOT}/resourceGroups/none"


def test_a_network_elsewhere_is_asked_for_there_and_only_to_be_joined(cloud: AzureCloud) -> None:
    for name in ("corp", "net"):
        cloud.store.put(group(name))
    network = f"{ROOT}/resourceGroups/net/providers/Microsoft.Network/virtualNetworks/v"
    somebody = cloud.rights.add("somebody", *NEEDED, scope=f"{ROOT}/resourceGroups/corp")
    cloud.rights.allow(somebody.principal, LOOKS)
    with cloud.credentials(somebody):
        found = lacking(rows(cloud, resource_group="corp", subnet=f"{network}/subnets/s"))
        join = f"Microsoft.Network/virtualNetworks/subnets/join/action in {network}"
        assert join in found and not any(one.split(" in ")[0].endswith("/write") for one in found)
        assert {one.split(" in ")[1] for one in found} == {network}
        cloud.rights.allow(somebody.principal, {one.split(" in ")[0] for one in found}, network)
        assert failed(rows(cloud, resource_group="corp", subnet=f"{network}/subnets/s")) == {}


def test_what_a_way_to_the_head_needs_is_in_a_role_of_its_own(cloud: AzureCloud) -> None:
    with cloud.credentials(cloud.rights.add("who", *actions_of("client"), *actions_of("access"))):
        found = rows(cloud, reach="bastion")
    extra = actions_of("bastion") - actions_of("client")
    assert lacking(found) == {f"{action} in {ROOT}" for action in extra} and extra
    assert all(role_name("bastion", SUBSCRIPTION) in fix for fix in failed(found).values())


# ------------------------------------------------------------ the subscription


@pytest.mark.parametrize("name", ["Microsoft.Compute", "Microsoft.Network", "Microsoft.ManagedIdentity"])
def test_a_provider_that_is_not_registered_is_told_with_the_command(cloud: AzureCloud, name: str) -> None:
    cloud.world.unregistered = {name}
    found = failed(rows(cloud))
    assert (
        f"`az provider register --namespace {name} --subscription {SUBSCRIPTION}`"
        in found[f"provider {name} registered"]
    )
    if name == "Microsoft.ManagedIdentity":
        assert failed(rows(cloud, identity="/subscriptions/1/x")) == {}, "it is not needed then"


def test_a_subscription_that_is_disabled_is_told(cloud: AzureCloud) -> None:
    cloud.world.subscription_state = "Disabled"
    assert "subscription that is enabled (it is Disabled)" in failed(rows(cloud))


def test_spot_machines_are_told_where_azure_sells_none_to_that_kind_of_subscription(
    cloud: AzureCloud, monkeypatch: pytest.MonkeyPatch
) -> None:
    spot = [("Standard_D2s_v5", "spot")]
    assert failed(rows(cloud, spot)) == {}
    real = cloud.services.handlers["subscriptions.get"]
    free = {"quotaId": "FreeTrial_2014-09-01", "spendingLimit": "On"}
    monkeypatch.setitem(
        cloud.services.handlers, "subscriptions.get", lambda call: {**real(call), "subscriptionPolicies": free}
    )
    assert "FreeTrial_2014-09-01" in failed(rows(cloud, spot))["spot machines for this subscription"]
    assert failed(rows(cloud)) == {}


def test_a_feature_that_is_not_registered_is_told_where_the_spec_needs_it(cloud: AzureCloud) -> None:
    name, wanted = "feature Microsoft.Compute/EncryptionAtHost", {"encryption_at_host": True}
    command = "`az feature register --namespace Microsoft.Compute --name EncryptionAtHost`"
    assert command in failed(rows(cloud, **wanted))[name] and failed(rows(cloud)) == {}
    cloud.store.put({"id": FEATURE, "name": "EncryptionAtHost", "type": "x", "properties": {"state": "Registered"}})
    assert failed(rows(cloud, **wanted)) == {}


# ------------------------------------------------------------ what is in the way


@pytest.mark.parametrize("level", ["CanNotDelete", "ReadOnly"])
def test_a_lock_over_the_cluster_is_told_before_its_nodes_cannot_be_ended(cloud: AzureCloud, level: str) -> None:
    for name in ("corp", "other"):
        cloud.store.put(group(name))
    id_ = lock(cloud, f"{ROOT}/resourceGroups/corp", level)
    assert failed(rows(cloud)) == {} and failed(rows(cloud, resource_group="other")) == {}
    ((what, fix),) = failed(rows(cloud, resource_group="corp")).items()
    assert what == f"lock 'keep' ({level}) on {ROOT}/resourceGroups/corp" and f"az lock delete --ids {id_}" in fix
    lock(cloud, ROOT, level)
    assert len(failed(rows(cloud))) == 1 and len(failed(rows(cloud, resource_group="corp"))) == 2


@pytest.mark.parametrize(
    ("definition", "parameters", "settings", "said"),
    [
        (policies.LOCATIONS, {"listOfAllowedLocations": ["West Europe"]}, {}, "westeurope"),
        (policies.LOCATIONS, {"listOfAllowedLocations": ["eastus"]}, {}, ""),
        (policies.GROUP_LOCATIONS, {"listOfAllowedLocations": ["westeurope"]}, {}, "write one of its regions"),
        (policies.SIZES, {"listOfAllowedSKUs": ["Standard_D4s_v5"]}, {}, "it does not allow Standard_D2s_v5"),
        (policies.SIZES, {"listOfAllowedSKUs": ["standard_d2s_v5"]}, {}, ""),
        (policies.TYPES, {"listOfResourceTypesAllowed": ["Microsoft.Compute/virtualMachines"]}, {}, "not allow Microsoft."),
        (policies.NO_TYPES, NO_GATEWAYS, {}, "Microsoft.Network/natGateways"),
        (policies.NO_TYPES, NO_GATEWAYS, {"outbound": "none"}, ""),
        (policies.NO_PUBLIC, {}, {}, "`reach: private`"),
        (policies.NO_PUBLIC, {}, {"reach": "private"}, ""),
        (policies.TAG, {"tagName": "CostCenter"}, {}, "write the tag 'CostCenter'"),
        (policies.TAG, {"tagName": "CostCenter"}, {"tags": {"costcenter": "1"}}, ""),
        ("some-definition-of-theirs", {}, {}, ""),
    ],
)  # fmt: skip
def test_a_policy_is_told_where_it_stands_in_the_way(
    cloud: AzureCloud, definition: str, parameters: dict[str, Any], settings: dict[str, Any], said: str
) -> None:
    row = cloud.policies.assign("Ours", definition, **parameters)
    found = failed(rows(cloud, **settings))
    assert list(found) == (["policy 'Ours' that lets clusters be"] if said else [])
    assert said in "".join(found.values()) and (not said or row["id"] in "".join(found.values()))
    row["properties"]["enforcementMode"] = "DoNotEnforce"
    assert failed(rows(cloud, **settings)) == {}


def test_a_policy_within_an_initiative_is_told_too(cloud: AzureCloud) -> None:
    inner = (policies.LOCATIONS, {"listOfAllowedLocations": "[parameters('where')]"})
    cloud.policies.assign("Base", cloud.policies.add_set("base", inner, where=["westeurope"]))
    assert list(failed(rows(cloud))) == ["policy 'Base' that lets clusters be"]
    cloud.policies.assign("Base", cloud.policies.add_set("base", inner, where=["westeurope"]), where=["eastus"])
    assert failed(rows(cloud)) == {}


def test_a_policy_that_leaves_the_group_out_is_not_in_its_way(cloud: AzureCloud) -> None:
    cloud.store.put(group("corp"))
    row = cloud.policies.assign("Ours", policies.NO_PUBLIC)
    row["properties"]["notScopes"] = [f"{ROOT}/resourceGroups/corp"]
    assert failed(rows(cloud, resource_group="corp")) == {} and len(failed(rows(cloud))) == 1


def test_sizes_are_told_that_are_not_sold_there_or_not_to_this_subscription(cloud: AzureCloud) -> None:
    wanted = [("Standard_D2s_v5", "on-demand"), ("Standard_D4s_v5", "on-demand"), ("Standard_D8s_v5", "spot")]
    assert [what for what, _, _ in rows(cloud, wanted) if what.startswith("size ")] == [
        f"size {size} ({market}) in {REGION}" for size, market in wanted
    ]
    cloud.world.restricted = {"Standard_D2s_v5"}
    cloud.world.sells = lambda name, zone: name != "Standard_D4s_v5"
    found = failed(rows(cloud, wanted))
    assert "NotAvailableForSubscription" in found[f"size Standard_D2s_v5 (on-demand) in {REGION}"]
    assert f"`az vm list-skus --location {REGION}`" in found[f"size Standard_D4s_v5 (on-demand) in {REGION}"]
    assert len(found) == 2


def test_nothing_more_is_asked_with_credentials_that_azure_does_not_take(cloud: AzureCloud) -> None:
    cloud.world.lapsed = True
    ((what, ok, fix),) = rows(cloud)
    assert what == "credentials that Azure accepts" and not ok and "AADSTS7000222" in fix


def test_a_subscription_that_is_not_there_is_told_and_not_more(cloud: AzureCloud) -> None:
    ((_, ok, fix),) = rows(cloud, subscription="00000000-1111-2222-3333-444444444444")
    assert not ok and "00000000-1111" in fix and "`az account list`" in fix


def test_doctor_changes_nothing(cloud: AzureCloud) -> None:
    rows(cloud)
    assert all(action.endswith("/read") for action in cloud.world.actions()) and cloud.leftovers() == []


# ------------------------------------------------------------ parts


def group(name: str) -> dict[str, Any]:
    return {"id": f"{ROOT}/resourceGroups/{name}", "name": name, "type": "Microsoft.Resources/resourceGroups",
            "location": REGION, "tags": {}, "properties": {"provisioningState": "Succeeded"}}  # fmt: skip


def lock(cloud: AzureCloud, scope: str, level: str) -> str:
    id_ = f"{scope}/providers/Microsoft.Authorization/locks/keep"
    cloud.store.put(
        {"id": id_, "name": "keep", "type": "Microsoft.Authorization/locks", "properties": {"level": level}}
    )
    return id_
