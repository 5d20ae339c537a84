"""How figures and tables read."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from clusterctl.cli import output
from clusterctl.cli.render.escape import one_line
from clusterctl.cli.render.fitting import table_lines


def columns(
    header: Sequence[str],
    rows: Sequence[Sequence[str]],
    *,
    right: Collection[int] = (),
    live: bool = False,
    indent: int = 0,
) -> str:
    """A table without lines: `header` in capitals, columns as wide as they must be, those in `right` flush right. It fits the
    terminal that stdout is, less `indent`; elsewhere, and in what is drawn `live` by a console that cuts its lines itself, it
    is as wide as it must be."""
    terminal = None if live else output.width()
    width = None if terminal is None else terminal - indent
    return "\n".join(table_lines(header, [[one_line(cell) for cell in row] for row in rows], right, width))


def duration(seconds: float | None) -> str:
    """ "8s", "3m12s", "2h05m", "4d03h"; "-" for None."""
    if seconds is None:
        return "-"
    whole = max(0, round(seconds))
    if whole < 60:
        return f"{whole}s"
    if whole < 3600:
        return f"{whole // 60}m{whole % 60:02d}s"
    if whole < 86400:
        return f"{whole // 3600}h{whole % 3600 // 60:02d}m"
    return f"{whole // 86400}d{whole % 86400 // 3600:02d}h"


def money(dollars: float | None) -> str:
    """ "$1.20"; prices below a cent keep what counts; "-" for None."""
    if dollars is None:
        return "-"
    return f"${dollars:,.2f}" if dollars == 0 or abs(dollars) >= 0.1 else f"${dollars:.4f}"


def amounts(resources: dict[str, float] | None) -> str:
    """ "4 CPU, 1 GPU, 8 GiB"; "-" for nothing."""
    parts = []
    for name, amount in (resources or {}).items():
        if name in ("memory", "object_store_memory"):
            parts.append(f"{amount / 2**30:.3g} GiB{'' if name == 'memory' else ' objects'}")
        else:
            parts.append(f"{amount:g} {name}")
    return ", ".join(parts) or "-"


def counts_text(counts: dict[str, int]) -> str:
    """ "3 running, 97 succeeded"."""
    return ", ".join(f"{count:,} {name}" for name, count in counts.items())


def plural(count: int, noun: str) -> str:
    """ "1 node", "2 nodes": for nouns that take an s."""
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"
