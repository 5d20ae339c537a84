"""The providers that a spec kept as plain data names: that of one which was read and is in force, or of a bare one that has no
more than its provider."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, cast

Data = Mapping[str, Any]


def providers_in(spec: Data) -> dict[str, dict[str, Any]]:
    """Settings by name, the cluster's own first; {} for one that is named without any."""
    found: dict[str, dict[str, Any]] = {}
    for value in (
        spec.get("provider"),
        *(pool.get("provider") for pool in cast("Sequence[Data]", spec.get("pools") or ())),
    ):
        for name, settings in _named(value):
            found[name] = found.get(name) or settings
    return found


def _named(value: Any) -> Iterator[tuple[str, dict[str, Any]]]:
    """Of `docker` as of `{docker: {...}, aws: null}`; nothing of ""."""
    if isinstance(value, Mapping):
        for name, settings in cast("Data", value).items():
            if settings is not None:
                yield str(name), dict(settings)
    elif value:
        yield str(value), {}
