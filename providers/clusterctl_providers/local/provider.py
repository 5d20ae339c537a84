"""The local provider: nodes are processes of this machine, each in a session and a directory of its own.

No root, no Docker, no cloud. A node outlives the client and the head that made it and is known again by its record on
disk and by the mark in the environment of its processes (see local_nodes, local_processes).

Settings (under `provider: {local: ...}`): `agent_bundle` (the agent's zipapp; the head sets it), `agent_argv` (what
to run instead of `python BUNDLE`), `short_dir` (where short paths may be made, default /tmp), `grace` (seconds an
agent gets to end its work, default 5).
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import sys
import time
import uuid
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from clusterctl_runtime.agent.facts import own_cpus, own_memory
from clusterctl_runtime.files.private import write_private

from clusterctl.core.errors import BadRequest, ProviderError
from clusterctl.core.model import Instance, Observed, Offer, labels_of
from clusterctl_providers.base import (
    OFFERS_LAST,
    TAG_CLUSTER,
    TAG_UID,
    CreateRequest,
    CreateResult,
    PoolRequest,
    ProviderContext,
)
from clusterctl_providers.local import nodes as local_nodes
from clusterctl_providers.local import processes as local_processes
from clusterctl_providers.local.nodes import LocalNode
from clusterctl_providers.this_machine import Ends, only_offer

ADDRESS = "127.0.0.1"
SCOPE = "local"
_CLUSTER_VARIABLE = "CLUSTERCTL_CLUSTER"  # in the agent's environment, for `find_clusters`


class LocalProvider:
    name = "local"
    scopes: Sequence[str] = (SCOPE,)
    settle_seconds = 0.0  # a list shows the truth at once
    in_flight_seconds = 0.0  # a node is started by its caller itself
    offers_last = OFFERS_LAST

    def __init__(self, context: ProviderContext) -> None:
        self._context = context
        self._state = Path(context.state_dir)
        self._grace = float(context.settings.get("grace", 5.0))
        self._ends = Ends()

    def create(self, requests: Sequence[CreateRequest]) -> list[CreateResult]:
        with local_nodes.locked(self._state):
            return [self._create(request) for request in requests]

    def list(self) -> list[Observed]:
        """All nodes with a record, and any process that bears our uid though its record is lost."""
        local_nodes.reap()
        now = time.time()
        try:
            marked = local_processes.marked_processes()
            nodes = [node for node in local_nodes.nodes_on_disk(self._state) if self._is_ours(node)]
        except OSError as error:
            sentence = f"the local nodes below {self._state} could not be listed: {error}"
            return [Observed(SCOPE, (), False, now, sentence)]
        instances = [self._instance(node, marked) for node in nodes]
        known = {instance.id for instance in instances}
        lost = [i for i in sorted(marked) if i not in known and _uid_of(i) == self._context.uid]
        instances += [self._paperless(i) for i in lost if not self._is_anothers(marked[i])]
        return [Observed(SCOPE, tuple(instances), True, now)]

    def look_up(self, instance_ids: Sequence[str]) -> dict[str, Instance]:
        """The list is read from this machine itself, and has no pages."""
        (scope,) = self.list()
        if not scope.complete:
            raise ProviderError(scope.error)
        return {instance.id: instance for instance in scope.instances if instance.id in set(instance_ids)}

    def terminate(self, instance_ids: Sequence[str]) -> None:
        """Ends the agents (in order, within the grace), then every process that bears the mark, then the directories.
        What takes longer than a moment goes on in a thread, and is listed as stopping; `close` waits for it."""
        wanted = {i for i in instance_ids if _uid_of(i) == self._context.uid} - self._ends.stopping()
        if not wanted:
            return
        with local_nodes.locked(self._state):
            nodes = [node for node in local_nodes.nodes_on_disk(self._state) if node.id in wanted]
            for node in nodes:
                local_nodes.mark_ended(self._state, node.path.name)
        self._ends.begin(wanted, lambda: self._end(wanted, nodes))

    def stop(self, instance_ids: Sequence[str]) -> None:
        """Ends their processes within the grace and keeps their directories."""
        with local_nodes.locked(self._state):
            nodes = [node for node in local_nodes.nodes_on_disk(self._state) if node.id in instance_ids]
            for node in nodes:
                local_nodes.mark_stopped(node)
        left = local_processes.end_processes({node.id: node.pid() for node in nodes}, self._grace)
        local_nodes.reap()
        if left:
            raise ProviderError(f"could not end the processes {sorted(left)} of {', '.join(sorted(instance_ids))}")

    def start(self, instance_ids: Sequence[str]) -> list[ProviderError | None]:
        with local_nodes.locked(self._state):
            nodes = {node.id: node for node in local_nodes.nodes_on_disk(self._state)}
            return [self._restart(nodes.get(i), i) for i in instance_ids]

    def _restart(self, node: LocalNode | None, instance_id: str) -> ProviderError | None:
        if node is None:
            return BadRequest(f"there is no local node {instance_id} to start")
        try:
            local_nodes.restart_agent(node, self._argv(), {_CLUSTER_VARIABLE: self._context.cluster})
        except OSError as error:
            return ProviderError(f"could not start the local node {instance_id} again: {error}")
        except BadRequest as error:
            return error
        return None

    def _end(self, wanted: set[str], nodes: Sequence[LocalNode]) -> None:
        marked = local_processes.marked_processes()
        agents = {instance: min(marked.get(instance, ()), default=0) for instance in wanted}
        agents.update({node.id: pid for node in nodes if (pid := node.pid())})
        left = local_processes.end_processes(agents, self._grace)
        local_nodes.reap()
        if left:
            raise ProviderError(
                f"could not end the processes {sorted(left)} of {', '.join(sorted(wanted))}: they survived SIGKILL; look at "
                "them with ps and end them by hand"
            )
        for node in nodes:
            with contextlib.suppress(BadRequest):  # without an agent's program nothing waits for what is written back
                local_nodes.release_mounts(node, self._argv())
            local_nodes.remove_node(node)
        for instance_id in wanted:
            local_nodes.remove_short_dir(self._short_dir(instance_id))

    def offers(self, pool: PoolRequest) -> list[Offer]:
        """One offer: this machine, as much of it as the pool says. A head offers the machine's memory to drivers, too."""
        machine = {"CPU": float(own_cpus())}
        if pool.role == "head":
            machine["memory"] = float(own_memory())
        return [only_offer(pool, "local", "local", "this machine", machine)]

    def console_log(self, instance_id: str) -> str:
        for node in local_nodes.nodes_on_disk(self._state):
            if node.id == instance_id:
                return node.log_tail()
        return ""

    def directory(self, node_id: str) -> str:
        """Of its newest generation."""
        ours = [node for node in local_nodes.nodes_on_disk(self._state) if self._is_ours(node)]
        found = [node for node in ours if node.record["node_id"] == node_id]
        return str(max(found, key=lambda node: float(node.record["created"])).short_dir) if found else ""

    def doctor(self) -> list[tuple[str, bool, str]]:
        short = self._short_base()
        return [
            (
                f"Python {sys.version_info.major}.{sys.version_info.minor} can run agents",
                sys.version_info >= (3, 10),
                "use Python 3.10 or newer",
            ),
            (f"{short} can be written to", os.access(short, os.W_OK), f"make {short} writable, or set short_dir"),
        ]

    def find_clusters(self) -> list[tuple[str, str, int]]:
        """Clusters with nodes below our state directory or with marked processes anywhere on this machine."""
        found: dict[str, tuple[str, set[str]]] = {}
        for node in local_nodes.nodes_on_disk(self._state):
            tags = dict(node.record["tags"])
            found.setdefault(tags.get(TAG_UID, ""), (tags.get(TAG_CLUSTER, ""), set()))[1].add(node.id)
        for instance, pids in local_processes.marked_processes().items():
            if uid := _uid_of(instance):
                names = (local_processes.variable(pid, _CLUSTER_VARIABLE) for pid in sorted(pids))
                name = next((name for name in names if name), "")
                found.setdefault(uid, (name, set()))[1].add(instance)
        return sorted((name, uid, len(instances)) for uid, (name, instances) in found.items() if uid)

    def close(self) -> None:
        self._ends.wait()
        local_nodes.reap()

    def put_file(self, token: str, name: str, data: Mapping[str, Any]) -> None:
        """A JSON file into the directory of the node that this token made; nothing where it is gone."""
        for node in local_nodes.nodes_on_disk(self._state):
            if node.record["token"] == token:
                with contextlib.suppress(FileNotFoundError):
                    write_private(node.short_dir / name, json.dumps(data))

    def instance_id(self, token: str) -> str:
        """The id that a launch token leads to."""
        return _instance_id(self._context.uid, token)

    # ------------------------------------------------------------ inside

    def _create(self, request: CreateRequest) -> CreateResult:
        instance_id = self.instance_id(request.token)
        if local_nodes.has_ended(self._state, request.token):
            return Instance(
                instance_id, self._context.uid, request.node_id, request.generation, "terminated",
                token=request.token, detail="(its token is used up)", tags=labels_of(dict(request.tags)),
            )  # fmt: skip
        try:
            argv = self._argv()
            record = self._record(request, instance_id)
            node = local_nodes.write_node(self._state, request.token, record, request.bootstrap)
            local_nodes.start_agent(node, argv, {_CLUSTER_VARIABLE: self._context.cluster})
        except OSError as error:
            return ProviderError(f"could not start a local node for {request.node_id} below {self._state}: {error}")
        except BadRequest as error:
            return error
        return self._instance(node, {})

    def _argv(self) -> list[str]:
        if self._context.agent_argv:
            return list(self._context.agent_argv)
        bundle = self._context.agent_bundle
        if not bundle or not Path(bundle).is_file():
            raise BadRequest(
                f"the agent bundle {bundle or '(not set)'} is not there: reinstall clusterctl and run `up` again"
            )
        return [sys.executable, "-I", bundle]

    def _record(self, request: CreateRequest, instance_id: str) -> dict[str, Any]:
        return {
            "id": instance_id,
            "token": request.token,
            "node_id": request.node_id,
            "generation": request.generation,
            "tags": dict(request.tags),
            "instance_type": request.offer.instance_type,
            "market": request.offer.market,
            "zone": request.offer.zone,
            "short_dir": str(self._short_dir(instance_id)),
            "created": time.time(),
        }

    def _short_base(self) -> Path:
        return Path(self._context.settings.get("short_dir") or "/tmp")  # noqa: S108  a private directory is made in it

    def _short_dir(self, instance_id: str) -> Path:
        """Follows from the id, so that it is found and removed even when the record is lost."""
        return self._short_base() / f"cctl-{hashlib.sha256(instance_id.encode()).hexdigest()[:10]}"

    def _is_ours(self, node: LocalNode) -> bool:
        return dict(node.record["tags"]).get(TAG_UID) == self._context.uid

    def _instance(self, node: LocalNode, marked: Mapping[str, set[int]]) -> Instance:
        record = node.record
        state: Literal["pending", "running", "stopping", "stopped", "terminated"] = "terminated"
        if node.id in self._ends.stopping():
            state = "stopping"
        elif node.is_stopped():
            state = "stopping" if node.runs() else "stopped"
        elif node.runs() or (not node.pid() and marked.get(node.id)):
            state = "running"
        elif not node.pid():
            state = "pending"  # written but not started: the same token again starts it
        return Instance(
            id=node.id,
            uid=self._context.uid,
            node_id=record["node_id"],
            generation=record["generation"],
            state=state,
            address=ADDRESS,
            zone=record["zone"],
            instance_type=record["instance_type"],
            market=record["market"],
            created=record["created"],
            token=record["token"],
            detail="its agent has ended" if state == "terminated" else "",
            tags=labels_of(record["tags"]),
        )

    def _is_anothers(self, pids: set[int]) -> bool:
        """Whether another provider of this cluster has the record of these processes' node."""
        records = {Path(record) for pid in pids if (record := local_processes.variable(pid, local_processes.RECORD))}
        return any(
            record.exists() and record.is_relative_to(there) for record in records for there in self._context.beside
        )

    def _paperless(self, instance_id: str) -> Instance:
        """Someone removed the directory of a running node: it is still ours to show and to end."""
        state = "stopping" if instance_id in self._ends.stopping() else "running"
        return Instance(
            instance_id, self._context.uid, "", 0, state,
            address=ADDRESS, zone="local", instance_type="local", detail="its directory is gone",
        )  # fmt: skip


def _instance_id(uid: str, token: str) -> str:
    """Names the owner: a process that bears it is known as ours even when every file is lost."""
    return f"local-{uuid.UUID(uid).hex}-{hashlib.sha256(token.encode()).hexdigest()[:12]}"


def _uid_of(instance_id: str) -> str:
    """The uid in an instance id of this provider, "" when it is none."""
    parts = instance_id.split("-")
    try:
        return str(uuid.UUID(parts[1])) if len(parts) == 3 and parts[0] == "local" else ""
    except ValueError:
        return ""
