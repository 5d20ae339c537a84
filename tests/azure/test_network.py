"""Where a cluster's machines are: in a network of its own, with a way out and rules, or in the user's, which stays as it is."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from clusterctl_providers.azure.network import rules
from clusterctl_providers.azure.network.network import Network
from clusterctl_providers.base import HeadMachine

from clusterctl.core.errors import AuthFailed, BadRequest, ProviderError
from tests.azure.parts import Parts
from tests.cloud.azure.cloud import AzureCloud
from tests.cloud.azure.world import REGION


@pytest.fixture
def parts(cloud: AzureCloud) -> Parts:
    return Parts(cloud)


def sources(parts: Parts) -> list[str]:
    """Who gets to port 22."""
    return list(parts.rules().get("ssh", {}).get("sourceAddressPrefixes") or ())


# ------------------------------------------------------------ a network of its own


def test_a_cluster_has_a_network_of_its_own_with_one_subnet_and_a_nat_gateway(parts: Parts) -> None:
    network = parts.network(["192.0.2.7"])
    card = network.card()
    (made,) = parts.rows("Microsoft.Network/virtualNetworks")
    assert made["properties"]["addressSpace"] == {"addressPrefixes": ["10.224.0.0/16"]}
    (subnet,) = made["properties"]["subnets"]
    assert subnet["id"].lower() == card.subnet.lower() and subnet["properties"]["defaultOutboundAccess"] is False
    (gateway,) = parts.rows("Microsoft.Network/natGateways")
    assert subnet["properties"]["natGateway"]["id"] == gateway["id"]
    (address,) = parts.rows("Microsoft.Network/publicIPAddresses")
    assert gateway["properties"]["publicIpAddresses"] == [{"id": address["id"]}]
    assert not card.public and len(card.groups) == 1
    for row in (made, gateway, address):
        assert row["tags"] == {"clusterctl-cluster": "demo", "clusterctl-uid": parts.uid}, row["id"]
    since = len(parts.cloud.world.calls)
    assert parts.network().card() == card and parts.changes(since) == [], "another process finds it as it is"
    assert network.remove_group() and parts.network().remove_group() == [] and parts.cloud.leftovers() == []


def test_with_outbound_public_there_is_no_gateway_and_one_from_before_is_removed(parts: Parts) -> None:
    parts.network(["192.0.2.7"]).card()
    assert parts.network(outbound="public").card().public
    assert parts.rows("Microsoft.Network/natGateways") == [] == parts.rows("Microsoft.Network/publicIPAddresses")
    (made,) = parts.rows("Microsoft.Network/virtualNetworks")
    (subnet,) = made["properties"]["subnets"]
    assert "natGateway" not in subnet["properties"] and subnet["properties"]["defaultOutboundAccess"] is False
    assert not parts.network(outbound="none").card().public
    parts.network(outbound="nat").card()
    assert len(parts.rows("Microsoft.Network/natGateways")) == 1


def test_the_address_space_is_the_users_to_choose(parts: Parts) -> None:
    parts.network(["vpc"], address_space="10.9.0.0/20").card()
    (made,) = parts.rows("Microsoft.Network/virtualNetworks")
    assert made["properties"]["subnets"][0]["properties"]["addressPrefix"] == "10.9.0.0/20"
    assert sources(parts) == ["10.9.0.0/20"]


# ------------------------------------------------------------ who gets in


def test_nodes_reach_each_other_port_22_of_the_head_is_open_to_those_named_and_the_rest_of_the_network_is_shut_out(
    parts: Parts,
) -> None:
    network = parts.network(["192.0.2.7", "198.51.100.0/24"])
    network.ensure()
    found = parts.rules()
    nodes, head = ([{"id": group}] for group in network.rules.members(head=True))
    assert set(found) == {"inside", "ssh", "shut"}
    assert found["inside"]["sourceApplicationSecurityGroups"] == nodes
    assert found["inside"]["destinationApplicationSecurityGroups"] == nodes
    assert found["ssh"]["sourceAddressPrefixes"] == ["192.0.2.7/32", "198.51.100.0/24"]
    assert found["ssh"]["destinationApplicationSecurityGroups"] == head
    assert (found["ssh"]["protocol"], found["ssh"]["destinationPortRange"]) == ("Tcp", "22")
    assert (found["shut"]["access"], found["shut"]["sourceAddressPrefix"]) == ("Deny", "VirtualNetwork")
    assert found["inside"]["priority"] < found["shut"]["priority"] < 65000, "Azure's own let the whole network in"


def test_the_heads_port_is_open_to_whom_the_spec_says_and_to_nobody_once_it_does_not(parts: Parts) -> None:
    network = parts.network(head=HeadMachine(public=True, port=7420, open_to=("0.0.0.0/0", "::/0")))
    network.renew_access()
    opened = parts.rules()["agents"]
    assert opened["sourceAddressPrefixes"] == ["0.0.0.0/0"], "a head on Azure has an IPv4 address alone"
    assert opened["destinationPortRange"] == "7420" and opened["access"] == "Allow"
    (member,) = opened["destinationApplicationSecurityGroups"]
    assert member["id"] == network.rules.members(head=True)[1], "the head, and no worker"
    parts.network().renew_access()
    assert "agents" in parts.rules(), "who has no head's machine to launch leaves it as it is"
    parts.network(head=HeadMachine(public=True, port=7420, open_to=("203.0.113.0/24",))).renew_access()
    assert parts.rules()["agents"]["sourceAddressPrefixes"] == ["203.0.113.0/24"]
    parts.network(head=HeadMachine(public=True, port=7420)).renew_access()
    assert "agents" not in parts.rules()


def test_a_machine_whose_address_changed_is_let_in_and_its_former_address_is_not(
    parts: Parts, monkeypatch: pytest.MonkeyPatch
) -> None:
    for address in ("203.0.113.5", "203.0.113.99"):
        monkeypatch.setattr(rules, "own_address", lambda address=address: address)
        parts.network(["me"]).renew_access()
    assert sources(parts) == ["203.0.113.99/32"]
    since = len(parts.cloud.world.calls)
    parts.network(["me"]).renew_access()
    assert parts.changes(since) == []
    parts.network([]).renew_access()
    assert set(parts.rules()) == {"inside", "shut"}


def test_a_head_neither_opens_nor_closes_port_22_and_needs_no_right_to(parts: Parts) -> None:
    parts.network(["192.0.2.7"]).card()
    parts.cloud.world.denied = {
        f"Microsoft.Network/{kind}/write"
        for kind in ("networkSecurityGroups", "virtualNetworks", "natGateways", "applicationSecurityGroups")
    }
    assert parts.network().card().groups
    parts.cloud.world.denied = set()
    assert sources(parts) == ["192.0.2.7/32"]


def test_what_is_no_address_or_one_of_ipv6_is_told_before_anything_is_opened(parts: Parts) -> None:
    with pytest.raises(BadRequest, match="no address, no network"):
        parts.network(["everywhere"]).renew_access()
    with pytest.raises(
        BadRequest, match=r"`ssh_from` has 2001:db8::7/128, and the machines .* have IPv4 addresses alone"
    ):
        parts.network(["2001:db8::7"]).renew_access()
    assert parts.rows("Microsoft.Network/networkSecurityGroups") == []


def test_rules_that_somebody_deleted_or_changed_are_put_right_and_those_that_somebody_added_stay(parts: Parts) -> None:
    network = parts.network(["192.0.2.7"])
    network.ensure()
    (group,) = parts.rows("Microsoft.Network/networkSecurityGroups")
    ssh = next(r for r in group["properties"]["securityRules"] if r["name"] == rules.SSH)
    opened = {k: v for k, v in ssh["properties"].items() if k not in ("provisioningState", "sourceAddressPrefixes")}
    extra = {**opened, "destinationPortRange": "8443", "priority": 300, "sourceAddressPrefix": "10.0.0.0/8"}
    for name, properties in ((rules.SSH, {**opened, "sourceAddressPrefix": "*"}), ("mine", extra)):
        path = f"{group['id']}/securityRules/{name}"
        parts.calls.run("PUT", path, "changing", {"properties": properties})
    parts.calls.run("DELETE", f"{group['id']}/securityRules/{rules.INSIDE}", "deleting")
    network.ensure()
    assert set(parts.rules()) == {"ssh", "shut", "mine"}, "it was looked for a moment ago"
    parts.now += rules.LAST + 1
    network.ensure()
    found = parts.rules()
    assert set(found) == {"inside", "ssh", "shut", "mine"} and sources(parts) == ["192.0.2.7/32"]
    assert "sourceAddressPrefix" not in found["ssh"] and found["mine"]["destinationPortRange"] == "8443"


def test_what_another_process_writes_at_the_same_time_is_not_lost(parts: Parts) -> None:
    parts.network(["192.0.2.7"]).renew_access()
    (group,) = parts.rows("Microsoft.Network/networkSecurityGroups")
    network, tries = parts.network(["192.0.2.9"]), list[str]()
    run = network.rules._calls.run

    def slow(method: str, path: str, *given: Any, **more: Any) -> dict[str, Any]:
        if not tries and path == group["id"]:
            tries.append(path)
            extra = {
                "protocol": "Tcp", "sourcePortRange": "*", "destinationPortRange": "8443", "sourceAddressPrefix": "10.0.0.0/8",
                "destinationAddressPrefix": "*", "access": "Allow", "priority": 300, "direction": "Inbound",
            }  # fmt: skip
            parts.calls.run("PUT", f"{path}/securityRules/mine", "adding", {"properties": extra})
        return run(method, path, *given, **more)

    network.rules._calls.run = slow  # type: ignore[method-assign]
    network.renew_access()
    assert set(parts.rules()) == {"inside", "ssh", "shut", "mine"} and sources(parts) == ["192.0.2.9/32"]


def test_a_security_group_of_the_users_stands_in_place_of_rules_of_ours(parts: Parts) -> None:
    given = parts.make("Microsoft.Network/networkSecurityGroups/corp-rules", {"properties": {}})
    network = parts.network(["192.0.2.7"], security_group=given)
    card = network.card()
    assert card.security_group == given and card.groups == ()
    network.renew_access()
    assert parts.rules() == {} and parts.rows("Microsoft.Network/applicationSecurityGroups") == []
    with pytest.raises(BadRequest, match=r"there is no network security group .*/nobodys: mend `security_group`"):
        parts.network(security_group=given.replace("corp-rules", "nobodys")).card()


def test_a_head_that_may_make_no_rule_names_the_action_that_it_lacks(parts: Parts) -> None:
    parts.cloud.world.denied = {"Microsoft.Network/networkSecurityGroups/write"}
    with pytest.raises(
        AuthFailed, match=r"making the network security group .*Microsoft\.Network/networkSecurityGroups/write"
    ):
        parts.network(["192.0.2.7"]).ensure()


# ------------------------------------------------------------ a network of the user's


SUBNETS = (
    {"name": "small", "addressPrefix": "10.50.0.0/29"},
    {"name": "large", "addressPrefix": "10.50.16.0/20"},
    {"name": "apps", "addressPrefix": "10.50.32.0/20", "delegations": [
        {"name": "d", "properties": {"serviceName": "Microsoft.Web/serverFarms"}}]},
    {"name": "AzureBastionSubnet", "addressPrefix": "10.50.64.0/18"},
)  # fmt: skip


def test_of_a_given_network_the_largest_subnet_that_is_for_machines_is_taken_or_the_one_that_is_named(
    parts: Parts,
) -> None:
    given = parts.make_network("corp", *SUBNETS)
    since = len(parts.cloud.world.calls)
    assert parts.network(network=given).subnet().id == f"{given}/subnets/large"
    assert parts.network(network="corp", resource_group="corp").subnet().id == f"{given}/subnets/large"
    assert parts.network(network=given, subnet="small").subnet().id == f"{given}/subnets/small"
    assert parts.network(subnet=f"{given}/subnets/small").subnet().network == given
    assert not [name for name in parts.changes(since) if not name.startswith("resourceGroups")], (
        "nothing of it is changed"
    )
    assert parts.network(network=given).outbound == "none"
    parts.make_network("other", *SUBNETS, {"name": "default", "addressPrefix": "10.50.128.0/24"})
    assert parts.network(network="other", resource_group="corp").subnet().id.endswith("/default")


@pytest.mark.parametrize(
    ("subnet", "says"),
    [
        ("apps", "is delegated to Microsoft.Web/serverFarms, which puts its own machines there"),
        ("AzureBastionSubnet", "is for what Azure puts there itself"),
        ("nobodys", r"has no subnet 'nobodys' \(it has AzureBastionSubnet, apps, large, small\): mend `subnet`"),
    ],
)
def test_a_subnet_that_takes_no_machines_is_refused_by_name(parts: Parts, subnet: str, says: str) -> None:
    given = parts.make_network("corp", *SUBNETS)
    with pytest.raises(BadRequest, match=says):
        parts.network(network=given, subnet=subnet).subnet()


def test_a_network_without_a_subnet_for_machines_is_told_with_what_each_of_them_is(parts: Parts) -> None:
    given = parts.make_network("corp", *SUBNETS[2:])
    with pytest.raises(
        BadRequest, match=r"no subnet for machines .*apps is delegated to .*AzureBastionSubnet is for what"
    ):
        parts.network(network=given).subnet()


def test_the_addresses_of_a_subnet_are_counted_and_one_without_room_is_passed_over(parts: Parts) -> None:
    given = parts.make_network(
        "corp", {"name": "full", "addressPrefix": "10.50.0.0/29"}, {"name": "roomy", "addressPrefix": "10.50.1.0/29"}
    )
    assert parts.network(network=given).subnet().id.endswith("/full")
    assert parts.network(network=given).room() == 3, "Azure keeps five of the eight"
    for number in range(3):
        address = {"subnet": {"id": f"{given}/subnets/full"}}
        entries = [{"name": "main", "properties": address}]
        parts.make(f"Microsoft.Network/networkInterfaces/n{number}", {"properties": {"ipConfigurations": entries}})
    assert parts.network(network=given, subnet="full").room() == 0
    assert parts.network(network=given).subnet().id.endswith("/roomy")
    parts.cloud.world.denied = {"Microsoft.Network/virtualNetworks/usages/read"}
    assert parts.network(network=given).room() is None, "whoever may not look does without"
    assert parts.network().room() is None


def test_of_a_given_network_the_word_vpc_is_its_ranges_and_those_of_networks_that_are_peered_with_it(
    parts: Parts,
) -> None:
    given, hub = parts.make_network("corp", *SUBNETS), parts.make_network("hub", space="10.60.0.0/16")
    peering = {"properties": {"remoteVirtualNetwork": {"id": hub}}}
    parts.calls.run("PUT", f"{given}/virtualNetworkPeerings/hub", "peering", peering)
    parts.network(["vpc"], network=given).renew_access()
    assert sources(parts) == ["10.50.0.0/16", "10.60.0.0/16"]


@pytest.mark.parametrize(
    ("settings", "ask", "says"),
    [
        ({"network": "nowhere", "resource_group": "corp"}, Network.subnet, "there is none .*; mend `network` of"),
        (
            {"region": "easteurope"},
            Network.zones,
            r"Azure has no region 'easteurope' for the subscription .*such as .*east",
        ),
        ({"resource_group": "nowhere"}, Network.subnet, "has no resource group 'nowhere': make it .*az group create"),
    ],
)
def test_what_azure_does_not_have_is_told_with_the_setting_that_names_it(
    parts: Parts, settings: dict[str, Any], ask: Callable[[Network], Any], says: str
) -> None:
    parts.make_network("corp", *SUBNETS)
    with pytest.raises(ProviderError, match=says):
        ask(parts.network(**settings))


def test_a_network_of_another_region_is_refused(parts: Parts) -> None:
    given = parts.make_network("corp", *SUBNETS, location="westeurope")
    with pytest.raises(BadRequest, match="is in westeurope, and machines in eastus need one there"):
        parts.network(network=given).subnet()


def test_a_subnet_that_azure_no_longer_knows_is_looked_for_anew(parts: Parts) -> None:
    given = parts.make_network("corp", {"name": "one", "addressPrefix": "10.50.0.0/24"})
    network = parts.network(network=given)
    assert network.subnet().id.endswith("/one")
    parts.calls.run("DELETE", f"{given}/subnets/one", "deleting")
    body = {"properties": {"addressPrefix": "10.50.1.0/24"}}
    parts.calls.run("PUT", f"{given}/subnets/two", "making", body)
    with pytest.raises(ProviderError) as gone:
        parts.calls.get(f"{given}/subnets/one", f"launching into {given}/subnets/one")
    assert not network.forget(gone.value) and network.subnet().id.endswith("/one")
    parts.now += 120
    assert network.forget(gone.value) and network.subnet().id.endswith("/two")
    assert not network.forget(BadRequest("something else"))


def test_zones_are_those_of_the_region_as_the_subscription_counts_them(parts: Parts) -> None:
    assert parts.network().zones() == ["1", "2", "3"]
    assert parts.network(region="northcentralus").zones() == [""], "it has none"


# ------------------------------------------------------------ leftovers


def test_in_a_group_of_the_users_only_what_is_ours_is_removed_and_the_group_stays(parts: Parts) -> None:
    parts.make_network("corp", *SUBNETS)
    theirs = parts.cloud.leftovers()
    network = parts.network(["192.0.2.7"], resource_group="corp")
    network.card()
    assert network.clusters() == [("demo", parts.uid)] and len(parts.cloud.leftovers()) > len(theirs)
    assert network.sweep() == [] and network.remove_group() == []
    assert parts.cloud.leftovers() == theirs


def test_what_is_in_use_waits_and_is_named(parts: Parts) -> None:
    parts.make_network("corp", *SUBNETS)
    network = parts.network(["192.0.2.7"], resource_group="corp")
    card = network.card()
    entries = [{"name": "main", "properties": {"subnet": {"id": card.subnet}}}]
    link = parts.make("Microsoft.Network/networkInterfaces/theirs", {"properties": {"ipConfigurations": entries}})
    waiting = network.sweep()
    assert any(f"virtualNetworks {network.part('network')} is still in use" in text for text in waiting), waiting
    parts.calls.run("DELETE", link, "deleting")
    assert network.sweep() == [] and network.clusters() == []


def test_names_that_grow_too_long_are_cut_and_stay_apart(cloud: AzureCloud) -> None:
    parts = Parts(cloud, "a" * 90)
    network = parts.network(["192.0.2.7"])
    network.card()
    names = {path.rpartition("/")[2] for path in cloud.leftovers() if path.count("/") < 6}
    assert len(names) >= 6 and all(len(name) <= 90 for name in names)
    assert [name for name, _ in network.clusters()] == ["a" * 90]
    assert parts.calls.region == REGION
