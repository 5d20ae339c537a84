"""`list --adopt`: clusters that no home knows any more, found by the tags of their instances and registered here again.

What can be rebuilt is: the cluster's name and uid, its provider, and the records of its nodes, so that `down` ends them and
`up` goes on under the same uid. What only the lost head knew is not: its queue, its logs, and the keys by which nodes and
head trust each other. So `up` replaces the nodes found, and nothing here ends any.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from clusterctl.client.cleaning import provider_specs, uids_in_use
from clusterctl.client.launch import SpecFile, write_files
from clusterctl.client.private import write_private
from clusterctl.client.registry import NAME, Cluster, Registry
from clusterctl.client.takedown import make_providers
from clusterctl.core.errors import ClusterctlError

if TYPE_CHECKING:
    from clusterctl.core.model import Observed

LOST = (
    "its queue of jobs, their logs and its events were the head's and cannot be found again",
    "the keys of its nodes were the head's, too: `up` replaces the nodes, `down` ends them",
)


@dataclass(frozen=True)
class Finding:
    """A cluster that a provider shows and this home did not know. `adopted` says whether it does now, `why` otherwise;
    `nodes` have a record now; `lost` says what could not be rebuilt."""

    name: str
    uid: str
    provider: str
    instances: int
    adopted: bool
    why: str = ""
    nodes: list[str] = field(default_factory=list[str])
    lost: list[str] = field(default_factory=list[str])


def adopt_clusters(registry: Registry, source: SpecFile | None, scratch: str) -> tuple[list[Finding], list[str]]:
    """Searches this machine, Docker where it answers, the providers of clusters known here, and the one of `source`, whose
    cluster is registered with that spec. Returns what was found and, in sentences, what could not be searched."""
    named = {} if source is None else {source.spec.provider_name: source.spec.model_dump(mode="json", by_alias=True)}
    specs: dict[str, Any] = {**named, "docker": {"provider": "docker"}, **provider_specs(registry), **named}
    specs.pop("ssh", None)  # its hosts say themselves whose they are
    specs["local"] = specs.pop("local")  # last: processes of this machine may be the nodes of another provider
    known = {cluster.uid for cluster in registry.all()}
    elsewhere = uids_in_use()
    findings: list[Finding] = []
    troubles: list[str] = []
    for name, uid, provider, instances in _found(specs, scratch, troubles):
        if uid in known or not instances:
            continue
        known.add(uid)
        why = _refusal(registry, name, uid, elsewhere)
        if why:
            findings.append(Finding(name, uid, provider, instances, adopted=False, why=why))
            continue
        own = source if source is not None and (source.name, source.spec.provider_name) == (name, provider) else None
        nodes, gaps = _adopt(_register(registry, name, uid, provider, own, specs[provider]))
        findings.append(Finding(name, uid, provider, instances, adopted=True, nodes=nodes, lost=[*LOST, *gaps]))
    if source is not None and source.spec.provider_name == "ssh":
        findings += _adopt_hosts(registry, source, known, elsewhere, troubles)
    return findings, troubles


def _adopt_hosts(
    registry: Registry, source: SpecFile, known: set[str], elsewhere: set[str], troubles: list[str]
) -> list[Finding]:
    """The spec's own cluster, found on its hosts; others there are only named."""
    from clusterctl.client.hostowners import adopt_hosts, look

    held, unseen = look(registry, source, troubles.append)
    troubles += unseen
    findings: list[Finding] = []
    for one in held:
        if one.uid in known:
            continue
        other = "" if one.name == source.name else "it is not the cluster of this spec: adopt it with its own"
        why = _refusal(registry, one.name, one.uid, elsewhere) or other
        count, names = len(one.hosts), [machine.id for machine in one.machines]
        if why:
            findings.append(Finding(one.name, one.uid, "ssh", count, adopted=False, why=why))
            continue
        lost = adopt_hosts(registry, source, one, troubles.append)
        findings.append(Finding(one.name, one.uid, "ssh", count, adopted=True, nodes=names, lost=lost))
    return findings


def _found(specs: Mapping[str, Any], scratch: str, troubles: list[str]) -> Iterator[tuple[str, str, str, int]]:
    """(cluster, uid, provider, instances). Docker counts as absent where nobody named it and it does not answer."""
    from clusterctl_providers.base import HasClusters

    for name, spec in specs.items():
        try:
            provider: Any = next(iter(make_providers("", "", scratch, spec).values()))
            with closing(provider):
                found = provider.find_clusters() if isinstance(provider, HasClusters) else []
        except ClusterctlError as error:
            if spec != {"provider": "docker"}:
                troubles.append(f"provider {name} could not be searched: {error}")
            continue
        yield from ((cluster, uid, name, count) for cluster, uid, count in sorted(found))


def _refusal(registry: Registry, name: str, uid: str, elsewhere: set[str]) -> str:
    if uid in elsewhere:
        return "another home on this machine looks after it: set CLUSTERCTL_HOME to that"
    if not NAME.fullmatch(name):
        return "its tags name no cluster: `clusterctl gc` ends it"
    if name in registry.names():
        return f"another cluster named {name!r} is known here: take that one down first, or let `clusterctl gc` end this one"
    return ""


def _register(
    registry: Registry, name: str, uid: str, provider: str, source: SpecFile | None, spec: Mapping[str, Any]
) -> Cluster:
    engine = "ray" if source is not None and source.spec.ray else "none"
    path = str(source.path.absolute()) if source is not None else ""
    cluster = registry.create(name, provider=provider, engine=engine, spec_path=path, uid=uid)
    if source is not None:
        write_files(cluster, source)
        return cluster
    bare = {"cluster": name, "provider": spec["provider"], "auth": spec.get("auth") or {}, "pools": []}
    config = {"name": name, "uid": uid, "spec": bare, "state_dir": str(cluster.provider_dir)}
    write_private(cluster.head_dir / "config.json", json.dumps(config, indent=1))
    return cluster


def _adopt(cluster: Cluster) -> tuple[list[str], list[str]]:
    """Journals the nodes that the tags tell; returns their ids and the gaps in what could be listed."""
    from clusterctl.provision.adopt import adopt
    from clusterctl.provision.journal import Journal

    spec = json.loads((cluster.head_dir / "config.json").read_text())["spec"]
    providers = make_providers(cluster.name, cluster.uid, str(cluster.provider_dir), spec)
    now = time.time()
    journal = Journal(cluster.head_dir / "nodes.db")
    try:
        observed: list[Observed] = [scope for provider in providers.values() for scope in provider.list()]
        journal.acquire(f"clusterctl list --adopt (process {os.getpid()})")
        adoption = adopt(journal, observed, cluster.uid, (), now)
        for node in adoption.nodes:
            reason = "it was found by its tags; the head that it trusts is lost"
            journal.move(node.id, "fail", now, reason=reason, code="head_lost")
    finally:
        journal.close()
        for provider in providers.values():
            provider.close()
    nameless = sum(not i.node_id for scope in observed for i in scope.instances if i.uid == cluster.uid)
    gaps = [f"{nameless} of its instances do not say which node they were"] if nameless else []
    return sorted(node.id for node in adoption.nodes), [*gaps, *adoption.gaps]
