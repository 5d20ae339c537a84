"""Which permission each call of Compute Engine needs, on what. What a body refers to (a subnetwork, an image) needs more:
the handlers ask for that, since only they know the references."""

from __future__ import annotations

from collections.abc import Iterator

from tests.cloud.gcp.operations import scope_of
from tests.cloud.gcp.services import Call

_WORDS = {  # the method's last word -> the permission's
    "insert": "create",
    "bulkInsert": "create",
    "aggregatedList": "list",
    "wait": "get",
    "patch": "update",
    "cancel": "update",
    "performMaintenance": "update",
}
_COLLECTIONS = {
    "instanceGroupManagerResizeRequests": "instanceGroupManagers",
    "regionInstanceTemplates": "instanceTemplates",
}
_WHOLE = {  # those that follow no rule
    "compute.images.getFromFamily": "compute.images.getFromFamily",
    "compute.instanceGroupManagerResizeRequests.insert": "compute.instanceGroupManagers.update",
    "compute.instanceGroupManagerResizeRequests.delete": "compute.instanceGroupManagers.update",
    "compute.instanceGroupManagerResizeRequests.list": "compute.instanceGroupManagers.get",
    "compute.instanceGroupManagerResizeRequests.get": "compute.instanceGroupManagers.get",
    "compute.instanceGroupManagers.listManagedInstances": "compute.instanceGroupManagers.get",
    "compute.instanceGroupManagers.deleteInstances": "compute.instanceGroupManagers.update",
    "compute.instanceGroupManagers.resize": "compute.instanceGroupManagers.update",
    "compute.instanceGroupManagers.createInstances": "compute.instanceGroupManagers.update",
    "compute.instances.startWithEncryptionKey": "compute.instances.startWithEncryptionKey",
    "compute.instances.simulateMaintenanceEvent": "compute.instances.setScheduling",
    "compute.disks.createSnapshot": "compute.disks.createSnapshot",
}
# Which it is depends on what the address is: the handlers ask.
_ASKED_LATER = frozenset({"compute.addresses.insert", "compute.addresses.delete"})


def permission_of(method: str) -> str:
    """`compute.instances.insert` -> `compute.instances.create`; "" where none is needed."""
    if method.endswith(".testIamPermissions") or method in _ASKED_LATER:
        return ""  # anybody may ask what he may do
    if method in _WHOLE:
        return _WHOLE[method]
    service, collection, verb = method.split(".")
    return f"{service}.{_COLLECTIONS.get(collection, collection)}.{_WORDS.get(verb, verb)}"


def needs(call: Call) -> Iterator[tuple[str, str]]:
    if permission := permission_of(call.method):
        yield permission, resource_of(call)


def resource_of(call: Call) -> str:
    """Google names the thing that is to be made too: `projects/p/zones/z/instances/n`."""
    project, collection = call.path["project"], call.method.split(".")[1]
    last = next((v for k, v in call.path.items() if k not in ("project", "zone", "region")), "")
    name = last or call.body.get("name", "")
    if collection in ("projects", "zones", "regions"):
        return "/".join(["projects", project, *([collection, name] if name and collection != "projects" else [])])
    if not name:
        return f"projects/{project}"
    return f"projects/{project}/{scope_of(call)}/{collection}/{name}"
