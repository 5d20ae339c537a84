"""What `up` shows while it waits: a live table on a terminal, a line per change elsewhere; on stderr."""

from __future__ import annotations

import sys
import time
from typing import Any

from clusterctl.cli.escape import one_line
from clusterctl.cli.output import say, wants_colour
from clusterctl.cli.text import duration
from clusterctl.core.errors import NotYet


def make_progress(quiet: bool) -> Progress:
    if quiet:
        return Progress()
    return LiveTable() if wants_colour(sys.stderr) else Lines()


class Progress:
    """Shows nothing: for `--quiet`."""

    def show(self, status: dict[str, Any], waiting: list[str]) -> None:
        return

    def __enter__(self) -> Progress:
        return self

    def __exit__(self, *_: object) -> None:
        return


class Lines(Progress):
    """One line whenever a node or the engine moves on."""

    def __init__(self) -> None:
        self._states: dict[str, str] = {}

    def show(self, status: dict[str, Any], waiting: list[str]) -> None:
        engine = status.get("engine") or {}
        states = {node["id"]: stage(node) for node in status.get("nodes") or []}
        reasons = {node["id"]: node.get("reason") or "" for node in status.get("nodes") or []}
        if engine.get("state"):
            states["engine"] = engine["state"]
            reasons["engine"] = engine.get("message") or ""
        for name, state in states.items():
            if self._states.get(name) != state:
                say(f"  {name}: {state}" + (f" ({one_line(reasons[name])})" if reasons[name] else ""))
        self._states = states


def stage(node: dict[str, Any]) -> str:
    """The node's state, and while it takes the spec's files and setup, which step: "joining, setup 2 of 3"."""
    state, preparing = str(node.get("state")), node.get("preparing") or {}
    if preparing.get("state") in ("running", "waiting") and state in ("joining", "ready"):
        step = str(preparing.get("step") or "").partition(":")[0] or "files"
        return f"{state}, {step}"
    if node.get("code") == NotYet.code:  # "planned, pulling": the first word of its reason
        return f"{state}, {str(node.get('reason') or '').partition(' ')[0]}"
    steps = {"engine": "engine", "installing": "installing"}
    step = steps.get(str(node.get("code")), "") if state == "joining" else ""
    return f"{state}, {step}" if step else state


class LiveTable(Progress):
    """Every node with its stage and why it is there, redrawn in place; gone when done. Where the terminal is too small,
    nodes that are ready give way to those that are not."""

    def __init__(self) -> None:
        from rich.console import Console
        from rich.live import Live

        self._live = Live(console=Console(stderr=True), transient=True, auto_refresh=True, refresh_per_second=4)

    def show(self, status: dict[str, Any], waiting: list[str]) -> None:
        from rich.console import Group
        from rich.table import Table
        from rich.text import Text

        table = Table(box=None, pad_edge=False)
        for title in ("node", "stage", "for", "reason"):
            table.add_column(title.upper(), no_wrap=title != "reason")
        nodes = sorted(status.get("nodes") or [], key=lambda node: node.get("state") == "ready")
        room = max(4, self._live.console.height - len(waiting) - 4)
        for node in nodes[:room]:
            since = duration(time.time() - node["since"]) if node.get("since") else "-"
            cells = (node["id"], stage(node), since, node.get("reason") or "")
            table.add_row(*(Text(one_line(cell)) for cell in cells))
        ready = sum(node.get("state") == "ready" for node in nodes)
        more = f", {len(nodes) - room} of them not shown" if len(nodes) > room else ""
        lines = [f"{ready} of {len(nodes)} nodes ready{more}", *(f"waiting for {one_line(text)}" for text in waiting)]
        self._live.update(Group(table, *(Text(line, style="dim", no_wrap=True, overflow="ellipsis") for line in lines)))

    def __enter__(self) -> Progress:
        self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._live.stop()
