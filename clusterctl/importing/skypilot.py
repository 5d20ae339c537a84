"""A task of SkyPilot: where it runs becomes the spec, what runs becomes a script beside it."""

from __future__ import annotations

import re
import shlex
from typing import Any

from clusterctl.importing.draft import Draft
from clusterctl.importing.given import Given
from clusterctl.importing.paths import Moved
from clusterctl.importing.reading import At, Reader, Reasons, clean_name
from clusterctl.importing.skypilot_resources import Asked, resources
from clusterctl.kuberay.secrets import NAME
from clusterctl.spec.document import Document

KIND = "a task of SkyPilot"
JOB = "job.sh"
KEYS = (
    "name", "workdir", "event_callback", "num_nodes", "resources", "file_mounts", "service", "pool", "setup", "run", "envs",
    "secrets", "managed_secrets", "inputs", "outputs", "file_mounts_mapping", "config", "volumes", "volume_mounts",
    "api_server_access", "_metadata",
)  # fmt: skip
_VOLUMES = ("volumes of its own are not carried over", "write `mounts`: file systems of the network and buckets")
_ITS_OWN = ("it is for SkyPilot's own use", "")
REASONS: Reasons = {
    "event_callback": ("nothing is called when a job's state changes", "`clusterctl events -f --json` tells of each change"),
    "secrets": ("values of secrets are not copied", "say `clusterctl submit --env NAME=...`"),
    "managed_secrets": ("they are kept by SkyPilot's server", "say `clusterctl submit --env NAME=...`"),
    "inputs": ("jobs are not placed by where data is", ""),
    "outputs": ("jobs are not placed by where data is", ""),
    "config": ("it is SkyPilot's own configuration", "see the provider's settings in docs/spec.md"),
    "pool": ("a pool of workers is the cluster itself", "write `max` of its pool"),
    "volumes": _VOLUMES,
    "volume_mounts": _VOLUMES,
    "api_server_access": ("there is no API server to reach", ""),
    "file_mounts_mapping": _ITS_OWN,
    "_metadata": _ITS_OWN,
    "service": ("it is not carried over", "see docs/services.md"),
    "job_recovery": ("a job that fails or loses its node is tried again by `clusterctl submit --max-retries N`", ""),
    "disk_tier": ("it is not carried over", "`disk_type` under the provider, where it has one"),
    "network_tier": ("it is not carried over", "see docs/multi-node.md on fast networks"),
    "local_disk": ("machines are not chosen by their own disks", "name such with `instances`"),
    "max_hourly_cost": ("it bounds one machine's price, and limits here those of all", "write `limits: {cost_per_hour: X}`"),
    "ports": ("nothing is opened to the network", "`clusterctl service run` puts a program behind one address"),
    "accelerator_args": ("it is for TPUs, which no pool has", ""),
    "priority": ("it is of a job", "say `clusterctl submit --priority N`"),
    "priority_class": ("it is of a job", "say `clusterctl submit --priority N`"),
    "autostop": ("a cluster is not stopped", "`lifetime: {idle: 30m}` ends it, its disks too"),
    "ephemeral_storage": ("it is not carried over", "write `disk` into the pool"),
}  # fmt: skip
# What SkyPilot sets in a program's environment -> what is set here, for the script to say.
_ITS_VARIABLES = {
    "SKYPILOT_NODE_RANK": "${RANK:-0}",
    "SKYPILOT_NUM_NODES": "${WORLD_SIZE:-1}",
    "SKYPILOT_NODE_IPS": "$(echo \"${CLUSTERCTL_HOSTS:-127.0.0.1}\" | tr , '\\n')",
    "SKYPILOT_TASK_ID": "$CLUSTERCTL_JOB_ID",
}
_ITS_GPUS = "SKYPILOT_NUM_GPUS_PER_NODE"


def read(document: Document, moved: Moved, given: Given) -> tuple[Draft, Reader]:
    """`given`: where its machines come from, whatever the task says. Faults are the reader's."""
    reader, draft = Reader(document, REASONS), Draft(KIND)
    root = reader.root
    root.one_of(KEYS)
    if (named := root.get("name")) is not None:
        draft.put(("cluster",), clean_name(named, named.text(), "cluster"), named)
    nodes = root.whole("num_nodes") or 1
    asked = resources(root.get("resources"), given, root)
    _pools(asked, _most(root, nodes), draft)
    draft.put(("engine",), "none")
    _environment(root, draft)
    workdir = _workdir(root, moved)
    _setup(root, workdir, draft)
    _file_mounts(root, moved, draft)
    _run(root, asked, nodes, workdir, draft)
    return draft, reader


def _pools(asked: Asked, most: int, draft: Draft) -> None:
    for path, value, at in asked.places:
        draft.put(path, value, at)
    for index, (pool, places) in enumerate(asked.pools):
        for key, value in {"name": pool.pop("name"), "max": most, **pool}.items():
            draft.put(("pools", index, key), value, places.get(key) or places[""])
    if asked.idle:
        draft.put(("lifetime", "idle"), asked.idle[0], asked.idle[1])


def _most(root: At, nodes: int) -> int:
    policy = root.get("service", "replica_policy")
    replicas = root.whole("service", "replicas") or 0
    if policy is not None:
        replicas = max(policy.whole("max_replicas") or 0, policy.whole("min_replicas") or 0)
        policy.note("replicas do not follow the load by themselves", "`clusterctl service scale NAME N`")
    return max(nodes, replicas)


