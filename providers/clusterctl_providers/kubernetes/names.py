"""How things are called and marked in a namespace: names that follow from what they are for, labels to find them by, and
annotations for what no label takes."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from typing import Any

from clusterctl_providers.base import TAG_CLUSTER, TAG_GENERATION, TAG_NODE, TAG_UID
from clusterctl_providers.cloud.naming import made_name

LONGEST = 63  # of a pod's name, which is its host name as well
MANAGED = "app.kubernetes.io/managed-by"
OURS = "clusterctl"
CONTAINER = "node"  # of a pod
ANNOTATION_TYPE, ANNOTATION_ZONE = "clusterctl-type", "clusterctl-zone"  # of the offer that a pod was made for
_LABELS = (TAG_CLUSTER, TAG_UID, TAG_NODE, TAG_GENERATION)
_VALUE = re.compile(r"([A-Za-z0-9]([A-Za-z0-9_.-]{0,61}[A-Za-z0-9])?)?")


def owner_name(cluster: str, uid: str) -> str:
    """The object that owns all others of a cluster: what Kubernetes collects with it."""
    return made_name(cluster, uid, longest=LONGEST)


def pod_name(cluster: str, uid: str, node_id: str, generation: int, token: str) -> str:
    """Another one for each launch token: the server itself refuses a second of that name."""
    short = hashlib.sha256(token.encode()).hexdigest()[:8]
    return made_name(cluster, uid, node_id, str(generation), short, longest=LONGEST)


def labels(tags: Mapping[str, str]) -> dict[str, str]:
    """Those tags by which things are looked for."""
    return {MANAGED: OURS, **{key: tags[key] for key in _LABELS if _VALUE.fullmatch(tags.get(key, " "))}}


def tags_of(thing: Mapping[str, Any]) -> dict[str, str]:
    """What was said of it when it was made, wherever that is written."""
    meta = thing.get("metadata") or {}
    told = {**(meta.get("annotations") or {}), **(meta.get("labels") or {})}
    return {str(key): str(value) for key, value in told.items() if str(key).startswith("clusterctl-")}


def of_cluster(uid: str) -> str:
    """A label selector; "" for the uid is all clusters'."""
    return f"{TAG_UID}={uid}" if uid else f"{MANAGED}={OURS},{TAG_UID}"


def name_of(thing: Mapping[str, Any]) -> str:
    return str(thing["metadata"]["name"])


def owned_by(owner: Mapping[str, Any]) -> list[dict[str, Any]]:
    """`ownerReferences` of what goes when that goes."""
    return [
        {
            "apiVersion": owner.get("apiVersion") or "v1",
            "kind": owner["kind"],
            "name": name_of(owner),
            "uid": owner["metadata"]["uid"],
        }
    ]
