"""Images that builds have made in a region (`cloud.image_store.ImageCalls`): versions, whose definitions are their pieces."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from clusterctl.core.errors import ProviderError, UnknownOutcome
from clusterctl_providers.azure.calls import Calls
from clusterctl_providers.azure.errors import code_behind, is_missing
from clusterctl_providers.azure.images.gallery import Gallery, content_of, made_at, size_of, state_of
from clusterctl_providers.cloud.image_store import Made, StillInUse

ARCHITECTURES = {"x64": "x86_64", "arm64": "arm64"}
_NESTED = "CannotDeleteResource"  # Azure still knows of a version below it


class AzureImages:
    def __init__(self, calls: Calls) -> None:
        self._calls, self._gallery = calls, Gallery(calls)

    def images(self) -> Iterator[Made]:
        for definition in self._gallery.definitions():
            for version in self._gallery.versions(str(definition["id"])):
                yield Made(
                    id=str(version["id"]),
                    content=content_of(definition),
                    name=str(definition["name"]),
                    state=state_of(version),
                    arch=_arch(definition),
                    created=made_at(version),
                    size=size_of(version),
                )

    def pieces(self) -> Iterator[Made]:
        for row in self._gallery.definitions():
            yield Made(id=str(row["id"]), content=content_of(row), name=str(row["name"]), arch=_arch(row))

    def drop_image(self, image: str) -> None:
        self._drop(image, f"removing the image {image}")

    def drop_piece(self, piece: str) -> None:
        what = f"removing the image definition {piece.rpartition('/')[2]}"
        try:
            self._drop(piece, what)
        except ProviderError as error:
            if code_behind(error) == _NESTED or isinstance(error, UnknownOutcome):
                raise StillInUse(str(error)) from error.__cause__
            raise

    def _drop(self, path: str, what: str) -> None:
        """Repeated when the answer is lost: it may be gone then."""
        for left in (1, 0):
            try:
                self._calls.run("DELETE", path, what)
                return
            except ProviderError as error:
                if is_missing(error):
                    return
                if not left or code_behind(error) or not isinstance(error, UnknownOutcome):
                    raise


def _arch(definition: Mapping[str, Any]) -> str:
    found = str((definition.get("properties") or {}).get("architecture") or "x64").lower()
    return ARCHITECTURES.get(found, found)