def _environment(root: At, draft: Draft) -> None:
    for one in root.entries("envs"):
        if one.is_null:
            one.note("it has no value here", f"say `clusterctl submit --env {one.key}=...`")
        elif NAME.search(one.key):
            one.leave("it looks like a secret, and none is copied", f"say `clusterctl submit --env {one.key}=...`")
        else:
            draft.put(("env", one.key), one.text(), one)


def _workdir(root: At, moved: Moved) -> str:
    """Seen from the spec; "" where there is none here."""
    at = root.get("workdir")
    if at is None or not isinstance(at.node.value, str):
        if at is not None:
            at.leave("no repository is fetched", "check it out here, and submit from there")
        return ""
    return moved.here(at.text())


def _setup(root: At, workdir: str, draft: Draft) -> None:
    at = root.get("setup")
    if at is None or not (text := at.text().strip()):
        return
    if workdir:
        name = workdir.rstrip("/").rpartition("/")[2].lstrip(".~") or "workdir"
        draft.put(("files",), [{"from": workdir, "to": name}], root.get("workdir"))
        text = f"cd {shlex.quote(name)}\n{text}"
    draft.put(("setup",), [text], at)


# ---------------------------------------------------------------- files and buckets


def _file_mounts(root: At, moved: Moved, draft: Draft) -> None:
    for one in root.entries("file_mounts"):
        value = one.node.value
        if isinstance(value, dict):
            _storage(one, draft)
        elif "://" in (source := _filled(one, root)):
            if source:
                _bucket(one, source, "COPY", draft)
        elif source:
            at = ("files", len(draft.spec.get("files", [])))
            draft.put(at, {"from": moved.here(source), "to": one.key.rstrip("/")}, one)


def _filled(one: At, root: At) -> str:
    """With the values of its variables, as SkyPilot fills them in; "" where that is not known, which is noted."""
    text = one.text()
    for name in re.findall(r"\$\{?(\w+)\}?", text):
        value = root.get("envs", name)
        if value is None or NAME.search(name):
            one.leave(f"${name} has no value in this file", "write it into `files` or `mounts`")
            return ""
        text = re.sub(rf"\$(\{{{name}\}}|{name}\b)", value.text().replace("\\", r"\\"), text)
    return text


def _storage(one: At, draft: Draft) -> None:
    source = one.get("source")
    if source is None or not isinstance(source.node.value, str) or "://" not in source.node.value:
        one.leave(
            "no bucket is made or filled", "put the data into one, and write `mounts: [{from: s3://..., to: /...}]`"
        )
        return
    mode = (one.text("mode") or "MOUNT").upper()
    _bucket(one, source.text(), mode, draft)
    for key in ("name", "store", "persistent"):
        if (known := one.get(key)) is not None:
            known.skip()  # said by the address; the bucket stays in any case


def _bucket(one: At, source: str, mode: str, draft: Draft) -> None:
    if not source.startswith(("s3://", "gs://")):
        one.leave("nodes do not mount or fetch this", "fetch it in `setup`")
    elif not one.key.startswith("/"):
        one.leave("a bucket is mounted at an absolute path", "write one into `mounts`")
    else:
        mount = {"from": source, "to": one.key.rstrip("/"), **({"mode": "cached"} if mode == "MOUNT_CACHED" else {})}
        draft.put(("mounts", len(draft.spec.get("mounts", []))), mount, one)
        if mode != "MOUNT_CACHED":
            one.note(f"the bucket is mounted, and read-only ({mode} in the task)", "`mode: cached` lets programs write")


# ---------------------------------------------------------------- what runs


def _run(root: At, asked: Asked, nodes: int, workdir: str, draft: Draft) -> None:
    at = root.get("run")
    if at is None:
        root.note("it has no `run`: there is a cluster, and nothing to submit")
        return
    if not (text := at.text().strip()):
        return
    head = ["#!/usr/bin/env bash"]
    if workdir.startswith("./") and workdir.strip("./"):
        head.append(f"cd {shlex.quote(workdir)}")
    for name, value in {**_ITS_VARIABLES, _ITS_GPUS: str(asked.gpus)}.items():
        if name in text:
            head.append(f'export {name}="{value}"')
    if unknown := sorted(set(re.findall(r"SKYPILOT_\w+", text)) - {*_ITS_VARIABLES, _ITS_GPUS}):
        at.note(f"nothing sets {unknown[0]}", "docs/jobs.md tells what programs find in their environment")
    draft.files[JOB] = "\n".join([*head, text]) + "\n"
    if workdir.startswith(("..", "/", "~")):
        at.note(
            f"programs run in a copy of one directory, and {JOB} is not in {workdir}",
            f"put {JOB} there and submit from there",
        )
    draft.commands.append(_command(root, asked, nodes))


def _command(root: At, asked: Asked, nodes: int) -> str:
    flags = {"--gpus": asked.gpus, "--gpu-type": asked.gpu_name, "--working-dir": "."}
    service = root.get("service")
    if service is None:
        flags = {"--nodes": nodes if nodes > 1 else 0, **flags}
        return f"clusterctl submit {_flags(flags)} -- bash {JOB}"
    probe = service.get("readiness_probe")
    health = probe.text("path") if probe and isinstance(probe.node.value, dict) else probe.text() if probe else ""
    count = service.whole("replicas") or service.whole("replica_policy", "min_replicas") or 1
    service.note("a service here listens on the port in $PORT", f"write it into {JOB}")
    service.skip()
    name = shlex.quote(root.text("name") or "service")
    return f"clusterctl service run {_flags({'--name': name, '--replicas': count, '--health': health, **flags})} -- bash {JOB}"


def _flags(flags: dict[str, Any]) -> str:
    return " ".join(f"{flag} {shlex.quote(str(value))}" for flag, value in flags.items() if value)
