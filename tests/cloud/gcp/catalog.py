"""What is only read: projects, zones, regions, machine, accelerator and disk types."""

from __future__ import annotations

from typing import Any

from tests.cloud.gcp.facts import (
    ATTACHABLE,
    BUNDLED,
    DISK_TYPES,
    REGIONS,
    ZONES,
    MachineType,
    machine_type,
    machine_types,
    region_of,
)
from tests.cloud.gcp.lists import aggregated, list_of
from tests.cloud.gcp.quotas import Quotas
from tests.cloud.gcp.services import Call, Handler
from tests.cloud.gcp.store import BASE, Resource
from tests.cloud.gcp.world import PROJECT, PROJECT_NUMBER, World, not_found


class Catalog:
    def __init__(self, world: World, quotas: Quotas) -> None:
        self._world, self._quotas = world, quotas

    def handlers(self) -> dict[str, Handler]:
        found: dict[str, Handler] = {
            "compute.projects.get": self._project,
            "compute.zones.get": lambda call: _zone(call.path["zone"]),
            "compute.zones.list": self._zones,
            "compute.regions.get": lambda call: self._region(call.path["region"]),
            "compute.regions.list": self._regions,
        }
        for collection in ("machineTypes", "acceleratorTypes", "diskTypes"):
            kind = collection.removesuffix("s")
            found |= {
                f"compute.{collection}.get": lambda call, c=collection, k=kind: self._get(call, c, k),
                f"compute.{collection}.list": lambda call, c=collection, k=kind: list_of(
                    call, k, f"projects/{PROJECT}/zones/{call.path['zone']}/{c}", self._in(c, call.path["zone"])
                ),
                f"compute.{collection}.aggregatedList": lambda call, c=collection, k=kind: aggregated(
                    call,
                    k,
                    c,
                    [(f"zones/{zone}", self._in(c, zone)) for zone in ZONES],
                    [f"zones/{zone}" for zone in ZONES],
                ),
            }
        return found

    def _in(self, collection: str, zone: str) -> list[Resource]:
        if collection == "machineTypes":
            return [_machine(each, zone) for each in machine_types().values() if self._world.sells(each.name, zone)]
        if collection == "acceleratorTypes":
            return [_accelerator(name, zone) for name in _accelerators(self._world, zone)]
        return [_disk_type(name, zone) for name in DISK_TYPES]

    def _get(self, call: Call, collection: str, kind: str) -> dict[str, Any]:
        zone, name = call.path["zone"], call.path[kind]
        if collection == "machineTypes":  # custom ones are in no list
            found = machine_type(name)
            if found and self._world.sells(name, zone):
                return _machine(found, zone)
        for each in self._in(collection, zone):
            if each["name"] == name:
                return each
        raise not_found(f"projects/{PROJECT}/zones/{zone}/{collection}/{name}")

    def _project(self, call: Call) -> dict[str, Any]:
        return {
            "kind": "compute#project", "id": PROJECT_NUMBER, "name": PROJECT, "selfLink": f"{BASE}projects/{PROJECT}",
            "defaultServiceAccount": f"{PROJECT_NUMBER}-compute@developer.gserviceaccount.com",
            "quotas": self._quotas.of_project(),
            "commonInstanceMetadata": {"kind": "compute#metadata", "fingerprint": "uJ1Q-Cyk8bQ="},
        }  # fmt: skip

    def _zones(self, call: Call) -> dict[str, Any]:
        return list_of(call, "zone", f"projects/{PROJECT}/zones", [_zone(zone) for zone in ZONES])

    def _regions(self, call: Call) -> dict[str, Any]:
        return list_of(call, "region", f"projects/{PROJECT}/regions", [self._region(region) for region in REGIONS])

    def _region(self, region: str) -> Resource:
        return {
            "kind": "compute#region", "id": str(1000 + REGIONS.index(region)), "name": region, "description": region,
            "status": "UP", "selfLink": f"{BASE}projects/{PROJECT}/regions/{region}",
            "zones": [f"{BASE}projects/{PROJECT}/zones/{zone}" for zone in ZONES if region_of(zone) == region],
            "quotas": self._quotas.of_region(region), "supportsPzs": False,
        }  # fmt: skip


def _zone(zone: str) -> Resource:
    return {
        "kind": "compute#zone", "id": str(2000 + ZONES.index(zone)), "name": zone, "description": zone, "status": "UP",
        "region": f"{BASE}projects/{PROJECT}/regions/{region_of(zone)}", "selfLink": f"{BASE}projects/{PROJECT}/zones/{zone}",
    }  # fmt: skip


def _machine(found: MachineType, zone: str) -> Resource:
    row: Resource = {
        "kind": "compute#machineType", "id": str(3000 + len(found.name)), "name": found.name, "zone": zone,
        "description": f"{found.vcpus} vCPUs, {found.memory_mib / 1024:g} GB RAM", "guestCpus": found.vcpus,
        "memoryMb": found.memory_mib, "imageSpaceGb": 0, "maximumPersistentDisks": 128,
        "maximumPersistentDisksSizeGb": "263168", "isSharedCpu": found.shared,
        "architecture": "ARM64" if found.arm else "X86_64",
        "selfLink": f"{BASE}projects/{PROJECT}/zones/{zone}/machineTypes/{found.name}",
    }  # fmt: skip
    if found.accelerator:
        row["accelerators"] = [{"guestAcceleratorType": found.accelerator, "guestAcceleratorCount": found.accelerators}]
    return row


def _accelerators(world: World, zone: str) -> list[str]:
    """Those that can be attached, and those of the machine types that are sold here."""
    bundled = {
        each.accelerator for each in machine_types().values() if each.accelerator and world.sells(each.name, zone)
    }
    return [*(name for name in ATTACHABLE if world.sells(name, zone)), *sorted(bundled)]


def _accelerator(name: str, zone: str) -> Resource:
    most = max(ATTACHABLE[name][0]) if name in ATTACHABLE else 16
    known = [*ATTACHABLE, *sorted({accelerator for accelerator, _ in BUNDLED.values()})]
    return {
        "kind": "compute#acceleratorType", "id": str(10000 + known.index(name)), "name": name, "zone": zone,
        "description": name, "maximumCardsPerInstance": most,
        "selfLink": f"{BASE}projects/{PROJECT}/zones/{zone}/acceleratorTypes/{name}",
    }  # fmt: skip


def _disk_type(name: str, zone: str) -> Resource:
    low, high = DISK_TYPES[name]
    return {
        "kind": "compute#diskType", "id": str(30000 + list(DISK_TYPES).index(name)), "name": name, "zone": zone,
        "description": name, "validDiskSize": f"{low}GB-{high}GB", "defaultDiskSizeGb": "500",
        "selfLink": f"{BASE}projects/{PROJECT}/zones/{zone}/diskTypes/{name}",
    }  # fmt: skip
