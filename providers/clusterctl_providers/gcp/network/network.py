"""What a cluster needs around its instances: a subnetwork that exists, and firewall rules, placement policies and an address of
its own, which carry its uid and are removed by `sweep`."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from ipaddress import ip_network
from typing import Any, TypeVar

from clusterctl.core.errors import AuthFailed, BadRequest, ProviderError
from clusterctl_providers.base import TAG_CLUSTER, TAG_DISK, TAG_UID, HeadMachine
from clusterctl_providers.cloud.lately import Lately
from clusterctl_providers.cloud.naming import made_name
from clusterctl_providers.cloud.removal import removed
from clusterctl_providers.gcp.calls import Calls, last_part, relative
from clusterctl_providers.gcp.errors import is_missing, reason_behind
from clusterctl_providers.gcp.machines.placement import Placement, is_gone
from clusterctl_providers.gcp.network.firewall import Firewall
from clusterctl_providers.gcp.network.owner import Owner, owner_of

log = logging.getLogger(__name__)

Found = TypeVar("Found")
LAST = 600.0  # seconds that the region's zones and the subnetwork are believed
LONGEST_NAME = 63  # of everything
# Purposes of subnetworks; the others are for load balancers and the like.
FOR_MACHINES = ("", "PRIVATE", "PRIVATE_RFC_1918")
_IN_USE = frozenset({
    "RESOURCE_IN_USE_BY_ANOTHER_RESOURCE", "resourceInUseByAnotherResource", "RESOURCE_IN_USE",
    "RESOURCE_NOT_READY", "resourceNotReady",
})  # fmt: skip


@dataclass(frozen=True)
class Subnet:
    """Links that begin with the project, which is another's where the network is shared."""

    url: str  # projects/P/regions/R/subnetworks/S
    network: str  # projects/P/global/networks/N


