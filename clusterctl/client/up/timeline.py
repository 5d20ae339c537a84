"""Where the seconds of `up` went: a lane for the command itself and one for each node, from the nodes' own stories.

The document: {"cluster", "began", "ended" (unix seconds), "lanes": [{"name", "spans": [{"stage", "detail", "start", "end"}]}]}.
"""

from __future__ import annotations

import time
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from clusterctl.client.head.api import Api
from clusterctl.client.nodes.node_list import list_nodes
from clusterctl.core.errors import ClusterctlError
from clusterctl.core.model import by_number

Span = dict[str, Any]
STAGES = ("planned", "requested", "booting", "joining", "files", "setup", "engine", "ready", "failed", "other")


@dataclass
class Stopwatch:
    """The phases of the command, each beginning where the one before it ended; and the nodes it saw."""

    began: float = field(default_factory=time.time)
    spans: list[Span] = field(default_factory=list[Span])
    nodes: dict[str, None] = field(default_factory=dict[str, None])

    def begin(self, detail: str) -> None:
        """A phase begins, and the one before it ends."""
        now = time.time() if self.spans else self.began
        self.stop(now)
        self.spans.append({"stage": "up", "detail": detail, "start": now, "end": now})

    def stop(self, now: float) -> None:
        """The last phase ends; `now` in unix seconds."""
        if self.spans:
            self.spans[-1]["end"] = now

    def saw(self, nodes: Iterable[dict[str, Any]]) -> None:
        """These nodes are part of the timeline, also when they are gone at its end."""
        self.nodes.update(dict.fromkeys(str(node["id"]) for node in nodes))


def collect(stopwatch: Stopwatch, api: Api, cluster: str) -> dict[str, Any]:
    """The timeline of all nodes that there are, and of those that were seen, failed and are gone by now."""
    ended = time.time()
    stopwatch.stop(ended)
    with suppress(ClusterctlError):  # of a head that does not answer any more there is the command's own lane
        stopwatch.saw(list_nodes(api)["nodes"])
    lanes = [{"name": f"up {cluster}", "spans": stopwatch.spans}]
    for node_id in sorted(stopwatch.nodes, key=lambda name: (not name.startswith("head"), by_number(name))):
        spans = [s for s in spans_of(_story(api, node_id), ended) if s["end"] > stopwatch.began]
        lanes.append({"name": node_id, "spans": spans})
    return {"cluster": cluster, "began": stopwatch.began, "ended": ended, "lanes": lanes}


def _story(api: Api, node_id: str) -> list[dict[str, Any]]:
    for path in (f"/api/v1/nodes/{node_id}", f"/api/v1/explain/{node_id}"):  # the second knows the dead as well
        try:
            return list(api.get(path).get("story") or [])
        except ClusterctlError:
            continue
    return []


def spans_of(story: Iterable[dict[str, Any]], ended: float) -> list[Span]:
    """A node's story as spans: each stage lasts until the next row; rows of the same stage are one."""
    spans: list[Span] = []
    for row in sorted(story, key=lambda row: float(row["at"])):
        stage, at, detail = stage_of(row), float(row["at"]), str(row.get("reason") or "")
        if spans:
            spans[-1]["end"] = at
        if spans and spans[-1]["stage"] == stage and spans[-1]["detail"] == detail:
            continue
        spans.append({"stage": stage, "detail": detail, "start": at, "end": at})
    if spans and spans[-1]["stage"] not in ("failed", "other"):
        spans[-1]["end"] = max(ended, spans[-1]["start"])
    return spans


def stage_of(row: dict[str, Any]) -> str:
    """The stage that a row of the story begins."""
    state, code, reason = str(row.get("state")), str(row.get("code")), str(row.get("reason") or "")
    if state == "joining" and code == "preparing":
        return "setup" if reason.startswith("setup") or "setup command" in reason else "files"
    if state == "joining" and code in ("engine", "engine_restart", "installing"):
        return "engine"
    return state if state in STAGES else "failed" if state == "quarantined" else "other"


def seconds_by_stage(document: dict[str, Any]) -> dict[str, tuple[float, str]]:
    """Per stage the longest time that any node spent in it, and which node that was."""
    longest: dict[str, tuple[float, str]] = {}
    for lane in document["lanes"][1:]:
        sums: dict[str, float] = {}
        for span in lane["spans"]:
            sums[span["stage"]] = sums.get(span["stage"], 0.0) + span["end"] - span["start"]
        for stage, seconds in sums.items():
            if stage in STAGES[:7] and seconds > longest.get(stage, (-1.0, ""))[0]:
                longest[stage] = (seconds, lane["name"])
    return {stage: longest[stage] for stage in STAGES if stage in longest}
