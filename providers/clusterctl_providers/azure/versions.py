"""Which version of Azure's API a path is spoken to in: those that Microsoft's own packages for Python use (docs/adr/0523)."""

from __future__ import annotations

_COMPUTE, _DISKS, _GALLERIES, _NETWORK, _RESOURCES = (
    "2026-04-01",
    "2026-03-02",
    "2026-03-03",
    "2026-03-01",
    "2025-04-01",
)
# by the types in a path; the longest beginning counts
_VERSIONS = {
    "subscriptions": "2022-12-01",
    "tenants": "2022-12-01",
    "subscriptions/locations": "2022-12-01",
    "subscriptions/resourcegroups": _RESOURCES,
    "subscriptions/resources": _RESOURCES,
    "subscriptions/providers": _RESOURCES,
    "microsoft.compute": _COMPUTE,
    "microsoft.compute/disks": _DISKS,
    "microsoft.compute/snapshots": _DISKS,
    "microsoft.compute/diskencryptionsets": _DISKS,
    "microsoft.compute/galleries": _GALLERIES,
    "microsoft.compute/locations/communitygalleries": _GALLERIES,
    "microsoft.compute/locations/sharedgalleries": _GALLERIES,
    "microsoft.compute/skus": "2021-07-01",
    "microsoft.network": _NETWORK,
    "microsoft.managedidentity": "2024-11-30",
    "microsoft.authorization/permissions": "2022-04-01",
    "microsoft.authorization/roledefinitions": "2022-04-01",
    "microsoft.authorization/roleassignments": "2022-04-01",
    "microsoft.authorization/locks": "2020-05-01",
    "microsoft.authorization/policyassignments": "2026-06-01",
    "microsoft.authorization/policysetdefinitions": "2026-06-01",
    "microsoft.features": "2021-07-01",
    "microsoft.resourcegraph": "2021-03-01",
    "microsoft.marketplaceordering": "2021-01-01",
    "microsoft.insights": "2015-04-01",
}


def version_of(path: str) -> str:
    """For an id, or the path of a list or an action. Raises LookupError for what nobody here has spoken to yet."""
    types = types_in(path)
    for length in range(len(types), 0, -1):
        if found := _VERSIONS.get("/".join(types[:length]).lower()):
            return found
    raise LookupError(f"no version of the API is known for {path}")


def types_in(path: str) -> list[str]:
    """["Microsoft.Compute", "virtualMachines"] of a machine's id, ["subscriptions", "resourceGroups"] of a group's."""
    _, provided, of_provider = path.strip("/").rpartition("providers/")
    if not provided:
        return path.strip("/").split("/")[::2]
    parts = of_provider.split("/")
    if len(parts) == 1:  # the provider itself: is it registered?
        return ["subscriptions", "providers"]
    if parts[1:2] == ["register"]:
        return ["subscriptions", "providers"]
    return [parts[0], *parts[1::2]]
