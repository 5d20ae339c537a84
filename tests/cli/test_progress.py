"""What `up` shows while it waits, on a terminal of 80 columns and 24 lines and in a log."""

from __future__ import annotations

import time
from collections import Counter
from typing import Any

import pytest
from rich.console import Console

from clusterctl.cli.render.progress import Lines, LiveTable
from clusterctl.cli.render.progress_rows import rows_of, stage
from clusterctl.client.nodes.node_list import Sight

PULLING = "pulling 4 of 19 layers (1.2 GB of 8.9 GB) of the image rayproject/ray-ml:2.60.0-py311-gpu"
STEPS: tuple[dict[str, Any], ...] = (
    {"state": "planned", "code": "not_yet", "reason": PULLING},
    {"state": "booting", "reason": "the provider says that it runs"},
    {"state": "joining", "reason": "setup 2 of 3: make all", "preparing": {"state": "running", "step": "setup 2 of 3: x"}},
    {"state": "ready", "reason": "takes work"},
)  # fmt: skip


def sight(count: int) -> Sight:
    now = time.time()
    nodes = [{"id": f"gpu-{n}", "pool": "gpu", "since": now - n, **STEPS[n % 4]} for n in range(1, count)]
    return Sight([{"id": "head-1", "pool": "head", "since": now - 5, **STEPS[3]}, *nodes])


def status(seen: Sight) -> dict[str, Any]:
    counts = Counter(node["state"] for node in seen.nodes)
    counts["ready"] += sum(seen.others.values())
    return {"node_counts": counts, "engine": {}}


def screen(seen: Sight, waiting: list[str]) -> list[str]:
    console = Console(width=80, height=24, force_terminal=True, no_color=True, legacy_windows=False)
    with console.capture() as shown:
        console.print(LiveTable().render(status(seen), seen, waiting, console.height), highlight=False)
    return [
        line.replace("\x1b[1m", "").replace("\x1b[2m", "").replace("\x1b[0m", "") for line in shown.get().splitlines()
    ]


@pytest.mark.parametrize("count", [1, 4, 16, 64, 2000])
def test_the_table_fits_the_terminal_however_many_nodes_there_are(count: int) -> None:
    lines = screen(sight(count), [f"pool gpu: 0 of {count} ready [gpu-1 planned (x)]", "engine ray starting"])
    assert len(lines) < 24 and all(len(line) <= 80 for line in lines)
    assert lines[0].split() == ["NODE", "STAGE", "FOR", "REASON"]
    assert lines[-2:] == [f"waiting for pool gpu: 0 of {count} ready", "waiting for engine ray starting"]


def test_few_nodes_have_a_row_each_with_what_is_ready_last() -> None:
    lines = screen(sight(4), [])
    assert [line.split()[0] for line in lines[1:5]] == ["gpu-1", "gpu-2", "head-1", "gpu-3"]
    assert lines[2].split()[1:5] == ["joining,", "setup", "2", "of"] and lines[2].endswith("  make all")


def test_many_nodes_are_summed_up_by_stage() -> None:
    lines = screen(sight(64), [])
    names = sorted(line.split("  ")[0] for line in lines[1:-1])
    assert names == ["15 of gpu", "16 of gpu", "16 of gpu", "16 of gpu", "head-1"]
    assert any("planned, pulling" in line and "1.2 GB of 8.9" in line for line in lines), "figures are not cut off"
    assert lines[-1] == "17 of 64 nodes ready"


def test_trouble_is_shown_first_and_on_its_own() -> None:
    seen = sight(64)
    seen.nodes[40].update(state="failed", reason="its setup failed", code="setup_failed", preparing=None)
    (first, *_) = rows_of(seen.nodes, 12, {})
    assert (first.names, first.stage, first.reason) == ("gpu-40", "failed", "its setup failed")


def test_the_stage_of_a_node_says_what_it_waits_for() -> None:
    assert [stage(step) for step in STEPS] == ["planned, pulling", "booting", "joining, setup 2 of 3", "ready"]


def test_a_log_has_a_line_per_step_and_one_for_many_nodes_that_take_it_together(
    capsys: pytest.CaptureFixture[str],
) -> None:
    lines, seen = Lines(), sight(64)
    lines.show(status(seen), seen, [])
    lines.show(status(seen), seen, [])
    said = capsys.readouterr().err.splitlines()
    assert len(said) == 5 and "  16 of gpu: booting (the provider says that it runs)" in said


def test_nodes_that_take_work_and_are_not_looked_at_have_a_row_per_pool() -> None:
    seen = Sight(sight(64).nodes[1:], {"gpu": 2400, "head": 1})
    lines = screen(seen, ["pool gpu: 2400 of 2463 ready [x]"])
    assert len(lines) < 24
    assert [line.split("  ")[0] for line in lines[-4:-2]] == ["2,400 of gpu", "head node"]
    assert lines[-2] == "2,417 of 2,464 nodes ready"


def test_a_log_says_how_many_of_a_pool_take_work_whenever_there_are_more(capsys: pytest.CaptureFixture[str]) -> None:
    lines, late = Lines(), sight(2).nodes[1:]
    for ready in (40, 40, 41):
        seen = Sight(late, {"gpu": ready})
        lines.show(status(seen), seen, [])
    assert capsys.readouterr().err.splitlines() == [
        "  gpu-1: booting (the provider says that it runs)",
        "  40 of gpu: ready",
        "  41 of gpu: ready",
    ]
