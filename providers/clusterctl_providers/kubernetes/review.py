"""What a spec names and the cluster of Kubernetes does not have (`base.HasReview`): context, namespace, claims, storage classes,
labels of nodes. A pod of each pool is sent to the API server for a dry run: all that admits pods there has its say, and
nothing is made."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, cast

from clusterctl.core.errors import AuthFailed, BadRequest, QuotaExceeded, UnknownOutcome
from clusterctl.core.model import Offer
from clusterctl_providers.base import TAG_CLUSTER, TAG_UID, CreateRequest, Objection, PoolRequest, ProviderContext
from clusterctl_providers.kubernetes.client import Client
from clusterctl_providers.kubernetes.errors import ApiError, Missing
from clusterctl_providers.kubernetes.head import HeadParts
from clusterctl_providers.kubernetes.pod import image_of, manifest
from clusterctl_providers.kubernetes.rights import allowed, answers, needed
from clusterctl_providers.kubernetes.shapes import Shapes

NOBODY = "00000000-0000-4000-8000-000000000000"  # the uid of what is never made
_OF_SIZE = re.compile(r"resources|usage per (?:Container|Pod)")  # the second of a LimitRange
UNKNOWN = re.compile(r'unknown field "([^"]+)"')


class Review:
    def __init__(self, client: Client, context: ProviderContext, shapes: Shapes) -> None:
        self._client, self._context, self._shapes = client, context, shapes

    def of(self, pools: Sequence[PoolRequest], *, rights: bool = True) -> list[Objection]:
        """Where the context or the namespace is wrong, nothing else can be looked up there, and is not. `rights`: with those that
        are missing."""
        if hidden := self._way_there() or self._namespace() or (self._rights() if rights else None):
            return [hidden]
        found = [*self._storage()]
        for pool in pools:
            found += self._pool(pool)
        return list(dict.fromkeys(found))

    # ------------------------------------------------------------ the place

    def _way_there(self) -> Objection | None:
        context = str(self._context.settings.get("context") or "")
        try:
            allowed(self._client, "pods", "create", self._client.namespace)  # whoever is known there may ask that
        except (BadRequest, AuthFailed, UnknownOutcome) as error:
            # Unlike a cloud, an API server that nobody reaches is most often one that is not meant.
            return Objection("", "context", context, str(error))
        return None

    def _namespace(self) -> Objection | None:
        """Who may not look at a namespace is told by the dry run whether it is there."""
        name, key = self._client.namespace, "namespace" if self._context.settings.get("namespace") else "context"
        try:
            self._client.get(self._client.path("namespaces", name, namespace=""), f"looking for the namespace {name}")
        except Missing:
            fix = f"make it (`kubectl create namespace {name}`), or name another"
            return Objection("", key, "", f"there is no namespace {name}", fix)
        except AuthFailed:
            return None
        return None

    def _rights(self) -> Objection | None:
        """Whoever has some of them only would leave half a cluster."""
        client, name = self._client, self._client.namespace
        told = answers(client, needed(self._context.settings), name)
        missing = [f"{verb} {resource}" for (resource, verb), may in told.items() if not may]
        if not missing:
            return None
        text = (
            f"who logs in to the context {client.context!r} may not do this in namespace {name}: {', '.join(missing)}"
        )
        fix = (
            "ask whoever runs the cluster for the Role of docs/kubernetes.md; `clusterctl doctor SPEC` tells each right"
        )
        return Objection("", "namespace" if self._context.settings.get("namespace") else "context", "", text, fix)

    # ------------------------------------------------------------ what it names

    def _storage(self) -> Iterator[Objection]:
        settings, client = self._context.settings, self._client
        if name := str(settings.get("storage_class") or ""):
            path = client.path("storageclasses", name, group="storage.k8s.io/v1", namespace="")
            fix = "`kubectl get storageclass` lists those that there are"
            yield from _missing("storage_class", name, "", lambda: client.get(path, f"looking for {name}"), fix)
        for claim in settings.get("volumes") or ():
            yield from self._claim(str(claim["claim"]), bool(claim.get("read_only")))

    def _claim(self, name: str, read_only: bool) -> Iterator[Objection]:
        """It has to be there, and to be for several nodes at once."""
        client, found = self._client, dict[str, Any]()
        path = client.path("persistentvolumeclaims", name)
        where = f" in namespace {client.namespace}"
        fix = "`kubectl get persistentvolumeclaims` lists those that there are"

        def look() -> None:
            found.update(client.get(path, f"looking for the claim {name}"))

        yield from _missing("volumes", name, where, look, fix)
        modes = set((found.get("spec") or {}).get("accessModes") or ())
        if found and not modes & ({"ReadWriteMany", "ReadOnlyMany"} if read_only else {"ReadWriteMany"}):
            text = f"the claim {name} is {' and '.join(sorted(modes))}: pods on several nodes cannot have it at once"
            other = "ReadWriteMany or ReadOnlyMany" if read_only else "ReadWriteMany"
            yield Objection("", "volumes", "", text, f"name one of a storage class that gives {other}")

    # ------------------------------------------------------------ its pods

    def _pool(self, pool: PoolRequest) -> Iterator[Objection]:
        try:
            image = image_of(self._context, pool)
        except BadRequest as error:
            yield Objection(pool.name, "image", "", str(error))
            return
        if never := self._shapes.never(pool):
            gpu = pool.spec.get("gpu") and "node_selector" in never
            key = "gpu" if gpu else "node_selector" if pool.spec.get("node_selector") else "resources"
            yield Objection(pool.name, key, "", never)
            return
        wanted = manifest(self._context, self._request(pool), "clusterctl-dry-run", [], "bundle", image, {})
        del wanted["metadata"]["ownerReferences"]
        if pool.role != "head" or self._context.settings.get("head_address"):
            yield from self._dry_run(pool, wanted)
            return
        context = replace(self._context, cluster=self._context.cluster or "review", uid=NOBODY)
        head = HeadParts(self._client, context)
        yield from self._dry_run(pool, head.before(wanted, image))
        yield from self._state_of(head)

    def _state_of(self, head: HeadParts) -> Iterator[Objection]:
        body, path = head.claim([]), self._client.path("persistentvolumeclaims")
        try:
            self._client.create(path, "a claim for the head's state", body, dry_run=True)
        except (BadRequest, QuotaExceeded) as error:
            yield Objection("", "head_volume", "", str(error))

    def _dry_run(self, pool: PoolRequest, wanted: Mapping[str, Any]) -> Iterator[Objection]:
        what = f"a pod of {'the head' if pool.role == 'head' else f'pool {pool.name}'}"
        try:
            made = self._client.create(self._client.path("pods"), what, dict(wanted), dry_run=True)
        except QuotaExceeded as error:
            yield Objection(pool.name, "resources", "", str(error))
        except AuthFailed as error:
            yield Objection("", "namespace" if self._context.settings.get("namespace") else "context", "", str(error))
        except BadRequest as error:
            said = error.__cause__
            yield from self._refused(pool, said.text if isinstance(said, ApiError) else str(error))
        else:
            for path in dropped(self._context.settings.get("pod") or {}, made):
                yield Objection("", "pod", "", f"Kubernetes knows no key {path} of a pod", "see `kubectl explain pod`")

    def _refused(self, pool: PoolRequest, text: str) -> Iterator[Objection]:
        """By the server's words: its own rules name the field."""
        settings = self._context.settings
        unknown = UNKNOWN.findall(text)
        for path in unknown:
            yield Objection("", "pod", "", f"Kubernetes knows no key {path} of a pod", "see `kubectl explain pod`")
        if unknown:
            return
        keys = ("service_account", "priority_class", "runtime_class")
        named = next((key for key in keys if settings.get(key) and str(settings[key]) in text), "")
        if "is being terminated" in text:
            yield Objection("", "namespace" if settings.get("namespace") else "context", "", text)
        elif named:
            yield Objection("", named, "", text)
        elif settings.get("pod"):
            yield Objection("", "pod", "", text)
        else:
            yield Objection(pool.name, "resources" if _OF_SIZE.search(text) else "name", "", text)

    def _request(self, pool: PoolRequest) -> CreateRequest:
        offer: Offer = self._shapes.offers(pool)[0]
        tags = {TAG_CLUSTER: self._context.cluster or "review", TAG_UID: NOBODY}
        return CreateRequest("review", "review", 1, offer, tags, {}, pool)


def _missing(key: str, name: str, where: str, look: Callable[[], Any], fix: str) -> Iterator[Objection]:
    """Who may not look is not told."""
    try:
        look()
    except Missing:
        thing = "storage class" if key == "storage_class" else "claim"
        yield Objection("", key, "", f"there is no {thing} {name}{where}", fix)
    except AuthFailed:
        return


def dropped(wanted: Any, made: Any, path: str = "") -> Iterator[str]:
    """Paths of keys that were asked for and are not in the answer: a server older than 1.25 drops those that it does not know.
    What it took with another value was defaulted, and counts as taken."""
    if isinstance(wanted, dict) and isinstance(made, dict):
        for key, value in cast("Mapping[str, Any]", wanted).items():
            here = f"{path}.{key}".lstrip(".")
            if key not in made and value not in (None, "", [], {}, False, 0):
                yield here
            elif key in made:
                yield from dropped(value, made[key], here)
    elif isinstance(wanted, list) and isinstance(made, list):
        named = {one.get("name"): one for one in made if isinstance(one, dict)}
        for number, one in enumerate(cast("list[Any]", wanted)):
            if isinstance(one, dict) and one.get("name") in named:
                yield from dropped(one, named[one["name"]], f"{path}[{number}]")
