"""Text -> ClusterSpec, or every fault of it at once with file, line and column.

A text that lists several places has a spec for each (see places): `parse_places` gives them all, the others the one that is
named, or the only one.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from clusterctl.core.errors import UsageError
from clusterctl.spec.document import MAX_BYTES, Document, Node, compose
from clusterctl.spec.faults import FINDINGS, MAX_FAULTS, Fault, Finding, SpecError, did_you_mean
from clusterctl.spec.faults import Path as SpecPath
from clusterctl.spec.model import ClusterSpec
from clusterctl.spec.places import Order, Place, begins, split
from clusterctl.spec.syntax import place_of
from clusterctl.spec.wording import findings_of, path_in_text
from clusterctl.spec.writing import text_of

__all__ = ["Fault", "SpecError", "load_located", "load_spec", "parse_located", "parse_places", "parse_spec"]


@dataclass(frozen=True)
class PlacedSpec:
    """The spec for one place. `text` reads as that spec alone; it is the user's own where no place is listed."""

    place: str
    text: str
    spec: ClusterSpec
    located: Document


@dataclass(frozen=True)
class PlacedSpecs:
    """Those of a text, in its order; `order` is the one in which they are to be tried. `listed`: whether there is a list."""

    each: tuple[PlacedSpec, ...]
    order: Order
    listed: bool


def load_spec(path: Path, place: str = "") -> ClusterSpec:
    """The spec in the file `path`; raises SpecError with every fault. `place`: which of several."""
    text = read_text(path)
    return choose(parse_places(text, str(path)), place, str(path)).spec


def parse_spec(text: str, name: str = "cluster.yaml") -> ClusterSpec:
    """The spec in `text`; `name` stands for the file in messages. Raises SpecError with every fault."""
    return parse_located(text, name)[0]


def load_located(path: Path) -> tuple[ClusterSpec, Document]:
    """As load_spec, with the document that knows the place of every key."""
    return parse_located(read_text(path), str(path))


def parse_located(text: str, name: str = "cluster.yaml") -> tuple[ClusterSpec, Document]:
    """As parse_spec, with the document that knows the place of every key."""
    chosen = choose(parse_places(text, name), "", name)
    return chosen.spec, chosen.located


def choose(places: PlacedSpecs, start: str, name: str) -> PlacedSpec:
    """The only place that begins with `start`. Raises UsageError, which names them, where that is not one."""
    fitting = [one for one in places.each if not start or begins(one.place, start)]
    if len(fitting) == 1:
        return fitting[0]
    known = ", ".join(one.place for one in fitting or places.each)
    if not fitting:
        raise UsageError(f"{name} names no place {start!r}: there is {known}")
    raise UsageError(f"{name} lists {len(fitting)} places, and this takes one: choose with --place ({known})")


def parse_places(text: str, name: str = "cluster.yaml") -> PlacedSpecs:
    """The spec for each place in `text`. Raises SpecError with every fault of any."""
    document = compose(text, name)
    if not isinstance(document.root.value, dict):
        example = "begin with `cluster: demo`"
        raise SpecError([document.fault((), "a spec is a mapping of keys to values", example)])
    written, found = split(document)
    read = [(place, *_read(place.document)) for place in written.places]
    faults = [_fault(finding, document) for finding in found] + _faults_of([(place, wrong) for place, _, wrong in read])
    if faults:
        raise SpecError(faults)
    each = tuple(
        PlacedSpec(place.name, _text(text, place, listed=written.listed), spec, place.document)
        for place, spec, _ in read
        if spec is not None
    )
    return PlacedSpecs(each, written.order, written.listed)


def _text(text: str, place: Place, *, listed: bool) -> str:
    return text_of(place.document, f"{place.name}, of the places that the spec lists") if listed else text


def _read(document: Document) -> tuple[ClusterSpec | None, list[Finding]]:
    """The spec of one place, or all that is wrong with it."""
    data = document.root.data()
    empty = list(islice(_empty_values(document.root), MAX_FAULTS + 1))
    try:
        spec, found = _validate(data, document), []
    except ValidationError as error:
        found = _findings(error, document)
        spec, found = None, found + _findings_between_parts(data, found)
    return spec, [*empty, *_elsewhere(found, empty)]


def _faults_of(found: list[tuple[Place, list[Finding]]]) -> list[Fault]:
    """What is wrong at some places and not at others says where. A part that is wrong otherwise may be wrong in this, too."""
    parts = {place.name: {finding.path[:2] for finding in wrong} for place, wrong in found}
    where: dict[Fault, list[str]] = {}
    path_of: dict[Fault, SpecPath] = {}
    for place, wrong in found:
        for finding in wrong:
            fault = _fault(finding, place.document)
            where.setdefault(fault, []).append(place.name)
            path_of[fault] = finding.path
    faults: list[Fault] = []
    for fault, places in where.items():
        path = path_of[fault]
        everywhere = all(name in places or path[:2] in parts[name] for name in parts)
        faults.append(fault if path[:1] == ("provider",) or everywhere else _said_of(places, fault))
    return faults


def _said_of(places: list[str], fault: Fault) -> Fault:
    names = list(dict.fromkeys(places))
    told = " and ".join(names) if len(names) < 3 else f"{names[0]}, {names[1]} and {len(names) - 2} more"
    return replace(fault, message=f"in {told}: {fault.message}")


