"""Makes services as they are wanted: compares each with what there is, starts what is missing and takes out what is too much.

Looks at one service when something of it has changed, and at the moment that was decided on before. What is to be done is written
down first, and doing it twice changes nothing, so that a head that dies in between goes on where it was.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import logging
from collections.abc import Callable, Iterator
from copy import deepcopy
from dataclasses import dataclass
from typing import Any, TypeVar
from weakref import WeakValueDictionary

from clusterctl.core.errors import BadRequest, ClusterctlError, NotFound, Refused
from clusterctl.core.model import Node
from clusterctl.core.services import Decision, Replica, Wish, decide
from clusterctl_runtime.entry.target import Target
from clusterctl_runtime.head.clock import steady_time
from clusterctl_runtime.head.jobs.attempts import Work
from clusterctl_runtime.head.jobs.book import JobBook, SubmissionConflict
from clusterctl_runtime.head.jobs.gang import replica_port
from clusterctl_runtime.head.jobs.job import Attempt, Job
from clusterctl_runtime.head.jobs.queue import Queue
from clusterctl_runtime.head.jobs.requests import ServiceRequest
from clusterctl_runtime.head.nodes.ledger import Ledger
from clusterctl_runtime.head.services.entry import Entry, TargetState
from clusterctl_runtime.head.services.record import Part, Record, check_name, load_records, packages_of, record_of
from clusterctl_runtime.head.storage.events import EventLog
from clusterctl_runtime.head.storage.store import Statement, Store, StoreUnavailable, statement
from clusterctl_runtime.head.watchers import Watchers

T = TypeVar("T")
log = logging.getLogger(__name__)
AGAIN_SECONDS = 1.0  # while something is on its way of which no event tells
FAILED_SECONDS = 5.0  # after a look that failed


@dataclass(frozen=True)
class Seen:
    """A replica as it is found: its job and attempt, where it listens, and what the entry says of it."""

    part: Part
    job: Job | None
    attempt: Attempt | None
    target: Target | None
    state: TargetState
    node: Node | None


class Services:
    """All services. `token` gives the token with that number of a service; `live` a node's record."""

    def __init__(
        self,
        store: Store,
        book: JobBook,
        queue: Queue,
        work: Work,
        ledger: Ledger,
        events: EventLog,
        entry: Entry,
        live: Callable[[str], Node | None],
        token: Callable[[str, int], str],
    ) -> None:
        self._store, self._book, self._queue, self._work = store, book, queue, work
        self._ledger, self._events, self._live, self._token = ledger, events, live, token
        self.entry = entry
        self.records = load_records(store)
        self._locks: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()
        self._due: dict[str, float] = dict.fromkeys(self.records, 0.0)  # when each is to be looked at
        self._ill_since: dict[str, float] = {}
        self._written: dict[str, Statement] = {}
        self._wanted = asyncio.Event()
        self._watchers = Watchers()
        if self.records:
            self._wanted.set()

    # ------------------------------------------------------------ what happens

    def wake(self, name: str) -> None:
        """Something of it may have changed."""
        if name in self.records:
            self._due[name] = 0.0
            self._wanted.set()
            self._watchers.tell(name)

    def job_moved(self, job: Job) -> None:
        """One that is a replica's has another state."""
        if job.request.get("service"):
            self.wake(job.request["service"]["name"])

    def node_changed(self, node_id: str) -> None:
        """It drains, or no more."""
        for name, record in self.records.items():
            if any(seen.node is not None and seen.node.id == node_id for seen in self.seen(record)):
                self.wake(name)

    def changed(self, name: str) -> asyncio.Event:
        """Set at the next change of the service. Whoever waits holds it."""
        return self._watchers.of(name)

    @property
    def working(self) -> int:
        """How many there are that are to run: the cluster is in use."""
        return sum(not r.stopped and bool(r.wanted and r.replicas) for r in self.records.values())

    def packages(self) -> set[str]:
        """Digests of the packages that any version needs."""
        return packages_of(list(self.records.values()))

    def token(self, record: Record) -> str:
        """What lets callers in. Made of the cluster's secret, so that it is on no disk."""
        return self._token(record.name, record.token)

    # ------------------------------------------------------------ what users ask

    def get(self, name: str) -> Record:
        """Raises NotFound."""
        record = self.records.get(name)
        if record is None:
            raise NotFound(f"no service {name!r} on this cluster: `clusterctl service list` names them")
        return record

    async def ask(self, name: str, request: ServiceRequest) -> int:
        """A new version, on disk. Returns its number."""
        check_name(name)
        self._queue.check(request.job)
        if self._queue.closed:
            raise Refused(f"this cluster runs no services any more: {self._queue.closed}")
        async with self._lock(name):
            version = await self._changed(name, lambda record: record.ask(request, steady_time()))
        self._events.add("service", name, "version", f"version {version.number} of service {name} is wanted")
        self.wake(name)
        return version.number

    async def change(self, name: str, what: Callable[[Record], Any], told: str) -> Record:
        """What a user wants of it, on disk."""
        self.get(name)
        async with self._lock(name):
            await self._changed(name, what)
        self._events.add("service", name, "wanted", f"service {name}: {told}")
        self.wake(name)
        return self.get(name)

    async def _changed(self, name: str, what: Callable[[Record], T]) -> T:
        """All of it, or where the disk does not take it nothing: who is told so must not find that it comes true later."""
        before = self.records.get(name)
        record = deepcopy(before) if before is not None else Record(name)
        result = what(record)
        try:
            await self._save(record)
        except StoreUnavailable:
            taken_back = record_of(before) if before else statement("DELETE FROM services WHERE name = ?", (name,))
            self._store.write_together([taken_back])
            raise
        self.records[name] = record
        return result

    def _lock(self, name: str) -> asyncio.Lock:
        return self._locks.setdefault(name, asyncio.Lock())

    async def _save(self, record: Record) -> None:
        """On disk, where it is not as it is."""
        written = record_of(record)
        if self._written.get(record.name) != written:
            self._store.write_together([written])
            await self._store.flush()
            self._written[record.name] = written

    # ------------------------------------------------------------ its loop

    async def run(self) -> None:
        """Until it is cancelled."""
        entry = asyncio.create_task(self.entry.run())
        try:
            while True:
                due = min(self._due.values(), default=None)
                pause = None if due is None else max(0.0, due - steady_time())
                with contextlib.suppress(asyncio.TimeoutError):
                    await asyncio.wait_for(self._wanted.wait(), pause)
                self._wanted.clear()
                now = steady_time()
                for name in [name for name, at in self._due.items() if at <= now]:
                    await self._look_safely(name)
        finally:
            entry.cancel()

    async def _look_safely(self, name: str) -> None:
        del self._due[name]
        try:
            async with self._lock(name):
                at = await self._look(self.records[name])
        except ClusterctlError as error:
            log.warning("service %s: %s", name, error)
            at = steady_time() + FAILED_SECONDS
        except Exception:
            log.exception("service %s", name)
            at = steady_time() + FAILED_SECONDS
        if at is not None and self._due.get(name) != 0.0:
            self._due[name] = at
        self._watchers.tell(name)

    async def _look(self, record: Record) -> float | None:
        """One comparison and what follows of it. Returns when to look again though nothing happens."""
        if self._queue.closed:
            return None  # the cluster ends, and all jobs with it
        now = steady_time()
        self._notice(record)
        await self._submit(record)  # what an earlier head was about to
        decision = self._decided(record, now)
        if decision.give_up:
            self._give_up(record, decision.give_up, decision.culprit)
            await self._save(record)
            return now
        gone = self._drop_ended(record, now)
        self._apply(record, decision, now)
        await self._save(record)
        self._route(record)
        await self._submit(record)
        waits = self._end_those_done(record, now)
        again = [decision.look_at] if decision.look_at is not None else []
        if waits or any(seen.node is not None and _drains(seen, self._ledger) for seen in self.seen(record)):
            again.append(now + AGAIN_SECONDS)
        if decision.promote or gone:
            again.append(now)
        return min(again, default=None)

    def _decided(self, record: Record, now: float) -> Decision:
        here = [seen for seen in self.seen(record) if not seen.part.leaving]
        if record.stopped or not record.wanted:
            why = "the service was stopped" if record.stopped else "its version was given up"
            return Decision(leave=tuple((seen.part.job, why) for seen in here))
        asked = record.version(record.wanted).request
        wish = Wish(record.replicas, record.current, record.wanted, asked.patience, record.ends, asked.surge)
        return decide(wish, [self._replica(seen) for seen in here if _end_of(seen) != "lost"], now)

    def _give_up(self, record: Record, why: str, culprit: str) -> None:
        text = f"version {record.wanted} of service {record.name} was given up: {why}"
        record.give_up(why, culprit)
        self._events.add("service", record.name, "given_up", text)

    def _drop_ended(self, record: Record, now: float) -> bool:
        """Replicas whose jobs have ended. Whether there were any."""
        ended = [seen for seen in self.seen(record) if _end_of(seen)]
        for seen in ended:
            record.parts.remove(seen.part)
            if _end_of(seen) == "broken" and not seen.part.leaving:
                if seen.part.version == record.current:
                    record.note_end(now)
                text = f"{seen.part.job} of service {record.name} {_why_ended(seen)}"
                self._events.add("service", record.name, "replica_ended", text)
        return bool(ended)

    def _apply(self, record: Record, decision: Decision, now: float) -> None:
        parts = {part.job: part for part in record.parts}
        for part, why in [(parts[job], why) for job, why in decision.leave if job in parts]:
            part.leaving = why
            part.leave_by = now + record.version(part.version).request.grace
            text = f"{part.job} of service {record.name} leaves: {why}"
            self._events.add("service", record.name, "replica_leaves", text)
        if decision.promote:
            served = record.wanted
            record.promote()
            text = f"version {served} of service {record.name} serves now"
            self._events.add("service", record.name, "version_serves", text)
        for version in decision.start:
            record.new_part(version)

    def _notice(self, record: Record) -> None:
        """Keeps what must not be forgotten of how replicas were."""
        for seen in self.seen(record):
            if seen.attempt is None:
                continue
            if seen.state.healthy:
                seen.part.well = seen.attempt.id
                self._ill_since.pop(seen.attempt.id, None)
            elif seen.part.well == seen.attempt.id and seen.state.healthy is False:
                self._ill_since.setdefault(seen.attempt.id, steady_time())

    def _route(self, record: Record) -> None:
        targets = [s.target for s in self.seen(record) if s.target is not None and not s.part.leaving]
        if record.stopped and not record.parts:
            self.entry.drop(record.name)
        else:
            digest = hashlib.sha256(self.token(record).encode()).hexdigest()
            self.entry.set(record.name, targets, [digest])

    async def _submit(self, record: Record) -> None:
        """Replicas that are written down and are no jobs yet."""
        for part in list(record.parts):
            if part.job not in self._book.jobs and not part.leaving:
                try:
                    await self._queue.submit([record.job_of(part)])
                except SubmissionConflict:  # a user has a job of that name
                    record.parts.remove(part)
                    self._due[record.name] = 0.0
                except BadRequest as error:  # the spec is another one by now
                    record.parts.remove(part)
                    if record.wanted == record.current:
                        raise
                    self._give_up(record, str(error), "")
                    self._due[record.name] = 0.0
                    return

    def _end_those_done(self, record: Record, now: float) -> bool:
        """Ends replicas that have left and answer nothing any more. Whether any is still on its way."""
        waits = False
        for seen in self.seen(record):
            if not seen.part.leaving or seen.job is None or seen.job.final:
                continue
            waits = True
            still_open = seen.target is not None and self.entry.open_requests(record.name, seen.target.id) != 0
            stopping = seen.attempt is not None and seen.attempt.stopping
            if not stopping and (not still_open or now >= seen.part.leave_by):
                self._work.cancel(seen.job, f"replica of service {record.name}: {seen.part.leaving}")
        return waits

    # ------------------------------------------------------------ looking

    def seen(self, record: Record) -> Iterator[Seen]:
        """Each replica, as it is at this moment."""
        for part in list(record.parts):
            job = self._book.jobs.get(part.job)
            attempt = job.attempt if job is not None else None
            target = self._target(record, part, attempt) if attempt is not None else None
            state = self.entry.state(record.name, target.id) if target is not None else TargetState()
            node = self._live(attempt.nodes[0]) if attempt is not None else None
            yield Seen(part, job, attempt, target, state, node)

    def _target(self, record: Record, part: Part, attempt: Attempt) -> Target | None:
        books = self._ledger.get(attempt.nodes[0])
        if books is None or not books.address:
            return None
        request = record.version(part.version).request
        port = replica_port({"port": request.port}, attempt)
        return Target(attempt.id, books.address, port, "", request.health)

    def _replica(self, seen: Seen) -> Replica:
        job, version = seen.part.job, seen.part.version
        if _end_of(seen):
            return Replica(job, version, "broken", why=_why_ended(seen))
        if seen.attempt is None or seen.attempt.stopping:
            return Replica(job, version, "waiting")
        moving = _drains(seen, self._ledger)
        by = seen.node.drain_by if seen.node is not None and moving else None
        if seen.state.healthy:
            return Replica(job, version, "well", seen.attempt.started, "", moving, by)
        if seen.part.well != seen.attempt.id:
            return Replica(job, version, "starting", seen.attempt.started, seen.state.why, moving, by)
        since = self._ill_since.get(seen.attempt.id)
        if since is None:  # it was well before this head began, and has not been asked since
            return Replica(job, version, "well", seen.attempt.started, "", moving, by)
        return Replica(job, version, "ill", since, seen.state.why, moving, by)

    def replica(self, seen: Seen) -> Replica:
        """As it is decided on."""
        return self._replica(seen)


def _drains(seen: Seen, ledger: Ledger) -> bool:
    books = ledger.get(seen.node.id) if seen.node is not None else None
    return books is not None and bool(books.drain)


def _end_of(seen: Seen) -> str:
    """ "" while its job goes on or is about to; "broken" where its program ended by itself, "lost" where not."""
    if seen.job is None or not seen.job.final:
        return ""
    last = seen.job.tried[-1] if seen.job.tried else None
    return "broken" if last is not None and last.state in ("succeeded", "failed") else "lost"


def _why_ended(seen: Seen) -> str:
    assert seen.job is not None
    if seen.job.state == "succeeded":
        return "ended with code 0, and a service's program is to go on"
    return seen.job.reason or "failed"
