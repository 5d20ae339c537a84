"""What of a head outlives its machine: its disk and its address, each one of a kind, and handed over to a successor."""

from __future__ import annotations

import pytest
from clusterctl_providers.base import AddressHolder, HeadMachine, NetworkPlace
from clusterctl_providers.gcp.head import HeadParts, console_log, head_interface
from clusterctl_providers.gcp.machines.series import disk_type

from clusterctl.core.errors import BadRequest, NotYet, ProviderError
from tests.cloud.gcp.cloud import GcpCloud
from tests.gcp.parts import Parts

ZONE = "us-central1-a"
GIB = 1024**3


class Heads(Parts):
    """Instances as a launch makes them, without a launch."""

    def head(self) -> HeadParts:
        return HeadParts(self.calls, self.settings, self.network(), self.uid)

    def launch(
        self,
        name: str,
        place: NetworkPlace | None = None,
        *,
        public: bool = False,
        zone: str = ZONE,
        kind: str = "e2-medium",
    ) -> str:
        """The id of an instance where the head of the cluster would be."""
        network = self.network([])
        card = head_interface(self.calls, network, HeadMachine(public=public), place)
        return self.insert(name, card, zone, kind, network.labels(**{"clusterctl-head": "here"}))

    def insert(
        self, name: str, card: dict[str, object], zone: str = ZONE, kind: str = "e2-medium", labels: object = None
    ) -> str:
        image = "projects/ubuntu-os-cloud/global/images/family/ubuntu-2404-lts-amd64"
        boot = {"sourceImage": image, "diskType": f"zones/{zone}/diskTypes/{disk_type(kind)}"}
        body = {
            "name": name,
            "machineType": f"zones/{zone}/machineTypes/{kind}",
            "disks": [{"boot": True, "autoDelete": True, "initializeParams": boot}],
            "networkInterfaces": [card],
            **({"labels": labels} if labels else {}),
        }
        self.calls.run("POST", f"zones/{zone}/instances", f"launching {name}", body)
        return f"{zone}/{name}"

    def end(self, instance_id: str) -> None:
        zone, _, name = instance_id.partition("/")
        self.calls.run("DELETE", f"zones/{zone}/instances/{name}", "ending")


@pytest.fixture
def heads(cloud: GcpCloud) -> Heads:
    return Heads(cloud)


# ------------------------------------------------------------ the disk


def test_the_disk_is_one_is_the_clusters_and_outlives_its_instance(heads: Heads, cloud: GcpCloud) -> None:
    first = heads.launch("head-1")
    head = heads.head()
    assert head.disk() is None
    disk = head.make_disk(ZONE, GIB + 1, "once")
    assert heads.head().make_disk(ZONE, GIB + 1, "once") == disk == heads.head().disk()
    (row,) = [row for row in heads.rows(f"zones/{ZONE}/disks") if "clusterctl-disk" in row.get("labels", {})]
    assert (
        row["sizeGb"] == "10" and row["type"].endswith("/pd-balanced") and row["labels"]["clusterctl-uid"] == heads.uid
    )
    assert head.attach(disk, first) and heads.head().attach(disk, first), "again is no harm"
    found = heads.head().disk()
    assert found is not None and found.attached_to == first
    second = heads.launch("head-2")
    assert not head.attach(disk, second), "its former instance still has it"
    heads.end(first)
    assert head.attach(disk, second)
    (path, _) = disk.paths
    assert path == f"/dev/disk/by-id/google-{row['name']}"
    heads.end(second)
    assert [row["name"] for row in heads.rows(f"zones/{ZONE}/disks")] == [row["name"]]
    assert heads.network().clusters() == [("demo", heads.uid)]
    assert heads.network().sweep() == [] and cloud.leftovers() == []


def test_a_disk_whose_answer_is_lost_is_made_once(heads: Heads, cloud: GcpCloud) -> None:
    cloud.fault("compute.disks.insert", "lost")
    with pytest.raises(ProviderError):
        heads.head().make_disk(ZONE, 20 * GIB, "once")
    made = heads.head().make_disk(ZONE, 20 * GIB, "once")
    assert made == heads.head().disk() and len(heads.rows(f"zones/{ZONE}/disks")) == 1
    other = Heads(cloud)
    other.uid = f"{heads.uid[:8]}-0000-4000-8000-000000000000"
    with pytest.raises(BadRequest, match="does not carry the uid of cluster demo"):
        other.head().make_disk(ZONE, 20 * GIB, "another")


