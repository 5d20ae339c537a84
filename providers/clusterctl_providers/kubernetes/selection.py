"""Which nodes of Kubernetes the pods of a pool may run on: its `zones`, `instances` and `gpu` as labels of nodes, and what they
have to tolerate."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from clusterctl_providers.base import PoolRequest
from clusterctl_providers.catalog import instance_types
from clusterctl_providers.catalog.choice import same_gpu

TYPE_LABELS = ("node.kubernetes.io/instance-type", "beta.kubernetes.io/instance-type")
ZONE_LABELS = ("topology.kubernetes.io/zone", "failure-domain.beta.kubernetes.io/zone")
_GPU_TAINT = {"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"}
CLOUDS = {"aws": "aws", "gce": "gcp", "azure": "azure"}  # of a node's providerID -> whose catalogue
Json = dict[str, Any]


def affinity(pool: PoolRequest) -> Json:
    """{} where any node will do. A GPU is known by any of the labels that the pool's `gpu_labels` have, or by the machine type:
    which of them nodes bear depends on who made them. Where the user has chosen nodes, those are taken."""
    always = [_one_of(TYPE_LABELS[0], pool.spec.get("instances")), _one_of(ZONE_LABELS[0], pool.spec.get("zones"))]
    fixed = [one for one in always if one]
    either = {} if pool.spec.get("node_selector") or pool.spec.get("instances") else gpu_marks(pool)
    terms = [{"matchExpressions": [*fixed, *_some(label, values)]} for label, values in sorted(either.items())]
    if not terms and fixed:
        terms = [{"matchExpressions": fixed}]
    if not terms:
        return {}
    return {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": terms}}}


def gpu_marks(pool: PoolRequest) -> dict[str, Sequence[str]]:
    """Label -> values of which any says that a node has the GPU that the pool names; {} where it names none, or nothing is known
    of it."""
    name = str((pool.spec.get("gpu") or {}).get("name") or "")
    if not name:
        return {}
    clouds = (instance_types(cloud) for cloud in CLOUDS.values())
    types = sorted(
        {machine.name for cloud in clouds for machine in cloud if machine.gpu_name and same_gpu(machine, name)}
    )
    return {**(pool.spec.get("gpu_labels") or {}), **({TYPE_LABELS[0]: types} if types else {})}


def unknown_gpu(pool: PoolRequest) -> str:
    """A sentence where nobody knows how nodes with the pool's GPU are marked, and the user does not say; else ""."""
    gpu = pool.spec.get("gpu") or {}
    if not gpu.get("name") or pool.spec.get("node_selector") or pool.spec.get("instances") or gpu_marks(pool):
        return ""
    return f"how nodes with {gpu['name']} are labelled is not known here: choose them with `node_selector`"


def tolerations(pool: PoolRequest) -> list[Json]:
    """The user's, and that of nodes with GPUs, which are kept free of others."""
    gpu = [_GPU_TAINT] if pool.spec.get("gpu") or (pool.spec.get("resources") or {}).get("GPU") else []
    return [*gpu, *(_toleration(one) for one in pool.spec.get("tolerations") or ())]


def suits(node: Mapping[str, Any], pool: PoolRequest) -> bool:
    """Whether pods of the pool may run on that node, as far as labels and taints say."""
    labels: Mapping[str, str] = (node.get("metadata") or {}).get("labels") or {}
    if any(labels.get(key) != value for key, value in (pool.spec.get("node_selector") or {}).items()):
        return False
    terms = affinity(pool).get("nodeAffinity", {}).get("requiredDuringSchedulingIgnoredDuringExecution", {})
    either = terms.get("nodeSelectorTerms") or [{"matchExpressions": []}]
    if not any(all(labels.get(one["key"]) in one["values"] for one in term["matchExpressions"]) for term in either):
        return False
    spec = node.get("spec") or {}
    taints = [t for t in spec.get("taints") or () if t.get("effect") in ("NoSchedule", "NoExecute")]
    return not spec.get("unschedulable") and all(any(_tolerates(one, t) for one in tolerations(pool)) for t in taints)


def label_of(node: Mapping[str, Any], names: Sequence[str]) -> str:
    labels: Mapping[str, str] = (node.get("metadata") or {}).get("labels") or {}
    return next((labels[name] for name in names if labels.get(name)), "")


def _one_of(label: str, values: Sequence[str] | None) -> Json | None:
    return {"key": label, "operator": "In", "values": [str(value) for value in values]} if values else None


def _some(label: str, values: Sequence[str]) -> list[Json]:
    found = _one_of(label, values)
    return [found] if found else []


def _toleration(told: Mapping[str, Any]) -> Json:
    found = {key: told[key] for key in ("key", "value", "effect") if told.get(key)}
    if told.get("seconds") is not None:
        found["tolerationSeconds"] = told["seconds"]
    return {**found, "operator": str(told.get("operator") or ("Equal" if told.get("value") else "Exists"))}


def _tolerates(toleration: Mapping[str, Any], taint: Mapping[str, Any]) -> bool:
    if toleration.get("key") and toleration["key"] != taint.get("key"):
        return False
    if toleration.get("effect") and toleration["effect"] != taint.get("effect"):
        return False
    return toleration["operator"] == "Exists" or toleration.get("value", "") == (taint.get("value") or "")
