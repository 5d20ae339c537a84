"""Durations and sizes as users write them."""

from __future__ import annotations

import math
import re
from datetime import datetime, timedelta, timezone

_DURATION = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_SIZE = {"": 1, "B": 1}
for _power, _letter in enumerate("KMGTP", start=1):
    _SIZE[f"{_letter}iB"] = 1024**_power
    _SIZE[f"{_letter}B"] = 1000**_power
_PART = re.compile(r"(\d+(?:\.\d+)?)\s*([a-zA-Z]*)", re.ASCII)
# the same for editors
DURATION_PATTERN = r"^ *([0-9]+(\.[0-9]+)? *(ms|s|m|h|d) *)+$"
SIZE_PATTERN = r"^ *([0-9]+(\.[0-9]+)? *[KMGTP]i?B|[0-9]+ *B?) *$"
# a day, with or without a time, with or without a zone
_MOMENT = re.compile(
    r"(\d{4}-\d{2}-\d{2})(?:[T ](\d{2}:\d{2})(?::(\d{2}))?)? ?(?:([Zz]|UTC)|([+-])(\d{2}):?(\d{2}))?", re.ASCII
)
MOMENT_PATTERN = r"^[0-9]{4}-[0-9]{2}-[0-9]{2}([T ][0-9]{2}:[0-9]{2}(:[0-9]{2})?)? ?(Z|z|UTC|[+-][0-9]{2}:?[0-9]{2})?$"
_SMALLEST = 1024**2  # a smaller number is not meant as bytes
_LONGEST = 40  # characters; more is no amount


def parse_duration(value: object) -> float:
    """Seconds from "90s", "5m", "2h", "1h30m" or a plain number >= 0; raises ValueError with examples."""
    if isinstance(value, int | float) and not isinstance(value, bool):
        if not 0 <= value < math.inf:
            raise ValueError(f"{value!r} is not a duration: it must be 0 or more seconds")
        return float(value)
    text = str(value).strip().replace(" ", "")
    parts = _PART.findall(text[:_LONGEST])
    if not text or "".join(n + u for n, u in parts) != text or any(u not in _DURATION for _, u in parts):
        raise ValueError(f"{str(value)[:_LONGEST]!r} is not a duration: write 90s, 5m, 2h or 1h30m")
    return sum(float(number) * _DURATION[unit] for number, unit in parts)


def parse_size(value: object) -> int:
    """Bytes from "100GiB", "500MB" or a plain whole number (0, or at least 1 MiB); raises ValueError with examples."""
    if isinstance(value, int) and not isinstance(value, bool):
        if value < 0:
            raise ValueError(f"{value} is not a size: it must be 0 or more bytes")
        if 0 < value < _SMALLEST:
            raise ValueError(f"{value} without a unit means {value} bytes: did you mean {value}GiB?")
        return value
    text = str(value).strip()
    match = _PART.fullmatch(text[:_LONGEST])
    number, unit = match.groups() if match and len(text) <= _LONGEST else ("", "?")
    if unit not in _SIZE or (_SIZE[unit] == 1 and "." in number):
        letter = unit[:1].upper()
        fix = f"did you mean {number}{letter}iB?" if letter and letter in "KMGTP" else "write 100GiB, 512MiB or 20GB"
        raise ValueError(f"{text[:_LONGEST]!r} is not a size: {fix}")
    return int(float(number) * _SIZE[unit]) if unit else parse_size(int(number))


def parse_moment(value: object) -> datetime:
    """ "2026-12-01T08:00", "2026-12-01 08:00+01:00" or "2026-12-01", in UTC where no zone is given: a spec means the same moment
    wherever it is read. Raises ValueError with examples."""
    text = str(value).strip()
    match = _MOMENT.fullmatch(text[:_LONGEST])
    if match is None:
        raise ValueError(f"{text[:_LONGEST]!r} is not a moment: write 2026-12-01T08:00 (UTC) or 2026-12-01T08:00+01:00")
    day, time, seconds, _, sign, hours, minutes = match.groups()
    try:
        zone = timezone.utc
        if sign:
            offset = timedelta(hours=int(hours), minutes=int(minutes))
            zone = timezone(-offset if sign == "-" else offset)
        naive = datetime.fromisoformat(f"{day}T{time or '00:00'}:{seconds or '00'}")
        return naive.replace(tzinfo=zone).astimezone(timezone.utc)
    except (ValueError, OverflowError) as error:
        raise ValueError(f"{text!r} is not a moment ({error}): write 2026-12-01T08:00 (UTC)") from error
