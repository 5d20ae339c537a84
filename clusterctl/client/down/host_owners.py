"""Hosts of an inventory that belong to clusters nobody knows here: found by what their `owner.json` says, never by a name.

A cluster is alive when its head runs on one of the hosts looked at, or when any of them is connected to its head; such a
one is never cleaned. Nor is a host that has been without its head for less than SILENT_SECONDS: a head's machine may be
on its way back.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from clusterctl.client.head.config import digest_of, keep_token, new_token
from clusterctl.client.nodes.machines import save_machines
from clusterctl.client.registry import Registry
from clusterctl.core.errors import UsageError
from clusterctl.provision.gc import Stray
from clusterctl.provision.ssh.connection import HostTrouble
from clusterctl.provision.ssh.hosts import Hosts
from clusterctl.provision.ssh.inventory import Machine, read_inventory

if TYPE_CHECKING:
    from clusterctl.client.specfile import SpecFile

SILENT_SECONDS = 1800.0
Tell = Callable[[str], None]


@dataclass(frozen=True)
class Held:
    """What one cluster holds of the hosts looked at: machines with what each says of itself (see `ssh.programs.host.whose`)."""

    name: str
    uid: str
    hosts: tuple[tuple[Machine, dict[str, Any]], ...]

    @property
    def alive(self) -> bool:
        """Whether a head runs there, or any of the hosts hears one."""
        return any(answer["head"] or answer["linked"] for _, answer in self.hosts)

    @property
    def machines(self) -> list[Machine]:
        """The head's machine is the one that has a head, whatever the spec says."""
        return [replace(machine, head=bool(answer["has_head"])) for machine, answer in self.hosts]


def look(registry: Registry, source: SpecFile, tell: Tell) -> tuple[list[Held], list[str]]:
    """Every cluster that holds hosts of this spec, and in sentences which hosts could not be looked at."""
    if source.spec.kind.machine != "host":
        raise UsageError(f"{source.path}: only the hosts of a spec with `provider: ssh` are looked at")
    machines = read_inventory(source.spec, source.path.absolute().parent)
    hosts = _open(registry, source, "", "", machines, tell)
    found: dict[str, list[tuple[Machine, dict[str, Any]]]] = {}
    troubles: list[str] = []
    for machine, answer in zip(
        machines, hosts.each(lambda machine: _ask(hosts, machine, {"do": "whose"})), strict=True
    ):
        if isinstance(answer, HostTrouble):
            troubles.append(f"host {machine.id} could not be looked at: {answer}")
        elif answer["owner"]:
            found.setdefault(str(answer["owner"]["uid"]), []).append((machine, answer))
    held = [Held(str(rows[0][1]["owner"].get("cluster") or ""), uid, tuple(rows)) for uid, rows in found.items()]
    return held, troubles


def clean_hosts(
    registry: Registry, source: SpecFile, owned: Iterable[str], tell: Tell, *, dry_run: bool
) -> list[Stray]:
    """Removes, unless `dry_run`, what is on the hosts of this spec of clusters that nobody looks after any more."""
    held, troubles = look(registry, source, tell)
    provider = source.spec.provider_name
    strays = [Stray(provider, "", "", (), error=trouble) for trouble in troubles]
    for one in held:
        if one.uid in owned:
            continue
        if one.alive:
            tell(f"cluster {one.name!r} ({one.uid[:8]}) has hosts of this spec, and its head is alive: left alone")
            continue
        lost = [machine for machine, answer in one.hosts if answer["silent"] >= SILENT_SECONDS]
        for machine, answer in one.hosts:
            if machine not in lost:
                minutes, least = answer["silent"] / 60, SILENT_SECONDS / 60
                tell(
                    f"host {machine.id} of cluster {one.name!r} has been without its head for {minutes:.0f} min: left alone "
                    f"until it is {least:.0f}"
                )
        if lost:
            strays.append(_clean(provider, _open(registry, source, one.name, one.uid, lost, tell), one, dry_run))
    return strays


def _clean(provider: str, hosts: Hosts, held: Held, dry_run: bool) -> Stray:
    names = tuple(machine.id for machine in hosts.machines)
    if dry_run:
        return Stray(provider, held.name, held.uid, names)
    left: list[str] = []
    for machine, answer, trouble in hosts.each(hosts.remove):
        if trouble is not None or (answer and answer["left"]):
            left.append(f"host {machine.id}: {trouble or 'still there: ' + ', '.join((answer or {})['left'])}")
    return Stray(provider, held.name, held.uid, names, removed=not left, error="; ".join(left))


def adopt_hosts(registry: Registry, source: SpecFile, held: Held, tell: Tell) -> list[str]:
    """Registers a cluster from what its hosts say, and has its head obey this home; returns, in sentences, what is lost."""
    options = {"config": source.spec.provider_settings.get("config", ""), "host_keys": source.spec.auth.host_keys}
    cluster = registry.create(
        held.name,
        provider=source.spec.provider_name,
        engine="ray" if source.spec.ray else "none",
        spec_path=str(source.path.absolute()),
        uid=held.uid,
    )
    save_machines(cluster.directory, held.machines, options)
    heads = [machine for machine in held.machines if machine.head]
    if not heads:
        return ["none of the hosts has its head: `down` cleans them, `up` starts another head, without jobs of before"]
    token = new_token()
    hosts = _open(registry, source, held.name, held.uid, heads, tell)
    request = {**hosts.owner, "do": "adopt_head", "token_sha256": digest_of(token)}
    answer = _ask(hosts, heads[0], request)
    if isinstance(answer, HostTrouble):
        return [f"its head on {heads[0].id} could not be told to obey this home ({answer}): `down` cleans the hosts"]
    keep_token(cluster, token)
    return []


def _open(
    registry: Registry, source: SpecFile, cluster: str, uid: str, machines: Iterable[Machine], tell: Tell
) -> Hosts:
    config = source.spec.provider_settings.get("config", "")
    remembered = registry.home / "known_hosts"
    return Hosts(cluster, uid, machines, remembered, tell, config=config, host_keys=source.spec.auth.host_keys)


def _ask(hosts: Hosts, machine: Machine, request: dict[str, Any]) -> dict[str, Any] | HostTrouble:
    try:
        connection = hosts.connect(machine)
    except HostTrouble as trouble:
        return trouble
    try:
        return connection.ask(request)
    except HostTrouble as trouble:
        return trouble
    finally:
        connection.close()
