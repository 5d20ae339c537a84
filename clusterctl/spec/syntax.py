"""Text that is not YAML, in plain words with a place."""

from __future__ import annotations

import re
from typing import Any

import yaml

from clusterctl.spec.faults import Fault

# what YAML refuses: control characters, surrogates, a byte order mark in the middle
_UNPRINTABLE = re.compile("[^\t\n\r\x20-\x7e\x85\xa0-\ud7ff\ue000-\ufefe\uff00-\ufffd\U00010000-\U0010ffff]")

# words in the parser's message -> what a person would say, and what to do
_PLAIN_WORDS = (
    (
        "mapping values are not allowed",
        "a ':' is not expected here",
        "check the indentation, or quote text that has ': ' in it",
    ),
    ("could not find expected ':'", "a ':' is missing after the key", "write `key: value`"),
    ("block collection", "this line does not fit the list above it", "indent items of one list alike, each with '- '"),
    (
        "block mapping",
        "this line does not fit the mapping above it",
        "indent keys of one mapping alike; close quotes and brackets",
    ),
    ("flow sequence", "a ',' or ']' is missing", "close the list with ']'"),
    ("flow mapping", "a ',' or '}' is missing", "close the mapping with '}'"),
    ("escape", "a backslash in double quotes begins an escape, and this is none", "use single quotes"),
    ("block sequence entries are not allowed", "a '- ' is not expected here", "put the list on lines of its own"),
    ("expected the node content", "a value is missing here", "give it a value, or quote it"),
    ("duplicate", "said twice", "keep one of them"),
)


def syntax_fault(name: str, text: str, error: yaml.YAMLError) -> Fault:
    """The parser's complaint with its place, in words that need no knowledge of YAML's grammar."""
    mark: Any = getattr(error, "problem_mark", None) or getattr(error, "context_mark", None)
    line, column = (mark.line + 1, mark.column + 1) if mark else (0, 0)
    problem = str(getattr(error, "problem", None) or error).splitlines()[0]
    context = str(getattr(error, "context", None) or "")
    lines = text.splitlines()
    character = lines[line - 1][column - 1 : column] if 0 < line <= len(lines) else ""
    if "cannot start any token" in problem:
        if character == "\t":
            return Fault(name, line, column, "a tab is used to indent", "use spaces")
        return Fault(name, line, column, f"text cannot begin with {character!r}", "put it in quotes")
    if "unexpected end of stream" in problem and "quoted scalar" in context:
        begun: Any = getattr(error, "context_mark", None) or mark
        return Fault(name, begun.line + 1, begun.column + 1, "the quote that begins here is not closed", "close it")
    for words, plain, fix in _PLAIN_WORDS:
        if words in problem or words in context:
            begun = getattr(error, "context_mark", None)
            since = f"; it begins in line {begun.line + 1}" if begun and 0 < begun.line + 1 < line else ""
            return Fault(name, line, column, plain + since, fix)
    return Fault(name, line, column, f"not valid YAML: {' '.join((context, problem)).strip()}")


def unprintable_fault(name: str, text: str) -> Fault | None:
    """The first character that YAML does not allow, or None."""
    match = _UNPRINTABLE.search(text)
    if not match:
        return None
    line, column = place_of(text, match.start())
    return Fault(name, line, column, f"character U+{ord(match.group()):04X} is not allowed in a spec", "remove it")


def place_of(text: str, index: int) -> tuple[int, int]:
    """Line and column, from 1, of the character at `index`."""
    before = text[:index]
    return before.count("\n") + 1, index - before.rfind("\n")
