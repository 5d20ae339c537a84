"""The `filter` of a list, read strictly: `labels.a = b`, `labels.a:*`, `(status = RUNNING) AND (name != x)`, `name eq 'w-.*'`.

What this does not know is refused and recorded: better than a filter that silently lets everything through.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from tests.cloud.gcp.world import Violation

Test = Callable[[dict[str, Any]], bool]
_TOKEN = re.compile(r'\s*(?:([()])|(!=|>=|<=|=|:|<|>)|"((?:[^"\\]|\\.)*)"|\'([^\']*)\'|([^\s()!=<>:"\']+))')


def compile_filter(text: str) -> Test:
    """Raises Violation."""
    tokens = _tokens(text)
    if any(kind == "word" and value in ("eq", "ne") for kind, value in tokens):
        return _older(tokens, text)
    test, rest = _any_of(tokens, text)
    if rest:
        raise _wrong(text)
    return test


def _tokens(text: str) -> list[tuple[str, str]]:
    found: list[tuple[str, str]] = []
    at = 0
    while at < len(text.rstrip()):
        match = _TOKEN.match(text, at)
        if match is None:
            raise _wrong(text)
        at = match.end()
        paren, operator, double, single, word = match.groups()
        if paren:
            found.append(("paren", paren))
        elif operator:
            found.append(("operator", operator))
        elif double is not None or single is not None:
            found.append(("text", re.sub(r"\\(.)", r"\1", double if double is not None else single)))
        else:
            found.append(("word", word))
    if not found:
        raise _wrong(text)
    return found


def _any_of(tokens: list[tuple[str, str]], text: str) -> tuple[Test, list[tuple[str, str]]]:
    tests: list[Test] = []
    while True:
        test, tokens = _all_of(tokens, text)
        tests.append(test)
        if tokens[:1] != [("word", "OR")]:
            return (lambda item: any(each(item) for each in tests)), tokens
        tokens = tokens[1:]


def _all_of(tokens: list[tuple[str, str]], text: str) -> tuple[Test, list[tuple[str, str]]]:
    """Two expressions side by side are both meant."""
    tests: list[Test] = []
    while True:
        test, tokens = _one(tokens, text)
        tests.append(test)
        if tokens[:1] == [("word", "AND")]:
            tokens = tokens[1:]
        elif not tokens or tokens[0] in (("paren", ")"), ("word", "OR")):
            return (lambda item: all(each(item) for each in tests)), tokens


def _one(tokens: list[tuple[str, str]], text: str) -> tuple[Test, list[tuple[str, str]]]:
    if not tokens:
        raise _wrong(text)
    if tokens[0] == ("word", "NOT"):
        inner, rest = _one(tokens[1:], text)
        return (lambda item: not inner(item)), rest
    if tokens[0] == ("paren", "("):
        test, rest = _any_of(tokens[1:], text)
        if rest[:1] != [("paren", ")")]:
            raise _wrong(text)
        return test, rest[1:]
    if len(tokens) < 3 or tokens[0][0] != "word" or tokens[1][0] != "operator" or tokens[2][0] not in ("word", "text"):
        raise _wrong(text)
    return _comparison(tokens[0][1], tokens[1][1], tokens[2], text), tokens[3:]


def _comparison(field: str, operator: str, literal: tuple[str, str], text: str) -> Test:
    path, wanted = _path(field, text), literal[1]
    if operator == ":":
        if literal == ("word", "*"):
            return lambda item: _value(item, path) is not None
        return lambda item: wanted.lower() in _text(_value(item, path)).lower()
    if operator in ("=", "!="):
        if "*" in wanted and literal[0] == "word":
            raise _wrong(text)
        equal = operator == "="
        return lambda item: (_text(_value(item, path)) == wanted) == equal
    if not re.fullmatch(r"-?\d+(\.\d+)?", wanted) and "imestamp" not in field:
        raise _wrong(text)
    return _ordered(path, operator, wanted)


def _ordered(path: list[str], operator: str, wanted: str) -> Test:
    def test(item: dict[str, Any]) -> bool:
        value: Any = _value(item, path)
        if value is None:
            return False
        left, right = (float(value), float(wanted)) if wanted.replace(".", "").isdigit() else (str(value), wanted)
        return bool({"<": left < right, ">": left > right, "<=": left <= right, ">=": left >= right}[operator])  # type: ignore[operator]

    return test


def _older(tokens: list[tuple[str, str]], text: str) -> Test:
    """`field eq pattern`, and several of them in parentheses; not mixed with the newer form. The pattern is anchored."""
    plain = [token for token in tokens if token[0] != "paren"]
    if len(plain) % 3:
        raise _wrong(text)
    tests: list[Test] = []
    for number in range(0, len(plain), 3):
        (kind, field), (_, operator), (_, pattern) = plain[number : number + 3]
        if kind != "word" or operator not in ("eq", "ne"):
            raise _wrong(text)
        tests.append(_matching(_path(field, text), operator == "eq", pattern, text))
    return lambda item: all(test(item) for test in tests)


def _matching(path: list[str], wanted: bool, pattern: str, text: str) -> Test:
    try:
        compiled = re.compile(pattern)
    except re.error:
        raise _wrong(text) from None
    return lambda item: bool(compiled.fullmatch(_text(_value(item, path)))) == wanted


def _path(field: str, text: str) -> list[str]:
    if not re.fullmatch(r"[A-Za-z]\w*(\.[A-Za-z0-9_-]+)*", field):
        raise _wrong(text)
    return field.split(".")


def _value(item: Any, path: list[str]) -> Any:
    for part in path:
        if not isinstance(item, dict):
            return None
        item = item.get(part)
    return item


def _text(value: Any) -> str:
    return "" if value is None else str(value).lower() if isinstance(value, bool) else str(value)


def _wrong(text: str) -> Violation:
    message = f"Invalid value for field 'filter': '{text}'. Invalid list filter expression."
    return Violation(400, "invalid", message)
