"""What each node is told about the engine, from the cluster's spec and the node's place in it."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Protocol

from clusterctl.core.model import Node
from clusterctl.core.resources import Resources
from clusterctl.core.scheduling.selectors import labels_of_node
from clusterctl.spec.model import ClusterSpec
from clusterctl.spec.providers.kind import Kind
from clusterctl_runtime.engine.command import PINNED_DASHBOARD, PINNED_GCS, PINNED_PORTS, PINNED_WORKERS, EngineConfig

BESIDE_HEAD = 20  # added to a raylet's pinned ports where it shares its machine with the head's
BESIDE_HEAD_WORKERS = (20000, 29999)
LOCAL_STORE_SHARE = 0.1  # of this machine's memory, for the object store of each raylet on it
CONTAINER_STORE_SHARE = 0.3  # of a container's memory
CONTAINER_SHM_SHARE = 0.9  # of its /dev/shm, at most
LOCAL_STORE_MOST = 2 * 1024**3
LOCAL_STORE_LEAST = 128 * 1024**2
_LABEL_KEY = re.compile(r"^([a-z0-9.-]+/)?[A-Za-z0-9]([A-Za-z0-9_.-]{0,61}[A-Za-z0-9])?$")
_LABEL_VALUE = re.compile(r"^[A-Za-z0-9]([A-Za-z0-9_.-]{0,61}[A-Za-z0-9])?$")


class NodeBooks(Protocol):
    """What is known of a node from its agent. `labels` are those of its own, beside its pool's."""

    @property
    def address(self) -> str: ...
    @property
    def total(self) -> Resources: ...
    @property
    def labels(self) -> Iterable[tuple[str, str]]: ...


def head_config(
    spec: ClusterSpec, node: Node, books: NodeBooks, token_path: Path, python: str, environment: dict[str, Any]
) -> EngineConfig:
    """`python`, `environment`: what `EngineConfig` has them for. The head's raylet offers no CPUs or GPUs: Ray's tasks wait for
    workers, drivers run beside it under the queue's books."""
    made = _node_config(spec, node, books, token_path)
    made.python, made.environment = python, environment
    made.role, made.fault_tolerant = "head", spec.ray.fault_tolerant if spec.ray else None
    made.resources = {}
    if not made.single_host:
        made.gcs_address = f"{made.node_ip}:{PINNED_GCS}"
        made.dashboard_port = PINNED_DASHBOARD
    return made


def worker_config(
    spec: ClusterSpec,
    node: Node,
    books: NodeBooks,
    token_path: Path,
    address: str,
    dashboard: str,
    python: str,
    environment: dict[str, Any],
) -> EngineConfig:
    """`address` is the GCS's and `dashboard` that of Ray's dashboard, as the head's raylet told them. The dashboard listens on
    loopback, so that only nodes of the same machine are told of it."""
    made = _node_config(spec, node, books, token_path)
    made.python, made.environment = python, environment
    made.gcs_address = address
    made.dashboard = dashboard if made.single_host else ""
    if not made.single_host and made.node_ip == address.rpartition(":")[0].strip("[]"):
        made.ports = {name: port + BESIDE_HEAD for name, port in PINNED_PORTS.items()}
        made.worker_ports = list(BESIDE_HEAD_WORKERS)
    return made


def _node_config(spec: ClusterSpec, node: Node, books: NodeBooks, token_path: Path) -> EngineConfig:
    ray = spec.ray
    assert ray is not None, "a cluster without an engine configures none"
    pool = next((p for p in spec.pools if p.name == node.pool), None)
    kind = spec.kind_of(pool)
    single_host = kind.machine == "process"
    resources = dict(books.total.to_dict())
    if (
        node.offer.gpu_type
    ):  # what `accelerator_type=` asks for: Ray sees it by itself only where the GPU is no pretended one
        resources[f"accelerator_type:{node.offer.gpu_type}"] = 1
    return EngineConfig(
        node_ip="" if single_host else (books.address or node.address),
        token=token_path.read_text().strip(),
        resources=resources,
        node_labels=engine_labels(labels_of_node(node.offer, tuple(books.labels))),
        instance_id=f"{node.id}@{node.generation}",
        instance_type=node.offer.instance_type,
        pool=node.pool,
        worker_ports=[] if single_host else list(PINNED_WORKERS),
        object_store_memory=_store(spec, kind, int(books.total.get("memory"))),
        env={**spec.env, **(pool.env if pool else {}), **ray.env},
        single_host=single_host,
    )


def given_python(spec: ClusterSpec, kind: Kind) -> str:
    """The interpreter that the spec names for nodes of that provider that run the engine: nothing is installed there. "" where it
    names none."""
    ray = spec.ray
    return (ray.python if ray else "") or mounted_python(spec, kind)


def mounted_python(spec: ClusterSpec, kind: Kind) -> str:
    """An environment of this machine that containers see under the same path."""
    environment = spec.providers[kind.name].get("engine_env") if kind.machine == "container" else ""
    return f"{environment}/bin/python" if environment else ""


def engine_labels(labels: dict[str, str]) -> dict[str, str]:
    """Those that a selector of Ray can name: it parses no others."""
    return {k: v for k, v in labels.items() if _LABEL_KEY.match(k) and _LABEL_VALUE.match(v)}


def _store(spec: ClusterSpec, kind: Kind, memory: int) -> int:
    """Bytes for the object store, 0 = Ray's default. A container's must fit in its /dev/shm, which is half of its memory
    where the spec says nothing (`docker_container`)."""
    asked = spec.ray.object_store if spec.ray else None
    if kind.machine == "container":
        shared = int(spec.providers[kind.name].get("shm_size") or memory)
        return int(min(asked or memory * CONTAINER_STORE_SHARE, shared * CONTAINER_SHM_SHARE))
    return asked or (_local_store() if kind.machine == "process" else 0)


def _local_store() -> int:
    """Bytes. Ray's default is 30 % of the machine for each raylet, which several on one machine would promise many times over."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return int(min(LOCAL_STORE_MOST, max(LOCAL_STORE_LEAST, memory * LOCAL_STORE_SHARE)))
