"""The spec's `files` on their way to the head: listed here, sent as blobs, fetched by the nodes.

What a directory's own .gitignore and .clusterctlignore leave out stays here, but for what git tracks. Rules from above it do
not count: who names a directory wants it, also when the repository around it ignores it.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from clusterctl.client.head.api import Api
from clusterctl.core.errors import UsageError

if TYPE_CHECKING:
    from clusterctl.client.specfile import SpecFile
    from clusterctl.client.submit.tree import Tree


@dataclass
class Mount:
    """One entry of `files`. `to` names the file also where the user named only the directory for it."""

    source: str
    to: str
    kind: str  # "file" | "directory"
    tree: Tree


class Mounts:
    """All `files` of a spec."""

    def __init__(self, mounts: Sequence[Mount], home: Path, say: Callable[[str], object]) -> None:
        self._mounts, self._home, self._say = mounts, home, say

    def __len__(self) -> int:
        return len(self._mounts)

    def send(self, api: Api) -> list[dict[str, Any]]:
        """Sends the head what it does not have; the entries as it keeps them."""
        return [self._sent(api, mount) for mount in self._mounts]

    def _sent(self, api: Api, mount: Mount) -> dict[str, Any]:
        from clusterctl.client.submit.sending import send
        from clusterctl.client.submit.tree import say_notes

        sent = send(api, mount.tree, self._home)
        say_notes([f"files: {mount.source}: {note}" for note in sent.notes], self._say)
        return {"from": mount.source, "to": mount.to, "digest": sent.digest, "size": sent.size, "kind": mount.kind}


def listed(source: SpecFile, home: Path, say: Callable[[str], object]) -> Mounts:
    """The `files` of the spec; raises UsageError with its place for one that cannot be packed. `say` is told what of a directory
    does not travel, `home` is where this machine keeps what it has sent."""
    from clusterctl.client.submit.tree import say_notes

    mounts: list[Mount] = []
    for index, entry in enumerate(source.spec.files):
        try:
            mounts.append(mount_of(source.path.absolute().parent, entry.source, entry.to))
            say_notes([f"files: {entry.source}: {note}" for note in mounts[-1].tree.notes], say)
        except UsageError as error:
            raise UsageError(str(source.located.fault(("files", index, "from"), str(error)))) from error
    return Mounts(mounts, home, say)


def mount_of(directory: Path, source: str, to: str) -> Mount:
    """One entry, listed; `directory` is the spec's. Raises UsageError."""
    from clusterctl.client.submit.packing import list_directory, list_file

    path = directory / Path(source).expanduser()
    if path.is_dir():
        mount = Mount(source, to, "directory", list_directory(path, above=False, what="the directory"))
        if not mount.tree.entries:
            raise UsageError(f"{path} has no files to copy (all are left out by its ignore files, or it is empty)")
    elif path.is_file():
        mount = Mount(source, to, "file", list_file(path))
    else:
        raise UsageError(f"there is no file or directory {path}: paths are relative to the spec")
    for entry in mount.tree.entries:  # now, and not when machines run already
        if not os.access(entry.source, os.R_OK):
            raise UsageError(f"{entry.source} cannot be read by you: change its mode, or leave it out")
    return mount
