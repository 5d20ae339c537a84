"""What nodes the cluster of Kubernetes has, as far as listing them is granted: the offers of a pool, with the share of a node's
price that a pod is, and whether a pod could ever fit anywhere.

Nodes with like labels (type, zone, market) are one shape. Only the scheduler knows what is free at a moment: a shape that looks
full is offered last, and not left out. Where something adds nodes, one of a shape that is not there yet may come.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from clusterctl.core.errors import AuthFailed, ProviderError
from clusterctl.core.model import Offer, labels_of
from clusterctl.core.resources import Resources
from clusterctl_providers.base import PoolRequest
from clusterctl_providers.catalog import SPOT_ESTIMATE, prices
from clusterctl_providers.kubernetes.client import Client
from clusterctl_providers.kubernetes.pod import GPU, requests_of
from clusterctl_providers.kubernetes.quantities import amount, size
from clusterctl_providers.kubernetes.selection import CLOUDS, TYPE_LABELS, ZONE_LABELS, label_of, suits, unknown_gpu

log = logging.getLogger(__name__)

LAST = 60.0  # seconds that a look at the nodes is good for
REFUSED_FOR = 600.0  # and that nobody asks again where it is not granted
DECIDES = "the scheduler decides"
GIB = 2**30
ON = "@"  # between the size of a pod and the type of the nodes that it is for
LEAST = {"CPU": 1.0, "memory": 2.0 * GIB}  # of a pool that says nothing; 2 GiB for each CPU
# Who adds nodes marks those that it has added.
_ADDED = (
    "karpenter.sh/nodepool", "karpenter.sh/provisioner-name", "cloud.google.com/gke-nodepool", "eks.amazonaws.com/nodegroup",
    "kubernetes.azure.com/agentpool", "agentpool", "node.cluster.x-k8s.io/machine",
)  # fmt: skip
_SPOT = {
    "karpenter.sh/capacity-type": "spot",
    "eks.amazonaws.com/capacityType": "SPOT",
    "cloud.google.com/gke-spot": "true",
    "cloud.google.com/gke-preemptible": "true",
    "cloud.google.com/gke-provisioning": "spot",
    "kubernetes.azure.com/scalesetpriority": "spot",
}
Node = Mapping[str, Any]


@dataclass(frozen=True)
class Shape:
    """Nodes that differ in nothing that counts. `pins`: the labels by which a pod gets onto one of them; `node`: any of them."""

    type: str
    zone: str
    market: str
    pins: Mapping[str, str]
    node: Node
    names: tuple[str, ...] = field(default=())


class Shapes:
    """Thread-safe enough: two looks at once are two calls."""

    def __init__(self, client: Client, clock: Callable[[], float] = time.monotonic) -> None:
        self._client, self._clock = client, clock
        self._nodes: list[Node] | None = None
        self._used: dict[str, dict[str, float]] = {}
        self._until = float("-inf")

    # ------------------------------------------------------------ what is asked

    def offers(self, pool: PoolRequest) -> list[Offer]:
        """Best first: shapes with room, others, the scheduler's choice. Never raises for nodes that may not be listed."""
        blank = _blank(pool)
        if unknown := unknown_gpu(pool):
            return [replace(blank, closed=unknown, price_source=DECIDES)]
        nodes = self._look()
        if nodes is None:
            return [replace(blank, price_source=f"{DECIDES}: nodes may not be listed")]
        fitting = [
            shape for shape in _shapes(n for n in nodes if suits(n, pool)) if not _lacks(shape.node, blank, pool)
        ]
        found = [self._offer(shape, blank, pool) for shape in fitting if shape.pins]
        open_end = self.grows() or any(not shape.pins for shape in fitting)
        if open_end or not found:
            closed = "" if open_end else self.never(pool)
            rank = max((offer.rank for offer in found), default=-1) + 1
            found.append(replace(blank, rank=rank, closed=closed, price_source=DECIDES))
        return sorted(found, key=lambda offer: (offer.rank, offer.price, offer.key))

    def never(self, pool: PoolRequest) -> str:
        """Why no node of the cluster could ever take a pod of that pool, as a sentence; "" where one could, where that is not
        known, or where nodes may be added that are not there yet."""
        if unknown := unknown_gpu(pool):
            return unknown
        nodes = self._look()
        if nodes is None or self.grows():
            return ""
        blank = _blank(pool)
        suitable = [node for node in nodes if suits(node, pool)]
        lacking = [_lacks(node, blank, pool) for node in suitable]
        if suitable and not all(lacking):
            return ""
        many = f"{len(nodes)} node{'' if len(nodes) == 1 else 's'}"
        if not suitable:
            return f"none of the {many} of the cluster has the labels that pool {pool.name} wants, and no taint that it lacks"
        largest = max(suitable, key=lambda node: _allocatable(node).get("cpu", 0.0))
        return (
            f"no node of the cluster can ever take a pod of pool {pool.name}: the largest of {len(suitable)} has "
            f"{_lacks(largest, blank, pool)}"
        )

    def grows(self) -> bool:
        """Whether somebody seems to add nodes when they are wanted, or that is not known."""
        nodes = self._look()
        return nodes is None or any(label_of(node, _ADDED) for node in nodes)

    def pins(self, offer: Offer) -> dict[str, str]:
        """The labels that keep a pod to the nodes of that offer; {} for any node."""
        kind = offer.instance_type.partition(ON)[2]
        if not kind:
            return {}
        for shape in _shapes(self._look() or ()):
            if (shape.type, shape.zone, shape.market) == (kind, offer.zone, offer.market):
                return dict(shape.pins)
        return {TYPE_LABELS[0]: kind, **({ZONE_LABELS[0]: offer.zone} if offer.zone else {})}

    # ------------------------------------------------------------ inside

    def _look(self) -> list[Node] | None:
        """None where listing nodes is not granted or cannot be done now."""
        now = self._clock()
        if now >= self._until:
            try:
                nodes = [
                    n for page in self._client.pages("/api/v1/nodes", "listing the nodes of the cluster") for n in page
                ]
                self._nodes, self._until = list[Node](filter(_is_ready, nodes)), now + LAST
                self._used = self._requests()
            except ProviderError as error:
                log.info("%s; %s", error, DECIDES)
                self._until = now + (REFUSED_FOR if isinstance(error, AuthFailed) else LAST)
                self._nodes = None if isinstance(error, AuthFailed) else self._nodes
        return self._nodes

    def _requests(self) -> dict[str, dict[str, float]]:
        """What pods want of each node, by its name; {} where pods of other namespaces may not be listed."""
        used: dict[str, dict[str, float]] = {}
        alive = "status.phase!=Succeeded,status.phase!=Failed"
        try:
            for page in self._client.pages("/api/v1/pods", "listing the pods of all namespaces", fieldSelector=alive):
                for pod in page:
                    spec = pod.get("spec") or {}
                    if name := spec.get("nodeName"):
                        _add(used.setdefault(name, {}), spec)
        except ProviderError as error:
            log.info("%s; what is free is not known", error)
            return {}
        return used

    def _offer(self, shape: Shape, blank: Offer, pool: PoolRequest) -> Offer:
        wanted = {name: amount(value) for name, value in _wanted(blank, pool).items()}
        has = _allocatable(shape.node)
        free = [
            {name: has.get(name, 0.0) - self._used.get(one, {}).get(name, 0.0) for name in wanted}
            for one in shape.names
        ]
        room = any(all(left[name] >= much for name, much in wanted.items()) for left in free)
        price, source, date, region = _price(shape, wanted)
        return replace(
            blank,
            instance_type=f"{_size(blank)}{ON}{shape.type}",
            zone=shape.zone,
            market=shape.market,
            region=region,
            price=price,
            price_source=source,
            price_date=date,
            rank=0 if room else 1,
        )


