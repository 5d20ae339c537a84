"""Tables on terminals of all widths: every verb's, with long names, long reasons and wide characters."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable
from typing import Any

import pytest

from clusterctl.cli.render.explain import render_explain, render_story
from clusterctl.cli.render.fitting import width_of
from clusterctl.cli.render.jobs import render_jobs
from clusterctl.cli.render.offers import render_offers as render_catalogue
from clusterctl.cli.render.plan import render_plan
from clusterctl.cli.render.services import render_services
from clusterctl.cli.render.status import render_node_list, render_status
from clusterctl.cli.render.text import columns
from clusterctl.cli.verbs.known import render as render_list
from clusterctl.cli.verbs.money import render_cost, render_offers

WIDTHS = (60, 80, 100, 120)
REASON = (
    "waiting for 8 x GPU: nobody has 8 x H100 in zone us-east-1b now (asked for 14 times), it is tried again in 600 s"
)
WIDE = "訓練を待っています 数 の計算機"
NAME = "resnet-50-imagenet-sweep-with-a-long-name"

NODES = [
    {
        "id": f"gpu-{number}",
        "state": "ready" if number % 2 else "booting",
        "since": 100.0,
        "instance_type": "Standard_ND96isr_H100_v5",
        "market": "on-demand",
        "zone": "us-east-1a",
        "resources": {"CPU": 96.0, "GPU": 8.0, "memory": 1800 * 2.0**30},
        "owner": "",
        "reason": REASON if number % 3 else WIDE,
    }
    for number in range(4)
]
POOLS = [
    {"name": NAME, "provider": "kubernetes", "min": 0, "max": 200, "ready": 14, "pending": 3, "price_per_hour": 1234.5,
     "markets": {"spot": 14, "on-demand": 3}, "draining": 1},
    {"name": "cpu", "provider": "aws", "min": 0, "max": 2, "price_per_hour": 0.1, "markets": {"spot": 1}},
]  # fmt: skip
DEMAND = [
    {
        "count": 7,
        "shape": {"CPU": 8.0, "GPU": 4.0},
        "gang": True,
        "source": "job j-abcd2345",
        "reason": REASON,
        "fix": "raise max",
    }
]
JOBS = [
    {
        "id": f"j-abcd234{number}",
        "name": NAME,
        "state": "queued",
        "exit_code": None,
        "submitted": 100.0,
        "user": "alice",
        "reason": text,
    }
    for number, text in enumerate((REASON, WIDE, ""))
]
OFFER = {
    "pool": "gpu",
    "instance_type": "Standard_ND96isr_H100_v5",
    "market": "on-demand",
    "zone": "us-east-1a",
    "price_per_hour": 98.32,
    "resources": {"CPU": 96.0, "GPU": 8.0},
    "gpu_type": "H100",
    "price_source": "Retail Prices API",
    "price_date": "2026-11-01",
    "blocked": {"text": REASON},
}
CATALOGUE = {
    "instance_type": "Standard_ND96isr_H100_v5",
    "provider": "azure",
    "region": "southcentralus",
    "vcpus": 96,
    "memory_gib": 1900.0,
    "gpu": "H100",
    "gpu_count": 8,
    "gpu_memory_gib": 80.0,
    "on_demand": 98.32,
    "spot": 39.3,
    "spot_source": "api",
    "source": "Retail Prices API",
    "as_of": "2026-11-01",
}
SERVICE = {
    "name": NAME,
    "state": "ready",
    "well": 3,
    "replicas": 4,
    "version": 2,
    "wanted": 3,
    "members": [{"open": 12}],
    "script": "",
    "entrypoint": [
        "python",
        "-m",
        "vllm.entrypoints.openai.api_server",
        "--model",
        "/mnt/models/llama",
        "--port",
        "$PORT",
    ],
}
CLUSTER = {
    "name": NAME,
    "state": "running",
    "place": "aws us-east-1",
    "nodes": 12,
    "price_per_hour": 12.5,
    "created": 100.0,
    "spec": "/home/alice/projects/vision/experiments/cluster.yaml",
    "reason": "",
}
STATUS: dict[str, Any] = {
    "cluster": "vision",
    "uid": "0123456789",
    "state": "ready",
    "head": {},
    "nodes": NODES,
    "node_counts": {"ready": 2, "booting": 2},
    "pools": POOLS,
    "demand": DEMAND,
    "jobs": {},
    "cost": {"per_hour": 1.0, "total": 2.0},
}

CHOICE = {
    "type": "Standard_ND96isr_H100_v5",
    "market": "on-demand",
    "price": 98.32,
    "price_source": "Retail Prices API",
    "places": ["azure southcentralus", "azure eastus"],
    "why_not": "no quota",
}
PLANNED = {"name": NAME, "at_once": 10, "max": 200, "choices": [CHOICE, {**CHOICE, "market": "spot"}], "more": 12}
PAID = {"job": "j-abcd2345", "name": f"{NAME} {WIDE}", "hours": 12345.678, "dollars": 98765.4}

TABLES: dict[str, Callable[[], str]] = {
    "plan": lambda: render_plan({"cluster": "vision", "pools": [PLANNED, {**PLANNED, "name": "cpu"}]}),
    "cost": lambda: render_cost({"by": "job", "rows": [PAID], "unused": 12.0, "total": 98777.4}),
    "nodes": lambda: render_node_list({"nodes": NODES, "total": 4}, 200.0),
    "one node": lambda: render_node_list({"nodes": NODES[:1], "total": 1}, 200.0),
    "status": lambda: render_status(STATUS, 200.0),
    "jobs": lambda: render_jobs({"jobs": JOBS, "counts": {}}, 200.0),
    "offers of a cluster": lambda: render_offers({"offers": [OFFER, {**OFFER, "blocked": None, "pool": "cpu"}]}),
    "offers": lambda: render_catalogue(
        {"offers": [CATALOGUE, {**CATALOGUE, "region": "eastus", "gpu": ""}], "total": 2}
    ),
    "service list": lambda: render_services({"services": [SERVICE, {**SERVICE, "name": "web"}]}),
    "list": lambda: render_list({"clusters": [CLUSTER, {**CLUSTER, "name": "demo", "nodes": None}]}, 200.0),
    "story": lambda: render_story([{"at": 100.0, "event": "launch", "state": "requested", "reason": REASON}]),
    "explain": lambda: render_explain(
        {
            "id": "j-1",
            "kind": "job",
            "state": "queued",
            "passed_over": [{"offer": "g6.xlarge", "code": "x", "text": REASON}],
        },
        200.0,
    ),
}


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    monkeypatch.setenv("NO_COLOR", "1")

    def resize(width: int) -> None:
        monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
        monkeypatch.setenv("COLUMNS", str(width))

    return resize


def words(text: str) -> set[str]:
    """What is said, in any order; not which of it is a title."""
    return {word.strip(";:,").lower() for word in text.split()} - {"-", "", "all"}


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("name", TABLES)
def test_a_table_fits_and_nothing_of_it_is_lost_or_broken(
    terminal: Callable[[int], None], name: str, width: int
) -> None:
    whole = TABLES[name]()
    terminal(width)
    fitted = TABLES[name]()
    titles = {word.lower() for line in whole.splitlines() for word in line.split() if word.isupper()}
    assert words(whole) - words(fitted) <= titles  # of columns that have no content
    for line in fitted.splitlines():
        assert width_of(line) <= width or " " not in line.strip(), line


def test_a_file_or_a_pipe_gets_lines_of_any_length(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "60")
    assert max(map(len, TABLES["nodes"]().splitlines())) > 200


def test_a_table_that_fits_stays_as_it_is(terminal: Callable[[int], None]) -> None:
    terminal(60)
    assert columns(["a", "b", "c"], [["1", "-", "x"], ["2", "-", "x"]]) == "A  B  C\n1  -  x\n2  -  x"


def test_columns_without_content_go_first_then_those_that_are_all_alike(terminal: Callable[[int], None]) -> None:
    rows = [["one", "-", "us-east-1a", "5", "s" * 20], ["two", "-", "us-east-1a", "6", "t" * 20]]
    header = ["node", "owner of it", "zone", "n", "reason"]
    terminal(43)
    assert columns(header, rows) == (
        "NODE  ZONE        N  REASON\none   us-east-1a  5  ssssssssssssssssssss\ntwo   us-east-1a  6  tttttttttttttttttttt"
    )
    terminal(30)
    assert columns(header, rows) == (
        "NODE  N  REASON\none   5  ssssssssssssssssssss\ntwo   6  tttttttttttttttttttt\nall: zone us-east-1a"
    )


def test_a_reason_is_folded_where_there_is_room_and_else_stands_below_its_row(terminal: Callable[[int], None]) -> None:
    rows = [["gpu-1", "ready", "a reason of some length that is folded"]]
    terminal(40)
    assert columns(["node", "state", "reason"], rows).splitlines() == [
        "NODE   STATE  REASON",
        "gpu-1  ready  a reason of some length",
        "              that is folded",
    ]
    terminal(30)
    assert columns(["node", "state", "reason"], rows).splitlines() == [
        "NODE   STATE",
        "gpu-1  ready",
        "    reason: a reason of some",
        "    length that is folded",
    ]


def test_a_resized_terminal_counts_the_next_time(terminal: Callable[[int], None]) -> None:
    heights = []
    for width in (120, 60, 120):
        terminal(width)
        heights.append(len(TABLES["nodes"]().splitlines()))
    assert heights[0] == heights[2] < heights[1]


def test_wide_characters_count_for_two(terminal: Callable[[int], None]) -> None:
    terminal(40)
    lines = columns(["node", "reason"], [["gpu-1", f"{WIDE} {WIDE} {WIDE}"]]).splitlines()
    assert all(width_of(line) <= 40 for line in lines) and len(lines) > 3
    assert re.sub(r"\s+", " ", " ".join(line[7:] for line in lines[1:])) == f"{WIDE} {WIDE} {WIDE}"
