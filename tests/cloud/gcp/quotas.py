"""The quotas of a project: what `world.quotas` says, and what the instances, disks and addresses use of them."""

from __future__ import annotations

from collections import Counter
from typing import Any

from tests.cloud.gcp.facts import ATTACHABLE, BUNDLED, machine_type, region_of
from tests.cloud.gcp.store import Resource, Store, name_of
from tests.cloud.gcp.world import Failure, World, quota_exceeded

REGIONAL = {  # what a new project has
    "CPUS": 72.0, "PREEMPTIBLE_CPUS": 0.0, "INSTANCES": 720.0, "DISKS_TOTAL_GB": 81920.0, "SSD_TOTAL_GB": 20480.0,
    "IN_USE_ADDRESSES": 69.0, "STATIC_ADDRESSES": 69.0, "N2_CPUS": 200.0, "C3_CPUS": 200.0,
    "NVIDIA_T4_GPUS": 1.0, "NVIDIA_L4_GPUS": 1.0, "PREEMPTIBLE_NVIDIA_L4_GPUS": 1.0,
}  # fmt: skip
GLOBAL = {"CPUS_ALL_REGIONS": 32.0, "GPUS_ALL_REGIONS": 0.0, "NETWORKS": 5.0, "FIREWALLS": 100.0, "IMAGES": 2000.0}
_OWN_CPUS = ("n2", "n2d", "c2", "c2d", "c3", "c3d", "c4", "m1", "a2", "t2d", "t2a", "n4", "c4a", "c4d")


class Quotas:
    """A quota that the world does not name is told with the limit of a new project, and never refuses anything."""

    def __init__(self, world: World, store: Store) -> None:
        self._world, self._store = world, store

    def of_region(self, region: str) -> list[dict[str, Any]]:
        used = self._used(region)
        named = {metric.split("/")[0] for metric in self._world.quotas} - set(GLOBAL)
        return [
            {"metric": metric, "limit": self._told(metric, region), "usage": float(used[metric])}
            for metric in sorted({*REGIONAL, *named})
        ]

    def of_project(self) -> list[dict[str, Any]]:
        used = self._used("")
        return [
            {"metric": metric, "limit": float(self._world.quotas.get(metric, limit)), "usage": float(used[metric])}
            for metric, limit in GLOBAL.items()
        ]

    def refusal(
        self, name: str, zone: str, market: str, accelerators: dict[str, int], count: int = 1
    ) -> Failure | None:
        """Why no `count` more of this machine type may be had."""
        if not self._world.quotas:
            return None
        region, extra = region_of(zone), metrics_of(name, market, accelerators)
        here, all_of_it = self._used(region), self._used("")
        for metric, each in extra.items():
            everywhere = metric in GLOBAL
            limit = self._world.quotas.get(metric) if everywhere else self._limit(metric, region)
            used = all_of_it[metric] if everywhere else here[metric]
            if limit is not None and used + each * count > limit:
                return quota_exceeded(metric, limit, "" if everywhere else region)
        return None

    def _told(self, metric: str, region: str) -> float:
        limit = self._limit(metric, region)
        return float(REGIONAL.get(metric, 0.0) if limit is None else limit)

    def _limit(self, metric: str, region: str) -> float | None:
        return self._world.quotas.get(f"{metric}/{region}", self._world.quotas.get(metric))

    def _used(self, region: str) -> Counter[str]:
        """`region` "": all of them."""
        used: Counter[str] = Counter()
        for instance in self._store.every("instances"):
            zone = name_of(instance["zone"])
            if instance["status"] in ("TERMINATED", "SUSPENDED") or (region and region_of(zone) != region):
                continue
            used.update(metrics_of(name_of(instance["machineType"]), market_of(instance), _attached(instance)))
        for disk in self._store.every("disks"):
            if not region or region_of(name_of(disk["zone"])) == region:
                used["SSD_TOTAL_GB" if "ssd" in disk["type"] else "DISKS_TOTAL_GB"] += int(disk["sizeGb"])
        for address in self._store.every("addresses"):
            if not region or name_of(address.get("region", "")) == region:
                used["STATIC_ADDRESSES"] += 1
        for metric, collection in (("NETWORKS", "networks"), ("FIREWALLS", "firewalls"), ("IMAGES", "images")):
            used[metric] = len(self._store.every(collection))
        return used


def market_of(instance: Resource) -> str:
    """The word by which the world sells it: on-demand, spot, flex-start or reservation."""
    scheduling = instance.get("scheduling", {})
    model = "SPOT" if scheduling.get("preemptible") else scheduling.get("provisioningModel", "STANDARD")
    return {"SPOT": "spot", "FLEX_START": "flex-start", "RESERVATION_BOUND": "reservation"}.get(model, "on-demand")


def sold_as(instance: Resource) -> str:
    """The name by which the world counts its capacity: n1-standard-8+nvidia-tesla-t4x2 where devices are attached to it."""
    name = name_of(instance["machineType"])
    found = machine_type(name)
    if found and found.accelerator:
        return name
    return name + "".join(f"+{device}x{count}" for device, count in _attached(instance).items())


def _attached(instance: Resource) -> dict[str, int]:
    return {
        name_of(each["acceleratorType"]): int(each["acceleratorCount"])
        for each in instance.get("guestAccelerators", [])
    }


def metrics_of(name: str, market: str, accelerators: dict[str, int]) -> Counter[str]:
    """What one instance of the machine type counts against. `accelerators`: those attached to it."""
    found = machine_type(name)
    if found is None:
        return Counter()
    preemptible = market in ("spot", "flex-start")
    counted: Counter[str] = Counter({"INSTANCES": 1, "CPUS_ALL_REGIONS": found.vcpus})
    own = f"{found.family.upper()}_CPUS" if found.family in _OWN_CPUS else "CPUS"
    counted["PREEMPTIBLE_CPUS" if preemptible else own] += found.vcpus
    devices = dict(accelerators)
    if found.accelerator:
        devices[found.accelerator] = found.accelerators
    for accelerator, count in devices.items():
        metric = next((m for a, m in BUNDLED.values() if a == accelerator), "")
        metric = metric or ATTACHABLE.get(accelerator, ((), f"{accelerator.upper().replace('-', '_')}_GPUS"))[1]
        counted[f"PREEMPTIBLE_{metric}" if preemptible else metric] += count
        counted["GPUS_ALL_REGIONS"] += count
    return counted
