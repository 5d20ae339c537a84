"""The table of `clusterctl offers`; nothing here fetches."""

from __future__ import annotations

from typing import Any

from clusterctl_providers.catalog.choice import SPOT_ESTIMATE, SPOT_ESTIMATE_SOURCE

from clusterctl.cli.render.text import columns


def render_offers(document: dict[str, Any]) -> str:
    """The document as a table, for people."""
    rows = [
        [
            row["instance_type"],
            f"{row['provider']}/{row['region']}",
            f"{row['vcpus']}",
            f"{row['memory_gib']:g}",
            f"{row['gpu_count']:g} x {row['gpu']} {row['gpu_memory_gib']:g}G" if row["gpu"] else "",
            f"{row['on_demand']:.4g}",
            f"{'~' if row['spot_source'] == SPOT_ESTIMATE_SOURCE else ''}{row['spot']:.4g}",
            row["source"],
            row["as_of"],
        ]
        for row in document["offers"]
    ]
    lines = [
        columns(["type", "where", "cpus", "GiB", "gpu", "$/h", "spot", "source", "date"], rows, right=(2, 3, 5, 6))
    ]
    hidden = document["total"] - len(rows)
    if hidden > 0:
        lines.append(f"and {hidden} more")
    if any(row["spot_source"] == SPOT_ESTIMATE_SOURCE for row in document["offers"]):
        lines.append(f"~ estimated: no spot price is published; {SPOT_ESTIMATE:g} of the on-demand price")
    return "\n".join(lines)
