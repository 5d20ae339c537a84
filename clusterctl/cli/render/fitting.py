"""A table on a terminal that is narrower than it: what says nothing goes, what does not fit stands below its row. Words are never
broken, nothing is cut off. Pure: text in, lines out.

First the columns without any content are left out, then those in which all rows say the same, which is said once below. Then
the last column is folded, if there is room for it to be read. Else the columns that do not fit stand below their row, each with
its title.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Collection, Sequence
from dataclasses import dataclass

GAP = "  "
FOLDED = 24  # columns of the terminal: a narrower last column is not folded but stands below its row
_INDENT = "    "
_NOTHING = ("", "-")


@dataclass(frozen=True)
class _Column:
    title: str
    cells: list[str]
    right: bool

    @property
    def width(self) -> int:
        return max(width_of(self.title), *map(width_of, self.cells))


def table_lines(
    titles: Sequence[str], rows: Sequence[Sequence[str]], right: Collection[int], width: int | None
) -> list[str]:
    """The lines of a table, `titles` in capitals above; `right`: columns that are flush right; `width`: of the terminal, None
    where nothing has to fit."""
    table = [_Column(title.upper(), [row[n] for row in rows], n in right) for n, title in enumerate(titles)]
    if width is None or not rows or _width(table) <= width:
        return _laid_out(table, [[] for _ in rows])
    table = [table[0], *(column for column in table[1:] if any(cell not in _NOTHING for cell in column.cells))]
    table, same = _without_alike(table, width)
    lines = _folded(table, width) or _below(table, width)
    return [*lines, *_wrapped(f"all: {'; '.join(same)}", width)] if same else lines


def width_of(text: str) -> int:
    """Columns on a terminal; our own colour marks take none."""
    return sum(
        0 if ord(c) >= 0xF0000 or unicodedata.combining(c) else 2 if unicodedata.east_asian_width(c) in "WF" else 1
        for c in text
    )


def _width(table: Sequence[_Column]) -> int:
    return sum(column.width for column in table) + len(GAP) * (len(table) - 1)


def _narrowest(table: Sequence[_Column]) -> int:
    """With the last column folded."""
    last = table[-1]
    return _width(table) - (0 if last.right else max(0, last.width - FOLDED))


def _without_alike(table: list[_Column], width: int) -> tuple[list[_Column], list[str]]:
    """Without as many of the columns that have one content as there must be, the widest first; and what these say."""
    alike = [column for column in table[1:] if len(column.cells) > 1 and len(set(column.cells)) == 1]
    gone: list[_Column] = []
    for column in sorted(alike, key=lambda column: -column.width):
        if _narrowest([one for one in table if one not in gone]) <= width:
            break
        gone.append(column)
    left = [column for column in table if column not in gone]
    return left, [f"{one.title.lower()} {one.cells[0]}".strip() for one in table if one in gone]


def _folded(table: list[_Column], width: int) -> list[str]:
    """With the last column folded; [] where there is no room for it."""
    *others, last = table
    room = width - _width(others) - len(GAP)
    if not others or last.right or min(room, last.width) < min(FOLDED, last.width):
        return []
    folded = [_wrapped(cell, room) for cell in last.cells]
    if any(width_of(line) > room for lines in folded for line in lines):
        return []  # a word is wider
    first = _Column(last.title, [lines[0] for lines in folded], False)
    lead = " " * (_width(others) + len(GAP))
    return _laid_out([*others, first], [[lead + line for line in lines[1:]] for lines in folded])


def _below(table: list[_Column], width: int) -> list[str]:
    """With what does not fit below each row."""
    count = len(table)
    while count > 1 and _width(table[:count]) > width:
        count -= 1
    below: list[list[str]] = []
    for n in range(len(table[0].cells)):
        said = [(column.title.lower(), column.cells[n]) for column in table[count:] if column.cells[n] not in _NOTHING]
        text = "; ".join(f"{title}: {cell}" if title else cell for title, cell in said)
        below.append([_INDENT + line for line in _wrapped(text, width - len(_INDENT))] if text else [])
    return _laid_out(table[:count], below)


def _laid_out(table: Sequence[_Column], below: Sequence[Sequence[str]]) -> list[str]:
    """`below`: more lines for each row."""
    widths = [column.width for column in table]

    def line(cells: Sequence[str]) -> str:
        padded = [
            " " * (widths[n] - width_of(cell)) + cell if table[n].right else cell + " " * (widths[n] - width_of(cell))
            for n, cell in enumerate(cells)
        ]
        return GAP.join(padded).rstrip()

    lines = [line([column.title for column in table])]
    for n, more in enumerate(below):
        lines += [line([column.cells[n] for column in table]), *more]
    return lines


def _wrapped(text: str, room: int) -> list[str]:
    """Lines of whole words, of at most `room` columns unless a word is wider; at least one."""
    lines: list[str] = []
    for word in text.split(" "):
        if lines and width_of(f"{lines[-1]} {word}") <= room:
            lines[-1] += f" {word}"
        else:
            lines.append(word)
    return lines
