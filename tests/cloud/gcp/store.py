"""All resources of the pretended Compute Engine, by their path: `projects/p/zones/z/instances/n`."""

from __future__ import annotations

import base64
import hashlib
import itertools
import json
import re
import secrets
import time
from collections.abc import Iterator
from typing import Any

from tests.cloud.gcp.world import PROJECT_NUMBER, Refusal, World, already_exists, invalid, not_found

BASE = "https://www.googleapis.com/compute/v1/"
_LINK = re.compile(r"https://(?:www\.googleapis\.com/compute|compute\.googleapis\.com/compute)/v1/(projects/.+)")
_SHAPE = re.compile(r"projects/[^/]+/(?:global|zones/[^/]+|regions/[^/]+)/\w+/(?:family/)?[^/]+")

Resource = dict[str, Any]


class Store:
    def __init__(self, world: World) -> None:
        self._world = world
        self._numbers = itertools.count(10**18 + secrets.randbelow(10**18))  # machines of two clouds meet in one host
        self._collections: dict[str, dict[str, Resource]] = {}

    def number(self) -> str:
        """An id that no other resource has."""
        return str(next(self._numbers))

    def now(self, seconds: float = 0.0) -> str:
        """The cloud's time of day, `seconds` from now."""
        at = time.time() + self._world.clock_offset + seconds - 8 * 3600
        return time.strftime("%Y-%m-%dT%H:%M:%S.", time.gmtime(at)) + f"{int(at % 1 * 1000):03d}-08:00"

    def add(self, key: str, kind: str, body: Resource) -> Resource:
        """Raises Refusal (409) for a name that is taken."""
        collection, _, name = key.rpartition("/")
        members = self._collections.setdefault(collection, {})
        if name in members:
            raise already_exists(key)
        resource = {
            "kind": f"compute#{kind}", "id": self.number(), "creationTimestamp": self.now(), "name": name, **body,
            "selfLink": BASE + key, **place_of(key),
        }  # fmt: skip
        members[name] = resource
        return resource

    def find(self, key: str) -> Resource | None:
        collection, _, name = key.rpartition("/")
        return self._collections.get(collection, {}).get(name)

    def get(self, key: str) -> Resource:
        found = self.find(key)
        if found is None:
            raise not_found(key)
        return found

    def remove(self, key: str) -> None:
        collection, _, name = key.rpartition("/")
        self._collections.get(collection, {}).pop(name, None)

    def collection(self, key: str) -> list[Resource]:
        """Those directly below `projects/p/zones/z/instances`."""
        return list(self._collections.get(key, {}).values())

    def scopes(self, project: str, collection: str) -> Iterator[tuple[str, list[Resource]]]:
        """(`zones/z`, resources) of each place that has or had some."""
        for key, members in self._collections.items():
            _, owner, scope = key.split("/", 2)
            if owner == project and scope.endswith(f"/{collection}"):
                yield scope.removesuffix(f"/{collection}"), list(members.values())

    def every(self, collection: str) -> list[Resource]:
        return [
            resource
            for key, members in self._collections.items()
            if key.endswith(f"/{collection}")
            for resource in members.values()
        ]

    def everything(self) -> list[Resource]:
        return [resource for members in self._collections.values() for resource in members.values()]


def place_of(key: str) -> dict[str, str]:
    """The member `zone` or `region` of a resource."""
    _, project, kind, name, *_ = key.split("/")
    if kind == "zones":
        return {"zone": f"{BASE}projects/{project}/zones/{name}"}
    if kind == "regions":
        return {"region": f"{BASE}projects/{project}/regions/{name}"}
    return {}


def key_of(link: str, project: str, where: str) -> str:
    """The path that a URL or a partial one names; raises Refusal where it is neither, in words about the member `where`."""
    found = _LINK.fullmatch(link)
    key = found.group(1) if found else link
    if key.startswith(("zones/", "regions/", "global/")):
        key = f"projects/{project}/{key}"
    if not _SHAPE.fullmatch(key):
        raise invalid(where, link, "The URL is malformed.")
    return key.replace(f"projects/{PROJECT_NUMBER}/", f"projects/{project}/", 1)


def key_of_link(link: str) -> str:
    return link.removeprefix(BASE)


def name_of(link: str) -> str:
    return link.rpartition("/")[2]


def fingerprint(what: Any) -> str:
    digest = hashlib.blake2b(json.dumps(what, sort_keys=True).encode(), digest_size=8).digest()
    return base64.b64encode(digest).decode()


def check_fingerprint(given: str | None, now: str, needed: bool = True, noun: str = "labels") -> None:
    """Raises Refusal (412) where somebody else was faster."""
    if given is None and not needed:
        return
    if given != now:
        raise Refusal(
            412, "conditionNotMet", f"{noun.capitalize()} fingerprint either invalid or resource {noun} have changed"
        )
