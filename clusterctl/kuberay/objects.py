"""The objects themselves, as Kubernetes takes them: plain data, with the keys in the order in which people read them."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from clusterctl.kuberay.besides import FILES, PART_OF, file_volumes
from clusterctl.kuberay.options import Options, SecretRef
from clusterctl.kuberay.platforms import ZONE_LABEL, Platform
from clusterctl.kuberay.secrets import is_secret
from clusterctl.kuberay.shapes import Shape, type_affinity
from clusterctl.spec.hash import spec_hash
from clusterctl.spec.model import ClusterSpec
from clusterctl.spec.mounts.mount import Mount
from clusterctl.spec.pool import Pool
from clusterctl.spec.providers.kubernetes import Toleration

Object = dict[str, Any]
SPEC_HASH = "clusterctl/spec-hash"  # tells whether it was made of the spec as it is now
MANAGER = "clusterctl"
FIRST, STEP = 10, 10  # priorities of the groups of a pool: the market that is tried first has the highest
_RAY_USER = 1000  # of Ray's public images


@dataclass(frozen=True)
class Group:
    """Pods of a pool from one market. `priority`: groups with more are tried first. `gpu`: (label, value) of its nodes."""

    name: str
    pool: Pool
    shape: Shape
    spot: bool
    priority: int
    low: int
    gpu: tuple[str, str] | None = None
    types: tuple[str, ...] = ()


def ray_cluster(
    spec: ClusterSpec, groups: list[Group], head: Shape, image: str, options: Options, platform: Platform
) -> Object:
    """`image`: Ray's public one, without a GPU; groups with GPUs have the same with CUDA."""
    assert spec.ray is not None
    body: Object = {
        "rayVersion": spec.ray.version or image.rpartition(":")[2].partition("-")[0],
        "authOptions": {"mode": "token"},  # without it: no token is asked for
    }
    if is_scaled(options):
        body |= {
            "enableInTreeAutoscaling": True,
            "autoscalerOptions": {"version": "v2", "upscalingMode": "Default"},
        }
    if options.redis is not None:
        address, password = options.redis
        body["gcsFaultToleranceOptions"] = {"redisAddress": address} | (
            {"redisPassword": {"valueFrom": _secret(password)}} if password else {}
        )
    body["headGroupSpec"] = _head(spec, head, image, options, platform)
    body["workerGroupSpecs"] = [_worker(spec, group, image, options, platform) for group in groups]
    return {"apiVersion": "ray.io/v1", "kind": "RayCluster", "metadata": metadata_of(spec, options), "spec": body}


def is_scaled(options: Options) -> bool:
    """Whether Ray's autoscaler runs: what Kueue has admitted keeps its size, unless it may be elastic."""
    return options.queue is None or options.queue.elastic


def metadata_of(spec: ClusterSpec, options: Options) -> Object:
    """Of the RayCluster."""
    place = {"namespace": options.namespace} if options.namespace else {}
    found: Object = {"name": spec.cluster, **place, "labels": {"app.kubernetes.io/managed-by": MANAGER}}
    found["annotations"] = {SPEC_HASH: spec_hash(spec)}
    if options.queue is not None:
        found["labels"]["kueue.x-k8s.io/queue-name"] = options.queue.name
        if options.queue.priority:
            found["labels"]["kueue.x-k8s.io/priority-class"] = options.queue.priority
        if options.queue.elastic:
            found["annotations"]["kueue.x-k8s.io/elastic-job"] = "true"
    return found


def _head(spec: ClusterSpec, shape: Shape, image: str, options: Options, platform: Platform) -> Object:
    """Tasks run on workers, as in clusters of our own: Ray is told of no CPU there."""
    container = _container("ray-head", spec, None, shape, options.image or image, options)
    container["ports"] = [
        {"name": name, "containerPort": port}
        for name, port in (("gcs", 6379), ("dashboard", 8265), ("client", 10001), *_head_metrics(options))
    ]
    pod: Object = {"containers": [container]}
    if spec.head.node_selector:
        pod["nodeSelector"] = dict(spec.head.node_selector)
    if spec.head.tolerations:
        pod["tolerations"] = [_toleration(one) for one in spec.head.tolerations]
    expressions = type_affinity(shape.types) if spec.kind.name == platform.provider else []
    if spec.head.zone:
        expressions.append({"key": ZONE_LABEL, "operator": "In", "values": [spec.head.zone]})
    return {
        "rayStartParams": _start_parameters(spec),
        "resources": {"CPU": "0", "memory": str(shape.memory)},
        "template": _template(pod, expressions, spec, None, options),
    }


