"""The models of bodies, each read when it is first asked for. Microsoft's packages come in two makes: members are fields of a
class (TypeSpec), or entries of its `_attribute_map` and `_validation` (AutoRest)."""

from __future__ import annotations

import ast
import functools
import re
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from tests.cloud.azure.schema.packages import Package

_READING = threading.RLock()  # Python 3.11 counts the depth of what `ast` makes for all threads together
_CLASS = re.compile(r"^(?=class )", re.M)
_NAME = re.compile(r"class (\w+)")
_OPEN = {"VirtualMachineSizeTypes"}  # enumerations of what is data: there are more than they list
_PLAIN = {
    "str": "str", "int": "int", "float": "float", "bool": "bool", "object": "any", "Any": "any", "JSON": "any",
    "MutableMapping": "any", "datetime": "time", "date": "time", "iso-8601": "time", "rfc-1123": "time", "time": "time",
    "duration": "str", "timedelta": "str", "long": "int", "bytes": "str", "bytearray": "str", "base64": "str",
    "decimal": "float", "Decimal": "float",
}  # fmt: skip


@dataclass(frozen=True)
class Type:
    """`kind`: str, int, float, bool, time, any; list and dict, of `inner`; enum and model, whose `name` is looked up in
    `models`."""

    kind: str
    inner: Type | None = None
    name: str = ""
    models: Models | None = field(default=None, repr=False, compare=False)

    def values(self) -> tuple[str, ...]:
        """Of an enum; () takes any text."""
        assert self.models is not None
        return self.models.enums[self.name]

    def model(self) -> Model:
        assert self.models is not None
        return self.models.get(self.name)


@dataclass(frozen=True)
class Member:
    type: Type
    required: bool = False
    read_only: bool = False


@dataclass
class Model:
    """`discriminator`: the member whose value says which of `kinds` it is."""

    name: str
    members: dict[str, Member]
    discriminator: str = ""
    kinds: dict[str, str] = field(default_factory=dict)


class Models:
    def __init__(self, package: Package) -> None:
        self._package = package
        self._read: dict[str, Model] = {}
        self._nested: dict[str, Model] = {}

    @functools.cached_property
    def _sources(self) -> dict[str, str]:
        return {_NAME.match(c).group(1): c for c in _CLASS.split(self._package.models()) if c.startswith("class ")}  # type: ignore[union-attr]

    @functools.cached_property
    def enums(self) -> dict[str, tuple[str, ...]]:
        found: dict[str, tuple[str, ...]] = {}
        for chunk in _CLASS.split(self._package.enums()):
            if name := _NAME.match(chunk):
                values = re.findall(r'^    [A-Z_]\w* = "([^"]*)"', chunk, re.M)
                found[name.group(1)] = () if name.group(1) in _OPEN else tuple(values)
        return found

    def reference(self, name: str) -> Type:
        return Type("model", name=name, models=self)

    def get(self, name: str) -> Model:
        if name in self._nested:
            return self._nested[name]
        if name not in self._read:
            with _READING:
                self._read[name] = self._parse(name)
        return self._read[name]

    # ------------------------------------------------------------ reading

    def _parse(self, name: str) -> Model:
        node = ast.parse(self._sources[name]).body[0]
        assert isinstance(node, ast.ClassDef)
        model = Model(name, {})
        for base in node.bases:
            if isinstance(base, ast.Name) and base.id in self._sources:
                inherited = self.get(base.id)
                model.members.update(inherited.members)
        assigned = {
            t.id: a.value for a in node.body if isinstance(a, ast.Assign) for t in a.targets if isinstance(t, ast.Name)
        }
        if "_attribute_map" in assigned:
            self._read_map(model, assigned)
        for statement in node.body:
            if isinstance(statement, ast.AnnAssign) and isinstance(statement.value, ast.Call):
                self._read_field(model, statement)
        if model.discriminator and not model.kinds:
            model.kinds = dict(self._kinds(name))
        return model

    def _kinds(self, name: str) -> Iterator[tuple[str, str]]:
        for source in self._sources.values():
            head = source[: source.index("\n")]
            found = re.match(rf'class (\w+)\({name}, discriminator="([^"]*)"\)', head)
            if found:
                yield found.group(2), found.group(1)

    def _read_field(self, model: Model, statement: ast.AnnAssign) -> None:
        assert isinstance(statement.target, ast.Name) and isinstance(statement.value, ast.Call)
        words = {k.arg: ast.literal_eval(k.value) for k in statement.value.keywords if k.arg in ("name", "visibility")}
        name = words.get("name", statement.target.id)
        if statement.target.id.startswith("__"):
            return
        maker = statement.value.func
        if isinstance(maker, ast.Name) and maker.id == "rest_discriminator":
            model.discriminator = name
        read_only = words.get("visibility") == ["read"]
        optional = ast.unparse(statement.annotation).startswith("Optional[")
        model.members[name] = Member(self._annotated(statement.annotation), not optional and not read_only, read_only)

    def _annotated(self, node: ast.expr) -> Type:
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            return self._annotated(ast.parse(node.value, mode="eval").body)
        if isinstance(node, ast.Attribute):
            return self._named(node.attr)
        if isinstance(node, ast.Name):
            return self._named(node.id)
        if not isinstance(node, ast.Subscript):
            return Type("any")
        outer, inner = ast.unparse(node.value), node.slice
        parts = list(inner.elts) if isinstance(inner, ast.Tuple) else [inner]
        if outer == "Optional":
            return self._annotated(parts[0])
        if outer in ("list", "List"):
            return Type("list", inner=self._annotated(parts[0]))
        if outer in ("dict", "Dict"):
            return Type("dict", inner=self._annotated(parts[1]))
        if outer == "Union":
            known = [self._annotated(p) for p in parts if not (isinstance(p, ast.Name) and p.id == "str")]
            return known[0] if len(known) == 1 and known[0].kind == "enum" else Type("any")
        return Type("str" if outer == "Literal" else "any")

    def _named(self, name: str) -> Type:
        if name in self.enums:
            return Type("enum", name=name, models=self)
        if name in self._sources:
            return self.reference(name)
        return Type(_PLAIN.get(name, "any"))

    def _read_map(self, model: Model, assigned: dict[str, ast.expr]) -> None:
        rules: dict[str, dict[str, Any]] = (
            ast.literal_eval(assigned["_validation"]) if "_validation" in assigned else {}
        )
        for attribute, entry in ast.literal_eval(assigned["_attribute_map"]).items():
            path = [part.replace("\\.", ".") for part in re.split(r"(?<!\\)\.", entry["key"])]
            rule = rules.get(attribute, {})
            member = Member(self._written(entry["type"]), rule.get("required", False), rule.get("readonly", False))
            self._put(model, path, member)

    def _put(self, model: Model, path: list[str], member: Member) -> None:
        """`properties.a` is a member of a model without a name of its own, which is needed where one of its members is."""
        if len(path) == 1:
            model.members[path[0]] = member
            return
        name = f"{model.name}.{path[0]}"
        inner = self._nested.setdefault(name, Model(name, {}))
        known = model.members.get(path[0])
        needed = member.required and not member.read_only
        model.members[path[0]] = Member(self.reference(name), needed or (known is not None and known.required))
        self._put(inner, path[1:], member)

    def _written(self, text: str) -> Type:
        if text[0] in "[{":
            return Type("list" if text[0] == "[" else "dict", inner=self._written(text[1:-1]))
        return self._named(text)
