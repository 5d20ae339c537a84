"""Machines of the pretended Azure that are stopped, started, evicted, and what is kept of them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import requests
from azure.core.exceptions import HttpResponseError, ResourceExistsError

from tests.cloud.azure.cloud import AzureCloud
from tests.cloud.azure.requests import GROUP, SPOT, Azure, code


@pytest.fixture
def cloud() -> Iterator[AzureCloud]:
    with AzureCloud() as cloud:
        yield cloud


@pytest.fixture
def azure(cloud: AzureCloud) -> Azure:
    return Azure(cloud)


def test_a_machine_that_is_off_holds_its_room_and_a_deallocated_one_does_not(cloud: AzureCloud, azure: Azure) -> None:
    machines = azure.compute.virtual_machines
    cloud.world.capacity["*/*/*"] = 1
    azure.make()
    machines.begin_power_off(GROUP, "n1").result()
    assert azure.codes()[1] == "PowerState/stopped" and cloud.world.capacity["*/*/*"] == 0
    machines.begin_deallocate(GROUP, "n1").result()
    assert azure.codes()[1] == "PowerState/deallocated" and cloud.world.capacity["*/*/*"] == 1
    assert azure.compute.disks.get(GROUP, "n1").disk_state == "Reserved"
    address = azure.network.network_interfaces.list(GROUP).next().ip_configurations[0].private_ip_address
    machines.begin_start(GROUP, "n1").result()
    assert azure.codes()[1] == "PowerState/running" and cloud.world.capacity["*/*/*"] == 0
    assert azure.network.network_interfaces.list(GROUP).next().ip_configurations[0].private_ip_address == address


def test_its_room_may_be_gone_when_it_is_to_start(cloud: AzureCloud, azure: Azure) -> None:
    azure.make(zones=["1"])
    azure.compute.virtual_machines.begin_deallocate(GROUP, "n1").result()
    cloud.world.capacity["*/1/*"] = 0
    with pytest.raises(HttpResponseError) as error:
        azure.compute.virtual_machines.begin_start(GROUP, "n1").result()
    assert code(error) == "ZonalAllocationFailed"
    assert azure.codes() == ["ProvisioningState/failed/ZonalAllocationFailed", "PowerState/deallocated"]
    cloud.world.capacity["*/1/*"] = 1
    azure.compute.virtual_machines.begin_start(GROUP, "n1").result()
    assert azure.codes() == ["ProvisioningState/succeeded", "PowerState/running"]


def test_what_takes_time_is_seen_on_its_way(cloud: AzureCloud, azure: Azure) -> None:
    clock = [0.0]
    cloud.world.clock, cloud.world.boot_seconds, cloud.world.end_seconds = (lambda: clock[0]), 40.0, 30.0
    azure.begin()
    assert azure.codes() == ["ProvisioningState/creating", "PowerState/starting"]
    clock[0] = 40.0
    assert azure.codes() == ["ProvisioningState/succeeded", "PowerState/running"]
    azure.compute.virtual_machines.begin_deallocate(GROUP, "n1")
    assert azure.codes()[1] == "PowerState/deallocating"
    clock[0] = 70.0
    assert azure.codes()[1] == "PowerState/deallocated"
    azure.compute.virtual_machines.begin_delete(GROUP, "n1")
    assert azure.codes() == ["ProvisioningState/deleting"]
    with pytest.raises(ResourceExistsError, match="marked for deletion"):
        azure.compute.virtual_machines.begin_start(GROUP, "n1")
    clock[0] = 100.0
    assert list(azure.compute.virtual_machines.list(GROUP)) == []


@pytest.mark.parametrize(("policy", "left"), [("Delete", 0), ("Deallocate", 1)])
def test_an_evicted_machine_is_gone_or_deallocated(cloud: AzureCloud, azure: Azure, policy: str, left: int) -> None:
    clock = [0.0]
    cloud.world.clock, cloud.world.preempt_seconds = (lambda: clock[0]), 30.0
    azure.make(**{**SPOT, "evictionPolicy": policy})
    azure.compute.virtual_machines.simulate_eviction(GROUP, "n1")
    assert [e["EventType"] for e in cloud.machine("n1").events] == ["Preempt"]
    assert azure.codes()[1] == "PowerState/running"
    clock[0] = 30.0
    rows = list(azure.compute.virtual_machines.list(GROUP))
    assert len(rows) == left and [m.power for m in cloud.machines()] == ["deallocated"] * left
    if left:
        azure.compute.virtual_machines.begin_start(GROUP, "n1").result()
        azure.delete()
    assert not [id_ for id_ in cloud.leftovers() if "/disks/" in id_ or "/networkInterfaces/" in id_]


def test_only_spot_machines_are_evicted(azure: Azure) -> None:
    azure.make()
    with pytest.raises(ResourceExistsError):
        azure.compute.virtual_machines.simulate_eviction(GROUP, "n1")


def test_disks_come_and_go_by_their_number(cloud: AzureCloud, azure: Azure) -> None:
    machines = azure.compute.virtual_machines
    azure.make(zones=["1"])

    def disk(name: str, *zones: str) -> Any:
        body: Any = {"location": "eastus", "properties": {"creationData": {"createOption": "Empty"}, "diskSizeGB": 8}}
        return azure.compute.disks.begin_create_or_update(GROUP, name, {**body, "zones": list(zones)}).result()

    here, there = disk("here", "1"), disk("there", "2")
    with pytest.raises(HttpResponseError, match="not in the same zone"):
        machines.begin_attach_detach_data_disks(GROUP, "n1", {"dataDisksToAttach": [{"diskId": there.id, "lun": 0}]})
    machines.begin_attach_detach_data_disks(
        GROUP, "n1", {"dataDisksToAttach": [{"diskId": here.id, "lun": 0}]}
    ).result()
    (found,) = machines.get(GROUP, "n1").storage_profile.data_disks
    assert (found.lun, found.name, found.delete_option) == (0, "here", "Detach")
    assert azure.compute.disks.get(GROUP, "here").disk_state == "Attached"
    machines.begin_attach_detach_data_disks(GROUP, "n1", {"dataDisksToDetach": [{"diskId": here.id}]}).result()
    assert machines.get(GROUP, "n1").storage_profile.data_disks == []
    attached = [{"lun": 3, "createOption": "Attach", "managedDisk": {"id": here.id}}]
    machines.begin_update(GROUP, "n1", {"properties": {"storageProfile": {"dataDisks": attached}}}).result()
    azure.delete()
    assert azure.compute.disks.get(GROUP, "here").disk_state == "Unattached"


def test_a_generalized_machine_never_starts_again(azure: Azure) -> None:
    machines = azure.compute.virtual_machines
    azure.make()
    with pytest.raises(ResourceExistsError, match="since it is running"):
        machines.generalize(GROUP, "n1")
    machines.begin_deallocate(GROUP, "n1").result()
    machines.generalize(GROUP, "n1")
    with pytest.raises(ResourceExistsError, match="is generalized"):
        machines.begin_start(GROUP, "n1")


def test_the_console_is_read_with_a_link_that_needs_no_token(cloud: AzureCloud, azure: Azure) -> None:
    cloud.world.consoles = lambda id_: "it boots"
    azure.make("n1", diagnosticsProfile={"bootDiagnostics": {"enabled": True}})
    azure.make("n2")
    link = azure.compute.virtual_machines.retrieve_boot_diagnostics_data(GROUP, "n1").serial_console_log_blob_uri
    assert requests.get(link, verify=str(cloud.ca_file), timeout=10).text == "it boots"
    unsigned = link.partition("?")[0]
    assert requests.get(unsigned, verify=str(cloud.ca_file), timeout=10).status_code == 403
    with pytest.raises(ResourceExistsError, match="Boot diagnostics is not enabled"):
        azure.compute.virtual_machines.retrieve_boot_diagnostics_data(GROUP, "n2")
