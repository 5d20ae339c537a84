"""The operator's rules of a RayCluster's spec, which RayJob, RayService and RayCronJob embed. Each yields `path: sentence`."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from packaging.version import Version

from tests.kuberay import metadata, quantities

AUTOSCALER_V2 = "RAY_enable_autoscaler_v2"
START_COMMAND = "KUBERAY_GEN_AUTOSCALER_START_CMD"
HEAD_GROUP = "headgroup"  # what the operator and Ray's autoscaler call the head's
IN_BOTH = ("num-cpus", "num-gpus", "memory", "resources")
EXACT = ("CPU", "GPU", "memory")
PREFIX = "ray.io/"
# What of that prefix is for users: Ray's own labels of nodes, by which tasks are placed.
PLACES = frozenset(
    f"{PREFIX}{name}"
    for name in ("accelerator-type", "availability-region", "availability-zone", "market-type", "region", "zone")
)  # fmt: skip
GATED = {
    "historyServerOptions": "RayClusterHistoryServer",
    "networkPolicy": "RayClusterNetworkPolicy",
    "tlsOptions": "RayClusterMTLS",
}
GENERIC_VERSION = re.compile(r"v?([0-9]+(\.[0-9]+)+)")


@dataclass(frozen=True)
class Group:
    """The head's, or one of the workers'."""

    path: str
    name: str
    spec: dict[str, Any]

    @property
    def pod(self) -> dict[str, Any]:
        return (self.spec.get("template") or {}).get("spec") or {}

    @property
    def container(self) -> dict[str, Any]:
        """That in which Ray runs: always the first."""
        return next(iter(self.pod.get("containers") or []), {})

    @property
    def env(self) -> dict[str, Any]:
        return _env(self.container)

    @property
    def start(self) -> dict[str, str]:
        return self.spec.get("rayStartParams") or {}


@dataclass(frozen=True)
class Cluster:
    path: str
    spec: dict[str, Any]
    annotations: dict[str, str]

    @property
    def head(self) -> Group:
        return Group(f"{self.path}.headGroupSpec", HEAD_GROUP, self.spec.get("headGroupSpec") or {})

    @property
    def workers(self) -> list[Group]:
        found = enumerate(self.spec.get("workerGroupSpecs") or [])
        return [Group(f"{self.path}.workerGroupSpecs[{n}]", each.get("groupName", ""), each) for n, each in found]

    @property
    def groups(self) -> list[Group]:
        return [self.head, *self.workers]

    @property
    def autoscaling(self) -> bool:
        return bool(self.spec.get("enableInTreeAutoscaling"))

    @property
    def autoscaler(self) -> dict[str, Any]:
        return self.spec.get("autoscalerOptions") or {}

    @property
    def v2(self) -> bool:
        """Of the autoscaler, as the field says; a group's options are also taken with the environment variable."""
        return self.autoscaler.get("version") == "v2"

    def older_than(self, wanted: str) -> bool:
        """Also a version that is absent or is none."""
        found = GENERIC_VERSION.match(self.spec.get("rayVersion") or "")
        return not found or Version(found[1]) < Version(wanted)


# -- groups


def _containers(cluster: Cluster) -> Iterator[str]:
    """Every group has a container to run Ray in."""
    yield from (f"{group.path}: needs a container" for group in cluster.groups if not group.pod.get("containers"))


def _names(cluster: Cluster) -> Iterator[str]:
    """A group's name becomes part of names of pods and policies, and no two groups share one, nor the head's."""
    for group in cluster.workers:
        if not metadata.LABEL_1123.match(group.name) or len(group.name) > 63:
            yield f"{group.path}.groupName: {group.name!r} is no DNS label of RFC 1123"
    for name, times in Counter(group.name for group in cluster.groups).items():
        if times > 1:
            yield f"{cluster.path}.workerGroupSpecs: {times} groups are called {name!r}"


def _resources(cluster: Cluster) -> Iterator[str]:
    """What a group has is said in `resources` or to `ray start`, not in both."""
    for group in cluster.groups:
        both = [name for name in IN_BOTH if group.start.get(name)]
        if both and group.spec.get("resources"):
            yield f"{group.path}.resources: set together with rayStartParams {', '.join(both)}"


def _resource_names(cluster: Cluster) -> Iterator[str]:
    """Ray's autoscaler knows CPU, GPU and memory by exactly these names; another case makes a resource of one's own of it."""
    for group in cluster.groups:
        for name in group.spec.get("resources") or {}:
            for exact in EXACT:
                if name.lower() == exact.lower() and name != exact:
                    yield f"{group.path}.resources.{name}: must be written {exact}"


