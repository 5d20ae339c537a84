"""What an instance is to be, read from a request as strictly as Google reads it."""

from __future__ import annotations

import copy
from dataclasses import dataclass, field

from tests.cloud.gcp.compute import Compute
from tests.cloud.gcp.disks import Disks
from tests.cloud.gcp.facts import MachineType, machine_type, region_of
from tests.cloud.gcp.images import Images
from tests.cloud.gcp.networks import Networks
from tests.cloud.gcp.policies import placed
from tests.cloud.gcp.quotas import market_of, sold_as
from tests.cloud.gcp.reservations import Reservations
from tests.cloud.gcp.rules import (
    check_devices,
    check_labels,
    check_metadata,
    check_policies,
    check_scheduling,
    patience,
)
from tests.cloud.gcp.services import Call
from tests.cloud.gcp.store import BASE, Resource, fingerprint, key_of, name_of
from tests.cloud.gcp.world import PROJECT, Failure, Refusal, already_exists, in_use, invalid, not_found


@dataclass
class Launch:
    """`disks`: keys of its disks, in the order of `body["disks"]` (scratch disks have none: "")."""

    key: str
    zone: str
    type: MachineType
    body: Resource
    accelerators: dict[str, int] = field(default_factory=dict)
    disks: list[str] = field(default_factory=list)
    reservation: Resource | None = None  # that its capacity is part of
    failure: Failure | None = None  # for which it comes to nothing, known though the call is accepted
    waits: float = 0.0  # seconds for which it waits for capacity

    @property
    def market(self) -> str:
        return market_of(self.body)

    @property
    def sold_as(self) -> str:
        """The name by which the world sells it."""
        return sold_as(self.body)

    @property
    def attachment(self) -> str:
        return ",".join(f"{name}:{count}" for name, count in self.accelerators.items())


