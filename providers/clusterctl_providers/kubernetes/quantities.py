"""Amounts as Kubernetes writes them ("500m", "8Gi") and reads them."""

from __future__ import annotations

import re
from typing import Any

_UNITS = {
    "n": 1e-9, "u": 1e-6, "m": 1e-3, "": 1.0, "k": 1e3, "M": 1e6, "G": 1e9, "T": 1e12, "P": 1e15, "E": 1e18,
    "Ki": 2.0**10, "Mi": 2.0**20, "Gi": 2.0**30, "Ti": 2.0**40, "Pi": 2.0**50, "Ei": 2.0**60,
}  # fmt: skip
_QUANTITY = re.compile(r"([+-]?[0-9.]+(?:[eE][+-]?[0-9]+)?)([numkKMGTPE]i?|)")


def amount(quantity: Any) -> float:
    """0.0 for what is none."""
    found = _QUANTITY.fullmatch(str(quantity))
    if not found or found[2] not in _UNITS:
        return 0.0
    try:
        return float(found[1]) * _UNITS[found[2]]
    except ValueError:
        return 0.0


def written(number: float) -> str:
    """Whole ones as they are, others in thousandths."""
    return str(int(number)) if number == int(number) else f"{round(number * 1000)}m"


def size(number: float) -> str:
    """Bytes for people: "8 GiB"."""
    return f"{number / 2**30:.3g} GiB"