def _blank(pool: PoolRequest) -> Offer:
    """What a pod of the pool has, wherever it runs."""
    gpu: Mapping[str, Any] = pool.spec.get("gpu") or {}
    amounts = {str(key): float(much) for key, much in (pool.spec.get("resources") or {}).items()}
    if gpu:
        amounts.setdefault("GPU", float(gpu.get("count", 1)))
    amounts.setdefault("CPU", LEAST["CPU"])
    amounts.setdefault("memory", LEAST["memory"] * max(1.0, amounts["CPU"]))
    zones = pool.spec.get("zones") or ()
    blank = Offer(
        pool=pool.name,
        instance_type="",
        market="on-demand",
        zone=str(zones[0]) if len(zones) == 1 else "",
        price=0.0,
        resources=Resources.of(amounts),
        labels=labels_of(dict(pool.spec.get("labels") or {})),
        gpu_type=str(gpu.get("name") or ""),
        boot_seconds=5.0,
    )
    elsewhere = f"-{pool.name}" if pool.spec.get("node_selector") else ""
    return replace(blank, instance_type=_size(blank) + elsewhere)


def _size(offer: Offer) -> str:
    """What stands for a machine type: pods that differ in it do not find room, or none, together."""
    has = offer.resources
    gpus = f"-{has.get('GPU'):g}x{(offer.gpu_type or 'gpu').lower()}" if has.get("GPU") else ""
    return f"{has.get('CPU'):g}cpu-{has.get('memory') / GIB:.3g}gib{gpus}"


