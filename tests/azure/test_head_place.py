"""What of a head outlives its machine: its disk and its address, each one of a kind, and handed over to a successor."""

from __future__ import annotations

import pytest
from clusterctl_providers.azure.console import console_log
from clusterctl_providers.azure.head import HeadParts, head_card
from clusterctl_providers.base import AddressHolder, HeadMachine, NetworkPlace

from clusterctl.core.errors import BadRequest, NotYet, ProviderError
from tests.azure.parts import Parts
from tests.cloud.azure.cards import RESERVATION_SECONDS
from tests.cloud.azure.cloud import AzureCloud
from tests.cloud.azure.world import REGION

GIB = 1024**3
KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJ6r9T2n5pC7kV7Xh3e5yV1n2m3o4p5q6r7s8t9u0v1w"


class Heads(Parts):
    """Machines as a launch makes them, without a launch."""

    def head(self) -> HeadParts:
        return HeadParts(self.calls, self.settings, self.network([]))

    def card(self, name: str, place: NetworkPlace | None = None, *, public: bool = False) -> str:
        return head_card(self.calls, self.network([]), HeadMachine(public=public), place, name)

    def launch(
        self, name: str, place: NetworkPlace | None = None, *, public: bool = False, zone: str = "1", card: str = ""
    ) -> str:
        """The name of a machine where the head of the cluster would be."""
        link = card or self.card(name, place, public=public)
        image = {"publisher": "Canonical", "offer": "ubuntu-24_04-lts", "sku": "server", "version": "latest"}
        login = {"disablePasswordAuthentication": True, "ssh": {"publicKeys": [
            {"path": "/home/ubuntu/.ssh/authorized_keys", "keyData": KEY}]}}  # fmt: skip
        properties = {
            "hardwareProfile": {"vmSize": "Standard_D2s_v5"},
            "storageProfile": {
                "imageReference": image,
                "osDisk": {"createOption": "FromImage", "deleteOption": "Delete"},
            },
            "osProfile": {"computerName": name, "adminUsername": "ubuntu", "linuxConfiguration": login},
            "networkProfile": {
                "networkInterfaces": [{"id": link, "properties": {"primary": True, "deleteOption": "Detach"}}]
            },
            "diagnosticsProfile": {"bootDiagnostics": {"enabled": True}},
        }
        body = {"location": REGION, "zones": [zone], "tags": self.network().tags(), "properties": properties}
        self.calls.run("PUT", self.path(name), f"launching {name}", body)
        return name

    def path(self, name: str) -> str:
        return self.network().group.path("Microsoft.Compute", "virtualMachines", name)

    def end(self, name: str) -> None:
        self.calls.run("DELETE", self.path(name), "ending")


@pytest.fixture
def heads(cloud: AzureCloud) -> Heads:
    return Heads(cloud)


# ------------------------------------------------------------ the disk


def test_the_disk_is_one_is_the_clusters_and_outlives_its_machine(heads: Heads) -> None:
    first, head = heads.launch("head-1"), heads.head()
    assert head.disk() is None
    disk = head.make_disk("1", 20 * GIB + 1, "once")
    assert heads.head().make_disk("1", 20 * GIB + 1, "again") == disk == heads.head().disk()
    row = heads.calls.get(heads.network().group.path("Microsoft.Compute", "disks", disk.id), "looking")
    assert row["properties"]["diskSizeGB"] == 21 and row["sku"]["name"] == "StandardSSD_LRS" and row["zones"] == ["1"]
    assert row["properties"]["networkAccessPolicy"] == "DenyAll" and row["tags"]["clusterctl-uid"] == heads.uid
    assert head.attach(disk, first) and heads.head().attach(disk, first), "again is no harm"
    found = heads.head().disk()
    assert found is not None and found.attached_to == first
    second = heads.launch("head-2")
    assert not head.attach(disk, second), "its former machine still has it"
    heads.end(first)
    assert head.attach(disk, second)
    assert disk.paths[0] == "/dev/disk/azure/data/by-lun/0"
    heads.end(second)
    assert [one["name"] for one in heads.rows("Microsoft.Compute/disks")] == [row["name"]], "and theirs are gone"