class Launches:
    def __init__(
        self, compute: Compute, disks: Disks, images: Images, networks: Networks, reservations: Reservations
    ) -> None:
        self._world, self._store, self._reservations = compute.world, compute.store, reservations
        self._disks, self._images, self._networks = disks, images, networks

    def read(self, call: Call, key: str, wanted: Resource, where: str, bare: bool = False) -> Launch:
        """Raises Refusal. `bare`: as in bulkInsert and in templates, types are named without their zone. Makes nothing yet."""
        body = copy.deepcopy(wanted)
        zone, self_ = key.split("/")[3], f"projects/{PROJECT}"
        found = self._machine(body.get("machineType"), zone, f"{where}.machineType", bare)
        call.need("compute.instances.create", key)
        self._need_more(call, key, body)
        accelerators = self._accelerators(body.get("guestAccelerators", []), zone, f"{where}.guestAccelerators", bare)
        body["scheduling"] = check_scheduling(body.get("scheduling", {}), found, accelerators, where)
        check_devices(found, accelerators, body, where)
        if body.get("resourcePolicies"):
            body["resourcePolicies"] = placed(
                self._store, body["resourcePolicies"], region_of(zone), found, bare, f"{where}.resourcePolicies"
            )
            for link in body["resourcePolicies"]:
                call.need("compute.resourcePolicies.use", link.removeprefix(BASE))
        if "reservationAffinity" in body:
            body["reservationAffinity"] = self._reservations.checked(
                body["reservationAffinity"], zone, f"{where}.reservationAffinity"
            )
        check_labels(body.get("labels", {}), f"{where}.labels")
        check_metadata(body.get("metadata", {}), f"{where}.metadata")
        body["disks"] = [
            self._disk(call, disk, number, zone, f"{where}.disks[{number}]", found, bare)
            for number, disk in enumerate(body.get("disks", []))
        ]
        if not any(disk["boot"] for disk in body["disks"]):
            raise invalid(
                f"{where}.disks", "", "No boot disk is specified." if body["disks"] else "No disks are specified."
            )
        if not body.get("networkInterfaces"):
            raise invalid(f"{where}.networkInterfaces", "", "At least one network interface is required.")
        body["networkInterfaces"] = [
            self._networks.interface(call, interface, zone, f"{where}.networkInterfaces[{n}]", n)
            for n, interface in enumerate(body["networkInterfaces"])
        ]
        failure = self._check_accounts(call, body, where)
        body |= {
            "name": key.rpartition("/")[2], "zone": f"{BASE}{self_}/zones/{zone}",
            "machineType": f"{BASE}{self_}/zones/{zone}/machineTypes/{found.name}",
            "labelFingerprint": fingerprint(body.get("labels", {})), "fingerprint": "Cg8=", "startRestricted": False,
            "deletionProtection": body.get("deletionProtection", False), "cpuPlatform": "Intel Cascade Lake",
            "canIpForward": body.get("canIpForward", False),
        }  # fmt: skip
        body["metadata"] = with_fingerprint(body.get("metadata", {}), "items", "compute#metadata")
        body["tags"] = with_fingerprint(body.get("tags", {}), "items")
        if accelerators:
            body["guestAccelerators"] = [
                {"acceleratorType": f"{BASE}{self_}/zones/{zone}/acceleratorTypes/{name}", "acceleratorCount": count}
                for name, count in accelerators.items()
            ]
        check_policies(self._world, body)
        waits = patience(body.pop("params", {}), body["scheduling"]["provisioningModel"], f"{where}.params")
        return Launch(key, zone, found, body, accelerators, waits=waits, failure=failure)

    def with_disks(self, call: Call, launch: Launch) -> Launch:
        """Makes the new disks."""
        for number, disk in enumerate(launch.body["disks"]):
            if disk["type"] == "SCRATCH":
                launch.disks.append("")
                continue
            if "initializeParams" not in disk:
                launch.disks.append(key_of(disk["source"], PROJECT, "source"))
                continue
            launch.disks.append(self._make(call, launch, disk, number))
        return launch

    def _make(self, call: Call, launch: Launch, disk: Resource, number: int) -> str:
        params = disk["initializeParams"]
        name = params.get("diskName") or (launch.body["name"] if disk["boot"] else f"{launch.body['name']}-{number}")
        key = f"projects/{PROJECT}/zones/{launch.zone}/disks/{name}"
        source = self._images.find(call, params["sourceImage"], "sourceImage") if params.get("sourceImage") else None
        wanted = {
            "sizeGb": params.get("diskSizeGb") or disk.get("diskSizeGb"), "type": params.get("diskType"),
            "labels": params.get("labels", {}), "diskEncryptionKey": disk.get("diskEncryptionKey"),
            "resourcePolicies": params.get("resourcePolicies"), "provisionedIops": params.get("provisionedIops"),
            "provisionedThroughput": params.get("provisionedThroughput"), "description": params.get("description"),
        }  # fmt: skip
        made = self._disks.make(call, key, wanted, source, "resource.disks", launch.type)
        disk |= {"source": made["selfLink"], "diskSizeGb": made["sizeGb"]}
        if source:
            disk |= {"architecture": source["architecture"], "guestOsFeatures": source.get("guestOsFeatures", [])}
        return key

    # ------------------------------------------------------------ members

    def _machine(self, text: str | None, zone: str, where: str, bare: bool) -> MachineType:
        if not text:
            raise invalid(where, "", "The machine type must be specified.")
        if bare:
            if "/" in text:
                raise invalid(where, text, "Must be a machine type name, not a URL.")
            name = text
        else:
            key = key_of(text, PROJECT, where)
            name = name_of(key)
            if f"/zones/{zone}/machineTypes/" not in key:
                raise invalid(where, text, f"The machine type must be in zone '{zone}'.")
        found = machine_type(name)
        if found is None or not self._world.sells(name, zone):
            raise invalid(where, text, f"Machine type with name '{name}' does not exist in zone '{zone}'.")
        return found

    def _need_more(self, call: Call, key: str, body: Resource) -> None:
        for member, permission in (("metadata", "setMetadata"), ("tags", "setTags"), ("labels", "setLabels"),
                                   ("serviceAccounts", "setServiceAccount")):  # fmt: skip
            if body.get(member):
                call.need(f"compute.instances.{permission}", key)

    def _accelerators(self, wanted: list[Resource], zone: str, where: str, bare: bool) -> dict[str, int]:
        found: dict[str, int] = {}
        for number, each in enumerate(wanted):
            text, count = each.get("acceleratorType", ""), int(each.get("acceleratorCount", 0))
            if bare:
                if "/" in text:
                    raise invalid(
                        f"{where}[{number}].acceleratorType", text, "Must be an accelerator type name, not a URL."
                    )
                name = text
            else:
                key = key_of(text, PROJECT, f"{where}[{number}].acceleratorType")
                name = name_of(key)
                if f"/zones/{zone}/acceleratorTypes/" not in key:
                    raise invalid(f"{where}[{number}].acceleratorType", text, f"It must be in zone '{zone}'.")
            if not self._world.sells(name, zone):
                raise not_found(f"projects/{PROJECT}/zones/{zone}/acceleratorTypes/{name}")
            found[name] = count
        return found

    def _disk(
        self, call: Call, wanted: Resource, number: int, zone: str, where: str, machine: MachineType, bare: bool
    ) -> Resource:
        disk = {
            **wanted, "kind": "compute#attachedDisk", "index": number, "type": wanted.get("type", "PERSISTENT"),
            "mode": wanted.get("mode", "READ_WRITE"), "boot": wanted.get("boot", False),
            "autoDelete": wanted.get("autoDelete", False), "interface": wanted.get("interface", "SCSI"),
            "deviceName": wanted.get("deviceName", f"persistent-disk-{number}"),
        }  # fmt: skip
        params = disk.get("initializeParams")
        if ("source" in disk) == (params is not None):
            raise invalid(where, "", "Exactly one of source and initializeParams must be set.")
        if params is None:
            self._existing(call, disk, zone, where)
            return disk
        if bare and params.get("diskType"):
            if "/" in params["diskType"]:
                raise invalid(
                    f"{where}.initializeParams.diskType", params["diskType"], "Must be a disk type name, not a URL."
                )
            params = disk["initializeParams"] = {**params, "diskType": f"zones/{zone}/diskTypes/{params['diskType']}"}
        kind = self._disks.kind_of(params.get("diskType"), zone, f"{where}.initializeParams.diskType", machine)
        if (kind == "local-ssd") != (disk["type"] == "SCRATCH"):
            raise invalid(f"{where}.type", disk["type"], "Local SSDs are of type SCRATCH, and nothing else is.")
        if kind == "local-ssd":
            return disk
        call.need(
            "compute.disks.create", f"projects/{PROJECT}/zones/{zone}/disks/{params.get('diskName', '')}".rstrip("/")
        )
        if params.get("labels"):
            call.need("compute.disks.setLabels", f"projects/{PROJECT}")
        if disk["boot"]:
            self._disks.bootable(kind, f"{where}.initializeParams.diskType")
            if not params.get("sourceImage"):
                raise invalid(f"{where}.initializeParams.sourceImage", "", "A boot disk needs a source.")
        image: Resource | None = None
        if params.get("sourceImage"):
            image = self._images.find(call, params["sourceImage"], f"{where}.initializeParams.sourceImage")
            if disk["boot"] and (image["architecture"] == "ARM64") != machine.arm:
                message = (
                    f"Requested boot disk architecture ({image['architecture']}) is not compatible with machine type "
                    f"architecture ({'ARM64' if machine.arm else 'X86_64'})."
                )
                raise Refusal(400, "badRequest", message)
        planned = {"type": params.get("diskType"), "sizeGb": params.get("diskSizeGb") or disk.get("diskSizeGb")}
        self._disks.planned(planned, zone, image, f"{where}.initializeParams", machine)
        name = params.get("diskName")
        if name and self._store.find(f"projects/{PROJECT}/zones/{zone}/disks/{name}"):
            raise already_exists(f"projects/{PROJECT}/zones/{zone}/disks/{name}")
        return disk

    def _existing(self, call: Call, disk: Resource, zone: str, where: str) -> None:
        key = key_of(disk["source"], PROJECT, f"{where}.source")
        if f"/zones/{zone}/disks/" not in key:
            raise invalid(f"{where}.source", disk["source"], f"The disk must be in zone '{zone}'.")
        found = self._store.get(key)
        call.need("compute.disks.use" if disk["mode"] == "READ_WRITE" else "compute.disks.useReadOnly", key)
        if found.get("users") and disk["mode"] == "READ_WRITE":
            raise in_use(key, found["users"][0].removeprefix(BASE))
        disk |= {"source": found["selfLink"], "diskSizeGb": found["sizeGb"]}

    def _check_accounts(self, call: Call, body: Resource, where: str) -> Failure | None:
        """An account that is not there, or may not be used, is no reason to refuse the call: its operation tells."""
        wanted = body.get("serviceAccounts", [])
        if len(wanted) > 1:
            raise invalid(f"{where}.serviceAccounts", "", "At most one service account is allowed.")
        for each in wanted:
            email = each.get("email", "")
            if not each.get("scopes"):
                raise invalid(f"{where}.serviceAccounts[0].scopes", "", "At least one scope is required.")
            if email == "default":
                email = next(e for e in self._world.accounts if e.endswith("-compute@developer.gserviceaccount.com"))
                each["email"] = email
            if "@" not in email:
                raise invalid(f"{where}.serviceAccounts[0].email", email, "It must be an e-mail address or 'default'.")
            account = self._world.accounts.get(email)
            if account is None or self._world.clock() < account.known_from:
                message = f"The resource '{email}' of type 'serviceAccount' was not found."
                return Failure("EXTERNAL_RESOURCE_NOT_FOUND", message, 404, "NOT FOUND")
            if not call.may("iam.serviceAccounts.actAs", f"projects/{PROJECT}/serviceAccounts/{email}"):
                message = (
                    f"The user does not have access to service account '{email}'.  User: '{call.principal.email}'.  Ask a "
                    "project owner to grant you the iam.serviceAccountUser role on the service account"
                )
                return Failure("SERVICE_ACCOUNT_ACCESS_DENIED", message, 400, "BAD REQUEST")
        return None


def with_fingerprint(what: Resource, member: str, kind: str = "") -> Resource:
    found: Resource = {"fingerprint": fingerprint(what.get(member, []))}
    if kind:
        found["kind"] = kind
    if what.get(member):
        found[member] = what[member]
    return found
