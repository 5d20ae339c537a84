"""`clusterctl export kuberay`: the documents, and what they do not say of the spec."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any

from clusterctl_providers.catalog.facts import InstanceType
from clusterctl_providers.catalog.gpu_names import split_memory
from clusterctl_runtime.engine.images import default_image

from clusterctl.kuberay.besides import besides
from clusterctl.kuberay.losses import HEAD_CPU, HEAD_MEMORY, SPOT, Loss, group_names, losses
from clusterctl.kuberay.objects import FIRST, STEP, Group, Object, metadata_of, pod_monitor, ray_cluster
from clusterctl.kuberay.options import Options, Queue
from clusterctl.kuberay.platforms import GENERIC, Platform, platforms
from clusterctl.kuberay.shapes import Shape, shape_of
from clusterctl.spec.faults import Finding, Path
from clusterctl.spec.model import ClusterSpec
from clusterctl.spec.pool import Pool


@dataclass(frozen=True)
class Export:
    """`documents`: the objects, to be applied in their order. `refused`: what cannot be said; `told`: what changes and is not
    refused."""

    documents: tuple[Object, ...]
    refused: tuple[Finding, ...] = ()
    told: tuple[Finding, ...] = ()


def export(spec: ClusterSpec, machines: Iterable[InstanceType], options: Options) -> Export:
    """`machines`: those of the catalogue. What is refused is left out of the documents; there are none where a pod has no size or
    there is no Ray."""
    platform = platforms()[options.target]
    known = tuple(machines)
    options = _with_the_specs(spec, options)
    lost = list(losses(spec, options, platform))
    image = default_image(spec.ray)
    head = _head_shape(spec, known, platform)
    groups: list[Group] = []
    sizes = [] if isinstance(head, Shape) else [head]
    for index, pool in enumerate(spec.pools):
        made = _groups(spec, pool, known, platform, options, ("pools", index), lost)
        if isinstance(made, Finding):
            sizes.append(made)
        else:
            groups += made
    documents: list[Object] = []
    if not sizes and isinstance(head, Shape) and spec.ray is not None:
        documents = [ray_cluster(spec, groups, head, image, options, platform)]
        if options.prometheus == "podmonitor":
            documents.append(pod_monitor(spec, options))
        documents += besides(spec, metadata_of(spec, options), options)
    refused = (*sizes, *(loss.finding for loss in lost if loss.refused))
    return Export(tuple(documents), refused, tuple(loss.finding for loss in lost if not loss.refused))


def _with_the_specs(spec: ClusterSpec, options: Options) -> Options:
    """What the spec says of a namespace and a queue, where the options do not."""
    settings = spec.provider_settings if spec.kind.machine == "pod" else {}
    namespace, queue = str(settings.get("namespace") or ""), str(settings.get("kueue_queue") or "")
    return replace(
        options,
        namespace=options.namespace or namespace,
        queue=options.queue or (Queue(queue) if queue else None),
    )


def _head_shape(spec: ClusterSpec, machines: tuple[InstanceType, ...], platform: Platform) -> Shape | Finding:
    head = spec.head
    if not head.instance and not head.resources:
        return Shape(HEAD_CPU, HEAD_MEMORY)
    pool = {
        "name": "head",
        "instances": [head.instance] if head.instance else [],
        "resources": {"CPU": HEAD_CPU, "memory": HEAD_MEMORY, **head.resources}
        if not head.instance
        else head.resources,
    }
    found = shape_of(pool, _of(machines, spec.kind.name), platform, ("head",))
    if isinstance(found, Finding) and "instances" in found.path:
        return Finding(("head", "instance"), found.message, found.suggestion)
    return found


def _of(machines: tuple[InstanceType, ...], provider: str) -> list[InstanceType]:
    return [machine for machine in machines if machine.provider == provider]


def _groups(
    spec: ClusterSpec,
    pool: Pool,
    machines: tuple[InstanceType, ...],
    platform: Platform,
    options: Options,
    at: Path,
    lost: list[Loss],
) -> list[Group] | Finding:
    """Of a pool: one for each market that the platform can tell apart. Adds to `lost`."""
    provider = spec.kind_of(pool).name
    found = shape_of(pool.model_dump(mode="json", by_alias=True), _of(machines, provider), platform, at)
    if isinstance(found, Finding):
        return found
    gpu = _gpu(found, platform, options, at)
    if isinstance(gpu, Finding):
        return gpu
    types = found.types if provider == platform.provider else ()
    if found.types and not types:
        what = f"pods of pool {pool.name} take any node that has room for them: machine types are those of {provider}"
        fix = "say where the cluster of Kubernetes is with --target" if options.target == GENERIC else ""
        lost.append(Loss(Finding((*at, "instances" if pool.instances else "gpu"), what, fix, True), refused=False))
    groups = group_names(pool, platform)
    return [
        Group(
            name,
            pool,
            found,
            market == SPOT,
            FIRST + STEP * (len(groups) - 1 - number) if len(groups) > 1 else 0,
            0 if number else pool.min,
            gpu,
            types,
        )
        for number, (name, market) in enumerate(groups.items())
    ]


def _gpu(shape: Shape, platform: Platform, options: Options, at: Path) -> tuple[str, str] | Finding | None:
    """The label of nodes with that GPU; none where any will do, or machine types tell it."""
    if not shape.gpu:
        return None
    if options.gpu_label is not None:
        return options.gpu_label
    if not shape.gpu_name or not platform.kubernetes.gpu_label:
        return None
    model, memory = split_memory(shape.gpu_name)
    name = model.replace("-", "").upper()
    for known in (f"{name}-{memory:g}GB" if memory else name, name):
        if known in platform.kubernetes.gpus:
            return platform.kubernetes.gpu_label, platform.kubernetes.gpus[known]
    variants = sorted(one for one in platform.kubernetes.gpus if one.startswith(f"{name}-"))
    what = f"which label nodes with {shape.gpu_name} have is not known for --target {platform.kubernetes.name}"
    fix = f"write {' or '.join(variants)}" if variants else f"say --gpu-label {platform.kubernetes.gpu_label}=VALUE"
    return Finding((*at, "gpu", "name"), what, fix)


def plain(value: Any) -> Any:
    """The same without what two places share, which YAML would write as references."""
    if isinstance(value, dict):
        return {key: plain(entry) for key, entry in value.items()}
    return [plain(entry) for entry in value] if isinstance(value, list | tuple) else value
