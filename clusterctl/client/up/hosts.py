"""`up` for machines reached by SSH: all hosts at once, the head on one of them, and the API through a tunnel.

Nobody waits for a stage that it does not need: while the head's packages travel and the head starts, the other hosts are
looked at; each is installed as soon as the head is there. A host that cannot be used is named with its fix, and the rest
goes on. An `up` with nothing to do asks the head alone.
"""

from __future__ import annotations

import hashlib
import json
import subprocess
import threading
from collections.abc import Callable, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from clusterctl_runtime.backoff import Backoff, wait_until
from clusterctl_runtime.files.private import write_private

from clusterctl.client.begun import note_begun
from clusterctl.client.head import process, tunnels
from clusterctl.client.head.api import Api
from clusterctl.client.head.config import config_there, keep_config
from clusterctl.client.nodes.machines import (
    note_touched,
    open_hosts,
    save_machines,
    saved_machines,
    touched_machines,
)
from clusterctl.client.registry import Cluster, Registry, read_note
from clusterctl.client.up.install import HeadInstall
from clusterctl.core.errors import ClusterctlError, Unreachable, UsageError
from clusterctl.provision.ssh.connection import Connection, HostTrouble
from clusterctl.provision.ssh.fitness import misfit
from clusterctl.provision.ssh.hosts import Bundle, GroupWriter, HeadEndpoint, Hosts, Reached
from clusterctl.provision.ssh.inventory import Machine, read_inventory
from clusterctl.provision.ssh.twins import Twins
from clusterctl.provision.waiting import StillWaiting, listed

if TYPE_CHECKING:
    from clusterctl.client.specfile import SpecFile

JOIN_SECONDS = 15.0  # that an installed host gets to dial the head
SLOW_SECONDS = 15.0  # longer than an `up` takes where all is well
END_SECONDS = 30.0  # that the head gets to end its nodes, before the hosts are gone to
FIRST_PORT = 7420
PORT_FILE = "head/port.json"  # a head that runs goes on with the one it has until it is started again
HOSTS_FILE = "hosts.json"  # what the head was told of its hosts, kept here too


