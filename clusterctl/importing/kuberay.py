"""A RayCluster of KubeRay, alone or in what is made for a job or a service."""

from __future__ import annotations

import re
import shlex
from dataclasses import dataclass, replace
from typing import Any

from clusterctl.importing.draft import Draft
from clusterctl.importing.given import Given
from clusterctl.importing.kuberay_groups import (
    IN_IMAGES,
    Group,
    amounts_of,
    claims_of,
    environment,
    group_of,
    nfs_mounts,
    own_resources,
    skip_what_is_rays,
    written,
)
from clusterctl.importing.quantities import amount, size, whole
from clusterctl.importing.reading import At, Reader, Reasons, clean_name, dotted, duration
from clusterctl.kuberay.secrets import NAME
from clusterctl.spec.document import Document, compose
from clusterctl.spec.faults import SpecError
from clusterctl.spec.providers.kind import Kind
from clusterctl.spec.providers.registry import KINDS

CLUSTERS: dict[str, tuple[str, ...]] = {
    "RayCluster": ("spec",),
    "RayJob": ("spec", "rayClusterSpec"),
    "RayService": ("spec", "rayClusterConfig"),
    "RayCronJob": ("spec", "jobTemplate", "rayClusterSpec"),
}
JOB, SERVE = "job.sh", "serve.yaml"
SPEC_KEYS = (
    "authOptions", "autoscalerOptions", "enableInTreeAutoscaling", "gcsFaultToleranceOptions",
    "headGroupSpec", "headServiceAnnotations", "historyServerOptions", "managedBy", "networkPolicy", "rayVersion", "suspend",
    "tlsOptions", "upgradeStrategy", "workerGroupSpecs",
)  # fmt: skip
_IDLE = 60.0  # seconds, of Ray's autoscaler in Kubernetes where nothing is said
_OF_PODS = ("it is of pods; nodes are machines", "")
_OPERATORS = ("it is the operator's", "")
_VOLUME = (
    "volumes of Kubernetes are not carried over",
    "write `mounts` (for pods: `volumes` of claims under the provider), or `files`",
)
_JOBS = ("it is of the operator's job", "see `clusterctl submit --help`")
REASONS: Reasons = {
    "metadata": ("a spec has none", "write `labels` into a pool, or `tags` under the provider"),
    "namespace": ("a cluster here has no namespace", ""),
    "autoscalerOptions": ("clusterctl's autoscaler has settings of its own", "see `limits` and `idle_timeout` in docs/spec.md"),
    "upscalingMode": ("what is wanted is launched at once", "`limits.launches_per_minute` slows it down"),
    "authOptions": ("every cluster here asks for a token, which `up` makes", ""),
    "gcsFaultToleranceOptions": ("Ray's state is kept on the head's disk, without a Redis", "see `engine.ray.fault_tolerant`"),
    "networkPolicy": ("machines have the network of their provider", "see its settings in docs/spec.md"),
    "tlsOptions": ("clusterctl's own connections have TLS in any case", ""),
    "historyServerOptions": ("what a cluster did is kept when it is taken down", "see `clusterctl list --history`"),
    "upgradeStrategy": ("`up` changes nodes one by one, and says beforehand which", ""),
    "headService": ("nothing is opened to the network", "`clusterctl dashboard` and `forward` bring the head's ports here"),
    "serviceType": ("nothing is opened to the network", "`clusterctl dashboard` and `forward` bring the head's ports here"),
    "enableIngress": ("nothing is opened to the network", "`clusterctl dashboard` brings the head's page here"),
    "rayStartParams": ("clusterctl starts Ray itself", "options of Ray are under `engine: {ray: ...}`"),
    "image": ("nodes are machines, and programs run on them", "install with `setup`, or `engine: {ray: {packages: [...]}}`"),
    "imagePullPolicy": _OF_PODS, "imagePullSecrets": ("secrets are not copied", ""), "securityContext": _OF_PODS,
    "serviceAccountName": ("pods' rights are Kubernetes' own", "name the machines' role under the provider"),
    "automountServiceAccountToken": _OF_PODS, "ports": ("Ray's ports are clusterctl's business", ""), "lifecycle": _OF_PODS,
    "livenessProbe": _OF_PODS, "readinessProbe": _OF_PODS, "tolerations": _OF_PODS, "schedulerName": _OF_PODS,
    "priorityClassName": ("pools have no priority", "jobs have: `clusterctl submit --priority N`"),
    "affinity": ("machines are not placed by labels", "write `zones`, `one_zone` or `instances` into the pool"),
    "initContainers": ("nothing runs before a node", "write it into `setup`"),
    "containers": ("only the first container, Ray's, is carried over", "run others as services"),
    "command": ("clusterctl starts Ray itself", "write what should run before into `setup`"),
    "args": ("clusterctl starts Ray itself", "write what should run before into `setup`"),
    "envFrom": ("values that are elsewhere are not read", "write `env`"),
    "volumes": _VOLUME, "volumeMounts": _VOLUME, "template.metadata": _OF_PODS, "suspend": _OPERATORS, "managedBy": _OPERATORS,
    "scaleStrategy": _OPERATORS, "headServiceAnnotations": _OPERATORS,
    "submissionMode": _JOBS, "submitterPodTemplate": _JOBS, "submitterConfig": _JOBS, "jobId": _JOBS, "deletionStrategy": _JOBS,
    "preRunningDeadlineSeconds": _JOBS, "clusterSelector": _JOBS,
    "schedule": ("nothing here starts jobs by the clock", "call `clusterctl submit` from a crontab, with the cluster `up`"),
    "timeZone": ("nothing here starts jobs by the clock", ""), "concurrencyPolicy": _JOBS,
    "serveService": ("nothing is opened to the network", "see docs/serve.md on how applications are reached"),
    "runtimeEnvYAML": ("it is not carried over", "`clusterctl submit --requirements FILE` installs packages for one job"),
}  # fmt: skip


