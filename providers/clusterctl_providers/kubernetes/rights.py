"""What the provider may have to do in the cluster's namespace, as rules of a Role: these verbs, and no others."""

from __future__ import annotations

from typing import Any

from clusterctl_providers.kubernetes.client import Client

# resource -> verbs, all of the core's group
NEEDED: dict[str, tuple[str, ...]] = {
    "configmaps": ("create", "delete", "get", "list"),
    "events": ("list",),
    "pods": ("create", "delete", "get", "list"),
    "pods/log": ("get",),
    "secrets": ("create",),  # those of others are none of our business
}
# beyond the namespace, and not needed: with these, offers have the shapes and the prices of nodes
HELPFUL: dict[str, tuple[str, ...]] = {"nodes": ("list",), "pods": ("list",)}


def rules(table: dict[str, tuple[str, ...]] = NEEDED) -> list[dict[str, Any]]:
    """As a Role or a ClusterRole has them."""
    return [{"apiGroups": [""], "resources": [name], "verbs": list(verbs)} for name, verbs in sorted(table.items())]


def allowed(client: Client, resource: str, verb: str, namespace: str) -> bool:
    """Whether we may. `namespace` "" is all of them."""
    name, _, sub = resource.partition("/")
    wanted = {"verb": verb, "resource": name, **({"subresource": sub} if sub else {})}
    wanted |= {"namespace": namespace} if namespace else {}
    path = client.path("selfsubjectaccessreviews", group="authorization.k8s.io/v1", namespace="")
    body = {
        "apiVersion": "authorization.k8s.io/v1",
        "kind": "SelfSubjectAccessReview",
        "spec": {"resourceAttributes": wanted},
    }
    answer = client.ask(path, f"asking whether one may {verb} {resource}", body)
    return bool((answer.get("status") or {}).get("allowed"))