def _worker(spec: ClusterSpec, group: Group, image: str, options: Options, platform: Platform) -> Object:
    pool, shape = group.pool, group.shape
    public = f"{image}-gpu" if shape.gpu else image
    container = _container("ray-worker", spec, pool, shape, options.image or _own_image(spec, pool) or public, options)
    pod: Object = {"automountServiceAccountToken": False, "containers": [container]}
    selector = {**pool.node_selector, **(platform.kubernetes.spot if group.spot else {})}
    if group.gpu:
        selector[group.gpu[0]] = group.gpu[1]
    if selector:
        pod["nodeSelector"] = selector
    tolerations = list(platform.kubernetes.spot_tolerations) if group.spot else []
    if shape.gpu:
        tolerations.append({"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"})
    tolerations += [one for given in pool.tolerations if (one := _toleration(given)) not in tolerations]
    if tolerations:
        pod["tolerations"] = tolerations
    expressions = type_affinity(group.types)
    if pool.zones:
        expressions.append({"key": ZONE_LABEL, "operator": "In", "values": list(pool.zones)})
    made: Object = {
        "groupName": group.name,
        "replicas": group.low,
        "minReplicas": group.low,
        "maxReplicas": pool.max,
        **({"idleTimeoutSeconds": int(pool.idle_timeout), "priority": group.priority} if is_scaled(options) else {}),
        "rayStartParams": _start_parameters(spec),
        "resources": shape.resources(),
    }
    if pool.labels:
        made["labels"] = dict(pool.labels)
    made["template"] = _template(pod, expressions, spec, group, options)
    return made


def _toleration(given: Toleration) -> Object:
    texts = {name: getattr(given, name) for name in ("key", "operator", "value", "effect") if getattr(given, name)}
    found = {"operator": "Exists" if not given.value else "Equal", **texts}
    return {**found, **({"tolerationSeconds": given.seconds} if given.seconds is not None else {})}


def _own_image(spec: ClusterSpec, pool: Pool) -> str:
    """One for containers: a machine image is none for pods."""
    if spec.kind_of(pool).machine not in ("container", "pod"):
        return ""
    return pool.image or str(spec.settings_of(pool).get("image") or "")


def _container(name: str, spec: ClusterSpec, pool: Pool | None, shape: Shape, image: str, options: Options) -> Object:
    limits = shape.limits(int(disk) if (disk := (pool or spec.head).disk) else None)
    made: Object = {"name": name, "image": image, "resources": {"limits": limits, "requests": dict(limits)}}
    assert spec.ray is not None
    plain = {**spec.env, **(pool.env if pool else {}), **spec.ray.env}
    env: list[Object] = [
        {"name": key, "value": _literal(value)} for key, value in plain.items() if key not in options.secrets
    ]
    env += [{"name": key, "valueFrom": _secret(ref)} for key, ref in options.secrets.items()]
    if any(path.startswith(FILES) for path in file_volumes(spec, options)):
        env.append({"name": "CLUSTERCTL_FILES", "value": FILES})
    if env:
        made["env"] = env
    mounts = [{"name": name, "mountPath": to, **more} for to, (name, _, more) in _volumes(spec, pool, options).items()]
    if mounts:
        made["volumeMounts"] = mounts
    commands = [one for one in [*spec.setup, *(pool.setup if pool else [])] if not is_secret(one)]
    if options.setup_at_start and commands:
        made["command"] = [_literal(_before_ray(commands))]
    made["securityContext"] = {
        "allowPrivilegeEscalation": False,
        "capabilities": {"drop": ["ALL"]},
        "seccompProfile": {"type": "RuntimeDefault"},
    }
    if image.startswith("rayproject/ray:"):
        made["securityContext"] |= {"runAsNonRoot": True, "runAsUser": _RAY_USER}
    return made