def read(document: Document, given: Given) -> tuple[Draft, Reader]:
    """Of one object. Faults are the reader's."""
    reader = Reader(document, REASONS)
    root = reader.root
    name = root.text("kind")
    draft = Draft(f"a {name} of KubeRay")
    root.text("apiVersion")
    if (named := root.get("metadata", "name")) is not None:
        draft.put(("cluster",), clean_name(named, named.text(), "cluster"), named)
    for one in root.entries("metadata", "labels"):
        if one.node.value in ("clusterctl", name):
            one.skip()
    cluster = root.get(*CLUSTERS[name])
    if cluster is None:
        what = "it runs on a cluster that is there, and brings none"
        root.wrong(f"{dotted(CLUSTERS[name])} is missing: {what}", "give --from the RayCluster")
        return draft, reader
    if name == "RayCluster":
        cluster.one_of(SPEC_KEYS)
    _cluster(cluster, _provider(given, root, draft), draft)
    if name in ("RayJob", "RayCronJob"):
        _job(root.get(*CLUSTERS[name][:-1]) or root, draft)
    elif name == "RayService":
        _service(root, draft)
    return draft, reader


def _provider(given: Given, root: At, draft: Draft) -> Kind:
    """Pods stay pods, unless something else is given."""
    if given.provider:
        draft.put(("provider",), given.value)
        return KINDS[given.provider]
    kind = next(kind for kind in KINDS.values() if kind.machine == "pod")
    draft.put(("provider",), {kind.name: {}})
    for ours, path in (("namespace", ("namespace",)), ("kueue_queue", ("labels", "kueue.x-k8s.io/queue-name"))):
        if (at := root.get("metadata", *path)) is not None:
            draft.put(("provider", kind.name, ours), at.text(), at)
    return kind


def _cluster(at: At, kind: Kind, draft: Draft) -> None:
    if (version := at.get("rayVersion")) is not None:
        draft.put(("engine",), {"ray": {}})
        draft.ray_version(version.text(), version)
    scaled = bool(at.flag("enableInTreeAutoscaling"))
    at.text("autoscalerOptions", "version")
    mode = at.get("autoscalerOptions", "upscalingMode")
    if mode is not None and mode.node.value in ("Default", "Aggressive"):
        mode.skip()
    own = at.number("autoscalerOptions", "idleTimeoutSeconds")
    auth = at.get("authOptions", "mode")
    if auth is not None and auth.node.value == "token":
        auth.skip()
    head = _head(at.get("headGroupSpec"), kind, draft)
    groups = [group_of(one, kind, scaled, _IDLE if own is None else own) for one in at.items("workerGroupSpecs")]
    if not groups and head is not None:
        groups = [_alone(head)]
    elif head is not None and head.lends:
        head.at.note(
            f"its CPUs ({head.lends}) took tasks as well, and tasks run on workers alone here",
            "raise the `max` of a pool",
        )
    _pools(_joined(groups), head, draft)
    _claims(groups, head, kind, draft)
    stores = {group.object_store for group in groups}
    if stores - {0} and len(stores) == 1:
        draft.put(("engine", "ray", "object_store"), size(stores.pop()))
    elif stores - {0}:
        at.note(
            "groups have object stores of different sizes, and a spec has one size", "write engine.ray.object_store"
        )


