"""Images and snapshots of EC2 that builds have made (`cloud.image_store.ImageCalls`)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import Any

from clusterctl.core.errors import BadRequest, ProviderError
from clusterctl_providers.aws.calls import Calls
from clusterctl_providers.aws.errors import code_behind
from clusterctl_providers.aws.images import GIB
from clusterctl_providers.cloud.image_store import TAG_IMAGE, Made, StillInUse

OURS = [{"Name": "tag-key", "Values": [TAG_IMAGE]}]
IN_USE = "InvalidSnapshot.InUse"
_GONE = ("InvalidAMIID.NotFound", "InvalidAMIID.Unavailable", "InvalidSnapshot.NotFound")


class Ec2Images:
    def __init__(self, calls: Calls) -> None:
        self._calls = calls

    def images(self) -> Iterator[Made]:
        for row in self._rows("images"):
            yield Made(
                id=str(row["ImageId"]),
                content=_tags(row)[TAG_IMAGE],
                name=str(row.get("Name") or ""),
                state=str(row["State"]),
                arch=str(row.get("Architecture") or ""),
                created=_unix(row.get("CreationDate")),
            )

    def pieces(self) -> Iterator[Made]:
        """The snapshots; `size` is that of the volume that one was made of, and not of what it takes up."""
        for row in self._rows("snapshots"):
            tags = _tags(row)
            size = int(row["VolumeSize"]) * GIB
            yield Made(
                str(row["SnapshotId"]),
                tags[TAG_IMAGE],
                tags.get("Name", ""),
                created=_unix(row["StartTime"]),
                size=size,
            )

    def drop_image(self, image: str) -> None:
        self._unless_gone("deregister_image", f"removing the image {image}", ImageId=image)

    def drop_piece(self, piece: str) -> None:
        try:
            self._unless_gone("delete_snapshot", f"removing the snapshot {piece}", SnapshotId=piece)
        except ProviderError as error:
            if code_behind(error) == IN_USE:
                raise StillInUse(str(error)) from error.__cause__
            raise

    def _unless_gone(self, operation: str, what: str, **parameters: Any) -> None:
        """Repeated when the answer is lost: what it was about may be gone then."""
        try:
            self._calls.read("ec2", operation, what, **parameters)
        except BadRequest as error:
            if code_behind(error) not in _GONE:
                raise

    def _rows(self, kind: str) -> Iterator[dict[str, Any]]:
        what = f"listing the {kind} made by clusterctl in {self._calls.region}"
        owner = {"Owners": ["self"]} if kind == "images" else {"OwnerIds": ["self"]}
        for page in self._calls.pages("ec2", f"describe_{kind}", what, Filters=OURS, **owner):
            yield from page[kind.capitalize()]


def _tags(row: Mapping[str, Any]) -> dict[str, str]:
    return {tag["Key"]: tag["Value"] for tag in row.get("Tags") or ()}


def _unix(made: str | datetime | None) -> float:
    """An image's date comes as text, a snapshot's as a datetime."""
    if not made:
        return 0.0
    return (made if isinstance(made, datetime) else datetime.fromisoformat(made.replace("Z", "+00:00"))).timestamp()
