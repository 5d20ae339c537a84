"""Files by content: packed working directories that jobs run in. A blob's name is the SHA-256 of its bytes.

A blob may be a manifest, which lists others (`files/manifest.py`). While a manifest is here, all that it lists is here: it is
taken in after them, and goes before them.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
import os
import re
import threading
from collections.abc import AsyncIterator, Collection, Iterable
from pathlib import Path

from clusterctl.core.errors import BadRequest, NotFound
from clusterctl_runtime.files.manifest import Archive, read_manifest
from clusterctl_runtime.files.private import part_of, put_in_place
from clusterctl_runtime.head.storage.sizes import size_of_files

log = logging.getLogger(__name__)
_DIGEST = re.compile(r"^[0-9a-f]{64}$")
MAX_BLOB = 512 * 1024 * 1024


class TooLarge(BadRequest):
    """The blob is over the limit (HTTP 413)."""


class BlobStore:
    def __init__(self, root: Path) -> None:
        self._root = root
        self.size_of_all = 0  # bytes, as of the last `measure`
        self._removing = threading.Lock()  # between a look at a blob's age and its end, or its being made young again
        root.mkdir(mode=0o700, exist_ok=True)
        for leftover in root.glob("*.part"):
            leftover.unlink()

    def measure(self) -> None:
        """Counts `size_of_all`. Looks at every file: not for the event loop."""
        self.size_of_all = size_of_files(self._root)

    def path(self, digest: str) -> Path:
        """Where it lies, or would. Raises BadRequest for what is no SHA-256."""
        if not _DIGEST.match(digest):
            raise BadRequest(f"{digest!r} is not a SHA-256 in lower-case hex")
        return self._root / digest

    def has(self, digest: str) -> bool:
        """Whether it is there, whole."""
        return self.path(digest).exists()

    def renew(self, digest: str) -> bool:
        """Whether it is here; young again, since whoever asks is about to name it in a job."""
        try:
            with self._removing:
                os.utime(self.path(digest))
        except FileNotFoundError:
            return False
        return True

    def missing(self, digests: Iterable[str]) -> list[str]:
        """Those that are not here, in their order; the others are young again."""
        return [digest for digest in digests if not self.renew(digest)]

    def existing(self, digest: str) -> Path:
        """Where it lies. Raises NotFound for one that is not there."""
        path = self.path(digest)
        if not path.exists():
            raise NotFound(f"no blob {digest} on this head: upload it with PUT /api/v1/blobs/{digest} first")
        return path

    def remove_unused(self, needed: Collection[str], before: float) -> int:
        """Removes the blobs that nobody needs and that were last stored before `before` (unix seconds); returns how many. What
        a manifest lists is needed while the manifest is here."""
        blobs = [path for path in self._root.iterdir() if _DIGEST.match(path.name)]
        manifests = {path.name: listed for path in blobs if (listed := _listed(path)) is not None}
        old = (path for path in blobs if path.name in manifests and path.name not in needed)
        gone = {path.name for path in old if self._remove_if_older(path, before)}
        listed = {archive.digest for name, listed in manifests.items() if name not in gone for archive in listed}
        rest = (path for path in blobs if not (path.name in manifests or path.name in needed or path.name in listed))
        return len(gone) + sum(self._remove_if_older(path, before) for path in rest)

    def _remove_if_older(self, path: Path, before: float) -> bool:
        with self._removing:
            if path.stat().st_mtime >= before:
                return False
            path.unlink()
        return True

    async def put(self, digest: str, chunks: AsyncIterator[bytes]) -> bool:
        """Stores the bytes if they hash to `digest`, on disk before it returns; False if they were here already."""
        target = self.path(digest)
        if self.renew(digest):
            return False
        seen, size = hashlib.sha256(), 0
        with part_of(target) as part:
            with part.open("r+b") as file:
                async for chunk in chunks:
                    size += len(chunk)
                    if size > MAX_BLOB:
                        raise TooLarge(
                            f"the upload is over {MAX_BLOB // 2**20} MiB: keep data out of the working directory"
                        )
                    seen.update(chunk)
                    file.write(chunk)
            if seen.hexdigest() != digest:
                raise BadRequest(f"the upload's SHA-256 is {seen.hexdigest()}, not {digest}: it was damaged on its way")
            await asyncio.to_thread(self._take_in, part, target)  # of up to MAX_BLOB bytes
        return True

    def _take_in(self, part: Path, target: Path) -> None:
        try:
            listed = read_manifest(part) or []
        except ValueError as error:
            raise BadRequest(f"the manifest {target.name} is not one of ours: {error}") from error
        # What is here is young from now on, so that nobody removes it before the manifest is in its place.
        if missing := self.missing(archive.digest for archive in listed):
            raise BadRequest(
                f"the manifest {target.name} lists {len(missing)} archives that are not on this head ({missing[0]} is one): "
                "send them first"
            )
        put_in_place(part, target)


def _listed(path: Path) -> list[Archive] | None:
    try:
        return read_manifest(path)
    except FileNotFoundError:
        return None
    except ValueError as error:
        log.error("%s is damaged: %s", path, error)
        return None
