"""`up --timeline`: where the seconds went."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest

from clusterctl.cli.render.timeline import check_timeline_path, render_page, trace_events
from clusterctl.client.up.timeline import seconds_by_stage, spans_of
from clusterctl.core.errors import UsageError
from tests.support.cluster import LocalCluster

SPEC = """\
cluster: demo
provider: local
engine: none
setup: [read -t 0.3 < <(tail -f /dev/null) || true]
pools: [{name: cpu, min: 2, max: 2, resources: {CPU: 1}}]
"""


def row(at: float, state: str, code: str = "", reason: str = "") -> dict[str, object]:
    return {"at": at, "state": state, "code": code, "reason": reason}


STORY = [
    row(10.0, "planned"),
    row(11.0, "requested"),
    row(12.0, "booting"),
    row(20.0, "joining", "joined"),
    row(20.0, "joining", "preparing", "files 1 of 1: ./data to data"),
    row(22.0, "joining", "preparing", "setup 1 of 1: pip install <torch>"),
    row(50.0, "joining", "engine", "its engine starts"),
    row(53.0, "ready", "ready"),
]


def test_each_stage_of_a_node_lasts_until_the_next_begins() -> None:
    lengths = {span["stage"]: span["end"] - span["start"] for span in spans_of(STORY, 60.0)}
    assert lengths == {
        "planned": 1, "requested": 1, "booting": 8, "joining": 0, "files": 2, "setup": 28, "engine": 3, "ready": 7,
    }  # fmt: skip


def test_the_page_names_the_slowest_node_of_each_stage_and_escapes_what_users_wrote() -> None:
    lanes = [{"name": "up demo", "spans": []}, {"name": "cpu-1", "spans": spans_of(STORY, 60.0)}]
    document = {"cluster": "demo", "began": 10.0, "ended": 60.0, "lanes": lanes}
    assert seconds_by_stage(document)["setup"] == (28.0, "cpu-1")
    page = render_page(document)
    assert "pip install &lt;torch&gt;" in page and "<torch>" not in page
    assert not re.search(r"https?://|<script|src=|@import", page), "it needs nothing from anywhere"


def test_up_writes_a_page_and_a_trace_with_a_lane_for_each_node(make_cluster: Callable[..., LocalCluster]) -> None:
    cluster = make_cluster(SPEC)
    cluster.cli("up", str(cluster.spec), "--timeline", "out.html")
    assert "Where the seconds went" in (cluster.directory / "out.html").read_text()
    events = json.loads((cluster.directory / "out.json").read_text())["traceEvents"]
    lanes = {e["tid"]: e["args"]["name"] for e in events if e["name"] == "thread_name"}
    assert list(lanes.values()) == ["up demo", "head-1", "cpu-1", "cpu-2"], cluster.cli("events").stdout
    for tid, name in lanes.items():
        spans = [e for e in events if e["ph"] == "X" and e["tid"] == tid]
        assert all(e["dur"] >= 0 for e in spans)
        if name.startswith("cpu"):
            assert [e["name"] for e in spans][-1] == "ready"
            assert sum(e["dur"] for e in spans if e["name"] == "setup") >= 250_000
    trace = trace_events({"cluster": "x", "began": 0.0, "ended": 1.0, "lanes": []})
    assert trace["displayTimeUnit"] == "ms"


def test_a_timeline_that_cannot_be_written_is_refused_before_anything_is_started(tmp_path: Path) -> None:
    for path, why in ((tmp_path / "out.txt", "html"), (tmp_path / "no" / "out.html", "no directory")):
        with pytest.raises(UsageError, match=why):
            check_timeline_path(path)
