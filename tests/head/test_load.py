"""One turn of the head's event loop does little, however many agents speak, tasks end, nodes have room or commits are awaited."""

from __future__ import annotations

import asyncio
import gc
import socket
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from clusterctl_runtime.head import garbage, loop
from clusterctl_runtime.head.garbage import Garbage
from clusterctl_runtime.head.jobs import dispatch
from clusterctl_runtime.head.jobs.dispatch import MOST_STARTS, Dispatcher
from clusterctl_runtime.head.nodes import inbox
from clusterctl_runtime.head.nodes.acks import Acks
from clusterctl_runtime.head.nodes.agents import BEATS_A_SECOND, LEASE_SECONDS, beat_seconds
from clusterctl_runtime.head.nodes.fleet import Fleet
from clusterctl_runtime.head.nodes.inbox import Inbox
from clusterctl_runtime.head.storage.store import Store
from clusterctl_runtime.wire import TaskReport

from clusterctl.core.model import NodeView, Offer
from clusterctl.core.resources import Resources
from clusterctl.core.scheduling import placement
from clusterctl.provision.journal.book import Journal
from tests.head.test_long_queue import most_at_once
from tests.provision.stage import START, launch

# ------------------------------------------------------------ connections


def test_when_everybody_speaks_at_once_a_turn_hears_a_few_and_in_the_end_all_are_heard() -> None:
    many = 4 * loop.AT_ONCE
    pairs = [socket.socketpair() for _ in range(many)]
    turns: list[int] = []
    heard: Counter[int] = Counter()

    async def scenario() -> None:
        running, left = asyncio.get_running_loop(), asyncio.Event()

        def read(number: int, ours: socket.socket) -> None:
            heard[number] += len(ours.recv(100))
            turns[-1] += 1
            if len(heard) == many:
                left.set()

        def turn() -> None:
            turns.append(0)
            if not left.is_set():
                running.call_soon(turn)

        for number, (ours, theirs) in enumerate(pairs):
            ours.setblocking(False)
            running.add_reader(ours, read, number, ours)
            theirs.send(b"word")
        turn()
        await asyncio.wait_for(left.wait(), 60)
        for ours, _ in pairs:
            running.remove_reader(ours)

    loop.run(scenario())
    for pair in pairs:
        for sock in pair:
            sock.close()
    assert max(turns) <= loop.AT_ONCE and set(heard.values()) == {4}


def test_however_many_agents_there_are_the_head_answers_no_more_beats_and_well_within_the_lease() -> None:
    assert beat_seconds(1) == beat_seconds(1000) == 2.0
    assert 4000 / beat_seconds(4000) <= BEATS_A_SECOND
    assert all(3 * beat_seconds(nodes) <= LEASE_SECONDS for nodes in (2500, 10_000, 100_000))


# ------------------------------------------------------------ ends of tasks


def test_ends_of_many_tasks_are_taken_some_at_a_time_each_nodes_in_their_order_and_each_node_in_its_turn() -> None:
    taken: list[tuple[str, str]] = []
    box = Inbox(lambda node, reports: taken.extend((node, report.task) for report in reports))
    many = 4 * inbox.AT_ONCE
    reports = [TaskReport(f"j.{n}/1/0", "exited") for n in range(many)]

    async def all_are_taken() -> None:
        while len(taken) < many + 1:
            await asyncio.sleep(0)

    async def scenario() -> int:
        box.put("busy", reports)
        box.put("other", [TaskReport("k/1/0", "exited")])
        assert not taken
        return await most_at_once(all_are_taken(), lambda: len(taken))

    assert asyncio.run(scenario()) <= inbox.AT_ONCE
    assert [task for node, task in taken if node == "busy"] == [report.task for report in reports]
    assert taken.index(("other", "k/1/0")) <= inbox.AT_ONCE


@pytest.fixture
def fleet(desk: Any, tmp_path: Path) -> Iterator[Any]:
    journal = Journal(tmp_path / "nodes.db", strict=True)
    journal.acquire("test")
    none: Any = lambda: None  # noqa: E731
    fleet = Fleet(journal, desk.ledger, desk.logs, desk.events, desk.store, 1, none, none)
    fleet.work = desk.work
    yield fleet
    fleet.written.close()
    journal.close()


