"""From what is to be served to a version that answers: pack, upload, ask, and follow until it is so or is known not to be."""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

from clusterctl.client.head.api import Api, follow
from clusterctl.client.meter import counting, metered
from clusterctl.client.serve.config import Config
from clusterctl.client.submit.packing import pack
from clusterctl.client.submit.tree import say_notes
from clusterctl.core.errors import ClusterctlError, NotFound, UsageError

Json = dict[str, Any]
MOST_BYTES = 100 * 2**20  # of a package: Ray's head keeps it in memory


def deploy(api: Api, config: Config, seconds: float | None, home: Path, say: Callable[[str], object]) -> list[Json]:
    """The head has it on disk when this returns: per application {"name", "newest": its version, "changed", ...}. `home` never
    travels. Raises UsageError."""
    for note in config.notes:
        say(note)
    packages: dict[Path, str] = {}
    for one in config.applications:
        if one.directory is not None and one.directory not in packages:
            packages[one.directory] = _upload(api, one.directory, home, say)
    applications = [
        {
            "name": one.name,
            "route": one.route,
            "config": one.config,
            "package": packages[one.directory] if one.directory else "",
        }
        for one in config.applications
    ]
    body: Json = {"applications": applications, "options": config.options}
    if seconds is not None:
        body["seconds"] = seconds
    return api.post_once("/api/v1/serve/applications", body)["applications"]


def _upload(api: Api, directory: Path, home: Path, say: Callable[[str], object]) -> str:
    if directory in (Path.home(), Path(directory.anchor)):
        raise UsageError(
            f"{directory} is not packed: put the program into a directory of its own, or name --working-dir"
        )
    packed = pack(directory, without=home, max_bytes=MOST_BYTES)
    with packed.archive:
        say_notes(packed.notes, say)
        path = f"/api/v1/blobs/{packed.digest}"
        if not api.has(path):
            with metered("sending to the head", packed.size):
                api.upload(path, packed.archive, packed.size, counting())
    return packed.digest


def follow_versions(api: Api, wanted: dict[str, int], say: Callable[[str], object]) -> list[Json]:
    """Until each of these versions (by application) is live and the one before it has gone, or it is known not to become so; what
    was told of the applications last. `say`: what they wait for, whenever that has changed."""

    def open_stream() -> Generator[Json, None, None]:
        return api.stream("/api/v1/serve/watch")

    told = ""
    with closing(follow(open_stream)) as documents:
        for document in documents:
            rows = {row["name"]: row for row in document["applications"]}
            if missing := [name for name in wanted if name not in rows]:
                raise NotFound(f"{', '.join(missing)} was deleted meanwhile")
            text = document["trouble"] or _progress([rows[name] for name in wanted])
            if text and text != told:
                say(text)
            told = text
            if all(_is_over(rows[name], number) for name, number in wanted.items()):
                return [rows[name] for name in wanted]
    raise ClusterctlError("the head told no more of it: `clusterctl serve status` shows how it is")


def follow_deletion(api: Api, names: Sequence[str]) -> None:
    """Until none of these is there any more."""

    def open_stream() -> Generator[Json, None, None]:
        return api.stream("/api/v1/serve/watch")

    with closing(follow(open_stream)) as documents:
        for document in documents:
            if not {row["name"] for row in document["applications"]} & set(names):
                return


def version_of(row: Json, number: int) -> Json:
    """Of an application's document; {} for one that is forgotten."""
    return next((version for version in row["versions"] if version["version"] == number), {})


def _is_over(row: Json, number: int) -> bool:
    return version_of(row, number).get("state") != "rolling" and not row["leaving"]


def _progress(rows: Sequence[Json]) -> str:
    parts: list[str] = []
    for row in rows:
        if row["rolling"] is not None:
            detail = version_of(row, row["rolling"]).get("detail") or ""
            why = "; ".join([*([detail.splitlines()[-1]] if detail else []), *row["waits"]])
            kept = f"; version {row['live']} answers meanwhile" if row["live"] else ""
            parts.append(f"{row['name']}: version {row['rolling']} starts{kept}{f' ({why})' if why else ''}")
        elif row["leaving"]:
            parts.append(f"{row['name']}: version {row['live']} answers; the one before it ends what it has")
    return "\n".join(parts)
