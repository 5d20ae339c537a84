"""What a cluster needs around its machines: a resource group, a subnet, and rules that say who reaches them. Of the cluster's own
all carries its uid, and is removed by `sweep`."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from clusterctl.core.errors import BadRequest, ProviderError, UnknownOutcome
from clusterctl_providers.azure.calls import Calls, last_part
from clusterctl_providers.azure.errors import code_behind, is_missing
from clusterctl_providers.azure.network.card import Card
from clusterctl_providers.azure.network.group import ResourceGroup
from clusterctl_providers.azure.network.own import OwnNetwork
from clusterctl_providers.azure.network.owner import owner_of
from clusterctl_providers.azure.network.rules import Rules
from clusterctl_providers.azure.network.subnets import Subnet, Subnets
from clusterctl_providers.azure.versions import types_in
from clusterctl_providers.base import TAG_DISK, HeadMachine
from clusterctl_providers.cloud.lately import Lately
from clusterctl_providers.cloud.naming import made_name
from clusterctl_providers.cloud.removal import removed

LAST = 600.0  # seconds that the region's zones and the subnet are believed
LONGEST_NAME = 80  # of everything in a network, and of disks
# What is removed before what, in a group that stays; what is in none of these types is removed by whoever made it.
ORDER = (
    "microsoft.compute/disks",
    "microsoft.network/networkinterfaces",
    "microsoft.network/virtualnetworks",
    "microsoft.network/natgateways",
    "microsoft.network/publicipaddresses",
    "microsoft.network/networksecuritygroups",
    "microsoft.network/applicationsecuritygroups",
    "microsoft.compute/availabilitysets",
    "microsoft.compute/proximityplacementgroups",
)
_GONE_WORDS = frozenset(
    {"InvalidResourceReference", "NotFound", "ResourceNotFound", "ParentResourceNotFound", "SubnetNotFound"}
)
_IN_USE = frozenset({
    "InUseSubnetCannotBeDeleted", "InUseNetworkSecurityGroupCannotBeDeleted", "InUseNatGatewayCannotBeDeleted",
    "PublicIPAddressCannotBeDeleted", "NicInUse", "NicReservedForAnotherVm", "AnotherOperationInProgress", "DiskInUse",
    "ApplicationSecurityGroupInUse", "InUseApplicationSecurityGroupCannotBeDeleted", "OperationNotAllowed", "Conflict",
    "RetryableError", "ReferencedResourceNotProvisioned", "PublicIPAddressInUse", "ResourceInUse",
})  # fmt: skip


class Network:
    """Thread-safe. `ssh_from` is None where who may reach port 22 is not for us to say."""

    def __init__(
        self,
        calls: Calls,
        settings: Mapping[str, Any],
        cluster: str,
        uid: str,
        ssh_from: Sequence[str] | None = None,
        head: HeadMachine | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._calls, self._settings = calls, settings
        self._cluster, self._uid, self._clock, self._head = cluster, uid, clock, head
        self.group = ResourceGroup(calls, settings, cluster, uid, lambda: self._clock())
        self._subnet: Subnet | None = None
        self._zones: list[str] = []
        self._subnet_until = self._zones_until = 0.0
        self._lately = Lately(lambda: self._clock())
        self._lock = threading.RLock()
        self._rules: Rules | None = None
        self._ssh_from = ssh_from

    def part(self, *parts: str) -> str:
        """A name for something that is made for the cluster."""
        return made_name(self._cluster, self._uid, *parts, longest=LONGEST_NAME)

    def tags(self, **more: str) -> dict[str, str]:
        """For something new; the user's never replace ours."""
        return self.group.tags(**more)

    # ------------------------------------------------------------ where

    def zones(self) -> list[str]:
        """Of the region, as this subscription counts them: "1", "2", "3"; [""] for a region that has none."""
        with self._lock:
            if self._clock() >= self._zones_until:
                self._zones = self._read_zones()
                self._zones_until = self._clock() + LAST
            return list(self._zones)

    def _read_zones(self) -> list[str]:
        region, what = self._calls.region, "looking up the regions of the subscription"
        rows = self._calls.list(f"{self._calls.path()}/locations", what)
        found = next((row for row in rows if row.get("name") == region), None)
        if found is None:
            near = [str(row["name"]) for row in rows if str(row.get("name")).startswith(region[:4])]
            named = f" (such as {', '.join(sorted(near)[:5])})" if near else ""
            raise BadRequest(
                f"Azure has no region {region!r} for the subscription {self._calls.subscription}: mend `region` of `provider: "
                f"{{azure: ...}}`; `az account list-locations --output table` names them{named}"
            )
        zones = [str(each["logicalZone"]) for each in found.get("availabilityZoneMappings") or ()]
        return sorted(zones) or [""]

    @property
    def is_own(self) -> bool:
        """The virtual network is the cluster's own."""
        return not (self._settings.get("network") or self._settings.get("subnet"))

    @property
    def outbound(self) -> str:
        """nat, public or none."""
        return str(self._settings.get("outbound") or "") or ("nat" if self.is_own else "none")

    def given(self) -> Subnets:
        """Those of the user's virtual network."""
        network, subnet = (str(self._settings.get(key) or "") for key in ("network", "subnet"))
        return Subnets(self._calls, self.group.path(), network, subnet)

    def _own(self) -> OwnNetwork:
        space = str(self._settings.get("address_space") or "")
        return OwnNetwork(self._calls, self.group, self.part, space, nat=self.outbound == "nat")

    def subnet(self) -> Subnet:
        """That of the settings, else the cluster's own, which is made where it is missing."""
        with self._lock:
            if self._subnet is None or self._clock() >= self._subnet_until:
                self.group.ensure()
                self._subnet = self._own().ensure() if self.is_own else self.given().choose()
                self._lately.look("subnet")
                self._subnet_until = self._clock() + LAST
            return self._subnet

    def room(self) -> int | None:
        """How many addresses of the subnet nobody has; None where it is the cluster's own, or that is not to be known."""
        return None if self.is_own else self.given().room().get(self.subnet().id.lower())

    def _ranges(self) -> list[str]:
        """CIDRs of the virtual network, and of those that are peered with it."""
        return self._own().ranges if self.is_own else self.given().ranges()

    # ------------------------------------------------------------ who reaches whom

    @property
    def rules(self) -> Rules:
        with self._lock:
            if self._rules is None:
                given = self.group.setting("security_group", "Microsoft.Network", "networkSecurityGroups")
                clock = lambda: self._clock()  # noqa: E731  the tests set it
                self._rules = Rules(
                    self._calls, self.group, self.part, self._ranges, self._ssh_from, given, clock, self._head
                )
            return self._rules

    def ensure(self) -> Subnet:
        """All that a machine needs to be there before it is made."""
        self.group.ensure()
        with ThreadPoolExecutor(1) as pool:  # neither needs the other, and each takes Azure some seconds
            rules = pool.submit(self.rules.ensure)
            subnet = self.subnet()
            rules.result()
        return subnet

    def card(self) -> Card:
        """The network card that a worker makes for itself."""
        subnet = self.ensure()
        return Card(subnet.id, self.rules.id, self.outbound == "public", self.rules.members())

    def renew_access(self) -> None:
        """Makes who may reach port 22 what the settings say now."""
        self.group.ensure()
        self.rules.ensure(fresh=True)

    def forget(self, error: ProviderError) -> bool:
        """Azure no longer knows something that is remembered here (somebody deleted it): the next launch looks anew, and makes
        what is missing. False where that would not help: it was looked for a moment ago."""
        text = str(error).lower()
        if code_behind(error) not in _GONE_WORDS and not is_missing(error):
            return False
        if "/microsoft.network/" not in text and "resource group" not in text:
            return False
        with self._lock:
            if not self._lately.is_worth_a_look("subnet"):
                return False
            self._forget()
            return True

    def _forget(self) -> None:
        self._subnet_until = 0.0
        self.group.forget()
        self.rules.forget()

    # ------------------------------------------------------------ and removed

    def sweep(self) -> list[str]:
        """Removes what was made for this cluster beside machines and identities. Returns a sentence for each thing that has to
        wait. The cluster's own group is left to `remove_group`, which takes all of it along."""
        self._forget()
        if self.group.is_ours:
            return []
        waiting: list[str] = []
        rows = [row for row in self.group.resources() if self._is_ours(row)]
        for kind in ORDER:
            for row in rows:
                if "/".join(types_in(str(row["id"]))).lower() == kind and not self._goes_along(kind, row):
                    waiting += self._remove(row)
        return waiting

    def remove_group(self) -> list[str]:
        """The last thing to go: the cluster's own resource group."""
        return self.group.remove()

    def _is_ours(self, row: Mapping[str, Any]) -> bool:
        owner = owner_of(row)
        return owner is not None and owner.uid == self._uid

    def _goes_along(self, kind: str, row: Mapping[str, Any]) -> bool:
        """With its machine: a disk that is attached, but for the head's, which is waited for."""
        return kind == ORDER[0] and bool(row.get("managedBy")) and TAG_DISK not in (row.get("tags") or {})

    def _remove(self, row: Mapping[str, Any]) -> list[str]:
        path, thing = str(row["id"]), f"{types_in(str(row['id']))[-1]} {last_part(str(row['id']))}"
        return removed(
            lambda: self._calls.run("DELETE", path, f"removing {thing}"),
            thing,
            is_missing,
            lambda error: code_behind(error) in _IN_USE or isinstance(error, UnknownOutcome),
        )

    def clusters(self) -> list[tuple[str, str]]:
        """(cluster, uid) of everything but machines in this region that carries a uid."""
        return self.group.clusters()
