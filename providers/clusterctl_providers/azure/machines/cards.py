"""The private addresses of VMs: they are their network cards'. A card keeps its address as long as it is there."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from clusterctl.core.errors import ProviderError
from clusterctl_providers.azure.calls import Calls
from clusterctl_providers.azure.errors import is_missing
from clusterctl_providers.azure.names import name_in
from clusterctl_providers.azure.network.group import ResourceGroup


class Cards:
    """Remembers the addresses of VMs that are there."""

    def __init__(self, calls: Calls, group: ResourceGroup) -> None:
        self._calls, self._group = calls, group
        self._known: dict[str, str] = {}  # VM's name -> address

    def addresses(self, names: Iterable[str]) -> dict[str, str]:
        """By VM's name, as far as they have one. Azure is asked where one of them is not known yet."""
        wanted = set(names)
        self._known = {name: self._known[name] for name in wanted if name in self._known}
        if wanted - self._known.keys():
            for row in self._rows():
                vm, address = _vm_of(row), address_of(row)
                if vm in wanted and address:
                    self._known[vm] = address
        return dict(self._known)

    def _rows(self) -> list[dict[str, Any]]:
        path = self._group.path("Microsoft.Network", "networkInterfaces")
        try:
            return self._calls.list(path, "listing the network cards of the cluster's machines")
        except ProviderError as error:
            if is_missing(error):
                return []
            raise


def address_of(card: Mapping[str, Any]) -> str:
    """The private address of a network card, "" where it has none yet."""
    rows = (card.get("properties") or {}).get("ipConfigurations") or ()
    found = sorted(rows, key=lambda row: not (row.get("properties") or {}).get("primary"))
    return str((found[0].get("properties") or {}).get("privateIPAddress") or "") if found else ""


def _vm_of(card: Mapping[str, Any]) -> str:
    link = ((card.get("properties") or {}).get("virtualMachine") or {}).get("id")
    return name_in(str(link)) if link else ""
