"""Which pools are in the head's network, how the nodes of the others reach it, and what follows from either.

The rule that users read: a pool of the cluster's own provider is in the head's network. A pool of another provider is not, but
where the user says so (`network: shared`, of a VPN or a peering). Ray needs one network, in which every node reaches every
other; so nodes outside of it start none, and serve jobs of the queue only.
"""

from __future__ import annotations

from collections.abc import Iterator

from clusterctl.core.model import Node
from clusterctl.core.scheduling.selectors import NO_ENGINE
from clusterctl.spec.faults import Path
from clusterctl.spec.pool import Pool
from clusterctl.spec.providers.kind import Place
from clusterctl.spec.whole import Parts

SHARED = "shared"
_MACHINES = {"process": "processes", "container": "containers", "host": "hosts", "instance": "instances", "pod": "pods"}


def shares_network(spec: Parts, pool: Pool | None) -> bool:
    """Whether nodes of the pool reach the head, and each other, by their own addresses. The head's for None."""
    return pool is None or spec.kind_of(pool) is spec.kind or pool.network == SHARED


def has_engine(spec: Parts, pool: Pool | None) -> bool:
    """Whether nodes of the pool run the engine. The head's for None."""
    return spec.ray is not None and shares_network(spec, pool)


def node_has_engine(spec: Parts, node: Node) -> bool:
    """The same of a node, whose pool may have left the spec."""
    pool = next((pool for pool in spec.pools if pool.name == node.pool), None)
    if pool is None and node.role == "worker":
        return spec.ray is not None and NO_ENGINE not in node.offer.labels
    return has_engine(spec, pool)


def dials_publicly(spec: Parts, pool: Pool | None) -> bool:
    """Whether nodes of the pool find the head at a public address of its machine."""
    return spec.head_place == "instance" and not shares_network(spec, pool)


def network_notes(spec: Parts) -> list[str]:
    """A sentence for each pool of another provider: what it serves, and why."""
    return [f"pool {pool.name}: {_serves(spec, pool)}" for pool in spec.pools if spec.kind_of(pool) is not spec.kind]


def _serves(spec: Parts, pool: Pool) -> str:
    if shares_network(spec, pool):
        return "all work: it is in the head's network, as the spec says (`network: shared`)"
    jobs = "queue jobs only: it is not in the head's network" if spec.ray else "it is not in the head's network"
    why = f"its provider is {spec.kind_of(pool).name}, the head's {spec.kind.name}"
    way = "; its nodes dial the head at its public address" if dials_publicly(spec, pool) else ""
    return f"{jobs} ({why}){way}"


def unreachable(spec: Parts) -> Iterator[tuple[Path, str, str]]:
    """(path, why, fix) of each pool whose nodes would not find the head, or could not be had from where it runs."""
    for index, pool in enumerate(spec.pools):
        if spec.kind_of(pool) is not spec.kind and (found := _obstacle(spec, pool)):
            yield ("pools", index, "provider"), *found


def _obstacle(spec: Parts, pool: Pool) -> tuple[str, str] | None:
    kind, place = spec.kind_of(pool), spec.head_place
    nodes = "hosts reached by SSH" if kind.machine == "host" else f"{_MACHINES[kind.machine]} of {kind.title}"
    apart = "make a cluster of its own for this pool"
    if kind.machine == "host":
        return (
            f"hosts reached by SSH are pools of a cluster whose head is one of them, and this one's is {_of(place)}",
            apart,
        )
    if place == "host":
        return f"a head on a host reached by SSH launches nothing elsewhere, as {nodes} would have to be", apart
    if place == "pod" or (kind.head == "pod" and place != "here"):
        return (
            f"pods and what is outside of their Kubernetes do not find each other, and the head is {_of(place)}",
            apart,
        )
    if kind.head == "here":
        return None if place == "here" else (f"{nodes} are on the head's own machine, which is {_of(place)}", apart)
    if place == "here":
        if spec.settings_of(pool).get("head_address"):
            return None
        fix = f"write an address of this machine that they reach, as in `provider: {{{kind.name}: {{head_address: 10.0.0.5}}}}`"
        return f"the head runs on this machine, and {nodes} are not told where that is", fix
    if shares_network(spec, pool):
        return None
    if not spec.head.public_port:
        fix = "write `head: {public_port: true}`, or `network: shared` where a VPN or a peering joins the networks"
        return f"{nodes} are not in the head's network, and its port is not open to others", fix
    cloud = spec.kind.cloud
    reach = str(spec.settings_of(None).get("reach") or "public")
    if cloud is not None and not cloud.reach[reach].public:
        fix = "write `reach: public`, or `network: shared` where a VPN or a peering joins the networks"
        return f"{nodes} dial the head at its public address, and with `reach: {reach}` it has none", fix
    return None


def _of(place: Place) -> str:
    return {
        "here": "on this machine",
        "host": "a host reached by SSH",
        "instance": "an instance of its cloud",
        "pod": "a pod",
    }[place]
