"""Figures over time in a bounded space: one row every ten seconds for an hour, coarser ones for longer. No clock, no disk."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import pairwise
from typing import NamedTuple

Row = tuple[float | None, ...]  # one figure per field, None where it is not known


class Span(NamedTuple):
    """`step` in seconds; each step is a multiple of the one before."""

    name: str
    step: int
    length: int  # rows that are kept


SPANS = (Span("hour", 10, 360), Span("day", 180, 480), Span("month", 900, 2880))


class Kept(NamedTuple):
    """A row of `span`; `slot` is its time in steps since 1970."""

    span: Span
    slot: int
    row: Row

    @property
    def place(self) -> int:
        """Where it lies: what is a whole length older is overwritten."""
        return self.slot % self.span.length


class Rings:
    """Every row of a coarser span is the mean of those that the finer one had in that time, so that nothing is lost by whoever
    ends between two of them."""

    def __init__(self, spans: Sequence[Span] = SPANS) -> None:
        self._rows: dict[Span, list[Kept | None]] = {span: [None] * span.length for span in spans}
        self._newest: dict[Span, int] = dict.fromkeys(spans, -1)

    def restore(self, kept: Iterable[Kept], now: float) -> None:
        """Takes up what was kept before; what lies behind `now` (unix seconds) was written by a clock that was wrong."""
        for one in kept:
            if one.slot * one.span.step <= now:
                self._put(one)

    def add(self, at: float, row: Row) -> list[Kept]:
        """Takes the figures of one moment. Returns all rows that are new by it, to be kept on disk."""
        fresh: list[Kept] = []
        spans = list(self._rows)
        before = {span: self._newest[span] for span in spans}
        fresh.append(self._put(Kept(spans[0], int(at) // spans[0].step, row)))
        for fine, coarse in pairwise(spans):
            ratio = coarse.step // fine.step
            closed = before[fine] // ratio
            if before[fine] < 0 or closed in (self._newest[fine] // ratio, self._newest[coarse]):
                break
            fresh.append(self._put(Kept(coarse, closed, self._mean(fine, closed * ratio, ratio))))
        return fresh

    def rows(self, name: str) -> list[Kept]:
        """Of the span with this name, the oldest first; the last one is of the time that is not over yet, as far as it is known.
        Raises KeyError."""
        spans = {span.name: span for span in self._rows}
        span = spans[name]
        found = [one for one in self._rows[span] if one is not None]
        for fine, coarse in pairwise(self._rows):
            ratio = coarse.step // fine.step
            if coarse is span and (finer := self.rows(fine.name)):
                current = finer[-1].slot // ratio
                found.append(Kept(span, current, _means([one.row for one in finer if one.slot // ratio == current])))
        newest = max((one.slot for one in found), default=0)
        return sorted((one for one in found if newest - one.slot < span.length), key=lambda one: one.slot)

    def _put(self, one: Kept) -> Kept:
        self._rows[one.span][one.place] = one
        self._newest[one.span] = max(self._newest[one.span], one.slot)
        return one

    def _mean(self, span: Span, first: int, count: int) -> Row:
        slots = range(first, first + count)
        found = [one.row for slot in slots if (one := self._rows[span][slot % span.length]) and one.slot == slot]
        return _means(found)


def _means(rows: Sequence[Row]) -> Row:
    return tuple(map(_mean, zip(*rows, strict=True)))


def _mean(values: Iterable[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return round(sum(known) / len(known), 4) if known else None
