"""Conditions of role assignments, as far as they are about giving roles away: ActionMatches, and attributes of the assignment
that is asked for (@Request) or that is there (@Resource)."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass

_TOKEN = re.compile(
    r"\s*(\(|\)|!|AND\b|&&|OR\b|\|\||ActionMatches|@\w+\[[^\]]+\]|ForAny\w+:\w+|\{[^}]*\})", re.IGNORECASE
)
_GUIDS, _TEXTS = "foranyofanyvalues:guidequals", "foranyofanyvalues:stringequalsignorecase"
Attributes = Mapping[
    str, str
]  # such as @request[microsoft.authorization/roleassignments:roledefinitionid], in small letters


def holds(condition: str, action: str, attributes: Attributes) -> bool:
    """Raises ValueError for what is no condition."""
    parser = _Parser(_tokens(condition), action, attributes)
    found = parser.either()
    if parser.rest:
        raise ValueError(f"unexpected {parser.rest[0]!r}")
    return found


def _tokens(text: str) -> list[str]:
    found: list[str] = []
    at = 0
    while at < len(text.rstrip()):
        match = _TOKEN.match(text, at)
        if match is None:
            raise ValueError(f"unexpected {text[at : at + 20]!r}")
        found.append(match.group(1))
        at = match.end()
    return found


@dataclass
class _Parser:
    rest: list[str]
    action: str
    attributes: Attributes

    def either(self) -> bool:
        return self._joined(self.both, ("or", "||"), any)

    def both(self) -> bool:
        return self._joined(self.one, ("and", "&&"), all)

    def _joined(self, part: Callable[[], bool], words: tuple[str, ...], how: Callable[[list[bool]], bool]) -> bool:
        found = [part()]
        while self.rest and self.rest[0].lower() in words:
            self.rest.pop(0)
            found.append(part())
        return how(found)

    def one(self) -> bool:
        token = self._next()
        if token == "!":
            return not self.one()
        if token == "(":
            found = self.either()
            if self._next() != ")":
                raise ValueError("a bracket is missing")
            return found
        if token.lower() == "actionmatches":
            return self.action.lower() in self._values()
        if token.startswith("@"):
            return self._compared(token.lower())
        raise ValueError(f"unexpected {token!r}")

    def _compared(self, attribute: str) -> bool:
        operator, wanted = self._next().lower(), self._values()
        if operator not in (_GUIDS, _TEXTS):
            raise ValueError(f"the stand-in has no {operator}")
        return self.attributes.get(attribute, "").lower() in wanted

    def _values(self) -> list[str]:
        return [each.strip(" '").lower() for each in self._next().strip("{}").split(",")]

    def _next(self) -> str:
        if not self.rest:
            raise ValueError("it ends too early")
        return self.rest.pop(0)
