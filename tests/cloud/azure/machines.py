"""Azure's face of the machines: what the metadata service tells of a VM, and what becomes of one that turns itself off."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any
from urllib.parse import parse_qsl, urlsplit

from tests.cloud.azure import cards as azure_cards
from tests.cloud.azure import metadata as azure_metadata
from tests.cloud.azure.cloud import AzureCloud
from tests.cloud.azure.machine import Machine
from tests.cloud.azure.store import name_of
from tests.cloud.azure.world import SUBSCRIPTION
from tests.cloud.booter import Booter, Step
from tests.cloud.machines import GATEWAY, MachineSpec
from tests.cloud.metadata import BODY, Answer, Facts
from tests.cloud.world import World

_EVENTS = "/metadata/scheduledevents"
_TOKEN = "/metadata/identity/oauth2/token"


class AzureFace:
    name = "azure"
    steps: Mapping[str, Step] = {
        "running": "boot",
        "stopping": "halt",
        "deallocating": "halt",
        "deleting": "destroy",
    }

    def __init__(self, cloud: AzureCloud) -> None:
        self.cloud = cloud
        self.world: World = cloud.world

    @property
    def url(self) -> str:
        return self.cloud.url

    @url.setter
    def url(self, url: str) -> None:
        self.cloud.url = url

    def listen(self, address: str) -> str:
        return self.cloud.listen(address)

    def machine_of(self, machine: Machine, clock: int) -> MachineSpec:
        profile = machine.properties.get("osProfile") or {}
        keys = ((profile.get("linuxConfiguration") or {}).get("ssh") or {}).get("publicKeys") or []
        card = self.cloud.cards.of(machine.resource)[0]
        public = azure_cards.public_address(self.cloud.store, card)
        return MachineSpec(
            machine.id,
            azure_cards.private_address(card),
            user_data=machine.user_data,
            authorized_key="".join(f"{key['keyData'].strip()}\n" for key in keys),
            user=profile.get("adminUsername", ""),
            facts=_facts(machine, azure_cards.private_address(card), public),
            fresh=lambda: self._fresh(machine),
            public=public,
            clock=clock,
            hostname=profile.get("computerName", machine.name),
            authority=self.cloud.ca_file.read_text(),
            keeps_disk=True,
        )

    def _fresh(self, machine: Machine) -> dict[str, str]:
        """What changes while it runs."""
        tags = machine.resource.get("tags") or {}
        listed = {f"instance/compute/tagsList/{n}/{k}": v for n, pair in enumerate(tags.items())
                  for k, v in zip(("name", "value"), pair, strict=True)}  # fmt: skip
        return {
            "instance/compute/tags": ";".join(f"{key}:{value}" for key, value in tags.items()), **listed,
            "scheduledevents": json.dumps({"DocumentIncarnation": machine.incarnation, "Events": machine.events}),
        }  # fmt: skip

    def dialect(self, method: str, path: str, headers: Mapping[str, str], facts: Facts) -> Answer:
        """Tokens are made for who asks, and events begin for who confirms them; the rest is said by facts."""
        url = urlsplit(path)
        if method == "POST" and url.path.rstrip("/") == _EVENTS and "instance/compute/vmId" in facts:
            return self._confirmed(path, headers, facts)
        if url.path.rstrip("/") != _TOKEN or headers.get("X-Forwarded-For"):
            return azure_metadata.answer(method, path, headers, facts)
        if method != "GET":
            return Answer(405)
        machine = self.cloud.machine(facts["instance/compute/vmId"]) if facts else None
        identities = (machine.resource.get("identity") or {}).get("userAssignedIdentities") or {} if machine else {}
        status, body = self.cloud.tokens.of_machine(dict(parse_qsl(url.query)), headers, list(identities))
        return Answer(status, json.dumps(body), {"Content-Type": "application/json"})

    def _confirmed(self, path: str, headers: Mapping[str, str], facts: Facts) -> Answer:
        asked = azure_metadata.answer("GET", path, headers, facts)
        if asked.status != 200:
            return asked
        wanted = [request["EventId"] for request in json.loads(facts[BODY])["StartRequests"]]
        known = [self.cloud.confirm(facts["instance/compute/vmId"], event) for event in wanted]
        return Answer(200 if all(known) else 400)

    def disk_link(self, disk_id: str) -> str:
        return self.cloud.disk_links.get(disk_id, f"azure/none/{disk_id}")

    def powered_off(self, instance_id: str) -> None:
        self.cloud.shut_down(instance_id)

    def advance(self) -> None:
        self.cloud.advance()


class AzureMachines(Booter):
    """Machines for the VMs of an AzureCloud. Notices are `cloud.evict` (with `world.preempt_seconds`) and `cloud.announce`."""

    def __init__(self, cloud: AzureCloud, gateway: str = f"{GATEWAY}/16", never_boots: bool = False) -> None:
        self.cloud = cloud
        super().__init__(AzureFace(cloud), gateway, never_boots)

    def __enter__(self) -> AzureMachines:
        return self

    def id_of(self, handle: str) -> str:
        """A machine's id, of a VM's name."""
        return self.cloud.machine(handle).id


def _facts(machine: Machine, address: str, public: str) -> dict[str, str]:
    properties: dict[str, Any] = machine.properties
    image = properties["storageProfile"].get("imageReference") or {}
    compute = {
        "name": machine.name, "vmId": machine.id, "location": machine.region, "zone": machine.zone,
        "vmSize": machine.size.name, "resourceGroupName": machine.resource["id"].split("/")[4],
        "subscriptionId": SUBSCRIPTION, "resourceId": machine.resource["id"], "osType": "Linux", "provider": "Microsoft.Compute",
        "azEnvironment": "AzurePublicCloud", "priority": properties.get("priority", "Regular"),
        "evictionPolicy": properties.get("evictionPolicy", ""), "publisher": image.get("publisher", ""),
        "offer": image.get("offer", ""), "sku": image.get("sku", ""), "version": image.get("exactVersion", ""),
        "placementGroupId": name_of((properties.get("proximityPlacementGroup") or {}).get("id", "")),
    }  # fmt: skip
    network = {
        "ipv4/ipAddress/0/privateIpAddress": address, "ipv4/ipAddress/0/publicIpAddress": public,
        "ipv4/subnet/0/address": address, "ipv4/subnet/0/prefix": "24", "macAddress": "000D3A000001",
    }  # fmt: skip
    return {
        **{f"instance/compute/{key}": value for key, value in compute.items()},
        **{f"instance/network/interface/0/{key}": value for key, value in network.items()},
    }
