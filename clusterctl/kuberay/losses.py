"""What of a spec cannot be said in KubeRay, with its place. What would change what a cluster does, costs or keeps is refused;
what only helps is told."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from clusterctl_providers.catalog.facts import GIB

from clusterctl.kuberay.besides import target
from clusterctl.kuberay.options import Options
from clusterctl.kuberay.platforms import Platform
from clusterctl.kuberay.secrets import NAME, is_secret
from clusterctl.spec.faults import Finding, Path
from clusterctl.spec.model import ClusterSpec
from clusterctl.spec.mounts.mount import Mount
from clusterctl.spec.pool import Pool

SPOT, ON_DEMAND = "spot", "on-demand"
HEAD_CPU, HEAD_MEMORY = 2, 8 * GIB  # of the head's pod where the spec says nothing; KubeRay's own page wants as much
LONGEST_NAME = 53  # of a RayCluster, whose name begins those of its pods and services
_LARGEST = 2**31 - 1  # of a count of theirs
_HEADS = "headgroup"  # how the operator calls the head's group
KUEUE_GROUPS = 7  # of workers; with the head's eight sets of pods
_OF_PODS = frozenset({"image_pull_secrets", "service_account", "pod", "runtime_class", "priority_class"})
_ELSEWHERE = "put them into the image, a bucket, or a PersistentVolumeClaim that --claim /PATH=NAME mounts"
_BAKE = "make an image of it (`clusterctl image dockerfile SPEC`), and name that with --image"


@dataclass(frozen=True)
class Loss:
    """`refused`: the export ends there, unless it may lose something."""

    finding: Finding
    refused: bool = True


def losses(spec: ClusterSpec, options: Options, platform: Platform) -> Iterator[Loss]:
    """All, but what is wrong with the size of pods."""
    yield from _of_cluster(spec, options)
    yield from _of_engine(spec, options)
    yield from _of_limits(spec, options)
    yield from _of_pods(spec)
    yield from _of_names(spec, platform)
    yield from _of_env((), spec.env, options)
    if spec.ray is not None:
        yield from _of_env(("engine", "ray"), spec.ray.env, options)
    yield from _of_mounts(("mounts",), spec.mounts, options)
    for index, pool in enumerate(spec.pools):
        at = ("pools", index)
        yield from _of_pool(at, pool, platform)
        yield from _of_env(at, pool.env, options)
        yield from _of_mounts((*at, "mounts"), pool.mounts, options)
        if pool.setup:
            yield from _of_setup((*at, "setup"), pool.setup, options)
    if options.queue is not None:
        yield from _of_queue(spec, options, platform)
    if options.quota:
        yield from _of_quota(spec)


def _of_setup(at: Path, commands: list[str], options: Options) -> Iterator[Loss]:
    if options.setup_at_start:
        for index, command in enumerate(commands):
            if is_secret(command):
                what = "it looks as if it had a secret in it, and everybody who may read the object would see it"
                yield _lost((*at, index), what, "take it from a variable, and say --secret", key=False)
        yield _told(at, "every pod runs it again before Ray starts, and waits for it", "an image starts sooner")
    elif not options.image:
        yield _lost(at, "KubeRay runs no commands on new nodes", f"{_BAKE}; or say --setup-at-start")


def _of_queue(spec: ClusterSpec, options: Options, platform: Platform) -> Iterator[Loss]:
    """What Kueue refuses: it admits a few groups of pods, of one size."""
    assert options.queue is not None
    groups = sum(len(group_names(pool, platform)) for pool in spec.pools)
    if groups > KUEUE_GROUPS:
        what = f"Kueue takes {KUEUE_GROUPS} groups of workers with a head, and there are {groups}"
        yield _lost(("pools",), what, "make fewer pools")
    for index, pool in enumerate(spec.pools):
        several = len(group_names(pool, platform)) > 1
        if not options.queue.elastic and (pool.min != pool.max or several):
            sizes = "two groups for its markets" if several else f"{pool.min} to {pool.max} nodes"
            what = f"what Kueue admits keeps its size, and this pool has {sizes}"
            fix = "write one market and min and max alike, or say --kueue-elastic where Kueue has elastic jobs"
            yield _lost(("pools", index, "market" if several else "max"), what, fix)


def _of_quota(spec: ClusterSpec) -> Iterator[Loss]:
    keys = [key for key in ("nodes", "gpus") if getattr(spec.limits, key) is not None]
    for key in keys:
        yield _told(
            ("limits", key), "a ResourceQuota bounds all that runs in the namespace, and not this cluster alone"
        )
    if not keys:
        what = "--quota: there is no limit of nodes or GPUs that a ResourceQuota could have"
        yield _lost(("cluster",), what, "write limits: {nodes: 10}", key=False)


def _lost(at: Path, what: str, fix: str, *, key: bool = True) -> Loss:
    return Loss(Finding(at, what, fix, key))


def _told(at: Path, what: str, fix: str = "") -> Loss:
    return Loss(Finding(at, what, fix, True), refused=False)


def _of_cluster(spec: ClusterSpec, options: Options) -> Iterator[Loss]:
    if len(spec.cluster) > LONGEST_NAME or spec.cluster.endswith("-") or not spec.cluster[0].isalpha():
        what = f"a RayCluster's name has at most {LONGEST_NAME} letters, digits and '-', a letter first and no '-' last"
        yield _lost(("cluster",), what, "take another", key=False)
    if any(pool.hosts for pool in spec.pools):
        yield _lost(
            ("provider",), "hosts that you have are no nodes of Kubernetes", "join them to one, and describe pods"
        )
    if spec.setup:
        yield from _of_setup(("setup",), spec.setup, options)
    for index, entry in enumerate(spec.files):
        found = options.files.get(index, "KubeRay copies no files to nodes")
        if isinstance(found, str):
            yield _lost(("files", index), found, _ELSEWHERE, key=False)
        elif not target(entry.to, options):
            yield _lost(
                ("files", index, "to"), "which home the image's user has is not known", "write a whole path", key=False
            )
    yield from _of_the_heads_size(spec)
    if spec.head.slots is not None:
        yield _told(("head", "slots"), "KubeRay does not limit how many drivers run at once")
    for key in ("host", "public_port", "credentials"):
        if getattr(spec.head, key):
            yield _told(
                ("head", key), "pods of the head are reached by their service, and have no machine of their own"
            )
    life = spec.lifetime
    for key in ("after_last_job", "idle", "at"):
        if getattr(life, key) is not None and (key == "at" or not options.for_a_job):
            fix = "delete the RayCluster then, or export a job with its cluster (--entrypoint)"
            yield _lost(("lifetime", key), "a RayCluster does not end itself", fix)
    if spec.services.listen:
        yield _lost(("services", "listen"), "KubeRay has no entry for services", "put a Service or an Ingress in front")
    for key in ("fair_share", "preemption"):
        if getattr(spec.queue, key) not in ("none", False):
            told = _told if options.queue is not None else _lost
            yield told(("queue", key), "KubeRay has no queue of jobs", "configure Kueue")


def _of_the_heads_size(spec: ClusterSpec) -> Iterator[Loss]:
    """What is written and too little: of an instance the catalogue knows."""
    cpus, memory = spec.head.resources.get("CPU", HEAD_CPU), spec.head.resources.get("memory", HEAD_MEMORY)
    if cpus < HEAD_CPU or memory < HEAD_MEMORY:
        what = (
            f"a head with less than {HEAD_CPU} CPUs and {HEAD_MEMORY // GIB} GiB is too small for what Ray runs there"
        )
        yield _told(("head", "resources"), what, "write more")


def _of_engine(spec: ClusterSpec, options: Options) -> Iterator[Loss]:
    if spec.ray is None:
        yield _lost(("engine",), "KubeRay's clusters are clusters of Ray", "write engine: ray", key=False)
        return
    at = ("engine", "ray")
    if (spec.ray.packages or spec.ray.requirements) and not options.image:
        key = "requirements" if spec.ray.requirements else "packages"
        yield _lost((*at, key), "Ray's public image has none of these packages", _BAKE)
    if spec.ray.python:
        yield _lost((*at, "python"), "pods have the Python of their image", "remove it")
    if options.image and spec.ray.version and spec.ray.version not in options.image.rpartition(":")[2]:
        what = f"the image has to have Ray {spec.ray.version}, which its tag does not say"
        yield _told((*at, "version"), what, "Ray's nodes want one version")
    if spec.ray.fault_tolerant and options.redis is None:
        yield _lost((*at, "fault_tolerant"), "a head's pod that is lost is a cluster lost", "name a Redis with --redis")
    elif options.redis is None:
        what = "a head's pod that is lost ends all jobs and actors: without --redis Ray keeps nothing elsewhere"
        yield _told(("head",) if spec.head.model_fields_set else ("cluster",), what)


def _of_pods(spec: ClusterSpec) -> Iterator[Loss]:
    """Settings of a spec whose nodes are pods already."""
    settings = spec.provider_settings if spec.kind.machine == "pod" else {}
    for key in _OF_PODS & settings.keys():
        yield _lost(
            ("provider", spec.kind.name, key), "it is not written into groups of KubeRay", "add it to what is written"
        )
    if settings.get("volumes"):
        yield _lost(
            ("provider", spec.kind.name, "volumes"), "claims are given beside the spec", "say --claim /PATH=NAME"
        )


def _of_limits(spec: ClusterSpec, options: Options) -> Iterator[Loss]:
    limits = spec.limits
    money = "KubeRay knows no prices, and would spend more"
    for key in ("cost_per_hour", "drain_after"):
        if getattr(limits, key) is not None:
            yield _lost(("limits", key), money, "limit the nodes")
    for key in ("per_day", "per_month"):
        if getattr(limits.budget, key) is not None:
            yield _lost(("limits", "budget", key), money, "limit the nodes")
    if limits.per_user:
        yield _lost(("limits", "per_user"), "KubeRay knows no users", "give each a namespace with a ResourceQuota")
    if "launches_per_minute" in limits.model_fields_set:
        yield _told(("limits", "launches_per_minute"), "KubeRay starts as many pods at once as are wanted")
    most = 1 + sum(pool.max * len(pool.market) for pool in spec.pools)
    if limits.nodes is not None and most > limits.nodes and not options.quota:
        what = f"a limit of all groups together cannot be said, and they may have {most} nodes with the head"
        yield _lost(("limits", "nodes"), what, "lower the max of the pools")
    gpus = sum(pool.max * len(pool.market) * pool.gpu.count for pool in spec.pools if pool.gpu)
    gpus += sum(pool.max * len(pool.market) * pool.resources.get("GPU", 0) for pool in spec.pools)
    if limits.gpus is not None and gpus > limits.gpus and not options.quota:
        what = f"a limit of all groups together cannot be said, and they may have {gpus:g} GPUs"
        yield _lost(("limits", "gpus"), what, "lower the max of the pools")


def _of_pool(at: Path, pool: Pool, platform: Platform) -> Iterator[Loss]:
    if pool.reservation:
        yield _lost((*at, "reservation"), "a reservation belongs to nodes, which KubeRay does not make", "remove it")
    if pool.keep_stopped:
        yield _lost((*at, "keep_stopped"), "pods are not stopped and started again", "remove it")
    if pool.provider:
        yield _lost((*at, "provider"), "a RayCluster is in one cluster of Kubernetes", "export the pools apart")
    if pool.limits.cost_per_hour is not None:
        yield _lost((*at, "limits", "cost_per_hour"), "KubeRay knows no prices, and would spend more", "lower max")
    for key in ("max", "idle_timeout"):
        if getattr(pool, key) > _LARGEST:
            yield _lost((*at, key), f"KubeRay counts up to {_LARGEST}", "write less")
    for name in pool.resources:
        if "'" in name:
            yield _lost(
                (*at, "resources", name), "a resource with an apostrophe breaks KubeRay's command line", "rename it"
            )
    if "flex-start" in pool.market:
        yield _lost((*at, "market"), "flex-start is a way to buy nodes, which KubeRay does not", "write on-demand")
    if pool.one_zone:
        yield _told(
            (*at, "one_zone"), "pods of the group are kept in one zone where there is room, and not for certain"
        )
    if "orphan_timeout" in pool.model_fields_set:
        yield _told(
            (*at, "orphan_timeout"), "pods end with their RayCluster, whose property they are, not by themselves"
        )
    if "spot" in pool.market and not platform.kubernetes.spot:
        yield _told((*at, "market"), "which nodes are spot is not known without --target: there is one group for both")
    elif len(pool.market) > 1:
        what = f"there is a group for each market, each with at most {pool.max}: together twice as many as `max`"
        yield _told((*at, "market"), what)


def _of_names(spec: ClusterSpec, platform: Platform) -> Iterator[Loss]:
    seen: dict[str, str] = {}
    for index, pool in enumerate(spec.pools):
        at = ("pools", index, "name")
        for name in group_names(pool, platform):
            if name == _HEADS or name.endswith("-"):
                yield _lost(at, f"no group of workers can be called {name}", "take another name", key=False)
            if name in seen:
                what = f"pool {pool.name} and pool {seen[name]} would both have a group {name}"
                yield _lost(at, what, "take another name", key=False)
            seen[name] = pool.name


def group_names(pool: Pool, platform: Platform) -> dict[str, str]:
    """Of the groups of a pool, in the order in which they are tried: {name: market}."""
    markets = [market for market in pool.market if market in (SPOT, ON_DEMAND)] or [ON_DEMAND]
    if not platform.kubernetes.spot:
        markets = [ON_DEMAND]
    if len(markets) == 1:
        return {pool.name: markets[0]}
    return {pool.name if market == ON_DEMAND else f"{pool.name}-{market}": market for market in markets}


def _of_env(at: Path, env: dict[str, str], options: Options) -> Iterator[Loss]:
    for name in env:
        if name in options.reserved():
            yield _lost((*at, "env", name), f"{name} is set by KubeRay", "remove it")
        if (NAME.search(name) or is_secret(env[name])) and name not in options.secrets:
            what = f"the value of {name} looks like a secret, and everybody who may read the object would see it"
            fix = f"put it into a Secret and say --secret {name}=SECRET/KEY"
            yield _lost((*at, "env", name), what, fix)


def _of_mounts(at: Path, mounts: list[Mount], options: Options) -> Iterator[Loss]:
    for index, mount in enumerate(mounts):
        if mount.to in options.claimed or mount.scheme_name == "nfs":
            continue
        what = "storage of this kind comes to pods by a driver that the cluster of Kubernetes has, and by a claim"
        yield _lost(
            (*at, index), what, f"make a PersistentVolumeClaim of it and say --claim {mount.to}=NAME", key=False
        )
