"""Durations that options name."""

from __future__ import annotations

from clusterctl.core.errors import UsageError


def duration(option: str, text: str, *, some: bool = False) -> float:
    """Seconds of a duration such as "90s"; `some`: of more than nothing. Raises UsageError with the option's name."""
    from clusterctl.spec.units import parse_duration

    try:
        value = parse_duration(text)
    except ValueError as error:
        raise UsageError(f"{option}: {error}") from error
    if some and value <= 0:
        raise UsageError(f"{option}: {text!r} is not more than nothing")
    return value
