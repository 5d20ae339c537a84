"""A group of a RayCluster, or its head, as far as a pool can be like it."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from clusterctl.importing.quantities import amount, size, whole
from clusterctl.importing.reading import At, clean_name, duration
from clusterctl.kuberay.platforms import TYPE_LABEL, ZONE_LABEL, platforms
from clusterctl.kuberay.secrets import NAME
from clusterctl.spec.providers.kind import Kind

_OF_RAY = frozenset(
    {
        "RAY_enable_autoscaler_v2",
        "RAY_ADDRESS",
        "RAY_REDIS_ADDRESS",
        "RAY_AUTH_MODE",
        "RAY_AUTH_TOKEN",
        "REDIS_PASSWORD",
    }
)
_KNOWN_PARAMETERS = ("num-cpus", "num-gpus", "memory", "object-store-memory", "resources")
IN_IMAGES = ("container", "pod")  # where a node's programs are those of an image
_FORBIDDEN = "it means nothing to provider {}"


@dataclass
class Group:
    """`pool`: as a spec has it, without environment and storage. `priority`: of two groups of a pool."""

    at: At
    pool: dict[str, Any]
    env: dict[str, str] = field(default_factory=dict[str, str])
    mounts: list[dict[str, Any]] = field(default_factory=list[dict[str, Any]])
    claims: list[dict[str, Any]] = field(default_factory=list[dict[str, Any]])
    object_store: int = 0
    priority: int = 0
    spot: bool = False


def group_of(at: At, kind: Kind, scaled: bool, idle: float) -> Group:
    """`scaled`: by an autoscaler, after `idle` seconds. Faults go to the reader."""
    pod = at.get("template", "spec")
    named = at.get("groupName")
    pool: dict[str, Any] = {"name": clean_name(named, named.text(), "pool") if named else "workers"}
    found = Group(at, pool, priority=at.whole("priority") or 0)
    _bounds(at, pool, scaled)
    if scaled:
        own = at.number("idleTimeoutSeconds")
        pool["idle_timeout"] = duration(idle if own is None else own)
    amounts, devices = amounts_of(at, pod)
    labels = dict(_node_labels(pod)) if pod else {}
    _nodes(labels, amounts, devices, found, kind)
    if disk := amounts.pop("disk", None):
        if "disk" in kind.foreign:
            at.note(f"disk: {_FORBIDDEN.format(kind.name)}")
        else:
            pool["disk"] = size(disk)
    found.object_store = int(amounts.pop("object_store", 0))
    pool["resources"] = written(amounts)
    if own_labels := {one.key: one.text() for one in at.entries("labels") if _own_label(one)}:
        pool["labels"] = own_labels
    if pod is not None:
        container = pod.get("containers", 0)
        found.env = environment(container)
        found.mounts = nfs_mounts(pod, container, kind)
        found.claims = claims_of(pod, container, kind)
        if container is not None and kind.machine in IN_IMAGES and (image := container.get("image")):
            pool["image"] = image.text()
        skip_what_is_rays(container)
    return found


def _own_label(one: At) -> bool:
    if one.key.startswith("ray.io/"):
        one.leave(
            "labels under ray.io/ are Ray's and the operator's", "`market`, `zones` and `gpu` of a pool say such things"
        )
        return False
    return True


def _bounds(at: At, pool: dict[str, Any], scaled: bool) -> None:
    count = at.whole("replicas")
    low, high = at.whole("minReplicas"), at.whole("maxReplicas")
    hosts = at.whole("numOfHosts") or 1
    if hosts > 1 and (several := at.get("numOfHosts")):
        several.note(
            f"{hosts} nodes come and go together", f"`clusterctl submit --nodes {hosts}` starts on as many at once"
        )
    if not scaled:
        fixed = (count if count is not None else low or 0) * hosts
        pool |= {"min": fixed, "max": max(fixed, 1)}
        return
    if high is None:
        high = max(count or 0, low or 0, 1)
        at.note(f"no maxReplicas means no bound to KubeRay: {high * hosts} is the most here", "write another `max`")
    pool |= {"min": (low or 0) * hosts, "max": max(high, low or 0) * hosts}


# ---------------------------------------------------------------- sizes


def amounts_of(at: At, pod: At | None) -> tuple[dict[str, float], int]:
    """CPU, memory, disk, object_store and resources of one's own, and how many GPUs: of the group's own words, which Ray believes
    first, then its start parameters, then the container's."""
    found: dict[str, float] = {}
    gpus = 0.0
    for key in ("requests", "limits"):  # the latter count where both are there
        for one in pod.entries("containers", 0, "resources", key) if pod else []:
            value = _quantity(one)
            if one.key == "cpu":
                found["CPU"] = whole(value)
            elif one.key == "memory":
                found["memory"] = value
            elif one.key == "ephemeral-storage":
                found["disk"] = value
            elif one.key.endswith("/gpu"):
                gpus = value
            elif one.key.endswith("/tpu"):
                one.wrong("no pool has TPUs", "take this group out")
    for one in at.entries("rayStartParams"):
        gpus = _parameter(one, found, gpus)
    for one in at.entries("resources"):
        name, value = one.key, _quantity(one)
        if name.lower() == "gpu":
            gpus = value
        elif name != "memory":
            found[name] = whole(value)
        elif value > 0:
            found["memory"] = value
    return found, int(gpus)


