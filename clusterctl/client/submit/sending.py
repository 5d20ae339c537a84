"""A directory on its way to the head, as archives by content: what the head has already is neither packed nor sent.

Small files share an archive, so that thousands of them are not thousands of requests; a large one has its own. Where one
archive ends and the next begins is decided by the files' names: a file more or less changes the archive that it is in, and not
those behind it.
"""

from __future__ import annotations

import hashlib
import io
import os
import zlib
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from clusterctl_runtime.files.manifest import Archive, manifest_of

from clusterctl.client.head.api import Api
from clusterctl.client.meter import counting, meter, metered
from clusterctl.client.submit.known_archives import KnownArchives
from clusterctl.client.submit.packing import Package, pack_group
from clusterctl.client.submit.tree import Entry, Tree

LARGE = 512 * 1024  # bytes from which a file has an archive of its own
FULL = 2 * 1024 * 1024  # bytes of small files in one archive, at most
ONE_IN = 128  # small files end an archive
_MOST_FILES = 8 * ONE_IN
_PACKED_AHEAD = 16 * 1024 * 1024  # bytes of files that are packed before the head is asked for their archives
_ASKED = 1000  # digests in one question, as many as a head takes


@dataclass
class Sent:
    """`digest` names the package on the head, `size` is that of its archives in bytes. `notes`: sentences about files that were
    not packed as they were listed; `gone`: those of them that were not there any more."""

    digest: str = ""
    size: int = 0
    notes: list[str] = field(default_factory=list)
    gone: set[str] = field(default_factory=set)


def send(api: Api, tree: Tree, home: Path | None) -> Sent:
    """The head has all of `tree` when this returns. `home`: what is packed into which archive is kept there."""
    known = KnownArchives(home / "archives.json" if home else None)
    groups = grouped(tree.entries)
    archives = [known.find(group) for group in groups]
    sent = Sent()
    if None not in archives:  # then the head has either all of it, or the question was a short one
        sent.digest, _ = _package([archive for archive in archives if archive])
    if not sent.digest or _missing(api, [sent.digest]):
        _Sending(api, tree, known, sent).bring(groups, archives)
    sent.size = sum(archive.size for archive in archives if archive)
    return sent


class _Sending:
    def __init__(self, api: Api, tree: Tree, known: KnownArchives, sent: Sent) -> None:
        self._api, self._tree, self._known, self._sent = api, tree, known, sent

    def bring(self, groups: Sequence[Sequence[Entry]], archives: list[Archive | None]) -> None:
        """Fills in those of `archives` that are not known, and sends what the head lacks."""
        missing = _missing(self._api, [archive.digest for archive in archives if archive])
        todo = [n for n, archive in enumerate(archives) if archive is None or archive.digest in missing]
        total = sum(_bytes(groups[n]) for n in todo)
        try:
            with metered("sending to the head", total, sum(map(_bytes, groups)) - total):
                for batch in _batches(todo, groups):
                    self._bring_some(batch, groups, archives)
        finally:
            self._known.save()
        self._sent.digest, manifest = _package([archive for archive in archives if archive])
        if manifest and _missing(self._api, [self._sent.digest]):
            self._api.upload(f"/api/v1/blobs/{self._sent.digest}", io.BytesIO(manifest), len(manifest))

    def _bring_some(
        self, batch: Sequence[int], groups: Sequence[Sequence[Entry]], archives: list[Archive | None]
    ) -> None:
        packages: list[Package] = []
        try:
            for n in batch:
                packages.append(self._pack(groups[n]))
            missing = _missing(self._api, [package.digest for package in packages])
            for n, package in zip(batch, packages, strict=True):
                self._upload(package, _bytes(groups[n]), is_missing=package.digest in missing)
                archives[n] = Archive(package.digest, package.size)
                if not package.notes:
                    self._known.note(groups[n], self._tree.looked, Archive(package.digest, package.size))
        finally:
            for package in packages:
                package.archive.close()

    def _pack(self, group: Sequence[Entry]) -> Package:
        meter().step(f"packing {group[0].path}" if _bytes(group) > FULL else "")
        package = pack_group(self._tree.root, group)
        self._sent.notes += package.notes
        self._sent.gone |= {entry.path for entry in group} - {entry.path for entry in package.entries}
        return package

    def _upload(self, package: Package, size: int, *, is_missing: bool) -> None:
        """Counted are the bytes of the files, which are `size`, not those of the archive."""
        meter().step("")
        reached = counting(size / max(1, package.size))
        if is_missing:
            self._api.upload(f"/api/v1/blobs/{package.digest}", package.archive, package.size, reached)
        reached(package.size)


def grouped(entries: Sequence[Entry]) -> list[list[Entry]]:
    """The files of each archive: the same for the same names and sizes; at least one archive, which may be empty. `entries` are
    sorted by path."""
    groups: list[list[Entry]] = []
    small: list[Entry] = []
    size = 0
    for entry in entries:
        if entry.size >= LARGE:
            groups.append([entry])
            continue
        if small and size + entry.size > FULL:
            groups.append(small)
            small, size = [], 0
        small.append(entry)
        size += entry.size
        if zlib.crc32(os.fsencode(entry.path)) % ONE_IN == 0 or len(small) == _MOST_FILES:
            groups.append(small)
            small, size = [], 0
    if small or not groups:
        groups.append(small)
    return groups


def _package(archives: Sequence[Archive]) -> tuple[str, bytes]:
    """The digest of the package, and its manifest; b"" where it is one archive."""
    if len(archives) == 1:
        return archives[0].digest, b""
    manifest = manifest_of(archives)
    return hashlib.sha256(manifest).hexdigest(), manifest


def _missing(api: Api, digests: Sequence[str]) -> Collection[str]:
    """Those that the head lacks."""
    missing: set[str] = set()
    for start in range(0, len(digests), _ASKED):
        asked = {"digests": digests[start : start + _ASKED]}
        missing |= set(api.post_once("/api/v1/blobs:missing", asked)["missing"])
    return missing


def _batches(numbers: Sequence[int], groups: Sequence[Sequence[Entry]]) -> Iterator[list[int]]:
    batch: list[int] = []
    size = 0
    for number in numbers:
        batch.append(number)
        size += _bytes(groups[number])
        if size >= _PACKED_AHEAD or len(batch) == _ASKED:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch


def _bytes(group: Sequence[Entry]) -> int:
    return sum(entry.size for entry in group)