def test_a_disk_whose_answer_is_lost_is_made_once(heads: Heads, cloud: AzureCloud) -> None:
    cloud.fault("disks.createOrUpdate", "lost")
    with pytest.raises(ProviderError):
        heads.head().make_disk("1", 20 * GIB, "once")
    made = heads.head().make_disk("1", 20 * GIB, "once")
    assert made == heads.head().disk() and len(heads.rows("Microsoft.Compute/disks")) == 1


def test_a_disk_of_our_name_that_is_somebody_elses_is_told_and_left_alone(cloud: AzureCloud) -> None:
    heads = Heads(cloud, resource_group="corp")
    name = heads.network().part("head")
    empty = {"creationData": {"createOption": "Empty"}, "diskSizeGB": 4}
    heads.make(f"Microsoft.Compute/disks/{name}", {"properties": empty})
    with pytest.raises(BadRequest, match="does not carry the uid of cluster demo"):
        heads.head().make_disk("1", 20 * GIB, "once")
    assert heads.head().disk() is None


def test_a_key_of_the_users_encrypts_the_disk(cloud: AzureCloud) -> None:
    heads = Heads(cloud, disk_encryption_set="keys", disk_type="Premium_LRS", resource_group="corp")
    heads.make("Microsoft.Compute/diskEncryptionSets/keys", {"properties": {}})
    disk = heads.head().make_disk("", 20 * GIB, "once")
    (row,) = heads.rows("Microsoft.Compute/disks")
    assert disk.zone == "" and row["sku"]["name"] == "Premium_LRS" and "zones" not in row
    encryption = row["properties"]["encryption"]
    assert encryption["type"] == "EncryptionAtRestWithCustomerKey"
    assert encryption["diskEncryptionSetId"].endswith(
        "/resourceGroups/corp/providers/Microsoft.Compute/diskEncryptionSets/keys"
    )


def test_a_machine_that_is_not_ready_for_its_disk_is_asked_again(heads: Heads, cloud: AzureCloud) -> None:
    first, head = heads.launch("head-1"), heads.head()
    disk = head.make_disk("1", 20 * GIB, "once")
    cloud.fault(
        "virtualMachines.attachDetachDataDisks", code="OperationNotAllowed", status=409, message="is being created"
    )
    assert not head.attach(disk, first) and head.attach(disk, first)
    with pytest.raises(BadRequest, match="does not know that"):
        heads.head().attach(Heads(cloud).head().make_disk("2", GIB, "b"), "nobody")


# ------------------------------------------------------------ the address


def test_a_successor_gets_its_predecessors_card_with_both_its_addresses(heads: Heads) -> None:
    first, head = heads.launch("head-1", public=True), heads.head()
    there = head.whereabouts(first)
    assert (
        there.public and there.place.subnet.endswith("/subnets/nodes") and there.place.private.startswith("10.224.0.")
    )
    assert head.address_holder(there.place) == AddressHolder(first, ending=False)
    with pytest.raises(NotYet, match=f"the head's address, which {first} has"):
        heads.launch("head-2", there.place)
    heads.end(first)
    assert head.address_holder(there.place) is None
    for number in range(3):  # it is nobody else's meanwhile
        other = heads.launch(f"cpu-{number}")
        assert head.whereabouts(other).place.private != there.place.private
    second = heads.launch("head-3", there.place, zone="2", public=True)
    assert head.whereabouts(second) == there
    assert heads.network().sweep() == []


def test_the_address_of_a_card_is_fixed_and_a_repeated_launch_meets_the_same_card(heads: Heads) -> None:
    link = heads.card("head-1")
    assert heads.card("head-1") == link
    (row,) = heads.rows("Microsoft.Network/networkInterfaces")
    properties = row["properties"]["ipConfigurations"][0]["properties"]
    assert properties["privateIPAllocationMethod"] == "Static" and not properties.get("publicIPAddress")
    assert len(properties["applicationSecurityGroups"]) == 2 and row["properties"]["networkSecurityGroup"]
    assert row["tags"]["clusterctl-head"] == "address"