def _parameter(one: At, found: dict[str, float], gpus: float) -> float:
    if one.key not in _KNOWN_PARAMETERS:
        return gpus
    text = one.text().strip()
    if one.key == "resources":
        for name, value in own_resources(text, one).items():
            found[name] = whole(float(value))
        return gpus
    value = amount(text)
    if value is None:
        one.wrong("must be an amount")
    elif one.key == "num-gpus":
        return value
    elif one.key == "object-store-memory":
        found["object_store"] = value
    else:
        found["CPU" if one.key == "num-cpus" else "memory"] = value
    return gpus


def own_resources(text: str, at: At) -> dict[str, float]:
    """JSON in quotes, and those often in quotes again."""
    try:
        found = json.loads(text.strip("'\"").replace('\\"', '"'))
    except ValueError:
        at.wrong("must be amounts as JSON")
        return {}
    return (
        {name: value for name, value in found.items() if isinstance(value, int | float)}
        if isinstance(found, dict)
        else {}
    )


def _quantity(one: At) -> float:
    text = one.text()
    value = amount(text)
    if value is None:
        if text:
            one.wrong("must be a quantity, as in 4, 500m or 16Gi")
        return 0.0
    return value


def skip_what_is_rays(container: At | None) -> None:
    """Its name, and the public image, which has Ray and no more."""
    for key in ("name", "image"):
        at = container.get(key) if container else None
        if at is not None and (key == "name" or str(at.node.value).startswith("rayproject/ray:")):
            at.skip()


def written(amounts: Mapping[str, float]) -> dict[str, Any]:
    """As a spec has them."""
    return {name: size(value) if name == "memory" else int(value) for name, value in amounts.items() if value}


# ---------------------------------------------------------------- which nodes


def _node_labels(pod: At) -> Iterator[tuple[str, tuple[list[str], At]]]:
    """What a pod wants of its nodes: label -> (values, one of which it has; whence)."""
    for one in pod.entries("nodeSelector"):
        yield one.key, ([one.text()], one)
    required = pod.get(
        "affinity", "nodeAffinity", "requiredDuringSchedulingIgnoredDuringExecution", "nodeSelectorTerms"
    )
    terms = required.inner() if required else []
    if len(terms) != 1:
        return
    for one in terms[0].items("matchExpressions"):
        if one.text("operator") == "In":
            yield one.text("key"), (one.texts("values"), one)


def _nodes(
    labels: dict[str, tuple[list[str], At]], amounts: dict[str, float], gpus: int, found: Group, kind: Kind
) -> None:
    pool = found.pool
    models: dict[tuple[str, str], str] = {}
    for platform in platforms().values():
        known = platform.kubernetes
        found.spot = found.spot or any(labels.get(key, ([],))[0] == [value] for key, value in known.spot.items())
        models |= {(known.gpu_label, value): name for name, value in known.gpus.items()}
        _tolerations(found.at, {known.spot_taint[0]} if known.spot_taint else set())
    spots = {key for platform in platforms().values() for key in platform.kubernetes.spot}
    name = ""
    for key, (values, at) in labels.items():
        ours = {TYPE_LABEL: "instances", ZONE_LABEL: "zones"}.get(key)
        if model := models.get((key, values[0] if len(values) == 1 else "")):
            name = model
        elif ours:
            _foreign(ours, values, at, found, kind)
        elif kind.machine == "pod":
            pool.setdefault("node_selector", {})[key] = values[0]
        elif key not in spots:
            at.leave(
                "nodes of pods are chosen by labels, machines by what they are", "write `instances`, `gpu` or `zones`"
            )
    if found.spot and kind.machine != "pod":
        _foreign("market", ["spot"], found.at, found, kind)
    if kind.machine == "pod" and (own := list(_own_tolerations(found.at))):
        pool["tolerations"] = own
    if gpus and name:
        pool["gpu"] = {"name": name, "count": gpus}
    elif gpus:
        amounts["GPU"] = gpus


