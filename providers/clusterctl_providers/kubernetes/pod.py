"""A pod, as it is asked for: plain data, from a request and the settings.

The agent is a zipapp in a ConfigMap of the cluster, its bootstrap document a Secret of the pod's own; both are seen by the one
container. The first program there is the agent, which is a good first process (`agent/init.py`). A user's `pod` is merged over
all of it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from clusterctl.core.errors import BadRequest
from clusterctl.core.resources import Resources
from clusterctl_providers.base import TAG_TOKEN, CreateRequest, PoolRequest, ProviderContext
from clusterctl_providers.kubernetes.names import ANNOTATION_TYPE, ANNOTATION_ZONE, CONTAINER, labels
from clusterctl_providers.kubernetes.quantities import written
from clusterctl_providers.kubernetes.selection import affinity, tolerations

ROOM = "/clusterctl"  # in the container: short, since sockets live below it
BUNDLE, BOOTSTRAP = f"{ROOM}/bundle", f"{ROOM}/bootstrap"
AGENT, DOCUMENT = "agent.pyz", "bootstrap.json"
GRACE = 60  # seconds between SIGTERM and SIGKILL, where somebody else ends the pod: an eviction, a node that goes
USER = 1000  # that images run as, whatever they say: a namespace may want it so ("restricted")
SHARED_MEMORY = 0.5  # of a node's memory; a cap, not an allocation
GPU = "nvidia.com/gpu"
_QUEUE = "kueue.x-k8s.io/queue-name"
Json = dict[str, Any]


def manifest(
    context: ProviderContext,
    request: CreateRequest,
    name: str,
    owners: Sequence[Json],
    bundle: str,
    image: str,
    pins: Mapping[str, str],
) -> Json:
    """`bundle`: the ConfigMap with the agent, "" where `agent_argv` says what runs instead. `pins`: labels that its node must
    have, besides those that the pool wants."""
    settings, spec = context.settings, request.pool.spec
    tags = {**request.tags, TAG_TOKEN: request.token}
    queue = settings.get("kueue_queue")
    told = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": name,
            "labels": {**labels(tags), **({_QUEUE: str(queue)} if queue else {})},
            "annotations": {**tags, ANNOTATION_TYPE: request.offer.instance_type, ANNOTATION_ZONE: request.offer.zone},
            "ownerReferences": list(owners),
        },
        "spec": {
            "restartPolicy": "Never",
            "automountServiceAccountToken": False,
            "enableServiceLinks": False,
            "terminationGracePeriodSeconds": GRACE,
            "securityContext": {
                "runAsNonRoot": True,
                "runAsUser": USER,
                "runAsGroup": USER,
                "fsGroup": USER,
                "fsGroupChangePolicy": "OnRootMismatch",
                "seccompProfile": {"type": "RuntimeDefault"},
            },
            "containers": [_container(context, request, image)],
            "volumes": _volumes(context, request, name, bundle),
            **_given("imagePullSecrets", [{"name": str(one)} for one in settings.get("image_pull_secrets") or ()]),
            **_given("serviceAccountName", settings.get("service_account")),
            **_given("runtimeClassName", settings.get("runtime_class")),
            **_given("priorityClassName", settings.get("priority_class")),
            **_given("nodeSelector", {**pins, **(spec.get("node_selector") or {})}),
            **_given("tolerations", tolerations(request.pool)),
            **_given("affinity", affinity(request.pool)),
        },
    }
    whole = merged(told, settings.get("pod") or {})
    mine = told["metadata"]
    marks = {key: {**(whole["metadata"].get(key) or {}), **mine[key]} for key in ("labels", "annotations")}
    return {**whole, "metadata": {**whole["metadata"], **mine, **marks}}  # by these it is known, whatever `pod` says


def secret(name: str, request: CreateRequest, owners: Sequence[Json], grace: float = GRACE) -> Json:
    """The bootstrap document, with the one-time join token, and the grace of the pod that it is for."""
    document = {**request.bootstrap, "of_image": True, "directory": f"{ROOM}/node", "notice": float(grace)}
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": name, "labels": labels(request.tags), "ownerReferences": list(owners)},
        "type": "Opaque",
        "immutable": True,
        "stringData": {DOCUMENT: json.dumps(document)},
    }


def image_of(context: ProviderContext, pool: PoolRequest) -> str:
    name = str(pool.spec.get("image") or context.settings.get("image") or context.default_image)
    if not name:
        raise BadRequest(
            f"pool {pool.name} names no image: write `image:` in the pool or in `provider: {{kubernetes: {{image: ...}}}}`, any "
            "with Python 3.10 or later will do, such as python:3.12-slim"
        )
    return name


def requests_of(amounts: Resources, disk: float | None) -> dict[str, str]:
    """What a node has, as Kubernetes names and counts it; resources of Ray's alone are left out."""
    found = {"cpu": written(amounts.get("CPU")), "memory": str(int(amounts.get("memory")))}
    if amounts.get("GPU"):
        found[GPU] = str(int(amounts.get("GPU")))
    found |= {name: str(int(amounts.get(name))) for name in amounts.units if "/" in name}
    if disk:
        found["ephemeral-storage"] = str(int(disk))
    return found