def _fault(finding: Finding, document: Document) -> Fault:
    return document.fault(finding.path, finding.message, finding.suggestion, finding.at_key)


def read_text(path: Path) -> str:
    """The text of the file `path`; raises SpecError where it cannot be read or is not UTF-8."""

    def fail(message: str, suggestion: str = "", line: int = 0, column: int = 0) -> SpecError:
        return SpecError([Fault(str(path), line, column, message, suggestion)])

    try:
        if path.is_dir():
            raise fail("is a directory; a spec is a file", _spec_in(path))
        with path.open("rb") as file:
            raw = file.read(MAX_BYTES + 1)
    except FileNotFoundError:
        raise fail("no such file", _near_file(path)) from None
    except (OSError, ValueError) as error:
        raise fail(f"cannot be read: {getattr(error, 'strerror', None) or error}") from error
    if len(raw) > MAX_BYTES:
        raise fail(f"is larger than {MAX_BYTES:,} bytes, the limit for a spec")
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError as error:
        place = place_of(
            raw[: error.start].decode("utf-8", "replace"), len(raw[: error.start].decode("utf-8", "replace"))
        )
        utf16 = raw[:2] in (b"\xff\xfe", b"\xfe\xff")
        raise fail(
            f"byte 0x{raw[error.start]:02x} is not UTF-8",
            "save the file as UTF-8" + (", not UTF-16" if utf16 else ""),
            *place,
        ) from None


def _spec_in(directory: Path) -> str:
    inside = directory / "cluster.yaml"
    return f"did you mean {str(inside)!r}?" if inside.is_file() else ""


def _near_file(path: Path) -> str:
    try:
        names = [entry.name for entry in path.parent.iterdir() if entry.suffix in (".yaml", ".yml")]
    except (OSError, ValueError):
        names = []
    return did_you_mean(path.name, names) or "`clusterctl init` writes a cluster.yaml to start from"


def _validate(data: dict[str, Any], document: Document) -> ClusterSpec:
    """Where text is wanted, a number or boolean without quotes is the text as written: `version: 2.60` is "2.60"."""
    try:
        return ClusterSpec.model_validate(data)
    except ValidationError as error:
        paths = [
            path_in_text(e["loc"], document) for e in error.errors() if e["type"] in ("string_type", "literal_error")
        ]
        if not sum(_take_as_text(data, path, document) for path in paths):
            raise
    return ClusterSpec.model_validate(data)


def _take_as_text(data: Any, path: SpecPath, document: Document) -> bool:
    node = document.node(path)
    if (
        node is None
        or not isinstance(node.value, str)
        or not path
        or node.scalar() is None
        or isinstance(node.scalar(), str)
    ):
        return False
    for step in path[:-1]:
        data = data[step]
    data[path[-1]] = node.value
    return True


def _findings(error: ValidationError, document: Document) -> list[Finding]:
    found = (finding for details in error.errors() for finding in findings_of(details, document))
    return list(islice(found, MAX_FAULTS + 1))


def _findings_between_parts(data: dict[str, Any], found: list[Finding]) -> list[Finding]:
    """The contradictions between the parts that are right in themselves, which pydantic does not come to see when any
    part is wrong. Nothing is said where the provider itself is wrong: half of the rules hang on it."""
    wrong = {finding.path for finding in found}
    pools = data.get("pools")
    if not isinstance(pools, list) or any(path[:1] in ((), ("provider",)) for path in wrong - {()}):
        return []
    bad = {path[1] for path in wrong if path[:1] == ("pools",) and len(path) > 1}
    kept = [index for index in range(len(pools)) if index not in bad]
    wrong_keys = {path[0] for path in wrong if path} - {"pools"}
    rest = {key: value for key, value in data.items() if key not in wrong_keys}
    rest = {"cluster": "unnamed", **rest, "pools": [pools[index] for index in kept]}
    if rest == data:
        return []  # its parts were compared already
    # what is said of the pools together is not known without the wrong ones
    hidden = {("pools",), ("head", "zone")} if bad else set()
    try:
        ClusterSpec.model_validate(rest)
    except ValidationError as error:
        more = [finding for e in error.errors() if not e["loc"] for finding in e.get("ctx", {}).get(FINDINGS, ())]
        return [_renumbered(finding, kept) for finding in more if finding.path not in hidden]
    return []


def _renumbered(finding: Finding, kept: list[int]) -> Finding:
    if finding.path[:1] != ("pools",) or len(finding.path) < 2:
        return finding
    path = ("pools", kept[int(finding.path[1])], *finding.path[2:])
    return Finding(path, finding.message, finding.suggestion, finding.at_key)


def _empty_values(node: Node, path: SpecPath = ()) -> Iterable[Finding]:
    """Keys without a value, as when all below them was commented out. A provider or an engine may stand alone."""
    if isinstance(node.value, str):
        alone = len(path) == 2 and path[0] in ("provider", "engine")
        if node.scalar() is None and not alone:
            yield Finding(
                path,
                f"{str(path[-1])!r} has no value" if isinstance(path[-1], str) else "this item has no value",
                "remove it, or give it one",
                True,
            )
    else:
        for step, inner in node.children():
            yield from _empty_values(inner, (*path, step))


def _elsewhere(found: list[Finding], empty: list[Finding]) -> list[Finding]:
    """`found` without what follows from an empty value at the same place."""
    places = {finding.path for finding in empty}
    return [finding for finding in found if finding.path not in places]
