"""The spec's `files` on their way to the head: packed here, uploaded as blobs, fetched by the nodes.

What a directory's own .gitignore and .clusterctlignore leave out stays here, but for what git tracks. Rules from above it do
not count: who names a directory wants it, also when the repository around it ignores it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from clusterctl.client.head.api import Api
from clusterctl.core.errors import UsageError

if TYPE_CHECKING:
    from clusterctl.client.specfile import SpecFile
    from clusterctl.client.submit.packing import Package


@dataclass
class Mount:
    """One entry of `files`, packed. `to` names the file also where the user named only the directory for it."""

    source: str
    to: str
    kind: str  # "file" | "directory"
    package: Package

    def document(self) -> dict[str, Any]:
        """As the head keeps it."""
        return {
            "from": self.source,
            "to": self.to,
            "digest": self.package.digest,
            "size": self.package.size,
            "kind": self.kind,
        }


@contextmanager
def packed(source: SpecFile, say: Callable[[str], object]) -> Iterator[list[Mount]]:
    """All `files` of the spec; raises UsageError with its place for one that cannot be packed. `say` is told what of a
    directory does not travel."""
    from clusterctl.client.submit.tree import say_notes

    mounts: list[Mount] = []
    try:
        for index, entry in enumerate(source.spec.files):
            try:
                mounts.append(_pack(source.path.absolute().parent, entry.source, entry.to))
                say_notes([f"files: {entry.source}: {note}" for note in mounts[-1].package.notes], say)
            except UsageError as error:
                raise UsageError(str(source.located.fault(("files", index, "from"), str(error)))) from error
        yield mounts
    finally:
        for mount in mounts:
            mount.package.archive.close()


def _pack(directory: Path, source: str, to: str) -> Mount:
    from clusterctl.client.submit.packing import pack, pack_file

    path = directory / Path(source).expanduser()
    if path.is_dir():
        package = pack(path, above=False, what="the directory")
        if not package.entries:
            package.archive.close()
            raise UsageError(f"{path} has no files to copy (all are left out by its ignore files, or it is empty)")
        return Mount(source, to, "directory", package)
    if not path.is_file():
        raise UsageError(f"there is no file or directory {path}: paths are relative to the spec")
    return Mount(source, to, "file", pack_file(path))


def upload(api: Api, mounts: list[Mount]) -> int:
    """Sends the head what it does not have; returns how many bytes that were."""
    sent = 0
    for mount in mounts:
        path = f"/api/v1/blobs/{mount.package.digest}"
        if not api.has(path):
            api.upload(path, mount.package.archive, mount.package.size)
            sent += mount.package.size
    return sent
