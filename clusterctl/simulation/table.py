"""The document of `simulate` as text for a terminal."""

from __future__ import annotations

import io
from typing import Any

Document = dict[str, Any]
_NEVER = frozenset({"too_large", "no_offer_fits", "no_gpu", "no_such_gpu_type"})  # no node on offer can hold it


def render_table(document: Document) -> str:
    """One row per policy, then what did not go as asked."""
    from rich.console import Console
    from rich.table import Table

    text = io.StringIO()
    console = Console(file=text, width=118, color_system=None, highlight=False)
    trace = document["trace"]
    days = trace["span_seconds"] / 86_400
    console.print(
        f"{trace['name']}: {trace['jobs']} jobs over {days:.1f} days, {document['world']} world, seed {document['seed']}"
    )
    table = Table(box=None, header_style="", pad_edge=False)
    for title in ("POLICY", "WAIT P50", "P95", "P99", "COST", "GPU USE", "CPU USE", "NODES", "LAUNCHES", "UNSERVED"):
        table.add_column(title, justify="left" if title == "POLICY" else "right", no_wrap=True)
    for run in document["policies"]:
        wait = run["wait"]
        table.add_row(
            run["policy"],
            *(duration(wait[q]) for q in ("p50", "p95", "p99")),
            f"${run['dollars']:,.2f}",
            f"{run['gpu_utilisation']:.0%}" if run["gpu_hours_paid"] else "-",
            f"{run['cpu_utilisation']:.0%}",
            f"max {run['most_nodes']}",
            f"{run['launches']}",
            f"{run['jobs'] - run['finished']}",
        )
    console.print(table)
    for line in remarks(document):
        console.print(line, soft_wrap=True)
    return text.getvalue()


def remarks(document: Document) -> list[str]:
    """Sentences below the table: bad lines of the trace, pools without offers, jobs that nobody served."""
    trace = document["trace"]
    lines = [f"note: {note}" for note in (*document["notes"], *trace["notes"])]
    if trace["left_out"]:
        lines.append(f"{trace['left_out']} lines of the trace were left out:")
        lines.extend(f"  {fault}" for fault in trace["faults"])
        if trace["left_out"] > len(trace["faults"]):
            lines.append(f"  and {trace['left_out'] - len(trace['faults'])} more")
    return lines + _unserved(document["policies"])


def _unserved(runs: list[Document]) -> list[str]:
    """One line per kind of reason, in the words of the first policy that has it, for what most of its jobs ask."""
    kinds: dict[str, dict[str, list[Document]]] = {}
    for run in runs:
        for entry in run["unserved"]:
            kind = "never" if entry["code"] in _NEVER else entry["code"]
            kinds.setdefault(kind, {}).setdefault(run["policy"], []).append(entry)
    lines: list[str] = []
    for by_policy in kinds.values():
        most = max(next(iter(by_policy.values())), key=lambda entry: entry["count"])
        counts = {policy: sum(entry["count"] for entry in entries) for policy, entries in by_policy.items()}
        fix = f" ({most['fix']})" if most["fix"] else ""
        first = next(iter(counts.values()))
        like = (
            f"as job {most['example']}"
            if most["count"] == first
            else f"{most['count']} of them as job {most['example']}"
        )
        lines.append(f"unserved: {_who(counts, len(runs))}, {like}: {most['text']}{fix}")
    return lines


def _who(counts: dict[str, int], policies: int) -> str:
    """ "3 jobs under every policy", "3 jobs under clusterctl, 4 under karpenter"."""
    first, *others = counts.items()
    jobs = "1 job" if first[1] == 1 else f"{first[1]} jobs"
    if len(counts) == policies and len(set(counts.values())) == 1:
        return f"{jobs} under every policy" if others else jobs
    return ", ".join([f"{jobs} under {first[0]}", *(f"{count} under {policy}" for policy, count in others)])


def duration(seconds: float) -> str:
    """ "0s", "42s", "3m12s", "2h05m", "4d03h"."""
    whole = round(seconds)
    for unit, size, part, small in (("d", 86_400, 3600, "h"), ("h", 3600, 60, "m"), ("m", 60, 1, "s")):
        if whole >= size:
            return f"{whole // size}{unit}{whole % size // part:02d}{small}"
    return f"{whole}s"
