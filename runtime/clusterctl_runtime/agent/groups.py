"""The control groups that this process is in, of both versions."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

OWN_PROCESS = Path("/proc/self")


def own_groups(controller: str, process: Path = OWN_PROCESS) -> Iterator[Path]:
    """Their directories, from the innermost to the topmost that can be seen from here. In a container the path that the kernel
    tells may lead outside of what is mounted: then the mount itself is the innermost."""
    try:
        paths = dict(_paths(controller, process))
        mounts = (process / "mountinfo").read_text().splitlines()
    except OSError:
        return
    for mount in mounts:
        fields, _, rest = mount.partition(" - ")
        kind, _, options = [*rest.split(" "), "", "", ""][:3]
        path = paths.get(kind)
        if path is None or (kind == "cgroup" and controller not in options.split(",")):
            continue
        root, top = fields.split(" ")[3], Path(fields.split(" ")[4])
        inside = top / path.removeprefix(root if root != "/" else "").strip("/")
        place = inside if path.startswith(root) and inside.is_dir() else top
        yield from (group for group in (place, *place.parents) if group == top or top in group.parents)


def _paths(controller: str, process: Path) -> Iterator[tuple[str, str]]:
    for line in (process / "cgroup").read_text().splitlines():
        number, names, path = line.split(":", 2)
        if number == "0" and not names:
            yield "cgroup2", path
        elif controller in names.split(","):
            yield "cgroup", path
