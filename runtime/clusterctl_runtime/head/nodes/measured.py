"""What an agent tells of its machine, GPUs and jobs, as far as it is that: `/metrics` passes it on to others, and it takes a
bounded space."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from typing import Any

MOST = 64  # GPUs, and jobs, of one node
MOST_NUMBERS = 32  # different errors of one GPU
LARGEST = 1e18
LONGEST = 128  # characters of a name
_NODE = frozenset(
    {"cpus", "cpu_seconds", "memory", "memory_used", "read", "written", "received", "sent", "gpu_trouble"}
)
_GPU = frozenset({"busy", "memory", "memory_used", "celsius", "watts", "corrected", "uncorrected"})
_JOB = frozenset({"cpu_seconds", "memory", "processes", "read", "written"})
_PLACES = ("root", "work", "data")


def measured(told: Any) -> dict[str, Any]:
    """{"node", "disks", "gpus", "jobs"} as `agent.measuring` has them, without what is no amount or not known."""
    disks = dict(_items(_mapping(told).get("disks")))
    return {
        "node": _amounts(_mapping(told).get("node"), _NODE),
        "disks": {place: pair for place in _PLACES if (pair := _pair(disks.get(place)))},
        "gpus": {
            index: {
                **_amounts(gpu, _GPU),
                "uuid": str(_mapping(gpu).get("uuid", ""))[:LONGEST],
                "name": str(_mapping(gpu).get("name", ""))[:LONGEST],
                "xids": _by_number(_mapping(gpu).get("xids"), MOST_NUMBERS),
            }
            for index, gpu in _items(_mapping(told).get("gpus"))
            if _is_number(index)
        },
        "jobs": {
            job[:LONGEST]: {**_amounts(figures, _JOB), "gpus": _by_number(_mapping(figures).get("gpus"), MOST)}
            for job, figures in _items(_mapping(told).get("jobs"))
        },
    }


def _mapping(told: Any) -> Mapping[str, Any]:
    return told if isinstance(told, dict) else {}


def _items(told: Any, most: int = MOST) -> Iterator[tuple[str, Any]]:
    for (key, value), _ in zip(_mapping(told).items(), range(most), strict=False):
        yield str(key), value


def _amounts(told: Any, known: Collection[str]) -> dict[str, float]:
    return {key: float(value) for key, value in _items(told) if key in known and _is_amount(value)}


def _by_number(told: Any, most: int) -> dict[str, float]:
    return {key: float(value) for key, value in _items(told, most) if _is_number(key) and _is_amount(value)}


def _pair(told: Any) -> list[float]:
    well = isinstance(told, list) and len(told) == 2 and all(map(_is_amount, told))
    return [float(value) for value in told] if well else []


def _is_amount(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value < LARGEST


def _is_number(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) <= 4
