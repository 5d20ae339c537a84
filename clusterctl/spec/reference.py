"""The reference of every key as Markdown, from the JSON Schema."""

from __future__ import annotations

import json
from typing import Any

from clusterctl.spec.providers.registry import KINDS

BEGIN, END = "<!-- reference: begin -->", "<!-- reference: end -->"

_TYPES = {
    "string": "text",
    "integer": "whole number",
    "number": "number",
    "boolean": "`true` or `false`",
    "null": "nothing",
    "object": "mapping",
}
# object -> the heading of its section, in the order of the page
_HEADINGS = {
    "ClusterSpec": "The cluster",
    "ProviderSettings": "`provider`",
    **{kind.settings.__name__: f"`provider: {{{kind.name}: ...}}`" for kind in KINDS.values()},
    "Claim": "`volumes` of `provider: {kubernetes: ...}`",
    "Auth": "`auth`",
    "Head": "`head`",
    "Engine": "`engine`",
    "Ray": "`engine: {ray: ...}`",
    "Pool": "`pools`",
    "Gpu": "`gpu` of a pool",
    "Toleration": "`tolerations` of a pool or the head",
    "Host": "`hosts` of a pool, `host` of the head",
    "PoolLimits": "`limits` of a pool",
    "FileMount": "`files`",
    "Mount": "`mounts`",
    "Limits": "`limits`",
    "Budget": "`limits: {budget: ...}`",
    "UserLimits": "`limits: {per_user: {NAME: ...}}`",
    "Queue": "`queue`",
    "ServiceEntry": "`services`",
    "Lifetime": "`lifetime`",
}


def render_reference(schema: dict[str, Any]) -> str:
    """One section for each kind of mapping in a spec, with a table of its keys."""
    objects = {"ClusterSpec": schema, **schema["$defs"]}
    missing = objects.keys() - _HEADINGS.keys()
    if missing:
        raise LookupError(f"no heading in the reference for {', '.join(sorted(missing))}: add it to _HEADINGS")
    return "\n".join(_section(_HEADINGS[name], objects[name], objects) for name in _HEADINGS)


def replace_reference(page: str, schema: dict[str, Any]) -> str:
    """`page` with what stands between its two marks brought up to date."""
    before, rest = page.split(BEGIN)
    after = rest.split(END)[1]
    return f"{before}{BEGIN}\n\n{render_reference(schema)}\n{END}{after}"


def _section(heading: str, schema: dict[str, Any], objects: dict[str, Any]) -> str:
    lines = [f"### {heading}", "", schema.get("description", ""), ""]
    properties = schema.get("properties", {})
    if properties:
        lines += ["| key | value | default | meaning |", "|---|---|---|---|"]
        required = schema.get("required", [])
        lines += [_row(key, _described(value, objects), key in required) for key, value in properties.items()]
        lines.append("")
    return "\n".join(lines)


def _described(schema: dict[str, Any], objects: dict[str, Any]) -> dict[str, Any]:
    """`schema` with the description of the object it refers to, where it has none of its own."""
    options = [schema, *schema.get("anyOf", [])]
    target = next((option["$ref"].rsplit("/", 1)[1] for option in options if "$ref" in option), None)
    return {"description": objects[target]["description"], **schema} if target else schema


def _row(key: str, schema: dict[str, Any], required: bool) -> str:
    default = schema.get("default")
    if schema.get("x-unit") == "duration" and default is not None:
        default = f"{default / 60:g}m"
    default = "required" if required else _value(default)
    meaning = schema.get("description", "")
    if schema.get("examples"):
        meaning += f" Example: {_value(schema['examples'][0])}."
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in (f"`{key}`", _type(schema), default, meaning)) + " |"


def _value(value: Any) -> str:
    """A value as it would stand in a spec, on one line."""
    if value in (None, "", [], {}):
        return ""
    text = json.dumps(value) if not isinstance(value, str) else value
    return f"`{text}`"


def _type(schema: dict[str, Any]) -> str:
    """The form of a value in words."""
    if "$ref" in schema:
        return f"mapping, see {_HEADINGS[schema['$ref'].rsplit('/', 1)[1]]}"
    for key in ("anyOf", "oneOf"):
        if key in schema:
            words = dict.fromkeys(_type(option) for option in schema[key] if option != {"type": "null"})
            return " or ".join(word for word in words if word)
    if "enum" in schema or "const" in schema:
        return " or ".join(f"`{choice}`" for choice in schema.get("enum", [schema.get("const")]) if choice)
    if "x-unit" in schema:
        return schema["x-unit"]
    kind = schema.get("type")
    if kind == "array":
        return f"list of {_type(schema['items'])}"
    if kind == "object" and isinstance(schema.get("additionalProperties"), dict):
        return f"mapping of names to {_type(schema['additionalProperties'])}"
    return _TYPES[kind[0] if isinstance(kind, list) else str(kind)]
