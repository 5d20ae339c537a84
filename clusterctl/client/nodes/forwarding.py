"""Ports of 127.0.0.1 that lead to ports of one node, for as long as this process serves them.

The local listeners stay whatever happens to the way behind them: a connection that finds it broken gets a new one, to the node
that the name means by then. What is wrong is told once, and once when it is over.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from clusterctl.client.head.api import Api
from clusterctl.client.local_port import LocalPort
from clusterctl.client.nodes.access import Access, LocalAccess, access, nodes_of
from clusterctl.client.registry import Cluster
from clusterctl.client.submit.naming import job_id
from clusterctl.core.errors import ClusterctlError, NotFound, Unreachable, UsageError
from clusterctl.provision.carried import Way

Node = dict[str, Any]


@dataclass(frozen=True)
class Ports:
    """`here` 0 is any free one."""

    here: int
    there: int


def node_named(cluster: Cluster, name: str) -> Node:
    """The node of that name; that of rank 0 of a running job; "": the head's. Raises NotFound and ClusterctlError."""
    if not name:
        head = nodes_of(cluster, pool="head")
        if not head:
            raise NotFound(
                "this cluster has no head node at this moment: name a node, as `clusterctl nodes` lists them"
            )
        return head[0]
    try:
        return nodes_of(cluster, [name])[0]
    except NotFound as no_node:
        try:
            return nodes_of(cluster, [_node_of_job(cluster, name)])[0]
        except _NoJob:
            raise no_node from None


class _NoJob(NotFound):
    """There is no job of that name either."""


def _node_of_job(cluster: Cluster, name: str) -> str:
    with Api.of(cluster) as api:
        try:
            job = api.get(f"/api/v1/jobs/{job_id(api, name)}")
        except NotFound as error:
            raise _NoJob(str(error)) from error
    if "counts" in job:
        raise UsageError(f"{name} is an array of jobs: name one of them, as {name}.0")
    if job["state"] == "queued":
        raise ClusterctlError(f"job {name} runs on no node yet: `clusterctl explain {name}` says what it waits for")
    if job["state"] != "running":
        raise ClusterctlError(f"job {name} has ended ({job['state']}), so nothing of it listens any more")
    return str(job["attempts"][-1]["nodes"][0])


class Route:
    """The way to whatever `name` means. `tell` says to the user what breaks, once. For several threads."""

    def __init__(self, cluster: Cluster, name: str, tell: Callable[[str], None]) -> None:
        """Raises ClusterctlError where there is no such node, or no way to it."""
        self._cluster, self._name, self._tell = cluster, name, tell
        self._lock = threading.Lock()
        self._told: dict[int, str] = {}
        self.node = node_named(cluster, name)
        self._access = access(cluster, self.node)
        self._access.knock()

    @property
    def is_here(self) -> bool:
        """Whether its ports are those of this machine."""
        return isinstance(self._access, LocalAccess)

    def dial(self, port: int) -> Way | None:
        """None where it could not be had, which is told."""
        tried = self._access
        try:
            way = self._dial(tried, port)
        except ClusterctlError as error:
            self._note(port, str(error))
            return None
        self._note(port, "")
        return way

    def _dial(self, tried: Access, port: int) -> Way:
        try:
            return tried.dial(port)
        except ClusterctlError:
            found = self._found_anew(tried)
            if found is None:
                raise
            return found.dial(port)

    def _found_anew(self, tried: Access) -> Access | None:
        """The way to another node that the name means by now, None where it is the same. Raises where it means none."""
        with self._lock:
            if self._access is not tried:
                return self._access
            try:
                node = node_named(self._cluster, self._name)
            except Unreachable:
                return None  # what broke before says more
            if _identity(node) == _identity(self.node):
                return None
            self._access, self.node = access(self._cluster, node), node
            return self._access

    def _note(self, port: int, trouble: str) -> None:
        with self._lock:
            before = self._told.get(port, "")
            self._told[port] = trouble
        if trouble and trouble != before:
            self._tell(trouble)
        elif before and not trouble:
            self._tell(f"port {port} of {self.node['id']} is reached")


def _identity(node: Node) -> tuple[Any, ...]:
    return tuple(node.get(key) for key in ("id", "generation", "instance_id", "address"))


class Forwarding:
    """One local port that leads to one of the node."""

    def __init__(self, route: Route, ports: Ports) -> None:
        """Raises ClusterctlError where the local port cannot be had."""
        if route.is_here and ports.here == ports.there:
            raise UsageError(
                f"{route.node['id']} is on this machine: what listens on its port {ports.there} is at "
                f"127.0.0.1:{ports.there} already"
            )
        self._route, self._there = route, ports.there
        self.local = LocalPort(lambda: route.dial(ports.there), ports.here, "choose another, or 0 for any free one")

    def document(self) -> dict[str, Any]:
        """{"node", "node_port", "port", "address"}; the last two are the local ones."""
        port, node = self.local.number, self._route.node["id"]
        return {"node": node, "node_port": self._there, "port": port, "address": f"127.0.0.1:{port}"}


def forwardings(route: Route, wanted: Sequence[Ports]) -> list[Forwarding]:
    """All of them, or none where one cannot be had, which is raised."""
    made: list[Forwarding] = []
    try:
        for ports in wanted:
            made.append(Forwarding(route, ports))
    except BaseException:
        for forwarding in made:
            forwarding.local.close()
        raise
    return made
