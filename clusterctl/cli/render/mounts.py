"""What a node has mounted, as people read it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from clusterctl.cli.render.text import columns

_UNKNOWN = 2**50  # a bucket has no size: its programs name one that no disk has


def render_mounts(mounts: Sequence[Mapping[str, Any]]) -> str:
    """One line for each; sizes are those of the moment when it was last looked at. Below it, why one cannot be used."""
    rows = [[m["to"], m["from"], m["state"], m.get("mode", ""), _room(m)] for m in mounts]
    troubles = [str(m["detail"]) for m in mounts if m.get("detail")]
    return "\n".join([columns(["mount", "from", "", "", "free"], rows), *troubles])


def _room(mount: Mapping[str, Any]) -> str:
    size = int(mount.get("size") or 0)
    return "" if not 0 < size < _UNKNOWN else f"{_short(int(mount.get('free') or 0))} of {_short(size)}"


def _short(size: float) -> str:
    for unit in ("B", "KiB", "MiB", "GiB"):
        if size < 1024:
            return f"{size:.0f} {unit}"
        size /= 1024
    return f"{size:.1f} TiB"
