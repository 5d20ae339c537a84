"""Places in a document, as people write them."""

from __future__ import annotations

from collections.abc import Iterable


def dotted(path: Iterable[str | int]) -> str:
    """Of ("spec", "workerGroupSpecs", 0): `spec.workerGroupSpecs[0]`; of nothing: `.`."""
    parts = [f"[{part}]" if isinstance(part, int) else f".{part}" for part in path]
    return "".join(parts).removeprefix(".") or "."
