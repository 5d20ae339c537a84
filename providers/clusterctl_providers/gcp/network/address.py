"""The private address of the head, reserved for the cluster: a successor gets it again, whatever becomes of the instance that
had it, and in whichever zone it is."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from clusterctl.core.errors import BadRequest, ProviderError
from clusterctl_providers.base import AddressHolder, NetworkPlace
from clusterctl_providers.gcp.calls import Calls, relative
from clusterctl_providers.gcp.errors import is_missing, is_taken
from clusterctl_providers.gcp.network.network import Network

_ENDING = ("STOPPING", "SUSPENDING", "DEPROVISIONING")


class HeadAddress:
    def __init__(self, calls: Calls, network: Network) -> None:
        self._calls, self._network = calls, network

    @property
    def name(self) -> str:
        return self._network.part("head")

    def reserve(self, place: NetworkPlace | None) -> str:
        """The cluster's own address in its subnetwork, made where it is missing: that of `place` then, or any. "" where the own
        one is somebody else's by now, and `place` names no other: Google chooses one that is free."""
        found = self._find()
        subnet = self._network.subnet().url
        if found is not None and relative(str(found.get("subnetwork"))) != subnet:
            self._calls.run("DELETE", self._path(self.name), f"giving up the address {found.get('address')}")
            found = None  # the spec has moved to another subnetwork
        if found is None:
            found = self._make(place.private if place and place.subnet == subnet else "")
        address = str(found["address"])
        if not found.get("users") or (place and place.private == address):
            return address
        return place.private if place and place.subnet == subnet else ""

    def _make(self, address: str) -> dict[str, Any]:
        body = {
            "name": self.name,
            "addressType": "INTERNAL",
            "purpose": "GCE_ENDPOINT",
            "subnetwork": self._network.subnet().url,
            "labels": self._network.labels(),
            "description": f"the head of the clusterctl cluster {self._network.owner().cluster}",
            **({"address": address} if address else {}),
        }
        path, what = f"regions/{self._calls.region}/addresses", "reserving an address for the head"
        try:
            self._calls.run("POST", path, what, body)
        except ProviderError as error:
            if not is_taken(error):  # an earlier try whose answer was lost, or another process
                raise
        found = self._find()
        if found is None:
            raise BadRequest(f"{what}: somebody has removed {self.name} again at once; leave it to clusterctl")
        return found

    def _find(self) -> dict[str, Any] | None:
        try:
            found = self._calls.get(self._path(self.name), "looking for the head's address")
        except ProviderError as error:
            if is_missing(error):
                return None
            raise
        self._network.owner().check(found, f"an address {self.name}")
        return found

    def _path(self, name: str) -> str:
        return f"regions/{self._calls.region}/addresses/{name}"

    # ------------------------------------------------------------ who has it

    def holder(self, place: NetworkPlace) -> AddressHolder | None:
        """A stopped instance keeps its address, and holds it; so does whoever has reserved it."""
        reserved = self._reserved(place)
        if reserved is not None:
            users = [relative(str(user)) for user in reserved.get("users") or ()]
            if users:
                return self._user(users[0])
            return None if reserved["name"] == self.name else AddressHolder(str(reserved["name"]), ending=False)
        for zone in self._network.zones():
            what = f"asking who has {place.private} in {zone}"
            for page in self._calls.pages(f"zones/{zone}/instances", what):
                for row in page.get("items") or ():
                    if _has(row, place):
                        return _holder(row, zone)
        return None

    def _reserved(self, place: NetworkPlace) -> dict[str, Any] | None:
        """The reservation of that address in that subnetwork, ours or another's."""
        path, what = f"regions/{self._calls.region}/addresses", f"asking who has reserved {place.private}"
        for page in self._calls.pages(path, what, filter=f'address = "{place.private}"'):
            for row in page.get("items") or ():
                if relative(str(row.get("subnetwork") or "")) == place.subnet:
                    return row
        return None

    def _user(self, link: str) -> AddressHolder | None:
        """Of an instance its id; of a load balancer or the like, its link."""
        parts = link.split("/")
        if parts[-2] != "instances":
            return AddressHolder(link, ending=False)
        try:
            return _holder(self._calls.get(link, f"looking at {parts[-1]}, which has the head's address"), parts[-3])
        except ProviderError as error:
            if is_missing(error):
                return None
            raise


def _has(row: Mapping[str, Any], place: NetworkPlace) -> bool:
    return any(
        card.get("networkIP") == place.private and relative(str(card.get("subnetwork"))) == place.subnet
        for card in row.get("networkInterfaces") or ()
    )


def _holder(row: Mapping[str, Any], zone: str) -> AddressHolder:
    return AddressHolder(f"{zone}/{row['name']}", str(row.get("status")) in _ENDING)