@dataclass(frozen=True)
class _Head:
    """`lends`: CPUs, to tasks."""

    at: At
    resources: dict[str, Any]
    lends: int
    env: dict[str, str]
    mounts: list[dict[str, Any]]
    claims: list[dict[str, Any]]


def _head(at: At | None, kind: Kind, draft: Draft) -> _Head | None:
    if at is None:
        return None
    pod = at.get("template", "spec")
    amounts, gpus = amounts_of(at, pod)
    lends = int(amounts.pop("CPU", 0))
    cpu = next(
        (
            found
            for key in ("limits", "requests")
            if pod and (found := pod.get("containers", 0, "resources", key, "cpu"))
        ),
        None,
    )
    disk = amounts.pop("disk", 0)
    amounts.pop("object_store", None)
    resources = written({"CPU": whole(amount(str(cpu.node.value)) or 0) if cpu else 0, **amounts, "GPU": gpus})
    draft.put(("head", "resources"), resources, at)
    if disk and "disk" in kind.foreign:
        at.note(f"disk: it means nothing to provider {kind.name}")
    elif disk:
        draft.put(("head", "disk"), size(disk), at)
    container = pod.get("containers", 0) if pod else None
    if container is not None and kind.machine in IN_IMAGES and (image := container.get("image")):
        draft.put(("head", "image"), image.text(), image)
    skip_what_is_rays(container)
    return _Head(
        at,
        resources,
        lends,
        environment(container),
        nfs_mounts(pod, container, kind) if pod else [],
        claims_of(pod, container, kind) if pod else [],
    )


def _alone(head: _Head) -> Group:
    """A cluster without workers runs its tasks on the head."""
    head.at.note("there are no workers, and tasks ran on the head: here they run on a pool of one such node")
    return Group(
        head.at,
        {"name": "workers", "min": 0, "max": 1, "resources": head.resources},
        head.env,
        head.mounts,
        head.claims,
    )


def _joined(groups: list[Group]) -> list[Group]:
    """Two groups that differ in where their nodes are bought are one pool with two markets, the better first."""
    found: list[Group] = []
    for group in groups:
        name = str(group.pool["name"])
        other = next((one for one in groups if one is not group and _pair(one, group)), None)
        if other is None:
            found.append(group)
        elif not group.spot:
            first, second = sorted((group, other), key=lambda one: -one.priority)
            markets = ["spot" if one.spot else "on-demand" for one in (first, second)]
            low = max(group.pool.get("min", 0), other.pool.get("min", 0))
            found.append(replace(group, pool={**group.pool, "name": name, "min": low, "market": markets}))
    return found


def _pair(one: Group, other: Group) -> bool:
    names = {str(one.pool["name"]), str(other.pool["name"])}
    plain = next((group for group in (one, other) if not group.spot), one)
    besides = ("name", "market", "min")
    return (
        one.spot is not other.spot
        and one.priority != other.priority
        and names == {str(plain.pool["name"]), f"{plain.pool['name']}-spot"}
        and {k: v for k, v in one.pool.items() if k not in besides}
        == {k: v for k, v in other.pool.items() if k not in besides}
        and (one.env, one.mounts) == (other.env, other.mounts)
    )


def _pools(groups: list[Group], head: _Head | None, draft: Draft) -> None:
    """What all have, and the head, is the cluster's."""
    all_env = [group.env for group in groups] + ([head.env] if head else [])
    shared = (
        {name: value for name, value in all_env[0].items() if all(env.get(name) == value for env in all_env)}
        if all_env
        else {}
    )
    all_mounts = [group.mounts for group in groups] + ([head.mounts] if head else [])
    for index, group in enumerate(groups):
        for key, value in group.pool.items():
            draft.put(("pools", index, key), value, group.at.get("groupName") or group.at)
        draft.put(
            ("pools", index, "env"), {name: value for name, value in group.env.items() if name not in shared}, group.at
        )
        draft.put(
            ("pools", index, "mounts"),
            [one for one in group.mounts if any(one not in each for each in all_mounts)],
            group.at,
        )
    draft.put(("env",), shared)
    draft.put(
        ("mounts",), [one for one in (groups[0].mounts if groups else []) if all(one in each for each in all_mounts)]
    )
    if head is not None and (own := sorted(set(head.env) - set(shared))):
        head.at.note(f"the variable {own[0]} is the head's alone, and `env` is of all nodes", "write it into `env`")


