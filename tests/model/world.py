"""A head made of the real parts (dispatcher, starts, shares, ledger, fleet, work, job book, store, journal, draining, engine
control), with modelled agents and a modelled Ray, that a seed drives through everything which may happen to it."""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections import Counter
from collections.abc import Callable, Coroutine
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from clusterctl_runtime.head.engine.control import EngineControl
from clusterctl_runtime.head.jobs import dispatch
from clusterctl_runtime.head.jobs.attempts import Work
from clusterctl_runtime.head.jobs.book import JobBook
from clusterctl_runtime.head.jobs.dispatch import Dispatcher
from clusterctl_runtime.head.jobs.job import Job
from clusterctl_runtime.head.jobs.queue import Queue
from clusterctl_runtime.head.jobs.requests import JobRequest
from clusterctl_runtime.head.nodes import inbox
from clusterctl_runtime.head.nodes.draining import Draining
from clusterctl_runtime.head.nodes.fleet import Fleet
from clusterctl_runtime.head.nodes.ledger import Ledger
from clusterctl_runtime.head.storage.events import EventLog
from clusterctl_runtime.head.storage.logs import LogStore
from clusterctl_runtime.head.storage.store import Store, StoreUnavailable

from clusterctl.core.errors import NotFound
from clusterctl.core.model import Launch, NodeState, Offer, Reason
from clusterctl.core.resources import Resources
from clusterctl.provision.journal.book import Journal
from tests.model.agents import Agent
from tests.model.ray import Client, Ray

CPUS, GPUS = 4.0, 2
NOTHING = SimpleNamespace(ray=None)


class Disk(Store):
    """The real store, which commits when it is asked to and not in a thread of its own: the same seed, the same order."""

    def __init__(self, path: Path, chance: random.Random) -> None:
        super().__init__(path)
        self._chance = chance
        self.troubled = True

    async def flush(self) -> None:
        for _ in range(self._chance.choice([0, 1, 4])):
            await asyncio.sleep(0)
        if self.troubled and self._chance.random() < 0.05:
            raise StoreUnavailable("the disk is full")
        queued, self._queued = self._queued, []
        error = self._commit(queued)
        if error:
            raise error


class HeadOfParts:
    """One life of a head. `engine` is None where the cluster has none."""

    def __init__(self, directory: Path, ray: Ray, chance: random.Random, with_engine: bool) -> None:
        spec: Any = SimpleNamespace(
            pools=(), env={}, provider_name="local", ray=SimpleNamespace(version="", python="") if with_engine else None
        )
        config: Any = SimpleNamespace(spec=spec, name="model", directory=directory, engine_python="python3", raw={})
        self.store = Disk(directory / "store.db", chance)
        self.journal = Journal(directory / "nodes.db", strict=True)
        self.journal.acquire("model")
        self.events, self.book, self.ledger = EventLog(self.store), JobBook(self.store), Ledger()
        logs = LogStore(directory / "logs")
        self.fleet = Fleet(
            self.journal, self.ledger, logs, self.events, self.store, 1, lambda: None, lambda: self.dispatcher.wake()
        )
        self.work = self.fleet.work = Work(
            self.book, self.ledger, logs, self.events, self.fleet.send, lambda node_id: self.dispatcher.freed(node_id)
        )
        self.dispatcher = Dispatcher(lambda: config, self.book, self.fleet, self.work, self.store)
        self.draining = Draining(self.fleet, lambda: None)
        blobs: Any = None
        self.queue = Queue(lambda: config, self.book, self.work, self.store, blobs, self.events, self.dispatcher.wake)
        self.engine = self._with_engine(config, ray) if with_engine else None
        self.work.restore()
        self.fleet.lose_unknown()
        self._running = asyncio.get_running_loop().create_task(self.dispatcher.run())
        self.dispatcher.wake()

    def _with_engine(self, config: Any, ray: Ray) -> EngineControl:
        (config.directory / "engine.token").write_text("token")
        engine = EngineControl(lambda: config, self.fleet, self.events, lambda: None, lambda: self.dispatcher.wake())
        self.client = Client(ray, engine._take_state)
        engine._client = engine.shares.client = self.client
        self.fleet.engine = self.draining.engine = engine
        self.dispatcher.starts.shares = engine.shares
        return engine

    async def stop(self, *, killed: bool) -> None:
        """`killed`: what was not flushed is gone."""
        while tasks := [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]:
            # What they start while they end is not to outlive them either.
            for task in sorted(tasks, key=lambda task: int(task.get_name().split("-")[-1])):
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
        self.dispatcher.close()
        if killed:
            self.store._queued.clear()
        self.store.close()
        self.fleet.written.close()
        self.journal.close()