def test_a_successor_gets_a_public_address_where_the_settings_want_one_by_now(heads: Heads) -> None:
    first, head = heads.launch("head-1"), heads.head()
    there = head.whereabouts(first)
    assert not there.public
    heads.end(first)
    found = head.whereabouts(heads.launch("head-2", there.place, public=True))
    assert found.place == there.place and found.public


def test_a_card_that_somebody_deleted_is_made_again_with_its_address(heads: Heads) -> None:
    first, head = heads.launch("head-1"), heads.head()
    place = head.whereabouts(first).place
    heads.end(first)
    (row,) = heads.rows("Microsoft.Network/networkInterfaces")
    heads.calls.run("DELETE", row["id"], "deleting")
    assert head.address_holder(place) is None
    assert head.whereabouts(heads.launch("head-2", place)).place == place


def test_whoever_has_taken_the_address_is_named_and_the_head_gets_another(heads: Heads) -> None:
    first, head = heads.launch("head-1"), heads.head()
    place = head.whereabouts(first).place
    heads.end(first)
    (row,) = heads.rows("Microsoft.Network/networkInterfaces")
    heads.calls.run("DELETE", row["id"], "deleting")
    address = {"subnet": {"id": place.subnet}, "privateIPAllocationMethod": "Static", "privateIPAddress": place.private}
    entries = [{"name": "main", "properties": address}]
    taker = heads.make("Microsoft.Network/networkInterfaces/taker", {"properties": {"ipConfigurations": entries}})
    assert head.address_holder(place) == AddressHolder(taker, ending=False)
    with pytest.raises(NotYet, match=f"waiting for {place.private}, the head's address"):
        heads.card("head-2", place)
    assert head.whereabouts(heads.launch("head-2")).place != place


def test_a_card_that_azure_keeps_for_a_machine_that_failed_is_waited_for_and_a_first_head_has_another(
    heads: Heads, cloud: AzureCloud
) -> None:
    cloud.world.capacity["*/1/*"] = 0
    with pytest.raises(ProviderError, match="ZonalAllocationFailed"):
        heads.launch("head-1")
    heads.end("head-1")
    first = heads.launch("head-2", zone="2")
    place = heads.head().whereabouts(first).place
    heads.end(first)
    with pytest.raises(ProviderError, match="ZonalAllocationFailed"):
        heads.launch("head-3", place)
    heads.end("head-3")
    with pytest.raises(ProviderError, match=r"not yet .NicReservedForAnotherVm"):
        heads.launch("head-4", place, zone="2")
    later = cloud.world.clock
    cloud.world.clock = lambda: later() + RESERVATION_SECONDS
    assert heads.head().whereabouts(heads.launch("head-4", place, zone="2")).place == place


def test_a_machine_that_azure_does_not_show_is_nowhere_yet(heads: Heads) -> None:
    heads.network([]).group.ensure()
    with pytest.raises(NotYet, match="Azure does not show it"):
        heads.head().whereabouts("head-1")
    subnet = heads.network().group.path("Microsoft.Network", "virtualNetworks", "gone/subnets/nodes")
    assert heads.head().disk() is None and heads.head().address_holder(NetworkPlace(subnet, "10.0.0.4")) is None


# ------------------------------------------------------------ the console


def test_the_console_is_read_by_a_link_that_is_in_no_message(heads: Heads, cloud: AzureCloud) -> None:
    first = heads.launch("head-1")
    assert console_log(heads.calls, heads.path(first)) == "", "it has written nothing yet"
    cloud.world.consoles = lambda _: "x" * 50_000 + "Kernel panic"
    said = console_log(heads.calls, heads.path(first))
    assert said.endswith("Kernel panic") and len(said) == 20_000
    heads.end(first)
    assert console_log(heads.calls, heads.path(first)) == ""
    cloud.world.consoles = None
