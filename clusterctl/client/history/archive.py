"""The archives under `$CLUSTERCTL_HOME/history`: two files for each cluster that was taken down, named "demo@20261201T080000Z".

    KEY.gz     what the head answered (see gathering), as JSON
    KEY.json   whose it is and when that cluster ended; written last, so that an archive with it is whole

They are bounded in number and in bytes: the oldest go first. Nothing in them is a secret of ours; what a job printed is in its
log, as it was on the head, for the owner of the home only.
"""

from __future__ import annotations

import gzip
import json
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from clusterctl_runtime.files.private import make_private_dir, write_private

from clusterctl.client.registry import Cluster, read_note
from clusterctl.core.errors import ClusterctlError, NotFound

MOST, MOST_BYTES = 50, 256 * 1024 * 1024  # archives, and what all of them may take
FORMAT = 1


@dataclass(frozen=True)
class Ended:
    """A cluster that is down. `ended`: unix seconds; `jobs`: how many are kept; `left_out`: sentences on what is not."""

    key: str
    name: str
    uid: str
    place: str
    spec_path: str
    created: float
    ended: float
    jobs: int
    cost: float
    left_out: tuple[str, ...] = ()


class History:
    """All archives of one home."""

    def __init__(self, home: Path) -> None:
        self.root = home / "history"

    def all(self) -> list[Ended]:
        """The newest first."""
        notes = (read_note(path) for path in self.root.glob("*@*.json")) if self.root.is_dir() else ()
        found = [_ended(note) for note in notes if note.get("format") == FORMAT]
        return sorted(found, key=lambda one: (-one.ended, one.key))

    def find(self, which: str) -> Ended:
        """By its key or the beginning of that: by its name the one that ended last. Raises NotFound with those that there are."""
        known = self.all()
        named = [one for one in known if which in (one.name, one.key)] or [
            one for one in known if "@" in which and one.key.startswith(which)
        ]
        if not named:
            keys = ", ".join(one.key for one in known[:5]) + (" ..." if len(known) > 5 else "")
            raise NotFound(
                f"nothing is kept of a cluster {which!r} that is down (there is {keys or 'none'}): `clusterctl list --history`"
            )
        return named[0]

    def read(self, ended: Ended) -> dict[str, Any]:
        """What was gathered. Raises ClusterctlError where it cannot be read."""
        path = self.root / f"{ended.key}.gz"
        try:
            return json.loads(gzip.decompress(path.read_bytes()))
        except (OSError, EOFError, ValueError) as error:
            raise ClusterctlError(f"{path} cannot be read ({error}): what was kept of {ended.name} is lost") from error

    def keep(self, cluster: Cluster, gathered: dict[str, Any], left_out: list[str], now: float | None = None) -> Ended:
        """Writes it down in place of an earlier one of the same cluster, then removes the oldest beyond the bounds. Raises
        OSError."""
        at = time.time() if now is None else now
        key = f"{cluster.name}@{time.strftime('%Y%m%dT%H%M%SZ', time.gmtime(at))}"
        cost = float((gathered.get("status") or {}).get("cost", {}).get("total") or 0.0)
        ended = Ended(
            key, cluster.name, cluster.uid, cluster.place, cluster.spec_path, cluster.created, at,
            len(gathered["jobs"]), cost, tuple(left_out),
        )  # fmt: skip
        make_private_dir(self.root)
        write_private(self.root / f"{key}.gz", gzip.compress(json.dumps(gathered).encode(), 6))
        write_private(self.root / f"{key}.json", json.dumps({"format": FORMAT, **asdict(ended)}))
        for one in self.all():
            if one.uid == cluster.uid and one.key != key:
                self._remove(one.key)
        self._prune(key)
        return ended

    def _prune(self, newest: str) -> None:
        """The newest is kept whatever it takes; so is, for a day, what has no note yet: another `down` may be writing it."""
        kept = total = 0
        known = {one.key for one in self.all()}
        for one in self.all():
            size = self._size(one.key)
            kept, total = kept + 1, total + size
            if one.key != newest and (kept > MOST or total > MOST_BYTES):
                self._remove(one.key)
        for path in self.root.glob("*@*.gz"):
            if path.stem not in known and path.stat().st_mtime < time.time() - 86_400:
                path.unlink(missing_ok=True)

    def _size(self, key: str) -> int:
        try:
            return (self.root / f"{key}.gz").stat().st_size
        except OSError:
            return 0

    def _remove(self, key: str) -> None:
        """The note first: without it there is no archive."""
        (self.root / f"{key}.json").unlink(missing_ok=True)
        (self.root / f"{key}.gz").unlink(missing_ok=True)


def _ended(note: dict[str, Any]) -> Ended:
    fields = {name: note[name] for name in Ended.__dataclass_fields__ if name in note}
    return Ended(**{**fields, "left_out": tuple(note.get("left_out") or ())})