class Remote:
    """One `up` of one cluster."""

    def __init__(self, registry: Registry, cluster: Cluster, source: SpecFile, tell: Callable[[str], None]) -> None:
        from clusterctl_runtime.agent.bundle import bundle_bytes

        self.cluster, self.source, self.tell = cluster, source, tell
        self.machines = read_inventory(source.spec, source.path.absolute().parent)
        data = bundle_bytes()
        self.bundle = Bundle(hashlib.sha256(data).hexdigest(), data)
        self._head = HeadInstall(cluster, registry.home / "cache", self.bundle, tell)
        self._known = {e["id"]: e for e in read_note(cluster.directory / HOSTS_FILE).get("hosts", [])}
        self._looked_at: set[str] = set()
        self._twins = Twins(self.machines)
        self._entries: dict[str, dict[str, Any]] = {}
        self._endpoint: HeadEndpoint | None = None
        self._placed = threading.Event()  # set too when there will be no head
        self._head_connection: Connection | None = None
        self._writer = GroupWriter(self._write_entries)
        self._touched = touched_machines(cluster.directory)  # ids of hosts that may hold something of the cluster
        self._toucher = GroupWriter(self._write_touched)
        self._lock = threading.Lock()
        self._tunnel: subprocess.Popen[bytes] | None = None
        self._engine: dict[str, Any] = {}  # of the head's machine: its version of Ray and of Python
        self.new_head = False  # whether the head started from the spec that this `up` wrote

    # ------------------------------------------------------------ is there anything to do?

    @property
    def digest(self) -> str:
        """Of all that decides what is on the hosts, and of what the pools promise of them: another promise is looked into."""
        promises = [
            [pool.name, dict(pool.resources), pool.gpu.model_dump() if pool.gpu else None]
            for pool in self.source.spec.pools
        ]
        settings = self.source.spec.provider_settings
        way = [settings.get("address"), settings.get("port")]
        machines = [asdict(machine) for machine in self.machines]
        document = [machines, self.bundle.digest, self._options(), way, promises]
        return hashlib.sha256(json.dumps(document, sort_keys=True).encode()).hexdigest()

    def is_in_place(self) -> bool:
        """Whether the last `up` installed just this, the head answers, and all its hosts are there."""
        if read_note(self.cluster.directory / HOSTS_FILE).get("digest") != self.digest:
            return False
        if not process.answers(self.cluster):
            return False
        with Api.of(self.cluster) as api:
            return all(host["connected"] for host in api.get("/api/v1/hosts")["hosts"])

    def _options(self) -> dict[str, Any]:
        spec = self.source.spec
        return {
            "config": spec.provider_settings.get("config", ""),
            "host_keys": spec.auth.host_keys,
            "engine": spec.ray is not None,
            "engine_python": spec.ray.python if spec.ray else "",
        }

    def shortage(self, troubles: dict[str, str]) -> dict[str, tuple[int, str]]:
        """Pools whose min needs hosts that are left out: how many nodes each can have, and why not more."""
        found: dict[str, tuple[int, str]] = {}
        for pool in self.source.spec.pools:
            mine = [machine.id for machine in self.machines if pool.name in machine.pools]
            out = [name for name in mine if name in troubles]
            if out and len(mine) - len(out) < pool.min:
                why = "; ".join(f"host {name}: {troubles[name]}" for name in out)
                found[pool.name] = (len(mine) - len(out), f"pool {pool.name} needs {pool.min} hosts: {why}")
        return found

    # ------------------------------------------------------------ doing it

    def bring_up(self) -> list[Reached]:
        """Makes everything be in place; every host with its trouble, if it has one. Raises ClusterctlError without a head."""
        wanted = {machine.id for machine in self.machines}
        before = [machine for machine in saved_machines(self.cluster.directory) if machine.id not in wanted]
        note_begun(self.cluster)
        keep_config(self.cluster, self.source.spec, self.source.text)  # whose machines these are, a second time
        save_machines(self.cluster.directory, [*self.machines, *before], self._options(), self._touched)
        hosts = open_hosts(self.cluster.directory, self.tell, self.machines)
        waiting = StillWaiting(self.tell, first=SLOW_SECONDS)
        reached: list[Reached] = hosts.each(
            lambda machine: self._serve(hosts, machine), meanwhile=lambda left: waiting.look(self._waits_for(left))
        )
        try:
            head = next(one for one in reached if one.machine.head)
            if self._endpoint is None:
                raise ClusterctlError(f"the head cannot run on {head.id}: {head.trouble or 'no reason given'}")
            left_out = {o.id: _left_out(o) for o in reached if o.trouble}
            if left_out:
                with self._lock:
                    self._entries.update(left_out)
                self._writer.flush()
            tunnels.tunnel_port(self.cluster, self._tunnel)
            self._await_hosts(reached)
            for one in reached:
                if one.trouble is not None and one is not head:
                    self.tell(f"host {one.id} is left out: {one.trouble}")
            if head.trouble is not None:  # its node would be waited for in vain
                raise ClusterctlError(f"the head runs on {head.id}, but no node can run beside it: {head.trouble}")
            self._keep(complete=True)
        finally:
            for one in reached:
                if one.connection is not None:
                    one.connection.close()
        self._clean_former(hosts, before)
        return reached

    def _waits_for(self, unfinished: list[Machine]) -> str:
        silent = [machine for machine in unfinished if machine.id not in self._looked_at]
        if silent:
            return f"{_hosts(silent)} to answer"
        if self._endpoint is None:
            return f"the head to listen on {next(machine.id for machine in self.machines if machine.head)}"
        return f"{_hosts(unfinished)} to be installed"

    def _serve(self, hosts: Hosts, machine: Machine) -> Reached:
        """All that one host needs, in a thread of its own."""
        if machine.head:
            self._head.begin()
        reached = hosts.look(machine, self.bundle)
        self._looked_at.add(machine.id)
        try:
            if reached.trouble is not None:
                return reached
            self._twins.note(reached)
            if why := misfit(machine, self.source.spec.pools, reached.facts):
                raise HostTrouble("misfit", why)
            if machine.head:
                self._twins.check(reached)
                hosts.judge_engine(reached)
                self._engine = reached.facts.get("engine") or {"python": reached.facts["python"]}
                self._start_head(hosts, reached)
            self._placed.wait()
            if self._endpoint is not None:
                self._twins.check(reached)
                hosts.judge_engine(reached, self._engine)
                self._install(hosts, reached, self._endpoint)
        except HostTrouble as error:
            reached.trouble = error
        finally:
            if machine.head:
                self._placed.set()
        return reached

    def _install(self, hosts: Hosts, reached: Reached, endpoint: HeadEndpoint) -> None:
        if not reached.machine.pools and not reached.machine.head:
            return
        reached.entry.update(_entry(reached))
        todo = hosts.plan_install(reached, self.bundle, endpoint, self._known.get(reached.id, {}))
        with self._lock:
            self._entries[reached.id] = reached.entry
        self._writer.flush()
        if todo is not None:
            request, blob = todo
            assert reached.connection is not None
            self._touch(reached.machine)
            reached.boot = reached.connection.ask(request, blob)["boot"]
            if not reached.boot:
                self.tell(
                    f"host {reached.id} has neither systemd with sudo nor cron: after a reboot it comes back with the next `up`"
                )

    # ------------------------------------------------------------ the head

    def _start_head(self, hosts: Hosts, reached: Reached) -> None:
        """The head on its machine; returns when it listens."""
        addresses = self._addresses(reached)
        self._touch(reached.machine)
        first, every = self._head_files(addresses)
        installed = self._head.put(hosts, reached, first, every, {PORT_FILE})
        self._tell_port(reached, installed.agent_port)
        self.new_head, self._tunnel = installed.new, installed.tunnel
        self._head_connection = reached.connection
        self._endpoint = HeadEndpoint(addresses, installed.agent_port, installed.ca_pem)
        self._placed.set()

    def _addresses(self, reached: Reached) -> list[str]:
        """Where hosts reach the head: what the spec says, else where it was logged in to, and its name as the spec has it."""
        given = self.source.spec.provider_settings.get("address", "")
        named = reached.machine.login.host
        return [given] if given else list(dict.fromkeys(a for a in (reached.facts["address"], named) if a))

    def _head_files(self, addresses: list[str]) -> tuple[dict[str, str], dict[str, str]]:
        """The files that a head starts from (those that it has already stay as they are), and those that each `up` writes."""
        config = config_there(self.cluster, self.source.spec, self.source.text, self._engine.get("executable", ""))
        endpoint = {"hosts": addresses}
        return {"head/config.json": config}, {
            "head/endpoint.json": json.dumps(endpoint),
            PORT_FILE: json.dumps({"port": self._port}),
        }

    @property
    def _port(self) -> int | None:
        """That of the spec, None where any will do."""
        return self.source.spec.provider_settings.get("port")

    def _tell_port(self, reached: Reached, port: int) -> None:
        """A port that nobody chose may be closed in a firewall."""
        if port != FIRST_PORT and self._port is None:
            self.tell(
                f"port {FIRST_PORT} of {reached.id} was taken by another program: the head listens on {port}. Open that one for "
                "the other hosts in its firewall, or set `provider: {ssh: {port: ...}}`"
            )

    def _touch(self, machine: Machine) -> None:
        """On file before the first write: whenever this dies, `down` knows where something may be."""
        with self._lock:
            if machine.id in self._touched:
                return
            self._touched.add(machine.id)
        self._toucher.flush()

    def _write_touched(self) -> None:
        with self._lock:
            touched = set(self._touched)
        note_touched(self.cluster.directory, touched)

    def _write_entries(self) -> None:
        with self._lock:
            hosts = [self._entries[m.id] for m in self.machines if m.id in self._entries]
        assert self._head_connection is not None
        document = {"hosts": hosts}
        files = {"head/hosts.json": json.dumps(document)}
        request = {"uid": self.cluster.uid, "cluster": self.cluster.name, "do": "place_files", "files": files}
        self._head_connection.ask(request)
        self._keep(complete=False)

    def _keep(self, *, complete: bool) -> None:
        with self._lock:
            hosts = [self._entries[m.id] for m in self.machines if m.id in self._entries]
        document = {"digest": self.digest if complete else "", "hosts": hosts}
        write_private(self.cluster.directory / HOSTS_FILE, json.dumps(document, indent=1))

    # ------------------------------------------------------------ afterwards

    def _await_hosts(self, reached: list[Reached]) -> None:
        """Until every installed host has dialled in; one that does not gets its trouble, with the end of its log."""
        good = {one.id: one for one in reached if one.trouble is None}
        missing: set[str] = set(good)

        def all_here() -> bool:
            try:
                with Api.of(self.cluster) as api:
                    here = {host["id"] for host in api.get("/api/v1/hosts")["hosts"] if host["connected"]}
            except Unreachable:
                return False  # the tunnel is about to be dug
            missing.difference_update(here)
            return not missing

        wait_until(all_here, Backoff(0.02, 0.02, seconds=JOIN_SECONDS))
        assert self._endpoint is not None
        for name in missing:
            log = ""
            connection = good[name].connection
            if connection is not None:
                lines = str(connection.ask({"do": "logs"}).get("log", "")).strip().splitlines()
                log = f" It says: {lines[-1]}" if lines else ""
            good[name].trouble = HostTrouble(
                "no_way_to_head",
                f"its agent does not get through to the head at {', '.join(self._endpoint.heads)}: open that port in the "
                f"firewall, or set `provider: {{ssh: {{address: ...}}}}`.{log}",
            )

    def _clean_former(self, hosts: Hosts, machines: list[Machine]) -> None:
        """Hosts that left the inventory: the head knows them no more, so nothing of the cluster stays there."""
        left: list[Machine] = []
        for machine, answer, trouble in hosts.each(hosts.remove_former, [m for m in machines if m.id in self._touched]):
            if answer is not None and answer.get("used_as"):
                self.tell(f"host {machine.id} is {answer['used_as']} in the spec now, and goes on as that")
            elif answer is not None and not answer["left"]:
                self.tell(f"host {machine.id} left the inventory: nothing of the cluster is on it any more")
            else:
                left.append(machine)
                self.tell(f"host {machine.id} left the inventory and could not be cleaned: {trouble or answer}")
        save_machines(self.cluster.directory, [*self.machines, *left], self._options(), self._touched)


