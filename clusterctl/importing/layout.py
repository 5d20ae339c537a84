"""A spec as people lay it out: what is short on one line, pools key by key, commands of several lines as they are."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import yaml

_WIDTH = 100
_APART = ("pools",)  # each of these key by key, however short


def lines_of(key: str, value: Any) -> Iterator[str]:
    """YAML of one key."""
    if isinstance(value, str) and _is_block(value):
        yield f"{key}: |{'' if value.endswith(chr(10)) else '-'}"
        yield from (f"  {line}".rstrip() for line in value.rstrip("\n").split("\n"))
    elif not isinstance(value, dict | list) or (key not in _APART and _is_short(key, value)):
        yield f"{key}: {_inline(value)}"
    elif isinstance(value, dict):
        yield f"{key}:"
        yield from (f"  {line}" for name, each in value.items() for line in lines_of(_inline(name), each))
    else:
        yield f"{key}:"
        yield from (f"  {line}" for item in value for line in _item(item, apart=key in _APART))


def _item(value: Any, *, apart: bool) -> Iterator[str]:
    if isinstance(value, dict) and (apart or not _is_short("", value)):
        inner = [line for name, each in value.items() for line in lines_of(_inline(name), each)]
        yield from (f"  {line}" if number else f"- {line}" for number, line in enumerate(inner))
    elif isinstance(value, str) and _is_block(value):
        first, *others = lines_of("", value)
        yield f"- {first.removeprefix(': ')}"
        yield from others
    else:
        yield f"- {_inline(value)}"


def _is_short(key: str, value: Any) -> bool:
    return len(key) + len(_inline(value)) < _WIDTH and not any("\n" in text for text in _texts(value))


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    inner: Any = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    for each in inner:
        yield from _texts(each)


def _is_block(text: str) -> bool:
    """Whether it can stand as it is, on lines of its own."""
    inner = text.rstrip("\n")
    plain = all(character.isprintable() or character in "\n\t" for character in inner)
    return "\n" in inner and plain and not inner.startswith((" ", "\n", "\t")) and text in (inner, f"{inner}\n")


def _inline(value: Any) -> str:
    if isinstance(value, dict):
        return "{" + ", ".join(f"{_inline(key)}: {_inline(each)}" for key, each in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(_inline, value)) + "]"
    return yaml.safe_dump([value], default_flow_style=True, width=10**6, allow_unicode=True).strip()[1:-1]
