"""All resources of the pretended subscription, by their id. Ids are the same in whatever case, and keep that of the first."""

from __future__ import annotations

import itertools
import secrets
import time
from collections.abc import Iterator
from typing import Any

from tests.cloud.azure.schema.routes import type_of
from tests.cloud.azure.world import World, not_found

Resource = dict[str, Any]


class Store:
    def __init__(self, world: World) -> None:
        self._world = world
        self._by_type: dict[str, dict[str, Resource]] = {}
        self._since: dict[str, float] = {}  # when each was made, by the world's clock
        self._references: dict[str, set[str]] = {}  # id -> those that have named it
        self._versions = itertools.count(1)

    def now(self, seconds: float = 0.0) -> str:
        """The cloud's time of day, `seconds` from now."""
        at = time.time() + self._world.clock_offset + seconds
        return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(at)) + f".{int(at % 1 * 10**6):06d}+00:00"

    def etag(self) -> str:
        return f'W/"{secrets.token_hex(4)}-{next(self._versions)}"'

    def put(self, resource: Resource) -> None:
        """New, or instead of the one with this id."""
        key = resource["id"].lower()
        self._by_type.setdefault(_type(key), {})[key] = resource
        self._since.setdefault(key, self._world.clock())
        for other in _named(resource):
            self._references.setdefault(other, set()).add(key)

    def find(self, id_: str) -> Resource | None:
        key = id_.lower().rstrip("/")
        return self._by_type.get(_type(key), {}).get(key)

    def get(self, id_: str) -> Resource:
        """Raises Refusal (404)."""
        found = self.find(id_)
        if found is None:
            raise not_found(id_)
        return found

    def remove(self, id_: str) -> None:
        """With all that is below it."""
        key = id_.lower()
        for each in [key, *(r["id"].lower() for r in self.below(id_))]:
            self._by_type.get(_type(each), {}).pop(each, None)
            self._since.pop(each, None)

    def since(self, id_: str) -> float:
        return self._since.get(id_.lower(), 0.0)

    def below(self, id_: str) -> list[Resource]:
        """Whose id begins with this one: all of a group, the children of a resource, and locks and roles on it."""
        prefix = id_.lower() + "/"
        return [r for members in self._by_type.values() for key, r in members.items() if key.startswith(prefix)]

    def of_type(self, type_: str, below: str = "") -> list[Resource]:
        """In the order in which they were made."""
        prefix = below.lower().rstrip("/") + "/" if below else ""
        return [r for key, r in self._by_type.get(type_.lower(), {}).items() if key.startswith(prefix)]

    def children(self, parent: str, type_: str) -> list[Resource]:
        """Directly below it."""
        depth = parent.count("/") + 2
        return [r for r in self.of_type(type_, parent) if r["id"].count("/") == depth]

    def everything(self) -> list[Resource]:
        return [r for members in self._by_type.values() for r in members.values()]

    def referring(self, id_: str, type_: str = "") -> list[Resource]:
        """Those that name this id anywhere in what was written of them, but for itself and its own children."""
        key = id_.lower()
        others = [
            other for other in sorted(self._references.get(key, ()))
            if not other.startswith(key) and (not type_ or _type(other) == type_.lower())
        ]  # fmt: skip
        found = [self.find(other) for other in others]
        return [r for r in found if r is not None and key in set(_named(r))]


def _type(key: str) -> str:
    return type_of(key).lower()


def _named(value: Any, top: bool = True) -> Iterator[str]:
    """All ids that a resource names, but its own."""
    if isinstance(value, dict):
        for key, each in value.items():
            if isinstance(each, str) and each.startswith("/subscriptions/"):
                if not (top and key == "id"):
                    yield each.lower()
            elif isinstance(each, (dict, list)):
                if key == "userAssignedIdentities" and isinstance(each, dict):
                    yield from (identity.lower() for identity in each)
                yield from _named(each, top=False)
    elif isinstance(value, list):
        for each in value:
            if isinstance(each, str) and each.startswith("/subscriptions/"):
                yield each.lower()
            else:
                yield from _named(each, top=False)


def group_of(id_: str) -> str:
    """The id of the resource group that a resource is in, "" for what is in none."""
    parts = id_.split("/")
    return "/".join(parts[:5]) if len(parts) > 4 and parts[3].lower() == "resourcegroups" else ""


def parent_of(id_: str) -> str:
    """The id of the resource of which this one is a child, "" for what is nobody's."""
    scope, _, of_provider = id_.rpartition("/providers/")
    parts = of_provider.split("/")
    return f"{scope}/providers/{'/'.join(parts[:-2])}" if len(parts) > 3 else ""


def name_of(id_: str) -> str:
    return id_.rpartition("/")[2]


def copied(value: Any) -> Any:
    """All that is in it, too. It is JSON, for which copy.deepcopy is slow."""
    if isinstance(value, dict):
        return {key: copied(each) for key, each in value.items()}
    return [copied(each) for each in value] if isinstance(value, list) else value
