"""What pydantic found, as Findings in plain words, with paths into the text."""

from __future__ import annotations

import types
from collections.abc import Iterator
from typing import Annotated, Any, Union, get_args, get_origin

from pydantic import BaseModel
from pydantic_core import ErrorDetails

from clusterctl.spec.document import Document
from clusterctl.spec.faults import FINDINGS, Finding, Path, did_you_mean, flow, shorten
from clusterctl.spec.model import ClusterSpec
from clusterctl.spec.pool import Pool
from clusterctl.spec.providers.registry import EXAMPLE, KINDS

# what other tools call things -> what to write here
_ELSEWHERE = {
    "cluster_name": "cluster", "name": "cluster", "max_workers": "max", "min_workers": "min", "max_nodes": "max",
    "min_nodes": "min", "instance_type": "instances", "instance_types": "instances", "machine_type": "instances",
    "node_type": "instances", "accelerators": "gpu", "gpus": "gpu", "spot": "market: [spot]",
    "use_spot": "market: [spot]", "zone": "zones", "availability_zone": "zones", "availability_zones": "zones",
    "workers": "pools", "nodes": "pools", "node_pools": "pools", "worker_nodes": "pools",
    "available_node_types": "pools", "setup_commands": "setup", "initialization_commands": "setup",
    "file_mounts": "files", "idle_timeout_minutes": "idle_timeout", "docker": "image", "envs": "env",
    "environment": "env", "region": f"provider: {flow(EXAMPLE)}", "location": "region",
    "ssh_user": "user", "ssh_private_key": "key", "disk_size": "disk", "head_node": "head", "head_node_type": "head",
    "num_cpus": "resources: {CPU: 1}", "num_gpus": "gpu: {count: 1}", "cpus": "resources: {CPU: 1}",
    "cpu": "resources: {CPU: 1}", "memory": "resources: {memory: 8GiB}",
}  # fmt: skip

_PROVIDERS_ELSEWHERE = {other: kind.name for kind in KINDS.values() for other in kind.other_names}
_BOOLEANS = {"yes": "true", "on": "true", "y": "true", "no": "false", "off": "false", "n": "false"}

_KINDS = {
    "string_type": "text",
    "int_type": "a whole number",
    "int_from_float": "a whole number",
    "int_parsing": "a whole number",
    "float_type": "a number",
    "finite_number": "a finite number",
    "bool_type": "true or false",
    "list_type": "a list, such as [a, b]",
    "dict_type": "a mapping, such as {key: value}",
    "model_type": "a mapping, such as {key: value}",
    "model_attributes_type": "a mapping, such as {key: value}",
}
_BOUNDS = {
    "greater_than": ("more than", "gt"),
    "greater_than_equal": ("at least", "ge"),
    "less_than": ("less than", "lt"),
    "less_than_equal": ("at most", "le"),
}


def findings_of(error: ErrorDetails, document: Document) -> Iterator[Finding]:
    """The Findings of one of pydantic's errors, at paths in the text (without the tags of unions)."""
    path = path_in_text(error["loc"], document)
    kind, context, value = error["type"], error.get("ctx", {}), error["input"]
    name = _name(path)
    if kind == FINDINGS:
        for found in context["findings"]:
            yield Finding((*path, *found.path), found.message, found.suggestion, found.at_key)
    elif kind == "missing":
        key = str(error["loc"][-1])
        if not _misnamed(path, key, document):
            yield Finding(path, f"{key!r} is missing", _example(path, key), at_key=True)
    elif kind == "extra_forbidden":
        yield Finding(path, f"unknown key {shorten(path[-1])}", suggest_key(path), at_key=True)
    elif kind in _KINDS:
        yield Finding(path, f"{name} must be {_KINDS[kind]}, not {describe(value)}", _type_fix(kind, value, path))
    elif kind in _BOUNDS:
        words, key = _BOUNDS[kind]
        yield Finding(path, f"{name} must be {words} {context[key]:g}, not {value:g}")
    elif kind == "literal_error":
        near = _PROVIDERS_ELSEWHERE.get(str(value).lower(), "") if path[-1:] == ("provider",) else ""
        suggestion = f"write {near}" if near else did_you_mean(str(value), _choices(context["expected"]))
        yield Finding(path, f"{name} must be {context['expected']}, not {describe(value)}", suggestion)
    elif kind in ("union_tag_invalid", "union_tag_not_found"):
        yield Finding(path, f"{name} must be {_forms(path)}, not {describe(value)}")
    elif kind == "string_pattern_mismatch":
        yield Finding(
            path,
            f"{shorten(value)} is not a name: lower-case letters, digits and '-', at most 40, a letter first",
            _as_name(value),
        )
    else:
        yield Finding(path, error["msg"].removeprefix("Value error, "))


def _name(path: Path) -> str:
    """What to call the value at `path`."""
    if path and isinstance(path[-1], int):
        return f"item {path[-1] + 1} of {str(path[-2])!r}"
    return repr(str(path[-1])) if path else "the spec"


def path_in_text(location: tuple[str | int, ...], document: Document) -> Path:
    """The part of pydantic's location that the text has: union tags and the like are left out."""
    path: Path = ()
    for step in location:
        if document.node((*path, step)) is not None:
            path = (*path, step)
    return path


