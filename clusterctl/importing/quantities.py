"""Amounts as Kubernetes writes them."""

from __future__ import annotations

import math
import re

_SUFFIXES = {"": 1.0, "n": 1e-9, "u": 1e-6, "m": 1e-3, "k": 1e3, "M": 1e6, "G": 1e9, "T": 1e12, "P": 1e15, "E": 1e18}
_SUFFIXES |= {f"{letter}i": 1024.0**power for power, letter in enumerate("KMGTPE", start=1)}
_FORM = re.compile(r"([0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:[eE]([-+]?[0-9]+))?([numkKMGTPE]?i?)")


def amount(text: str) -> float | None:
    """Of "500m" 0.5, of "8Gi" 8589934592; None of what is none."""
    found = _FORM.fullmatch(text.strip())
    if found is None or found[3] not in _SUFFIXES:
        return None
    value = float(f"{found[1]}e{found[2] or 0}") * _SUFFIXES[found[3]]
    return value if math.isfinite(value) else None


def whole(value: float) -> int:
    """As the operator counts: up."""
    return math.ceil(round(value, 6))


def size(value: float) -> str | int:
    """Bytes as a spec has them: 8589934592 -> "8GiB"."""
    found = int(value)
    return next(
        (f"{found // unit}{name}" for unit, name in ((2**30, "GiB"), (2**20, "MiB")) if found % unit == 0), found
    )