def _entry(reached: Reached) -> dict[str, Any]:
    """A host's row for the head."""
    machine, facts = reached.machine, reached.facts
    kept = ("hostname", "cpus", "memory", "disk_free", "gpus", "gpus_read", "python", "machine")
    return {
        "id": machine.id,
        "address": facts.get("address", ""),
        "pools": list(machine.pools),
        "head": machine.head,
        "labels": machine.labels,
        "resources": machine.resources,
        "facts": {key: facts[key] for key in kept if key in facts},
    }


def _left_out(reached: Reached) -> dict[str, Any]:
    """The row of a host that is not to be used: it has no token, so nobody can show it."""
    return {**_entry(reached), "trouble": str(reached.trouble), "token_sha256": ""}


def take_down_remote(cluster: Cluster, tell: Callable[[str], None], abandon: Sequence[str] = ()) -> None:
    """`down`: the head ends its nodes in order if it can, then every host is cleaned, whatever state it is in. One that is
    abandoned is cleaned if it can be, and forgotten anyway."""
    names = {machine.id for machine in saved_machines(cluster.directory)}
    if strange := sorted(set(abandon) - names):
        raise UsageError(
            f"{', '.join(strange)}: no such host of cluster {cluster.name!r}; it has {', '.join(sorted(names))}"
        )
    if head_answers(cluster):
        tell(f"the head of cluster {cluster.name} ends its nodes")
        try:
            with Api.of(cluster) as api:
                api.post("/api/v1/down", timeout=END_SECONDS)
        except ClusterctlError as error:
            tell(f"{error}; going on from here")
    take_down_hosts(cluster, tell, abandon)


