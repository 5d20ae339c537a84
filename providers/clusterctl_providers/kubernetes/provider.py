"""The Kubernetes provider: nodes are pods of a namespace, and dial the head.

A pod's name follows from the launch token, so that a create which is made again meets what the first one made and finishes it.
All objects of a cluster are owned by one of them, and bear its uid.

Settings (under `provider: {kubernetes: ...}`): see `KubernetesSettings` of the spec. Beside this module:

    kubeconfig, credentials, client, errors   how an API server is spoken to
    names, pod, selection, quantities         what is asked for
    place                                     what a cluster has there beside its pods
    rows, patience                            what is there, and how long a pod may wait
    shapes                                    what nodes there are: offers
    rights, review, doctor                    what is missing, told before anything is made
    head, first                               the head in a pod of its own
    login, channel, websocket, shell          programs in pods: how one gets in
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

from clusterctl.core.errors import AuthFailed, BadRequest, NotYet, ProviderError, QuotaExceeded
from clusterctl.core.model import Instance, Observed, Offer
from clusterctl_providers.base import (
    TAG_TOKEN,
    TAG_UID,
    AddressHolder,
    CreateRequest,
    CreateResult,
    HeadDisk,
    NetworkPlace,
    Objection,
    PoolRequest,
    ProviderContext,
    Whereabouts,
)
from clusterctl_providers.kubernetes.channel import place_of
from clusterctl_providers.kubernetes.client import Client
from clusterctl_providers.kubernetes.doctor import check_cluster
from clusterctl_providers.kubernetes.errors import Exists, Missing
from clusterctl_providers.kubernetes.head import CONTAINER as HEAD_CONTAINER
from clusterctl_providers.kubernetes.head import HeadParts
from clusterctl_providers.kubernetes.names import CONTAINER, labels, of_cluster, owned_by, pod_name, tags_of
from clusterctl_providers.kubernetes.patience import Patience
from clusterctl_providers.kubernetes.place import Place, noted
from clusterctl_providers.kubernetes.pod import image_of, manifest, secret
from clusterctl_providers.kubernetes.review import Review
from clusterctl_providers.kubernetes.rows import END_GRACE, Row, row_of
from clusterctl_providers.kubernetes.shapes import LAST, Shapes
from clusterctl_providers.tokens import Tokens

SCOPE = "pods"
CALLS = 16  # pods that are made or ended at the same time
CONSOLE_LINES = 400
Json = dict[str, Any]


class KubernetesProvider:
    name = "kubernetes"
    scopes: Sequence[str] = (SCOPE,)
    settle_seconds = 0.0  # a list is read from where it is written
    in_flight_seconds = 5.0
    offers_last = LAST

    def __init__(self, context: ProviderContext, clock: Callable[[], float] = time.monotonic) -> None:
        known = noted(context.state_dir) if context.uid else {}
        there = {key: known[key] for key in ("context", "namespace", "kubeconfig") if known.get(key)}
        self._context = replace(context, settings={**there, **context.settings})
        self._client = Client(self._context.settings)
        self._tokens = Tokens(Path(context.state_dir))
        self._place = Place(self._client, self._context)
        self._head = HeadParts(self._client, self._context)
        self._shapes = Shapes(self._client, clock)
        self._review = Review(self._client, self._context, self._shapes)
        self._patience = Patience(self._client, self._shapes.grows, clock)

    # ------------------------------------------------------------ the contract

    def create(self, requests: Sequence[CreateRequest]) -> list[CreateResult]:
        """Several at a time. What all need is looked for once."""
        if not requests:
            return []
        try:
            owner = self._place.owner()
            bundle = self._place.bundle(owner)
        except ProviderError as error:
            return [error for _ in requests]
        with ThreadPoolExecutor(min(CALLS, len(requests)), "pods-create") as pool:
            return list(pool.map(lambda request: self._create(request, owner, bundle), requests))

    def list(self) -> list[Observed]:
        """All pages are of one moment. A page that is not to be had makes the list incomplete, and nothing more."""
        now, pods = time.time(), list[Json]()
        try:
            for page in self._pages("pods", "listing the pods"):
                pods += page
            rows = self._head.among(pods) if self._place.has_head else [row_of(pod) for pod in pods]
        except ProviderError as error:
            shown = self._patience.judged(map(row_of, pods), whole=False)
            return [Observed(SCOPE, tuple(shown), False, now, str(error), error.code)]
        return [Observed(SCOPE, tuple(self._patience.judged(rows)), True, now)]

    def look_up(self, instance_ids: Sequence[str]) -> dict[str, Instance]:
        found: list[Row] = []
        for name in instance_ids:
            if name == self._head.pod:
                row = self._head.look_up()
                found += [row] if row else []
                continue
            try:
                found.append(row_of(self._client.get(self._client.path("pods", name), f"looking for the pod {name}")))
            except Missing:
                continue
        return {one.id: one for one in self._patience.judged(found, whole=False)}

    def terminate(self, instance_ids: Sequence[str]) -> None:
        """SIGTERM, after the grace SIGKILL. Only what carries our uid; a pod that is gone is success."""
        if not instance_ids:
            return
        with ThreadPoolExecutor(min(CALLS, len(instance_ids)), "pods-end") as pool:
            errors = [error for error in pool.map(self._end, instance_ids) if error]
        if errors:
            raise errors[0]

    def offers(self, pool: PoolRequest) -> list[Offer]:
        return self._shapes.offers(pool)

    def close(self) -> None:
        self._client.close()

    # ------------------------------------------------------------ abilities

    def console_log(self, instance_id: str) -> str:
        """What its agent printed; "" for what is not there, and for a pod that has not started."""
        try:
            path = self._client.path("pods", instance_id, "log")
            return self._client.text(path, f"reading the log of {instance_id}", tailLines=CONSOLE_LINES)
        except ProviderError:
            return ""

    def place(self, instance_id: str) -> dict[str, str]:
        return place_of(self._client, instance_id, CONTAINER)

    def head_disk(self) -> HeadDisk | None:
        return self._head.disk()

    def make_head_disk(self, zone: str, size: int, token: str) -> HeadDisk:
        raise BadRequest("the head's claim is made with its pod, and was removed since: run `clusterctl up` again")

    def attach_head_disk(self, disk: HeadDisk, instance_id: str) -> bool:
        """Its pod names it, and does not run without."""
        return True

    def whereabouts(self, instance_id: str) -> Whereabouts:
        row = self._head.look_up()
        if row is None:
            raise NotYet(f"looking for the head's pod {instance_id}: it is not there yet")
        login = place_of(self._client, instance_id, HEAD_CONTAINER)
        return Whereabouts("", NetworkPlace("", row.instance.address), login=login)

    def address_holder(self, place: NetworkPlace) -> AddressHolder | None:
        """The head's Service has it, whichever pod it leads to."""
        return None

    def renew_access(self) -> None:
        self._head.grant(owned_by(self._place.owner()))

    def agent_endpoint(self) -> tuple[str, str]:
        address = str(self._context.settings.get("head_address") or "")
        if not address:
            raise BadRequest(
                "pods have to find the head: write an address of this machine that they reach, as in "
                "`provider: {kubernetes: {head_address: 10.0.0.5}}`"
            )
        return address, address

    def doctor(self) -> list[tuple[str, bool, str]]:
        return self.doctor_for(())

    def doctor_for(self, pools: Sequence[PoolRequest]) -> list[tuple[str, bool, str]]:
        return check_cluster(self._client, self._review, self._context.settings, pools)

    def review(self, pools: Sequence[PoolRequest]) -> list[Objection]:
        return self._review.of(pools)

    def find_clusters(self) -> list[tuple[str, str, int]]:
        return self._place.clusters()

    def sweep(self) -> list[str]:
        return self._place.remove()

    # ------------------------------------------------------------ inside

    def _pages(self, plural: str, doing: str) -> Any:
        what = f"{doing} of cluster {self._context.cluster} in Kubernetes"
        return self._client.pages(self._client.path(plural), what, labelSelector=of_cluster(self._context.uid))

    def _create(self, request: CreateRequest, owner: Json, bundle: str) -> CreateResult:
        name = pod_name(self._context.cluster, self._context.uid, request.node_id, request.generation, request.token)
        with self._tokens.held(request.token):
            if self._tokens.has_ended(request.token):
                return self._used_up(request, name)
            try:
                return self._make(request, name, owner, bundle)
            except ProviderError as error:
                return error

    def _make(self, request: CreateRequest, name: str, owner: Json, bundle: str) -> Instance:
        """The pod first, which waits for its Secret: so the Secret can be the pod's own, and goes with it."""
        if never := self._shapes.never(request.pool):
            raise BadRequest(f"making the pod of {request.node_id}: {never}")
        what = f"making the pod {name} of {request.node_id}"
        image = image_of(self._context, request.pool)
        if self._is_head(request):
            return self._head.make(request, owner, bundle, image, self._shapes.pins(request.offer)).instance
        wanted = manifest(
            self._context, request, name, owned_by(owner), bundle, image, self._shapes.pins(request.offer)
        )
        path = self._client.path("pods")
        try:
            pod = self._client.create(path, what, wanted)
        except Exists:
            pod = self._client.get(f"{path}/{name}", what)
            tags = tags_of(pod)
            if (tags.get(TAG_UID), tags.get(TAG_TOKEN)) != (self._context.uid, request.token):
                raise BadRequest(f"{what}: a pod of that name is not this cluster's: remove it") from None
        made = row_of(pod).instance
        if made.state == "pending":
            try:
                self._give_secret(request, name, {**pod, "kind": "Pod"})
            except (AuthFailed, BadRequest, QuotaExceeded):  # it would wait for ever
                self._client.delete(
                    f"{path}/{name}", f"ending the pod {name}", grace=0, uid=str(pod["metadata"]["uid"])
                )
                raise
        return made

    def _is_head(self, request: CreateRequest) -> bool:
        """With its head daemon: a head on another machine has a node of that role as well."""
        return request.pool.role == "head" and self._context.head_machine is not None

    def _give_secret(self, request: CreateRequest, name: str, pod: Json) -> None:
        what = f"making the Secret {name} of {request.node_id}"
        grace = float(pod["spec"].get("terminationGracePeriodSeconds") or 0)
        try:
            self._client.create(self._client.path("secrets"), what, secret(name, request, owned_by(pod), grace))
        except Exists:
            return

    def _end(self, name: str) -> ProviderError | None:
        client = self._client
        path = client.path("pods", name)
        try:
            if name == self._head.pod:
                return self._end_head()
            pod = client.get(path, f"looking for the pod {name}")
            tags = tags_of(pod)
            if tags.get(TAG_UID) != self._context.uid:
                return None
            if token := tags.get(TAG_TOKEN):
                self._tokens.mark_ended(token)
            client.delete(path, f"ending the pod {name}", grace=END_GRACE, uid=str(pod["metadata"]["uid"]))
        except Missing:
            return None
        except ProviderError as error:
            return error
        return None

    def _end_head(self) -> None:
        row = self._head.look_up()
        if row is not None and row.instance.uid == self._context.uid:
            if row.instance.token:
                self._tokens.mark_ended(row.instance.token)
            self._head.end()

    def _used_up(self, request: CreateRequest, name: str) -> Instance:
        tags = {**request.tags, TAG_UID: self._context.uid, TAG_TOKEN: request.token}
        ended = {"metadata": {"name": name, "labels": labels(tags), "annotations": tags}}
        return replace(row_of(ended).instance, state="terminated", detail="(its token is used up)")
