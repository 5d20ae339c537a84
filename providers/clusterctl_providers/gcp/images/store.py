"""Images that builds have made in a project (`cloud.image_store.ImageCalls`). An image is one thing: it has no pieces."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import Any

from clusterctl.core.errors import ProviderError
from clusterctl_providers.cloud.image_store import TAG_IMAGE, Made
from clusterctl_providers.gcp.calls import Calls, relative
from clusterctl_providers.gcp.errors import is_missing

GIB = 1024**3
ARCHITECTURES = {"X86_64": "x86_64", "ARM64": "arm64"}
_STATES = {"READY": "available", "PENDING": "pending"}


class GceImages:
    def __init__(self, calls: Calls) -> None:
        self._calls = calls

    def images(self) -> Iterator[Made]:
        what = f"listing the images made by clusterctl in {self._calls.project}"
        for page in self._calls.pages("global/images", what, filter=f"labels.{TAG_IMAGE}:*"):
            for row in page.get("items") or ():
                if row.get("status") != "DELETING":
                    yield _made(row)

    def pieces(self) -> Iterator[Made]:
        return iter(())

    def drop_image(self, image: str) -> None:
        """Repeated when the answer is lost: it may be gone then."""
        try:
            self._calls.wait(
                self._calls.ask("DELETE", image, f"removing the image {image}"), f"removing the image {image}"
            )
        except ProviderError as error:
            if not is_missing(error):
                raise

    def drop_piece(self, piece: str) -> None:
        raise AssertionError(f"{piece}: an image of Google Cloud's has no pieces")


def state_of(row: Mapping[str, Any]) -> str:
    """pending, available, or Google's word for a failure."""
    word = str(row.get("status") or "PENDING")
    return _STATES.get(word, word.lower())


def _made(row: Mapping[str, Any]) -> Made:
    return Made(
        id=relative(str(row["selfLink"])),
        content=str(row["labels"][TAG_IMAGE]),
        name=str(row["name"]),
        state=state_of(row),
        arch=ARCHITECTURES.get(str(row.get("architecture")), ""),
        created=_unix(str(row.get("creationTimestamp") or "")),
        size=int(row.get("diskSizeGb") or 0) * GIB,
    )


def _unix(made: str) -> float:
    return datetime.fromisoformat(made).timestamp() if made else 0.0