def connect(fleet: Fleet, node_id: str) -> Any:
    session: Any = SimpleNamespace(node_id=node_id, generation=1, closed=[], sent=[])
    session.send, session.close = session.sent.append, lambda: session.closed.append(True)
    fleet.sessions[node_id] = session
    return session


def test_what_a_node_told_before_it_was_lost_is_true_although_nobody_had_looked_at_it(desk: Any, fleet: Fleet) -> None:
    session = connect(fleet, "cpu-1")
    job = desk.job()
    task = desk.work.assign(job, ["cpu-1"]).id + "/0"

    async def scenario() -> None:
        report = TaskReport(task, "exited", exit_code=0).to_json()
        fleet.received(session, {"t": "tasks", "items": [report]}, b"")
        fleet.forget("cpu-1", "its machine is gone")

    asyncio.run(scenario())
    assert job.state == "succeeded"


def test_a_report_that_makes_no_sense_ends_its_own_connection_and_keeps_nobody_elses_waiting(
    desk: Any, fleet: Fleet
) -> None:
    bad, good = connect(fleet, "cpu-1"), connect(fleet, "cpu-2")
    jobs = [desk.job(), desk.job()]
    tasks = [desk.work.assign(job, [node]).id for job, node in zip(jobs, ("cpu-1", "cpu-2"), strict=True)]

    async def scenario() -> None:
        fleet.received(bad, {"t": "tasks", "items": [TaskReport(f"{tasks[0]}/7", "exited").to_json()]}, b"")
        fleet.received(
            good, {"t": "tasks", "items": [TaskReport(f"{tasks[1]}/0", "exited", exit_code=0).to_json()]}, b""
        )
        while not good.sent:
            await asyncio.sleep(0.005)

    asyncio.run(asyncio.wait_for(scenario(), 60))
    assert bad.closed and not good.closed
    assert [job.state for job in jobs] == ["running", "succeeded"]
    assert good.sent == [{"t": "ack", "tasks": [f"{tasks[1]}/0"], "logs": {}}]


