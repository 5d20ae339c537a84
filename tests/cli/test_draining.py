"""What `node drain` says: what will happen, to what, and until when, within 80 columns."""

from __future__ import annotations

import time
from typing import Any

import pytest

from clusterctl.cli.render.draining import render_drain, render_leaving

NOW = 1_800_000_000.0


def node(**more: Any) -> dict[str, Any]:
    made = {"id": "gpu-3", "state": "draining", "engine": "ready", "running": ["j-1/1/0", "j-2/1/0"]}
    uses = {"CPU": 2.0, "GPU": 1.0}
    return {**made, "engine_idle": False, "engine_uses": uses, "drain_by": NOW + 600, **more}


@pytest.mark.parametrize(
    ("more", "told"),
    [
        ({}, "2 tasks and Ray's work (2 CPU, 1 GPU) may go on until {} (10m00s);"),
        ({"running": [], "engine_uses": {}}, "Ray's work may go on until {} (10m00s);"),
        ({"engine_idle": True, "drain_by": None}, "2 tasks may end in peace; then the node goes"),
        ({"engine_idle": True, "running": []}, "nothing runs there: it goes now"),
    ],
)
def test_a_drain_says_what_has_until_when(more: dict[str, Any], told: str) -> None:
    lines = render_drain(node(**more), NOW).splitlines()
    assert lines[0] == "node gpu-3 drains: it takes no new work, Ray starts nothing new there"
    assert lines[1] == told.format(time.strftime("%H:%M:%S", time.localtime(NOW + 600)))
    assert all(len(line) <= 80 for line in lines)


def test_progress_names_what_is_waited_for_and_the_time_that_is_left() -> None:
    assert render_leaving(node(), NOW + 30) == (
        "node gpu-3 waits for 2 tasks and Ray's work (2 CPU, 1 GPU), for at most 9m30s"
    )
    assert render_leaving(node(running=[], engine_idle=True), NOW) == "node gpu-3 drains: nothing runs there"
    assert render_leaving(node(state="terminating"), NOW) == "node gpu-3 is terminating"
