"""Virtual machines: what one is to be, what is made with it, and what becomes of it.

A PUT is refused at once, or accepted and fails later: the failed machine stays, with its card and its disk, until somebody
deletes it.
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Mapping
from typing import Any

from tests.cloud.azure.addresses import Addresses
from tests.cloud.azure.capacity import Capacity
from tests.cloud.azure.cards import Cards
from tests.cloud.azure.disks import DISK, Disks
from tests.cloud.azure.machine import Machine
from tests.cloud.azure.placements import check_placed
from tests.cloud.azure.profiles import check_change, check_new, check_price, user_data
from tests.cloud.azure.quotas import Quotas
from tests.cloud.azure.resources import Resources
from tests.cloud.azure.services import Behaviour, Call, Services
from tests.cloud.azure.skus import Skus, unavailable
from tests.cloud.azure.sources import Source, Sources
from tests.cloud.azure.store import Resource, Store, copied
from tests.cloud.azure.world import Failure, Refusal, Violation, World, invalid, missing_reference

VM = "Microsoft.Compute/virtualMachines"
IDENTITY = "Microsoft.ManagedIdentity/userAssignedIdentities"
_KINDS = {  # what a body names -> its type
    "availabilitySet": "Microsoft.Compute/availabilitySets",
    "proximityPlacementGroup": "Microsoft.Compute/proximityPlacementGroups",
}


class Vms(Behaviour):
    def __init__(
        self, world: World, store: Store, services: Services, resources: Resources, cards: Cards, addresses: Addresses,
        disks: Disks, sources: Sources,
    ) -> None:  # fmt: skip
        self._world, self._store, self._services, self._resources = world, store, services, resources
        self._cards, self._addresses, self._disks, self._sources = cards, addresses, disks, sources
        self.by_key: dict[str, Machine] = {}
        self.disk_links: dict[str, str] = {}  # uniqueId of a disk -> by which name below /dev/disk its machine sees it
        self._coming: dict[str, Machine] = {}  # those whose PUT is being looked at
        self._skus = Skus(world, services)
        self.quotas = Quotas(world, store, services, self.all)
        self.capacity = Capacity(world, store, self.all)
        services.behave(VM, self)
        services.on("virtualMachines.list", self._list)

    def all(self) -> list[Machine]:
        return list(self.by_key.values())

    def named(self, id_: str) -> Machine:
        """By the id of its resource. Raises Refusal (404)."""
        self._store.get(id_)
        return self.by_key[id_.lower()]

    def become(self, machine: Machine, power: str) -> None:
        """Whoever gives machines to VMs is told."""
        machine.power = power
        machine.powers.append((self._world.clock(), power))
        for listener in list(self._world.listeners):
            listener(power, machine)

    # ------------------------------------------------------------ what it is to be

    def check(self, call: Call, resource: Resource, before: Resource | None) -> None:
        if before:
            self._check_change(call, resource, before)
            return
        check_new(self._world, resource)
        properties, zone = resource["properties"], (resource.get("zones") or [""])[0]
        region, market = resource["location"], "spot" if properties.get("priority") == "Spot" else "on-demand"
        size = self._skus.find(properties["hardwareProfile"]["vmSize"], region, zone, resource["id"])
        self._check_links(call, resource)
        source = self._sources.of(call, resource, size)
        self._check_disks(call, resource, source, size)
        self._check_network(call, resource)
        if market == "spot":
            check_price(self._world, size, properties)
        self.quotas.check(size, market, region)
        machine = Machine(
            resource["id"].lower(), resource, size, region, zone, market,
            user_data(properties.get("osProfile") or {}), since=self._world.clock(),
        )  # fmt: skip
        self.capacity.check_reservation(machine)
        machine.failure = self.capacity.refusal(machine)
        if machine.failure and self._world.refused_at_once:
            raise unavailable(size.name, region, zone, resource["id"])
        for entry in properties["networkProfile"].get("networkInterfaces") or []:
            self._cards.attach(call, entry["id"], resource["id"])
        self._coming[machine.key] = machine

    def _check_links(self, call: Call, resource: Resource) -> None:
        check_placed(resource)
        for member, kind in _KINDS.items():
            if link := resource["properties"].get(member):
                found = self._store.find(link["id"])
                if found is None or found["type"] != kind:
                    raise Refusal(404, "NotFound", f"Resource {link['id']} not found.")
                if found["location"] != resource["location"]:
                    raise missing_reference(link["id"], resource["id"])
                call.need_linked(f"{kind}/write", found["id"])
        identity = resource.get("identity") or {}
        for id_ in identity.get("userAssignedIdentities") or {}:
            found = self._store.find(id_)
            if found is None:
                message = f"Resource '{id_}' was not found. If you have deleted it, remove it from the resource."
                raise Refusal(
                    400,
                    "FailedIdentityOperation",
                    f"Identity operation for resource '{resource['id']}' failed: {message}",
                )
            call.need_linked(f"{IDENTITY}/assign/action", found["id"])
            identity["userAssignedIdentities"][id_] = {
                "principalId": found["properties"].get("principalId"), "clientId": found["properties"].get("clientId"),
            }  # fmt: skip

    def _check_disks(self, call: Call, resource: Resource, source: Source, size: Any) -> None:
        profile = resource["properties"]["storageProfile"]
        system = profile["osDisk"]
        given = system.get("diskSizeGB")
        if given is not None and given < source.size:
            message = (
                f"The specified disk size {given} GB is smaller than the size of the corresponding disk in the VM image: "
                f"{source.size} GB. This is not allowed. Please choose equal or greater size or do not specify an explicit size."
            )
            raise Refusal(400, "OperationNotAllowed", message, "osDisk.diskSizeGB")
        disks = profile.get("dataDisks") or []
        luns = [disk["lun"] for disk in disks]
        if len(set(luns)) != len(luns):
            raise invalid("dataDisks", "A disk at LUN is already attached: each data disk needs a LUN of its own.")
        if len(disks) > size.most_disks:
            message = (
                f"The maximum number of data disks allowed to be attached to a VM of this size is {size.most_disks}."
            )
            raise Refusal(409, "OperationNotAllowed", message)
        for disk in (system, *disks):
            kind = (disk.get("managedDisk") or {}).get("storageAccountType", "")
            if kind.startswith(("Premium", "UltraSSD")) and not size.premium:
                message = (
                    f"Requested operation cannot be performed because the VM size {size.name} does not support the "
                    f"storage account type {kind}."
                )
                raise invalid("storageAccountType", message)
            if encryption := (disk.get("managedDisk") or {}).get("diskEncryptionSet"):
                if self._store.find(encryption["id"]) is None:
                    raise Refusal(404, "NotFound", f"Resource {encryption['id']} not found.")
                call.need_linked("Microsoft.Compute/diskEncryptionSets/read", encryption["id"])
            if disk["createOption"] == "Attach":
                self._disks.find_free(disk["managedDisk"]["id"], resource)
        call.need_linked(
            f"{DISK}/write", f"{_group(resource)}/providers/{DISK}/{system.get('name') or resource['name']}"
        )

    def _check_network(self, call: Call, resource: Resource) -> None:
        profile = resource["properties"]["networkProfile"]
        given, made = profile.get("networkInterfaces") or [], profile.get("networkInterfaceConfigurations") or []
        if bool(given) == bool(made):
            message = (
                "A virtual machine names its network interfaces, or the configurations of those that it makes: one of "
                "the two."
            )
            raise invalid("networkProfile", message)
        if made and not profile.get("networkApiVersion"):
            raise invalid("networkApiVersion", "Required parameter 'networkApiVersion' is missing (null).")
        entries = given or made
        if len(entries) > 1 and sum(bool((e.get("properties") or {}).get("primary")) for e in entries) != 1:
            message = f"Virtual machine {resource['name']} must have one network interface set as the primary."
            raise Refusal(400, "VirtualMachineMustHaveOneNetworkInterfaceAsPrimary", message)
        for entry in made:
            card = self._card(resource, entry, {})
            call.need_linked("Microsoft.Network/networkInterfaces/write", card["id"])
            call.need_linked("Microsoft.Network/networkInterfaces/join/action", card["id"])
            if _public(entry):
                call.need_linked("Microsoft.Network/publicIPAddresses/write", f"{_group(resource)}/providers/x")
                call.need_linked("Microsoft.Network/publicIPAddresses/join/action", f"{_group(resource)}/providers/x")
            self._cards.check(call, card, None)

    # ------------------------------------------------------------ what is made with it

    def begun(self, call: Call, resource: Resource, before: Resource | None) -> None:
        key = resource["id"].lower()
        if before:
            self.by_key[key].resource = resource
            return
        machine = self.by_key[key] = self._coming.pop(key)
        properties = resource["properties"]
        properties.update(vmId=machine.id, timeCreated=self._store.now())
        resource.setdefault("tags", {})
        self._make_cards(call, resource)
        self._make_disks(resource, machine)
        self._store.put(resource)
        if machine.failure is None:
            self.capacity.take(machine)
            self.become(machine, "starting")

    def _make_cards(self, call: Call, resource: Resource) -> None:
        profile = resource["properties"]["networkProfile"]
        made = profile.pop("networkInterfaceConfigurations", None) or []
        profile.pop("networkApiVersion", None)
        for entry in made:
            public: dict[str, Resource] = {}
            for number, wanted in _public(entry).items():
                inner = wanted.get("properties") or {}
                id_ = f"{_group(resource)}/providers/Microsoft.Network/publicIPAddresses/{wanted['name']}-{secrets.token_hex(4)}"
                public[number] = self._addresses.make(call, {
                    "id": id_, "name": id_.rpartition("/")[2], "location": resource["location"], "tags": wanted.get("tags") or {},
                    "sku": wanted.get("sku") or {"name": "Standard"}, "zones": resource.get("zones") or [],
                    "properties": {"publicIPAllocationMethod": inner.get("publicIPAllocationMethod", "Static"),
                                   "deleteOption": inner.get("deleteOption", "Detach")},
                })  # fmt: skip
            card = self._cards.make(call, self._card(resource, entry, public))
            self._cards.attach(call, card["id"], resource["id"])
            reference = {"primary": True, "deleteOption": "Detach", **{
                k: v for k, v in (entry.get("properties") or {}).items() if k in ("primary", "deleteOption")
            }}  # fmt: skip
            profile.setdefault("networkInterfaces", []).append({"id": card["id"], "properties": reference})

    def _card(self, resource: Resource, entry: dict[str, Any], public: Mapping[str, Resource]) -> Resource:
        """The network interface that a configuration asks for. Its name is the configuration's, and something more."""
        name = f"{entry['name']}-{secrets.token_hex(4)}"
        wanted = copied(entry.get("properties") or {})
        configurations = []
        for number, configuration in enumerate(wanted.get("ipConfigurations") or []):
            inner = {
                k: v for k, v in (configuration.get("properties") or {}).items() if k != "publicIPAddressConfiguration"
            }
            if found := public.get(str(number)):
                inner["publicIPAddress"] = {"id": found["id"]}
            configurations.append({"name": configuration["name"], "properties": inner})
        members = ("enableAcceleratedNetworking", "enableIPForwarding", "networkSecurityGroup", "dnsSettings")
        properties = {k: v for k, v in wanted.items() if k in members} | {"ipConfigurations": configurations}
        return {
            "id": f"{_group(resource)}/providers/Microsoft.Network/networkInterfaces/{name}", "name": name,
            "location": resource["location"], "tags": entry.get("tags") or {}, "properties": properties,
        }  # fmt: skip

    def _make_disks(self, resource: Resource, machine: Machine) -> None:
        profile = resource["properties"]["storageProfile"]
        source = self._sources.of_body(resource)
        for number, disk in enumerate([profile["osDisk"], *(profile.get("dataDisks") or [])]):
            first = number == 0
            if disk["createOption"] == "Attach":
                found = self._disks.hold(disk["managedDisk"]["id"], resource["id"])
            else:
                name = (
                    disk.get("name")
                    or f"{resource['name']}_{'OsDisk' if first else 'DataDisk'}_{number}_{secrets.token_hex(16)}"
                )
                kind = (disk.get("managedDisk") or {}).get("storageAccountType", "StandardSSD_LRS")
                creation = {"createOption": "FromImage" if first else disk["createOption"]}
                size = disk.get("diskSizeGB") or source.size
                found = self._disks.make(resource, name, size, kind, creation, "Linux" if first else "")
                self._disks.hold(found["id"], resource["id"])
            if first:
                disk["osType"] = "Linux"
            disk.update(
                name=found["name"], diskSizeGB=found["properties"]["diskSizeGB"],
                managedDisk={**(disk.get("managedDisk") or {}), "id": found["id"], "storageAccountType": found["sku"]["name"]},
            )  # fmt: skip
            disk.setdefault("caching", "ReadWrite" if first else "None")
            disk.setdefault("deleteOption", "Detach")
        profile.setdefault("dataDisks", [])

    # ------------------------------------------------------------ what becomes of it

    def seconds(self, resource: Resource, before: Resource | None) -> float | None:
        if before or self.by_key[resource["id"].lower()].failure:
            return None
        return max(self._world.operation_seconds, self._world.boot_seconds)

    def finish(self, resource: Resource) -> None:
        machine = self.by_key[resource["id"].lower()]
        if machine.power != "starting" or machine.deleting:
            if machine.failure and not machine.power:
                raise machine.failure
            return
        if self._world.stillborn and (failure := self._world.stillborn(machine.name)):
            raise failure
        self.become(machine, "running")
        self.plug_in(machine)

    def failed(self, resource: Resource, failure: Failure) -> None:
        """It stays; whether it runs or not, it is of no use."""
        machine = self.by_key[resource["id"].lower()]
        machine.failure = failure
        if machine.power == "starting":
            self.capacity.give_back(machine)
            machine.power = ""

    def deleting(self, resource: Resource) -> None:
        machine = self.by_key[resource["id"].lower()]
        machine.deleting = True
        self.become(machine, "deleting")

    def delete_seconds(self, resource: Resource) -> float | None:
        return max(self._world.operation_seconds, self._world.end_seconds)

    def deleted(self, resource: Resource) -> None:
        """What was to go with it goes, and the rest is free."""
        machine = self.by_key.pop(resource["id"].lower())
        if not machine.deleting:
            self.become(machine, "deleting")
        self.pull_out(machine)
        self.capacity.give_back(machine)
        properties = resource["properties"]
        cards = properties["networkProfile"].get("networkInterfaces") or []
        self._cards.detach(resource, failed=machine.failure is not None)
        for entry in cards:
            if (entry.get("properties") or {}).get("deleteOption") == "Delete":
                self._forget_card(entry["id"])
        storage = properties["storageProfile"]
        for disk in (storage["osDisk"], *storage.get("dataDisks", [])):
            self._disks.release(disk["managedDisk"]["id"])
            if disk.get("deleteOption") == "Delete":
                self._forget(disk["managedDisk"]["id"])

    def _forget_card(self, id_: str) -> None:
        card = self._store.find(id_)
        if card is None:
            return
        self._resources.forget(card)
        for configuration in card["properties"]["ipConfigurations"]:
            public = self._store.find((configuration["properties"].get("publicIPAddress") or {}).get("id", "/none"))
            if public and public["properties"].get("deleteOption") == "Delete":
                self._resources.forget(public)

    def _forget(self, id_: str) -> None:
        if found := self._store.find(id_):
            self._resources.forget(found)

    # ------------------------------------------------------------ disks of a machine that runs

    def plug_in(self, machine: Machine) -> None:
        """It sees the disks that it does not boot from."""
        for disk in machine.properties["storageProfile"]["dataDisks"]:
            self.plug_one(machine, disk["managedDisk"]["id"])

    def plug_one(self, machine: Machine, id_: str) -> None:
        if self._world.disks:
            properties = self._store.get(id_)["properties"]
            disks = machine.properties["storageProfile"]["dataDisks"]
            lun = next(d["lun"] for d in disks if d["managedDisk"]["id"].lower() == id_.lower())
            by = "scsi1/lun" if "SCSI" in machine.size.controllers else "data/by-lun/"
            self.disk_links[properties["uniqueId"]] = f"azure/{by}{lun}"
            self._world.disks.attach(machine.id, properties["uniqueId"], properties["diskSizeGB"])

    def pull_out(self, machine: Machine) -> None:
        for disk in machine.properties["storageProfile"]["dataDisks"]:
            self.pull_one(disk["managedDisk"]["id"], force=True)

    def pull_one(self, id_: str, force: bool = False) -> bool:
        """False while it is in use."""
        disk = self._store.find(id_)
        if disk is None or not self._world.disks:
            return True
        return bool(self._world.disks.release(disk["properties"]["uniqueId"], force))

    # ------------------------------------------------------------ changes

    def _check_change(self, call: Call, resource: Resource, before: Resource) -> None:
        machine = self.by_key[resource["id"].lower()]
        check_change(resource, before, machine.user_data)
        old, new = before["properties"], resource["properties"]
        profile = copied(old["osProfile"]) if "osProfile" in old else None
        network = new.get("networkProfile", {})
        if network.get("networkInterfaceConfigurations"):
            network.pop("networkInterfaceConfigurations")  # a machine has them already, and makes them once
            network.pop("networkApiVersion", None)
        wanted = [
            e["id"].lower() for e in network.get("networkInterfaces") or old["networkProfile"]["networkInterfaces"]
        ]
        have = [e["id"].lower() for e in old["networkProfile"]["networkInterfaces"]]
        if wanted != have and machine.power not in ("deallocated", ""):
            message = "Network interfaces can be changed only while the virtual machine is deallocated."
            raise Refusal(409, "OperationNotAllowed", message)
        self._check_links(call, resource)
        self._change_size(machine, new)
        self._change_price(machine, old, new)
        self._change_disks(machine, old, new)
        system = (new.get("storageProfile") or {}).get("osDisk") or {}
        if system.get("deleteOption"):
            old["storageProfile"]["osDisk"]["deleteOption"] = system["deleteOption"]
        kept = {k: v for k, v in old.items() if k not in ("provisioningState",)}
        resource["properties"] = {**kept, **{k: v for k, v in new.items() if k not in ("storageProfile", "osProfile")}}
        if profile is not None:
            resource["properties"]["osProfile"] = profile
        resource["properties"]["networkProfile"] = old["networkProfile"] if wanted == have else network

    def _change_size(self, machine: Machine, new: dict[str, Any]) -> None:
        wanted = (new.get("hardwareProfile") or {}).get("vmSize", machine.size.name)
        if wanted.lower() == machine.size.name.lower():
            return
        size = self._skus.find(wanted, machine.region, machine.zone, machine.resource["id"])
        self.quotas.check(size, machine.market, machine.region, machine.size)
        if machine.power != "deallocated":
            message = "The stand-in resizes machines that are deallocated only."
            raise Violation(501, "NotImplemented", message)
        machine.size = size

    def _change_price(self, machine: Machine, old: dict[str, Any], new: dict[str, Any]) -> None:
        given, had = new.get("billingProfile"), old.get("billingProfile")
        if given is not None and given != had and machine.power != "deallocated":
            message = "Max price change is not allowed. For more information, see http://aka.ms/AzureSpot/errormessages"
            raise Refusal(409, "OperationNotAllowed", message)

    def _change_disks(self, machine: Machine, old: dict[str, Any], new: dict[str, Any]) -> None:
        """What a PUT or PATCH says of data disks is all that there are to be."""
        wanted = (new.get("storageProfile") or {}).get("dataDisks")
        if wanted is None:
            return
        have = {d["managedDisk"]["id"].lower(): d for d in old["storageProfile"]["dataDisks"]}
        ids = {(d.get("managedDisk") or {}).get("id", "").lower() for d in wanted}
        attach = [d for d in wanted if (d.get("managedDisk") or {}).get("id", "").lower() not in have]
        if any(d["createOption"] != "Attach" for d in attach):
            raise Violation(501, "NotImplemented", "The stand-in makes no disks for machines that are there")
        self.change_disks(machine, attach, [id_ for id_ in have if id_ not in ids])

    def change_disks(self, machine: Machine, attach: list[dict[str, Any]], detach: list[str]) -> None:
        """`attach`: entries of dataDisks. Raises Refusal, and has changed nothing then."""
        disks: list[dict[str, Any]] = machine.properties["storageProfile"]["dataDisks"]
        left = [d for d in disks if d["managedDisk"]["id"].lower() not in detach]
        if len(left) + len(attach) > machine.size.most_disks:
            message = (
                "The maximum number of data disks allowed to be attached to a VM of this size is "
                f"{machine.size.most_disks}."
            )
            raise Refusal(409, "OperationNotAllowed", message)
        for entry in attach:
            found = self._disks.find_free(entry["managedDisk"]["id"], machine.resource)
            taken = {d["lun"] for d in left}
            entry.setdefault("lun", next(n for n in range(64) if n not in taken))
            if entry["lun"] in taken:
                message = f"Cannot attach data disk '{found['name']}' because a disk at LUN {entry['lun']} is already attached."
                raise invalid("dataDisk.lun", message)
            left.append({
                "lun": entry["lun"], "name": found["name"], "createOption": "Attach", "caching": entry.get("caching", "None"),
                "managedDisk": {"id": found["id"], "storageAccountType": found["sku"]["name"]}, "toBeDetached": False,
                "deleteOption": entry.get("deleteOption", "Detach"), "diskSizeGB": found["properties"]["diskSizeGB"],
            })  # fmt: skip
        for id_ in detach:
            self.pull_one(id_)
            self._disks.release(id_)
        machine.properties["storageProfile"]["dataDisks"] = left
        for entry in attach:
            found = self._disks.hold(entry["managedDisk"]["id"], machine.resource["id"])
            if machine.power == "running":
                self.plug_one(machine, found["id"])

    # ------------------------------------------------------------ how it looks

    def view(self, resource: Resource, query: Mapping[str, str]) -> None:
        machine = self.by_key.get(resource["id"].lower())
        for secret in ("customData", "adminPassword"):
            (resource["properties"].get("osProfile") or {}).pop(secret, None)
        if machine and ("instanceView" in query.get("$expand", "") or query.get("statusOnly") == "true"):
            resource["properties"]["instanceView"] = self.instance_view(machine)

    def instance_view(self, machine: Machine) -> dict[str, Any]:
        now, state = self._store.now(), machine.state
        status: dict[str, Any] = {"code": f"ProvisioningState/{state.lower()}", "level": "Info", "time": now}
        if state == "Failed" and machine.failure:
            status.update(
                code=f"ProvisioningState/failed/{machine.failure.code}", level="Error", message=machine.failure.message
            )
        status["displayStatus"] = f"Provisioning {state.lower()}"
        statuses = [status]
        if machine.power and not machine.deleting:
            code, title = f"PowerState/{machine.power}", f"VM {machine.power}"
            statuses.append({"code": code, "level": "Info", "displayStatus": title})
        return {
            "computerName": machine.properties.get("osProfile", {}).get("computerName", machine.name),
            "hyperVGeneration": "V2", "statuses": statuses,
            "disks": [{"name": machine.properties["storageProfile"]["osDisk"].get("name", ""), "statuses": []}],
        }  # fmt: skip

    def _list(self, call: Call) -> Any:
        if "instanceView" in call.query.get("$expand", "") and not re.match(
            "'virtualMachineScaleSet/id' eq ", call.query.get("$filter", "")
        ):
            message = "The expand of instanceView on the list of virtual machines needs a filter by a scale set."
            raise Refusal(400, "BadRequest", message)
        return self._resources.serve(call)


def _group(resource: Resource) -> str:
    return resource["id"].partition("/providers/")[0]


def _public(entry: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Public addresses that a configuration asks for, by the place of theirs."""
    configurations = (entry.get("properties") or {}).get("ipConfigurations") or []
    found = {
        str(n): (c.get("properties") or {}).get("publicIPAddressConfiguration") for n, c in enumerate(configurations)
    }
    return {number: wanted for number, wanted in found.items() if wanted}