def _claims(groups: list[Group], head: _Head | None, kind: Kind, draft: Draft) -> None:
    """Of all groups, where nodes are pods again: claims are the provider's."""
    found = [one for group in groups for one in group.claims]
    each = [group.claims for group in groups] + ([head.claims] if head else [])
    shared = [
        one for number, one in enumerate(found) if one not in found[:number] and all(one in claims for claims in each)
    ]
    draft.put(("provider", kind.name, "volumes"), shared)
    for group in groups:
        if own := [one["claim"] for one in group.claims if one not in shared]:
            group.at.note(
                f"claim {own[0]} is not of all groups and the head, and volumes are of all nodes",
                "write it into `provider`",
            )


# ---------------------------------------------------------------- what it is made for


def _job(at: At, draft: Draft) -> None:
    flags: dict[str, Any] = {}
    for theirs, ours in (("entrypointNumCpus", "--cpus"), ("entrypointNumGpus", "--gpus")):
        number = at.number(theirs)
        flags[ours] = f"{number:g}" if number else 0
    flags["--max-retries"] = at.whole("backoffLimit") or 0
    seconds = at.whole("activeDeadlineSeconds")
    flags["--timeout"] = duration(seconds) if seconds else ""
    after = at.whole("ttlSecondsAfterFinished") or 0
    if at.flag("shutdownAfterJobFinishes"):
        draft.put(("lifetime", "after_last_job"), duration(after), at.get("shutdownAfterJobFinishes"))
    each = [("--resource", f"{name}={value:g}") for name, value in _own_needs(at).items()]
    each += [("--env", f"{name}={value}") for name, value in _runtime_env(at).items()]
    entrypoint = at.get("entrypoint")
    if entrypoint is None or not (text := entrypoint.text().strip()):
        return
    entrypoint.note("programs in the pods' image are not here", "submit from where they are")
    if re.fullmatch(r"[\w./:=@, -]+", text):
        program = text
    else:
        draft.files[JOB] = f"#!/usr/bin/env bash\n{text}\n"
        program = f"bash {JOB}"
        each.append(("--working-dir", "."))
    given = [(flag, str(value)) for flag, value in flags.items() if value]
    words = " ".join(f"{flag} {shlex.quote(value)}" for flag, value in [*given, *each])
    draft.commands.append(" ".join(f"clusterctl submit --engine {words} -- {program}".split()))


def _own_needs(at: At) -> dict[str, float]:
    """Custom resources of the entrypoint, written as JSON."""
    given = at.get("entrypointResources")
    return own_resources(given.text(), given) if given is not None else {}


def _runtime_env(at: At) -> dict[str, str]:
    """Variables of the job. What else is there is noted."""
    given = at.get("runtimeEnvYAML")
    if given is None or not (text := given.text()):
        return {}
    try:
        inner = Reader(compose(text, given.reader.name), {})
    except SpecError:
        given.note("it cannot be read as YAML, and is not carried over")
        return {}
    found: dict[str, str] = {}
    for one in inner.root.entries("env_vars"):
        if NAME.search(one.key):
            given.note(
                f"{one.key} looks like a secret, and none is copied", f"say `clusterctl submit --env {one.key}=...`"
            )
        else:
            found[one.key] = one.text()
    for one in inner.root.inner():
        if one.key != "env_vars":
            how = (
                "`clusterctl submit --requirements FILE`"
                if one.key in ("pip", "uv")
                else "`clusterctl submit --working-dir DIR`"
            )
            given.note(f"{one.key} is not carried over", how)
    return found


def _service(root: At, draft: Draft) -> None:
    config = root.get("spec", "serveConfigV2")
    if config is not None and (text := config.text()):
        draft.files[SERVE] = text if text.endswith("\n") else f"{text}\n"
        draft.commands.append(f"clusterctl serve deploy {SERVE}")
