"""What an API server says to a KubeRay object: the custom resource definitions' schemas, read as it reads them.

A definition's schema is OpenAPI v3 with Kubernetes' additions (`x-kubernetes-...`), not JSON Schema. Besides what that knows,
objects are closed (the server drops what it does not know, in silence unless it is asked to be strict), a null is as good as
absent, defaults are filled in before anything is checked, list maps have unique keys, and rules are written in CEL, of which
there are so few that they are written out here.
"""

from __future__ import annotations

import gzip
import json
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

from jsonschema import Draft4Validator, ValidationError, validators

from tests.kuberay import metadata
from tests.kuberay.paths import dotted

Schema = dict[str, Any]
Errors = Iterator[ValidationError]

FOLDER = Path(__file__).parent / "crds"
KINDS = ("PodMonitor", "RayCluster", "RayCronJob", "RayJob", "RayService")
RANGES = {"int32": 31, "int64": 63}
TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:\d\d)\Z")
MANAGERS = ("ray.io/kuberay-operator", "kueue.x-k8s.io/multikueue")

# CEL: the rule's text -> whether an object that is created obeys it.
CEL: dict[str, Callable[[Any], bool]] = {
    "self == oldSelf": lambda self: True,  # looks at updates only
    "self in ['ray.io/kuberay-operator', 'kueue.x-k8s.io/multikueue']": lambda self: self in MANAGERS,
    "!((has(self.onSuccess) || has(self.onFailure)) && has(self.deletionRules))": lambda self: (
        not (("onSuccess" in self or "onFailure" in self) and "deletionRules" in self)
    ),
    "((has(self.onSuccess) && has(self.onFailure)) || has(self.deletionRules))": lambda self: (
        ("onSuccess" in self and "onFailure" in self) or "deletionRules" in self
    ),
    "!(has(self.jobStatus) && has(self.jobDeploymentStatus))": lambda self: (
        not ("jobStatus" in self and "jobDeploymentStatus" in self)
    ),
    "has(self.jobStatus) || has(self.jobDeploymentStatus)": lambda self: "jobStatus" in self or "jobDeploymentStatus" in self,
}  # fmt: skip


def faults(document: Any) -> list[str]:
    """Each fault as `path: sentence`, sorted by path; none for what a strict API server takes."""
    if not isinstance(document, dict) or document.get("kind") not in KINDS:
        return [f"kind: must be one of {', '.join(KINDS)}"]
    if json.loads(json.dumps(document, default=repr)) != document:
        return [".: holds what JSON has no word for: keys that are no text, tuples, dates"]
    definition = load(document["kind"])
    found = list(metadata.faults(document.get("metadata")))
    if document.get("apiVersion") != definition["apiVersion"]:
        found.append(f"apiVersion: must be {definition['apiVersion']}")
    stored = filled(document, definition["schema"])
    found += [
        f"{dotted(error.absolute_path)}: {error.message}"
        for error in VALIDATOR(definition["schema"]).iter_errors(stored)
    ]
    return sorted(found)


@cache
def load(kind: str) -> dict[str, Any]:
    """`source`, `apiVersion`, `kind` and `schema` of a definition."""
    return json.loads(gzip.decompress((FOLDER / f"{kind}.json.gz").read_bytes()))


def filled(value: Any, schema: Schema) -> Any:
    """As the server keeps it: a null where null is not allowed is absent, and what is absent has its default."""
    if isinstance(value, dict):
        known: dict[str, Schema] = schema.get("properties", {})
        others = schema.get("additionalProperties") or {}
        kept = {
            name: filled(each, known.get(name, others))
            for name, each in value.items()
            if each is not None or known.get(name, others).get("nullable", name not in known and not others)
        }
        defaults = {name: each["default"] for name, each in known.items() if "default" in each and name not in kept}
        return {**kept, **defaults}
    if isinstance(value, list):
        return [filled(each, schema.get("items", {})) for each in value]
    return value


# -- words of a schema; each yields what is wrong with one value


def _properties(validator: Any, known: Schema, value: Any, schema: Schema) -> Errors:
    if not isinstance(value, dict):
        return
    closed = not schema.get("x-kubernetes-preserve-unknown-fields") and "additionalProperties" not in schema
    for name, each in value.items():
        if name in known:
            yield from validator.descend(each, known[name], path=name, schema_path=name)
        elif closed:
            yield ValidationError(f"unknown field {name!r}")


def _type(validator: Any, wanted: str, value: Any, schema: Schema) -> Errors:
    if not validator.is_type(value, wanted) and not (value is None and schema.get("nullable")):
        yield ValidationError(f"must be of type {wanted}, not {type(value).__name__}")


def _required(validator: Any, names: list[str], value: Any, schema: Schema) -> Errors:
    if isinstance(value, dict):
        yield from (ValidationError(f"lacks {name!r}") for name in names if name not in value)


def _any_of(validator: Any, options: list[Schema], value: Any, schema: Schema) -> Errors:
    if not schema.get("x-kubernetes-int-or-string"):  # which says the same in one word
        yield from Draft4Validator.VALIDATORS["anyOf"](validator, options, value, schema)


def _int_or_string(validator: Any, wanted: bool, value: Any, schema: Schema) -> Errors:
    if wanted and not (validator.is_type(value, "integer") or isinstance(value, str)):
        yield ValidationError(f"must be an integer or text, not {type(value).__name__}")


def _pattern(validator: Any, pattern: str, value: Any, schema: Schema) -> Errors:
    if isinstance(value, str) and not re.search(re.sub(r"\$(?=\)?\Z)", r"\\Z", pattern), value):
        yield ValidationError(f"{value!r} does not match {pattern}")


def _format(validator: Any, name: str, value: Any, schema: Schema) -> Errors:
    if name in RANGES and validator.is_type(value, "integer") and not -(2 ** RANGES[name]) <= value < 2 ** RANGES[name]:
        yield ValidationError(f"{value} is out of range for {name}")
    if name == "date-time" and isinstance(value, str) and not TIME.match(value):
        yield ValidationError(f"{value!r} is no time of RFC 3339")


def _unique_keys(validator: Any, keys: list[str], value: Any, schema: Schema) -> Errors:
    if isinstance(value, list):
        found = [tuple(json.dumps(each.get(key)) for key in keys) for each in value if isinstance(each, dict)]
        for twice in _repeated(found):
            yield ValidationError(f"two entries have {', '.join(f'{k} {v}' for k, v in zip(keys, twice, strict=True))}")


def _set(validator: Any, kind: str, value: Any, schema: Schema) -> Errors:
    if kind == "set" and isinstance(value, list):
        yield from (
            ValidationError(f"{twice} is there twice") for twice in _repeated(json.dumps(each) for each in value)
        )


def _cel(validator: Any, rules: list[dict[str, str]], value: Any, schema: Schema) -> Errors:
    for rule in rules:
        if not CEL[rule["rule"]](value):
            yield ValidationError(rule["message"])


def _repeated(values: Iterable[Any]) -> list[Any]:
    return [value for value, times in Counter(values).items() if times > 1]


VALIDATOR = validators.extend(
    Draft4Validator,
    {
        "properties": _properties,
        "type": _type,
        "required": _required,
        "anyOf": _any_of,
        "x-kubernetes-int-or-string": _int_or_string,
        "pattern": _pattern,
        "format": _format,
        "x-kubernetes-list-map-keys": _unique_keys,
        "x-kubernetes-list-type": _set,
        "x-kubernetes-validations": _cel,
    },
)