def test_ends_on_many_nodes_share_a_commit(desk: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    sent: list[str] = []
    flushes = 0
    flush = desk.store.flush

    async def counted() -> None:
        nonlocal flushes
        flushes += 1
        await flush()

    async def scenario() -> None:
        acks = Acks(desk.store, lambda node, _: sent.append(node))
        for number in range(300):
            acks.ends(f"n{number}", ["t"])
        while len(sent) < 300:
            await asyncio.sleep(0.001)

    monkeypatch.setattr(desk.store, "flush", counted)
    asyncio.run(asyncio.wait_for(scenario(), 60))
    assert flushes == 1 and len(set(sent)) == 300


def test_who_waited_for_a_commit_goes_on_in_turns(tmp_path: Path) -> None:
    store, done = Store(tmp_path / "store.db"), []

    async def wait() -> None:
        await store.flush()
        done.append(True)

    async def scenario() -> int:
        return await most_at_once(asyncio.gather(*(wait() for _ in range(1000))), lambda: len(done))

    assert asyncio.run(scenario()) <= 100
    store.close()


# ------------------------------------------------------------ starts


class Hall:
    """A dispatcher over `number` ready nodes of 4 CPUs, all connected; `looked` counts the nodes that passes looked at."""

    def __init__(self, desk: Any, fleet: Fleet, number: int, monkeypatch: pytest.MonkeyPatch) -> None:
        self.desk, self.fleet, self.looked = desk, fleet, []
        for name in ("cpu-1", "cpu-2"):
            desk.ledger.close(name)
        with fleet.journal.together():
            for n in range(1, number + 1):
                self._add(f"cpu-{n}")
        for n in range(1, number + 1):
            books = fleet.books(fleet.journal.live(f"cpu-{n}"))  # type: ignore[arg-type]
            books.connected, books.heard = True, None
            connect(fleet, f"cpu-{n}")
        spec: Any = SimpleNamespace(pools=(), env={}, provider_name="local", ray=None)
        self.dispatcher = Dispatcher(
            lambda: SimpleNamespace(spec=spec, name="demo", engine_python=""),  # type: ignore[arg-type, return-value]
            desk.book, fleet, desk.work, desk.store,
        )  # fmt: skip
        monkeypatch.setattr(dispatch, "place", self._place)

    def _add(self, node_id: str) -> None:
        of = Offer("cpu", "box", "on-demand", "here", 0.1, Resources.of(CPU=4))
        self.fleet.journal.intend(launch(node_id, of=of), START)
        for event in ("requested", "joined", "ready"):
            self.fleet.journal.move(node_id, event, START)

    def _place(self, requests: Any, views: list[NodeView], **how: Any) -> placement.Placement:
        self.looked.append(len(views))
        return placement.place(requests, views, **how)

    def run(self) -> list[str]:
        """Until nothing more starts; the nodes on which something runs."""

        async def passes() -> None:
            self.dispatcher.wake()
            while self.dispatcher._wanted.is_set():
                self.dispatcher._wanted.clear()
                await self.dispatcher.dispatch()
            self.dispatcher.close()

        asyncio.run(passes())
        return [books.node_id for books in self.desk.ledger for _ in books.holdings]


def test_a_pass_looks_at_few_of_many_nodes_that_are_alike_and_in_the_end_all_are_full(
    desk: Any, fleet: Fleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    nodes = 3 * MOST_STARTS
    hall = Hall(desk, fleet, nodes, monkeypatch)
    for _ in range(4 * nodes + 10):
        desk.job()
    assert Counter(hall.run()) == {f"cpu-{n}": 4 for n in range(1, nodes + 1)}
    assert max(hall.looked) <= 2 * (MOST_STARTS + 1)


def test_a_job_that_starves_among_others_makes_no_pass_look_at_all_nodes(
    desk: Any, fleet: Fleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    nodes = 3 * MOST_STARTS
    hall = Hall(desk, fleet, nodes, monkeypatch)
    for _ in range(4 * nodes):
        desk.job()
    hall.run()
    hall.looked.clear()
    desk.job(cpus=4).queued_since = START
    desk.job()
    hall.dispatcher = Dispatcher(hall.dispatcher._config, desk.book, fleet, desk.work, desk.store)
    hall.run()
    assert hall.looked and max(hall.looked) <= 2  # as many of the full ones as both could use


def test_a_gang_wider_than_a_pass_starts_whole(desk: Any, fleet: Fleet, monkeypatch: pytest.MonkeyPatch) -> None:
    wide = MOST_STARTS + 50
    hall = Hall(desk, fleet, wide, monkeypatch)
    gang, single = desk.job(nodes=wide, cpus=4), desk.job()
    hall.run()
    assert gang.state == "running" and len(set(gang.attempt.nodes)) == wide and single.state == "queued"


# ------------------------------------------------------------ garbage


class Ring:
    def __init__(self) -> None:
        self.itself = self


def test_what_a_long_search_has_found_alive_is_left_out_of_the_next_and_garbage_in_it_is_found_in_the_end(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    thresholds, frozen = gc.get_threshold(), gc.get_freeze_count()
    monkeypatch.setattr(garbage, "LONG", 0.0)
    try:
        keeper = Garbage()
        kept = [Ring() for _ in range(10)]
        now = keeper._searched + garbage.SELDOM
        keeper.look(now)
        assert gc.get_freeze_count() > frozen
        del kept
        keeper.look(now + garbage.SELDOM)
        assert rings() == 10  # they were left out
        keeper.look(now + garbage.WHOLE)
        assert rings() == 0
    finally:
        gc.set_threshold(*thresholds)
        gc.unfreeze()


def rings() -> int:
    gc.unfreeze()
    found = sum(isinstance(thing, Ring) for thing in gc.get_objects())
    gc.freeze()
    return found
