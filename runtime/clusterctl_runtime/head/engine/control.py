"""The head's side of the engine: which node's raylet runs, and what Ray wants.

The head node's raylet comes first; each worker's is started when its agent is here and the head's address is known, or can
be told beforehand: where Ray is installed and its ports are pinned, workers load it while the head does.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from clusterctl.core.errors import ClusterctlError, Refused
from clusterctl.core.model import Demand, Node, NodeState
from clusterctl.core.resources import Resources
from clusterctl.core.scheduling.selectors import needing_engine
from clusterctl.spec.network import has_engine, node_has_engine
from clusterctl_runtime.engine.client import (
    HELPER,
    EngineClient,
    EngineNode,
    EngineRefused,
    EngineState,
    helper_environment,
)
from clusterctl_runtime.engine.command import EngineConfig
from clusterctl_runtime.engine.config import head_config, mounted_python, worker_config
from clusterctl_runtime.engine.demand import BELIEVED_AFTER, NodeUser, Waiting, believed, without_orphans
from clusterctl_runtime.engine.environment import mint_token
from clusterctl_runtime.files.private import write_private
from clusterctl_runtime.head.clock import steady_time
from clusterctl_runtime.head.config import HeadConfig
from clusterctl_runtime.head.engine.requests import StandingRequests
from clusterctl_runtime.head.engine.shares import EngineShares
from clusterctl_runtime.head.engine.supply import EngineSupply, NoEngine, Supplied
from clusterctl_runtime.head.engine.waits import RayWaits
from clusterctl_runtime.head.nodes.draining import Answer, NotAsked
from clusterctl_runtime.head.nodes.fleet import Fleet
from clusterctl_runtime.head.nodes.ledger import NodeLedger
from clusterctl_runtime.head.storage.events import EventLog

log = logging.getLogger(__name__)

RESTART_PAUSE = 2.0
MAX_HEAD_FAILURES = 5
TELL_SECONDS = 0.5  # between two lines about wheels that nodes wait for
_WHY = "clusterctl removes this node"
_BUSY = frozenset({"supplying", "installing", "starting", "ready"})


class EngineControl:
    """Implements the fleet's `EngineHooks` and the draining's `EngineDrain`; `shares` are the dispatcher's."""

    def __init__(
        self,
        config: Callable[[], HeadConfig],
        fleet: Fleet,
        events: EventLog,
        wake: Callable[[], None],
        dispatch: Callable[[], None],
        into: Callable[[Node, Sequence[str], Mapping[str, str]], Sequence[str]] = lambda *_: (),
    ) -> None:
        """`into`: what runs a program on a node, where this process is on none of them; () where it is."""
        self._config, self._into = config, into
        self._fleet = fleet
        self._events = events
        self._wake = wake
        self._dispatch = dispatch
        self._token_path = config().directory / "engine.token"
        if not self._token_path.exists():
            write_private(self._token_path, mint_token())
        self._client: EngineClient | None = None
        self._address = self._dashboard = ""
        self._head: dict[str, Any] = {}  # what Ray's head said when it was ready, and on which node
        self._expected = ""  # where Ray's head is about to listen
        self._session = ""  # of Ray's head: another one is another Ray cluster
        self._head_failures = 0
        self._tasks: set[asyncio.Task[Any]] = set()
        self.shares = EngineShares(fleet, events, self._spawn, self._runs_on)
        self.state: EngineState | None = None
        self._in_use = frozenset[str]()  # resources of which Ray's work holds some anywhere
        self.waits = RayWaits(self._waiting, self._told)
        self.requests = StandingRequests(self._forget_requests, events, self._spawn)
        self.supply = EngineSupply(config, self._supply_changed)
        self._telling: asyncio.TimerHandle | None = None
        self.ready: Callable[[], None] = lambda: (
            None
        )  # is called when Ray's head or its GCS was started, or started again
        self.message = ""
        self._lacking = ""  # of Ray's head, which is ready all the same
        self.version = ""

    # ------------------------------------------------------------ what others ask

    @property
    def phase(self) -> str:
        """starting, ready or failed, for status."""
        if self._client is not None and self.state is not None and self.state.healthy:
            return "ready"
        return "failed" if self._head_failures >= MAX_HEAD_FAILURES else "starting"

    @property
    def trouble(self) -> str:
        """Why it is not ready yet, or what it lacks, for status; "" when there is nothing to say."""
        return self.message or self.supply.message or self._lacking

    @property
    def address(self) -> str:
        return self._address

    def access(self) -> dict[str, Any]:
        """What a program outside of the cluster needs to speak to Ray, beside the token: {"node", "gcs" and "dashboard" (each
        "host:port", as seen on that node), "version", "python" (its version)}. Raises Refused while Ray is not ready."""
        if self.phase != "ready" or not self._head:
            raise self._not_ready()
        said = self._head
        return {
            "node": said["node"],
            "gcs": self._address,
            "dashboard": self._dashboard,
            "version": self.version,
            "python": str(said.get("python_version") or ""),
        }

    def figures(self) -> list[dict[str, Any]]:
        """Nodes whose raylet has figures for Prometheus: {"node", "pool", "port"}, by node."""
        ready = {
            books.node_id: int(books.engine.info.get("metrics_port") or 0)
            for books in self._fleet.ledger
            if books.engine.state == "ready" and books.connected
        }
        nodes = [node for node_id in sorted(ready) if (node := self._fleet.journal.get(node_id)) and ready[node_id]]
        return [{"node": node.id, "pool": node.pool, "port": ready[node.id]} for node in nodes]

    async def own_jobs(self) -> list[dict[str, Any]]:
        """Those that Ray has beside the queue's, as `EngineClient.own_jobs` tells them. Raises Refused, EngineRefused."""
        if self._client is None:
            raise self._not_ready()
        return await self._client.own_jobs()

    def helper(self) -> EngineClient:
        """What speaks to Ray. Raises Refused while Ray is not ready."""
        if self._client is None or self.phase != "ready":
            raise self._not_ready()
        return self._client

    @property
    def session(self) -> str:
        """Which Ray cluster this is: another one has lost what the last one had. "" before the first."""
        return self._session

    def dashboard(self) -> str:
        """The URL of Ray's dashboard, as the helper has it. Raises Refused while Ray is not ready."""
        return f"http://{self.access()['dashboard']}"

    def _not_ready(self) -> Refused:
        return Refused(f"Ray is not ready on this cluster ({self.trouble or self.phase}): `clusterctl status` shows it")

    def read_token(self) -> str:
        """The cluster's token for Ray, a secret. Reads a file."""
        return self._token_path.read_text().strip()

    def demand(self) -> tuple[Demand, ...]:
        """What Ray wants, as it told last, as far as that is to be believed yet; nothing while its GCS does not answer."""
        return believed(self._told(), self._in_use, time.time())

    def _told(self) -> tuple[Demand, ...]:
        """Nodes without the engine are not for that."""
        state = self.state
        demand = without_orphans(state.demand, state.drivers) if state and state.healthy else ()
        spec = self._config().spec
        return demand if all(has_engine(spec, pool) for pool in spec.pools) else tuple(map(_needing_engine, demand))

    # ------------------------------------------------------------ EngineHooks

    def is_ready(self, books: NodeLedger) -> bool:
        node = self._fleet.journal.get(books.node_id)
        return books.engine.state == "ready" or (node is not None and not self._runs_on(node))

    def _runs_on(self, node: Node) -> bool:
        return node_has_engine(self._config().spec, node)

    def node_joined(self, books: NodeLedger, node: Node) -> None:
        """Starts Ray there, unless it runs or is about to; a worker's turn comes when it is known where Ray's head listens, and
        never outside of the head's network."""
        if node.role == "head":
            self.supply.note_head(books.facts)
            self._spawn(self._start_head(books, node))
        else:
            self._spawn(self._start_worker(books, node))

    def node_reported(self, books: NodeLedger, node: Node, message: dict[str, Any]) -> None:
        """Keeps what is told and acts on a new state: a worker whose raylet failed has failed, the head's is started again."""
        engine, before, told = books.engine, books.engine.state, books.engine.detail
        engine.state = str(message.get("state", "off"))
        engine.ray_node_id = str(message.get("ray_node_id") or engine.ray_node_id)
        engine.detail = str(message.get("detail", ""))
        engine.info = message
        if engine.state == "installing":
            self._say(node, engine.detail, "installing")
        if node.role == "head":
            self._lacking = engine.detail if engine.state == "ready" else ""
            if engine.state == before == "ready":  # its GCS was started again beneath it
                self.ready()
        if engine.state == "ready" and engine.detail and (before, told) != ("ready", engine.detail):
            self._events.add("engine", node.id, "degraded", f"{node.id}: {engine.detail}")
        if engine.state == before:
            return
        if engine.state == "ready":
            if self._is_another(books, node, str(message.get("version", ""))):
                return
            engine.known, engine.used, engine.status = False, Resources(), ""
            self.shares.settle(node.id)  # it begins with the whole node
            if node.role == "head":
                self._spawn(self._head_is_ready(node, message))
            elif self.state is not None and self.state.healthy:
                # Ray told of this node before its agent did, and will not again until it changes.
                self._take_state(self.state)
        elif engine.state == "failed":
            self._raylet_failed(books, node)
        elif engine.state == "stopped":
            self.called_off(books)

    def node_left(self, books: NodeLedger) -> None:
        books.engine.state = "off"
        self.shares.forget(books)

    # ------------------------------------------------------------ starting

    async def _start_head(self, books: NodeLedger, node: Node) -> None:
        if books.engine.state in _BUSY or not self._fleet.preparing.is_prepared(node.id):
            return
        supplied = await self._supplied(books, node)
        if supplied is None:
            return
        config = await asyncio.to_thread(
            head_config,
            self._config().spec,
            node,
            books,
            self._token_path,
            supplied.python,
            supplied.environment,
        )
        self._tell_start(books, node, config)
        if not config.single_host:
            self._expected = config.gcs_address
            self._start_workers()

    def _start_workers(self) -> None:
        for books in list(self._fleet.ledger):
            node = self._fleet.journal.get(books.node_id)
            if node and node.role != "head" and books.connected:
                self._spawn(self._start_worker(books, node))

    async def _start_worker(self, books: NodeLedger, node: Node) -> None:
        now = self._fleet.journal.get(node.id)
        if now is None or now.state is NodeState.DRAINING or not self._runs_on(now):
            return
        if not (self._address or self._expected) or books.engine.state in _BUSY:
            return
        if not self._fleet.preparing.is_prepared(node.id):
            return
        supplied = await self._supplied(books, node)
        if supplied is None:
            return
        config = worker_config(
            self._config().spec,
            node,
            books,
            self._token_path,
            self._address or self._expected,
            self._dashboard,
            supplied.python,
            supplied.environment,
        )
        self._tell_start(books, node, config)

    def _tell_start(self, books: NodeLedger, node: Node, config: EngineConfig) -> None:
        books.engine.state = "starting"
        self._say(node, "its engine starts")
        self._fleet.send(node.id, {"t": "engine_start", "config": config.to_json()})

    async def _supplied(self, books: NodeLedger, node: Node) -> Supplied | None:
        """Where the node's Ray comes from; None when it cannot have one, which is told, or is not to be started any more."""
        spec = self._config().spec
        pool = next((pool for pool in spec.pools if pool.name == node.pool), None)
        books.engine.state = "supplying"
        try:
            supplied = await self.supply.for_node(spec.kind_of(pool), node.role, books.facts)
        except NoEngine as error:
            books.engine.detail = str(error)
            self._failed(books, node, str(error), error.code, final=error.final)
            return None
        return supplied if books.engine.state == "supplying" and self._fleet.ledger.get(node.id) is books else None

    def _supply_changed(self) -> None:
        if self._telling is None:
            self._telling = asyncio.get_running_loop().call_later(TELL_SECONDS, self._tell_supply)

    def _tell_supply(self) -> None:
        self._telling = None
        for books in list(self._fleet.ledger):
            node = self._fleet.journal.get(books.node_id)
            if node and books.engine.state == "supplying" and self.supply.message:
                self._say(node, f"waits for its engine: {self.supply.message}")

    def _is_another(self, books: NodeLedger, node: Node, version: str) -> bool:
        """Whether the interpreter that the spec names has another Ray than the spec wants, which is then told."""
        ray = self._config().spec.ray
        if ray is None or not (ray.version and ray.python) or version == ray.version:
            return False
        text = (
            f"{ray.python} has Ray {version}, the spec wants {ray.version}: install that one there, or write the other"
        )
        self._fleet.send(node.id, {"t": "engine_stop"})
        self._failed(books, node, text, "engine_mismatch", final=True)
        return True

    def _say(self, node: Node, text: str, code: str = "engine") -> None:
        """The reason that a joining node has for not being ready."""
        now = self._fleet.journal.get(node.id)
        if now and now.state is NodeState.JOINING and text and now.reason != text:
            self._fleet.move(node.id, "joined", text, code)

    def retry(self) -> None:
        """`up` was said again: an engine that was given up is tried once more."""
        if self._head_failures >= MAX_HEAD_FAILURES:
            self._head_failures = 0
            for books in list(self._fleet.ledger):
                node = self._fleet.journal.get(books.node_id)
                if node and node.role == "head" and books.connected:
                    self._spawn(self._restart_head(books, node))

    async def _head_is_ready(self, node: Node, message: dict[str, Any]) -> None:
        address = str(message["address"])
        if self._client is not None:
            await self._client.stop()
        session = str(message.get("session", ""))
        if self._session and session != self._session:
            self._leave_old_session()
        self._session = session
        self._address, self.version = address, str(message.get("version", ""))
        self._dashboard, self._head = str(message.get("dashboard") or ""), {**message, "node": node.id}
        inside = self._helper_inside(node, message)
        client = EngineClient(
            python="" if inside else await self._helper_python(str(message.get("python") or "")),
            gcs_address=address,
            token_path=str(self._token_path),
            on_state=self._take_state,
            log=log,
            command=inside,
        )
        self._client = self.shares.client = client
        await client.start()
        self._events.add("engine", "ray", "ready", f"Ray {self.version} is ready at {address}")
        self._start_workers()
        self._wake()
        self.ready()

    def _helper_inside(self, node: Node, message: Mapping[str, Any]) -> Sequence[str]:
        """What runs the helper on Ray's head node, where that is not this machine: it holds GPUs only beside a raylet."""
        environment = helper_environment(str(message["address"]), str(message.get("token_path") or ""))
        return self._into(node, [str(message.get("python") or "python3"), "-I", "-c", HELPER.read_text()], environment)

    async def _helper_python(self, beside: str) -> str:
        """The interpreter on the head's machine that speaks to the engine: its Ray must be that of the nodes. `beside`: that of
        the head node, which often is this machine."""
        config = self._config()
        candidates = [python for python in (mounted_python(config.spec, config.spec.kind), beside) if python]
        try:
            return await self.supply.here(self.version, candidates, extras=False)
        except ClusterctlError as error:
            self.message = (
                f"Ray {self.version} is not on the head's machine, so that nobody asks it what it needs: {error}"
            )
            self._events.add("engine", "ray", "no_helper", self.message)
            return config.engine_python

    def _raylet_failed(self, books: NodeLedger, node: Node) -> None:
        detail = books.engine.detail or "no reason given"
        if books.engine.info.get("code") == "install_failed":
            self._failed(books, node, detail, "install_failed")
        else:
            self._failed(books, node, f"its raylet ended: {detail}", "raylet_failed")

    def _failed(self, books: NodeLedger, node: Node, text: str, code: str, *, final: bool = False) -> None:
        books.engine.state = "failed"
        if node.role != "head":
            self._events.add("engine", node.id, code, f"{node.id}: {text}")
            self._fleet.fail(node.id, text, code)
            return
        self._head_failures = MAX_HEAD_FAILURES if final else self._head_failures + 1
        self.message = text
        self._events.add("engine", "ray", "head_failed", f"Ray's head: {text}")
        if self._head_failures < MAX_HEAD_FAILURES:
            self._spawn(self._restart_head(books, node))

    async def _restart_head(self, books: NodeLedger, node: Node) -> None:
        """Ray's head comes back with the state it had on disk, and workers' raylets find it again by themselves."""
        if self._client:
            await self._client.stop()
            self._client = self.shares.client = self.state = None
        await asyncio.sleep(RESTART_PAUSE)
        books.engine.state = "off"
        await self._start_head(books, node)

    def _leave_old_session(self) -> None:
        """The head that came up is another Ray cluster (its state was lost): every worker's raylet has to join it afresh."""
        for other in list(self._fleet.ledger):
            record = self._fleet.journal.get(other.node_id)
            if record is None or record.role == "head" or not other.connected or not self._runs_on(record):
                continue
            other.engine.state = "off"
            self._fleet.send(other.node_id, {"t": "engine_stop"})
            if record.state is NodeState.READY:
                self._fleet.move(other.node_id, "rejoined", "Ray's head was started anew", "engine_restart")

    # ------------------------------------------------------------ the state below

    def _take_state(self, state: EngineState) -> None:
        before, self.state = self.state, state
        self.message = state.message
        if state.healthy:
            self._head_failures = 0
        freed, news = False, before is None or not before.healthy
        for engine_node in state.nodes:
            books = self._books_of(engine_node)
            if books is not None:
                news = news or not books.engine.known
                freed = self._take_node(books, engine_node) or freed
        if state.healthy and news:
            self.shares.hold_again()
            self.shares.settle_all()
        self.requests.take(state)
        self._in_use = frozenset(name for node in state.nodes for name in node.total - node.available)
        if before is None or before.demand != state.demand:
            self.waits.changed()
            if any(demand.source == "placement_group" for demand in state.demand):
                asyncio.get_running_loop().call_later(BELIEVED_AFTER, self._wake)
        if before is None or before.demand != state.demand or freed:
            self._wake()
        if freed:
            self._dispatch()

    async def _waiting(self) -> tuple[Waiting, ...]:
        return await self._client.waiting() if self._client is not None else ()

    async def _forget_requests(self) -> bool:
        return self._client is not None and await self._client.forget_requests()

    async def users(self, node_id: str) -> tuple[NodeUser, ...]:
        """Ray's actors and placement groups on a node; none where Ray cannot be asked."""
        books = self._fleet.ledger.get(node_id)
        if self._client is None or books is None or books.engine.state != "ready":
            return ()
        try:
            return await self._client.users(books.engine.ray_node_id)
        except ClusterctlError as error:
            log.info("Ray was not asked who uses %s: %s", node_id, error)
            return ()

    def _books_of(self, engine_node: EngineNode) -> NodeLedger | None:
        node_id = engine_node.instance_id.rpartition("@")[0]
        books = self._fleet.ledger.get(node_id) if node_id else None
        return books if books and books.engine.ray_node_id == engine_node.ray_node_id else None

    def _take_node(self, books: NodeLedger, engine_node: EngineNode) -> bool:
        """Notes what Ray holds there; true when something became free or the node became known."""
        engine, used = books.engine, engine_node.total - engine_node.available
        idle = not used and not engine_node.activity
        # Something may be free while Ray takes more of something else.
        freed = not engine.known or not engine.used.fits_in(used) or (idle and not engine.idle)
        if not idle or not engine.idle:
            books.busy = steady_time()
        if engine_node.status == "DEAD" and engine.status != "DEAD" and books.drain:
            self._wake()  # what a drain has waited for
        engine.status = engine_node.status
        engine.used, engine.total, engine.idle, engine.known = used, engine_node.total, idle, True
        return freed

    # ------------------------------------------------------------ draining and the end

    async def drain(self, books: NodeLedger, *, if_idle: bool, deadline: float | None) -> Answer:
        """As the protocol says. Ray itself knows both: an idle node's end, which it refuses where the node is in use, and a
        preemption with a deadline, of which its libraries learn, so that they save what they have or move."""
        if self.has_left(books):
            return Answer.OUT
        client = self._client
        if (why := self.hindrance(books)) or client is None:
            raise NotAsked(why)
        if if_idle and not books.engine.idle:
            return Answer.IN_USE
        try:
            if if_idle:
                agreed = await client.drain_if_idle(books.engine.ray_node_id, _WHY)
                return Answer.OUT if agreed else Answer.IN_USE
            left = None if deadline is None else max(deadline - steady_time(), 0.0)
            await client.drain(books.engine.ray_node_id, _WHY, left)
        except EngineRefused as error:
            raise NotAsked(str(error)) from error
        self._events.add("engine", books.node_id, "drains", f"Ray starts nothing new on {books.node_id}")
        return Answer.LEAVING

    def has_left(self, books: NodeLedger) -> bool:
        """Also where it never was, and where Ray's head was given up. A raylet that was drained ends by itself once nothing runs
        there; of a node that is not connected only Ray's head knows."""
        node = self._fleet.journal.get(books.node_id)
        if node is not None and not self._runs_on(node):
            return True
        if self.phase == "failed" or books.engine.status == "DEAD":
            return True
        return books.connected and books.engine.state != "ready"

    def hindrance(self, books: NodeLedger) -> str:
        """Why Ray cannot be asked of this node now; "" where it can, or where there is nothing to ask it."""
        if self.has_left(books) or (self.phase == "ready" and books.connected):
            return ""
        if not books.connected:
            return f"the agent of {books.node_id} is not connected, so that nobody knows what Ray runs there"
        return f"Ray cannot be asked to leave it ({self.trouble or 'its head is starting'})"

    def called_off(self, books: NodeLedger) -> None:
        """Starts Ray again on a worker that takes work and where it has ended in good order: it was drained, and the drain was
        called off while Ray was being asked or after it had agreed. It knows no way back."""
        node = self._fleet.journal.get(books.node_id)
        if node is None or node.role == "head" or node.state is not NodeState.READY or books.drain:
            return
        if books.engine.state == "stopped" and books.connected:
            self._events.add("engine", node.id, "restarted", f"{node.id}: Ray left it for a drain that was called off")
            self._spawn(self._start_worker(books, node))

    async def stop(self) -> None:
        """Ends what is under way here, and the helper; on the nodes Ray goes on."""
        if self._telling is not None:
            self._telling.cancel()
        for task in list(self._tasks):
            task.cancel()
        if self._client:
            await self._client.stop()

    def _spawn(self, coroutine: Any) -> None:
        task = asyncio.get_running_loop().create_task(coroutine)
        self._tasks.add(task)
        task.add_done_callback(self._done)

    def _done(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and task.exception():
            log.error("engine control", exc_info=task.exception())


def _needing_engine(demand: Demand) -> Demand:
    return replace(demand, bundles=tuple((needing_engine(shape), count) for shape, count in demand.bundles))