def test_a_machine_that_takes_no_persistent_disk_gets_hyperdisk_and_a_key_of_the_users_is_used(heads: Heads) -> None:
    heads.launch("head-1", kind="n4-standard-2")
    key = "projects/clusterctl-test/locations/us-central1/keyRings/r/cryptoKeys/k"
    heads.settings["kms_key"] = key
    heads.head().make_disk(ZONE, 20 * GIB, "once")
    (row,) = [row for row in heads.rows(f"zones/{ZONE}/disks") if "clusterctl-disk" in row.get("labels", {})]
    assert row["type"].endswith("/hyperdisk-balanced") and row["diskEncryptionKey"]["kmsKeyName"].startswith(key)


def test_an_instance_that_is_not_ready_for_its_disk_is_asked_again(heads: Heads, cloud: GcpCloud) -> None:
    first, head = heads.launch("head-1"), heads.head()
    disk = head.make_disk(ZONE, 20 * GIB, "once")
    fault = cloud.fault("compute.instances.attachDisk", code="resourceNotReady", status=400, message="is not ready")
    assert not head.attach(disk, first)
    assert fault not in cloud.world.faults and head.attach(disk, first)
    with pytest.raises(BadRequest, match="does not know that"):
        Heads(cloud).head().attach(heads.head().make_disk("us-central1-b", GIB, "b"), "us-central1-b/nobody")


# ------------------------------------------------------------ the address


def test_a_successor_gets_its_predecessors_address_in_whichever_zone_once_that_is_free(heads: Heads) -> None:
    first, head = heads.launch("head-1", public=True), heads.head()
    there = head.whereabouts(first)
    assert there.public and there.place.subnet.endswith("/subnetworks/default")
    assert head.address_holder(there.place) == AddressHolder(first, ending=False)
    with pytest.raises(ProviderError, match="not yet"):
        heads.launch("head-2", there.place)
    heads.end(first)
    assert head.address_holder(there.place) is None
    (row,) = heads.rows("regions/us-central1/addresses")
    assert row["status"] == "RESERVED" and row["address"] == there.place.private, "nobody else gets it meanwhile"
    second = heads.launch("head-2", there.place, zone="us-central1-b")
    assert head.whereabouts(second).place == there.place and not head.whereabouts(second).public


def test_an_address_whose_reservation_was_deleted_is_reserved_again(heads: Heads) -> None:
    first, head = heads.launch("head-1"), heads.head()
    place = head.whereabouts(first).place
    heads.end(first)
    (row,) = heads.rows("regions/us-central1/addresses")
    heads.calls.run("DELETE", f"regions/us-central1/addresses/{row['name']}", "deleting")
    assert head.address_holder(place) is None
    assert head.whereabouts(heads.launch("head-2", place)).place == place
    assert [row["address"] for row in heads.rows("regions/us-central1/addresses")] == [place.private]


def test_whoever_has_taken_the_address_is_named_and_the_head_gets_another(heads: Heads) -> None:
    first, head = heads.launch("head-1"), heads.head()
    place = head.whereabouts(first).place
    heads.end(first)
    taker = heads.insert("taker", {"subnetwork": place.subnet, "networkIP": place.private}, "us-central1-c")
    assert head.address_holder(place) == AddressHolder(taker, ending=False)
    second = heads.launch("head-2")
    assert head.whereabouts(second).place.private != place.private
    heads.end(second)
    (row,) = heads.rows("regions/us-central1/addresses")
    assert heads.network().sweep() == [f"the address {row['name']} is still in use"]
    heads.end(taker)
    assert heads.network().sweep() == []


def test_an_instance_that_has_the_address_without_any_reservation_is_found(heads: Heads) -> None:
    first, head = heads.launch("head-1"), heads.head()
    place = head.whereabouts(first).place
    heads.end(first)
    assert heads.network().sweep() == []
    taker = heads.insert("taker", {"subnetwork": place.subnet, "networkIP": place.private}, "us-central1-c")
    assert head.address_holder(place) == AddressHolder(taker, ending=False)
    heads.end(taker)
    body = {"name": "theirs", "addressType": "INTERNAL", "subnetwork": place.subnet, "address": place.private}
    heads.calls.run("POST", "regions/us-central1/addresses", "reserving", body)
    assert head.address_holder(place) == AddressHolder("theirs", ending=False)


def test_what_google_does_not_show_has_no_whereabouts_and_no_console(heads: Heads) -> None:
    with pytest.raises(NotYet, match="does not show it"):
        heads.head().whereabouts(f"{ZONE}/nobody")
    assert console_log(heads.calls, f"{ZONE}/nobody") == ""
    heads.cloud.world.consoles = lambda _: "Kernel panic - not syncing"
    assert console_log(heads.calls, heads.launch("head-1")).endswith("Kernel panic - not syncing")
