"""A timeline as a page that needs nothing but a browser, and as the trace events that Perfetto and chrome://tracing read."""

from __future__ import annotations

import json
from html import escape
from pathlib import Path
from typing import Any

from clusterctl.client.up.timeline import seconds_by_stage
from clusterctl.core.errors import UsageError

_COLOURS = {
    "up": "#6b7280",
    "planned": "#c7d2fe",
    "requested": "#a5b4fc",
    "booting": "#fbbf24",
    "joining": "#fde68a",
    "files": "#67e8f9",
    "setup": "#38bdf8",
    "engine": "#c084fc",
    "ready": "#4ade80",
    "failed": "#f87171",
    "other": "#d1d5db",
}
_STYLE = """
body{font:14px/1.4 system-ui,sans-serif;margin:2em;color:#111;background:#fff}
.lane{display:flex;align-items:center;height:26px}.name{width:12em;overflow:hidden;text-overflow:ellipsis;white-space:nowrap}
.bar{position:relative;flex:1;height:20px;background:#f3f4f6}.bar i{position:absolute;top:0;height:100%;min-width:1px}
.axis{height:20px}.axis span{position:absolute;border-left:1px solid #9ca3af;padding-left:3px;color:#6b7280;font-size:12px}
.key b{display:inline-block;width:12px;height:12px;margin:0 4px 0 14px}td,th{text-align:left;padding:2px 1.5em 2px 0}
"""
_TICKS = (0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 30, 60, 120, 300, 600, 1800, 3600)


def check_timeline_path(path: Path) -> None:
    """Raises UsageError before anything is done, rather than when all is over."""
    if path.suffix not in (".html", ".json"):
        raise UsageError(f"--timeline {path}: name a .html file (its trace is written beside it) or a .json file")
    if not path.absolute().parent.is_dir():
        raise UsageError(f"--timeline {path}: there is no directory {path.absolute().parent}")


def write_timeline(path: Path, document: dict[str, Any]) -> list[Path]:
    """`path` itself, and beside a page the trace events with the suffix .json. Returns what was written."""
    trace = path.with_suffix(".json")
    trace.write_text(json.dumps(trace_events(document)), encoding="utf-8")
    if path.suffix == ".json":
        return [trace]
    path.write_text(render_page(document), encoding="utf-8")
    return [path, trace]


def trace_events(document: dict[str, Any]) -> dict[str, Any]:
    """Complete events in microseconds from the beginning of `up`; a thread for each lane."""
    events: list[dict[str, Any]] = [
        {"ph": "M", "pid": 1, "tid": 0, "name": "process_name", "args": {"name": f"cluster {document['cluster']}"}}
    ]
    for number, lane in enumerate(document["lanes"]):
        events.append({"ph": "M", "pid": 1, "tid": number, "name": "thread_name", "args": {"name": lane["name"]}})
        events.append({"ph": "M", "pid": 1, "tid": number, "name": "thread_sort_index", "args": {"sort_index": number}})
        for span in lane["spans"]:
            start = max(
                span["start"], document["began"]
            )  # a node may be older than this `up`; time does not begin below 0
            events.append(
                {
                    "ph": "X",
                    "pid": 1,
                    "tid": number,
                    "cat": span["stage"],
                    "name": span["detail"] if span["stage"] == "up" else span["stage"],
                    "ts": round((start - document["began"]) * 1e6),
                    "dur": round(max(0.0, span["end"] - start) * 1e6),
                    "args": {"reason": span["detail"]},
                }
            )
    return {"traceEvents": events, "displayTimeUnit": "ms"}


def render_page(document: dict[str, Any]) -> str:
    """The document as one HTML page that needs no script and no other file."""
    began, total = document["began"], max(document["ended"] - document["began"], 0.001)
    title = f"up {escape(document['cluster'])}: {total:.1f} s"
    lanes = "\n".join(_lane(lane, began, total) for lane in document["lanes"])
    stages = {span["stage"] for lane in document["lanes"] for span in lane["spans"]}
    key = "".join(f'<b style="background:{c}"></b>{name}' for name, c in _COLOURS.items() if name in stages)
    rows = "".join(
        f"<tr><td>{stage}</td><td>{seconds:.2f} s</td><td>{escape(node)}</td></tr>"
        for stage, (seconds, node) in seconds_by_stage(document).items()
    )
    table = f"<table><tr><th>stage</th><th>longest</th><th>on</th></tr>{rows}</table>" if rows else ""
    return (
        f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{title}</title><style>{_STYLE}</style>'
        f'<h1>{title}</h1><p class="key">{key}</p>{_axis(total)}\n{lanes}\n<h2>Where the seconds went</h2>{table}</html>\n'
    )


def _lane(lane: dict[str, Any], began: float, total: float) -> str:
    bars: list[str] = []
    for span in lane["spans"]:
        start = max(0.0, span["start"] - began)
        width = max(0.0, span["end"] - began - start)
        tip = f"{span['stage']}: {span['detail']} ({span['end'] - span['start']:.2f} s)"
        bars.append(
            f'<i style="left:{100 * start / total:.3f}%;width:{100 * width / total:.3f}%;'
            f'background:{_COLOURS.get(span["stage"], "#d1d5db")}" title="{escape(tip)}"></i>'
        )
    return (
        f'<div class="lane"><div class="name">{escape(lane["name"])}</div><div class="bar">{"".join(bars)}</div></div>'
    )


def _axis(total: float) -> str:
    step = next((tick for tick in _TICKS if total / tick <= 10), 7200)
    marks = "".join(
        f'<span style="left:{100 * n * step / total:.3f}%">{n * step:g} s</span>' for n in range(int(total / step) + 1)
    )
    return f'<div class="lane axis"><div class="name"></div><div class="bar">{marks}</div></div>'
