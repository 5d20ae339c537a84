"""What `up` shows while it waits: a live table on a terminal, a line per change elsewhere; on stderr."""

from __future__ import annotations

import sys
import time
from typing import Any

from clusterctl.cli.escape import one_line
from clusterctl.cli.output import say, wants_colour
from clusterctl.cli.text import duration


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
        states = {node["id"]: str(node.get("state")) for node in status.get("nodes") or []}
        reasons = {node["id"]: node.get("reason") or "" for node in status.get("nodes") or []}
        if engine.get("state"):
            states["engine"] = engine["state"]
            reasons["engine"] = engine.get("message") or ""
        for name, state in states.items():
            if self._states.get(name) != state:
                say(f"  {name}: {state}" + (f" ({one_line(reasons[name])})" if reasons[name] else ""))
        self._states = states


class LiveTable(Progress):
    """All nodes with their states, redrawn in place; gone when done."""

    def __init__(self) -> None:
        from rich.console import Console
        from rich.live import Live

        self._live = Live(console=Console(stderr=True), transient=True, auto_refresh=True, refresh_per_second=4)

    def show(self, status: dict[str, Any], waiting: list[str]) -> None:
        from rich.console import Group
        from rich.table import Table
        from rich.text import Text

        table = Table(box=None, pad_edge=False)
        for title in ("node", "state", "for", "reason"):
            table.add_column(title.upper(), no_wrap=title != "reason")
        for node in status.get("nodes") or []:
            since = duration(time.time() - node["since"]) if node.get("since") else "-"
            cells = (node["id"], str(node.get("state")), since, node.get("reason") or "")
            table.add_row(*(Text(one_line(cell)) for cell in cells))
        self._live.update(Group(table, *(Text(f"waiting for {one_line(text)}", style="dim") for text in waiting)))

    def __enter__(self) -> Progress:
        self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._live.stop()
