"""Amounts of CPU, GPU, memory and custom resources, exact and immutable.

Amounts are kept in ten-thousandths, as Ray does, so that ten times 0.1 GPU is one GPU. `memory` counts bytes.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property

UNIT = 10_000
BYTES = {
    "memory": "memory",
    "object_store_memory": "object store",
}  # resources that count bytes, and what they are called
_SIZE_UNITS = ((2**40, "TiB"), (2**30, "GiB"), (2**20, "MiB"), (2**10, "KiB"))


@dataclass(frozen=True, order=True)
class Resources:
    """A bag of named amounts. `items` is sorted by name and holds positive integers (ten-thousandths) only."""

    items: tuple[tuple[str, int], ...] = ()

    @classmethod
    def of(cls, amounts: Mapping[str, float] | None = None, /, **more: float) -> Resources:
        """Builds from plain numbers (`Resources.of(CPU=1, GPU=0.5)`); zeros vanish, negatives raise ValueError."""
        merged = {**(amounts or {}), **more}
        units: dict[str, int] = {}
        for name, amount in merged.items():
            if not math.isfinite(amount) or amount < 0:
                raise ValueError(f"resource {name!r} has amount {amount!r}: expected a number >= 0")
            units[name] = round(amount * UNIT)
        return cls.from_units(units)

    @classmethod
    def from_units(cls, units: Mapping[str, int]) -> Resources:
        """Amounts are in ten-thousandths; what is not above 0 is left out."""
        return cls(tuple(sorted((k, v) for k, v in units.items() if v > 0)))

    @cached_property
    def units(self) -> Mapping[str, int]:
        """Amounts by name, in ten-thousandths."""
        return dict(self.items)

    def get(self, name: str) -> float:
        """The amount as users write it (memory in bytes); 0 where there is none."""
        return self.units.get(name, 0) / UNIT

    def fits_in(self, other: Resources) -> bool:
        """Whether `other` has at least as much of everything that is named here."""
        have = other.units
        return all(have.get(name, 0) >= amount for name, amount in self.items)

    def count_in(self, other: Resources) -> int:
        """How many copies of this fit into `other`. An empty request fits without bound (a large number)."""
        have = other.units
        return min((have.get(name, 0) // amount for name, amount in self.items), default=1 << 30)

    def times(self, n: int) -> Resources:
        """`n` times as much of everything; nothing for `n` below 1."""
        return Resources(tuple((k, v * n) for k, v in self.items)) if n > 0 else Resources()

    def __add__(self, other: Resources) -> Resources:
        units = dict(self.items)
        for name, amount in other.items:
            units[name] = units.get(name, 0) + amount
        return Resources.from_units(units)

    def __sub__(self, other: Resources) -> Resources:
        """The rest after taking `other` away; what is missing counts as zero (a ledger may be over-committed)."""
        units = dict(self.items)
        for name, amount in other.items:
            units[name] = units.get(name, 0) - amount
        return Resources.from_units(units)

    def __bool__(self) -> bool:
        return bool(self.items)

    def __iter__(self) -> Iterator[str]:
        return (name for name, _ in self.items)

    def to_dict(self) -> dict[str, float]:
        """Plain numbers for JSON and people: whole amounts as int, others as float."""
        return {k: v // UNIT if v % UNIT == 0 else v / UNIT for k, v in self.items}

    def __str__(self) -> str:
        return ", ".join(amount_text(name, amount) for name, amount in self.items) or "nothing"


def amount_text(name: str, units: int) -> str:
    """As people write it: "4 x CPU", "0.5 x GPU", "6 GiB memory"; of what counts bytes the unit that keeps it short."""
    if name in BYTES:
        return f"{_size_text(units / UNIT)} {BYTES[name]}"
    return f"{units // UNIT if units % UNIT == 0 else units / UNIT} x {name}"


def _size_text(size: float) -> str:
    unit, name = next((pair for pair in _SIZE_UNITS if size >= pair[0]), (1, "B"))
    return f"{size / unit:.1f}".removesuffix(".0") + f" {name}"
