"""What a node's drain looks like to a person: pure functions from the head's document of the node to text."""

from __future__ import annotations

import time
from typing import Any

from clusterctl.cli.render.text import amounts, duration, plural


def render_drain(node: dict[str, Any], now: float) -> str:
    """What will happen to a node that was just drained, and until when; `now` in unix seconds."""
    if node["state"] != "draining":
        return f"node {node['id']} is {node['state']}"
    nothing_new = ", Ray starts nothing new there" if node["engine"] == "ready" else ""
    first = f"node {node['id']} drains: it takes no new work{nothing_new}"
    runs = what_runs(node)
    if not runs:
        return f"{first}\nnothing runs there: it goes now"
    by = node.get("drain_by")
    if by is None:
        return f"{first}\n{runs} may end in peace; then the node goes"
    until = f"{runs} may go on until {_clock(by, now)} ({duration(by - now)});"
    return f"{first}\n{until}\nwhat is left then is ended, and the node goes"


def render_leaving(node: dict[str, Any], now: float) -> str:
    """One line of progress."""
    if node["state"] != "draining":
        return f"node {node['id']} is {node['state']}"
    by, runs = node.get("drain_by"), what_runs(node)
    if not runs:
        return f"node {node['id']} drains: nothing runs there"
    return f"node {node['id']} waits for {runs}" + (f", for at most {duration(by - now)}" if by is not None else "")


def what_runs(node: dict[str, Any]) -> str:
    """ "2 tasks and Ray's work (2 CPU)"; "" for nothing."""
    running = node.get("running")
    tasks = [plural(len(running), "task")] if running else []
    return " and ".join([*tasks, *what_engine_runs(node)])


def what_engine_runs(node: dict[str, Any]) -> list[str]:
    """One entry, or none where the engine is idle."""
    if node.get("engine_idle", True):
        return []
    uses = node.get("engine_uses")
    return [f"Ray's work ({amounts(uses)})" if uses else "Ray's work"]


def _clock(at: float, now: float) -> str:
    form = "%H:%M:%S" if abs(at - now) < 43200 else "%Y-%m-%d %H:%M"
    return time.strftime(form, time.localtime(at))
