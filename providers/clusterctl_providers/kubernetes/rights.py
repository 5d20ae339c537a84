"""What the provider may have to do in the cluster's namespace, as rules of a Role: these verbs, and no others."""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from clusterctl_providers.kubernetes.client import Client

AT_ONCE = 8  # questions about rights
# resource -> verbs; the core's group, or one after a dot
NEEDED: dict[str, tuple[str, ...]] = {
    "configmaps": ("create", "delete", "get", "list"),
    "events": ("list",),
    "pods": ("create", "delete", "get", "list"),
    "pods/log": ("get",),
    "secrets": ("create",),  # those of others are none of our business
}
# besides, where the head is a pod: to make it, to get into it, and to remove all of it
WITH_HEAD: dict[str, tuple[str, ...]] = {
    "persistentvolumeclaims": ("create", "delete", "get", "list"),
    "pods/exec": ("create", "get"),  # by a websocket it is `get`; newer servers want both
    "rolebindings.rbac.authorization.k8s.io": ("create", "delete", "get", "list"),
    "roles.rbac.authorization.k8s.io": ("create", "delete", "get", "list", "patch"),
    "serviceaccounts": ("create", "delete", "get", "list"),
    "services": ("create", "delete", "get", "list"),
    "statefulsets.apps": ("create", "delete", "get", "list"),
}
_TO_GRANT = ("roles.rbac.authorization.k8s.io", "rolebindings.rbac.authorization.k8s.io", "serviceaccounts")
# of the head itself, in its pod: whoever makes it may do all of this, else the API server lets nobody grant it
OF_HEAD: dict[str, tuple[str, ...]] = {
    "configmaps": ("create", "get"),
    "events": ("list",),
    "pods": ("create", "delete", "get", "list"),
    "pods/log": ("get",),
    "secrets": ("create",),
    "statefulsets.apps": ("delete", "get", "list"),
}
# beyond the namespace, and not needed: with these, offers have the shapes and the prices of nodes
HELPFUL: dict[str, tuple[str, ...]] = {"nodes": ("list",), "pods": ("list",)}


def needed(settings: Mapping[str, Any]) -> dict[str, tuple[str, ...]]:
    """What whoever runs `up` and `down` with these settings needs."""
    if settings.get("head_address"):
        return NEEDED
    given = _TO_GRANT if settings.get("head_service_account") else ()
    return {**NEEDED, **{name: verbs for name, verbs in WITH_HEAD.items() if name not in given}}


def rules(table: dict[str, tuple[str, ...]] = NEEDED) -> list[dict[str, Any]]:
    """As a Role or a ClusterRole has them."""
    return [
        {"apiGroups": [name.partition(".")[2]], "resources": [name.partition(".")[0]], "verbs": list(verbs)}
        for name, verbs in sorted(table.items())
    ]


def answers(client: Client, table: Mapping[str, tuple[str, ...]], namespace: str) -> dict[tuple[str, str], bool]:
    """(resource, verb) of the table -> whether we may, several asked at a time. Raises ProviderError."""
    wanted = [(resource, verb) for resource, verbs in table.items() for verb in verbs]
    with ThreadPoolExecutor(AT_ONCE, "pods-rights") as pool:
        return dict(
            zip(wanted, pool.map(lambda each: allowed(client, each[0], each[1], namespace), wanted), strict=True)
        )


def allowed(client: Client, resource: str, verb: str, namespace: str) -> bool:
    """Whether we may. `namespace` "" is all of them."""
    name, _, sub = resource.partition("/")
    name, _, group = name.partition(".")
    wanted = {"verb": verb, "resource": name, "group": group, **({"subresource": sub} if sub else {})}
    wanted |= {"namespace": namespace} if namespace else {}
    path = client.path("selfsubjectaccessreviews", group="authorization.k8s.io/v1", namespace="")
    body = {
        "apiVersion": "authorization.k8s.io/v1",
        "kind": "SelfSubjectAccessReview",
        "spec": {"resourceAttributes": wanted},
    }
    answer = client.ask(path, f"asking whether one may {verb} {resource}", body)
    return bool((answer.get("status") or {}).get("allowed"))
