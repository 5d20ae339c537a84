"""Whether anything of a cluster was ever asked of its providers. Until then `down` need not ask them either: they may be just
what keeps the cluster from beginning (no credentials, no library, nobody who answers).

The mark says "not yet" and is taken away, on disk, before the first thing is made: where it is lost, providers are asked.
"""

from __future__ import annotations

from clusterctl_runtime.files.private import sync_directory, write_private

from clusterctl.client.registry import Cluster

_MARK = "not-begun"


def note_new(cluster: Cluster) -> None:
    """It was registered a moment ago."""
    write_private(cluster.directory / _MARK, "")


def note_begun(cluster: Cluster) -> None:
    """From now on something of it may be anywhere. Idempotent."""
    mark = cluster.directory / _MARK
    if mark.exists():
        mark.unlink()
        sync_directory(cluster.directory)


def is_begun(cluster: Cluster) -> bool:
    """False only where the mark is there, and nothing that comes after it."""
    later = ("head/store.db", "inventory.json")
    return not (cluster.directory / _MARK).exists() or any((cluster.directory / name).exists() for name in later)
