"""The kept views of nodes: always what a view made now would show, and made anew for those that changed alone."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from clusterctl_runtime.head.autoscaler import Autoscaler
from clusterctl_runtime.head.nodes.ledger import HEARD_SECONDS, Holding, Ledger, NodeLedger
from clusterctl_runtime.head.nodes.roster import Roster, likeness_of
from clusterctl_runtime.head.pulse import Histogram

from clusterctl.core.model import Drain, Launch, Node, NodeState, NodeView, Plan, Policy, Reason, State
from clusterctl.core.resources import Resources
from clusterctl.provision.journal.book import Journal
from tests.head.test_long_queue import most_at_once
from tests.provision.stage import START, launch, offer

CPU = Resources.of(CPU=1)


class Nodes:
    """A journal, a ledger and the roster over both."""

    def __init__(self, path: Path, number: int) -> None:
        self.journal, self.ledger = Journal(path / "nodes.db", strict=True), Ledger()
        self.journal.acquire("test")
        self.roster = Roster(self.journal, self.ledger, self._open)
        for _ in range(number):
            self.launch()

    def _open(self, node: Node) -> NodeLedger:
        return self.ledger.open(node, Resources.of(CPU=2), (), START)

    def launch(self) -> str:
        number = dict(self.journal.next_numbers()).get("cpu", 1)
        node_id = f"cpu-{number}"
        with self.journal.together():
            self.journal.intend(launch(node_id, of=offer("cpu", price=1.0)), START)
            for event in ("requested", "joined", "ready"):
                self.journal.move(node_id, event, START, instance_id=f"i-{number}")
        self.books(node_id).connected = True
        return node_id

    def books(self, node_id: str) -> NodeLedger:
        node = self.journal.live(node_id)
        assert node is not None
        return self._open(node)

    def fresh(self, now: float) -> list[NodeView]:
        nodes = sorted(self.journal.nodes().values(), key=lambda node: node.id)
        return [self._open(node).view(node, now) for node in nodes]


@pytest.fixture
def nodes(tmp_path: Path) -> Iterator[Nodes]:
    nodes = Nodes(tmp_path, 6)
    yield nodes
    nodes.journal.close()


def change(nodes: Nodes, rng: random.Random, now: float) -> None:
    """Something that happens to one node, by way of the journal or of its books."""
    live = list(nodes.journal.nodes().values())
    node = rng.choice(live)
    books = nodes.books(node.id)
    deed = rng.choice(
        ["hold", "release", "engine", "drain", "heard", "gone", "close", "connected", "launch", "fail", "notice"]
    )
    if deed == "hold" and CPU.fits_in(books.free):
        books.hold(f"task-{rng.random()}", Holding(CPU, now))
    elif deed == "release" and books.holdings:
        books.release(rng.choice(sorted(books.holdings)))
        books.busy = now
    elif deed == "engine":
        books.engine.state, books.engine.known, books.engine.used = "ready", True, rng.choice([Resources(), CPU])
    elif deed == "drain" and node.state is NodeState.READY:
        nodes.journal.move(node.id, "drain", now, durable=False)
        books.drain = "requested"
    elif deed == "heard":
        books.heard = now
    elif deed == "gone" and len(live) > 3:
        nodes.journal.bury(node.id, now, "", "")
        nodes.ledger.close(node.id)
    elif deed == "close":
        nodes.ledger.close(node.id)
    elif deed == "connected":
        books.connected = not books.connected
    elif deed == "launch":
        nodes.launch()
    elif deed == "fail" and node.state is NodeState.READY:
        nodes.journal.move(node.id, "fail", now, durable=False)
    elif deed == "notice":
        books.preempt_at = now + 60


@pytest.mark.parametrize("seed", range(10))
def test_kept_views_are_what_views_made_now_would_be(tmp_path: Path, seed: int) -> None:
    rng, nodes, now = random.Random(seed), Nodes(tmp_path, 5), START
    for _ in range(150):
        now += rng.random()
        change(nodes, rng, now)
        if rng.random() < 0.5:
            continue  # several changes between two looks
        kept, fresh = nodes.roster.all(now), nodes.fresh(now)
        assert [replace(view, heartbeat=None) for view in kept] == [replace(view, heartbeat=None) for view in fresh]
        for ours, theirs in zip(kept, fresh, strict=True):
            assert (theirs.heartbeat or 0.0) - (ours.heartbeat or 0.0) <= HEARD_SECONDS
        ready = {view.node.id for view in fresh if view.node.state is NodeState.READY}
        alike = [(likeness, view) for likeness, views in nodes.roster.alike(now) for view in views]
        assert {view.node.id for _, view in alike} == ready
        assert all(likeness == likeness_of(view) for likeness, view in alike)
        lively = (view.node.state is NodeState.READY and nodes.books(view.node.id).connected for view in fresh)
        assert nodes.roster.is_quiet(now) is all(lively)
    nodes.journal.close()


def test_a_change_of_one_node_makes_one_view_anew(nodes: Nodes) -> None:
    before = {view.node.id: view for view in nodes.roster.all(START)}
    nodes.books("cpu-3").hold("task", Holding(CPU, START))
    for node_id in before:
        nodes.books(node_id).heard = START + 1  # beats alone change nothing for some seconds
    after = {view.node.id: view for view in nodes.roster.all(START + 1)}
    assert [node_id for node_id in before if after[node_id] is not before[node_id]] == ["cpu-3"]


class Planning(Autoscaler):
    """Only its planning: `act` happens while the planner is at work."""

    def __init__(self, nodes: Nodes, monkeypatch: pytest.MonkeyPatch, plan: Plan, act: Any) -> None:
        self._fleet: Any = SimpleNamespace(roster=nodes.roster)
        self._policy, self.observed, self.demand, self.offers = Policy(), (), (), ()
        self.planning = Histogram()
        self.woken = 0

        def make_plan(*_: object) -> Plan:
            self._loop.call_soon_threadsafe(act)
            self._loop.call_soon_threadsafe(self._acted.set)
            asyncio.run_coroutine_threadsafe(self._acted.wait(), self._loop).result(60)
            return plan

        monkeypatch.setattr("clusterctl_runtime.head.autoscaler.make_plan", make_plan)

    def _state(self, now: float) -> Any:
        return State("demo", "uid", (), self._fleet.roster.all(now))

    def _warn(self, beyond: Any) -> None:
        return

    def wake(self, observe: bool = False) -> None:
        self.woken += 1

    async def plan(self) -> Plan:
        self._loop, self._acted = asyncio.get_running_loop(), asyncio.Event()
        return await self._plan()


def test_what_becomes_of_a_node_while_the_plan_is_made_leaves_it_to_the_next_plan(
    nodes: Nodes, monkeypatch: pytest.MonkeyPatch
) -> None:
    reason = Reason("idle", "nothing runs there")
    new = launch("cpu-7")
    plan = Plan((Drain("cpu-1", reason, None), Drain("cpu-2", reason, None), new))

    def a_job_starts() -> None:
        nodes.books("cpu-1").hold("task", Holding(CPU, time.time()))
        nodes.books("cpu-2").heard = time.time()

    planning = Planning(nodes, monkeypatch, plan, a_job_starts)
    kept = asyncio.run(planning.plan()).actions
    assert [action.node_id for action in kept] == ["cpu-2", "cpu-7"] and planning.woken == 1
    assert isinstance(kept[1], Launch)


def test_views_of_many_nodes_that_have_changed_are_made_in_turns(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    nodes, made = Nodes(tmp_path, 40), 0
    view = NodeLedger.view

    def counted(books: NodeLedger, node: Node, now: float) -> NodeView:
        nonlocal made
        made += 1
        return view(books, node, now)

    monkeypatch.setattr("clusterctl_runtime.head.nodes.roster.AT_ONCE", 8)
    monkeypatch.setattr(NodeLedger, "view", counted)
    assert asyncio.run(most_at_once(nodes.roster.refreshed(START), lambda: made)) <= 8
    assert made >= 32 and [v.node.id for v in nodes.roster.all(START)] == [v.node.id for v in nodes.fresh(START)]
    nodes.journal.close()
