"""The head: its parts, wired together, and its life from start to `down`."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import socket
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from math import inf
from pathlib import Path
from typing import Any, Protocol

import psutil
from clusterctl_providers import ProviderUnavailable, make_provider
from clusterctl_providers.base import HasAgentEndpoint, HasInside, PoolRequest, Provider, ProviderContext

from clusterctl.core.errors import Refused, UsageError
from clusterctl.core.model import Node, Policy
from clusterctl.provision.bootstrap import JoinSecrets, bootstrap_document
from clusterctl.provision.journal.book import whole_journal
from clusterctl.provision.provisioner import Provisioner
from clusterctl.provision.used_providers import beside, note, scratch
from clusterctl.spec.hash import spec_hash
from clusterctl.spec.lifetime import check_to_come
from clusterctl.spec.load import parse_located
from clusterctl.spec.model import ClusterSpec
from clusterctl.spec.network import dials_publicly, has_engine
from clusterctl.spec.parts import read_listen
from clusterctl.spec.providers.registry import KINDS
from clusterctl.spec.to_core import core_lifetime, pool_requests
from clusterctl.version import __version__
from clusterctl_runtime.agent.bundle import build_bundle
from clusterctl_runtime.engine.images import default_image
from clusterctl_runtime.files.private import write_private
from clusterctl_runtime.head.autoscaler import Autoscaler
from clusterctl_runtime.head.clock import start_ticks, steady_time
from clusterctl_runtime.head.config import HeadConfig
from clusterctl_runtime.head.credentials import use_credentials
from clusterctl_runtime.head.engine.supply import shared_engines
from clusterctl_runtime.head.garbage import Garbage
from clusterctl_runtime.head.handover import Handover, OwnMachine
from clusterctl_runtime.head.history.figures import look
from clusterctl_runtime.head.history.recorder import Recorder
from clusterctl_runtime.head.jobs.attempts import Work
from clusterctl_runtime.head.jobs.book import JobBook
from clusterctl_runtime.head.jobs.charges import charges_document
from clusterctl_runtime.head.jobs.dispatch import Dispatcher
from clusterctl_runtime.head.jobs.queue import Queue
from clusterctl_runtime.head.lifetime.ending import end_cluster, use_of
from clusterctl_runtime.head.lifetime.watch import LifetimeWatch
from clusterctl_runtime.head.metrics.counts import Counts
from clusterctl_runtime.head.metrics.metered import Metered
from clusterctl_runtime.head.network.certs import ensure_certificates, server_context
from clusterctl_runtime.head.network.listening import EVERYWHERE, listen, listen_on_all
from clusterctl_runtime.head.nodes.admission import Admission, Tokens
from clusterctl_runtime.head.nodes.agents import AgentServer
from clusterctl_runtime.head.nodes.asked_drains import AskedDrains
from clusterctl_runtime.head.nodes.draining import Draining
from clusterctl_runtime.head.nodes.endpoint import Endpoint, address
from clusterctl_runtime.head.nodes.fleet import Fleet
from clusterctl_runtime.head.nodes.ledger import Ledger
from clusterctl_runtime.head.nodes.preparing import Preparing, packed_files
from clusterctl_runtime.head.nodes.standby import Standby
from clusterctl_runtime.head.pulse import Pulse
from clusterctl_runtime.head.serve.control import ServeControl
from clusterctl_runtime.head.serve.ray_serve import default_options
from clusterctl_runtime.head.services.controller import Services
from clusterctl_runtime.head.services.entry import Entry, Public
from clusterctl_runtime.head.spec_change import what_changes
from clusterctl_runtime.head.storage.blobs import BlobStore
from clusterctl_runtime.head.storage.events import EventLog
from clusterctl_runtime.head.storage.logs import LogStore
from clusterctl_runtime.head.storage.retention import Retention
from clusterctl_runtime.head.storage.store import Store

log = logging.getLogger(__name__)
GIB = 1024**3
LOOPBACK = "127.0.0.1"


class Server(Protocol):
    """Answers on `sockets` until `should_exit` is set."""

    should_exit: bool

    async def serve(self, sockets: list[socket.socket] | None = None) -> None: ...


class Head:
    """Everything the daemon has. Built from its directory alone: a new process goes on where the last one stopped."""

    def __init__(self, config: HeadConfig) -> None:
        self.config = config
        self.state = "starting"
        self.started = steady_time()
        self.port = 0
        self._agent_hosts: dict[str, list[str]] = {}  # by provider
        self.ended = asyncio.Event()
        self._taking_down = asyncio.Lock()
        directory = config.directory
        self._ca_pem = ensure_certificates(directory, config.uid)
        self.store = Store(directory / "store.db")
        troubles: list[str] = []
        self.journal = whole_journal(directory / "nodes.db", troubles.append)
        self.journal.acquire(f"head process {os.getpid()}")
        self.handover = Handover.load(directory)
        self.events = EventLog(self.store)
        self._own_instance = self._take_over(self.handover) if self.handover else ""
        for trouble in troubles:
            log.error("%s", trouble)
            self.events.add("cluster", config.name, "journal_damaged", trouble)
        self.pulse, self.counts = Pulse(), Counts()
        self.book = JobBook(self.store)
        self.ledger = Ledger()
        self.logs = LogStore(
            directory / "logs", lambda task, text: self.events.add("job", task.split("/")[0], "log_dropped", text)
        )
        self.blobs = BlobStore(directory / "blobs")
        self.admission = Admission(directory, self.store)
        self.tokens = Tokens(config.token_sha256)
        brought = self.handover.agent(directory) if self.handover else None
        self._bundle, self._bundle_digest = brought or build_bundle(directory)
        self.standby = self._make_standby()
        self.provisioner = self._make_provisioner()
        self._wire_up()
        self.lifetime = LifetimeWatch(
            directory,
            config.name,
            lambda: core_lifetime(self.config.spec),
            lambda rules: use_of(self, rules),
            lambda ending: self._shut(f"it is ending itself, since {ending.text}"),
            self.events,
        )
        if self.lifetime.ending is not None:  # an earlier head was about to
            self._shut(f"it is ending itself, since {self.lifetime.ending.text}")

    def _take_over(self, handover: Handover) -> str:
        instance_id, lost = handover.take_over(self.journal, steady_time())
        for node in lost:
            self.events.tell_state(node, node.code, node.reason)
        return instance_id

    def _make_standby(self) -> Standby | None:
        """The books of an inventory's hosts, where the cluster has one."""
        spec = self.config.spec
        if not any(spec.kind_of(pool).machine == "host" for pool in (None, *spec.pools)):
            return None
        return Standby(self.config.directory, self.config.uid, self._hosts_changed, self._node_heard)

    def _hosts_changed(self) -> None:
        self.provisioner.capacity_returned()
        self.autoscaler.wake(observe=True)

    def _node_heard(self, node_id: str, generation: int) -> float:
        session, books = self.fleet.sessions.get(node_id), self.ledger.get(node_id)
        if session is not None and session.generation == generation:
            return inf
        return (books.heard or 0.0) if books is not None and books.generation == generation else 0.0

    def _wire_up(self) -> None:
        self.fleet = Fleet(
            self.journal,
            self.ledger,
            self.logs,
            self.events,
            self.store,
            driver_slots(self.config),
            wake=lambda: self.autoscaler.wake(observe=True),
            dispatch=lambda: self.dispatcher.wake(),
            counts=self.counts,
        )
        self.work = Work(
            self.book,
            self.ledger,
            self.logs,
            self.events,
            self.fleet.send,
            lambda node_id: self.dispatcher.freed(node_id),
            self.counts,
        )
        self.fleet.work = self.work
        self.preparing = self.fleet.preparing = Preparing(
            lambda: self.config, self.blobs, self.fleet, self.logs, self.events, self.fleet.prepared
        )
        self.dispatcher = Dispatcher(lambda: self.config, self.book, self.fleet, self.work, self.store)
        self.draining = Draining(self.fleet, lambda: self.autoscaler.wake())
        self.asked_drains = AskedDrains(self.fleet, self.draining)
        self.engine = self._make_engine()
        self.serve = self._make_serve() if self.engine else None
        self.autoscaler = Autoscaler(
            lambda: self.config,
            self.provisioner,
            self.fleet,
            self.book,
            self.events,
            self.draining,
            self.engine.demand if self.engine else lambda: (),
            Policy(),
            self.counts,
        )
        self.queue = Queue(
            lambda: self.config, self.book, self.work, self.store, self.blobs, self.events, self._arrived
        )
        self.book.released = lambda job: self._arrived()
        self.services = self._make_services()
        self.agents = AgentServer(
            self.config.uid, self.admission, self.blobs, self.store, self.events, self.fleet, self._bundle
        )
        self.agents.standby = self.standby
        if self.engine:
            self.agents.wheels = self.engine.supply.wheel
        self.retention = Retention(
            self.book, self.events, self.logs, self.blobs, self._packages_of_the_spec, self.store
        )
        self.history = Recorder(
            self.store, lambda: look(lambda: self.config, self.fleet.roster, self.ledger, self.book, self.journal)
        )
        self.work.restore()

    def _make_engine(self) -> Any:
        if self.config.spec.ray is None:
            return None
        from clusterctl_runtime.head.engine.control import EngineControl

        engine = EngineControl(
            lambda: self.config,
            self.fleet,
            self.events,
            wake=lambda: self.autoscaler.wake(),
            dispatch=lambda: self.dispatcher.wake(),
            into=self._into,
        )
        self.fleet.engine = self.draining.engine = engine
        self.dispatcher.starts.shares = engine.shares
        return engine

    def _make_services(self) -> Services:
        directory = self.config.directory
        entry = Entry(directory, lambda: public_entry(self.config), lambda name: services.wake(name))
        services = Services(
            self.store,
            self.book,
            self.queue,
            self.work,
            self.ledger,
            self.events,
            entry,
            self.journal.live,
            JoinSecrets(directory).service_token,
        )
        self.book.moved = services.job_moved
        self.draining.changed = services.node_changed
        return services

    def _make_serve(self) -> ServeControl:
        here = self.config.spec.kind.machine == "process"  # several clusters then share this machine's ports
        serve = ServeControl(
            self.config.directory, lambda: self.engine, self.blobs, self.events, lambda: default_options(here)
        )
        self.engine.ready = serve.ray_is_ready
        return serve

    def _into(self, node: Node, argv: Sequence[str], environment: Mapping[str, str]) -> Sequence[str]:
        """What runs a program on a node, where its provider has a way; () where not."""
        pool = next((pool for pool in self.config.spec.pools if pool.name == node.pool), None)
        provider = self.provisioner.providers.get(self.config.spec.kind_of(pool).name)
        return provider.inside(node.instance_id, argv, environment) if isinstance(provider, HasInside) else ()

    def _packages_of_the_spec(self) -> set[str]:
        served = self.serve.records.packages() if self.serve else set[str]()
        return served | {str(file["digest"]) for file in self.config.files} | self.services.packages()

    def _arrived(self) -> None:
        self.dispatcher.wake()
        self.autoscaler.wake()

    # ------------------------------------------------------------ providers

    def _make_provisioner(self) -> Provisioner:
        self._made = note(self.config.directory, self.config.spec)  # what providers were made with
        return Provisioner(
            self.journal,
            {name: self._make_provider(name, settings, self.config.spec) for name, settings in self._made.items()},
            self._bootstrap,
            cluster=self.config.name,
            uid=self.config.uid,
            clock=steady_time,
            pools=self._pool_requests(),
            head_at=f"{self.config.spec.kind.title} ({self._own_instance})" if self.handover else "",
        )

    def _make_provider(self, name: str, given: Mapping[str, Any], spec: ClusterSpec) -> Provider:
        """Of a spec that is in force, or about to be; or one that it has no pools of any more."""
        own, kind = name == spec.provider_name, KINDS[name]
        of_cloud = kind.cloud.here_only if kind.cloud is not None else frozenset[str]()
        here_only = kind.here_only | of_cloud if self.handover else ()
        mine = [pool for pool in spec.pools if spec.kind_of(pool).name == name]
        with_engine = own or any(has_engine(spec, pool) for pool in mine)
        auth = spec.auth.model_dump()
        if self.handover and not own:
            auth["key"] = ""  # it is on the client's machine, and nobody logs in there
            use_credentials(self.config.directory, name)
        context = ProviderContext(
            cluster=self.config.name,
            uid=self.config.uid,
            state_dir=str(scratch(self.config.state_dir, name, spec.provider_name)),
            settings={key: value for key, value in given.items() if key not in here_only},
            beside=beside(self.config.state_dir, name, {**self._made, **spec.providers}, spec.provider_name),
            auth=auth,
            hosts=self.standby,
            agent_bundle=str(self._bundle),
            default_image=default_image(spec.ray if with_engine else None),
            engine_shared=shared_engines(self.config, KINDS[name]) if with_engine else "",
        )
        try:
            provider = Metered.around(make_provider(name, context), self.counts)
        except ProviderUnavailable as error:
            raise UsageError(str(error)) from error
        return OwnMachine.around(provider, self._own_instance) if self.handover and own else provider

    def _pool_requests(self) -> list[PoolRequest]:
        requests = pool_requests(self.config.spec).items()
        return [PoolRequest(name, spec, "head" if name == "head" else "worker") for name, spec in requests]

    def _bootstrap(self, node: Node, pool: PoolRequest) -> dict[str, Any]:
        return bootstrap_document(
            self.config.name,
            self.config.uid,
            node,
            pool,
            heads=[address(host, self.agents.port) for host in self._dialled(node.pool)],
            ca_pem=self._ca_pem,
            token=self.admission.join_token(node.id, node.generation),
            bundle=self._bundle_digest,
        )

    def _agent_endpoints(self, providers: Mapping[str, Provider]) -> list[str]:
        """The addresses to listen on for nodes of these providers, where no client wrote them; what they dial is noted."""
        if self.handover:
            return [EVERYWHERE]
        found: list[str] = []
        for name, provider in providers.items():
            ends = provider.agent_endpoint() if isinstance(provider, HasAgentEndpoint) else (LOOPBACK, LOOPBACK)
            found.append(ends[0])
            self._agent_hosts[name] = [ends[1]]
        return found

    def _dialled(self, pool_name: str) -> Sequence[str]:
        """Hosts that a node to come dials in turn: the client may have written others since this head started. Raises
        ClusterctlError where none is known."""
        if endpoint := Endpoint.load(self.config.directory):
            return endpoint.hosts
        spec = self.config.spec
        pool = next((pool for pool in spec.pools if pool.name == pool_name), None)
        if self.handover is None:
            return self._agent_hosts[spec.kind_of(pool).name]
        return [self._public_address() if dials_publicly(spec, pool) else self.handover.address]

    def _public_address(self) -> str:
        """Of the head's machine, as the last `up` told it."""
        handover = Handover.load(self.config.directory)
        if handover is None or not handover.public:
            raise UsageError(
                "the head's public address is not known, which its nodes would dial: `clusterctl up SPEC` tells it"
            )
        return handover.public

    async def _open_sockets(self, ports: Mapping[str, Any]) -> list[socket.socket]:
        endpoint = Endpoint.load(self.config.directory)
        if endpoint:
            return endpoint.open(ports)
        listen_on = await asyncio.to_thread(self._agent_endpoints, self.provisioner.providers)
        return listen_on_all(listen_on, ports.get("agents", 0))

    async def _listen_for(self, providers: Mapping[str, Provider]) -> None:
        """For nodes of providers that a new spec has beside the others."""
        if Endpoint.load(self.config.directory) is None:
            for host in await asyncio.to_thread(self._agent_endpoints, providers):
                if not self.agents.hears(host):
                    self.agents.serve_too([listen(host, self.agents.port)], server_context(self.config.directory))

    # ------------------------------------------------------------ life

    async def run(self, server: Server) -> None:
        """Serves until `down` or a signal sets `ended`. `server` answers what is asked over HTTP."""
        directory = self.config.directory
        ports = _read_ports(directory)
        api_socket = listen("127.0.0.1", ports.get("api", 0), fall_back=True)
        self.port = api_socket.getsockname()[1]
        await self.agents.start(await self._open_sockets(ports), server_context(directory))
        taken = {"api": self.port, "agents": self.agents.port, "former": self.agents.ports[1:]}
        write_private(directory / "ports.json", json.dumps(taken))
        tasks = [
            asyncio.create_task(server.serve(sockets=[api_socket])),
            asyncio.create_task(self.dispatcher.run()),
            asyncio.create_task(self.autoscaler.run()),
            asyncio.create_task(self.services.run()),
            asyncio.create_task(self.retention.run()),
            asyncio.create_task(self.pulse.run()),
            asyncio.create_task(self.history.run()),
            asyncio.create_task(Garbage().run()),
            asyncio.create_task(self._live_out()),
        ]
        if self.serve:
            tasks.append(asyncio.create_task(self.serve.run()))
        self.state = "stopping" if self.queue.closed else "ready"
        self.events.add(
            "cluster",
            self.config.name,
            "head_started",
            f"the head of {self.config.name} runs (clusterctl {__version__})",
        )
        head = {
            "pid": os.getpid(),
            "start_ticks": start_ticks(),
            "port": self.port,
            "agent_port": self.agents.port,
            "started": self.started,
            "version": __version__,
        }
        write_private(directory / "head.json", json.dumps(head))
        (directory / "head.error").unlink(missing_ok=True)
        self.dispatcher.wake()
        await self.ended.wait()
        server.should_exit = True
        await asyncio.gather(tasks[0], return_exceptions=True)
        for task in tasks[1:]:
            task.cancel()
        await self._close()

    async def _close(self) -> None:
        self.services.entry.close(for_good=bool(self.queue.closed))
        await self.agents.stop()
        if self.engine:
            await self.engine.stop()
        self.store.close()
        self.provisioner.close()
        self.fleet.written.close()
        self.journal.close()

    # ------------------------------------------------------------ what the API asks

    async def use_spec(self, text: str, packed: list[dict[str, Any]] | None = None) -> bool:
        """Puts a new spec in force; false when it says the same. `packed` are its files as the client uploaded them, None for
        those in force. Raises UsageError with the place of every fault."""
        if self.queue.closed:
            raise Refused(
                f"cluster {self.config.name!r} takes no spec any more: {self.queue.closed}. Once it is down: `up`"
            )
        spec, located = parse_located(text, f"{self.config.name}.yaml")
        if spec.lifetime != self.config.spec.lifetime:
            check_to_come(spec, located, time.time())
        if spec.cluster != self.config.name:
            raise UsageError(f"this cluster is called {self.config.name!r}, the spec says {spec.cluster!r}")
        files = packed_files(spec, self.config.files if packed is None else packed, self.blobs)
        self.autoscaler.forgive()
        if spec_hash(spec) == spec_hash(self.config.spec) and files == self.config.files:
            self.preparing.retry()
            if self.engine:
                self.engine.retry()
            return False
        if refused := what_changes(self.config.spec, spec).refused:
            raise Refused(
                f"the {' and the '.join(refused)} of a running cluster cannot be changed: `clusterctl down` first, then `up`"
            )
        providers = self._other_providers(spec)
        await self._listen_for(
            {name: provider for name, provider in providers.items() if name not in self.provisioner.providers}
        )
        self.config = self.config.with_spec(spec, text, files)
        self.provisioner.use_providers(providers)
        self._made |= spec.providers
        self.provisioner.use_pools(self._pool_requests())
        self.preparing.changed()
        self.services.entry.listen_anew()
        self.events.add("cluster", self.config.name, "spec_changed", "a new spec is in force")
        self._arrived()
        return True

    def _other_providers(self, spec: ClusterSpec) -> dict[str, Provider]:
        """Those to which the new spec gives other settings or logins, and those that it has pools of for the first time. They are
        noted. Raises Refused where one would be looked for elsewhere than where something of it may be."""
        note(self.config.directory, spec)
        all_anew = spec.auth != self.config.spec.auth or not spec.providers.keys() <= self._made.keys()
        others = {  # each knows which ones there are beside it
            name: given
            for name, given in {**self._made, **spec.providers}.items()
            if all_anew or self._made.get(name) != given
        }
        return {name: self._make_provider(name, given, spec) for name, given in others.items()}

    def costs(self, by: str) -> dict[str, Any]:
        """In dollars and node hours up to now, by "job" or "user" (the dearest first); anything else is by day and pool."""
        now = steady_time()
        if by in ("job", "user"):
            return charges_document(
                self.book.jobs.values(), by, self.journal.spend(now).total, now, self.book.forgotten.charges
            )
        rows = self.journal.costs(now)
        return {"by": by, "rows": [asdict(row) for row in rows]}

    async def take_down(self) -> dict[str, Any]:
        """Ends every node and then this process. Can be repeated, also after a crash in the middle."""
        self._shut("it is being taken down")
        self.events.add("cluster", self.config.name, "down", "the cluster is being taken down")
        await self.end_nodes()
        asyncio.get_running_loop().call_later(0.2, self.ended.set)  # after the answer has left
        return {"instances": 0}

    async def end_nodes(self) -> None:
        """Returns when no provider lists anything of the cluster any more; raises ClusterctlError where one fails for long."""
        async with self._taking_down:
            await self.autoscaler.stop()
            if self.own_machine is not None:
                self.own_machine.leaving = True
            await asyncio.to_thread(self.provisioner.down)
            for node_id in [books.node_id for books in self.ledger]:
                self.ledger.close(node_id)

    @property
    def own_machine(self) -> OwnMachine | None:
        """The instance that this runs on, where its cluster's provider launched it."""
        return next((one for one in self.provisioner.providers.values() if isinstance(one, OwnMachine)), None)

    def _shut(self, why: str) -> None:
        """From this moment on nothing is taken in, started or bought."""
        self.state = "stopping"
        self.queue.closed = self.queue.closed or why
        self.dispatcher.paused = self.autoscaler.stopped = True

    async def _live_out(self) -> None:
        """The cluster's end by its own rules, if it comes to that."""
        await end_cluster(self, await self.lifetime.decided())
        self.ended.set()


def public_entry(config: HeadConfig) -> Public | None:
    """Where others than this machine reach services, None where they do not."""
    wanted = config.spec.services
    if wanted.listen is None:
        return None
    host, port = read_listen(wanted.listen)
    certificate, key = wanted.certificate or config.directory / "head.pem", wanted.key or config.directory / "head.key"
    return Public(host, port, Path(certificate), Path(key))


def driver_slots(config: HeadConfig) -> int:
    """How many drivers run on the head node at the same time: one per GiB of its memory, at most eight per CPU."""
    if config.spec.head.slots is not None:
        return config.spec.head.slots
    return max(2, min(int(psutil.virtual_memory().total // GIB), 8 * (os.cpu_count() or 1)))


def _read_ports(directory: Any) -> dict[str, Any]:
    try:
        return json.loads((directory / "ports.json").read_text())
    except (FileNotFoundError, ValueError):
        return {}
