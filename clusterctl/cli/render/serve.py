"""How Serve's applications read."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

from clusterctl.cli.render.text import columns, duration

Row = dict[str, Any]
VERSIONS_SHOWN = 5


def render_deployed(rows: Sequence[Row]) -> str:
    """The answer to `deploy` and `rollback`."""
    return "\n".join(_deployed(row) for row in rows)


def _deployed(row: Row) -> str:
    where = f" at {row['route']}" if row["route"] is not None else ""
    if row["rolling"] is not None:
        return f"{row['name']}: version {row['rolling']} is on its way{where}"
    same = "" if row.get("changed", True) else " (as it was: nothing is new in it)"
    return f"{row['name']}: version {row['live']} answers{where}{same}"


def render_serve(document: Row, now: float) -> str:
    """Applications, then versions, then replicas by node; `now` in unix seconds."""
    parts = [document["trouble"]] if document["trouble"] else []
    if not document["applications"]:
        return "\n".join([*parts, "nothing is served: `clusterctl serve deploy` does that"])
    http = document["http"]
    if http:
        parts.append(f"HTTP: port {http['port']} of {http['node'] or 'the head node'}, on {http['host']}")
    header = ["application", "state", "version", "route", "replicas"]
    parts.append(columns(header, [_application(row) for row in document["applications"]]))
    if notes := [line for row in document["applications"] for line in _notes(row)]:
        parts.append("\n".join(notes))
    versions = [
        _version(row, v, now) for row in document["applications"] for v in reversed(row["versions"][-VERSIONS_SHOWN:])
    ]
    parts.append(columns(["application", "version", "state", "age", "program", "reason"], versions))
    replicas = [r for row in document["applications"] for d in row["deployments"] for r in _replicas(row["name"], d)]
    if replicas:
        parts.append(columns(["deployment", "version", "node", "replicas"], replicas))
    return "\n\n".join(parts)


def _application(row: Row) -> list[str]:
    version = str(row["live"] or "-") + (f" -> {row['rolling']}" if row["rolling"] and row["live"] else "")
    ready = sum(
        r["state"] == "running" for d in row["deployments"] if d["version"] == row["live"] for r in d["replicas"]
    )
    wanted = sum(d["replicas_wanted"] or 0 for d in row["deployments"] if d["version"] == row["live"])
    return [row["name"], row["state"], version, row["route"] or "-", f"{ready} of {wanted}"]


def _notes(row: Row) -> list[str]:
    told = [f"{d['name']}: {d['message']}" for d in row["deployments"] if d["message"]]
    return [f"{row['name']}: {text}" for text in ([row["message"]] if row["message"] else []) + told + row["waits"]]


def _version(row: Row, version: Row, now: float) -> list[str]:
    number = str(version["version"])
    if version["of"] != version["version"]:
        number += f" (as {version['of']})"
    reason = version["detail"].strip().splitlines()[-1] if version["detail"].strip() else "-"
    short = reason if len(reason) <= 100 else f"{reason[:97]}..."
    return [row["name"], number, version["state"], duration(now - version["created"]), version["import_path"], short]


def _replicas(name: str, deployment: Row) -> list[list[str]]:
    counted = Counter((r["node"] or "-", r["state"]) for r in deployment["replicas"])
    nodes = sorted({node for node, _ in counted})
    return [
        [
            f"{name}/{deployment['name']}",
            str(deployment["version"]),
            node,
            ", ".join(f"{count} {state}" for (where, state), count in sorted(counted.items()) if where == node),
        ]
        for node in nodes
    ]


def render_logs(document: Row) -> str:
    """Each replica's last lines behind a line that says whose they are."""
    if not document["replicas"]:
        return f"version {document['version']} of {document['name']} has no replicas yet"
    parts: list[str] = []
    for replica in document["replicas"]:
        title = f"{replica['deployment']} {replica['replica']} on {replica['node'] or 'no node'}, {replica['state']}"
        written = [text.rstrip("\n") for text in (replica["text"], replica["printed"]) if text.strip()]
        parts.append("\n".join([f"==> {title} <==", *(written or [f"({replica['trouble'] or 'nothing'})"])]))
    return "\n\n".join(parts)
