"""`list --adopt`: clusters that no home knows any more, found by the tags of their instances and registered here again.

What can be rebuilt is: the cluster's name and uid, its provider, and the records of its nodes, so that `down` ends them and
`up` goes on under the same uid. What only the lost head knew is not: its queue, its logs, and the keys by which nodes and
head trust each other. So `up` replaces the nodes found, and nothing here ends any.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from clusterctl.client.down.gc import uids_in_use
from clusterctl.client.down.places import Place, is_place_of, places
from clusterctl.client.down.take_down import providers_of
from clusterctl.client.head.config import keep_bare_config
from clusterctl.client.lock import Busy, changing
from clusterctl.client.registry import NAME, Cluster, Registry
from clusterctl.client.specfile import SpecFile, SpecFiles
from clusterctl.client.up.launch import write_files
from clusterctl.core.errors import ClusterctlError
from clusterctl.provision.used_providers import add
from clusterctl.spec.places import name_of
from clusterctl.spec.providers.given import providers_in

if TYPE_CHECKING:
    from clusterctl.core.model import Instance, Observed

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


def adopt_clusters(
    registry: Registry, source: SpecFile | SpecFiles | None, scratch: str
) -> tuple[list[Finding], list[str]]:
    """Searches every place (see places) and the hosts of `source`; a cluster that has the name and provider of `source` is
    registered with that spec, as it holds in the place where it was found. Returns what was found and, in sentences, what
    could not be searched."""
    elsewhere = uids_in_use()
    seen: set[str] = set()
    findings: list[Finding] = []
    troubles: list[str] = []
    for place, name, uid, instances in _found(places(registry, source), scratch, troubles):
        if instances and uid not in seen | {cluster.uid for cluster in registry.all()}:
            finding = Finding(name, uid, place.provider, instances, adopted=False)
            findings.append(_adopt_one(registry, place, finding, source, elsewhere))
        elif instances and _is_more(place) and uid in {finding.uid for finding in findings if finding.adopted}:
            findings = [_with_more(registry, place, one, instances) if one.uid == uid else one for one in findings]
        seen.add(uid)
    for one in source.each if source is not None else ():
        if one.spec.kind.machine == "host":
            known = {cluster.uid for cluster in registry.all()}
            findings += _adopt_hosts(registry, one, known, elsewhere, troubles)
    return findings, troubles


def _adopt_one(
    registry: Registry, place: Place, finding: Finding, source: SpecFile | SpecFiles | None, elsewhere: set[str]
) -> Finding:
    name, uid = finding.name, finding.uid
    if why := _refusal(registry, name, uid, elsewhere):
        return replace(finding, why=why)
    try:
        with changing(registry, name, "list --adopt"):
            if why := _refusal(registry, name, uid, elsewhere):  # an `up` of this name may just have ended
                return replace(finding, why=why)
            mine = source.each if source is not None and source.name == name else ()
            own = next((one for one in mine if is_place_of(place, one)), None)
            nodes, lost = _adopt(_register(registry, name, uid, place, own))
    except Busy as error:
        return replace(finding, why=str(error))
    return replace(finding, adopted=True, nodes=nodes, lost=lost)


def _is_more(place: Place) -> bool:
    """Whether what is there is nobody else's: processes of this machine may be the nodes of another provider."""
    return place.search.looked != "always"


def _with_more(registry: Registry, place: Place, finding: Finding, instances: int) -> Finding:
    """The same cluster has instances at another provider, too: `down` ends them with the others."""
    cluster = registry.load(finding.name)
    with changing(registry, finding.name, "list --adopt"):
        if place.provider in providers_in(cluster.read_config()["spec"]):
            return finding
        add(cluster.head_dir, place.provider, providers_in(place.spec)[place.provider])
        nodes, _ = _adopt(cluster)
    return replace(finding, instances=finding.instances + instances, nodes=sorted({*finding.nodes, *nodes}))