class World:
    """`log` is what happened, for a seed that fails."""

    def __init__(self, directory: Path, seed: int) -> None:
        self.chance = random.Random(seed)
        self.directory = directory
        self.with_engine = self.chance.random() < 0.8
        # Turns of the loop are as full as a thousand nodes make them, or hold one thing each.
        dispatch.MOST_STARTS, inbox.AT_ONCE = self.chance.choice([(100, 50), (2, 2), (1, 1)])
        self.ray = Ray(self.chance)
        self.agents: dict[str, Agent] = {}
        self.log: list[str] = []
        self._nodes = 0
        self._ids = 0
        self._callers: set[asyncio.Task[None]] = set()
        self.head: HeadOfParts

    # ------------------------------------------------------------ a run

    async def run(self, steps: int) -> None:
        self.head = HeadOfParts(self.directory, self.ray, self.chance, self.with_engine)
        for _ in range(self.chance.randint(1, 3)):
            await self.add_node()
        for _ in range(steps):
            await self.step()
            self.check_promises()
        await self.come_to_rest()
        self.check_rest()
        await self.finish_everything()
        self.check_empty()
        await self.head.stop(killed=False)

    async def step(self) -> None:
        actions: list[tuple[Callable[[], Any], int]] = [
            (self.submit, 14),
            (self.finish, 14),
            (self.cancel, 6),
            (self.ray.work, 14 if self.with_engine else 0),
            (self.tell_state, 14 if self.with_engine else 0),
            (self.part, 4),
            (self.rejoin, 8),
            (self.lose_node, 2),
            (self.end_agent, 1),
            (self.add_node, 3),
            (self.drain, 3),
            (self.undrain, 4),
            (self.look_at_drains, 6),
            (self.restart_head, 2),
            (self.let_time_pass, 3),
        ]
        action = self.chance.choices([a for a, _ in actions], [weight for _, weight in actions])[0]
        self.log.append(action.__name__)
        outcome = action()
        if asyncio.iscoroutine(outcome):
            await outcome
        for _ in range(self.chance.choice([0, 1, 2, 5, 15])):
            await self.turn()

    async def turn(self) -> None:
        for agent in list(self.agents.values()):
            agent.step(self.head.fleet)
        await asyncio.sleep(0)

    # ------------------------------------------------------------ what may happen

    async def add_node(self) -> None:
        if len(self.agents) >= 4:
            return
        self._nodes += 1
        node_id, now = f"w-{self._nodes}", 0.0
        offer = Offer("w", "local", "on-demand", "local", 0.0, Resources.of(CPU=CPUS, GPU=GPUS))
        self.head.journal.intend(Launch(node_id, 1, f"token-{node_id}", offer, "worker", "", Reason("", "")), now)
        self.head.journal.move(node_id, "requested", now)
        raylet = self.ray.start(node_id, 1, CPUS, GPUS).name if self.with_engine else ""
        agent = self.agents[node_id] = Agent(node_id, 1, raylet, self.chance)
        await agent.join(self.head.fleet)
        self.head.fleet.check_ready(node_id)
        self.tell_state()

    def submit(self) -> None:
        self._ids += 1
        request = JobRequest(
            argv=["true"],
            submission_id=f"j{self._ids}",
            cpus=self.chance.choice([0, 1, 1, 2, 4]),
            gpus=self.chance.choice([0, 0, 0, 0.5, 0.5, 1, 2]),
            nodes=self.chance.choice([1, 1, 1, 2]),
            priority=self.chance.choice([0, 0, 1]),
            max_retries=self.chance.choice([None, 1]),
            **self.chance.choice([{}, {}, {}, {"array": [0, 1, 2], "array_limit": self.chance.choice([None, 1, 2])}]),
        )
        queue = self.head.queue
        self._ask(lambda: queue.submit([request]))

    def _ask(self, request: Callable[[], Coroutine[Any, Any, Any]]) -> None:
        """Somebody calls the API, and is told yes or no some time."""

        async def ask() -> None:
            with contextlib.suppress(StoreUnavailable, NotFound):
                await request()

        task = asyncio.get_running_loop().create_task(ask())
        self._callers.add(task)
        task.add_done_callback(self._callers.discard)

    def finish(self) -> None:
        if self.agents:
            self._any_agent().finish(self.head.fleet, self.chance.choice([0, 0, 0, 1]))

    def cancel(self) -> None:
        jobs = [job for job in self.head.book.jobs.values() if not job.final]
        if jobs:
            queue, job_id = self.head.queue, self.chance.choice(jobs).id
            self._ask(lambda: queue.cancel(job_id))

    def tell_state(self) -> None:
        if self.with_engine:
            self.head.client.tell()

    def part(self) -> None:
        if self.agents:
            self._any_agent().part(self.head.fleet)

    async def rejoin(self) -> None:
        for agent in list(self.agents.values()):
            if agent.session is None and self.head.journal.nodes().get(agent.node_id):
                await agent.join(self.head.fleet)

    def lose_node(self) -> None:
        if self.agents:
            self._lose(self._any_agent().node_id)

    def _lose(self, node_id: str) -> None:
        agent = self.agents.pop(node_id)
        self.ray.raylets.pop(agent.raylet, None)
        self.head.journal.move(node_id, "gone", 0.0)
        self.head.fleet.forget(node_id, "its machine is gone")
        agent.session, agent.dead = None, True

    def end_agent(self) -> None:
        """`systemctl stop` of an agent: its node is found to be gone some time later."""
        if self.agents:
            self._any_agent().end(self.head.fleet)

    def drain(self) -> None:
        node_id = self._any_ready(NodeState.READY)
        if node_id:
            self.head.journal.move(node_id, "drain", 0.0, code=self.chance.choice(["idle", "user_drain"]))
            self.head.draining.begin(node_id)

    def undrain(self) -> None:
        node_id = self._any_ready(NodeState.DRAINING)
        if node_id:
            self._call_off(node_id)

    def _call_off(self, node_id: str) -> None:
        """Ray's own way back (it leaves, and is started again) is not modelled."""
        self.head.journal.move(node_id, "undrain", 0.0)
        self.head.draining.end(node_id)
        for raylet in self.ray.raylets.values():
            raylet.draining = raylet.draining and raylet.node_id != node_id

    def look_at_drains(self) -> None:
        self.head.draining.check()

    async def restart_head(self) -> None:
        """As after `kill -9`: what was not flushed is forgotten, agents dial in again, Ray goes on."""
        for agent in self.agents.values():
            agent.session, agent.inbox = None, []
        await self.head.stop(killed=True)
        self.head = HeadOfParts(self.directory, self.ray, self.chance, self.with_engine)
        for agent in list(self.agents.values()):
            if self.chance.random() < 0.8:
                await agent.join(self.head.fleet)
        self.tell_state()

    async def let_time_pass(self) -> None:
        await asyncio.sleep(self.chance.choice([0.1, 1.0, 40.0]))

    def _any_agent(self) -> Agent:
        return self.agents[self.chance.choice(sorted(self.agents))]

    def _any_ready(self, state: NodeState) -> str:
        found = sorted(n.id for n in self.head.journal.nodes().values() if n.state is state and n.id in self.agents)
        return self.chance.choice(found) if found else ""

    # ------------------------------------------------------------ what must hold

    def check_promises(self) -> None:
        """At every moment: what programs have and what Ray has is never more than there is, and every GPU that a program uses
        is held."""
        for agent in self.agents.values():
            jobs = [self.head.book.jobs.get(task.rsplit("/", 2)[0]) for task in agent.tasks]
            cpus = sum(job.shape.resources.get("CPU") for job in jobs if job)
            raylet = self.ray.raylets.get(agent.raylet)
            total = raylet.total if raylet else 0.0
            assert cpus + total <= CPUS + 1e-6, f"{agent.node_id}: programs have {cpus} CPUs, Ray has {total}"
            devices = list(self._by_ray(raylet)) if raylet else []
            for spec in agent.tasks.values():
                for i in (spec.gpu_ids or []) if raylet else []:
                    devices[i] += min(1.0, spec.gpus)
            assert all(used <= 1 + 1e-6 for used in devices), f"{agent.node_id}: GPUs used {devices}"
        book = self.head.book
        members = Counter(job.array_id for job in book.running.values() if job.array_id)
        members.update(book.jobs[job_id].array_id for job_id in book.starting if book.jobs[job_id].array_id)
        for job in book.jobs.values():
            limit = job.request.get("array_limit")
            assert limit is None or members[job.array_id] <= limit, f"{job.array_id}: {members} at once, {limit} may be"
        for books in self.head.ledger:
            assert books.held.fits_in(books.total), f"{books.node_id}: {books.held} of {books.total} is held"

    @staticmethod
    def _by_ray(raylet: Any) -> list[float]:
        devices = [0.0] * len(raylet.devices)
        for i, each in raylet.gpus:
            devices[i] += each
        return devices

    async def come_to_rest(self) -> None:
        """Faults end: Ray answers, every agent is connected or its node is gone, drains are called off."""
        self.log.append("come_to_rest")
        self.ray.troubled = self.head.store.troubled = False
        for agent in list(self.agents.values()):
            if agent.ending:
                self._lose(agent.node_id)
        while node_id := self._any_ready(NodeState.DRAINING):
            self._call_off(node_id)
        await self.rejoin()
        for _ in range(12):
            self.tell_state()
            for _ in range(40):
                await self.turn()
            await asyncio.sleep(31)

    def check_rest(self) -> None:
        self.check_promises()
        book, ledger = self.head.book, self.head.ledger
        assert not book.starting, f"still starting: {sorted(book.starting)}"
        running = {
            f"{job.attempt.id}/{rank}": node
            for job in book.running.values()
            if job.attempt
            for rank, node in enumerate(job.attempt.nodes)
            if rank not in job.attempt.exits
        }
        there = {task: agent.node_id for agent in self.agents.values() for task in agent.tasks}
        assert running == there, "what counts as running is what runs"
        held = {task: books.node_id for books in ledger for task in books.holdings}
        assert held == running, "what is held is held by what runs"
        assert not any(job.attempt and job.attempt.stopping for job in book.running.values()), (
            "what is to end has ended"
        )
        for books in ledger if self.with_engine else ():
            raylet = self.ray.raylets[books.engine.ray_node_id]
            lendable = (books.total - books.held).get("CPU")
            assert raylet.total == lendable, f"{books.node_id}: Ray has {raylet.total} CPUs of {lendable}"
            claimed = {h.hold_id for h in books.holdings.values() if h.hold_id}
            assert set(raylet.holds) == claimed, f"{books.node_id}: Ray holds {raylet.holds} for {claimed}"
        chosen, _ = self.head.dispatcher._choose()
        assert not chosen, f"{chosen} fit, and were not started"

    async def finish_everything(self) -> None:
        """All jobs are cancelled: then everything is as if there had been none."""
        self.log.append("finish_everything")
        for job in list(self.head.book.jobs.values()):
            self.head.work.cancel(job)
        self.ray.idle()
        for _ in range(6):
            self.tell_state()
            for _ in range(30):
                await self.turn()
            await asyncio.sleep(31)

    def check_empty(self) -> None:
        self.check_rest()
        assert all(job.final for job in self.head.book.jobs.values())
        assert not self.head.book.running and not self.head.book.groups
        assert not any(books.holdings for books in self.head.ledger)
        assert not any(agent.tasks for agent in self.agents.values())


def describe(job: Job) -> str:
    return f"{job.id} {job.state} {job.shape.resources} x{job.nodes} {[a.id for a in job.attempts]}"
