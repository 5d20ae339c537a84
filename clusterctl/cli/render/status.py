"""`status` and `nodes` as a person reads them; nothing here fetches."""

from __future__ import annotations

from typing import Any

from clusterctl.cli.output import paint
from clusterctl.cli.render.escape import one_line
from clusterctl.cli.render.text import amounts, columns, counts_text, duration, money
from clusterctl.client.nodes.node_list import left_out

COLOURS = {
    "ready": "green",
    "running": "green",
    "succeeded": "green",
    "failed": "red",
    "degraded": "red",
    "quarantined": "red",
    "draining": "yellow",
    "terminating": "yellow",
    "stopping": "yellow",
    "stopped": "dim",
    "queued": "yellow",
    "cancelled": "dim",
    "ended": "dim",
}


def state(text: str) -> str:
    """The word, with its colour."""
    return paint(text, COLOURS.get(text, ""))


def render_status(document: dict[str, Any], now: float) -> str:
    """The document of `status`; `now` in unix seconds, for how long nodes have been in their states."""
    more = left_out(document)
    nodes = render_nodes(document["nodes"], now)
    if more:
        nodes += f"\nand {more:,} more: `clusterctl nodes` lists them"
    parts = [_summary(document), _troubles(document), _pools(document), nodes, _demand(document)]
    return "\n\n".join(part for part in parts if part)


def _summary(document: dict[str, Any]) -> str:
    head, engine = document.get("head") or {}, document.get("engine") or {}
    cost, jobs = document.get("cost") or {}, document.get("jobs") or {}
    title = f"cluster {document['cluster']} ({document['uid'][:8]}): {state(document.get('state', ''))}"
    engine_text = " ".join(str(engine.get(key) or "") for key in ("name", "version", "state")).split()
    counted = counts_text({name: count for name, count in jobs.items() if count}) or "none"
    return "\n".join(
        [
            title,
            *([f"place   {one_line(document['place'])}"] if document.get("place") else []),
            f"head    {head.get('address', '-')}, version {head.get('version', '-')}",
            f"engine  {' '.join(engine_text) or '-'}",
            f"nodes   {counts_text(document['node_counts']) or 'none'}",
            f"jobs    {counted}",
            f"cost    {money(cost.get('per_hour'))}/h, {money(cost.get('total'))} so far",
            *([f"end     {one_line(document['lifetime']['text'])}"] if document.get("lifetime") else []),
        ]
    )


def _troubles(document: dict[str, Any]) -> str:
    """What keeps the cluster from being as it should: refused launches, places that do not answer, the engine's trouble."""
    engine = document.get("engine") or {}
    said = [f"engine: {engine['message']}"] if engine.get("message") else []
    return "\n".join(paint("! ", "yellow") + one_line(text) for text in [*(document.get("messages") or []), *said])


def _pools(document: dict[str, Any]) -> str:
    pools = document.get("pools") or []
    rarer = [name for name in ("draining", "stopped", "failed") if any(pool.get(name) for pool in pools)]
    counted = ["ready", "pending", *rarer]
    serves = ["serves"] if any(pool.get("engine") == "none" for pool in pools) and _has_engine(document) else []
    rows = [
        [
            pool["name"],
            str(pool.get("provider", "")),
            f"{pool.get('min')}..{pool.get('max')}",
            *(str(pool.get(name, 0)) for name in counted),
            money(pool.get("price_per_hour")),
            _markets(pool.get("markets") or {}),
            *(["queue jobs" if pool.get("engine") == "none" else "all work"] if serves else []),
        ]
        for pool in pools
    ]
    right = range(3, 4 + len(counted))
    return columns(["pool", "provider", "size", *counted, "$/h", "market", *serves], rows, right=right) if rows else ""


def _has_engine(document: dict[str, Any]) -> bool:
    return (document.get("engine") or {}).get("name") not in (None, "", "none")


def _markets(markets: dict[str, int]) -> str:
    """ "spot", or "12 on-demand, 3 spot"."""
    return counts_text(markets) if len(markets) > 1 else next(iter(markets), "-")


def render_node_list(document: dict[str, Any], now: float) -> str:
    """The document of `nodes`."""
    text = render_nodes(document["nodes"], now)
    more = document["total"] - len(document["nodes"])
    return text + (f"\nand {more:,} more" if more else "")


def render_nodes(nodes: list[dict[str, Any]], now: float) -> str:
    """A row for each node; `now` as above."""
    rows = [
        [
            node["id"],
            state(node.get("state", "")),
            duration(now - node["since"]) if node.get("since") else "-",
            node.get("instance_type") or "-",
            node.get("market") or "-",
            node.get("zone") or "-",
            amounts(node.get("resources")),
            node.get("owner") or "-",
            node.get("reason") or "",
        ]
        for node in nodes
    ]
    header = ["node", "state", "for", "type", "market", "zone", "resources", "owner", "reason"]
    return columns(header, rows) if rows else "no nodes"


def _demand(document: dict[str, Any]) -> str:
    rows = [
        [
            str(item.get("count", 1)),
            _shape(item.get("shape")),
            "gang" if item.get("gang") else "",
            item.get("source", ""),
            _reason(item),
        ]
        for item in document.get("demand") or []
    ]
    more = document.get("demand_left_out")
    text = columns(["wanted", "shape", "", "source", "reason"], rows, right=(0,)) if rows else ""
    return text + (f"\nand {more:,} more kinds of waiting work" if more else "")


def _shape(shape: Any) -> str:
    """A shape is a mapping of amounts, a list of them (a gang's bundles), or a text."""
    if isinstance(shape, dict):
        return amounts(shape.get("resources", shape) if isinstance(shape.get("resources", shape), dict) else shape)
    if isinstance(shape, list):
        return " + ".join(_shape(part) for part in shape)
    return str(shape or "-")


def _reason(item: dict[str, Any]) -> str:
    return f"{item.get('reason') or ''}" + (f" ({item['fix']})" if item.get("fix") else "")
