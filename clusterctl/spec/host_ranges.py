"""Ranges in the names of hosts: `node[01-16].lab` is sixteen."""

from __future__ import annotations

import itertools
import re

from clusterctl.core.errors import UsageError

MOST_OF_A_RANGE = 4096
RANGE = re.compile(r"\[([0-9]+)-([0-9]+)\]")


def expand(text: str) -> list[str]:
    """`node[01-03].lab` is three names; several ranges multiply. Raises UsageError for what runs backwards, or is too much."""
    pieces: list[list[str]] = []
    end, count = 0, 1
    for match in RANGE.finditer(text):
        first, last = match.groups()
        count *= int(last) - int(first) + 1
        if int(first) > int(last) or count > MOST_OF_A_RANGE:
            raise UsageError(
                f"the range {match.group()} of host {text!r} runs backwards, or has over {MOST_OF_A_RANGE} hosts"
            )
        pieces.append([text[end : match.start()]])
        pieces.append([str(number).zfill(len(first)) for number in range(int(first), int(last) + 1)])
        end = match.end()
    pieces.append([text[end:]])
    return ["".join(parts) for parts in itertools.product(*pieces)]
