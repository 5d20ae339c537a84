"""What is kept of a job before its cluster is taken down: its record, its output, the cluster's journal, and files of its own."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import IO, Any

from clusterctl.client.head.api import Api
from clusterctl.client.nodes.access import access, nodes_of
from clusterctl.client.registry import Cluster
from clusterctl.client.submit.logs import End, LogReader
from clusterctl.core.errors import ClusterctlError, UsageError

MOST_EVENTS = 10_000


def make_directory(path: Path) -> Path:
    """A new directory, or an empty one that is there. Raises UsageError where something is in the way."""
    try:
        path.mkdir(parents=True, exist_ok=True)
        if any(path.iterdir()):
            raise UsageError(f"--keep {path}: it is not empty; name a directory that is not there yet")
    except OSError as error:
        raise UsageError(f"--keep {path}: it cannot be made: {error.strerror}") from error
    return path


def keep(
    cluster: Cluster, job_id: str, directory: Path, artifacts: Sequence[str], say: Callable[[str], None]
) -> list[str]:
    """Writes it all below `directory`; returns, in sentences, what could not be had."""
    troubles: list[str] = []

    def attempt(what: str, step: Callable[[], None]) -> None:
        try:
            step()
        except (ClusterctlError, OSError) as error:
            troubles.append(f"{what}: {error}")

    with Api.of(cluster) as api:
        job = api.get_at_last(f"/api/v1/jobs/{job_id}")
        _write(directory / "job.json", job)
        attempt("its log", lambda: _keep_logs(api, job, directory / "logs"))
        attempt("the cluster's status", lambda: _write(directory / "status.json", api.get("/api/v1/status")))
        attempt("the cluster's events", lambda: _keep_events(api, directory / "events.jsonl"))
        for path in artifacts:
            for node_id in _nodes_of(job):
                place = directory / "artifacts" / node_id
                attempt(f"{node_id}:{path}", partial(_fetch, cluster, node_id, path, place))
    for trouble in troubles:
        say(f"not kept: {trouble}")
    return troubles


def _write(path: Path, document: Any) -> None:
    path.write_text(
        json.dumps(document, indent=2, ensure_ascii=False) + "\n", encoding="utf-8", errors="backslashreplace"
    )


def _keep_logs(api: Api, job: dict[str, Any], directory: Path) -> None:
    """A file for each rank of each attempt, byte for byte."""
    directory.mkdir()
    files: dict[tuple[int, int], IO[bytes]] = {}
    try:
        for number, tried in enumerate(job["attempts"], 1):
            reader = LogReader(api, job["id"], ranks=len(tried["nodes"]), attempt=number)
            with closing(reader.pieces(follow_on=False)) as pieces:
                for piece in pieces:
                    if isinstance(piece, End):
                        continue
                    key = (piece.attempt, piece.rank)
                    if key not in files:
                        files[key] = (directory / f"attempt-{key[0]}-rank-{key[1]}.log").open("wb")
                    files[key].write(piece.data)
    finally:
        for file in files.values():
            file.close()


def _keep_events(api: Api, path: Path) -> None:
    events = api.get("/api/v1/events", since=-1, limit=MOST_EVENTS)["events"]
    lines = [json.dumps(event, ensure_ascii=False) + "\n" for event in events]
    path.write_text("".join(lines), encoding="utf-8", errors="backslashreplace")


def _nodes_of(job: dict[str, Any]) -> list[str]:
    """Those of its last attempt, in the order of its ranks."""
    return list(dict.fromkeys(job["attempts"][-1]["nodes"])) if job["attempts"] else []


def _fetch(cluster: Cluster, node_id: str, path: str, to: Path) -> None:
    to.mkdir(parents=True, exist_ok=True)
    (node,) = nodes_of(cluster, [node_id])
    access(cluster, node).get(path, to)
