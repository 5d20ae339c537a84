"""What is wrong with a spec, and where. A Finding has a path into the spec, a Fault has a place in the text."""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, NoReturn

from pydantic_core import PydanticCustomError

from clusterctl.core.errors import UsageError

Path = tuple[str | int, ...]  # keys and list indices from the top of the spec, e.g. ("pools", 0, "min")

MAX_FAULTS = 100  # nobody reads more, and a hostile text has as many as it likes

_SIMPLE = re.compile(r"[A-Za-z0-9~./][A-Za-z0-9_./-]*")  # needs no quotes in YAML

FINDINGS = "findings"  # the type of the pydantic error that carries Findings in its context


@dataclass(frozen=True)
class Finding:
    """Something wrong at `path`, which may be relative to the model that found it. `at_key`: the key, not its value."""

    path: Path
    message: str
    suggestion: str = ""
    at_key: bool = False


@dataclass(frozen=True, order=True)
class Fault:
    """`line` and `column` count from 1; 0 means the file as a whole. `suggestion` is "" or what to write instead."""

    file: str
    line: int
    column: int
    message: str
    suggestion: str = ""

    def __str__(self) -> str:
        place = f"{self.file}:{self.line}:{self.column}" if self.line else self.file
        return f"{place}: {self.message}" + (f" ({self.suggestion})" if self.suggestion else "")


class SpecError(UsageError):
    """A spec cannot be used. `faults` are those that were found, in the order of the text (a text with more than
    MAX_FAULTS is not read to its end); str() is one line for each."""

    def __init__(self, faults: Iterable[Fault]) -> None:
        found = tuple(dict.fromkeys(sorted(faults)))
        if len(found) > MAX_FAULTS:
            last = found[MAX_FAULTS]
            found = (*found[:MAX_FAULTS], Fault(last.file, last.line, last.column, "and more faults from here on"))
        self.faults: tuple[Fault, ...] = found
        super().__init__("\n".join(str(fault) for fault in self.faults))


def refuse(findings: Sequence[Finding]) -> NoReturn:
    """Raises the pydantic error that carries `findings` out of a validator."""
    text = "; ".join(finding.message for finding in findings)
    raise PydanticCustomError(FINDINGS, "{text}", {"text": text, "findings": tuple(findings)})


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """ "did you mean 'x'?" for the nearest of `known`, whatever its case, or ""."""
    by_lower = {name.lower(): name for name in known}
    begun = [
        name for name in by_lower if len(word) > 2 and (name.startswith(word.lower()) or word.lower().startswith(name))
    ]
    near = difflib.get_close_matches(word.lower(), by_lower, n=1, cutoff=0.6) or begun[:1]
    return f"did you mean {by_lower[near[0]]!r}?" if near else ""


def shorten(value: object, limit: int = 40) -> str:
    """`value` quoted for a message, on one line, cut after `limit` characters."""
    text = str(value)
    return repr(text if len(text) <= limit else text[: limit - 3] + "...")


def flow(value: Any) -> str:
    """A value as it would stand in a spec, on one line."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key}: {flow(inner)}" for key, inner in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(flow(inner) for inner in value) + "]"
    text = str(value)
    return text if not isinstance(value, str) or _SIMPLE.fullmatch(text) else json.dumps(text, ensure_ascii=False)
