"""The nodes as the head lives with them: sessions of their agents, their books, their way from joining to ready and out again."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from math import inf
from typing import Any, Protocol

from clusterctl.core.lifecycle import EVENTS
from clusterctl.core.model import Node, NodeState
from clusterctl.core.resources import Resources
from clusterctl.provision.journal.book import Journal
from clusterctl_runtime import wire
from clusterctl_runtime.head.clock import steady_time
from clusterctl_runtime.head.jobs.asked import DRIVER_RESOURCE
from clusterctl_runtime.head.jobs.attempts import Work
from clusterctl_runtime.head.jobs.job import split_task
from clusterctl_runtime.head.metrics.counts import Counts
from clusterctl_runtime.head.nodes.acks import Acks
from clusterctl_runtime.head.nodes.agents import Session
from clusterctl_runtime.head.nodes.inbox import Inbox
from clusterctl_runtime.head.nodes.ledger import Ledger, NodeLedger
from clusterctl_runtime.head.nodes.measured import measured
from clusterctl_runtime.head.nodes.roster import Roster
from clusterctl_runtime.head.storage.events import EventLog
from clusterctl_runtime.head.storage.journal_writer import JournalWriter
from clusterctl_runtime.head.storage.logs import LogStore
from clusterctl_runtime.head.storage.store import Store

log = logging.getLogger(__name__)


class EngineHooks(Protocol):
    """What the engine's control is told about nodes; `NoEngine` where the cluster has none."""

    def node_joined(self, books: NodeLedger, node: Node) -> None:
        """Its agent dialled in, for the first time or again."""
        ...

    def node_reported(self, books: NodeLedger, node: Node, message: dict[str, Any]) -> None:
        """What its agent says of the engine there."""
        ...

    def node_left(self, books: NodeLedger) -> None:
        """Its record has ended."""
        ...

    def is_ready(self, books: NodeLedger) -> bool:
        """Whether the engine is no reason for the node not to be ready."""
        ...


class NoEngine:
    def node_joined(self, books: NodeLedger, node: Node) -> None:
        return

    def node_reported(self, books: NodeLedger, node: Node, message: dict[str, Any]) -> None:
        return

    def node_left(self, books: NodeLedger) -> None:
        return

    def is_ready(self, books: NodeLedger) -> bool:
        return True


class Preparations(Protocol):
    """What `preparing.Preparing` is to the fleet; `NothingToPrepare` until the head has set it."""

    def node_joined(self, node: Node, told: dict[str, Any]) -> None:
        """`told`: what its agent says of the preparation that it has."""
        ...

    def reported(self, node: Node, message: dict[str, Any]) -> None:
        """What its agent says of a preparation that goes on."""
        ...

    def mounts_told(self, node: Node, items: list[dict[str, Any]]) -> None:
        """What its agent says of all that is mounted there."""
        ...

    def is_prepared(self, node_id: str) -> bool:
        """Whether the node has the files and setup of the spec in force."""
        ...

    def forget(self, node_id: str) -> None:
        """Its record has ended."""
        ...


class NothingToPrepare:
    def node_joined(self, node: Node, told: dict[str, Any]) -> None:
        return

    def reported(self, node: Node, message: dict[str, Any]) -> None:
        return

    def mounts_told(self, node: Node, items: list[dict[str, Any]]) -> None:
        return

    def is_prepared(self, node_id: str) -> bool:
        return True

    def forget(self, node_id: str) -> None:
        return


