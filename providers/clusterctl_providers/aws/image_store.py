"""The machine images that builds have made: listed, and removed with their snapshots, which are what costs."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any

from clusterctl.core.errors import BadRequest, ProviderError
from clusterctl_providers.aws.calls import Calls
from clusterctl_providers.aws.errors import code_behind
from clusterctl_providers.base import StoredImage

TAG_IMAGE = "clusterctl-image"  # the digest of an image's content, on the image and on each snapshot
GIB = 1024**3
OURS = [{"Name": "tag-key", "Values": [TAG_IMAGE]}]
IN_USE = "InvalidSnapshot.InUse"
PATIENCE = 60.0  # seconds for EC2 to learn that nothing uses a snapshot any more
_GONE = ("InvalidAMIID.NotFound", "InvalidAMIID.Unavailable", "InvalidSnapshot.NotFound")


class ImageStore:
    def __init__(self, calls: Calls, pause: Callable[[float], None] = time.sleep) -> None:
        self._calls, self._pause = calls, pause

    def list(self) -> list[StoredImage]:
        """The oldest first. Snapshots whose image is gone, as of a removal that was interrupted, are an entry without an id."""
        images, snapshots = self._rows("images"), self._rows("snapshots")
        found = [_stored(image, [s for s in snapshots if _belongs(s, image)]) for image in images]
        claimed = {snapshot for image in found for snapshot in image.snapshots}
        left: dict[str, list[dict[str, Any]]] = {}
        for snapshot in snapshots:
            if snapshot["SnapshotId"] not in claimed:
                left.setdefault(_tags(snapshot)[TAG_IMAGE], []).append(snapshot)
        return sorted([*found, *(_stored({}, rows) for rows in left.values())], key=lambda image: image.created)

    def remove(self, image: StoredImage) -> None:
        """The image first: EC2 keeps the snapshots of one that is there. Idempotent."""
        if image.id:
            self._unless_gone("deregister_image", f"removing the image {image.id}", ImageId=image.id)
        for snapshot in image.snapshots:
            self._delete_snapshot(snapshot)

    def _delete_snapshot(self, snapshot: str) -> None:
        waited, wait = 0.0, 0.5
        while True:
            try:
                return self._unless_gone("delete_snapshot", f"removing the snapshot {snapshot}", SnapshotId=snapshot)
            except ProviderError as error:
                if code_behind(error) != IN_USE or waited > PATIENCE:
                    raise
            self._pause(wait)
            waited, wait = waited + wait, min(wait * 2, 8.0)

    def _unless_gone(self, operation: str, what: str, **parameters: Any) -> None:
        """Repeated when the answer is lost: what it was about may be gone then."""
        try:
            self._calls.read("ec2", operation, what, **parameters)
        except BadRequest as error:
            if code_behind(error) not in _GONE:
                raise

    def _rows(self, kind: str) -> list[dict[str, Any]]:
        what = f"listing the {kind} made by clusterctl in {self._calls.region}"
        owner = {"Owners": ["self"]} if kind == "images" else {"OwnerIds": ["self"]}
        pages = self._calls.pages("ec2", f"describe_{kind}", what, Filters=OURS, **owner)
        return [row for page in pages for row in page[kind.capitalize()]]


def _belongs(snapshot: Mapping[str, Any], image: Mapping[str, Any]) -> bool:
    return _tags(snapshot)[TAG_IMAGE] == _tags(image)[TAG_IMAGE]


def _stored(image: Mapping[str, Any], snapshots: list[dict[str, Any]]) -> StoredImage:
    """`image` is {} where only snapshots are left."""
    made = image.get("CreationDate") or min(snapshot["StartTime"] for snapshot in snapshots)
    return StoredImage(
        id=str(image.get("ImageId") or ""),
        name=str(image.get("Name") or _tags(snapshots[0]).get("Name") or ""),
        state=str(image["State"]) if image else "gone",
        arch=str(image.get("Architecture") or ""),
        created=_unix(made),
        size=sum(int(snapshot["VolumeSize"]) for snapshot in snapshots) * GIB,
        snapshots=tuple(sorted(str(snapshot["SnapshotId"]) for snapshot in snapshots)),
    )


def _tags(row: Mapping[str, Any]) -> dict[str, str]:
    return {tag["Key"]: tag["Value"] for tag in row.get("Tags") or ()}


def _unix(made: str | datetime) -> float:
    """An image's date comes as text, a snapshot's as a datetime."""
    return (made if isinstance(made, datetime) else datetime.fromisoformat(made.replace("Z", "+00:00"))).timestamp()
