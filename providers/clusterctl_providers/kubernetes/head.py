"""The head in a pod: a StatefulSet of one, so that Kubernetes itself brings the head back, on another node where need be, with
its state on a claim and under an address that stays (docs/adr/0940).

    ServiceAccount, Role, RoleBinding   what the head may do in the namespace: OF_HEAD, and nothing else
    PersistentVolumeClaim               its state; outlives the StatefulSet, and goes with the cluster
    Service                             where agents dial it
    StatefulSet, Secret                 its pod: the head's container, and beside it that of its node, which runs jobs

All are the owner object's, but for the Secret, which is the StatefulSet's. The instance is the StatefulSet's one pod, by its
name, for as long as there is the StatefulSet: a pod that is made anew is a machine that was rebooted.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from functools import cache
from importlib import resources
from typing import Any

from clusterctl.core.errors import BadRequest, ProviderError, UnknownOutcome
from clusterctl_providers.base import (
    TAG_CLUSTER,
    TAG_HEAD,
    TAG_TOKEN,
    TAG_UID,
    CreateRequest,
    HeadDisk,
    ProviderContext,
)
from clusterctl_providers.cloud.naming import made_name
from clusterctl_providers.kubernetes.client import Client
from clusterctl_providers.kubernetes.errors import Exists, Missing
from clusterctl_providers.kubernetes.names import labels, name_of, of_cluster, owned_by, pod_name, tags_of
from clusterctl_providers.kubernetes.pod import DOCUMENT, ROOM, manifest, secret
from clusterctl_providers.kubernetes.rights import OF_HEAD, rules
from clusterctl_providers.kubernetes.rows import END_GRACE, Row, row_of

APPS, RBAC = "apps/v1", "rbac.authorization.k8s.io/v1"
LONGEST = 52  # of a StatefulSet's name: its pods get a label with more
CONTAINER = "head"
ADDRESS = "clusterctl-address"  # an annotation
HOME, KEPT = f"{ROOM}/home", f"{ROOM}/kept"  # of the head's container; what the node's keeps
ACCOUNT = "/var/run/secrets/kubernetes.io/serviceaccount"
VOLUME = 10 * 2**30  # bytes of the claim
# Of the head daemon itself, besides what the spec's `head` has for jobs.
OWN = {"requests": {"cpu": "250m", "memory": "1Gi"}, "limits": {"cpu": "2", "memory": "1Gi"}}
Json = dict[str, Any]


class HeadParts:
    def __init__(self, client: Client, context: ProviderContext) -> None:
        self._client, self._context = client, context
        self.name = made_name(context.cluster, context.uid, "head", longest=LONGEST)
        self.pod = f"{self.name}-0"

    # ------------------------------------------------------------ making it

    def make(self, request: CreateRequest, owner: Json, bundle: str, image: str, pins: Mapping[str, str]) -> Row:
        """What is there is left as it is; the StatefulSet comes last but for its Secret, which it waits for."""
        owners = owned_by(owner)
        self.grant(owners)
        self._ensure("persistentvolumeclaims", "", self.claim(owners))
        service = self._ensure("services", "", self._service(owners))
        address = str(service["spec"]["clusterIP"])
        body = self._set(request, owners, bundle, image, pins, address)
        made = self._ensure("statefulsets", APPS, body)
        if tags_of(made).get(TAG_TOKEN) != request.token:
            raise UnknownOutcome(
                f"making the head's StatefulSet {self.name}: the one of an earlier head is still there"
            )
        self._give_secret(request, made)
        return self._row(made, None)

    def _give_secret(self, request: CreateRequest, made: Json) -> None:
        name = self._secret_name(request)
        document = secret(name, request, owned_by({**made, "kind": "StatefulSet", "apiVersion": APPS}))
        told = json.loads(document["stringData"][DOCUMENT])
        port = self._context.head_machine.port if self._context.head_machine else 0
        # By the pod's own name, which is that of its address: so the agent learns by which others reach its node. It has
        # nobody to drain it, since the head ends with it.
        told |= {"heads": [f"{self.pod}:{port}"], "directory": f"{KEPT}/node", "notice": 0}
        document["stringData"][DOCUMENT] = json.dumps(told)
        self._ensure("secrets", "", document)

    def grant(self, owners: Sequence[Json]) -> None:
        """Lets the head do what it does, and takes from it what it does no more. Not where the user names an account."""
        if self._context.settings.get("head_service_account"):
            return
        self._ensure("serviceaccounts", "", {"apiVersion": "v1", "kind": "ServiceAccount", **self._meta(owners)})
        wanted = {"rules": rules(OF_HEAD)}
        made = self._ensure("roles", RBAC, {"apiVersion": RBAC, "kind": "Role", **self._meta(owners), **wanted})
        if made.get("rules") != wanted["rules"]:
            self._client.merge(self._path("roles", RBAC), f"changing the Role {self.name}", wanted)
        self._ensure("rolebindings", RBAC, {
            "apiVersion": RBAC, "kind": "RoleBinding", **self._meta(owners),
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": self.name},
            "subjects": [{"kind": "ServiceAccount", "name": self.name, "namespace": self._client.namespace}],
        })  # fmt: skip

    def claim(self, owners: Sequence[Json]) -> Json:
        size = int(self._context.settings.get("head_volume") or VOLUME)
        wanted: Json = {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": str(size)}}}
        if storage := self._context.settings.get("storage_class"):
            wanted["storageClassName"] = str(storage)
        return {"apiVersion": "v1", "kind": "PersistentVolumeClaim", **self._meta(owners), "spec": wanted}

    def _service(self, owners: Sequence[Json]) -> Json:
        port = self._context.head_machine.port if self._context.head_machine else 0
        return {
            "apiVersion": "v1",
            "kind": "Service",
            **self._meta(owners),
            "spec": {
                "selector": self._selector,
                "ports": [{"name": "agents", "port": port, "targetPort": port}],
                "publishNotReadyAddresses": True,  # the head says itself whether it is ready
            },
        }

    def _set(
        self,
        request: CreateRequest,
        owners: Sequence[Json],
        bundle: str,
        image: str,
        pins: Mapping[str, str],
        address: str,
    ) -> Json:
        pod = manifest(self._context, request, self.pod, [], bundle, image, pins)
        marks = pod["metadata"]["labels"] | self._selector
        told = pod["metadata"]["annotations"] | {ADDRESS: address}
        spec = _with_head(pod["spec"], image, self._account, self.name, self._secret_name(request))
        return {
            "apiVersion": APPS,
            "kind": "StatefulSet",
            "metadata": {"name": self.name, "labels": marks, "annotations": told, "ownerReferences": list(owners)},
            "spec": {
                "replicas": 1,
                "serviceName": self.name,
                "selector": {"matchLabels": self._selector},
                "template": {"metadata": {"labels": marks, "annotations": told}, "spec": spec},
            },
        }

    def before(self, pod: Json, image: str) -> Json:
        """A node's pod as that of the head, which can be asked for before there is a head: not by its own account, which is still
        to be made."""
        settings = self._context.settings
        account = str(settings.get("head_service_account") or settings.get("service_account") or "default")
        return {**pod, "spec": _with_head(pod["spec"], image, account, self.name, name_of(pod))}

    @property
    def _account(self) -> str:
        return str(self._context.settings.get("head_service_account") or self.name)

    @property
    def _selector(self) -> dict[str, str]:
        return {TAG_UID: self._context.uid, TAG_HEAD: "here"}

    def _secret_name(self, request: CreateRequest) -> str:
        return pod_name(self._context.cluster, self._context.uid, "head", request.generation, request.token)

    def _meta(self, owners: Sequence[Json]) -> Json:
        tags = {TAG_CLUSTER: self._context.cluster, TAG_UID: self._context.uid}
        return {"metadata": {"name": self.name, "labels": labels(tags), "ownerReferences": list(owners)}}

    def _path(self, plural: str, group: str, name: str = "") -> str:
        return self._client.path(plural, name or self.name, group=group)

    def _ensure(self, plural: str, group: str, body: Json) -> Json:
        """What is there of that name, or is made. Raises BadRequest for somebody else's."""
        name = name_of(body)
        what = f"making the {body['kind']} {name} of the head in namespace {self._client.namespace}"
        try:
            return self._client.create(self._client.path(plural, group=group), what, body)
        except Exists:
            found = self._client.get(self._path(plural, group, name), what)
        if tags_of(found).get(TAG_UID) != self._context.uid:
            raise BadRequest(f"{what}: there is one of that name that is not this cluster's: remove it")
        if (found.get("metadata") or {}).get("deletionTimestamp"):
            raise UnknownOutcome(f"{what}: the one of an earlier head is not gone yet")
        return found

    # ------------------------------------------------------------ what is there

    def among(self, pods: Iterable[Json]) -> list[Row]:
        """The rows of these pods, with that of the head as its StatefulSet says it. Raises ProviderError."""
        rest, mine = list[Row](), None
        for pod in pods:
            if name_of(pod) == self.pod:
                mine = pod
            else:
                rest.append(row_of(pod))
        what = f"looking for the head of cluster {self._context.cluster} in Kubernetes"
        path = self._client.path("statefulsets", group=APPS)
        pages = self._client.pages(path, what, labelSelector=of_cluster(self._context.uid))
        found = next((one for page in pages for one in page if name_of(one) == self.name), None)
        return [*rest, self._row(found, mine)] if found or mine else rest

    def look_up(self) -> Row | None:
        found, pod = self._found("statefulsets", APPS, self.name), self._found("pods", "", self.pod)
        return self._row(found, pod) if found or pod else None

    def _found(self, plural: str, group: str, name: str) -> Json | None:
        try:
            return self._client.get(self._path(plural, group, name), f"looking for the head's {plural} {name}")
        except Missing:
            return None

    def _row(self, made: Json | None, pod: Json | None) -> Row:
        """`made`: the StatefulSet, None where it is gone and its pod is about to be."""
        if made is None or made["metadata"].get("deletionTimestamp"):
            assert pod is not None or made is not None
            row = row_of(pod or _as_pod(made or {}, self.pod))
            return replace(row, instance=replace(row.instance, state="stopping"), waits="")
        row = row_of(pod or _as_pod(made, self.pod))
        address = str((made["metadata"].get("annotations") or {}).get(ADDRESS) or "")
        shown = replace(row.instance, address=address)
        if pod is None or pod["metadata"].get("deletionTimestamp"):
            detail = (pod is None and self._why_no_pod(made)) or "its pod is being made anew"
            return replace(row, instance=replace(shown, state="pending", detail=detail), waits="")
        if is_running(pod):
            return replace(row, instance=replace(shown, state="running", detail="", refused=""), waits="")
        if shown.state in ("running", "stopped") and not shown.refused:
            shown = replace(shown, state="pending")  # its StatefulSet makes another one, or its container starts again
        return replace(row, instance=shown)

    def _why_no_pod(self, made: Json) -> str:
        """Whoever makes the StatefulSet's pod leaves an event there where it is refused: by a quota, by what admits pods."""
        uid, what = made["metadata"].get("uid"), f"reading the events of the head's StatefulSet {self.name}"
        about = f"involvedObject.uid={uid},reason=FailedCreate"
        try:
            pages = self._client.pages(self._client.path("events"), what, fieldSelector=about)
            said = [event for page in pages for event in page]
        except ProviderError:
            return ""
        last = max(said, key=lambda event: str(event.get("lastTimestamp") or ""), default=None)
        return " ".join(str(last.get("message") or "").split())[:300] if last else ""

    # ------------------------------------------------------------ its end

    def end(self) -> None:
        """The StatefulSet and its pod; the claim and the address are for the next one."""
        self._client.delete(self._path("statefulsets", APPS), f"ending the head's StatefulSet {self.name}")
        self._client.delete(self._client.path("pods", self.pod), f"ending the head's pod {self.pod}", grace=END_GRACE)

    # ------------------------------------------------------------ its disk

    def disk(self) -> HeadDisk | None:
        found = self._found("persistentvolumeclaims", "", self.name)
        if found is None or found["metadata"].get("deletionTimestamp"):
            return None
        return HeadDisk(name_of(found), "", (), self.pod)