def describe(value: Any) -> str:
    """A value in a message: "the text 'x'", "a list", "5"."""
    if isinstance(value, str):
        return f"the text {shorten(value)}"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, list | tuple):
        return "a list"
    if isinstance(value, dict):
        return "a mapping"
    return "nothing" if value is None else f"{value}"


def _type_fix(kind: str, value: Any, path: Path) -> str:
    """What to write instead of a value of the wrong kind."""
    if kind == "list_type" and isinstance(value, str | int | float) and not isinstance(value, bool):
        return f"write {flow([value])}"
    if kind == "list_type" and path == ("pools",):
        return "begin each pool with `- name: NAME`, its other keys below"
    if kind in ("dict_type", "model_type", "model_attributes_type"):
        return _example(path[:-1], str(path[-1]))
    if kind in ("int_type", "float_type") and isinstance(value, str):
        digits = value.replace("_", "").replace(",", "")
        return f"write {digits}" if digits.isdigit() else ""
    if kind == "bool_type" and isinstance(value, str):
        return f"write {_BOOLEANS[value.lower()]}" if value.lower() in _BOOLEANS else ""
    return ""


def _choices(expected: str) -> list[str]:
    """The values in pydantic's "'a', 'b' or 'c'"."""
    return [part.strip().strip("'") for part in expected.replace(" or ", ",").split(",")]


def _forms(path: Path) -> str:
    """The forms that the key at `path` may have."""
    words = (
        "a list" if get_origin(a) is list else "a mapping" if _is_model(a) else "text" for a in annotations_at(path)
    )
    return " or ".join(dict.fromkeys(words))


def _as_name(value: str) -> str:
    name = "-".join("".join(c if c.isascii() and c.isalnum() else " " for c in value.lower()).split()).lstrip(
        "0123456789-"
    )[:40]
    return f"write {name}" if name else ""


def _example(path: Path, key: str) -> str:
    """What to write for a key that is missing, from the examples of its field."""
    model = model_at(path)
    info = next((f for n, f in fields_of(model).items() if n == key), None) if model else None
    if key == "pools":
        return "write `pools: [{name: cpu, max: 3}]`"
    return f"write `{key}: {flow(info.examples[0])}`" if info and info.examples else ""


def suggest_key(path: Path) -> str:
    """What the unknown key at the end of `path` may have been meant to be."""
    word, model = str(path[-1]), model_at(path[:-1])
    known = list(fields_of(model)) if model else []
    elsewhere = _ELSEWHERE.get(word.lower(), "")
    if elsewhere and elsewhere.split(":")[0] in known:
        return f"write `{elsewhere}`"
    if elsewhere.split(":")[0] in Pool.model_fields and model is ClusterSpec:
        return f"write `{elsewhere}` in a pool"
    if model is ClusterSpec and word in Pool.model_fields:
        return "it belongs in a pool"
    near = did_you_mean(word, known)
    if near:
        return near
    if word in ClusterSpec.model_fields:
        return "it belongs at the top of the spec"
    return f"known here: {', '.join(sorted(known))}" if known else "it has no settings"


def _misnamed(path: Path, key: str, document: Document) -> bool:
    """Whether a key that is missing stands there under another name, which is a fault of its own."""
    node, model = document.node(path), model_at(path)
    known = list(fields_of(model)) if model else []
    written = [name for name in node.value if name not in known] if node and isinstance(node.value, dict) else []
    return any(_ELSEWHERE.get(name) == key or did_you_mean(name, known) == f"did you mean {key!r}?" for name in written)


def fields_of(model: type[BaseModel]) -> dict[str, Any]:
    """The fields of `model` by the key that users write."""
    return {info.alias or name: info for name, info in model.model_fields.items()}


def model_at(path: Path) -> type[BaseModel] | None:
    """The model that stands at `path` of a spec, or None where there is none (free keys, scalars)."""
    return next((leaf for leaf in annotations_at(path) if _is_model(leaf)), None)


def annotations_at(path: Path) -> list[Any]:
    """The types that the value at `path` may have."""
    here: list[Any] = [ClusterSpec]
    for step in path:
        here = [inner for annotation in here for inner in _inside(annotation, step)]
    return [annotation for annotation in here if annotation is not types.NoneType]


def _inside(annotation: Any, step: str | int) -> Iterator[Any]:
    if _is_model(annotation):
        info = fields_of(annotation).get(str(step))
        if info is not None:
            yield from _leaves(info.annotation)
    elif get_origin(annotation) is list and isinstance(step, int):
        yield from _leaves(get_args(annotation)[0])
    elif get_origin(annotation) is dict:
        yield from _leaves(get_args(annotation)[1])


def _leaves(annotation: Any) -> Iterator[Any]:
    """The alternatives of an annotation, without Annotated and unions."""
    if get_origin(annotation) is Annotated:
        yield from _leaves(get_args(annotation)[0])
    elif get_origin(annotation) in (Union, types.UnionType):
        for option in get_args(annotation):
            yield from _leaves(option)
    else:
        yield annotation


def _is_model(annotation: Any) -> bool:
    return isinstance(annotation, type) and issubclass(annotation, BaseModel)
