"""What `up` shows while it waits: a live table on a terminal, a line per change elsewhere; on stderr."""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING, Any

from clusterctl.cli.output import say, wants_colour
from clusterctl.cli.render.escape import one_line
from clusterctl.cli.render.progress_rows import grouped, name_of_others, names_of, rows_of, stage
from clusterctl.cli.render.text import columns, duration
from clusterctl.client.nodes.node_list import Sight

if TYPE_CHECKING:
    from rich.console import RenderableType

SINGLE_LINES = 3  # so many nodes that do the same at the same time have a line each


def make_progress(quiet: bool) -> Progress:
    """A live table on a terminal, lines elsewhere; one that shows nothing if `quiet`."""
    if quiet:
        return Progress()
    return LiveTable() if wants_colour(sys.stderr) else Lines()


class Progress:
    """Shows nothing: for `--quiet`."""

    def show(self, status: dict[str, Any], sight: Sight, waiting: list[str]) -> None:
        """Called with each look at the cluster; `waiting` has a sentence for each thing that is not ready."""
        return

    def __enter__(self) -> Progress:
        return self

    def __exit__(self, *_: object) -> None:
        return


class Lines(Progress):
    """A line whenever a node or the engine moves on; one for all nodes of a pool that do the same at the same time."""

    def __init__(self) -> None:
        self._states: dict[str, str] = {}
        self._others: dict[str, int] = {}

    def show(self, status: dict[str, Any], sight: Sight, waiting: list[str]) -> None:
        nodes, engine = sight.nodes, status.get("engine") or {}
        moved = [node for node in nodes if self._states.get(node["id"]) != stage(node)]
        for group in grouped(moved, lambda node: (node.get("pool"), stage(node), node.get("reason"))):
            several = [group] if len(group) > SINGLE_LINES else [[node] for node in group]
            for some in several:
                self._say(names_of(some), stage(some[0]), str(some[0].get("reason") or ""))
        for pool, count in sight.others.items():
            if count > self._others.get(pool, 0):
                self._say(name_of_others(pool, count), "ready", "")
        self._others = sight.others
        if engine.get("state") and self._states.get("engine") != engine["state"]:
            self._say("engine", engine["state"], str(engine.get("message") or ""))
        self._states = {**{node["id"]: stage(node) for node in nodes}, "engine": str(engine.get("state") or "")}

    def _say(self, name: str, state: str, reason: str) -> None:
        say(f"  {name}: {state}" + (f" ({one_line(reason)})" if reason else ""))


class LiveTable(Progress):
    """Every node with its stage and why it is there, redrawn in place; gone when done. Never longer than the terminal: where
    nodes are many, those that are alike share a row."""

    def __init__(self) -> None:
        from rich.console import Console
        from rich.live import Live

        self._live = Live(console=Console(stderr=True), transient=True, auto_refresh=True, refresh_per_second=4)

    def show(self, status: dict[str, Any], sight: Sight, waiting: list[str]) -> None:
        self._live.update(self.render(status, sight, waiting, self._live.console.height))

    def render(self, status: dict[str, Any], sight: Sight, waiting: list[str], height: int) -> RenderableType:
        """What `show` draws on a terminal of `height` lines."""
        from rich.console import Group
        from rich.text import Text

        # which nodes a pool waits for is in the table
        lines = [f"waiting for {one_line(text.partition(' [')[0])}" for text in waiting][: max(1, height // 4)]
        rows = rows_of(sight.nodes, max(3, height - len(lines) - 3), sight.others)
        now = time.time()
        table = columns(
            ("node", "stage", "for", "reason"),
            [(row.names, row.stage, duration(now - row.since) if row.since else "-", row.reason) for row in rows],
            live=True,
        ).splitlines()
        counts = status["node_counts"]
        ready = f"{counts.get('ready', 0):,} of {sum(counts.values()):,} nodes ready"
        texts = [Text(line, style="" if number else "bold") for number, line in enumerate(table)]
        texts += [Text(line, style="dim") for line in (ready, *lines)]
        for text in texts:
            text.no_wrap, text.overflow = True, "ellipsis"
        return Group(*texts)

    def __enter__(self) -> Progress:
        self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._live.stop()
