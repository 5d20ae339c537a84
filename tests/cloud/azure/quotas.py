"""Quotas of a region: vCPUs of all machines that are paid for by the hour, of each family, and of spot machines together."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from tests.cloud.azure.machine import Machine
from tests.cloud.azure.services import Call, Services
from tests.cloud.azure.sizes import Size, sizes, title_of
from tests.cloud.azure.store import Store
from tests.cloud.azure.world import Refusal, World

CORES, SPOT = "cores", "lowPriorityCores"
USUAL = 100_000.0
_REQUEST = "https://aka.ms/ProdportalCRP/?#create/Microsoft.Support/Parameters/"
_NETWORK = {
    "VirtualNetworks": "Microsoft.Network/virtualNetworks",
    "PublicIPAddresses": "Microsoft.Network/publicIPAddresses",
    "NetworkInterfaces": "Microsoft.Network/networkInterfaces",
    "NetworkSecurityGroups": "Microsoft.Network/networkSecurityGroups",
    "NatGateways": "Microsoft.Network/natGateways",
}


class Quotas:
    def __init__(
        self, world: World, store: Store, services: Services, machines: Callable[[], Iterable[Machine]]
    ) -> None:  # fmt: skip
        self._world, self._store, self._machines = world, store, machines
        services.on("usage.list", self._compute)
        services.on("usages.list", self._network)

    def check(self, size: Size, market: str, region: str, old: Size | None = None) -> None:
        """For one machine more, or for one that was of the size `old`. Raises Refusal (409). Machines that are deallocated count
        like others."""
        for name in [SPOT] if market == "spot" else [CORES, size.family]:
            more = size.vcpus - (old.vcpus if old and (name in (CORES, SPOT) or old.family == name) else 0)
            limit, usage = self.limit(name, region), self._usage(name, region)
            if usage + more > limit:
                raise self._over(name, region, limit, usage, more)

    def limit(self, name: str, region: str) -> float:
        quotas = self._world.quotas
        return quotas.get(f"{name}/{region}", quotas.get(name, USUAL))

    def _usage(self, name: str, region: str) -> int:
        return sum(
            m.size.vcpus for m in self._machines()
            if m.region == region and (m.market == "spot") == (name == SPOT) and name in (CORES, SPOT, m.size.family)
        )  # fmt: skip

    def _over(self, name: str, region: str, limit: float, usage: int, more: int) -> Refusal:
        title = {CORES: "Total Regional Cores", SPOT: "LowPriorityCores"}.get(name, f"{name} Cores")
        kind = "per-vm-quota-requests" if name not in (CORES, SPOT) else "regional-quota-requests"
        return Refusal(
            409, "OperationNotAllowed",
            f"Operation could not be completed as it results in exceeding approved {title} quota. Additional details - "
            "Deployment "
            f"Model: Resource Manager, Location: {region}, Current Limit: {limit:g}, Current Usage: {usage}, Additional "
            "Required: "
            f"{more}, (Minimum) New Limit Required: {usage + more}. Setup Alerts when Quota reaches threshold. Learn more at "
            f"https://aka.ms/quotamonitoringalerting . Submit a request for Quota increase at {_REQUEST} by specifying "
            "parameters "
            "listed in the ‘Details’ section for deployment to succeed. Please read more about quota limits at "
            f"https://docs.microsoft.com/en-us/azure/azure-supportability/{kind}",
        )  # fmt: skip

    def _compute(self, call: Call) -> dict[str, Any]:
        region = call.path["location"].lower()
        titles = {
            "availabilitySets": "Availability Sets", CORES: "Total Regional vCPUs", "virtualMachines": "Virtual Machines",
            **{size.family: title_of(size.family) for size in sizes().values()}, SPOT: "Total Regional Low-priority vCPUs",
        }  # fmt: skip
        return {"value": [_row(n, t, self._usage(n, region), self.limit(n, region)) for n, t in titles.items()]}

    def _network(self, call: Call) -> dict[str, Any]:
        region = call.path["location"].lower()
        rows = []
        for name, kind in _NETWORK.items():
            used = sum(r.get("location") == region for r in self._store.of_type(kind))
            rows.append(_row(name, name, used, self.limit(name, region)))
        return {"value": rows}


def _row(name: str, title: str, used: int, limit: float) -> dict[str, Any]:
    return {
        "unit": "Count",
        "currentValue": used,
        "limit": int(limit),
        "name": {"value": name, "localizedValue": title},
    }
