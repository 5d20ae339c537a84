"""The machine images that builds have made: listed, and removed with what they consist of.

A cloud brings `ImageCalls`:

    AWS           an image and a snapshot for each of its disks, which cost and outlive it
    Google Cloud  an image is one thing: no pieces
    Azure         a version of a gallery's definition, which is a piece: it goes when no version is left of it
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol

from clusterctl_runtime.backoff import Backoff

from clusterctl.core.errors import ProviderError
from clusterctl_providers.base import StoredImage

TAG_IMAGE = "clusterctl-image"  # the digest of an image's content, on the image and on each piece
PATIENCE = 60.0  # seconds for a cloud to learn that nothing uses a piece any more


class StillInUse(ProviderError):
    """Of a piece whose image has just gone: the same again in a moment."""


@dataclass(frozen=True)
class Made:
    """An image, or a piece of one. `content` is the digest in its tag; `created` in unix seconds, `size` in bytes, 0 where it is
    not told; `state` in the cloud's words."""

    id: str
    content: str
    name: str = ""
    state: str = ""
    arch: str = ""
    created: float = 0.0
    size: int = 0


class ImageCalls(Protocol):
    def images(self) -> Iterable[Made]:
        """All that builds have made, whoever ran them."""
        ...

    def pieces(self) -> Iterable[Made]: ...

    def drop_image(self, image: str) -> None:
        """What is gone already is no failure, here and below."""
        ...

    def drop_piece(self, piece: str) -> None:
        """Raises StillInUse where it is to be tried again."""
        ...


class ImageStore:
    def __init__(
        self,
        calls: ImageCalls,
        clock: Callable[[], float] = time.monotonic,
        pause: Callable[[float], None] = time.sleep,
    ) -> None:
        self._calls, self._clock, self._pause = calls, clock, pause

    def list(self) -> list[StoredImage]:
        """The oldest first. Pieces whose image is gone, as of a removal that was interrupted, are an entry without an id."""
        images, pieces = [*self._calls.images()], [*self._calls.pieces()]
        of: dict[str, list[Made]] = {}
        for piece in pieces:
            of.setdefault(piece.content, []).append(piece)
        found = [_stored(image, of.get(image.content, ())) for image in images]
        contents = {image.content for image in images}
        found += [_stored(None, rest) for content, rest in of.items() if content not in contents]
        return sorted(found, key=lambda image: image.created)

    def remove(self, image: StoredImage) -> None:
        """The image first: a cloud keeps the pieces of one that is there. Idempotent."""
        if image.id:
            self._calls.drop_image(image.id)
        for piece in image.snapshots:
            self._drop_piece(piece)

    def _drop_piece(self, piece: str) -> None:
        backoff = Backoff(0.5, 8.0, seconds=PATIENCE, clock=self._clock, sleep=self._pause)
        while True:
            try:
                return self._calls.drop_piece(piece)
            except StillInUse:
                if not backoff.wait():
                    raise


def _stored(image: Made | None, pieces: Sequence[Made]) -> StoredImage:
    """`image` is None where only pieces are left."""
    first = min((piece.created for piece in pieces), default=0.0)
    return StoredImage(
        id=image.id if image else "",
        name=(image.name if image else "") or next((piece.name for piece in pieces), ""),
        state=image.state if image else "gone",
        arch=image.arch if image else "",
        created=(image.created if image else 0.0) or first,
        size=(image.size if image else 0) + sum(piece.size for piece in pieces),
        snapshots=tuple(sorted(piece.id for piece in pieces)),
    )
