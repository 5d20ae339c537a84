"""The objects that a cluster has in its namespace beside its pods: the one that owns all others, and the agent's bundle.

Kubernetes itself removes what is owned once its owner is gone: whoever deletes the owner has ended the cluster.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

from clusterctl_runtime.files.private import write_private

from clusterctl.core.errors import BadRequest, ProviderError
from clusterctl_providers.base import TAG_CLUSTER, TAG_MAKER, TAG_UID, ProviderContext
from clusterctl_providers.kubernetes.client import Client
from clusterctl_providers.kubernetes.errors import Exists, Missing
from clusterctl_providers.kubernetes.head import parts
from clusterctl_providers.kubernetes.kubeconfig import kubeconfig
from clusterctl_providers.kubernetes.names import labels, name_of, of_cluster, owned_by, owner_name
from clusterctl_providers.kubernetes.pod import AGENT
from clusterctl_providers.this_machine import maker

HEAD_PLACE = "clusterctl-head-place"  # an annotation of the owner: "here" for a head beside its maker, "pod"
NOTE = "api-server.json"  # in the state directory: where the cluster is, whatever the kubeconfig says by now
Json = dict[str, Any]


class Place:
    def __init__(self, client: Client, context: ProviderContext) -> None:
        self._client, self._context = client, context

    def owner(self) -> Json:
        """Made where it is not there."""
        name = owner_name(self._context.cluster, self._context.uid)
        what = f"making the object {name} that owns the cluster's others in namespace {self._client.namespace}"
        self.note()
        data = {"cluster": self._context.cluster, "uid": self._context.uid}
        return self._ensured(name, what, {"data": data}, [], {HEAD_PLACE: "here" if self._wants_head_here else "pod"})

    @property
    def _wants_head_here(self) -> bool:
        return bool(self._context.settings.get("head_address"))

    @cached_property
    def has_head(self) -> bool:
        """Whether the cluster's head is a pod. Whoever has lost its settings (`gc`) learns it from the owner, and so asks for
        nothing that only who makes such a head may see."""
        if self._wants_head_here:
            return False
        name = owner_name(self._context.cluster, self._context.uid)
        try:
            owner = self._client.metadata(self._client.path("configmaps", name), f"looking for the object {name}")
        except Missing:
            return True
        return (owner["metadata"].get("annotations") or {}).get(HEAD_PLACE) != "here"

    def bundle(self, owner: Json) -> str:
        """The name of the ConfigMap with the agent; "" where something else runs in its stead."""
        if self._context.agent_argv:
            return ""
        path = self._context.agent_bundle
        try:
            agent = Path(path).read_bytes()
        except OSError as error:
            raise BadRequest(
                f"the agent bundle {path or '(not set)'} cannot be read ({error.strerror}): reinstall clusterctl and run `up` "
                "again"
            ) from error
        name = f"{name_of(owner)}-{hashlib.sha256(agent).hexdigest()[:8]}"
        what = f"making the ConfigMap {name} with the agent in namespace {self._client.namespace}"
        body = {"immutable": True, "binaryData": {AGENT: base64.b64encode(agent).decode()}}
        self._ensured(name, what, body, owned_by(owner))
        return name

    def remove(self) -> list[str]:
        """All that is left, the owner last. Secrets are the pods' own, and go with them: nobody here may read any."""
        client, selector = self._client, of_cluster(self._context.uid)
        where = f"of cluster {self._context.cluster} in namespace {client.namespace}"
        owner = owner_name(self._context.cluster, self._context.uid)
        besides = parts(self._context.settings) if self.has_head else []
        for plural, group in (*besides, ("pods", ""), ("configmaps", "")):
            path = client.path(plural, group=group)
            for page in client.pages(path, f"listing the {plural} {where}", labelSelector=selector):
                for thing in page:
                    if name_of(thing) != owner:
                        self._remove(client.path(plural, name_of(thing), group=group), name_of(thing), where)
        self._remove(client.path("configmaps", owner), owner, where)
        return []

    def _remove(self, path: str, name: str, where: str) -> None:
        self._client.delete(path, f"removing {name} {where}")

    def clusters(self) -> list[tuple[str, str, int]]:
        """(name, uid, pods) of those that this user's heads look after, and those whose head is a pod of theirs."""
        client, found = self._client, dict[str, tuple[str, int]]()
        for plural, counts in (("configmaps", 0), ("pods", 1)):
            what = f"looking for clusters in namespace {client.namespace}"
            for page in client.pages(client.path(plural), what, labelSelector=of_cluster("")):
                for thing in page:
                    meta = thing["metadata"]
                    if (meta.get("annotations") or {}).get(TAG_MAKER, maker()) != maker():
                        continue
                    uid = meta["labels"][TAG_UID]
                    name, before = found.get(uid, (meta["labels"].get(TAG_CLUSTER, ""), 0))
                    found[uid] = (name, before + counts)
        return sorted((name, uid, count) for uid, (name, count) in found.items())

    # ------------------------------------------------------------ where it is

    def note(self) -> None:
        """Writes down where the cluster is made, before anything is. Raises ProviderError where it was made elsewhere."""
        here = {
            "context": self._client.context,
            "namespace": self._client.namespace,
            "server": self._client.login.server,
            "kubeconfig": kubeconfig(),
        }
        known = noted(self._context.state_dir)
        if not self._context.uid:
            return
        here["kubeconfig"] = here["kubeconfig"] or known.get("kubeconfig", "")
        if known and (known.get("server"), known.get("namespace")) != (here["server"], here["namespace"]):
            raise ProviderError(
                f"the context {here['context']!r} leads to namespace {here['namespace']} at {here['server']}, and this cluster "
                f"was made in namespace {known.get('namespace')} at {known.get('server')}: name its context "
                f"({known.get('context')!r}) under `provider: {{kubernetes: {{context: ...}}}}`"
            )
        if known == here:
            return
        path = Path(self._context.state_dir) / NOTE
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        write_private(path, json.dumps(here))

    # ------------------------------------------------------------ inside

    def _ensured(
        self, name: str, what: str, more: Mapping[str, Any], owners: list[Json], marks: Mapping[str, str] = {}
    ) -> Json:
        client, path = self._client, self._client.path("configmaps", name)
        try:
            return {**client.metadata(path, what), "apiVersion": "v1", "kind": "ConfigMap"}
        except Missing:
            pass
        tags = {TAG_CLUSTER: self._context.cluster, TAG_UID: self._context.uid}
        body = {
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": {
                "name": name,
                "labels": labels(tags),
                "annotations": {TAG_MAKER: maker(), **marks},
                **({"ownerReferences": owners} if owners else {}),
            },
            **more,
        }
        try:
            return client.create(client.path("configmaps"), what, body)
        except Exists:
            return {**client.metadata(path, what), "apiVersion": "v1", "kind": "ConfigMap"}


def noted(state_dir: str) -> dict[str, str]:
    """{} where nothing was made yet."""
    try:
        return dict(json.loads((Path(state_dir) / NOTE).read_text()))
    except (FileNotFoundError, NotADirectoryError, ValueError):
        return {}
