"""Traces: what is read, what is left out with file and line, and what is refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from clusterctl.core.errors import UsageError
from clusterctl.simulation.command import SAMPLE
from clusterctl.simulation.sample import sample_csv
from clusterctl.simulation.traces import load_trace, read_trace

HEADER = "submit_s,duration_s,nodes,cpus_per_node,memory_gib_per_node,gpus_per_node,gpu_type,priority,user"


def test_a_job_has_its_shape_gang_priority_and_user() -> None:
    trace = read_trace("t.csv", [HEADER, "5,60,2,4,16,0.5,T4,3,ada"])
    (job,) = trace.jobs
    assert (job.submit, job.duration, job.nodes, job.priority, job.user) == (5, 60, 2, 3, "ada")
    assert job.shape.gpu_type == "T4"
    assert job.shape.resources.to_dict() == {"CPU": 4, "GPU": 0.5, "memory": 16 * 1024**3}
    assert trace.faults == ()


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("-5,60,1,1,1,0,,,", "submit_s is -5: expected at least 0"),
        ("5,-60,1,1,1,0,,,", "duration_s is -60: expected at least 0"),
        (",60,1,1,1,0,,,", "submit_s is missing"),
        ("5,,1,1,1,0,,,", "duration_s is missing"),
        ("5,soon,1,1,1,0,,,", "duration_s is 'soon': expected a number"),
        ("5,nan,1,1,1,0,,,", "expected a finite number"),
        ("5,60,0,1,1,0,,,", "nodes is 0: expected at least 1"),
        ("5,60,1.5,1,1,0,,,", "expected a whole number"),
        ("5,60,1,-1,1,0,,,", "cpus_per_node is -1"),
        ("5,60,1,1,1,0,,,,,,", "more than the 9 columns"),
    ],
)
def test_a_bad_line_is_named_with_file_and_line_and_the_rest_goes_on(line: str, words: str) -> None:
    trace = read_trace("t.csv", [HEADER, "0,1,1,1,1,0,,,", line, "9,1,1,1,1,0,,,"])
    assert [job.submit for job in trace.jobs] == [0, 9]
    (fault,) = trace.faults
    assert fault.startswith("t.csv:3: ")
    assert words in fault


def test_lines_out_of_order_are_sorted_and_said() -> None:
    trace = read_trace("t.csv", [HEADER, "9,1,1,1,1,0,,,", "0,1,1,1,1,0,,,"])
    assert [job.submit for job in trace.jobs] == [0, 9]
    assert any("out of order" in note for note in trace.notes)


def test_extra_columns_are_ignored_and_missing_ones_have_defaults() -> None:
    trace = read_trace("t.csv", ["submit_s,duration_s,original_wait_s", "0,10,3"])
    assert trace.jobs[0].shape.resources.to_dict() == {"CPU": 1}
    assert trace.jobs[0].nodes == 1


@pytest.mark.parametrize("lines", [[], ["a,b"], ["submit_s"], [HEADER], [HEADER, "x,y,,,,,,,"]])
def test_a_file_without_a_usable_line_is_refused_with_a_sentence(lines: list[str]) -> None:
    with pytest.raises(UsageError, match=r"t\.csv"):
        read_trace("t.csv", lines)


def test_a_missing_file_and_one_that_is_no_text_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="cannot read the trace"):
        load_trace(tmp_path / "none.csv")
    (tmp_path / "binary.csv").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(UsageError, match="not UTF-8"):
        load_trace(tmp_path / "binary.csv")


def test_a_demand_curve_becomes_jobs_that_add_up_to_it() -> None:
    rows = ["minute,running_gpus,pending_gpus,total_gpus", "0,1,0,8", "1,2,1,8", "2,1,0,8", "9,1,0,8"]
    trace = read_trace("curve.csv", rows)
    levels = [
        sum(1 for j in trace.jobs if j.submit <= minute * 60 < j.submit + j.duration) for minute in (0, 1, 2, 5, 9)
    ]
    assert levels == [1, 3, 1, 1, 1]
    assert any("gaps in the minutes" in note for note in trace.notes)


def test_the_sample_that_ships_is_what_its_script_makes() -> None:
    assert SAMPLE.read_text() == sample_csv()
    trace = load_trace(SAMPLE)
    assert len(trace.jobs) > 500
    assert trace.faults == ()
