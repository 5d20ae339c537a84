"""A document of another program, which knows what of it was understood. What was not is found at the end, so that nothing of a
file vanishes because nobody thought of it."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from clusterctl.kuberay.secrets import NAME, is_secret
from clusterctl.spec.document import Document, Entry, Node
from clusterctl.spec.faults import Fault, SpecError, did_you_mean

# Those programs read YAML 1.1, where these are booleans too.
_TRUE, _FALSE = frozenset({"true", "yes", "on"}), frozenset({"false", "no", "off"})
Reasons = Mapping[
    str, tuple[str, str]
]  # the end of a key's path, dotted -> (why it is not taken over, what to do instead)
_UNKNOWN = ("a spec has no word for it", "")


class Reader:
    """`notes`: what was left out or changed; `faults`: what is wrong with the document itself, so that there is no spec."""

    def __init__(self, document: Document, reasons: Reasons) -> None:
        self.name, self.reasons = document.name, reasons
        self.notes: list[Fault] = []
        self.faults: list[Fault] = []
        self.done: set[int] = set()  # ids of nodes: of scalars that were read, of others with all below them
        self.root = At(self, document.root, (), (1, 1))

    def leave_the_rest(self) -> None:
        """A note for each part of the document that nobody has read, as high up in it as can be."""
        for at in self._unread(self.root):
            at.leave(*self._reason(at))

    def check(self) -> None:
        """Raises SpecError where the document is wrong."""
        if self.faults:
            raise SpecError(self.faults)

    def _unread(self, at: At) -> Iterator[At]:
        if id(at.node) in self.done:
            return
        inner = at.inner()
        if not inner:
            if isinstance(at.node.value, str) and at.node.scalar() not in (None, ""):
                yield at
            return
        left = [one for each in inner for one in self._unread(each)]
        untouched = all(id(each.node) not in self.done for each in inner) and not any(map(self._touched, inner))
        if left and untouched and at.path:
            yield at
        else:
            yield from left

    def _touched(self, at: At) -> bool:
        return id(at.node) in self.done or any(map(self._touched, at.inner()))

    def _reason(self, at: At) -> tuple[str, str]:
        keys = [step for step in at.path if isinstance(step, str)]
        for begin in range(len(keys)):
            if found := self.reasons.get(".".join(keys[begin:])):
                return found
        return next((self.reasons[key] for key in reversed(keys) if key in self.reasons), _UNKNOWN)


class At:
    """A place in the document. `path` leads there from the top; `place`: line and column of its key, or of an item itself."""

    def __init__(self, reader: Reader, node: Node, path: tuple[str | int, ...], place: tuple[int, int]) -> None:
        self.reader, self.node, self.path, self.place = reader, node, path, place

    # -- going on

    def get(self, *steps: str | int) -> At | None:
        """What is there below, with a value."""
        at: At | None = self
        for step in steps:
            at = next((one for one in at.inner() if one.path[-1] == step), None) if at else None
        return at if at and not at.is_null else None

    def inner(self) -> list[At]:
        """What is directly inside, in the order of the text."""
        value = self.node.value
        if isinstance(value, dict):
            return [At(self.reader, one.node, (*self.path, key), _key(one)) for key, one in value.items()]
        if isinstance(value, list):
            return [At(self.reader, one, (*self.path, n), (one.line, one.column)) for n, one in enumerate(value)]
        return []

    @property
    def key(self) -> str:
        return str(self.path[-1]) if self.path else ""

    @property
    def is_null(self) -> bool:
        return isinstance(self.node.value, str) and self.node.scalar() is None

    # -- values: read is taken; None where there is nothing, or it is wrong, which is a fault

    def text(self, *steps: str | int) -> str:
        """As written; "" where there is none, or where it looks like a secret, which is noted."""
        at = self.get(*steps)
        if at is None or not at._is(str, "a text"):
            return ""
        assert isinstance(at.node.value, str)
        if is_secret(at.node.value) or (NAME.search(at.key) and "key_name" not in at.key.lower()):
            at.leave(
                "it looks like a secret, and none is copied", "give it to the programs that need it at their start"
            )
            return ""
        at.skip()
        return at.node.value

    def number(self, *steps: str | int) -> float | None:
        """A number, also of digits in quotes."""
        at = self.get(*steps)
        if at is None or not at._is(str, "a number"):
            return None
        assert isinstance(at.node.value, str)
        try:
            found = float(at.node.value)
        except ValueError:
            return at.wrong("must be a number")
        at.skip()
        return found

    def whole(self, *steps: str | int) -> int | None:
        """A whole number that is not negative."""
        at, found = self.get(*steps), self.number(*steps)
        if at is None or found is None:
            return None
        return int(found) if found >= 0 and found == int(found) else at.wrong("must be a whole number, 0 or more")

    def flag(self, *steps: str | int) -> bool | None:
        at = self.get(*steps)
        if at is None or not at._is(str, "true or false"):
            return None
        assert isinstance(at.node.value, str)
        word = at.node.value.lower()
        if word not in _TRUE | _FALSE:
            return at.wrong("must be true or false")
        at.skip()
        return word in _TRUE

    def entries(self, *steps: str | int) -> list[At]:
        """Of a mapping, by its keys; none where there is no such."""
        at = self.get(*steps)
        return at.inner() if at and at._is(dict, "a mapping") else []

    def items(self, *steps: str | int) -> list[At]:
        """Of a list."""
        at = self.get(*steps)
        return at.inner() if at and at._is(list, "a list") else []

    def texts(self, *steps: str | int) -> list[str]:
        """Of a list."""
        return [text for one in self.items(*steps) if (text := one.text())]

    def one_of(self, keys: Iterable[str]) -> None:
        """A fault for each key of this mapping that its program does not know."""
        known = tuple(keys)
        for one in self.inner():
            if one.key not in known:
                one.wrong("there is no such key", did_you_mean(one.key, known))

    # -- what becomes of it

    def skip(self) -> None:
        """It is taken over, or means nothing: with all below it."""
        self.reader.done.add(id(self.node))

    def leave(self, why: str, instead: str = "") -> None:
        """It, with all below it, is not in the spec."""
        self.note(why, instead)
        self.skip()

    def note(self, why: str, instead: str = "") -> None:
        """It is not as it was."""
        self.reader.notes.append(self._fault(why, instead))

    def wrong(self, why: str, instead: str = "") -> None:
        """There will be no spec."""
        self.reader.faults.append(self._fault(why, instead))
        self.skip()

    def _fault(self, why: str, instead: str) -> Fault:
        return Fault(self.reader.name, *self.place, f"{dotted(self.path)}: {why}" if self.path else why, instead)

    def _is(self, kind: type, what: str) -> bool:
        if isinstance(self.node.value, kind):
            return True
        self.wrong(f"must be {what}")
        return False


def _key(entry: Entry) -> tuple[int, int]:
    return entry.line, entry.column


def dotted(path: Iterable[str | int]) -> str:
    """("spec", "groups", 0, "name") -> `spec.groups[0].name`."""
    parts = [f"[{part}]" if isinstance(part, int) else f".{part}" for part in path]
    return "".join(parts).removeprefix(".")


def duration(seconds: float) -> str:
    """As a spec has it: 300 -> "5m"."""
    for unit, name in ((3600, "h"), (60, "m")):
        if seconds and seconds % unit == 0:
            return f"{seconds / unit:g}{name}"
    return f"{seconds:g}s"


def clean_name(at: At, text: str, what: str) -> str:
    """As the name of a cluster or pool; noted where that is another one."""
    plain = re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")
    plain = (plain if plain[:1].isalpha() else f"n{plain}")[:40].rstrip("-")
    if plain != text:
        at.note(f"the {what} is called {plain}: names have lower-case letters, digits and '-', and at most 40 of them")
    return plain


def same(values: Iterable[Any], default: Callable[[], Any]) -> Any:
    """The value that all have; `default()` where they differ or there is none."""
    found = list(values)
    return found[0] if found and all(one == found[0] for one in found) else default()