def _adopt_hosts(
    registry: Registry, source: SpecFile, known: set[str], elsewhere: set[str], troubles: list[str]
) -> list[Finding]:
    """The spec's own cluster, found on its hosts; others there are only named."""
    from clusterctl.client.down.host_owners import adopt_hosts, look

    held, unseen = look(registry, source, troubles.append)
    troubles += unseen
    findings: list[Finding] = []
    provider = source.spec.provider_name
    for one in held:
        if one.uid in known:
            continue
        other = "" if one.name == source.name else "it is not the cluster of this spec: adopt it with its own"
        why = _refusal(registry, one.name, one.uid, elsewhere) or other
        count, names = len(one.hosts), [machine.id for machine in one.machines]
        if why:
            findings.append(Finding(one.name, one.uid, provider, count, adopted=False, why=why))
            continue
        lost = adopt_hosts(registry, source, one, troubles.append)
        findings.append(Finding(one.name, one.uid, provider, count, adopted=True, nodes=names, lost=lost))
    return findings


def _found(searched: list[Place], scratch: str, troubles: list[str]) -> Iterator[tuple[Place, str, str, int]]:
    """(place, cluster, uid, instances). What is quiet counts as absent where nobody named it and it does not answer."""
    from clusterctl_providers.base import HasClusters

    for place in searched:
        try:
            with closing(place.open("", "", scratch)) as provider:
                found = provider.find_clusters() if isinstance(provider, HasClusters) else []
        except ClusterctlError as error:
            if place.named or not place.quiet:
                troubles.append(f"provider {place.label} could not be searched: {error}")
            continue
        yield from ((place, cluster, uid, count) for cluster, uid, count in sorted(found))


def _refusal(registry: Registry, name: str, uid: str, elsewhere: set[str]) -> str:
    if uid in elsewhere:
        return "another home on this machine looks after it: set CLUSTERCTL_HOME to that"
    if not NAME.fullmatch(name):
        return "its tags name no cluster: `clusterctl gc` ends it"
    if name in registry.names():
        return f"another cluster named {name!r} is known here: take that one down first, or let `clusterctl gc` end this one"
    return ""


def _register(registry: Registry, name: str, uid: str, place: Place, source: SpecFile | None) -> Cluster:
    engine = "ray" if source is not None and source.spec.ray else "none"
    path = str(source.path.absolute()) if source is not None else ""
    where = source.place if source is not None else name_of(place.provider, dict(place.where))
    cluster = registry.create(name, provider=place.provider, engine=engine, spec_path=path, uid=uid, place=where)
    if source is not None:
        write_files(cluster, source)
        return cluster
    keep_bare_config(cluster, place.spec["provider"], place.spec.get("auth") or {})
    return cluster


def _adopt(cluster: Cluster) -> tuple[list[str], list[str]]:
    """Journals the nodes that the tags tell; returns their ids and, in sentences, what is lost."""
    from clusterctl.provision.adopt import adopt
    from clusterctl.provision.journal.book import Journal

    spec = cluster.read_config()["spec"]
    providers = providers_of(cluster, spec)
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
    found = [instance for scope in observed for instance in scope.instances if instance.uid == cluster.uid]
    nameless = sum(not instance.node_id for instance in found)
    gaps = [f"{nameless} of its instances do not say which node they were"] if nameless else []
    return sorted(node.id for node in adoption.nodes), [*_lost(found), *gaps, *adoption.gaps]


def _lost(found: list[Instance]) -> list[str]:
    """What cannot be had again, which depends on where its head was, or is."""
    from clusterctl_providers.base import TAG_HEAD, TAG_MAKER
    from clusterctl_providers.this_machine import maker

    tags = [(instance, dict(instance.tags)) for instance in found if instance.state in ("pending", "running")]
    heads = [instance.id for instance, mine in tags if mine.get(TAG_HEAD)]
    if heads:
        return [
            f"its head is on {heads[0]} with its queue, logs and events, and only the home that it was started from has the "
            "keys to it: go on from there, or with a copy of that home's directory of the cluster; `down` here ends it all"
        ]
    makers = sorted({mine.get(TAG_MAKER, "") for _, mine in tags} - {"", maker()})
    warning = [
        f"its head ran at {who}: see to it that it is ended there, or two heads end each other's nodes"
        for who in makers
    ]
    return [*LOST, *warning]
