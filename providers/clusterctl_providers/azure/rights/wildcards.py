"""What permissions of Azure allow: actions with wildcards, but for exceptions, in any case of letters."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any


class Allowed:
    """Each permission stands for itself: what one of them takes away, another may give."""

    def __init__(self, permissions: Iterable[Mapping[str, Any]]) -> None:
        self._each = [(_patterns(one.get("actions")), _patterns(one.get("notActions"))) for one in permissions]

    def has(self, action: str) -> bool:
        return any(_fits(action, yes) and not _fits(action, no) for yes, no in self._each)


def _patterns(actions: Iterable[str] | None) -> list[re.Pattern[str]]:
    return [re.compile(".*".join(map(re.escape, action.split("*"))), re.IGNORECASE) for action in actions or ()]


def _fits(action: str, patterns: Iterable[re.Pattern[str]]) -> bool:
    return any(pattern.fullmatch(action) for pattern in patterns)
