"""Packed working directories: fetched once by digest, kept as archives, unpacked afresh for every task.

A package is an archive, or a manifest of several: of these only what this node lacks is fetched. Only archives are shared. A task
owns its copy and may write to it, so no task sees what another one left.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import os
import re
from collections import Counter
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Generator, Iterable, Mapping, Sequence
from pathlib import Path

from clusterctl_runtime.agent.preparing.unpack import Room, UnpackError, unpack
from clusterctl_runtime.files.manifest import read_manifest
from clusterctl_runtime.files.private import part_of

_DIGEST = re.compile(r"[0-9a-f]{64}")
FETCHES = 5
CACHE_BYTES = 4 * 1024**3


class PackageError(Exception):
    """The package is of no use wherever it is tried; the message is for the user."""


class PackageMissed(PackageError):
    """The package could not be fetched or stored here and now: another try, or another node, may do better."""


class Packages:
    """`fetch(digests)` yields each blob's digest and its bytes; it may raise OSError (tried again) or PackageError (final)."""

    def __init__(
        self, directory: Path, fetch: Callable[[Sequence[str]], AsyncGenerator[tuple[str, AsyncIterator[bytes]]]]
    ) -> None:
        self._directory = directory
        self._fetch = fetch
        self._under_way: dict[str, asyncio.Task[None]] = {}
        self._in_use: Counter[str] = Counter()  # about to be unpacked: these stay, however little room there is
        directory.mkdir(mode=0o700, exist_ok=True)
        for part in directory.glob("*.part"):
            part.unlink()

    async def unpack(self, digest: str, target: Path) -> None:
        """The package's files in `target`, a fresh empty directory. Raises PackageError."""
        try:
            with self._using([digest]):
                await self._bring({digest: 0})
                sizes = await asyncio.to_thread(self._sizes, digest)
                with self._using(sizes):
                    await self._bring(sizes)
                    await asyncio.to_thread(self._unpack, sizes, target)
        except UnpackError as error:
            raise PackageError(f"package {digest[:12]} was refused: {error}") from error
        except OSError as error:
            raise PackageMissed(f"package {digest[:12]} cannot be unpacked into {target}: {error.strerror}") from error

    @contextlib.contextmanager
    def _using(self, digests: Iterable[str]) -> Generator[None]:
        self._in_use.update(digests)
        try:
            yield
        finally:
            self._in_use -= Counter(digests)

    def _sizes(self, digest: str) -> dict[str, int]:
        """The archives that the package, which is here, consists of, with their bytes."""
        try:
            listed = read_manifest(self._directory / digest)
        except ValueError as error:
            self._verify(digest)
            raise UnpackError(str(error)) from error
        if listed is None:
            return {digest: 0}
        self._verify(digest)
        return {archive.digest: archive.size for archive in listed}

    def _unpack(self, digests: Iterable[str], target: Path) -> None:
        room = Room()
        for digest in digests:
            self._verify(digest)
            unpack(self._directory / digest, target, room)

    def _verify(self, digest: str) -> None:
        """What is kept lies where every task of this node can write: it is checked each time."""
        path = self._directory / digest
        with path.open("rb") as file:
            seen = hashlib.sha256()
            while piece := file.read(1024 * 1024):
                seen.update(piece)
        if seen.hexdigest() != digest:
            path.unlink(missing_ok=True)
            raise PackageMissed(f"package {digest[:12]} was damaged on this node: its kept copy was removed, try again")

    async def _bring(self, sizes: Mapping[str, int]) -> None:
        """All of these are here when it returns. What another task is fetching is not fetched again."""
        for digest in sizes:
            if not _DIGEST.fullmatch(digest):
                raise PackageError(f"{digest[:80]!r} is not the SHA-256 of a package")
        missing = await asyncio.to_thread(self._missing, sizes)
        mine = [digest for digest in missing if digest not in self._under_way]
        if mine:
            fetching = asyncio.ensure_future(self._persist(mine, sum(sizes[digest] for digest in mine)))
            self._under_way.update(dict.fromkeys(mine, fetching))
            fetching.add_done_callback(lambda _: self._arrived(mine))
        for fetching in {self._under_way[digest] for digest in missing if digest in self._under_way}:
            await asyncio.shield(fetching)  # one impatient task does not end it for the others

    def _arrived(self, digests: Sequence[str]) -> None:
        for digest in digests:
            del self._under_way[digest]

    def _missing(self, digests: Iterable[str]) -> list[str]:
        """Those that are not here; the others were used just now."""
        missing: list[str] = []
        for digest in digests:
            try:
                os.utime(self._directory / digest)
            except FileNotFoundError:
                missing.append(digest)
        return missing

    async def _persist(self, digests: Sequence[str], size: int) -> None:
        """A broken connection is no reason to fail a job: `fetch` waits for the head, and is asked a few times for what has not
        come."""
        await asyncio.to_thread(self._make_room, size)
        left = FETCHES
        while digests:
            try:
                async with contextlib.aclosing(self._fetch(digests)) as blobs:
                    async for digest, pieces in blobs:
                        await self._download(digest, pieces)
                return
            except OSError as error:
                before, digests = len(digests), await asyncio.to_thread(self._missing, digests)
                left = FETCHES if len(digests) < before else left - 1
                if digests and not left:
                    raise PackageMissed(f"package {digests[0][:12]} cannot be fetched to this node: {error}") from error

    async def _download(self, digest: str, pieces: AsyncIterator[bytes]) -> None:
        path, seen = self._directory / digest, hashlib.sha256()
        with part_of(path) as part:  # not flushed: it is checked whenever it is unpacked
            with part.open("r+b") as file:
                async for piece in pieces:
                    seen.update(piece)
                    file.write(piece)
            if seen.hexdigest() != digest:
                raise PackageError(
                    f"package {digest[:12]} arrived damaged (its SHA-256 is {seen.hexdigest()[:12]}): refused"
                )
            part.replace(path)

    def _make_room(self, size: int) -> None:
        """Drops the archives that were not used for longest; open ones stay readable to whoever unpacks them."""
        kept = [(path, path.stat()) for path in self._directory.iterdir() if _DIGEST.fullmatch(path.name)]
        total = size + sum(status.st_size for _, status in kept)
        for path, status in sorted(kept, key=lambda pair: pair[1].st_mtime):
            if total <= CACHE_BYTES:
                return
            if path.name not in self._in_use:
                total -= status.st_size
                path.unlink(missing_ok=True)
