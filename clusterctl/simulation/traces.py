"""Traces as CSV files: one job a line, or one minute of GPU demand a line. A bad line is a sentence; the rest goes on."""

from __future__ import annotations

import csv
import math
from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from itertools import pairwise
from pathlib import Path

from clusterctl.core.errors import UsageError
from clusterctl.core.model import Shape
from clusterctl.core.resources import Resources
from clusterctl.core.simulate.jobs import Trace, TraceJob

JOB_COLUMNS = ("submit_s", "duration_s")
OPTIONAL_COLUMNS = (
    "nodes",
    "cpus_per_node",
    "memory_gib_per_node",
    "gpus_per_node",
    "gpu_type",
    "priority",
    "user",
)
CURVE_COLUMNS = ("minute", "running_gpus", "pending_gpus")
GIB = 1024**3
DEFAULT_CPUS = 1.0  # of a job whose trace does not say: what `submit` asks for too
MOST_FAULTS_SHOWN = 20
MOST_NODES = 100_000


class BadLine(ValueError):
    """A line that cannot be used; the message says which column and why."""


def load_trace(path: Path) -> Trace:
    """Reads a trace; raises UsageError when the file is missing, has no known header or not one usable line."""
    try:
        with path.open(newline="", encoding="utf-8") as file:
            return read_trace(path.name, file)
    except OSError as error:
        raise UsageError(f"cannot read the trace {path}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise UsageError(f"the trace {path} is not UTF-8 text: {error}") from error


def read_trace(name: str, lines: Iterable[str]) -> Trace:
    """The same from lines of text; `name` stands in messages."""
    rows = csv.DictReader(lines)
    header = tuple(column.strip() for column in rows.fieldnames or ())
    rows.fieldnames = list(header)
    if all(column in header for column in CURVE_COLUMNS):
        trace = _read_curve(name, rows)
    elif all(column in header for column in JOB_COLUMNS):
        trace = _read_jobs(name, rows, header)
    else:
        raise UsageError(
            f"{name}:1: no trace: expected a header with {', '.join(JOB_COLUMNS)} (and any of "
            f"{', '.join(OPTIONAL_COLUMNS)}), or with {', '.join(CURVE_COLUMNS)}; found {', '.join(header) or 'nothing'}"
        )
    if not trace.jobs:
        first = f"; the first fault: {trace.faults[0]}" if trace.faults else ""
        raise UsageError(f"{name}: the trace has no usable line{first}")
    return trace


def _read_jobs(name: str, rows: csv.DictReader[str], header: tuple[str, ...]) -> Trace:
    jobs: list[TraceJob] = []
    faults: list[str] = []
    notes: list[str] = []
    for row in rows:
        line = rows.line_num
        try:
            if None in row:
                raise BadLine(f"more than the {len(header)} columns of the header")
            jobs.append(_job(row, line))
        except BadLine as fault:
            faults.append(f"{name}:{line}: {fault}; this line was left out")
    unsorted = sum(1 for before, after in pairwise(jobs) if after.submit < before.submit)
    if unsorted:
        notes.append(f"{unsorted} lines are out of order; the jobs were sorted by submit_s")
        jobs.sort(key=lambda job: (job.submit, int(job.id)))
    if "cpus_per_node" not in header or any(job.shape.resources.get("CPU") == DEFAULT_CPUS for job in jobs[:1]):
        notes.append(f"where the trace names no CPUs a job asks for {DEFAULT_CPUS:g}")
    return Trace(name, tuple(jobs), tuple(faults), tuple(notes))


def _job(row: Mapping[str, str | None], line: int) -> TraceJob:
    nodes = _number(row, "nodes", default=1, least=1)
    if nodes != int(nodes) or nodes > MOST_NODES:
        raise BadLine(f"nodes is {nodes:g}: expected a whole number from 1 to {MOST_NODES}")
    priority = _number(row, "priority", default=0, least=-1e6)
    amounts = {
        "CPU": _number(row, "cpus_per_node", default=DEFAULT_CPUS),
        "GPU": _number(row, "gpus_per_node", default=0),
        "memory": _number(row, "memory_gib_per_node", default=0) * GIB,
    }
    return TraceJob(
        id=str(line),
        submit=_number(row, "submit_s"),
        duration=_number(row, "duration_s"),
        shape=Shape(Resources.of(amounts), gpu_type=(row.get("gpu_type") or "").strip()),
        nodes=int(nodes),
        priority=int(priority),
        user=(row.get("user") or "").strip(),
    )


def _number(row: Mapping[str, str | None], column: str, default: float | None = None, least: float = 0.0) -> float:
    text = (row.get(column) or "").strip()
    if not text:
        if default is None:
            raise BadLine(f"{column} is missing")
        return default
    try:
        value = float(text)
    except ValueError:
        raise BadLine(f"{column} is {text!r}: expected a number") from None
    if not math.isfinite(value):
        raise BadLine(f"{column} is {text!r}: expected a finite number")
    if value < least:
        raise BadLine(f"{column} is {value:g}: expected at least {least:g}")
    return value


def _read_curve(name: str, rows: csv.DictReader[str]) -> Trace:
    """Jobs of one GPU from a demand curve: a rise begins jobs, a fall ends the oldest. A gap in the minutes holds the
    level before it."""
    faults: list[str] = []
    points: list[tuple[int, int]] = []
    gaps = 0
    for row in rows:
        try:
            minute = int(_number(row, "minute"))
            level = int(_number(row, "running_gpus") + _number(row, "pending_gpus"))
            if points and minute <= points[-1][0]:
                raise BadLine(f"minute is {minute}, not after the line before")
        except BadLine as fault:
            faults.append(f"{name}:{rows.line_num}: {fault}; this line was left out")
            continue
        gaps += bool(points and minute > points[-1][0] + 1)
        points.append((minute, level))
    notes = ["a demand curve: every rise begins jobs of one GPU, every fall ends the oldest"]
    if gaps:
        notes.append(f"{gaps} gaps in the minutes: the level before each was held")
    return Trace(name, tuple(_jobs_of_curve(points)), tuple(faults), tuple(notes))


def _jobs_of_curve(points: list[tuple[int, int]]) -> Iterator[TraceJob]:
    shape = Shape(Resources.of(CPU=DEFAULT_CPUS, GPU=1))
    running: deque[float] = deque()
    spans: list[tuple[float, float]] = []
    for minute, level in points:
        at = minute * 60.0
        while len(running) < level:
            running.append(at)
        while len(running) > level:
            begun = running.popleft()
            spans.append((begun, at - begun))
    end = points[-1][0] * 60.0 + 60.0 if points else 0.0
    spans.extend((begun, end - begun) for begun in running)
    for number, (begun, duration) in enumerate(sorted(spans), start=1):
        yield TraceJob(id=str(number), submit=begun, duration=duration, shape=shape)