def _resource_quotes(cluster: Cluster) -> Iterator[str]:
    """The operator writes names between single quotes into the command of a shell."""
    for group in cluster.groups:
        for name in group.spec.get("resources") or {}:
            if "'" in name:
                yield f"{group.path}.resources.{name}: the quote ends what the shell reads"


def _resource_amounts(cluster: Cluster) -> Iterator[str]:
    """A quantity that cannot be read is left out in silence, and Ray's autoscaler rounds up what is not whole."""
    for group in cluster.groups:
        for name, text in (group.spec.get("resources") or {}).items():
            amount = quantities.parsed(text)
            if amount is None:
                yield f"{group.path}.resources.{name}: {text!r} is no quantity"
            elif amount != int(amount) or amount < 0:
                yield f"{group.path}.resources.{name}: {text!r} must be whole"


def _labels(cluster: Cluster) -> Iterator[str]:
    """Labels are a group's `labels`, never an argument of `ray start`; their syntax is that of Kubernetes."""
    for group in cluster.groups:
        if "labels" in group.start:
            yield f"{group.path}.rayStartParams.labels: write the group's labels instead"
        for name, value in (group.spec.get("labels") or {}).items():
            yield from metadata.label_faults(f"{group.path}.labels.{name}", name, value)


def _owned_labels(cluster: Cluster) -> Iterator[str]:
    """Labels under ray.io/ are the operator's, except Ray's own of places on a group."""
    for group in cluster.groups:
        pod = ((group.spec.get("template") or {}).get("metadata") or {}).get("labels") or {}
        for path, names in (("labels", group.spec.get("labels") or {}), ("template.metadata.labels", pod)):
            for name in names:
                if name.startswith(PREFIX) and name not in PLACES:
                    yield f"{group.path}.{path}.{name}: labels under {PREFIX} are the operator's"


def _replicas(cluster: Cluster) -> Iterator[str]:
    """minReplicas and maxReplicas are said where no autoscaler moves between them; 0 <= min <= replicas <= max."""
    for group in cluster.workers:
        low, high = group.spec.get("minReplicas"), group.spec.get("maxReplicas")
        if not cluster.autoscaling and (low is None or high is None):
            yield f"{group.path}: needs minReplicas and maxReplicas without autoscaling"
        low, high = low or 0, 2**31 - 1 if high is None else high
        if low < 0 or high < 0:
            yield f"{group.path}: minReplicas and maxReplicas must not be negative"
        elif low > high:
            yield f"{group.path}: minReplicas {low} is more than maxReplicas {high}"
        elif not low <= (group.spec.get("replicas", low)) <= high:
            yield f"{group.path}.replicas: {group.spec['replicas']} is not between {low} and {high}"


def _suspended(cluster: Cluster) -> Iterator[str]:
    """The autoscaler would start a suspended group's workers again."""
    for group in cluster.workers:
        if cluster.autoscaling and group.spec.get("suspend"):
            yield f"{group.path}.suspend: not with autoscaling"


# -- the autoscaler


def _said_twice(cluster: Cluster) -> Iterator[str]:
    """The autoscaler's version is a field; the environment variable of old contradicts it, or asks for what is off."""
    variable = cluster.head.env.get(AUTOSCALER_V2)
    if variable is None:
        return
    path = f"{cluster.head.path}.template.spec.containers[0].env"
    if not cluster.autoscaling and variable.get("value") in ("1", "true"):
        yield f"{path}: {AUTOSCALER_V2} without enableInTreeAutoscaling"
    if cluster.autoscaling and "version" in cluster.autoscaler:
        yield f"{path}: {AUTOSCALER_V2} besides autoscalerOptions.version"


def _restarts(cluster: Cluster) -> Iterator[str]:
    """Version 2 replaces pods itself and must not see them come back."""
    if cluster.autoscaling and cluster.v2:
        for group in cluster.groups:
            if group.pod.get("restartPolicy", "Never") not in ("", "Never"):
                yield f"{group.path}.template.spec.restartPolicy: must be Never or unset with version v2"


def _only_v2(cluster: Cluster) -> Iterator[str]:
    """A group's own idle time and priority are version 2's."""
    variable = cluster.head.env.get(AUTOSCALER_V2, {})
    if cluster.v2 or variable.get("value") in ("1", "true"):
        return
    for group in cluster.workers:
        if group.spec.get("idleTimeoutSeconds") is not None:
            yield f"{group.path}.idleTimeoutSeconds: needs autoscalerOptions.version v2"
        if group.spec.get("priority"):
            yield f"{group.path}.priority: needs autoscalerOptions.version v2"


def _priority_needs_ray(cluster: Cluster) -> Iterator[str]:
    """Ray knows priorities of groups from 2.56 on."""
    for group in cluster.workers:
        if group.spec.get("priority") and cluster.older_than("2.56.0"):
            yield f"{group.path}.priority: needs rayVersion 2.56.0 or later"