def _wanted(blank: Offer, pool: PoolRequest) -> dict[str, str]:
    return requests_of(blank.resources, pool.spec.get("disk"))


def _lacks(node: Node, blank: Offer, pool: PoolRequest) -> str:
    """What such a node has too little of, "" for nothing."""
    has = _allocatable(node)
    for name, quantity in _wanted(blank, pool).items():
        much = amount(quantity)
        if has.get(name, 0.0) < much:
            there = has.get(name, 0.0)
            shown = (
                (size(there), size(much)) if name in ("memory", "ephemeral-storage") else (f"{there:g}", f"{much:g}")
            )
            return f"{shown[0]} {name} for pods, which want {shown[1]}"
    return ""


def _allocatable(node: Node) -> dict[str, float]:
    return {name: amount(value) for name, value in ((node.get("status") or {}).get("allocatable") or {}).items()}


def _is_ready(node: Node) -> bool:
    conditions = (node.get("status") or {}).get("conditions") or ()
    return any(one.get("type") == "Ready" and one.get("status") == "True" for one in conditions)


def _shapes(nodes: Iterable[Node]) -> list[Shape]:
    found: dict[tuple[str, str, str], Shape] = {}
    for node in nodes:
        kind, zone = label_of(node, TYPE_LABELS), label_of(node, ZONE_LABELS)
        spot = {key: value for key, value in _SPOT.items() if label_of(node, (key,)) == value}
        pins = {**({TYPE_LABELS[0]: kind} if kind else {}), **({ZONE_LABELS[0]: zone} if kind and zone else {})}
        key = (kind, zone if kind else "", "spot" if spot and kind else "on-demand")
        name = str(node["metadata"]["name"])
        known = found.get(key)
        found[key] = (
            replace(known, names=(*known.names, name))
            if known
            else Shape(*key, {**pins, **dict([*spot.items()][:1])} if pins else {}, node, (name,))
        )
    return list(found.values())


def _price(shape: Shape, wanted: Mapping[str, float]) -> tuple[float, str, str, str]:
    """($/h of the share of a node that a pod takes, where from, as of when, region). A node costs its price whether pods are on
    it or not: the share is an estimate of what a pod is to blame for."""
    cloud = CLOUDS.get(str((shape.node.get("spec") or {}).get("providerID") or "").partition(":")[0], "")
    region = label_of(shape.node, ("topology.kubernetes.io/region", "failure-domain.beta.kubernetes.io/region"))
    known = prices(cloud, region).get(shape.type) if cloud else None
    if known is None:
        return 0.0, "unknown", "", region
    whole = known.on_demand
    if shape.market == "spot":
        whole = known.spot if known.spot is not None else known.on_demand * SPOT_ESTIMATE
    has = _allocatable(shape.node)
    parts = [wanted[name] / has[name] for name in ("cpu", "memory", GPU) if wanted.get(name) and has.get(name)]
    return (
        whole * min(1.0, max(parts, default=1.0)),
        f"estimated: a share of {shape.type} ({known.source})",
        known.as_of,
        region,
    )


def _add(used: dict[str, float], spec: Mapping[str, Any]) -> None:
    for container in spec.get("containers") or ():
        for name, quantity in ((container.get("resources") or {}).get("requests") or {}).items():
            used[name] = used.get(name, 0.0) + amount(quantity)
    for name, quantity in (spec.get("overhead") or {}).items():
        used[name] = used.get(name, 0.0) + amount(quantity)