def head_answers(cluster: Cluster) -> bool:
    """Whether there ever was a head that one got to, and it answers now: nobody waits for one that never came."""
    return bool(read_note(cluster.directory / "tunnel.json").get("port")) and process.answers(cluster)


def take_down_hosts(cluster: Cluster, tell: Callable[[str], None], abandon: Sequence[str] = ()) -> None:
    """Ends and removes everything of the cluster on all hosts that were ever written to. Raises ClusterctlError naming what is
    left where."""
    touched = touched_machines(cluster.directory)
    machines = [machine for machine in saved_machines(cluster.directory) if machine.id in touched]
    if not machines:
        return
    hosts = open_hosts(cluster.directory, tell)
    waiting = StillWaiting(tell)

    def clean(some: list[Machine]) -> list[Any]:
        return hosts.each(hosts.remove, some, lambda left: waiting.look(f"{_hosts(left)} to be cleaned"))

    # The head last: were it gone first, hosts that are still up would have nobody to ask.
    answers = clean([machine for machine in machines if not machine.head]) + clean([m for m in machines if m.head])
    dirty: list[str] = []
    shared: list[Machine] = []  # whose homes hold directories of other machines of the cluster
    for machine, answer, trouble in answers:
        if answer is not None and answer["others"]:
            shared.append(machine)
        if trouble is not None and machine.id in abandon:
            tell(
                f"host {machine.id} is given up ({trouble}). Should it come back: its nodes end themselves, but "
                "~/.clusterctl-host, its daemon and its line in systemd or cron stay until `clusterctl gc SPEC` with a spec "
                "that names it"
            )
        elif trouble is not None:
            dirty.append(f"  {machine.id}: {trouble}")
        elif answer is not None and answer["left"]:
            dirty.append(f"  {machine.id}: still there: {', '.join(answer['left'])}")
        else:
            touched.discard(machine.id)
    tunnels.stop(cluster)
    note_touched(cluster.directory, touched)  # those that are clean need not be there when `down` is run again
    if dirty:
        lines = "\n".join(dirty)
        raise ClusterctlError(
            f"cluster {cluster.name!r} is down but for these hosts:\n{lines}\nBring them back and run `clusterctl down` again, "
            f"or give up those that are gone for good: `clusterctl down {cluster.name} --abandon HOST`. "
            "What runs there ends by itself when it has not heard of its head for its orphan_timeout"
        )
    for machine, left in zip(shared, hosts.each(hosts.sweep, shared), strict=True):
        if left:
            tell(f"host {machine.id}: what another machine left in its home is still there: {left}")


def _hosts(machines: Sequence[Machine]) -> str:
    return f"{'host' if len(machines) == 1 else 'hosts'} {listed([machine.id for machine in machines])}"
