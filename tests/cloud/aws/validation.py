"""Is a request one that botocore's own service model allows? Unknown, ill-typed or missing parameters are named."""

from __future__ import annotations

import base64
import binascii
import functools
import re
from typing import Any
from urllib.parse import parse_qsl

import botocore.session
from botocore.model import ListShape, OperationModel, Shape, StructureShape
from botocore.validate import ParamValidator

Tree = dict[str, Any]


@functools.lru_cache(maxsize=16)
def service_model(service: str) -> Any:
    return botocore.session.get_session().get_service_model(service)


def check_query(service: str, action: str, body: str) -> tuple[Tree, list[str]]:
    """The parameters of a form-encoded call (EC2's, IAM's and STS's protocols), and what is wrong with them."""
    pairs = dict(parse_qsl(body, keep_blank_values=True))
    pairs.pop("Action", None)
    pairs.pop("Version", None)
    model = service_model(service).operation_model(action)
    tree: Tree = {}
    for name, value in pairs.items():
        node = tree
        *steps, last = name.split(".")
        for step in steps:
            node = node.setdefault(step, {})
        node[last] = value
    faults: list[str] = []
    shape = model.input_shape
    parameters = _structure(shape, tree, action, faults) if shape else {}
    if not shape and tree:
        faults.append(f"{action} takes no parameters, got {sorted(tree)}")
    return parameters, faults


def check_json(service: str, action: str, body: Tree) -> list[str]:
    model: OperationModel = service_model(service).operation_model(action)
    if model.input_shape is None:
        return []
    faults = [f"{action}: {key} is not known" for key in body if key not in model.input_shape.members]
    report = ParamValidator().validate(body, model.input_shape)
    return faults + ([f"{action}: {report.generate_report()}"] if report.has_errors() else [])


def _wire_name(name: str, shape: Shape) -> str:
    """EC2's protocol spells members with queryName, else locationName with a capital, else their own name."""
    given = shape.serialization.get("queryName")
    if given:
        return str(given)
    location = str(shape.serialization.get("name") or name)
    return location[0].upper() + location[1:]


def _structure(shape: StructureShape, tree: Tree, path: str, faults: list[str]) -> Tree:
    by_wire = {_wire_name(name, member): (name, member) for name, member in shape.members.items()}
    found: Tree = {}
    for key, value in tree.items():
        if key not in by_wire:
            faults.append(f"{path}.{key} is not known")
            continue
        name, member = by_wire[key]
        found[name] = _value(member, value, f"{path}.{name}", faults)
    for name in shape.required_members:
        if name not in found:
            faults.append(f"{path}.{name} is missing")
    return found


def _value(shape: Shape, value: Any, path: str, faults: list[str]) -> Any:
    if isinstance(shape, StructureShape):
        if not isinstance(value, dict):
            faults.append(f"{path} is no structure")
            return {}
        return _structure(shape, value, path, faults)
    if isinstance(shape, ListShape):
        if isinstance(value, dict) and set(value) == {"member"}:
            value = value["member"]  # as IAM's protocol spells lists; EC2's leaves the word out
        if not isinstance(value, dict) or sorted(value, key=int) != [str(n) for n in range(1, len(value) + 1)]:
            faults.append(f"{path} is no list")
            return []
        return [_value(shape.member, value[str(n)], f"{path}[{n}]", faults) for n in range(1, len(value) + 1)]
    if not isinstance(value, str):
        faults.append(f"{path} is no scalar")
        return None
    return _scalar(shape, value, path, faults)


def _scalar(shape: Shape, value: str, path: str, faults: list[str]) -> Any:
    kind = shape.type_name
    wrong = f"{path} = {value[:60]!r} is no {kind}"
    if kind == "boolean":
        if value not in ("true", "false"):
            faults.append(wrong)
        return value == "true"
    if kind in ("integer", "long"):
        if not re.fullmatch(r"-?\d+", value):
            faults.append(wrong)
            return 0
        return int(value)
    if kind in ("float", "double") and not re.fullmatch(r"-?\d+(\.\d+)?([eE][-+]?\d+)?", value):
        faults.append(wrong)
    if kind == "timestamp" and not re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z", value):
        faults.append(wrong)
    if kind == "blob":
        try:
            return base64.b64decode(value, validate=True)
        except binascii.Error:
            faults.append(wrong)
    enum = getattr(shape, "enum", None)
    if enum and value not in enum:
        faults.append(f"{path} = {value!r} is none of {', '.join(enum[:12])}")
    return value
