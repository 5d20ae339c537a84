"""The JSON Schema of `cluster.yaml`, for editors. As a program: `python -m clusterctl.spec.schema` prints it, with
`--markdown` the reference of every key, with `--markdown FILE` it is brought up to date in FILE."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from clusterctl.spec.model import ClusterSpec
from clusterctl.spec.places import OF_POOLS, OF_THE_HEAD

DIALECT = "https://json-schema.org/draft/2020-12/schema"


def json_schema() -> dict[str, Any]:
    """What an editor needs to complete and check a spec: keys and types. Contradictions are left to `validate`."""
    schema = _without_null(ClusterSpec.model_json_schema(by_alias=True))
    schema["$defs"]["ProviderSettings"] |= {"minProperties": 1, "maxProperties": 1}
    for settings in schema["$defs"]["ProviderSettings"]["properties"].values():
        settings["anyOf"] = [{"$ref": settings.pop("$ref")}, {"type": "null"}]  # `provider: {docker: }`
    schema["$defs"]["Engine"]["properties"]["ray"]["anyOf"] = [
        {"$ref": schema["$defs"]["Engine"]["properties"]["ray"].pop("$ref")},
        {"type": "null"},
    ]
    schema["properties"]["engine"]["default"] = "ray"
    _take_places(schema)
    return {"$schema": DIALECT, **schema, "title": "cluster.yaml of clusterctl"}


def _take_places(schema: dict[str, Any]) -> None:
    """`provider` may be a list of places, and what means something to one cloud only be written by place."""
    provider = schema["properties"]["provider"]
    options = provider.pop("oneOf", None) or provider.pop("anyOf")
    provider["anyOf"] = [
        *options,
        {"type": "array", "items": {"anyOf": options}, "minItems": 1, "x-unit": "a list of places"},
    ]
    provider.pop("discriminator", None)
    for name, keys in (("Pool", OF_POOLS), ("Head", OF_THE_HEAD)):
        properties = schema["$defs"][name]["properties"]
        for key in keys:
            moved = {
                part: properties[key].pop(part) for part in ("type", "items", "minLength") if part in properties[key]
            }
            by_place = {"type": "object", "additionalProperties": moved, "x-unit": "the same by place"}
            properties[key]["anyOf"] = [moved, by_place]


def _without_null(schema: Any) -> Any:
    """A key of a spec is left out rather than empty: optional fields lose pydantic's null."""
    if isinstance(schema, list):
        return [_without_null(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    result = {key: _without_null(value) for key, value in schema.items()}
    options = result.get("anyOf", [])
    if {"type": "null"} in options:
        rest = [option for option in options if option != {"type": "null"}]
        del result["anyOf"]
        result = {**rest[0], **result} if len(rest) == 1 else {**result, "anyOf": rest}
    default = result.get("default", ...)
    if default is None or (default is not ... and "$ref" in result):  # a mapping left out has the defaults of its keys
        del result["default"]
    return result


def main(arguments: list[str]) -> int:
    """Prints the JSON schema or the reference, or writes the reference into a page. Returns the exit code."""
    if not arguments:
        print(json.dumps(json_schema(), indent=2))
        return 0
    from clusterctl.spec.reference import render_reference, replace_reference

    if arguments[0] != "--markdown" or len(arguments) > 2:
        print("usage: python -m clusterctl.spec.schema [--markdown [FILE]]", file=sys.stderr)
        return 2
    if len(arguments) == 1:
        print(render_reference(json_schema()))
        return 0
    page = Path(arguments[1])
    page.write_text(replace_reference(page.read_text(encoding="utf-8"), json_schema()), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