class Network:
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
        self._cluster, self._uid, self._clock = cluster, uid, clock
        self._subnet: Subnet | None = None
        self._zones: list[str] = []
        self._subnet_until = self._zones_until = 0.0
        self._lately = Lately(lambda: self._clock())
        self._lock = threading.RLock()
        self._firewall = Firewall(
            calls,
            self.owner,
            self.part,
            lambda: _project(self._network()),
            lambda: self.subnet().network,
            self._ranges,
            ssh_from,
            head,
            lambda: self._clock(),
        )
        self._placement = Placement(calls, self.owner, self.part)

    @property
    def name(self) -> str:
        """Of the cluster: its name and enough of its uid to be the only one."""
        return self.part()

    def part(self, *parts: str) -> str:
        """A name for something that is made for it."""
        return made_name(self._cluster, self._uid, *parts, longest=LONGEST_NAME)

    def owner(self) -> Owner:
        return Owner(self._cluster, self._uid, self._calls.region)

    def labels(self, **more: str) -> dict[str, str]:
        """For something new; the user's never replace ours."""
        users = {key: str(value) for key, value in dict(self._settings.get("tags") or {}).items()}
        return {**users, **more, TAG_CLUSTER: self._cluster, TAG_UID: self._uid}

    # ------------------------------------------------------------ what exists

    def zones(self) -> list[str]:
        """Of the region."""
        with self._lock:
            if self._clock() >= self._zones_until:
                region = self._calls.region
                try:
                    found = self._calls.get(f"regions/{region}", f"looking up the zones of the region {region}")
                except ProviderError as error:
                    if is_missing(error):
                        raise BadRequest(
                            f"Google Cloud has no region {region!r} for the project {self._calls.project}: mend `region` of "
                            "`provider: {gcp: ...}` (`gcloud compute regions list` names them)"
                        ) from error.__cause__
                    raise
                self._zones = sorted(last_part(url) for url in found.get("zones") or ())
                self._zones_until = self._clock() + LAST
            return list(self._zones)

    def subnet(self) -> Subnet:
        """That of the settings, else the network's in the region."""
        with self._lock:
            if self._subnet is None or self._clock() >= self._subnet_until:
                self._subnet = self._read_subnet()
                self._lately.look("subnet")
                self._subnet_until = self._clock() + LAST
            return self._subnet

    def _read_subnet(self) -> Subnet:
        region = self._calls.region
        wanted, network = str(self._settings.get("subnet") or ""), self._network()
        if wanted:
            own = f"projects/{_project(network)}/regions/{region}/subnetworks/{wanted}"
            return self._named_subnet(relative(wanted) if "/" in wanted else own, wanted)
        path = f"projects/{_project(network)}/regions/{region}/subnetworks"
        what = f"listing the subnetworks of {last_part(network)} in {region}"
        rows = [row for page in self._calls.pages(path, what) for row in page.get("items") or ()]
        ours = [row for row in rows if relative(str(row["network"])) == network]
        fit = [row for row in ours if _fits(row)]
        if not fit:
            raise BadRequest(f"{what}: {self._why_none(network, bool(ours))}")
        fit.sort(key=lambda row: _preference(row, network))
        return Subnet(relative(str(fit[0]["selfLink"])), network)

    def _network(self) -> str:
        """A link to that of the settings; one of another project (a shared VPC) is named in full."""
        wanted = str(self._settings.get("network") or "default")
        if "/" in wanted:
            return relative(wanted)
        subnet = relative(str(self._settings.get("subnet") or ""))
        project = _project(subnet) if subnet.startswith("projects/") else self._calls.project
        return f"projects/{project}/global/networks/{wanted}"

    def _named_subnet(self, path: str, wanted: str) -> Subnet:
        what = f"looking for the subnetwork {wanted}"
        try:
            row = self._calls.get(path, what)
        except ProviderError as error:
            if is_missing(error):
                raise BadRequest(
                    f"{what} in {self._calls.region}: there is none; mend `subnet` of `provider: {{gcp: ...}}`, or leave it out "
                    f"({path})"
                ) from error.__cause__
            raise
        if not _fits(row):
            raise BadRequest(
                f"{what}: it is no subnetwork for machines with IPv4 addresses (purpose {row.get('purpose')}, stack "
                f"{row.get('stackType')}); name another under `subnet`"
            )
        return Subnet(relative(str(row["selfLink"])), relative(str(row["network"])))

    def _why_none(self, network: str, has_some: bool) -> str:
        if has_some:
            return "none of them is for machines with IPv4 addresses; name another `network` or `subnet`"
        name, region = last_part(network), self._calls.region
        try:
            self._calls.get(network, f"looking for the network {name}")
        except ProviderError as error:
            if not is_missing(error):
                raise
            return (
                f"the project {_project(network)} has no network {name!r}; make it (`gcloud compute networks create {name} "
                "--subnet-mode=auto`), or name another under `provider: {gcp: {network: ...}}`"
            )
        return (
            f"there is none; make one (`gcloud compute networks subnets create {name} --network={name} --region={region} "
            "--range=10.0.0.0/20`), or name another `network` or `region`"
        )

    def _ranges(self) -> list[str]:
        """CIDRs of the network's subnetworks, in all regions."""
        network = self.subnet().network
        what = f"looking for the ranges of the network {last_part(network)}"
        found: list[str] = []
        for page in self._calls.pages(f"projects/{_project(network)}/aggregated/subnetworks", what):
            for scoped in (page.get("items") or {}).values():
                for row in scoped.get("subnetworks") or ():
                    if relative(str(row["network"])) == network:
                        fields = ("ipCidrRange", "externalIpv6Prefix", "internalIpv6Prefix")
                        found += [str(row[field]) for field in fields if row.get(field)]
        return found

    # ------------------------------------------------------------ what is made

    def tags(self, *, head: bool = False) -> list[str]:
        """Network tags of a node: the user's, else the cluster's own, whose firewall rules are made where they are missing."""
        given = [str(tag) for tag in self._settings.get("network_tags") or ()]
        if given:
            return given
        self._firewall.ensure()
        return [self._firewall.tag, *([self._firewall.head_tag] if head else [])]

    def renew_access(self) -> None:
        """Makes who may reach port 22 what the settings say now."""
        if not self._settings.get("network_tags"):
            self._firewall.ensure(fresh=True)

    def interface(self, *, public: bool) -> dict[str, Any]:
        """A network card in the cluster's subnetwork. `public`: with a public address, which Google chooses."""
        outward = {"accessConfigs": [{"name": "External NAT", "type": "ONE_TO_ONE_NAT"}]} if public else {}
        return {"subnetwork": self.subnet().url, **outward}

    def placement_policy(self, pool: str, zone: str) -> str:
        """The name of the policy by which the gangs of a pool with `one_zone` sit close together."""
        if not self._placement.is_known(pool, zone):
            self._lately.look("placement")
        return self._placement.policy(pool, zone)

    # ------------------------------------------------------------ what Google does not know

    def forget(self, error: ProviderError) -> bool:
        """Google no longer knows something that is remembered here (somebody deleted it): the next launch looks anew, and makes
        what is missing. False where that would not help: it was looked for a moment ago."""
        kind = "placement" if is_gone(error) else "subnet" if "/subnetworks/" in str(error) else ""
        with self._lock:
            if not self._lately.is_worth_a_look(kind):
                return False
            if kind == "placement":
                self._placement.forget()
            else:
                self._subnet_until = 0.0
            return True

    # ------------------------------------------------------------ and removed

    def sweep(self) -> list[str]:
        """Removes what was made for this cluster beside instances. Returns a sentence for each thing that has to wait (an
        instance that is still ending has its address)."""
        waiting: list[str] = []
        for path, name in self._disks():
            waiting += self._remove(path, f"the disk {name}")
        for path, name in self._addresses():
            waiting += self._remove(path, f"the address {name}")
        for path, name in self._placement.mine():
            waiting += self._remove(path, f"the placement policy {name}")
        for path, name in self._unless_forbidden(self._firewall.mine):
            waiting += self._remove(path, f"the firewall rule {name}")
        self._placement.forget()
        self._firewall.forget()
        return waiting

    def _disks(self) -> list[tuple[str, str]]:
        """Those that outlived their instance; those in use go with it, but for the head's, which is waited for."""
        return [
            (relative(str(row["selfLink"])), str(row["name"]))
            for row in self._labelled("disks")
            if not row.get("users") or TAG_DISK in row["labels"]
        ]

    def _addresses(self) -> list[tuple[str, str]]:
        return [(relative(str(row["selfLink"])), str(row["name"])) for row in self._labelled("addresses")]

    def _labelled(self, collection: str, uid: str = "") -> list[dict[str, Any]]:
        """Of our uid, or with `uid` = "*" of any, in our region."""
        wanted = f"labels.{TAG_UID}:*" if uid == "*" else f"labels.{TAG_UID}={self._uid}"
        what = f"looking for {collection} of clusters in {self._calls.region}"
        found: list[dict[str, Any]] = []
        for page in self._calls.pages(f"aggregated/{collection}", what, filter=wanted):
            for scope, scoped in (page.get("items") or {}).items():
                if f"{last_part(scope)}-".startswith(f"{self._calls.region}-"):
                    found += scoped.get(collection) or ()
        return found

    def _remove(self, path: str, thing: str) -> list[str]:
        return removed(
            lambda: self._calls.run("DELETE", path, f"removing {thing}"),
            thing,
            is_missing,
            lambda error: reason_behind(error) in _IN_USE,
        )

    def _unless_forbidden(self, look: Callable[[], list[Found]]) -> list[Found]:
        """What was found; nothing where the rules of the network are not for us to see, and none of them is ours."""
        try:
            return look()
        except AuthFailed as error:
            if not self._settings.get("network_tags"):
                raise
            log.info("%s; this cluster makes no firewall rule", error)
            return []

    def clusters(self) -> list[tuple[str, str]]:
        """(cluster, uid) of everything but instances in this region that carries a uid."""
        labelled = [*self._labelled("disks", "*"), *self._labelled("addresses", "*")]
        owners = [*map(owner_of, labelled), *self._placement.owners()]
        owners += self._unless_forbidden(lambda: list(self._firewall.owners(self._calls.region)))
        return sorted({(owner.cluster, owner.uid) for owner in owners if owner is not None})


def _project(link: str) -> str:
    """Of a link that begins with it."""
    return link.split("/")[1]


def _fits(row: Mapping[str, Any]) -> bool:
    """For machines, which reach each other at IPv4 addresses."""
    return str(row.get("purpose") or "") in FOR_MACHINES and row.get("stackType") != "IPV6_ONLY"


def _preference(row: Mapping[str, Any], network: str) -> tuple[Any, ...]:
    """First that which has the network's name, as Google makes them; then the largest."""
    return (row["name"] != last_part(network), ip_network(row["ipCidrRange"]).prefixlen, row["name"])
