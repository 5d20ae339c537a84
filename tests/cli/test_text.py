from __future__ import annotations

import pytest

from clusterctl.cli.render.plan import render_plan
from clusterctl.cli.render.text import amounts, columns, duration, money


def test_columns_are_as_wide_as_they_must_be() -> None:
    assert (
        columns(["a", "n"], [["long name", "1"], ["数", "20"]], right=(1,))
        == "A           N\nlong name   1\n数         20"
    )


def test_a_cell_cannot_begin_a_line_of_its_own() -> None:
    assert columns(["a"], [["x\nfake row"]]) == "A\nx\\nfake row"


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (None, "-"),
        (0, "0s"),
        (59.4, "59s"),
        (60, "1m00s"),
        (3599, "59m59s"),
        (7500, "2h05m"),
        (90000, "1d01h"),
        (-5, "0s"),
    ],
)
def test_durations_read_at_a_glance(seconds: float | None, text: str) -> None:
    assert duration(seconds) == text


@pytest.mark.parametrize(("dollars", "text"), [(None, "-"), (0, "$0.00"), (1234.5, "$1,234.50"), (0.0123, "$0.0123")])
def test_money_keeps_what_counts(dollars: float | None, text: str) -> None:
    assert money(dollars) == text


def test_amounts_read_as_people_say_them() -> None:
    assert amounts({"CPU": 4.0, "GPU": 0.5, "memory": 8 * 2**30}) == "4 CPU, 0.5 GPU, 8 GiB"
    assert amounts({}) == "-"


def test_changed_amounts_of_a_pool_are_written_as_people_write_them() -> None:
    field = {"name": "resources", "before": "{}", "after": '{"CPU":2.0,"memory":8589934592.0}', "policy": "replace"}
    action = {"op": "change", "kind": "pool", "name": "cpu", "fields": [field], "policy": "replace", "reason": ""}
    assert "resources: - -> 2 CPU, 8 GiB (replace)" in render_plan({"cluster": "demo", "actions": [action]})