def _own_tolerations(at: At) -> Iterator[dict[str, Any]]:
    """Those that do not come with a GPU."""
    for one in at.items("template", "spec", "tolerations"):
        key = one.get("key")
        if key is None or not str(key.node.value).endswith("/gpu"):
            texts = {name: one.text(name) for name in ("key", "operator", "value", "effect")}
            seconds = one.whole("tolerationSeconds")
            yield {name: text for name, text in texts.items() if text} | (
                {"seconds": seconds} if seconds is not None else {}
            )


def _foreign(key: str, value: list[str], at: At, found: Group, kind: Kind) -> None:
    if key in kind.foreign:
        at.note(f"{key}: {_FORBIDDEN.format(kind.name)}")
    else:
        found.pool[key] = value


def _tolerations(at: At, taints: set[str]) -> None:
    """Of GPUs and spot nodes: who asks for these gets them."""
    for one in at.items("template", "spec", "tolerations"):
        key = one.get("key")
        if key is not None and (key.node.value in taints or str(key.node.value).endswith("/gpu")):
            one.skip()


# ---------------------------------------------------------------- environment and storage


def environment(container: At | None) -> dict[str, str]:
    """Without what Ray or the operator sets, and without anything that looks like a secret."""
    found: dict[str, str] = {}
    for one in container.items("env") if container else []:
        name = one.get("name")
        text = str(name.node.value) if name else ""
        if text in _OF_RAY:
            one.leave(f"{text} is Ray's own, and clusterctl sets what Ray needs")
        elif one.get("valueFrom") is not None:
            one.leave(f"the value of {text} is elsewhere, and is not read", f"say `clusterctl submit --env {text}=...`")
        elif NAME.search(text):
            one.leave(f"{text} looks like a secret, and none is copied", f"say `clusterctl submit --env {text}=...`")
        elif name is not None:
            name.skip()
            found[text] = one.text("value").replace("$$(", "$(")
    return found


def claims_of(pod: At, container: At | None, kind: Kind) -> list[dict[str, Any]]:
    """PersistentVolumeClaims, where nodes are pods again."""
    volumes = {one.text("name"): one for one in pod.items("volumes") if one.get("persistentVolumeClaim")}
    found: list[dict[str, Any]] = []
    for one in container.items("volumeMounts") if container and kind.machine == "pod" else []:
        named = one.get("name")
        volume = volumes.get(str(named.node.value)) if named else None
        if named is not None and volume is not None:
            named.skip()
            claim = {"claim": volume.text("persistentVolumeClaim", "claimName"), "to": one.text("mountPath")}
            found.append({**claim, **({"read_only": True} if one.flag("readOnly") else {})})
    return found


def nfs_mounts(pod: At, container: At | None, kind: Kind) -> list[dict[str, Any]]:
    """Those of its mounts that are of the network's file systems, as a spec has them; pods mount claims only."""
    volumes = {one.text("name"): one for one in pod.items("volumes") if one.get("nfs")}
    found: list[dict[str, Any]] = []
    for one in container.items("volumeMounts") if container and kind.machine != "pod" else []:
        named = one.get("name")
        volume = volumes.get(str(named.node.value)) if named else None
        if volume is None or named is None:
            continue
        named.skip()
        read_only = [one.flag("readOnly"), volume.flag("nfs", "readOnly")]
        mount = {
            "from": f"nfs://{volume.text('nfs', 'server')}{volume.text('nfs', 'path')}",
            "to": one.text("mountPath"),
        }
        found.append({**mount, **({"mode": "read-only"} if any(read_only) else {})})
    return found