def _before_ray(commands: list[str]) -> str:
    """The operator appends `&& ulimit ...; ray start ...`: a command that failed must end the container before that."""
    told = " && ".join(f"bash -lc {shlex.quote(command)}" for command in commands)
    return f'(cd "${{CLUSTERCTL_FILES:-.}}" && {told}) || exit 1'


def _literal(value: str) -> str:
    """As it is: Kubernetes takes $(NAME) for the value of another variable."""
    return value.replace("$(", "$$(")


def _template(
    pod: Object, expressions: list[Object], spec: ClusterSpec, group: Group | None, options: Options
) -> Object:
    affinity: Object = {}
    if expressions:
        terms = [{"matchExpressions": expressions}]
        affinity["nodeAffinity"] = {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": terms}}
    if group and group.pool.one_zone:
        others = {"matchLabels": {PART_OF: spec.cluster, "ray.io/group": group.name}}
        near = {"weight": 100, "podAffinityTerm": {"labelSelector": others, "topologyKey": ZONE_LABEL}}
        affinity["podAffinity"] = {"preferredDuringSchedulingIgnoredDuringExecution": [near]}
    if affinity:
        pod["affinity"] = affinity
    volumes = _volumes(spec, group.pool if group else None, options).values()
    if volumes:
        pod["volumes"] = [{"name": name, **source} for name, source, _ in volumes]
    metadata: Object = {"labels": {PART_OF: spec.cluster}}
    if options.prometheus == "annotations":
        metadata["annotations"] = {"prometheus.io/scrape": "true", "prometheus.io/port": "8080"}
    return {"metadata": metadata, "spec": pod}


def _volumes(spec: ClusterSpec, pool: Pool | None, options: Options) -> dict[str, tuple[str, Object, Object]]:
    """By the path in the containers: (name, what it is, more of its mount)."""
    found: dict[str, tuple[str, Object, Object]] = {}
    for mount in [*spec.mounts, *(pool.mounts if pool else [])]:
        if mount.to not in options.claimed and mount.scheme_name == "nfs":
            found[mount.to] = (f"mount-{len(found)}", *_nfs(mount))
    claims = {**options.claims, **{one.path: one.name for one in options.volumes}}
    for path, claim in claims.items():
        found[path] = (f"mount-{len(found)}", {"persistentVolumeClaim": {"claimName": claim}}, {})
    return found | file_volumes(spec, options)


def _nfs(mount: Mount) -> tuple[Object, Object]:
    server, _, path = mount.source.partition("://")[2].partition("/")
    read_only = {"readOnly": True} if mount.how == "read-only" else {}
    return {"nfs": {"server": server, "path": f"/{path}", **read_only}}, read_only


def _secret(ref: SecretRef) -> Object:
    return {"secretKeyRef": {"name": ref.name, "key": ref.key}}


def _start_parameters(spec: ClusterSpec) -> dict[str, str]:
    assert spec.ray is not None
    return {"object-store-memory": str(int(spec.ray.object_store))} if spec.ray.object_store else {}


def _head_metrics(options: Options) -> list[tuple[str, int]]:
    """Ports of the autoscaler and the dashboard: the operator adds Ray's own."""
    return [("as-metrics", 44217), ("dash-metrics", 44227)] if options.prometheus == "podmonitor" else []


def pod_monitor(spec: ClusterSpec, options: Options) -> Object:
    """For Prometheus' operator: of head and workers."""
    relabel: list[Mapping[str, Any]] = [
        {"sourceLabels": ["__meta_kubernetes_pod_label_ray_io_cluster"], "targetLabel": "ray_io_cluster"}
    ]
    ports = ("metrics", *(name for name, _ in _head_metrics(options)))
    body = {
        "selector": {"matchLabels": {PART_OF: spec.cluster}},
        "podMetricsEndpoints": [{"port": port, "relabelings": relabel} for port in ports],
    }
    return {
        "apiVersion": "monitoring.coreos.com/v1",
        "kind": "PodMonitor",
        "metadata": metadata_of(spec, options),
        "spec": body,
    }
