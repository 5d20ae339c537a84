"""Packed working directories: fetched once by digest, kept as archives, unpacked afresh for every task.

Only the archive is shared. A task owns its copy and may write to it, so no task sees what another one left.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import os
import re
from collections.abc import AsyncIterator, Callable
from pathlib import Path

from clusterctl_runtime.agent.preparing.unpack import UnpackError, unpack
from clusterctl_runtime.files.private import part_of

_DIGEST = re.compile(r"[0-9a-f]{64}")
FETCHES = 5
CACHE_BYTES = 4 * 1024**3


class PackageError(Exception):
    """The package is of no use wherever it is tried; the message is for the user."""


class PackageMissed(PackageError):
    """The package could not be fetched or stored here and now: another try, or another node, may do better."""


class Packages:
    """`fetch(digest)` yields the blob's bytes; it may raise OSError (tried again) or PackageError (final)."""

    def __init__(self, directory: Path, fetch: Callable[[str], AsyncIterator[bytes]]) -> None:
        self._directory = directory
        self._fetch = fetch
        self._under_way: dict[str, asyncio.Task[Path]] = {}
        directory.mkdir(mode=0o700, exist_ok=True)
        for part in directory.glob("*.part"):
            part.unlink()

    async def unpack(self, digest: str, target: Path) -> None:
        """The package's files in `target`, a fresh empty directory. Raises PackageError."""
        archive = await self._archive(digest)
        try:
            await asyncio.get_running_loop().run_in_executor(None, _verify_and_unpack, archive, digest, target)
        except UnpackError as error:
            raise PackageError(f"package {digest[:12]} was refused: {error}") from error
        except OSError as error:
            raise PackageMissed(f"package {digest[:12]} cannot be unpacked into {target}: {error.strerror}") from error

    async def _archive(self, digest: str) -> Path:
        if not _DIGEST.fullmatch(digest):
            raise PackageError(f"{digest[:80]!r} is not the SHA-256 of a package")
        path = self._directory / digest
        if path.exists():
            os.utime(path)
            return path
        fetching = self._under_way.get(digest)
        if fetching is None:
            fetching = self._under_way[digest] = asyncio.ensure_future(self._persist(digest, path))
            fetching.add_done_callback(lambda _: self._under_way.pop(digest, None))
        return await asyncio.shield(fetching)  # one impatient task does not end it for the others

    async def _persist(self, digest: str, path: Path) -> Path:
        """A broken connection is no reason to fail a job: `fetch` waits for the head, and is asked a few times."""
        for left in reversed(range(FETCHES)):
            try:
                return await self._download(digest, path)
            except OSError as error:
                if not left:
                    raise PackageMissed(f"package {digest[:12]} cannot be fetched to this node: {error}") from error
        raise AssertionError("the last try returns or raises")

    async def _download(self, digest: str, path: Path) -> Path:
        seen = hashlib.sha256()
        with part_of(path) as part:  # not flushed: it is checked whenever it is unpacked
            with part.open("r+b") as file:
                async for piece in self._fetch(digest):
                    seen.update(piece)
                    file.write(piece)
            if seen.hexdigest() != digest:
                raise PackageError(
                    f"package {digest[:12]} arrived damaged (its SHA-256 is {seen.hexdigest()[:12]}): refused"
                )
            self._make_room(part.stat().st_size)
            return part.replace(path)

    def _make_room(self, size: int) -> None:
        """Drops the archives that were not used for longest; open ones stay readable to whoever unpacks them."""
        archives = sorted(self._directory.glob("[0-9a-f]*"), key=lambda p: p.stat().st_mtime)
        archives = [p for p in archives if not p.suffix]
        total = size + sum(p.stat().st_size for p in archives)
        for path in archives:
            if total <= CACHE_BYTES:
                return
            total -= path.stat().st_size
            with contextlib.suppress(OSError):
                path.unlink()


def _verify_and_unpack(archive: Path, digest: str, target: Path) -> None:
    """The kept archive lies where every task of this node can write: it is checked each time."""
    with archive.open("rb") as file:
        seen = hashlib.sha256()
        while piece := file.read(1024 * 1024):
            seen.update(piece)
    if seen.hexdigest() != digest:
        archive.unlink(missing_ok=True)
        raise PackageMissed(f"package {digest[:12]} was damaged on this node: its kept copy was removed, try again")
    unpack(archive, target)
