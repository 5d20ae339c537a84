"""How a cloud writes a name: a setting that is none is refused with its place, before anything is made."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from clusterctl.spec.faults import Finding, refuse, shorten


@dataclass(frozen=True)
class Form:
    """`pattern` is for the whole of a text, `what` it is then; `hint`: a better suggestion for some texts."""

    pattern: str
    what: str
    suggestion: str
    hint: Callable[[str], str] = lambda _: ""

    def read(self, value: Any) -> Any:
        """A validator: `value`, or a Finding; "" is for whoever leaves it out."""
        findings = list(self._check(value, ()))
        return refuse(findings) if findings else value

    def read_all(self, values: Any) -> Any:
        """The same for a list of them."""
        given = values if isinstance(values, list) else []
        findings = [finding for index, value in enumerate(given) for finding in self._check(value, (index,))]
        return refuse(findings) if findings else values

    def _check(self, value: Any, path: tuple[int, ...]) -> Iterator[Finding]:
        if isinstance(value, str) and value and not re.fullmatch(self.pattern, value):
            yield Finding(path, f"{shorten(value)} is no {self.what}", self.hint(value) or self.suggestion)