def merged(ours: Any, theirs: Any) -> Any:
    """Mappings key by key, lists of things with names by their names, anything else as a whole."""
    if isinstance(ours, dict) and isinstance(theirs, dict):
        return {**ours, **{key: merged(ours[key], value) if key in ours else value for key, value in theirs.items()}}
    if _named(ours) and _named(theirs):
        known = {one["name"]: one for one in ours}
        for one in theirs:
            known[one["name"]] = merged(known[one["name"]], one) if one["name"] in known else one
        return list(known.values())
    return theirs


def _named(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(one, dict) and "name" in one for one in value)


def _given(key: str, value: Any) -> Json:
    return {key: value} if value else {}


def _container(context: ProviderContext, request: CreateRequest, image: str) -> Json:
    asked = requests_of(request.offer.resources, request.pool.spec.get("disk"))
    started = list(context.agent_argv) or ["python3", "-I", f"{BUNDLE}/{AGENT}"]
    claims = [
        {"name": f"claim-{n}", "mountPath": str(one["to"]), **_given("readOnly", bool(one.get("read_only")))}
        for n, one in enumerate(context.settings.get("volumes") or ())
    ]
    return {
        "name": CONTAINER,
        "image": image,
        "command": [*started, "--bootstrap", f"{BOOTSTRAP}/{DOCUMENT}"],
        "workingDir": ROOM,
        "env": [
            {"name": "CLUSTERCTL_NODE", "value": request.node_id},
            {"name": "HOME", "value": ROOM},  # the user may have none in the image
            {"name": "USER", "value": "clusterctl"},
        ],
        "resources": {"requests": asked, "limits": dict(asked)},
        "securityContext": {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}},
        "volumeMounts": [
            {"name": "room", "mountPath": ROOM},
            {"name": "bootstrap", "mountPath": BOOTSTRAP, "readOnly": True},
            *([] if context.agent_argv else [{"name": "bundle", "mountPath": BUNDLE, "readOnly": True}]),
            {"name": "shm", "mountPath": "/dev/shm"},  # noqa: S108  in the container
            *claims,
        ],
    }


def _volumes(context: ProviderContext, request: CreateRequest, name: str, bundle: str) -> list[Json]:
    memory = int(request.offer.resources.get("memory") * SHARED_MEMORY)
    claims = [
        {
            "name": f"claim-{n}",
            "persistentVolumeClaim": {
                "claimName": str(one["claim"]),
                **_given("readOnly", bool(one.get("read_only"))),
            },
        }
        for n, one in enumerate(context.settings.get("volumes") or ())
    ]
    return [
        {"name": "room", "emptyDir": {}},
        {"name": "bootstrap", "secret": {"secretName": name, "defaultMode": 0o440}},
        *([] if context.agent_argv else [{"name": "bundle", "configMap": {"name": bundle}}]),
        {"name": "shm", "emptyDir": {"medium": "Memory", **_given("sizeLimit", str(memory) if memory else "")}},
        *claims,
    ]
