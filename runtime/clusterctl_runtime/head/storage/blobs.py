"""Files by content: packed working directories that jobs run in. A blob's name is the SHA-256 of its bytes."""

from __future__ import annotations

import asyncio
import hashlib
import os
import re
from collections.abc import AsyncIterator, Collection
from pathlib import Path

from clusterctl.core.errors import BadRequest, NotFound
from clusterctl_runtime.files.private import part_of, put_in_place

_DIGEST = re.compile(r"^[0-9a-f]{64}$")
MAX_BLOB = 512 * 1024 * 1024


class TooLarge(BadRequest):
    """The blob is over the limit (HTTP 413)."""


class BlobStore:
    def __init__(self, root: Path) -> None:
        self._root = root
        root.mkdir(mode=0o700, exist_ok=True)
        for leftover in root.glob("*.part"):
            leftover.unlink()

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
            os.utime(self.path(digest))
        except FileNotFoundError:
            return False
        return True

    def existing(self, digest: str) -> Path:
        """Where it lies. Raises NotFound for one that is not there."""
        path = self.path(digest)
        if not path.exists():
            raise NotFound(f"no blob {digest} on this head: upload it with PUT /api/v1/blobs/{digest} first")
        return path

    def remove_unused(self, needed: Collection[str], before: float) -> int:
        """Removes the blobs that nobody needs and that were last stored before `before` (unix seconds); returns how many."""
        removed = 0
        for path in self._root.iterdir():
            if _DIGEST.match(path.name) and path.name not in needed and path.stat().st_mtime < before:
                path.unlink()
                removed += 1
        return removed

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
            await asyncio.to_thread(put_in_place, part, target)  # of up to MAX_BLOB bytes
        return True
