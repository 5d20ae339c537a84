"""A spec as it comes to be from another file: plain data, with the place that each part had there."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

from clusterctl.importing.layout import lines_of
from clusterctl.importing.reading import At, Reader
from clusterctl.spec.document import Document, Node, compose
from clusterctl.spec.faults import Fault, Path, SpecError
from clusterctl.spec.load import PlacedSpec, parse_places

Names = Callable[[PlacedSpec], Iterable[Fault]]
ORDER = (
    "cluster", "provider", "provider_order", "auth", "head", "engine", "pools", "setup", "files", "mounts", "env", "limits",
    "lifetime",
)  # fmt: skip
OLDEST_RAY = (2, 56)
SPEC = "cluster.yaml"
_APART = ("cluster", "head", "pools", "setup", "files")  # with a line before


@dataclass(frozen=True)
class Imported:
    """`texts`: file name -> text, the spec first. `notes`: what of the file is not in them, in its order. `commands`: what to
    run, in their order."""

    kind: str
    texts: dict[str, str]
    notes: tuple[Fault, ...]
    commands: tuple[str, ...]


def _below(place: Any, step: str | int, value: Any, *, over: bool = False) -> Any:
    """What is there in a list or mapping: `value` where nothing is, or in any case."""
    if isinstance(step, int) and step == len(place):
        place.append(value)
    elif over or (step not in place and not isinstance(step, int)):
        place[step] = value
    return place[step]


@dataclass
class Draft:
    """`commands`: those besides `plan` and `up`. `files`: beside the spec."""

    kind: str
    spec: dict[str, Any] = field(default_factory=dict[str, Any])
    origins: dict[Path, At] = field(default_factory=dict[Path, At])
    files: dict[str, str] = field(default_factory=dict[str, str])
    commands: list[str] = field(default_factory=list[str])

    def put(self, path: Path, value: Any, at: At | None = None) -> None:
        """Sets it where there is something to set; mappings and lists on the way are made."""
        if at is not None:
            self.origins[path] = at
        if value in (None, "", [], {}):
            return
        place: Any = self.spec
        for step, following in pairwise(path):
            place = _below(place, step, [] if isinstance(following, int) else {})
        _below(place, path[-1], value, over=True)

    def ray_version(self, text: str, at: At) -> None:
        """Of Ray, where clusterctl can have that version."""
        numbers = text.split(".")[:2]
        if len(numbers) < 2 or not all(number.isdigit() for number in numbers):
            return
        if (int(numbers[0]), int(numbers[1])) < OLDEST_RAY:
            at.note(
                f"Ray {text} is too old for clusterctl", "without a version, nodes get the Ray that it was tested with"
            )
        elif "version" not in self.spec.get("engine", {}).get("ray", {}):
            self.put(("engine", "ray", "version"), text, at)

    def finish(self, reader: Reader, names: Names) -> Imported:
        """`names`: see `read.convert`. Raises SpecError, with places in the file that was read, where that is no spec."""
        reader.leave_the_rest()
        reader.check()
        text = self._text(reader, ())
        try:
            doubts = [doubt for one in parse_places(text, SPEC).each for doubt in names(one)]
        except SpecError as error:
            raise SpecError(self._at_their_origins(error.faults, text, reader)) from error
        if doubts:
            reader.notes += self._at_their_origins(doubts, text, reader)
        notes = tuple(dict.fromkeys(sorted(reader.notes)))
        text = self._text(reader, notes)
        return Imported(self.kind, {SPEC: text, **self.files}, notes, tuple(self.commands))

    def _text(self, reader: Reader, notes: tuple[Fault, ...]) -> str:
        source = " ".join(reader.name.rpartition("/")[2].split())  # a comment has no line breaks, and a file's name may
        told = " What is not as there stands below." if notes else ""
        commands = ("clusterctl plan cluster.yaml", "clusterctl up cluster.yaml", *self.commands)
        lines = [f"# Made by clusterctl from {source}, {self.kind}.{told}", "#"]
        lines += [f"#   {' '.join(command.split())}" for command in commands]
        for key in (key for key in ORDER if key in self.spec):
            lines += [*([""] if key in _APART else []), *lines_of(key, self.spec[key])]
        if notes:
            lines += ["", f"# Not as in {source}, by line and column:"]
            lines += [f"#   {note.line}:{note.column}: {_without_place(note)}" for note in notes]
        return "\n".join(lines) + "\n"

    def _at_their_origins(self, faults: Iterable[Fault], text: str, reader: Reader) -> list[Fault]:
        document = compose(text, SPEC)
        return [self._at_its_origin(fault, document, reader) for fault in faults]

    def _at_its_origin(self, fault: Fault, document: Document, reader: Reader) -> Fault:
        there = [path for path in _paths(document.root) if (fault.line, fault.column) in _places(document, path)]
        for path in there:
            for length in range(len(path), 0, -1):
                if at := self.origins.get(path[:length]):
                    return Fault(reader.name, *at.place, f"{at.key}: {fault.message}", fault.suggestion)
        return Fault(reader.name, 1, 1, f"in the spec that would come of it, {fault.message}", fault.suggestion)


def _paths(node: Node, path: Path = ()) -> Iterator[Path]:
    yield path
    for step, inner in node.children():
        yield from _paths(inner, (*path, step))


def _places(document: Document, path: Path) -> list[tuple[int, int]]:
    return [document.place(path, at_key) for at_key in (False, True)]


def _without_place(note: Fault) -> str:
    return " ".join((note.message + (f" ({note.suggestion})" if note.suggestion else "")).split())
