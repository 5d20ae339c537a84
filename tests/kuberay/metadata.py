"""What an API server says to any object's metadata, and to names and labels wherever they stand."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

LABEL_1123 = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?\Z")
LABEL_1035 = re.compile(r"[a-z]([-a-z0-9]*[a-z0-9])?\Z")
SUBDOMAIN = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*\Z")
WORD = re.compile(r"[A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?\Z")
TEXTS = ("annotations", "labels")
FIELDS = frozenset(
    {
        "annotations",
        "creationTimestamp",
        "deletionGracePeriodSeconds",
        "deletionTimestamp",
        "finalizers",
        "generateName",
        "generation",
        "labels",
        "managedFields",
        "name",
        "namespace",
        "ownerReferences",
        "resourceVersion",
        "selfLink",
        "uid",
    }
)
ANNOTATION_BYTES = 256 * 1024  # all of an object's together


def faults(metadata: Any) -> Iterator[str]:
    """As `path: sentence`."""
    if metadata is None:
        yield "metadata: must be an object"
    if not isinstance(metadata, dict):  # which the schema says
        return
    yield from (f"metadata: unknown field {name!r}" for name in metadata if name not in FIELDS)
    name = name_of(metadata)
    if len(name) > 253 or not SUBDOMAIN.match(name):
        yield f"metadata.name: {name!r} is no DNS subdomain of RFC 1123"
    space = metadata.get("namespace", "default")
    if not isinstance(space, str) or len(space) > 63 or not LABEL_1123.match(space):
        yield f"metadata.namespace: {space!r} is no DNS label of RFC 1123"
    for field in TEXTS:
        yield from _texts(f"metadata.{field}", metadata.get(field) or {}, labels=field == "labels")


def name_of(metadata: dict[str, Any]) -> str:
    """Its name, or one as the server makes them of `generateName`: with five letters more."""
    name, start = metadata.get("name"), metadata.get("generateName")
    return str(name) if name is not None else f"{start}00000" if start else ""


def _texts(path: str, values: Any, *, labels: bool) -> Iterator[str]:
    if not isinstance(values, dict):
        yield f"{path}: must be an object"
        return
    for name, value in values.items():
        if not isinstance(value, str):
            yield f"{path}.{name}: must be of type string, not {type(value).__name__}"
        elif labels:
            yield from label_faults(f"{path}.{name}", name, value)
        elif not qualified(name.lower()):
            yield f"{path}.{name}: {name!r} is no name of an annotation"
    if (
        sum(len(str(name).encode()) + len(str(value).encode()) for name, value in values.items()) > ANNOTATION_BYTES
        and not labels
    ):
        yield f"{path}: more than {ANNOTATION_BYTES} bytes"


def label_faults(path: str, name: str, value: str) -> Iterator[str]:
    if not qualified(name):
        yield f"{path}: {name!r} is no name of a label"
    if value and (len(value) > 63 or not WORD.match(value)):
        yield f"{path}: {value!r} is no value of a label"


def qualified(name: str) -> bool:
    """`[prefix/]name`: the prefix a DNS subdomain, the name at most 63 characters."""
    prefix, slash, word = name.rpartition("/")
    good_prefix = not slash or (len(prefix) <= 253 and bool(SUBDOMAIN.match(prefix)))
    return good_prefix and len(word) <= 63 and bool(WORD.match(word))
