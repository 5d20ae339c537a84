"""What Google's own Discovery document says about a call: which method it is, and what is wrong with its parameters and body."""

from __future__ import annotations

import functools
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import googleapiclient

from tests.cloud.gcp.world import Refusal, invalid, required

_DOCUMENTS = Path(googleapiclient.__file__).with_name("discovery_cache") / "documents"
_RANGES = {
    "int32": (-(2**31), 2**31 - 1),
    "uint32": (0, 2**32 - 1),
    "int64": (-(2**63), 2**63 - 1),
    "uint64": (0, 2**64 - 1),
}
# Marked as required in the document, though another field does for them.
_ELSEWHERE = {("FutureReservation", "name"), ("Reservation", "name"), ("ResourcePolicy", "name")}


@dataclass(frozen=True)
class Method:
    id: str
    verb: str
    pattern: re.Pattern[str]
    parameters: Mapping[str, Mapping[str, Any]]
    request: str  # a schema's name, or ""


@dataclass
class Request:
    """A call that the document allows. `query` has lists for repeated parameters; `body` is without what only an answer has."""

    method: Method
    path: dict[str, str]
    query: dict[str, Any]
    body: dict[str, Any]


class Document:
    """One service's: `Document("compute.v1")`."""

    def __init__(self, name: str) -> None:
        text = (_DOCUMENTS / f"{name}.json").read_text()
        self._document: dict[str, Any] = json.loads(text)
        self.name, self.base = name, f"/{self._document['servicePath']}"
        self.service = self._document["rootUrl"].removeprefix("https://").rstrip("/")
        self.schemas: dict[str, Any] = self._document["schemas"]
        self._common: dict[str, Any] = self._document["parameters"]
        self._methods: dict[int, list[Method]] = {}
        self._open: list[Method] = []  # whose paths have parts of any length
        for entry in _methods_of(self._document):
            method = _method(self._document["servicePath"], entry)
            if "{+" in entry["path"]:
                self._open.append(method)
            else:
                self._methods.setdefault(entry["path"].count("/"), []).append(method)
        for methods in self._methods.values():
            methods.sort(key=lambda m: m.pattern.pattern.count("("))  # `aggregated/x` before `{a}/x`
        self._open.sort(key=lambda m: ":" not in m.pattern.pattern.rpartition(")")[2])  # `x/{+a}:verb` before `x/{+a}`
        self._segments = self._document["servicePath"].count("/")

    def method(self, verb: str, path: str) -> tuple[Method, dict[str, str]]:
        """`path` is what follows the service's host, unquoted."""
        candidates = [*self._methods.get(path.count("/") - self._segments - 1, []), *self._open]
        others = False
        for method in candidates:
            if found := method.pattern.fullmatch(path):
                if method.verb == verb:
                    return method, found.groupdict()
                others = True
        if others:
            raise Refusal(405, "httpMethodNotAllowed", f"{verb} is no method of {path}")
        raise Refusal(404, "notFound", f"The requested URL {path} was not found on this server.")

    def check(self, method: Method, path: dict[str, str], query: list[tuple[str, str]], body: Any) -> Request:
        """Raises Refusal in Google's words. `body` None: there was none."""
        wanted = self._query(method, query)
        for name, parameter in method.parameters.items():
            if parameter.get("required") and name not in path and name not in wanted:
                raise required(name)
            if name in path and "pattern" in parameter and not re.fullmatch(parameter["pattern"], path[name]):
                raise invalid(name, path[name], f"Must be a match of regex '{parameter['pattern']}'")
        if body is not None and not method.request:
            raise _unknown(f"{method.id} takes no body")
        clean = {}
        if method.request:
            clean = self._value({} if body is None else body, {"$ref": method.request}, "resource", method.id)
        return Request(method, path, wanted, clean)

    def _query(self, method: Method, query: list[tuple[str, str]]) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for name, text in query:
            parameter = method.parameters.get(name) or self._common.get(name)
            if parameter is None or parameter.get("location") == "path":
                raise _unknown(
                    f"Invalid JSON payload received. Unknown name \"{name}\": Cannot bind query parameter. Field '{name}' "
                    "could not be found in request message."
                )
            value = _scalar(text, parameter, name)
            if parameter.get("repeated"):
                found.setdefault(name, []).append(value)
            elif name in found:
                raise invalid(name, text, "It is given twice.")
            else:
                found[name] = value
        return found

    def _value(self, value: Any, schema: Mapping[str, Any], where: str, method: str) -> Any:
        name = schema.get("$ref", "")
        if name:
            schema = self.schemas[name]
        kind = schema.get("type", "object")
        if kind == "object":
            return self._object(value, schema, name, where, method)
        if kind == "array":
            if not isinstance(value, list):
                raise _ill_typed(where, value, "list")
            return [self._value(v, schema["items"], f"{where}[{n}]", method) for n, v in enumerate(value)]
        return _member(value, schema, where)

    def _object(self, value: Any, schema: Mapping[str, Any], name: str, where: str, method: str) -> dict[str, Any]:
        if not isinstance(value, dict):
            raise _ill_typed(where, value, "object")
        members, others = schema.get("properties", {}), schema.get("additionalProperties")
        clean: dict[str, Any] = {}
        for key, each in value.items():
            inner = members.get(key, others)
            if inner is None:
                raise _unknown(
                    f"Invalid JSON payload received. Unknown name \"{key}\" at '{where}': Cannot find field."
                )
            if each is None:
                continue  # the same as nothing
            checked = self._value(each, inner, f"{where}.{key}", method)
            if not _answers_only(inner):
                clean[key] = checked
        for key, inner in members.items():
            needed = method in inner.get("annotations", {}).get("required", ())
            if needed and key not in clean and (name, key) not in _ELSEWHERE:
                raise required(f"{where}.{key}")
        return clean


