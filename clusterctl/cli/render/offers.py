"""The table of `clusterctl offers`; nothing here fetches."""

from __future__ import annotations

import io
from typing import Any

from clusterctl_providers.catalog.choice import SPOT_ESTIMATE, SPOT_ESTIMATE_SOURCE
from rich.console import Console
from rich.table import Table


def render_offers(document: dict[str, Any]) -> str:
    """The document as a table, for people."""
    table = Table(box=None, header_style="bold", pad_edge=False)
    for title, justify in (
        ("TYPE", "left"),
        ("WHERE", "left"),
        ("CPUS", "right"),
        ("GIB", "right"),
        ("GPU", "left"),
        ("$/H", "right"),
        ("SPOT", "right"),
        ("SOURCE", "left"),
        ("DATE", "left"),
    ):
        table.add_column(title, justify=justify, no_wrap=True)  # type: ignore[arg-type]
    for row in document["offers"]:
        device = f"{row['gpu_count']:g} x {row['gpu']} {row['gpu_memory_gib']:g}G" if row["gpu"] else ""
        mark = "~" if row["spot_source"] == SPOT_ESTIMATE_SOURCE else ""
        table.add_row(
            row["instance_type"],
            f"{row['provider']}/{row['region']}",
            f"{row['vcpus']}",
            f"{row['memory_gib']:g}",
            device,
            f"{row['on_demand']:.4g}",
            f"{mark}{row['spot']:.4g}",
            row["source"],
            row["as_of"],
        )
    text = io.StringIO()
    console = Console(file=text, width=160, color_system=None)
    console.print(table)
    hidden = document["total"] - len(document["offers"])
    if hidden > 0:
        console.print(f"and {hidden} more")
    if any(row["spot_source"] == SPOT_ESTIMATE_SOURCE for row in document["offers"]):
        console.print(f"~ estimated: no spot price is published; {SPOT_ESTIMATE:g} of the on-demand price")
    return text.getvalue()