def _idle_times(cluster: Cluster) -> Iterator[str]:
    """Nothing is idle for less than no time."""
    if (cluster.autoscaler.get("idleTimeoutSeconds") or 0) < 0:
        yield f"{cluster.path}.autoscalerOptions.idleTimeoutSeconds: must not be negative"
    for group in cluster.workers:
        if (group.spec.get("idleTimeoutSeconds") or 0) < 0:
            yield f"{group.path}.idleTimeoutSeconds: must not be negative"


def _start_command(cluster: Cluster) -> Iterator[str]:
    """The operator hands the autoscaler its command in a variable which is its own."""
    if START_COMMAND in _env(cluster.autoscaler):
        yield f"{cluster.path}.autoscalerOptions.env: {START_COMMAND} is the operator's"


# -- where the head keeps its state


def _redis(cluster: Cluster) -> Iterator[str]:
    """An address of Redis and its password are said in gcsFaultToleranceOptions and nowhere else."""
    options, head = cluster.spec.get("gcsFaultToleranceOptions"), cluster.head
    by_annotation = cluster.annotations.get(f"{PREFIX}ft-enabled", "")
    env = f"{head.path}.template.spec.containers[0].env"
    if options is not None and by_annotation:
        yield f"{cluster.path}.gcsFaultToleranceOptions: set besides the annotation {PREFIX}ft-enabled"
    if "RAY_REDIS_ADDRESS" in head.env and (options is not None or by_annotation.lower() != "true"):
        yield f"{env}: RAY_REDIS_ADDRESS belongs into gcsFaultToleranceOptions.redisAddress"
    if options is not None:
        if "REDIS_PASSWORD" in head.env:
            yield f"{env}: REDIS_PASSWORD belongs into gcsFaultToleranceOptions.redisPassword"
        if head.start.get("redis-password"):
            yield f"{head.path}.rayStartParams.redis-password: belongs into gcsFaultToleranceOptions.redisPassword"
        if cluster.annotations.get(f"{PREFIX}external-storage-namespace"):
            yield f"{cluster.path}.gcsFaultToleranceOptions.externalStorageNamespace: is an annotation, too"
    if "REDIS_USERNAME" in head.env or head.start.get("redis-username"):
        yield f"{head.path}: a user of Redis belongs into gcsFaultToleranceOptions.redisUsername"


def _backend(cluster: Cluster) -> Iterator[str]:
    """RocksDB is behind a feature gate that is off; Redis, which is the default, has an address and no storage of its own."""
    options, path = cluster.spec.get("gcsFaultToleranceOptions"), f"{cluster.path}.gcsFaultToleranceOptions"
    if options is None:
        return
    if options.get("backend") == "rocksdb":
        yield f"{path}.backend: needs the gate GCSFaultToleranceEmbeddedStorage"
        return
    if options.get("storage") is not None:
        yield f"{path}.storage: only with backend rocksdb"
    if not options.get("redisAddress"):
        yield f"{path}: needs redisAddress"


# -- who may talk to it


def _auth(cluster: Cluster) -> Iterator[str]:
    """Ray knows tokens from 2.52 on, those of Kubernetes from 2.55 on, and takes one kind at a time."""
    options, path = cluster.spec.get("authOptions") or {}, f"{cluster.path}.authOptions"
    by_kubernetes = options.get("enableK8sTokenAuth")
    if options.get("mode") != "token":
        if by_kubernetes:
            yield f"{path}.enableK8sTokenAuth: needs mode token"
        return
    if cluster.older_than("2.52.0"):
        yield f"{path}.mode: needs rayVersion 2.52.0 or later"
    elif by_kubernetes and cluster.older_than("2.55.0"):
        yield f"{path}.enableK8sTokenAuth: needs rayVersion 2.55.0 or later"
    if by_kubernetes and options.get("secretName"):
        yield f"{path}.secretName: not together with enableK8sTokenAuth"


def _gates(cluster: Cluster) -> Iterator[str]:
    """Some fields are behind feature gates that are off unless whoever runs the operator turns them on."""
    for field, gate in GATED.items():
        if cluster.spec.get(field) is not None:
            yield f"{cluster.path}.{field}: needs the gate {gate}"


def _env(container: dict[str, Any]) -> dict[str, Any]:
    return {each["name"]: each for each in container.get("env") or []}


RULES: tuple[Callable[[Cluster], Iterator[str]], ...] = (
    _containers,
    _names,
    _resources,
    _resource_names,
    _resource_quotes,
    _resource_amounts,
    _labels,
    _owned_labels,
    _replicas,
    _suspended,
    _said_twice,
    _restarts,
    _only_v2,
    _priority_needs_ray,
    _idle_times,
    _start_command,
    _redis,
    _backend,
    _auth,
    _gates,
)
