"""What is told of Serve's applications: what is wanted, as the book has it, and what Serve has, which is asked for it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from clusterctl.core.errors import ClusterctlError, NotFound
from clusterctl.core.serving import FAILED, RUNNING, Application, Version, served_name
from clusterctl_runtime.head.api.documents import demand_documents
from clusterctl_runtime.head.serve.control import ServeControl

if TYPE_CHECKING:
    from clusterctl_runtime.head.head import Head

Document = dict[str, Any]
MOST_WAITS = 3
MARKS = (":job_id:", ":actor_name:", ":task_name:")  # how lines begin that Ray writes into its workers' output


def told_document(application: Application, head: Head | None = None) -> Document:
    """Of the book alone. `newest` is the number of its last version, `waits` what Ray wants nodes for while one is on its way
    (given `head`)."""
    rolling, live = application.rolling, application.live
    waits = _waits(head) if head is not None and rolling is not None else []
    return {
        "name": application.name,
        "deleting": application.ended,
        "live": live.number if live else None,
        "rolling": rolling.number if rolling else None,
        "leaving": list(application.leaving),
        "newest": application.versions[-1].number if application.versions else 0,
        "route": (live or rolling or application.versions[-1]).route if application.versions else None,
        "versions": [_version_document(version) for version in application.versions],
        "waits": waits,
    }


def _version_document(version: Version) -> Document:
    return {
        "version": version.number,
        "state": version.state,
        "of": version.of,
        "created": version.created,
        "route": version.route,
        "import_path": str(version.config.get("import_path", "")),
        "detail": version.detail,
        "faults": [{"path": path, "message": message} for path, message in version.faults],
    }


def _waits(head: Head) -> list[str]:
    """What Ray has no room for, and why, in words. Whose it is Ray does not say."""
    found = [d for d in demand_documents(head) if d["source"] in ("task", "actor", "placement_group")]
    return [d["reason"] for d in found[:MOST_WAITS] if d["reason"]]


async def serve_document(head: Head, serve: ServeControl) -> Document:
    """All of it. `trouble`: why Serve cannot be asked; then only what is in the book is told."""
    records, details, trouble = serve.records, {}, serve.trouble
    if records.options is not None:
        try:
            details = await serve.serve.details()
        except ClusterctlError as error:
            trouble = str(error)
    rows = details.get("applications") or {}
    http = (records.options or {}).get("http_options") or {}
    return {
        "trouble": trouble,
        "http": {"host": http.get("host"), "port": http.get("port"), "node": _head_node(head)} if http else None,
        "proxies": [
            {"node": _node_of(proxy), "state": str(proxy.get("status"))}
            for proxy in (details.get("proxies") or {}).values()
        ],
        "applications": [
            _application_document(head, application, rows) for _, application in sorted(records.applications.items())
        ],
    }


def _application_document(head: Head, application: Application, rows: dict[str, Any]) -> Document:
    live = application.live
    row = rows.get(served_name(application.name, live.number)) if live else None
    return {
        **told_document(application, head),
        "state": _state(application, row),
        "message": str((row or {}).get("message") or ""),
        "deployments": [
            {**_deployment_document(one), "version": version.number}
            for version in application.versions
            for one in (
                (rows.get(served_name(application.name, version.number)) or {}).get("deployments") or {}
            ).values()
        ],
    }


def _state(application: Application, row: dict[str, Any] | None) -> str:
    """running, starting, updating, unhealthy, deploying (by Serve itself), failed, deleting or unknown."""
    if application.ended:
        return "deleting"
    if application.live is None:
        if application.rolling is not None:
            return "starting"
        return "failed" if application.in_state(FAILED) else "unknown"
    if row is None:
        return "unknown"
    if row.get("status") == RUNNING:
        return "updating" if application.rolling is not None else "running"
    return str(row.get("status")).lower()


def _deployment_document(row: dict[str, Any]) -> Document:
    return {
        "name": row.get("name"),
        "state": str(row.get("status")).lower(),
        "message": str(row.get("message") or ""),
        "replicas_wanted": row.get("target_num_replicas"),
        "replicas": [
            {
                "id": replica.get("replica_id"),
                "state": str(replica.get("state")).lower(),
                "node": _node_of(replica),
                "ray_node": replica.get("node_id"),
                "pid": replica.get("pid"),
            }
            for replica in row.get("replicas") or []
        ],
    }


def _node_of(row: dict[str, Any]) -> str | None:
    """Our name of the node that Ray's row is of; None while it has none."""
    return str(row.get("node_instance_id") or "").rpartition("@")[0] or row.get("node_id")


def _head_node(head: Head) -> str | None:
    try:
        return str(head.engine.access()["node"])
    except ClusterctlError:
        return None


async def log_document(serve: ServeControl, name: str, number: int | None, deployment: str, lines: int) -> Document:
    """What the replicas of a version wrote last, also of those that died lately. Raises NotFound where Serve has none."""
    application = serve.application(name)
    version = application.version(number) if number else (application.live or application.rolling)
    if version is None:
        version = application.versions[-1]
    details = await serve.serve.details()
    row = (details.get("applications") or {}).get(served_name(name, version.number))
    if row is None:
        why = f": {version.detail}" if version.detail else ""
        raise NotFound(f"Serve has no version {version.number} of {name!r} now, it is {version.state}{why}")
    replicas = [
        await _replica_log(serve, deployed["name"], replica, lines)
        for deployed in (row.get("deployments") or {}).values()
        if not deployment or deployed["name"] == deployment
        for replica in (*(deployed.get("replicas") or []), *(deployed.get("recent_dead_replicas") or []))
    ]
    return {"name": name, "version": version.number, "state": version.state, "replicas": replicas}


async def _replica_log(serve: ServeControl, deployment: str, row: Document, lines: int) -> Document:
    """`text` is what it logged by Serve's logger, `printed` what else it wrote."""
    found: Document = {
        "deployment": deployment,
        "replica": row["replica_id"],
        "node": _node_of(row),
        "state": str(row["state"]).lower(),
        "text": "",
        "printed": "",
        "trouble": "" if row.get("node_id") else "it has no node yet",
    }
    if not row.get("node_id"):
        return found
    try:
        if row.get("log_file_path"):
            file = str(row["log_file_path"]).lstrip("/")
            found["text"] = await serve.serve.log(node_id=row["node_id"], filename=file, lines=lines)
        for stream in ("out", "err") if row.get("actor_id") else ():
            written = await serve.serve.log(actor_id=row["actor_id"], suffix=stream, lines=lines)
            found["printed"] += _without(found["text"], written)
    except ClusterctlError as error:
        found["trouble"] = str(error)
    return found


def _without(text: str, written: str) -> str:
    """What is in no line of `text`, and no mark of Ray's own: Serve's logger writes to both."""
    known = set(text.splitlines())
    own = [line for line in written.splitlines() if line not in known and not line.startswith(MARKS)]
    return "".join(f"{line}\n" for line in own)
