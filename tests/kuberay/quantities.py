"""Kubernetes' quantities: `500m`, `8Gi`, `1e3`."""

from __future__ import annotations

import re
from decimal import Decimal

QUANTITY = re.compile(r"([+-]?(?:\d+(?:\.\d*)?|\.\d+))(?:([KMGTPE]i|[numkMGTPE])|[eE]([+-]?\d+))?\Z")
POWERS = {"n": -9, "u": -6, "m": -3, "k": 3, "M": 6, "G": 9, "T": 12, "P": 15, "E": 18}
UNITS = {
    **{name: Decimal(10) ** power for name, power in POWERS.items()},
    **{f"{name}i": Decimal(1024) ** (n + 1) for n, name in enumerate("KMGTPE")},
}


def parsed(value: str | int) -> Decimal | None:
    """None for what is no quantity."""
    found = QUANTITY.match(str(value))
    if not found:
        return None
    number, unit, power = found.groups()
    return Decimal(number) * (UNITS[unit] if unit else Decimal(10) ** int(power or 0))