class Fleet:
    """Implements what `AgentServer` needs of its receiver."""

    def __init__(
        self,
        journal: Journal,
        ledger: Ledger,
        logs: LogStore,
        events: EventLog,
        store: Store,
        driver_slots: int,
        wake: Callable[[], None],
        dispatch: Callable[[], None],
        counts: Counts | None = None,
    ) -> None:
        self.journal = journal
        self.ledger = ledger
        self.written = JournalWriter(journal)
        self.sessions: dict[str, Session] = {}
        self.engine: EngineHooks = NoEngine()
        self.preparing: Preparations = NothingToPrepare()
        self.work: Work  # set by the head: work sends through us, we report to it
        self._logs = logs
        self._events = events
        self._store = store
        self._driver_slots = driver_slots
        self._wake = wake
        self._dispatch = dispatch
        self._counts = counts or Counts()
        self._acks = Acks(store, self.send)
        self._inbox = Inbox(self._take_reports)
        now = steady_time()
        for node in journal.nodes().values():
            books = self.books(node)
            books.heard = now  # a grace to rejoin before anyone is declared lost
            books.drain = "requested" if node.state is NodeState.DRAINING else ""
        self.roster = Roster(journal, ledger, self.books)

    # ------------------------------------------------------------ books

    def books(self, node: Node) -> NodeLedger:
        """The node's books, opened where it has none."""
        total = node.offer.resources
        if node.role == "head":
            total = total + Resources.of({DRIVER_RESOURCE: self._driver_slots})
        return self.ledger.open(node, total, node.offer.labels, steady_time())

    def send(self, node_id: str, message: dict[str, Any]) -> bool:
        """Whether the node's agent is connected, and was sent the message."""
        session = self.sessions.get(node_id)
        if session is None:
            return False
        session.send(message)
        return True

    # ------------------------------------------------------------ AgentServer's receiver

    def node_status(self, node_id: str) -> tuple[int, NodeState] | None:
        node = self.journal.get(node_id)
        return (node.generation, node.state) if node else None

    def node_count(self) -> int:
        return len(self.ledger)

    async def joined(self, session: Session, hello: wire.Message) -> None:
        """Its node's older session is closed. Tasks that the agent was given and does not know are lost; the ends that it
        tells are booked and acknowledged. The engine is started there once the node is prepared."""
        node = self.journal.get(session.node_id)
        assert node is not None  # admission looked it up
        old = self.sessions.get(node.id)
        if old is not None:
            old.close()
        self.sessions[node.id] = session
        self._inbox.empty(node.id)
        books = self.books(node)
        books.connected, books.heard, books.ending = True, steady_time(), ""
        books.facts = dict(hello.get("facts") or {})
        books.address = str(hello.get("address") or node.address)
        self.work.restore_on(node.id)
        reports = [wire.TaskReport.from_json(item) for item in hello.get("tasks") or []]
        self.work.reconcile(node.id, node.generation, reports)
        offsets = {r.task: self._logs.offset(r.task) for r in reports}
        session.send({"t": "ack", "tasks": [], "logs": offsets})
        if done := [r.task for r in reports if r.state == "exited"]:
            self._acks.ends(node.id, done)
        if node.state in (NodeState.PLANNED, NodeState.REQUESTED, NodeState.BOOTING):
            node = self.move(node.id, "joined", "its agent dialled in", "joined")
        if hello.get("engine"):  # first: a raylet that already runs must not be started again
            self.engine.node_reported(books, node, dict(hello["engine"]))
        self.preparing.node_joined(node, dict(hello.get("prepared") or {}))
        self.prepared(node.id)
        self._wake()
        self._dispatch()

    def received(self, session: Session, message: wire.Message, payload: bytes) -> None:
        """Passes over kinds that it does not know, and whatever a session says that another one has replaced. Raises where
        a message makes no sense, which ends its connection."""
        books = self.ledger.get(session.node_id)
        if books is None or self.sessions.get(session.node_id) is not session:
            return
        books.heard = steady_time()
        kind = message["t"]
        if kind == "beat":
            if message.get("use"):
                books.use = {**use_of(message["use"]), "at": books.heard}
            if message.get("figures"):
                books.figures = {**measured(message["figures"]), "at": books.heard}
            session.send({"t": "beat", "seq": message.get("seq")})
        elif kind == "log":
            self._take_log(session, message, payload)
        elif kind == "tasks":
            self._inbox.put(session.node_id, [_report(item) for item in message["items"]])
        elif kind == "engine":
            node = self.journal.get(session.node_id)
            if node:
                self.engine.node_reported(books, node, message)
                self.check_ready(node.id)
        elif kind == "prepared":
            node = self.journal.get(session.node_id)
            if node:
                self.preparing.reported(node, message)
        elif kind == "mounts":
            node = self.journal.get(session.node_id)
            if node:
                self.preparing.mounts_told(node, list(message["items"]))
        elif kind == "notice":
            self._take_notice(books, message)
        elif kind == "ending":
            books.ending = str(message.get("reason") or "its agent ends")
            text = f"the agent of {books.node_id} ends: {books.ending}; what it ran is tried again elsewhere"
            self._events.add("node", books.node_id, "agent_ending", text)

    def left(self, session: Session) -> None:
        """No work is lost by it: the node keeps its books until its agent dials again or its record ends. Nothing happens
        for a session that another one has replaced."""
        if self.sessions.get(session.node_id) is not session:
            return
        del self.sessions[session.node_id]
        books = self.ledger.get(session.node_id)
        if books:
            books.connected = False
        self._wake()  # the provider may know more than a closed connection says

    # ------------------------------------------------------------ messages

    def _take_log(self, session: Session, message: wire.Message, payload: bytes) -> None:
        task = str(message["task"])
        have = self._logs.append(task, int(message["offset"]), payload)
        self._acks.log(session.node_id, task, have)

    def _take_reports(self, node_id: str, reports: Sequence[wire.TaskReport]) -> None:
        """Some time after they came: its connection may have ended meanwhile, what they say is as true."""
        done = []
        for report in reports:
            try:
                self.work.report(node_id, report)
            except Exception as error:  # whatever a peer sends, it ends its own connection and nothing else
                log.warning("node %s told of %r what makes no sense: %r", node_id, report.task, error)
                if session := self.sessions.get(node_id):
                    session.close()
                continue
            if report.state == "exited":
                done.append(report.task)
        if done:
            self._acks.ends(node_id, done)
            self._dispatch()

    def _take_notice(self, books: NodeLedger, message: wire.Message) -> None:
        if message.get("kind") == "preempt":
            node, session = self.journal.get(books.node_id), self.sessions.get(books.node_id)
            if (
                session and node and node.state is NodeState.TERMINATING
            ):  # it is we who end it: there is nothing to wait for
                session.send({"t": "stop", "reason": node.reason or "the head ends this node"})
                return
            left = float(
                message.get("left") or 120
            )  # not when: the clock of that machine, or of this one, may be wrong
            books.preempt_at = steady_time() + left
            self._events.add("node", books.node_id, "preempt_notice", f"the provider takes {books.node_id} away soon")
            self._wake()

    # ------------------------------------------------------------ life cycle

    def move(self, node_id: str, event: str, reason: str, code: str, drain_by: float | None = None) -> Node:
        """Journals an event of a node's life and tells it. Nobody waits for the disk: after a crash the node's agent says again
        how far it is, and whoever promises something first awaits `written.flush`."""
        before = self.journal.get(node_id)
        node = self.journal.move(
            node_id, event, steady_time(), reason=reason, code=code, durable=False, drain_by=drain_by
        )
        self.written.soon()
        if before is None or before.state is not node.state:
            self._events.tell_state(node, code or event, reason)
            if node.state is NodeState.FAILED:
                self._counts.node_failures.labels(node.pool, code or event).inc()
        return node

    def prepared(self, node_id: str) -> None:
        """Once a joined node has its files and setup, its engine is started."""
        node, books = self.journal.get(node_id), self.ledger.get(node_id)
        if node and books and books.connected and self.preparing.is_prepared(node_id):
            if node.state is NodeState.JOINING and not self.engine.is_ready(books):
                node = self.move(node_id, "joined", "its engine starts", "engine")
            self.engine.node_joined(books, node)
            self.check_ready(node_id)

    def check_ready(self, node_id: str) -> None:
        """A joined node takes work once it is prepared and its engine does (or there is none)."""
        node, books = self.journal.get(node_id), self.ledger.get(node_id)
        if not node or not books or node.state is not NodeState.JOINING or not books.connected:
            return
        if self.preparing.is_prepared(node_id) and self.engine.is_ready(books):
            books.busy = steady_time()
            took = steady_time() - node.created
            self._counts.node_start.labels(node.pool).observe(max(0.0, took))
            self.move(node_id, "ready", f"takes work, {took:.1f} s after it was asked for", "ready")
            self._dispatch()
            self._wake()

    def takes_work_again(self) -> None:
        """A drain was called off: jobs that wait look at the nodes anew."""
        self._dispatch()

    def fail(self, node_id: str, reason: str, code: str) -> None:
        """Moves the node to failed, where its state allows that, and says why."""
        node = self.journal.get(node_id)
        if node and node.state in EVENTS["fail"][0] and node.state is not NodeState.FAILED:
            self.move(node_id, "fail", reason, code)
            self._wake()

    def part(self, node_id: str, reason: str) -> None:
        """The node is stopped, and its agent with it: its books are opened anew when it is started again."""
        session = self._close_books(node_id, reason)
        if session:
            session.close()

    def forget(self, node_id: str, reason: str) -> None:
        """The node will not do any more work: what it ran is lost, its books are closed, its agent ends."""
        session = self._close_books(node_id, reason)
        if session:
            session.send({"t": "stop", "reason": reason})
            session.close()
        self._dispatch()
        self._wake()  # what it ran may need another node

    def _close_books(self, node_id: str, reason: str) -> Session | None:
        self._inbox.empty(node_id)
        session = self.sessions.pop(node_id, None)
        books = self.ledger.get(node_id)
        if books:
            self.engine.node_left(books)
        self.preparing.forget(node_id)
        self.work.node_lost(node_id, reason)
        self.ledger.close(node_id)
        return session

    def lose_unknown(self) -> None:
        """Once after a start: a head that died right after it had noted the end of a node has not told its work."""
        self.work.lose_unknown({node.id: node.generation for node in self.journal.nodes().values()})


def use_of(told: dict[str, Any]) -> dict[str, float]:
    """What an agent tells of its machine's use, without what is no amount: a sum with it would be none either."""
    amounts = {name: float(told[name]) for name in ("cpu", "memory", "gpu", "gpu_memory") if name in told}
    return {name: amount for name, amount in amounts.items() if 0 <= amount < inf}


def _report(item: dict[str, Any]) -> wire.TaskReport:
    """Raises for what is none: whoever sent it is told by the end of its connection."""
    report = wire.TaskReport.from_json(item)
    split_task(report.task)
    return report
