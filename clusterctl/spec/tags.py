"""What a cloud takes as tags: findings with the place of each, before anything is made."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from clusterctl.spec.faults import Finding, refuse, shorten

OURS = 9  # of them at most, on one thing
OUR_CHARACTERS = 1000  # of their keys and values together, at most
RESERVED = "clusterctl-"


@dataclass(frozen=True)
class TagRules:
    """`who` takes `most` tags on one thing, ours included; lengths in characters. `takes` says whether a character may be in
    a key or value, `taken` the same in words. `reserved`: beginnings of keys, in lower case, that it keeps for itself.
    `alike`: where it takes keys that differ in case only for one. `letter_first`: whether a key begins with a letter. `total`:
    characters of all keys and values on one thing, ours included; 0 = as many as there are. `any_value`: whether `takes` is about
    keys alone, and a value may have all that can be printed."""

    who: str
    most: int
    longest_key: int
    longest_value: int
    takes: Callable[[str], bool]
    taken: str
    reserved: tuple[str, ...]
    alike: str
    letter_first: bool = False
    total: int = 0
    any_value: bool = False

    @property
    def users(self) -> int:
        """How many are left for the user's own."""
        return self.most - OURS

    def read(self, value: Any) -> Any:
        """A validator: `value`, or Findings."""
        findings = list(self._check(value)) if isinstance(value, dict) else []
        return refuse(findings) if findings else value

    def _check(self, tags: Mapping[Any, Any]) -> Iterator[Finding]:
        if len(tags) > self.users:
            limit = f"{self.who} takes {self.most} on one thing, and up to {OURS} are clusterctl's own"
            yield Finding((), f"{len(tags)} tags are too many: {limit}", f"keep {self.users} at most", True)
        yield from self._check_total(tags)
        seen: dict[str, str] = {}
        for key, value in tags.items():
            name = str(key)
            if isinstance(value, list | dict):
                kind = "list" if isinstance(value, list) else "mapping"
                yield Finding((key,), f"the tag {shorten(name)} must be text, not a {kind}")
            yield from self._check_key(key, name)
            if isinstance(value, str):
                yield from self._check_value(key, value)
            if name.lower() in seen:
                what = f"the tags {shorten(seen[name.lower()])} and {shorten(name)} differ in case only"
                yield Finding((key,), what, f"{self.who} takes them for one {self.alike}: keep one of them", True)
            seen.setdefault(name.lower(), name)

    def _check_total(self, tags: Mapping[Any, Any]) -> Iterator[Finding]:
        most = self.total - OUR_CHARACTERS
        characters = sum(len(str(key)) + len(str(value)) for key, value in tags.items())
        if self.total and characters > most:
            limit = f"{self.who} takes {self.total} on one machine, and up to {OUR_CHARACTERS} are clusterctl's own"
            yield Finding((), f"tags of {characters} characters are too long: {limit}", f"keep {most} at most", True)

    def _check_key(self, key: Any, name: str) -> Iterator[Finding]:
        kept = next((begin for begin in self.reserved if name.lower().startswith(begin)), "")
        if kept:
            what = f"the tag {shorten(name)} begins with {kept!r}, which {self.who} keeps for itself"
            yield Finding((key,), what, "", True)
        elif name.lower().startswith(RESERVED) or name == "Name":
            what = f"the tag {shorten(name)} is reserved: clusterctl sets it on all that it makes"
            yield Finding((key,), what, "choose another key", True)
        elif not 1 <= len(name) <= self.longest_key:
            what = f"a tag's key has 1 to {self.longest_key} characters, this one has {len(name)}"
            yield Finding((key,), what, "", True)
        elif wrong := self._wrong(name, self.takes):
            yield Finding((key,), f"a tag's key cannot have {wrong}", f"{self.who} takes {self.taken}", True)
        elif self.letter_first and not name[0].isalpha():
            yield Finding((key,), f"the tag {shorten(name)} has to begin with a letter", "", True)

    def _check_value(self, key: Any, value: str) -> Iterator[Finding]:
        if len(value) > self.longest_value:
            what = f"a tag's value has {self.longest_value} characters at most, this one has {len(value)}"
            yield Finding((key,), what)
        elif wrong := self._wrong(value, str.isprintable if self.any_value else self.takes):
            taken = "all that can be printed" if self.any_value else self.taken
            yield Finding((key,), f"a tag's value cannot have {wrong}", f"{self.who} takes {taken}")

    def _wrong(self, text: str, takes: Callable[[str], bool]) -> str:
        """The first character that it does not take, as Python writes it; "" where there is none."""
        found = next((character for character in text if not takes(character)), "")
        return repr(found) if found else ""
