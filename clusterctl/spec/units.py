"""Durations and sizes as users write them."""

from __future__ import annotations

import re

_DURATION = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_SIZE = {"": 1, "B": 1}
for _power, _letter in enumerate("KMGTP", start=1):
    _SIZE[f"{_letter}iB"] = 1024**_power
    _SIZE[f"{_letter}B"] = 1000**_power
_PART = re.compile(r"(\d+(?:\.\d+)?)\s*([a-zA-Z]*)")


def parse_duration(value: object) -> float:
    """Seconds from "90s", "5m", "2h", "1h30m" or a plain number; raises ValueError with examples."""
    if isinstance(value, int | float) and not isinstance(value, bool):
        return float(value)
    text = str(value).strip().replace(" ", "")
    parts = _PART.findall(text)
    if not text or "".join(n + u for n, u in parts) != text or any(u not in _DURATION for _, u in parts):
        raise ValueError(f"{value!r} is not a duration: write 90s, 5m, 2h or 1h30m")
    return sum(float(number) * _DURATION[unit] for number, unit in parts)


def parse_size(value: object) -> int:
    """Bytes from "100GiB", "500MB" or a plain number; raises ValueError with examples."""
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    match = _PART.fullmatch(str(value).strip())
    if not match or match.group(2) not in _SIZE:
        raise ValueError(f"{value!r} is not a size: write 100GiB, 512MiB or 20GB")
    return int(float(match.group(1)) * _SIZE[match.group(2)])
