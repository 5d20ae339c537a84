"""The trace of `up --timeline` is what Perfetto and chrome://tracing load: the Trace Event Format, and no more than it allows."""

from __future__ import annotations

import itertools
import json
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from clusterctl.cli.render.timeline import trace_events, write_timeline
from clusterctl.client.up.timeline import spans_of

INSTANT = {"type": "integer", "minimum": 0}  # microseconds
COMMON = {
    "pid": {"type": "integer"},
    "tid": {"type": "integer", "minimum": 0},
    "name": {"type": "string", "minLength": 1},
}
SCHEMA: dict[str, Any] = {
    "type": "object",
    "required": ["traceEvents"],
    "additionalProperties": False,
    "properties": {
        "displayTimeUnit": {"enum": ["ms", "ns"]},
        "traceEvents": {
            "type": "array",
            "minItems": 1,
            "items": {
                "oneOf": [
                    {
                        "required": ["ph", "name", "cat", "ts", "dur", "pid", "tid"],
                        "additionalProperties": False,
                        "properties": {
                            **COMMON,
                            "ph": {"const": "X"},
                            "cat": {"type": "string", "pattern": "^[^,]+$"},
                            "ts": INSTANT,
                            "dur": INSTANT,
                            "args": {"type": "object"},
                        },
                    },
                    {
                        "required": ["ph", "name", "pid", "args"],
                        "additionalProperties": False,
                        "properties": {
                            **COMMON,
                            "ph": {"const": "M"},
                            "name": {"enum": ["process_name", "thread_name", "thread_sort_index"]},
                            "args": {
                                "oneOf": [
                                    {"required": ["name"], "properties": {"name": {"type": "string"}}},
                                    {"required": ["sort_index"], "properties": {"sort_index": {"type": "integer"}}},
                                ]
                            },
                        },
                    },
                ]
            },
        },
    },
}  # fmt: skip


def story(*rows: tuple[float, str, str, str]) -> list[dict[str, Any]]:
    return [{"at": at, "state": state, "code": code, "reason": reason} for at, state, code, reason in rows]


@pytest.fixture
def document() -> dict[str, Any]:
    """One node made by this `up`, one that is older, one that failed, and a step without a name."""
    stories = {
        "cpu-1": story((101.0, "planned", "", ""), (102.5, "booting", "", "it, runs"), (104.0, "ready", "ready", "ok")),
        "cpu-2": story((20.0, "planned", "", ""), (30.0, "ready", "", "takes work"), (103.0, "joining", "preparing", "setup 1")),
        "cpu-3": story((101.0, "planned", "", ""), (105.0, "failed", "setup_failed", "\x1b[31mno\nwheel")),
    }  # fmt: skip
    lanes = [{"name": "up demo", "spans": [{"stage": "up", "detail": "read the spec", "start": 100.0, "end": 100.5}]}]
    lanes += [{"name": name, "spans": spans_of(rows, 110.0)} for name, rows in stories.items()]
    return {"cluster": "demo", "began": 100.0, "ended": 110.0, "lanes": lanes}


def test_the_trace_keeps_to_the_trace_event_format(document: dict[str, Any], tmp_path: Path) -> None:
    (written,) = write_timeline(tmp_path / "out.json", document)
    jsonschema.validate(json.loads(written.read_text(encoding="utf-8")), SCHEMA)


def test_every_thread_has_a_name_and_its_spans_do_not_overlap(document: dict[str, Any]) -> None:
    events = trace_events(document)["traceEvents"]
    named = {event["tid"]: event["args"]["name"] for event in events if event["name"] == "thread_name"}
    assert list(named.values()) == ["up demo", "cpu-1", "cpu-2", "cpu-3"]
    for tid in named:
        spans = sorted((e["ts"], e["ts"] + e["dur"]) for e in events if e["ph"] == "X" and e["tid"] == tid)
        assert spans and all(end <= start for (_, end), (start, _) in itertools.pairwise(spans))
        assert spans[-1][1] <= 10_000_000, "within the command's time"
