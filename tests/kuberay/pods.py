"""What an API server will say to the pods that the operator makes of a template. The object with the template is taken before
anybody looks, so that these faults show only as pods that never come."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

from tests.kuberay import metadata, quantities

Template = dict[str, Any]
CONTAINERS = ("containers", "initContainers")
POLICIES = ("Always", "OnFailure", "Never")
PORT_NAME = 15
SHARED = ("cpu", "memory", "ephemeral-storage")  # all other resources are devices: a request is its limit


def _labels(path: str, template: Template) -> Iterator[str]:
    """Labels are words."""
    for name, value in ((template.get("metadata") or {}).get("labels") or {}).items():
        yield from metadata.label_faults(f"{path}.metadata.labels.{name}", name, value)


def _restarts(path: str, template: Template) -> Iterator[str]:
    """There are three ways to restart."""
    policy = (template.get("spec") or {}).get("restartPolicy") or "Always"
    if policy not in POLICIES:
        yield f"{path}.spec.restartPolicy: {policy!r} is none of {', '.join(POLICIES)}"


def _names(path: str, template: Template) -> Iterator[str]:
    """Containers, volumes and ports have names, none twice, short ones for ports."""
    found = [each.get("name", "") for _, each in _containers(path, template)]
    volumes = [each.get("name", "") for each in (template.get("spec") or {}).get("volumes") or []]
    for what, names in (("container", found), ("volume", volumes)):
        for name, times in Counter(names).items():
            if len(name) > 63 or not metadata.LABEL_1123.match(name):
                yield f"{path}.spec: {name!r} is no name of a {what}"
            if times > 1:
                yield f"{path}.spec: {times} {what}s are called {name!r}"
    for place, container in _containers(path, template):
        names = [port["name"] for port in container.get("ports") or [] if port.get("name")]
        yield from (
            f"{place}.ports: {name!r} is longer than {PORT_NAME} characters" for name in names if len(name) > PORT_NAME
        )
        yield from (
            f"{place}.ports: {times} are called {name!r}" for name, times in Counter(names).items() if times > 1
        )


def _mounts(path: str, template: Template) -> Iterator[str]:
    """What is mounted is a volume of the pod."""
    volumes = {each.get("name") for each in (template.get("spec") or {}).get("volumes") or []}
    for place, container in _containers(path, template):
        for n, mount in enumerate(container.get("volumeMounts") or []):
            if mount["name"] not in volumes:
                yield f"{place}.volumeMounts[{n}]: no volume is called {mount['name']!r}"


def _amounts(path: str, template: Template) -> Iterator[str]:
    """Nothing asks for more than its limit, and of devices exactly it."""
    for place, container in _containers(path, template):
        resources = container.get("resources") or {}
        limits = resources.get("limits") or {}
        for name, text in (resources.get("requests") or {}).items():
            wanted, limit = quantities.parsed(text), quantities.parsed(limits[name]) if name in limits else None
            if limit is None and name not in SHARED:
                yield f"{place}.resources.requests.{name}: needs the same limit"
            elif (
                limit is not None and wanted is not None and (wanted > limit or (wanted < limit and name not in SHARED))
            ):
                yield f"{place}.resources.requests.{name}: {text} is not within the limit {limits[name]}"


def _env(path: str, template: Template) -> Iterator[str]:
    """A variable has a value or a place to take it from."""
    for place, container in _containers(path, template):
        for n, each in enumerate(container.get("env") or []):
            if each.get("value") and each.get("valueFrom"):
                yield f"{place}.env[{n}]: has value and valueFrom"


def _containers(path: str, template: Template) -> list[tuple[str, dict[str, Any]]]:
    """Each, with its path."""
    pod = template.get("spec") or {}
    return [(f"{path}.spec.{field}[{n}]", each) for field in CONTAINERS for n, each in enumerate(pod.get(field) or [])]


RULES: tuple[Callable[[str, Template], Iterator[str]], ...] = (_labels, _restarts, _names, _mounts, _amounts, _env)