@functools.cache
def document(name: str) -> Document:
    return Document(name)


def _methods_of(part: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield from part.get("methods", {}).values()
    for inner in part.get("resources", {}).values():
        yield from _methods_of(inner)


def _method(base: str, entry: dict[str, Any]) -> Method:
    parameters = entry.get("parameters", {})

    def part(found: re.Match[str]) -> str:
        name = found.group(2)
        anything = parameters[name].get("pattern", "^.+$").removeprefix("^").removesuffix("$")
        return f"(?P<{name}>{anything})" if found.group(1) else f"(?P<{name}>[^/]+)"

    text = re.sub(r"\\{(\\\+)?(\w+)\\}", part, re.escape(f"/{base}{entry['path']}"))
    return Method(
        entry["id"], entry["httpMethod"], re.compile(text), parameters, entry.get("request", {}).get("$ref", "")
    )


@functools.cache
def _marks_answers(description: str) -> bool:
    return description.startswith(("[Output Only]", "Output only", "[Output only]"))


def _answers_only(schema: Mapping[str, Any]) -> bool:
    return bool(schema.get("readOnly")) or _marks_answers(schema.get("description", ""))


def _unknown(message: str) -> Refusal:
    return Refusal(400, "badRequest", message, status="INVALID_ARGUMENT")


def _ill_typed(where: str, value: Any, wanted: str) -> Refusal:
    return _unknown(f"Invalid value at '{where}' ({wanted}), {json.dumps(value)[:200]}")


def _scalar(text: str, schema: Mapping[str, Any], where: str) -> Any:
    """A query parameter."""
    kind = schema.get("type")
    if kind == "boolean":
        if text.lower() not in ("true", "false"):
            raise _ill_typed(where, text, "TYPE_BOOL")
        return text.lower() == "true"
    if kind == "integer":
        if not re.fullmatch(r"-?\d+", text):
            raise _ill_typed(where, text, "TYPE_" + schema.get("format", "int32").upper())
        number = int(text)
        low = int(schema.get("minimum", _RANGES[schema.get("format", "int32")][0]))
        high = int(schema.get("maximum", _RANGES[schema.get("format", "int32")][1]))
        if not low <= number <= high:
            raise invalid(where, text, f"Values must be within [{low}, {high}]")
        return number
    return _member(text, schema, where)


def _member(value: Any, schema: Mapping[str, Any], where: str) -> Any:
    """A member that is no object and no list; 64-bit numbers come out as text, as they go out."""
    kind, form = schema.get("type"), schema.get("format", "")
    if form in _RANGES:
        whole = isinstance(value, int) or (isinstance(value, str) and re.fullmatch(r"-?\d+", value))
        if isinstance(value, bool) or not whole:
            raise _ill_typed(where, value, "TYPE_" + form.upper())
        low, high = _RANGES[form]
        if not low <= int(value) <= high:
            raise _ill_typed(where, value, "TYPE_" + form.upper())
        return str(int(value)) if kind == "string" else int(value)
    if kind == "string":
        return _text(value, schema, where)
    if kind == "boolean" and not isinstance(value, bool):
        raise _ill_typed(where, value, "TYPE_BOOL")
    if kind in ("number", "integer") and (isinstance(value, bool) or not isinstance(value, (int, float))):
        raise _ill_typed(where, value, "TYPE_DOUBLE")
    return value


def _text(value: Any, schema: Mapping[str, Any], where: str) -> str:
    if not isinstance(value, str):
        raise _ill_typed(where, value, "TYPE_STRING")
    if "enum" in schema and value not in schema["enum"]:
        raise _ill_typed(where, value, "an enum")
    if "pattern" in schema and value and not re.fullmatch(schema["pattern"], value):
        raise invalid(where, value, f"Must be a match of regex '{schema['pattern']}'")
    return value
