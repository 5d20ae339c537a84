"""`make bench [ONLY=name]`: runs every benchmark module's `run()`, prints a table and writes build/bench.json."""

from __future__ import annotations

import importlib
import json
import os
import platform
import sys
import time
from pathlib import Path

from rich.console import Console
from rich.table import Table

MODULES = (
    "startup",
    "planner",
    "batch",
    "scaling",
    "engine",
    "engine_speed",
    "simulation",
    "docker",
    "ssh",
    "clouds",
    "headload",
)


def main() -> int:
    wanted = sys.argv[1:] or MODULES
    rows, failed = [], []
    for name in wanted:
        started = time.perf_counter()
        print(f"{name} ...", file=sys.stderr, flush=True)
        try:
            rows += importlib.import_module(f"tests.bench.{name}").run()
        except Exception as error:
            failed.append(f"{name}: {type(error).__name__}: {error}")
        print(f"{name} took {time.perf_counter() - started:.0f} s", file=sys.stderr, flush=True)
    machine = {"machine": platform.platform(), "cpus": os.cpu_count(), "python": platform.python_version()}
    build = Path("build")
    build.mkdir(exist_ok=True)
    (build / "bench.json").write_text(json.dumps({**machine, "rows": rows, "failed": failed}, indent=1))
    Console(width=150).print(table_of(rows))
    for line in failed:
        print(f"failed: {line}", file=sys.stderr)
    return 1 if failed else 0


def table_of(rows: list[dict[str, object]]) -> Table:
    table = Table("benchmark", "ours", "peer", "peer is", "ratio", "unit", "goal")
    for row in rows:
        figures = [f"{row[key]:.4g}" if isinstance(row.get(key), int | float) else "-" for key in ("ours", "peer")]
        ratio = row.get("ratio")
        shown = f"{ratio:.3g}x" if isinstance(ratio, int | float) else "-"
        table.add_row(
            str(row["name"]), *figures, str(row["peer_name"]), shown, str(row["unit"]), str(row.get("goal", ""))
        )
    return table


if __name__ == "__main__":
    sys.exit(main())
