"""What a spec names and Azure does not have (`base.HasReview`): subscription, region, resource group, network, the way through a
Bastion, identities, sizes, zones, images; and a lock under which nothing could be ended again. Each is looked up by the part
that will need it, whose sentence is told with its place."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from clusterctl.core.errors import AuthFailed, BadRequest, ProviderError
from clusterctl_providers import catalog
from clusterctl_providers.azure import bastion
from clusterctl_providers.azure.calls import Calls, last_part
from clusterctl_providers.azure.errors import is_missing
from clusterctl_providers.azure.images.lookup import Images
from clusterctl_providers.azure.market.skus import ANYWHERE, Sku, Skus
from clusterctl_providers.azure.network.network import Network
from clusterctl_providers.azure.rights.identity import AUTO
from clusterctl_providers.azure.rights.locks import locks_over
from clusterctl_providers.base import Objection, PoolRequest
from clusterctl_providers.cloud.review import image_kinds, nearest, tried

_LOOKED_UP = {  # settings -> the type of what they name, by an id or by a name in the resource group
    "security_group": "Microsoft.Network/networkSecurityGroups",
    "disk_encryption_set": "Microsoft.Compute/diskEncryptionSets",
    "identity": "Microsoft.ManagedIdentity/userAssignedIdentities",
    "worker_identity": "Microsoft.ManagedIdentity/userAssignedIdentities",
}


class Review:
    def __init__(self, calls: Calls, settings: Mapping[str, Any], network: Network, skus: Skus, images: Images) -> None:
        self._calls, self._settings = calls, settings
        self._network, self._skus, self._images = network, skus, images

    def of(self, pools: Sequence[PoolRequest]) -> list[Objection]:
        """Where the subscription, the region or the group is wrong, nothing else can be looked up there, and is not."""
        for look in (self._subscription, self._region, self._group):
            if (wrong := look()) is not None:
                return [wrong]
        found = [one for one in (self._given_network(), self._way(), self._lock()) if one is not None]
        found += [one for key, kind in _LOOKED_UP.items() if (one := self._thing(key, kind)) is not None]
        for pool in pools:
            found += [*self._zones(pool), *self._types(pool), *self._image(pool)]
        return found

    # ------------------------------------------------------------ of the provider

    def _subscription(self) -> Objection | None:
        """Of one that these credentials may not see Azure says that it is not there."""
        calls = self._calls
        return tried(
            "subscription", lambda: calls.get(calls.path(), f"looking up the subscription {calls.subscription}")
        )

    def _region(self) -> Objection | None:
        return tried("region", self._network.zones)

    def _group(self) -> Objection | None:
        """The cluster's own is made by the launch; the user's has to be there, and to stay."""
        if self._network.group.is_ours:
            return None
        return tried("resource_group", self._network.group.ensure)

    def _given_network(self) -> Objection | None:
        if self._network.is_own:
            return None
        key = "subnet" if self._settings.get("subnet") else "network"
        return tried(key, lambda: self._network.given().choose())

    def _way(self) -> Objection | None:
        """To the head. The others need nothing that is Azure's."""
        if self._settings.get("reach") != "bastion":
            return None
        try:
            bastion.check(self._calls, self._settings)
        except (AuthFailed, BadRequest) as error:
            return Objection("", "bastion" if self._settings.get("bastion") else "reach", "", str(error))
        return None

    def _lock(self) -> Objection | None:
        """Who may not look at locks is not told of one."""
        group = self._network.group
        try:
            found = locks_over(self._calls, group.path())
        except ProviderError:
            return None
        if not found:
            return None
        text = f"the lock {found[0].name!r} ({found[0].level}) is on {found[0].scope}: {found[0].effect}"
        return Objection("", "" if group.is_ours else "resource_group", "", text, found[0].fix)

    def _thing(self, key: str, kind: str) -> Objection | None:
        """Who may not look there is not told of it."""
        given = str(self._settings.get(key) or "")
        if given in ("", AUTO):
            return None
        id_ = given if given.startswith("/") else self._network.group.path(*kind.split("/"), given)
        try:
            row = self._calls.get(id_, f"looking for {last_part(id_)}")
        except AuthFailed:
            return None
        except BadRequest as error:
            text = f"Azure has no {id_}" if is_missing(error) else str(error)
            return Objection("", key, given, text, "mend it, or leave the setting out")
        where = str(row.get("location") or "").lower().replace(" ", "")
        if key in ("security_group", "disk_encryption_set") and where != self._calls.region:
            return Objection(
                "", key, given, f"{last_part(id_)} is in {where}, and machines in {self._calls.region} need one there"
            )
        return None

    # ------------------------------------------------------------ of a pool

    def _zones(self, pool: PoolRequest) -> Iterator[Objection]:
        known = self._network.zones()
        for zone in pool.spec.get("zones") or ():
            if zone not in known:
                named = [one for one in known if one]
                fix = f"it has {', '.join(named)}" if named else "it has none: leave `zones` out"
                yield Objection(pool.name, "zones", zone, f"{self._calls.region} has no zone {zone!r}", fix)

    def _types(self, pool: PoolRequest) -> Iterator[Objection]:
        names = [str(name) for name in pool.spec.get("instances") or ()]
        if not names:
            return
        sold, catalogued = self._skus.all(), {machine.name for machine in catalog.instance_types("azure")}
        wanted = {zone for zone in pool.spec.get("zones") or () if zone in self._network.zones()}
        for name in names:
            if (wrong := self._wrong_with(sold.get(name), name, catalogued, wanted)) is not None:
                yield Objection(pool.name, "instances", name, *wrong)

    def _wrong_with(self, sku: Sku | None, name: str, catalogued: set[str], zones: set[str]) -> tuple[str, str] | None:
        """(what, what to do)."""
        region = self._calls.region
        if sku is None:
            return f"{region} has no size {name!r}", nearest(name, catalogued, "azure")
        if sku.closed:
            text = f"{region} has {name}, and does not sell it to this subscription ({sku.closed})"
            return text, "ask for it at https://aka.ms/AzureSKURestriction, or name another size or region"
        if name not in catalogued:
            text = f"{region} sells {name}, but the catalogue of this version does not know what it has"
            return text, nearest(name, catalogued, "azure")
        if zones and not sku.zones & zones:
            there = sorted(sku.zones - {ANYWHERE})
            fix = f"it is sold in {', '.join(there)}" if there else "it is sold in none: leave `zones` out"
            return f"the pool's zones ({', '.join(sorted(zones))}) have no size {name!r} for this subscription", fix
        return None

    def _image(self, pool: PoolRequest) -> Iterator[Objection]:
        """For the sizes that the pool may get: an image is made for one architecture. Terms that nobody has accepted are told
        here, too."""
        wanted = str(pool.spec.get("image") or "")
        if not wanted:
            return
        for arch, nvidia in image_kinds("azure", self._calls.region, pool):
            try:
                self._images.find(wanted, arch, nvidia)
            except BadRequest as error:
                yield Objection(pool.name, "image", wanted, str(error))
                return
            except AuthFailed:
                return  # the launch will say what is lacking
