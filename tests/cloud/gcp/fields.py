"""The `fields` parameter of a call: only these members are answered, as in `items(name,labels),nextPageToken`."""

from __future__ import annotations

import re
from typing import Any

from tests.cloud.gcp.world import Violation

Tree = dict[str, "Tree"]


def select(text: str, answer: Any) -> Any:
    return _pick(answer, parse(text))


def parse(text: str) -> Tree:
    """Raises Violation for what is no such expression."""
    tokens = re.findall(r"[\w\-@$.*]+|[(),/]", text)
    if "".join(tokens) != re.sub(r"\s", "", text):
        raise _wrong(text)
    tree, rest = _list(tokens, text)
    if rest:
        raise _wrong(text)
    return tree


def _list(tokens: list[str], text: str) -> tuple[Tree, list[str]]:
    tree: Tree = {}
    while True:
        tokens = _one(tokens, tree, text)
        if not tokens or tokens[0] != ",":
            return tree, tokens
        tokens = tokens[1:]


def _one(tokens: list[str], tree: Tree, text: str) -> list[str]:
    if not tokens or tokens[0] in "(),/":
        raise _wrong(text)
    inner = tree.setdefault(tokens[0], {})
    rest = tokens[1:]
    if rest[:1] == ["/"]:
        return _one(rest[1:], inner, text)
    if rest[:1] == ["("]:
        found, rest = _list(rest[1:], text)
        if rest[:1] != [")"]:
            raise _wrong(text)
        inner.update(found)
        return rest[1:]
    return rest


def _pick(value: Any, tree: Tree) -> Any:
    if not tree:
        return value
    if isinstance(value, list):
        return [_pick(each, tree) for each in value]
    if not isinstance(value, dict):
        return value
    every = tree.get("*")
    if every is not None:
        return {key: _pick(each, every) for key, each in value.items()}
    return {key: _pick(value[key], inner) for key, inner in tree.items() if key in value}


def _wrong(text: str) -> Violation:
    return Violation(400, "invalidParameter", f"Invalid field selection {text}", status="INVALID_ARGUMENT")
