"""Managed images, and galleries: a definition says what machines of an image are like, its versions are the image.

A version is made of a machine that is off and generalized. `Shares` shows galleries to everybody, or to this subscription.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from tests.cloud.azure.services import Behaviour, Call, Services
from tests.cloud.azure.store import Resource, Store, copied, parent_of
from tests.cloud.azure.world import Refusal, World, missing_reference

MACHINE, IMAGE = "Microsoft.Compute/virtualMachines", "Microsoft.Compute/images"
GALLERY = "Microsoft.Compute/galleries"
DEFINITION, VERSION = f"{GALLERY}/images", f"{GALLERY}/images/versions"


class Galleries:
    """`version_seconds`: what the making of a version takes."""

    def __init__(self, world: World, store: Store, services: Services) -> None:
        self.version_seconds = 0.0
        self.is_generalized: Callable[[str], bool] = lambda link: (
            False
        )  # of which machine an image may be made, by its id
        self.shares = Shares(store, services)
        services.behave(GALLERY, Gallery(store))
        services.behave(DEFINITION, Definition(store))
        services.behave(VERSION, Version(self, store))
        services.behave(IMAGE, Managed(self, store))

    def check_machine(self, store: Store, link: str, by: str) -> Resource:
        machine = store.find(link)
        if machine is None:
            raise missing_reference(link, by)
        if not self.is_generalized(link):
            message = f"The source VM '{link}' of an image must be generalized: deallocate and generalize it first."
            raise Refusal(409, "OperationNotAllowed", message)
        return machine


class Gallery(Behaviour):
    def __init__(self, store: Store) -> None:
        self._store = store

    def check(self, call: Call, resource: Resource, before: Resource | None) -> None:
        name = resource["name"]
        if not all(c.isalnum() or c in "._" for c in name):
            message = f"The entity name 'galleryName' is invalid according to its validation rule: {name}"
            raise Refusal(400, "InvalidParameter", message, "galleryName")

    def check_delete(self, call: Call | None, resource: Resource) -> None:
        _check_empty(self._store, call, resource, DEFINITION)


class Definition(Behaviour):
    def __init__(self, store: Store) -> None:
        self._store = store

    def check(self, call: Call, resource: Resource, before: Resource | None) -> None:
        wanted = resource["properties"]["identifier"]
        for other in self._store.children(parent_of(resource["id"]), DEFINITION):
            if other["id"].lower() != resource["id"].lower() and other["properties"]["identifier"] == wanted:
                message = f"There is an image definition with this identifier already: {other['name']}."
                raise Refusal(409, "Conflict", message)
        if before:
            for fixed in ("hyperVGeneration", "architecture", "osType", "osState"):
                if before["properties"].get(fixed) != resource["properties"].get(fixed):
                    message = f"Changing property 'galleryImage.properties.{fixed}' is not allowed."
                    raise Refusal(409, "PropertyChangeNotAllowed", message)

    def check_delete(self, call: Call | None, resource: Resource) -> None:
        _check_empty(self._store, call, resource, VERSION)


class Version(Behaviour):
    def __init__(self, galleries: Galleries, store: Store) -> None:
        self._galleries, self._store = galleries, store

    def check(self, call: Call, resource: Resource, before: Resource | None) -> None:
        properties = resource["properties"]
        source = (properties["storageProfile"].get("source") or {}).get("virtualMachineId", "")
        if before:
            return
        machine = self._galleries.check_machine(self._store, source, resource["id"])
        definition = self._store.get(parent_of(resource["id"]))
        if machine["location"] != resource["location"]:
            raise Refusal(400, "InvalidParameter", "An image version is made in the region of its source.", "location")
        secure = (machine["properties"].get("securityProfile") or {}).get("securityType") == "TrustedLaunch"
        features = {f["name"]: f["value"] for f in definition["properties"].get("features") or ()}
        if secure and "TrustedLaunch" not in features.get("SecurityType", ""):
            message = "The source of the version has trusted launch, and its definition does not."
            raise Refusal(409, "InvalidParameter", message)
        if (definition["properties"].get("purchasePlan") or None) and not machine.get("plan"):
            raise Refusal(409, "InvalidParameter", "The plan of the definition is not that of the source.")
        disk = machine["properties"]["storageProfile"]["osDisk"]
        properties["storageProfile"]["osDiskImage"] = {"sizeInGB": disk.get("diskSizeGB", 30), "hostCaching": "None"}

    def seconds(self, resource: Resource, before: Resource | None) -> float | None:
        return None if before else self._galleries.version_seconds

    def finish(self, resource: Resource) -> None:
        profile = resource["properties"].setdefault("publishingProfile", {})
        profile.setdefault("publishedDate", time.strftime("%Y-%m-%dT%H:%M:%S+00:00", time.gmtime()))
        profile.setdefault("targetRegions", [{"name": resource["location"], "regionalReplicaCount": 1}])


class Managed(Behaviour):
    """Of managed images."""

    def __init__(self, galleries: Galleries, store: Store) -> None:
        self._galleries, self._store = galleries, store

    def check(self, call: Call, resource: Resource, before: Resource | None) -> None:
        properties = resource.setdefault("properties", {})
        link = (properties.get("sourceVirtualMachine") or {}).get("id", "")
        if not link:
            return
        machine = self._galleries.check_machine(self._store, link, resource["id"])
        if (machine["properties"].get("securityProfile") or {}).get("securityType") == "TrustedLaunch":
            message = "A managed image cannot be made of a machine with trusted launch: use a gallery."
            raise Refusal(409, "OperationNotAllowed", message)
        disk = machine["properties"]["storageProfile"]["osDisk"]
        properties["storageProfile"] = {
            "osDisk": {"osType": "Linux", "osState": "Generalized", "diskSizeGB": disk.get("diskSizeGB", 30)}
        }


class Shares:
    """Galleries that are seen by a name of their own: kind ("sharedGalleries", "communityGalleries") and name -> id."""

    def __init__(self, store: Store, services: Services) -> None:
        self._store = store
        self.ids: dict[tuple[str, str], str] = {}
        for kind, word in (("sharedGalleries", "sharedGallery"), ("communityGalleries", "communityGallery")):
            services.on(f"{word}Images.get", lambda call, kind=kind: self._definition(call, kind))
            services.on(f"{word}ImageVersions.get", lambda call, kind=kind: self._version(call, kind))
            services.on(f"{word}ImageVersions.list", lambda call, kind=kind: self._versions(call, kind))

    def find(self, link: str) -> Resource | None:
        """A version, by /SharedGalleries/NAME/Images/NAME/Versions/NAME or that of a community gallery."""
        _, kind, gallery, _, image, _, version = link.split("/")
        id_ = next((i for (k, g), i in self.ids.items() if (k.lower(), g) == (kind.lower(), gallery)), None)
        return self._store.find(f"{id_}/images/{image}/versions/{version}") if id_ else None

    def _place(self, call: Call, kind: str) -> str:
        name = call.path.get("galleryUniqueName") or call.path["publicGalleryName"]
        id_ = self.ids.get((kind, name))
        if id_ is None:
            raise Refusal(404, "NotFound", f"The gallery {name} was not found, or is not shared with the caller.")
        return f"{id_}/images/{call.path['galleryImageName']}"

    def _definition(self, call: Call, kind: str) -> dict[str, Any]:
        found = self._store.get(self._place(call, kind))
        properties = {k: v for k, v in found["properties"].items() if k not in ("provisioningState", "description")}
        return {"name": found["name"], "location": call.path["location"], "properties": copied(properties)}

    def _versions(self, call: Call, kind: str) -> dict[str, Any]:
        return {"value": [self._brief(call, row) for row in self._store.children(self._place(call, kind), VERSION)]}

    def _version(self, call: Call, kind: str) -> dict[str, Any]:
        path = f"{self._place(call, kind)}/versions/{call.path['galleryImageVersionName']}"
        return self._brief(call, self._store.get(path))

    def _brief(self, call: Call, version: Resource) -> dict[str, Any]:
        properties = version["properties"]
        size = (properties["storageProfile"].get("osDiskImage") or {}).get("sizeInGB", 30)
        told = {
            "publishedDate": properties["publishingProfile"].get("publishedDate"),
            "excludeFromLatest": bool(properties["publishingProfile"].get("excludeFromLatest")),
            "storageProfile": {"osDiskImage": {"diskSizeGB": size}},
        }
        return {"name": version["name"], "location": call.path["location"], "properties": told}


def _check_empty(store: Store, call: Call | None, resource: Resource, below: str) -> None:
    left = store.children(resource["id"], below)
    if call is not None and left:
        message = (
            f"Cannot delete resource while nested resources exist. Some existing nested resource IDs include: '{left[0]['id']}'. "
            "Please delete all nested resources before deleting this resource."
        )
        raise Refusal(409, "CannotDeleteResource", message)
