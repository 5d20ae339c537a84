"""What `doctor` asks of a cluster of Kubernetes: that it is there and knows us, each right by its verb, what the settings name.
Nothing is changed by asking."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from clusterctl.core.errors import ProviderError
from clusterctl_providers.base import PoolRequest
from clusterctl_providers.cloud.doctor import Check, examine, permission_rows
from clusterctl_providers.kubernetes.client import Client
from clusterctl_providers.kubernetes.kubeconfig import IN_CLUSTER
from clusterctl_providers.kubernetes.review import Review
from clusterctl_providers.kubernetes.rights import HELPFUL, allowed, answers, needed

OLDEST = (1, 20)  # that the tests run against


def check_cluster(
    client: Client, review: Review, settings: Mapping[str, Any], pools: Sequence[PoolRequest]
) -> list[Check]:
    """`pools`: what they would make is tried, too, and not made."""
    version: dict[str, Any] = {}

    def who() -> str:
        version.update(client.get("/version", f"asking the API server of {client.context} for its version"))
        allowed(client, "pods", "list", client.namespace)  # the version is for everybody to see
        way = "the service account of this pod" if client.context == IN_CLUSTER else f"context {client.context}"
        return f"{way}, namespace {client.namespace}"

    return examine(
        "Kubernetes",
        who,
        lambda: _version(version),
        lambda: _rights(client, needed(settings)),
        lambda: _named(review, pools),
        lambda: _address(settings),
    )


def _version(version: Mapping[str, Any]) -> Iterator[Check]:
    text = str(version.get("gitVersion") or "unknown")
    found = re.match(r"v?(\d+)\.(\d+)", text)
    new_enough = found is None or found[1] == "0" or (int(found[1]), int(found[2])) >= OLDEST  # v0.0.0: nobody knows
    yield f"Kubernetes {text}", new_enough, "" if new_enough else f"it has to be {OLDEST[0]}.{OLDEST[1]} or later"


def _rights(client: Client, table: Mapping[str, tuple[str, ...]]) -> Iterator[Check]:
    try:
        rows = {f"to {verb} {name}": may for (name, verb), may in answers(client, table, client.namespace).items()}
    except ProviderError as error:
        yield "rights that can be asked for", False, str(error)
        return
    fix = f"ask whoever runs the cluster for the Role of docs/kubernetes.md in namespace {client.namespace}"
    yield from permission_rows(rows, lambda _: fix)
    if all(answers(client, HELPFUL, "").values()):
        yield "nodes and the pods on them may be listed: offers have shapes and prices", True, ""
    else:
        yield (
            "nodes and the pods on them may not all be listed: where a pod fits, the scheduler alone decides",
            True,
            "",
        )


def _named(review: Review, pools: Sequence[PoolRequest]) -> Iterator[Check]:
    try:
        objections = review.of(pools, rights=False)
    except ProviderError as error:
        yield "things that the settings name", False, str(error)
        return
    for one in objections:
        where = f"{one.pool}: {one.key}" if one.pool else one.key
        yield f"{where} as it is written", False, f"{one.text}; {one.fix}" if one.fix else one.text
    if not objections and pools:
        yield "pods of all pools are admitted (a dry run, nothing was made)", True, ""


def _address(settings: Mapping[str, Any]) -> Iterator[Check]:
    if address := str(settings.get("head_address") or ""):
        yield f"pods are told to find the head at {address}", True, ""
