"""The book of jobs: all of them in memory, every change on disk."""

from __future__ import annotations

import asyncio
import json
from collections import Counter, OrderedDict, deque
from collections.abc import Callable, Collection, Iterator, Sequence
from itertools import chain, islice
from typing import Any

from sortedcontainers import SortedDict

from clusterctl.core.errors import ClusterctlError, NotFound
from clusterctl.core.model import Shape
from clusterctl_runtime.head.clock import steady_time
from clusterctl_runtime.head.jobs.arrays import Array
from clusterctl_runtime.head.jobs.asked import Asked, GroupKey
from clusterctl_runtime.head.jobs.forgotten import Forgotten
from clusterctl_runtime.head.jobs.gate import Gate
from clusterctl_runtime.head.jobs.job import WRITTEN, Attempt, Job, number_of, record_of
from clusterctl_runtime.head.jobs.lines import Line, Lines
from clusterctl_runtime.head.storage.store import Statement, Store, statement
from clusterctl_runtime.head.turns import AT_ONCE
from clusterctl_runtime.head.watchers import Watchers

LOST_RETRIES = 3  # attempts lost to a node are repeated this often even when the job asked for no retries

WaitsOfGroup = list[tuple[int, dict[str, Any]]]  # (how many jobs, oldest first; the reason)


class SubmissionConflict(ClusterctlError):
    """The submission id is taken by a job with another body (HTTP 409)."""


