"""Requests by which the tests of the stand-in make things, with Microsoft's own clients."""

from __future__ import annotations

import base64
from typing import Any

import pytest
from azure.core.exceptions import HttpResponseError
from azure.mgmt.compute import ComputeManagementClient
from azure.mgmt.network import NetworkManagementClient
from azure.mgmt.resource.resources import ResourceManagementClient

from tests.cloud.azure.cloud import AzureCloud
from tests.cloud.azure.world import REGION, SUBSCRIPTION

GROUP = "g"
SUBNET = f"/subscriptions/{SUBSCRIPTION}/resourceGroups/{GROUP}/providers/Microsoft.Network/virtualNetworks/v/subnets/s"
KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIEXAMPLEONLYEXAMPLEONLYEXAMPLEONLYEXAMPLEON test"
UBUNTU = {"publisher": "Canonical", "offer": "ubuntu-24_04-lts", "sku": "server", "version": "latest"}


class Azure:
    """An administrator's clients, with a group and a network in it."""

    def __init__(self, cloud: AzureCloud, prefix: str = "10.224.0.0/16") -> None:
        self.cloud = cloud
        self.groups = cloud.client(ResourceManagementClient).resource_groups
        self.network = cloud.client(NetworkManagementClient)
        self.compute = cloud.client(ComputeManagementClient)
        self.groups.create_or_update(GROUP, {"location": REGION})
        body: Any = {
            "location": REGION,
            "properties": {
                "addressSpace": {"addressPrefixes": [prefix]},
                "subnets": [{"name": "s", "properties": {"addressPrefix": prefix}}],
            },
        }
        self.network.virtual_networks.begin_create_or_update(GROUP, "v", body).result()

    def begin(self, name: str = "n1", size: str = "Standard_D4s_v5", **more: Any) -> Any:
        return self.compute.virtual_machines.begin_create_or_update(GROUP, name, vm(name, size, **more))

    def make(self, name: str = "n1", size: str = "Standard_D4s_v5", **more: Any) -> Any:
        """The machine, which must come up."""
        return self.begin(name, size, **more).result()

    def delete(self, name: str = "n1") -> None:
        self.compute.virtual_machines.begin_delete(GROUP, name).result()

    def codes(self, name: str = "n1") -> list[str]:
        view = self.compute.virtual_machines.instance_view(GROUP, name)
        return [str(status.code) for status in view.statuses or ()]


def vm(name: str = "n1", size: str = "Standard_D4s_v5", **more: Any) -> dict[str, Any]:
    """The body of a PUT. `more`: other members of `properties`, but `zones`, `tags`, `identity` and `plan`; `papers` is what it
    runs first."""
    papers = more.pop("papers", b"")
    outer = {k: more.pop(k) for k in ("zones", "tags", "identity", "plan", "location") if k in more}
    profile: dict[str, Any] = {
        "computerName": name, "adminUsername": "ubuntu",
        "linuxConfiguration": {
            "disablePasswordAuthentication": True,
            "ssh": {"publicKeys": [{"path": "/home/ubuntu/.ssh/authorized_keys", "keyData": KEY}]},
        },
    }  # fmt: skip
    if papers:
        profile["customData"] = base64.b64encode(papers).decode()
    properties: dict[str, Any] = {
        "hardwareProfile": {"vmSize": size},
        "storageProfile": {
            "imageReference": dict(UBUNTU),
            "osDisk": {"createOption": "FromImage", "name": name, "deleteOption": "Delete"},
        },
        "osProfile": profile,
        "networkProfile": {"networkApiVersion": "2022-11-01", "networkInterfaceConfigurations": [card(name)]},
        **more,
    }
    return {"location": REGION, "properties": properties, **outer}


def card(name: str, public: bool = False) -> dict[str, Any]:
    """A network interface that a machine makes for itself."""
    inner: dict[str, Any] = {"subnet": {"id": SUBNET}}
    if public:
        inner["publicIPAddressConfiguration"] = {"name": name, "properties": {"deleteOption": "Delete"}}
    configuration = {"name": "main", "properties": inner}
    return {
        "name": name,
        "properties": {"primary": True, "deleteOption": "Delete", "ipConfigurations": [configuration]},
    }


SPOT = {"priority": "Spot", "evictionPolicy": "Delete", "billingProfile": {"maxPrice": -1.0}}


def code(error: pytest.ExceptionInfo[HttpResponseError]) -> str:
    """Azure's word for what it refuses."""
    assert error.value.error is not None
    return str(error.value.error.code)
