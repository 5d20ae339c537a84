"""What the API server says to a document before anything is made of it.

1.20 drops fields that it does not know, in silence. So what comes back is compared with what was sent: a dropped field is a
fault, as it is for newer servers that are asked to be strict.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cached_property
from typing import Any

from tests.support.kubernetes.api import Api, ApiError, Object

NOTHING = (None, "", [], {}, False, 0)  # what built-in kinds leave out of what they give back


class DryRun:
    """As one user in one namespace."""

    def __init__(self, api: Api, namespace: str) -> None:
        self._api, self._namespace = api, namespace
        self._resources: dict[str, dict[str, Object]] = {}  # by apiVersion, then by kind

    def serves(self, document: Object) -> bool:
        """Whether the server knows the document's kind at all."""
        version = document.get("apiVersion", "")
        return version in self._versions and document.get("kind") in self._of(version)

    def faults(self, document: Object) -> list[str]:
        """Each as a sentence; none for what the server takes whole."""
        if not self.serves(document):
            return [f"no matches for kind {document.get('kind')!r} in version {document.get('apiVersion')!r}"]
        resource = self._of(document["apiVersion"])[document["kind"]]
        place = f"namespaces/{self._namespace}/" if resource["namespaced"] else ""
        sent = {**document, "metadata": {**document.get("metadata", {}), "namespace": self._namespace}}
        if not resource["namespaced"]:
            del sent["metadata"]["namespace"]
        try:
            kept = self._api.create(
                f"{_root(document['apiVersion'])}/{place}{resource['name']}", sent, dryRun="All", fieldManager="tests"
            )
        except ApiError as error:
            return [error.message]
        empty = NOTHING if _is_built_in(document["apiVersion"]) else (None,)
        return [f"unknown field {path}" for path in _dropped(sent, kept, empty, "")]

    @cached_property
    def _versions(self) -> frozenset[str]:
        groups = self._api.get("/apis")["groups"]
        return frozenset({"v1"} | {version["groupVersion"] for group in groups for version in group["versions"]})

    def _of(self, version: str) -> dict[str, Object]:
        if version not in self._resources:
            listed = self._api.get(_root(version))["resources"]
            self._resources[version] = {each["kind"]: each for each in listed if "/" not in each["name"]}
        return self._resources[version]


def _root(version: str) -> str:
    return f"/apis/{version}" if "/" in version else f"/api/{version}"


def _is_built_in(version: str) -> bool:
    return "." not in version.partition("/")[0] or ".k8s.io/" in version


def _dropped(sent: Any, kept: Any, empty: Sequence[Any], path: str) -> Iterator[str]:
    """Paths of what was sent and is not there any more; what is in `empty` may go."""
    if isinstance(sent, dict):
        for key, value in sent.items():
            here = f"{path}.{key}".removeprefix(".")
            if isinstance(kept, dict) and key in kept:
                yield from _dropped(value, kept[key], empty, here)
            elif value not in empty:
                yield here
    elif isinstance(sent, list) and isinstance(kept, list):
        for number, (each, other) in enumerate(zip(sent, kept, strict=False)):
            yield from _dropped(each, other, empty, f"{path}[{number}]")
