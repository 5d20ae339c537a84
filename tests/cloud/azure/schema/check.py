"""Whether a body is what its model says: no member too many, none missing, none of another type, none that only Azure sets."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from tests.cloud.azure.schema.models import Member, Model, Type

_TIME = re.compile(r"\d{4}-\d\d-\d\d([T ]\d\d:\d\d(:\d\d(\.\d+)?)?(Z|[+-]\d\d:?\d\d)?)?")
_PYTHON = {
    "str": str,
    "bool": bool,
    "int": int,
    "float": (int, float),
    "list": list,
    "dict": dict,
    "model": dict,
    "enum": str,
}


def problems(value: Any, type_: Type, where: str = "", sent: bool = True) -> Iterator[str]:
    """What is wrong with it, in sentences that name the member. `sent`: to Azure, and not by it."""
    kind = type_.kind
    if value is None or kind == "any":
        return
    if kind == "time":
        if not isinstance(value, str) or not _TIME.fullmatch(value):
            yield f"{where or 'the body'} is no time: {value!r}"
        return
    if not isinstance(value, _PYTHON[kind]) or (isinstance(value, bool) and kind in ("int", "float")):
        yield f"{where or 'the body'} is {type(value).__name__} and not {type_.name or kind}"
        return
    if kind == "enum":
        if type_.values() and value not in type_.values():
            yield f"{where} is '{value}', which is none of {', '.join(type_.values())}"
    elif kind == "list":
        for number, each in enumerate(value):
            yield from problems(each, type_.inner or Type("any"), f"{where}[{number}]", sent)
    elif kind == "dict":
        for key, each in value.items():
            yield from problems(each, type_.inner or Type("any"), f"{where}.{key}", sent)
    elif kind == "model":
        yield from _in_model(value, _meant(type_.model(), value, type_), where, sent)


def _meant(model: Model, value: dict[str, Any], type_: Type) -> Model:
    kind = model.kinds.get(str(value.get(model.discriminator))) if model.discriminator else None
    return type_.models.get(kind) if kind and type_.models else model


def _in_model(value: dict[str, Any], model: Model, where: str, sent: bool) -> Iterator[str]:
    for key, each in value.items():
        path = f"{where}.{key}" if where else key
        member = model.members.get(key)
        if member is None:
            yield f"{path}: {model.name} has no such member (it has {', '.join(sorted(model.members))})"
        elif member.read_only and sent:
            yield f"{path} is set by Azure alone"
        else:
            yield from problems(each, member.type, path, sent)
    for key, member in model.members.items():
        if sent and _misses(member, value.get(key)):
            yield f"{where + '.' if where else ''}{key} is required"


def _misses(member: Member, value: Any) -> bool:
    return member.required and value is None
