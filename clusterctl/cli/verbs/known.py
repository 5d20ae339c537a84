"""`clusterctl list`."""

from __future__ import annotations

import tempfile
import time
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any, Optional

import typer

from clusterctl.cli.call import Call, verb
from clusterctl.cli.render import status as render_status
from clusterctl.cli.render.escape import one_line
from clusterctl.cli.render.text import columns, duration, money
from clusterctl.client.ended import STATE, sentence
from clusterctl.client.head.api import Api
from clusterctl.client.nodes.node_list import total
from clusterctl.client.registry import Cluster, Registry
from clusterctl.core.errors import ClusterctlError, UsageError


@verb
def list_clusters(
    call: Call,
    spec: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Argument(metavar="SPEC", help="With --adopt: search this spec's provider, too.", show_default=False),
    ] = None,
    adopt: Annotated[
        bool, typer.Option("--adopt", help="Find lost clusters by their tags and know them again.")
    ] = False,
    history: Annotated[
        bool, typer.Option("--history", help="List clusters that are down, of which something is kept.")
    ] = False,
) -> None:
    """List the clusters known here.

    With --adopt, clusters that no home knows any more are found by the tags of their instances, and known here from
    then on: `down` ends them, `up SPEC` goes on under the same uid.

    \b
    Examples:
      clusterctl list --json
      clusterctl list --adopt cluster.yaml
    """
    if history:
        call.show(_history(), lambda d: render_history(d, time.time()))
        return
    if spec is not None and not adopt:
        raise UsageError("a spec is only read with --adopt, as in `clusterctl list --adopt cluster.yaml`")
    document: dict[str, Any] = _adopt(spec) if adopt else {}
    document["clusters"] = [_describe(cluster) for cluster in Registry().all()]
    call.show(document, lambda d: render(d, time.time()))


def _history() -> dict[str, Any]:
    from clusterctl.client.history.archive import History

    return {"ended": [asdict(one) for one in History(Registry().home).all()]}


def render_history(document: dict[str, Any], now: float) -> str:
    """The document of `list --history`, the newest first."""
    rows = [
        [one["key"], duration(now - one["ended"]), one["place"], str(one["jobs"]), money(one["cost"]), one["spec_path"]]
        for one in document["ended"]
    ]
    if not rows:
        return "nothing is kept of any cluster that is down"
    return columns(["cluster", "down for", "place", "jobs", "cost", "spec"], rows, right=(1, 3, 4))


def _adopt(spec: Path | None) -> dict[str, Any]:
    from clusterctl.client.down.adopt import adopt_clusters
    from clusterctl.client.specfile import read_places

    with tempfile.TemporaryDirectory(prefix="clusterctl-adopt-") as scratch:
        findings, troubles = adopt_clusters(Registry(), read_places(spec) if spec else None, scratch)
    return {"found": [asdict(finding) for finding in findings], "troubles": troubles}


def _describe(cluster: Cluster) -> dict[str, Any]:
    document: dict[str, Any] = {
        "name": cluster.name,
        "uid": cluster.uid,
        "provider": cluster.provider,
        "place": cluster.place,
        "created": cluster.created,
        "spec": cluster.spec_path,
        "state": "unreachable",
        "nodes": None,
        "price_per_hour": None,
    }
    try:
        with Api.of(cluster) as api:
            status = api.get("/api/v1/status")
    except ClusterctlError as error:
        from clusterctl.client.down.asking import ask

        if note := ask(cluster):
            nothing = {"nodes": 0, "price_per_hour": 0.0}
            return document | nothing | {"state": STATE, "ended": note, "reason": sentence(cluster, note)}
        return document | {"reason": str(error)}
    cost = (status.get("cost") or {}).get("per_hour")
    return document | {"state": status["state"], "nodes": total(status), "price_per_hour": cost}


def render(document: dict[str, Any], now: float) -> str:
    """The document of `list`; what was found or went wrong while looking comes before the table."""
    rows = [
        [
            item["name"],
            render_status.state(item["state"]),
            item["place"],
            "-" if item["nodes"] is None else str(item["nodes"]),
            money(item["price_per_hour"]),
            duration(now - item["created"]),
            item["spec"],
        ]
        for item in document["clusters"]
    ]
    told = [line for finding in document.get("found", ()) for line in _tell(finding)] + document.get("troubles", [])
    header = ["cluster", "state", "place", "nodes", "$/h", "age", "spec"]
    nothing = "no clusters are known here: `clusterctl up SPEC` starts one"
    ended = [one_line(item["reason"]) for item in document["clusters"] if item["state"] == STATE]
    return "\n".join([*map(one_line, told), columns(header, rows, right=(3, 4, 5)) if rows else nothing, *ended])


def _tell(finding: dict[str, Any]) -> list[str]:
    what = (
        f"{finding['name'] or '(no name)'} ({finding['uid']}, {finding['provider']}, {finding['instances']} instances)"
    )
    if not finding["adopted"]:
        return [f"not adopted: {what}: {finding['why']}"]
    nodes = ", ".join(finding["nodes"]) or "none by name"
    return [f"adopted: {what}; nodes found: {nodes}", *(f"  lost: {text}" for text in finding["lost"])]
