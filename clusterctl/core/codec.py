"""Nouns as canonical JSON and back: equal values give equal bytes, and what was written is read back equal.

Dataclasses become objects with all their fields, resources an object of plain amounts, tuples arrays. Numbers must be
finite. Unknown keys are refused: a plan file of another version must not be half understood.
"""

from __future__ import annotations

import json
import types
from collections.abc import Mapping, Sequence
from dataclasses import fields, is_dataclass
from enum import Enum
from functools import cache
from typing import Any, Literal, TypeVar, Union, cast, get_args, get_origin, get_type_hints

from clusterctl.core.errors import UsageError
from clusterctl.core.resources import Resources

T = TypeVar("T")
Json = Any


def to_data(value: object) -> Json:
    """Plain JSON data of a noun, or of a tuple of nouns."""
    if isinstance(value, Resources):
        return value.to_dict()
    if is_dataclass(value) and not isinstance(value, type):
        return {f.name: to_data(getattr(value, f.name)) for f in fields(value)}
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, tuple | list):
        return [to_data(item) for item in cast("Sequence[object]", value)]
    if isinstance(value, float) and value.is_integer() and abs(value) < 2**53:
        return int(value)  # 1 and 1.0 are equal, so they are written alike
    return value


def dumps(value: object) -> str:
    """Canonical JSON: sorted keys, no spaces, no NaN."""
    return json.dumps(to_data(value), sort_keys=True, separators=(",", ":"), allow_nan=False, ensure_ascii=False)


def loads(kind: type[T], text: str) -> T:
    """The noun written by dumps(); raises UsageError with the place of what does not belong there."""
    try:
        data = json.loads(text)
    except ValueError as error:
        raise UsageError(f"cannot read a {kind.__name__}: it is not JSON ({error})") from error
    return from_data(kind, data)


def from_data(kind: type[T], data: Json) -> T:
    """A noun from plain JSON data; raises UsageError with the place of what does not belong there."""
    return cast(T, _read(kind, data, kind.__name__))


@cache
def _hints(kind: type) -> Mapping[str, Any]:
    return get_type_hints(kind)


def _read(kind: Any, data: Json, place: str) -> object:
    if kind is Resources:
        return _read_resources(data, place)
    if is_dataclass(kind):
        return _read_dataclass(cast("type[Any]", kind), data, place)
    origin = get_origin(kind)
    if origin is tuple:
        return _read_tuple(get_args(kind), data, place)
    if origin is Literal:
        if data not in get_args(kind):
            raise _fault(place, f"one of {', '.join(map(repr, get_args(kind)))}", data)
        return data
    if origin in (Union, types.UnionType):
        return _read_union(get_args(kind), data, place)
    if isinstance(kind, type) and issubclass(kind, Enum):
        try:
            return kind(data)
        except ValueError:
            raise _fault(place, f"one of {', '.join(str(m.value) for m in kind)}", data) from None
    if kind is float and isinstance(data, int) and not isinstance(data, bool):
        return float(data)
    if not isinstance(data, kind) or (isinstance(data, bool) and kind is not bool):
        raise _fault(place, f"a {kind.__name__}", data)
    return data


def _read_resources(data: Json, place: str) -> Resources:
    if not isinstance(data, dict):
        raise _fault(place, "amounts by name", data)
    try:
        return Resources.of(cast("dict[str, float]", data))
    except (TypeError, ValueError) as error:
        raise UsageError(f"{place}: {error}") from error


def _read_dataclass(kind: type[Any], data: Json, place: str) -> object:
    if not isinstance(data, dict):
        raise _fault(place, f"a {kind.__name__}", data)
    known = {f.name: f for f in fields(kind)}
    given = cast("dict[str, Json]", data)
    unknown = sorted(set(given) - set(known))
    if unknown:
        raise UsageError(f"{place}: unknown key {unknown[0]!r}: was it written by another version?")
    hints = _hints(kind)
    values = {name: _read(hints[name], item, f"{place}.{name}") for name, item in given.items() if known[name].init}
    try:
        return kind(**values)
    except TypeError as error:
        raise UsageError(f"{place}: {error}") from error


def _read_tuple(arguments: tuple[Any, ...], data: Json, place: str) -> object:
    if not isinstance(data, list):
        raise _fault(place, "a list", data)
    items = cast("list[Json]", data)
    if len(arguments) == 2 and arguments[1] is Ellipsis:
        return tuple(_read(arguments[0], item, f"{place}[{i}]") for i, item in enumerate(items))
    if len(items) != len(arguments):
        raise _fault(place, f"{len(arguments)} items", data)
    pairs = zip(arguments, items, strict=True)
    return tuple(_read(kind, item, f"{place}[{i}]") for i, (kind, item) in enumerate(pairs))


def _read_union(kinds: tuple[Any, ...], data: Json, place: str) -> object:
    """Unions of our nouns are told apart by `op`; any other union is a value or None."""
    if data is None:
        return None
    real = [kind for kind in kinds if kind is not type(None)]
    if len(real) == 1:
        return _read(real[0], data, place)
    op = cast("dict[str, Json]", data).get("op") if isinstance(data, dict) else None
    for kind in real:
        if op in get_args(_hints(kind)["op"]):
            return _read(kind, data, place)
    raise _fault(place, f"one of {', '.join(kind.__name__ for kind in real)}", data)


def _fault(place: str, expected: str, data: Json) -> UsageError:
    shown = repr(data)
    return UsageError(f"{place}: expected {expected}, found {shown[:60]}{'...' if len(shown) > 60 else ''}")
