"""A container of a pod as a machine on which programs are begun: `exec` through the API server.

What SSH proves with a host key, TLS to the API server does, and it is the server that knows which pod has a name.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from clusterctl.core.errors import NotYet
from clusterctl_providers.kubernetes.channel import Pod
from clusterctl_providers.kubernetes.client import Client


def log_in(place: Mapping[str, str]) -> Pod:
    """Raises ProviderError where there is no such pod, and NotYet while its container does not run."""
    client = Client({key: place.get(key, "") for key in ("kubeconfig", "context", "namespace")})
    try:
        name, container = place["pod"], place["container"]
        found = client.get(client.path("pods", name), f"looking at pod {name}")
        if why := why_not_running(found, container):
            raise NotYet(f"waiting for pod {name} of namespace {client.namespace}: {why}")
    except BaseException:
        client.close()
        raise
    return Pod(client, name, container)


def why_not_running(pod: Mapping[str, Any], container: str) -> str:
    """ "" where the container runs; else what the kubelet or the scheduler says of it."""
    status: Mapping[str, Any] = pod.get("status") or {}
    for one in status.get("containerStatuses") or ():
        if one.get("name") == container:
            state: Mapping[str, Any] = one.get("state") or {}
            if "running" in state:
                return ""
            kind, told = next(iter(state.items()), ("waiting", {}))
            return ": ".join(filter(None, [str(told.get("reason") or kind), str(told.get("message") or "")]))
    for one in status.get("conditions") or ():
        if one.get("type") == "PodScheduled" and one.get("status") == "False":
            return f"{one.get('reason')}: {one.get('message')}"
    return str(
        status.get("message") or status.get("reason") or f"it is {status.get('phase') or 'not seen by a node yet'}"
    )