class JobBook:
    """All jobs, by id, in memory; every change is written through to the store (durable after its next flush)."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self.jobs: dict[str, Job] = {}
        self._by_number = SortedDict()
        self.gate = Gate(self.jobs)
        self.released: Callable[[Job], None] = lambda job: None  # told of a held job that may start now
        self.doomed: Callable[[Job], None] = lambda job: None  # and of one that never will: it is cancelled
        self.moved: Callable[[Job], None] = lambda job: None  # and of each that is in another state
        self._lines = Lines()
        self.running: dict[str, Job] = {}
        self.ended: OrderedDict[str, Job] = OrderedDict()  # in the order in which they ended
        self.counts: Counter[str] = Counter()  # by state, of all jobs that there ever were
        self._asked: dict[str, Asked] = {}
        self._next_seq = 1
        self._to_judge: deque[Iterator[Job]] = deque()
        self._judging = False
        self._judged = 0  # in this turn of the loop
        self._judges_again: asyncio.AbstractEventLoop | None = None  # in its next turn
        self.waits: dict[GroupKey, WaitsOfGroup] = {}
        self.waiting: Counter[str] = Counter()  # how many of them wait by those, by code
        self.starting: dict[str, object] = {}  # queued jobs that have left their line: what makes the start of each
        self._told: dict[str, dict[str, Any]] = {}  # job id -> why it waits, where that is not its whole group's reason
        self._watchers = Watchers()
        self.forgotten = Forgotten(store)
        self._load()

    @property
    def groups(self) -> dict[GroupKey, Line]:
        """Queued jobs that may start; for looking only."""
        return self._lines.groups

    # ------------------------------------------------------------ after a start

    def _load(self) -> None:
        for digest, body in self._store.rows("SELECT digest, body FROM requests"):
            self._asked[digest] = Asked(json.loads(body))
        attempts: dict[str, list[Attempt]] = {}
        for (body,) in self._store.rows("SELECT body FROM attempts"):
            data = json.loads(body)
            job_id = data.pop("job")
            for key in ("exits", "gpu_ids"):
                data[key] = {int(k): v for k, v in data[key].items()}
            attempts.setdefault(job_id, []).append(Attempt(**data))
        for job_id, seq, body in self._store.rows("SELECT id, seq, body FROM jobs ORDER BY seq"):
            data = json.loads(body)
            tried = sorted(attempts.pop(job_id), key=lambda a: number_of(a.id)) if job_id in attempts else None
            written = {name: value for name, value in data.items() if name in WRITTEN}
            self.enter(Job(job_id, seq, self._asked_by(data), tried=tried, **written))
            self._next_seq = max(self._next_seq, seq + 1)
        unused = {digest for digest, asked in self._asked.items() if not asked.uses}
        for digest in unused:
            del self._asked[digest]
        self._store.write_together(self.dropping(unused))
        self.forgotten.add_to(self.counts, self.gate.arrays)
        ended = [job for job in self.jobs.values() if job.final]
        self.ended.update((job.id, job) for job in sorted(ended, key=lambda job: job.ended or 0.0))
        pending = [job for job in self.jobs.values() if not job.final]
        for job in sorted(pending, key=lambda job: job.state != "running"):  # these have their array's room already
            self.admit(job)

    def _asked_by(self, record: dict[str, Any]) -> Asked:
        """Records of older versions carry the whole request."""
        if "asked" in record:
            return self._asked[record["asked"]]
        asked = self.asked(record["request"])
        if not asked.uses:
            self._store.write_together([asked_record(asked)])
        return asked

    # ------------------------------------------------------------ taking in

    def asked(self, request: dict[str, Any]) -> Asked:
        """What `request` asks for; the same object as of all jobs that ask for the same."""
        asked = Asked(request)
        return self._asked.get(asked.digest, asked)

    def hold(self, asked: Asked) -> None:
        """Keeps it, as a job that asks for it does."""
        self._asked[asked.digest] = asked
        asked.uses += 1

    def let_go(self, asked: Asked) -> None:
        """A job that asked for it is gone; the last one's request is dropped from memory."""
        asked.uses -= 1
        if not asked.uses:
            del self._asked[asked.digest]

    def number(self, count: int) -> range:
        """The next numbers, for so many jobs."""
        first, self._next_seq = self._next_seq, self._next_seq + count
        return range(first, self._next_seq)

    def enter(self, job: Job) -> None:
        """Takes a job into the book; it may not start before it is admitted. What is entered must be on disk."""
        self.hold(job.asked)
        self.jobs[job.id] = job
        self._by_number[job.seq] = job
        self.counts[job.state] += 1
        self.gate.join(job)
        if job.state == "running":
            self.running[job.id] = job

    def admit(self, job: Job) -> None:
        """Brings a queued job to where it belongs: among those that may start, those held, or those that never will."""
        if job.final:
            return
        reason = self.gate.doom(job) if job.state == "queued" else ""
        if reason:
            self.move(job, "cancelled", reason)
            self.doomed(job)
        elif self.gate.enter(job) and job.state == "queued":
            self._lines.put(job)

    def get(self, job_id: str) -> Job:
        """Raises NotFound."""
        job = self.jobs.get(job_id)
        if job is None:
            raise NotFound(f"no job {job_id!r} on this cluster: `clusterctl jobs` lists them")
        return job

    def forget(self, jobs: Sequence[Job]) -> None:
        """Drops jobs that have ended from memory: their ids name nothing any more. `erase` is what is left to do."""
        for job in jobs:
            del self.jobs[job.id], self._by_number[job.seq], self.ended[job.id]
            array = self.gate.forget(job)
            self.forgotten.add(job, array)
            self.let_go(job.asked)

    def erase(self, jobs: Sequence[Job]) -> None:
        """Drops forgotten jobs from the disk, and counts them there: both or neither."""
        statements = [statement("DELETE FROM jobs WHERE id = ?", (job.id,)) for job in jobs]
        statements += [statement("DELETE FROM attempts WHERE id = ?", (a.id,)) for job in jobs for a in job.tried or ()]
        statements += self.dropping({job.asked.digest for job in jobs})
        self._store.write_together(statements + self.forgotten.records({job.array_id for job in jobs}))

    def dropping(self, digests: Collection[str]) -> list[Statement]:
        """Takes off the disk what no job asks for any more."""
        unused = [digest for digest in digests if digest not in self._asked]
        return [statement("DELETE FROM requests WHERE digest = ?", (digest,)) for digest in unused]

    def save(self, job: Job) -> None:
        """Writes the job down (durable after the store's next flush), and tells who watches it."""
        self._store.write_together([record_of(job)])
        self._touch(job)

    def save_attempt(self, job: Job, attempt: Attempt) -> None:
        """As `save`, for one of its attempts."""
        body = json.dumps({"job": job.id, **vars(attempt)})  # not `asdict`, which copies all that is inside
        self._store.write("INSERT OR REPLACE INTO attempts VALUES (?,?,?)", (attempt.id, job.id, body))
        self._touch(job)

    # ------------------------------------------------------------ states

    def move(self, job: Job, state: str, reason: str = "") -> None:
        """Puts a job into `state` in memory and on disk."""
        before = job.state
        self.counts[before] -= 1
        self.counts[state] += 1
        self._lines.take(job)
        self._forget_start(job)
        self.running.pop(job.id, None)
        self.ended.pop(job.id, None)
        job.state, job.reason = state, reason
        now = steady_time()
        self.gate.move(job, before)
        if state == "queued":
            job.queued_since = now
            self.admit(job)
        elif state == "running":
            self.running[job.id] = job
            job.started = job.started or now
        else:
            job.ended = now
            self.ended[job.id] = job
            self.gate.leave(job)
        self.save(job)
        self.moved(job)
        if job.final:
            self._to_judge.append(self.gate.after(job))
            self._judge()

    def _judge(self) -> None:
        """Jobs that waited for those that ended are let go or cancelled, and then those that waited for these, however many:
        some in this turn of the loop, and the others in later ones. They are held until then."""
        if self._judging:
            return  # the loop below is at it
        loop, self._judging = _running_loop(), True
        try:
            while self._to_judge and (self._judged < AT_ONCE or loop is None):
                other = next(self._to_judge[0], None)
                if other is None:
                    self._to_judge.popleft()
                else:
                    self._judged += 1
                    self._judge_one(other)
        finally:
            self._judging = False
        if loop is not None and self._judged and self._judges_again is not loop:
            self._judges_again = loop
            loop.call_soon(self._judge_on)

    def _judge_on(self) -> None:
        """The next turn."""
        self._judges_again, self._judged = None, 0
        self._judge()

    def _judge_one(self, job: Job) -> None:
        if not self.gate.holds(job):
            return  # it was let go, or ended, since
        self.admit(job)
        if job.state == "queued" and not self.gate.holds(job):
            job.queued_since = steady_time()  # it waits for room only from now on
            self.save(job)
            self.released(job)

    def withdraw(self, array: Array, reason: str) -> None:
        """From now on no member of `array` starts: those that wait, and those that are to be tried again, are cancelled. Whoever
        calls it cancels the members one by one, and calls `reopen` in the end."""
        array.ending = reason
        self._lines.drop_array(array.id, {asked.group for asked in array.asked})

    def reopen(self, array: Array) -> None:
        """Members may start again, after `withdraw`."""
        array.ending = ""

    # ------------------------------------------------------------ starts that are not made yet

    def take_out(self, job: Job, start: object, wait: dict[str, Any]) -> None:
        """`start` is being made for a queued job: it is nobody else's, and no demand, until it moves or is put back. `wait` says
        what it waits for (as `wait_of`). In memory only: what a head that dies was about to start is queued for the next one."""
        self._lines.take(job)
        self.starting[job.id], self._told[job.id] = start, wait
        self._touch(job)

    def put_back(self, job: Job, start: object, wait: dict[str, Any] | None = None) -> None:
        """Nothing came of `start`: the job is in its place among those that may start. `wait` says why, where that is worth
        telling."""
        if self.starting.get(job.id) is not start:
            return  # it was cancelled meanwhile
        self._forget_start(job)
        if wait:
            self._told[job.id] = wait
        self.admit(job)
        self._touch(job)

    def _forget_start(self, job: Job) -> None:
        self.starting.pop(job.id, None)
        self._told.pop(job.id, None)

    # ------------------------------------------------------------ looking

    def members(self, array: Array) -> Iterator[Job]:
        """Those that are known, in order of arrival. The book may change while they are read."""
        at = array.first
        while numbers := list(islice(self._by_number.irange(at, array.last), AT_ONCE)):
            at = numbers[-1] + 1
            jobs = [self._by_number[seq] for seq in numbers if seq in self._by_number]
            yield from (job for job in jobs if job.array_id == array.id)

    def array(self, array_id: str) -> Array:
        """Raises NotFound."""
        array = self.gate.arrays.get(array_id)
        if array is None:
            raise NotFound(
                f"no array {array_id!r} on this cluster: `clusterctl jobs` lists the jobs, each with its array"
            )
        return array

    def newest(self, before: int | None, most: int, among: Array | None = None) -> list[Job]:
        """At most `most` jobs, the newest first, of those with a lower number than `before`; `among`: of the time in which the
        members of that array came."""
        lowest, highest = (among.first, among.last + 1) if among else (None, None)
        highest = before if highest is None or (before is not None and before < highest) else highest
        if lowest is not None and highest is not None and highest <= lowest:
            return []
        numbers = self._by_number.irange(lowest, highest, inclusive=(True, False), reverse=True)
        return [self._by_number[seq] for seq, _ in zip(numbers, range(most), strict=False)]

    def before(self, job: Job) -> int:
        """How many jobs that may start as well go first."""
        return self._lines.before(job)

    def first_alike(self, shape: Shape, nodes: int) -> Job | None:
        """The next job in line of those that take this; None when none waits."""
        return self._lines.first_alike(shape, nodes)

    def packages(self) -> set[str]:
        """Digests of the packages that any job needs."""
        return {asked.request["package"] for asked in self._asked.values()}

    def set_waits(self, waits: dict[GroupKey, WaitsOfGroup]) -> None:
        """Why each group's jobs wait. Replaces what was said before."""
        changed = {group for group in {*waits, *self.waits} if waits.get(group) != self.waits.get(group)}
        self.waits, self.waiting = waits, Counter()
        for count, wait in chain.from_iterable(waits.values()):
            self.waiting[wait["code"]] += count
        for job_id in [j for j in self._watchers if j in self.jobs and self.jobs[j].group in changed]:
            self._touch(self.jobs[job_id])

    def wait_of(self, job: Job) -> dict[str, Any] | None:
        """Why a queued job is not running yet: {"code","text","fix","eta"}; None when nothing was decided yet."""
        if job.state != "queued":
            return None
        if held := self.gate.wait_of(job):
            return held
        if told := self._told.get(job.id):
            return told
        waits, line = self.waits.get(job.group), self.groups.get(job.group)
        if not waits:
            return None
        place, until = line.place(job) if line else 0, 0
        for count, wait in waits:
            until += count
            if place < until:
                return wait
        return waits[-1][1]

    def _touch(self, job: Job) -> None:
        for name in (job.id, job.array_id):
            self._watchers.tell(name)

    def changed(self, name: str) -> asyncio.Event:
        """An event that is set at the next change of the job, or of any member of the array. Whoever waits holds it."""
        return self._watchers.of(name)


def _running_loop() -> asyncio.AbstractEventLoop | None:
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        return None


def asked_record(asked: Asked) -> Statement:
    """Writes a request down, once for all jobs that ask for it."""
    return statement("INSERT OR REPLACE INTO requests VALUES (?,?)", (asked.digest, asked.text))
