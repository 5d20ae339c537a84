"""How large the pods of a pool are."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from clusterctl_providers.catalog.choice import same_count, same_gpu
from clusterctl_providers.catalog.facts import GIB, GPU_VENDORS, InstanceType

from clusterctl.kuberay.platforms import TYPE_LABEL, Platform
from clusterctl.spec.faults import Finding, Path

KEPT = 0.1  # of a machine, that the kubelet, the system and daemon sets have before any pod
_HARDWARE = ("CPU", "GPU", "memory")


@dataclass(frozen=True)
class Shape:
    """`cpu`, `gpu`: whole; `memory`: bytes; `custom`: whole amounts. `types`: machine types that are to be chosen from, none for
    any. `gpu_name`: which GPU, "" for any."""

    cpu: int
    memory: int
    gpu: int = 0
    custom: tuple[tuple[str, int], ...] = ()
    types: tuple[str, ...] = ()
    gpu_name: str = ""

    def limits(self, disk: int | None) -> dict[str, str]:
        """Of a container: what it asks for and may use."""
        found = {"cpu": str(self.cpu), "memory": quantity(self.memory)}
        if self.gpu:
            found["nvidia.com/gpu"] = str(self.gpu)
        if disk is not None:
            found["ephemeral-storage"] = quantity(disk)
        return found

    def resources(self) -> dict[str, str]:
        """Of Ray: the keys as Ray's autoscaler takes them, which tells `CPU` from `cpu`."""
        hardware = {"CPU": str(self.cpu), **({"GPU": str(self.gpu)} if self.gpu else {}), "memory": str(self.memory)}
        return {**hardware, **{name: str(amount) for name, amount in self.custom}}


def quantity(amount: float) -> str:
    """Bytes as Kubernetes writes them: 8589934592 -> "8Gi"."""
    whole = int(amount)
    for unit, name in ((GIB, "Gi"), (2**20, "Mi")):
        if whole % unit == 0:
            return f"{whole // unit}{name}"
    return str(whole)


def shape_of(
    pool: Mapping[str, Any], machines: Iterable[InstanceType], platform: Platform, at: Path
) -> Shape | Finding:
    """Of a pool as plain data; `machines`: the catalogue's, of the pool's cloud. Else what is in the way, at `at`."""
    named: list[str] = pool.get("instances") or []
    gpu: Mapping[str, Any] = pool.get("gpu") or {}
    asked: dict[str, float] = {name: float(amount) for name, amount in (pool.get("resources") or {}).items()}
    if named:
        found = _of_types(named, machines, at)
    elif gpu:
        found = _with_gpu(gpu, asked, machines, platform, at)
    elif asked:
        found = Shape(0, 0)
    else:
        return Finding((*at, "name"), f"nothing says how large a pod of pool {pool['name']} is", _WRITE)
    if isinstance(found, Finding):
        return found
    return _as_asked(found, asked, at)


_WRITE = "write resources: {CPU: 4, memory: 16GiB}"


def _as_asked(found: Shape, asked: Mapping[str, float], at: Path) -> Shape | Finding:
    """With the amounts of `resources`, which a machine's are lowered to; with Ray they are whole."""
    cpu = int(min(asked.get("CPU", math.inf), found.cpu or math.inf, 2**31))
    memory = int(min(asked.get("memory", math.inf), found.memory or math.inf, 2**62))
    for name, amount in (("CPU", asked.get("CPU", found.cpu)), ("memory", asked.get("memory", found.memory))):
        if not amount:
            return Finding((*at, "resources"), f"nothing says how much {name} a pod has", _WRITE)
    custom = tuple(sorted((name, int(amount)) for name, amount in asked.items() if name not in _HARDWARE))
    gpus = found.gpu or int(asked.get("GPU", 0))
    return Shape(cpu, memory, gpus, custom, found.types, found.gpu_name)


def _of_types(named: list[str], machines: Iterable[InstanceType], at: Path) -> Shape | Finding:
    by_name = {machine.name: machine for machine in machines}
    at = (*at, "instances")
    if unknown := [name for name in named if name not in by_name]:
        what = f"the catalogue does not know how large {unknown[0]} is"
        return Finding((*at, named.index(unknown[0])), what, "write resources instead of it")
    types = [by_name[name] for name in named]
    counts = {machine.gpu_count for machine in types}
    if len(counts) > 1:
        what = "pods of one group have one number of GPUs, and these machines have different ones"
        return Finding(at, what, "split the pool")
    if counts.pop() and types[0].gpu_vendor not in GPU_VENDORS:
        return Finding(at, f"{types[0].gpu_name} has no words in KubeRay's groups here", "export a pool without it")
    if types[0].partial_gpu:
        return Finding(at, f"{types[0].name} has a share of a GPU, and pods have whole ones", "take another type")
    return _least(types, tuple(named))


def _least(types: list[InstanceType], named: tuple[str, ...] = (), gpu_name: str = "") -> Shape:
    """What fits on each of them, beside what a node keeps for itself."""
    cpu = max(1, math.floor(min(machine.vcpus for machine in types) * (1 - KEPT)))
    memory = math.floor(min(machine.memory_gib for machine in types) * (1 - KEPT)) or 1
    return Shape(cpu, memory * GIB, int(types[0].gpu_count), (), named, gpu_name)


def _with_gpu(
    gpu: Mapping[str, Any], asked: Mapping[str, float], machines: Iterable[InstanceType], platform: Platform, at: Path
) -> Shape | Finding:
    name, count = str(gpu.get("name") or ""), float(gpu.get("count") or 1)
    if count != int(count):
        return Finding((*at, "gpu", "count"), "pods have whole GPUs", f"write {math.ceil(count)}")
    told = bool(asked.get("CPU") and asked.get("memory"))
    if told and (platform.kubernetes.gpu_label or not name):
        return Shape(0, 0, int(count), gpu_name=name)
    types = [m for m in machines if m.gpu_count and same_gpu(m, name) and same_count(m, count) and not m.partial_gpu]
    types = [m for m in types if _holds(_least([m]), asked)]
    if not types:
        room = " that have room for these resources" if asked else ""
        what = f"no machines with {count:g} x {name or 'GPU'}{room} are known, whose size a pod could have"
        return Finding((*at, "gpu"), what, "write CPU and memory into resources")
    return _least(
        types, () if platform.kubernetes.gpu_label or not name else tuple(sorted(m.name for m in types)), name
    )


def _holds(shape: Shape, asked: Mapping[str, float]) -> bool:
    return asked.get("CPU", 0) <= shape.cpu and asked.get("memory", 0) <= shape.memory


def type_affinity(types: tuple[str, ...]) -> list[dict[str, Any]]:
    """Match expressions for nodes of these types."""
    return [{"key": TYPE_LABEL, "operator": "In", "values": list(types)}] if types else []