def parts(settings: Mapping[str, Any]) -> list[tuple[str, str]]:
    """(plural, group) of what a cluster has whose head is a pod, besides that of any; what uses others comes first."""
    account = [("rolebindings", RBAC), ("roles", RBAC), ("serviceaccounts", "")]
    made = [] if settings.get("head_service_account") else account
    return [("statefulsets", APPS), ("services", ""), *made, ("persistentvolumeclaims", "")]


def is_running(pod: Mapping[str, Any]) -> bool:
    """Whether the head's container does."""
    states = (pod.get("status") or {}).get("containerStatuses") or ()
    return any(one.get("name") == CONTAINER and "running" in (one.get("state") or {}) for one in states)


def _as_pod(made: Mapping[str, Any], name: str) -> Json:
    """A pod that is still to be made, by its StatefulSet."""
    return {"metadata": {**made["metadata"], "name": name}, "status": {}}


def _with_head(spec: Json, image: str, account: str, claim: str, document: str) -> Json:
    """A node's pod with the head's container beside the node's, and with the claim for both. The token that may make pods is
    seen by the head alone: jobs run in the other container."""
    node, *others = spec["containers"]
    mounts = [*node["volumeMounts"], {"name": "state", "mountPath": KEPT, "subPath": "node"}]
    head = {
        "name": CONTAINER,
        "image": image,
        "command": ["python3", "-I", "-c", first_program()],
        "workingDir": ROOM,
        "env": [{"name": "HOME", "value": HOME}, {"name": "USER", "value": "clusterctl"}],
        "resources": OWN,
        "securityContext": node["securityContext"],
        "volumeMounts": [
            {"name": "state", "mountPath": HOME, "subPath": "head"},
            {"name": "account", "mountPath": ACCOUNT, "readOnly": True},
        ],
    }
    token = {"serviceAccountToken": {"path": "token", "expirationSeconds": 3607}}
    authority = {"configMap": {"name": "kube-root-ca.crt", "items": [{"key": "ca.crt", "path": "ca.crt"}]}}
    where = {"downwardAPI": {"items": [{"path": "namespace", "fieldRef": {"fieldPath": "metadata.namespace"}}]}}
    volumes = [
        *(
            {**one, "secret": {**one["secret"], "secretName": document}} if "secret" in one else one
            for one in spec["volumes"]
        ),
        {"name": "state", "persistentVolumeClaim": {"claimName": claim}},
        {"name": "account", "projected": {"defaultMode": 0o440, "sources": [token, authority, where]}},
    ]
    return {
        **spec,
        "restartPolicy": "Always",
        "serviceAccountName": account,
        # Whatever `pod` says: else jobs, in the other container, had the head's rights, or saw the files of its processes.
        "automountServiceAccountToken": False,
        "shareProcessNamespace": False,
        "containers": [head, {**node, "volumeMounts": mounts}, *others],
        "volumes": volumes,
    }


@cache
def first_program() -> str:
    """The text of `first.py`."""
    return resources.files("clusterctl_providers.kubernetes").joinpath("first.py").read_text(encoding="utf-8")
