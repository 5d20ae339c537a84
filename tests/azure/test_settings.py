"""The settings of `provider: azure`: what Azure takes is taken, whatever way it is written."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from clusterctl.spec.faults import SpecError
from clusterctl.spec.load import parse_spec
from clusterctl.spec.providers import azure_names
from clusterctl.spec.providers.azure import KIND, AzureSettings

SUBSCRIPTION = "0A1b2c3d-0000-4000-8000-00000000abcd"
GROUP = f"/subscriptions/{SUBSCRIPTION}/resourceGroups/shared"
NETWORK = f"{GROUP}/providers/Microsoft.Network/virtualNetworks/hub"


def settings(**given: Any) -> AzureSettings:
    return AzureSettings.model_validate({"region": "eastus", **given})


def refused(**given: Any) -> str:
    with pytest.raises(ValidationError) as caught:
        settings(**given)
    return str(caught.value)


@pytest.mark.parametrize(
    "given",
    [
        {"region": "westus3"},
        {"region": "usgovvirginia"},
        {"subscription": SUBSCRIPTION},
        {"tenant": SUBSCRIPTION},
        {"tenant": "contoso.onmicrosoft.com"},
        {"resource_group": "Rechnen_(test).für-alle"},
        {"resource_group": "g", "network": "my-net", "subnet": "nodes"},
        {"network": NETWORK},
        {"network": NETWORK, "subnet": "nodes"},
        {"subnet": f"{NETWORK}/subnets/nodes"},
        {"network": NETWORK.lower(), "subnet": f"{NETWORK}/subnets/nodes"},
        {"resource_group": "SHARED", "network": "HUB", "subnet": f"{NETWORK}/subnets/nodes"},
        {"subscription": SUBSCRIPTION.lower(), "subnet": f"{NETWORK}/subnets/nodes"},
        {"security_group": f"{GROUP}/providers/microsoft.network/networksecuritygroups/nodes"},
        {"address_space": "172.20.0.0/14"},
        {"outbound": "public"},
        {"outbound": "none"},
        {"outbound": "none", "reach": "private", "network": NETWORK},
        {"disk_type": "StandardSSD_ZRS"},
        {"disk_encryption_set": f"{GROUP}/providers/Microsoft.Compute/diskEncryptionSets/disks_1"},
        {"max_price": 0.75},
        {"max_price": -1},
        {"identity": f"{GROUP}/providers/Microsoft.ManagedIdentity/userAssignedIdentities/ray-head"},
        {"worker_identity": "auto"},
        {"resource_group": "g", "worker_identity": "ray_worker"},
        {"reach": "bastion", "network": NETWORK},
        {"reach": "bastion", "network": NETWORK, "bastion": f"{GROUP}/providers/Microsoft.Network/bastionHosts/hub"},
        {"tags": {"cost center": "https://example.com/?a=1&b=2", "größe": "50 m²"}},
    ],
    ids=str,
)  # fmt: skip
def test_what_azure_takes_is_taken(given: dict[str, Any]) -> None:
    assert settings(**given)


def test_a_network_of_another_group_is_not_the_one_of_that_name() -> None:
    words = refused(resource_group="mine", network="hub", subnet=f"{NETWORK}/subnets/nodes")
    assert "another network" in words


def test_identities_and_bastions_may_be_in_other_subscriptions() -> None:
    elsewhere = "/subscriptions/00000000-0000-4000-8000-000000000002/resourceGroups/ids/providers/"
    identity = f"{elsewhere}Microsoft.ManagedIdentity/userAssignedIdentities/ray-head"
    assert settings(subscription=SUBSCRIPTION, identity=identity).identity == identity


@pytest.mark.parametrize("name", ["GatewaySubnet", f"{NETWORK}/subnets/azurebastionsubnet"])
def test_a_subnet_for_gateways_takes_no_machines(name: str) -> None:
    assert "no subnet for machines" in refused(network=NETWORK, subnet=name)


def test_tags_leave_room_for_ours_on_a_virtual_machine() -> None:
    assert settings(tags={f"key{number}": "v" * 200 for number in range(5)})
    assert "too long" in refused(tags={f"key{number}": "v" * 209 for number in range(5)})


def test_ids_tell_their_subscription_and_names_do_not() -> None:
    assert azure_names.subscription_in(NETWORK) == SUBSCRIPTION.lower()
    assert azure_names.subscription_in("hub") == ""
    assert azure_names.network_in(f"{NETWORK}/Subnets/nodes") == NETWORK
    assert azure_names.network_in("nodes") == ""


@pytest.mark.parametrize("user", ["root", "Admin", "test2"])
def test_a_login_that_azure_gives_no_machine_is_refused_with_its_place(user: str) -> None:
    text = (
        f"cluster: a\nprovider: {{azure: {{region: eastus}}}}\nauth: {{user: {user}}}\npools: [{{name: x, gpu: {{}}}}]"
    )
    with pytest.raises(SpecError, match=rf"3:14: Azure makes no user '{user}'"):
        parse_spec(text)
    assert parse_spec(text.replace(user, "rayuser")).auth.user == "rayuser"


def test_what_is_the_clients_alone_does_not_go_to_a_head() -> None:
    assert KIND.cloud is not None
    assert KIND.cloud.here_only == {"ssh_from", "tenant", "bastion"}
