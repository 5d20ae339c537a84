"""Jobs and their attempts: the records, their states, and the book that keeps them in memory and on disk.

queued -> running -> succeeded | failed | cancelled        (running -> queued when an attempt is retried)
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import json
import math
import secrets
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass, field
from typing import Any

from clusterctl.core.errors import ClusterctlError, NotFound
from clusterctl.core.model import Shape
from clusterctl.core.resources import Resources
from clusterctl_runtime.head.clock import steady_time
from clusterctl_runtime.head.gate import Gate
from clusterctl_runtime.head.store import Store

FINAL = frozenset({"succeeded", "failed", "cancelled"})
DRIVER_RESOURCE = "driver"  # what a driver takes of the head node
LOST_RETRIES = 3  # attempts lost to a node are repeated this often even when the job asked for no retries


GroupKey = tuple[Shape, int]  # what one rank takes, and how many ranks


class SubmissionConflict(ClusterctlError):
    """The submission id is taken by a job with another body (HTTP 409)."""


@dataclass
class Attempt:
    """One try at a job. `state`: running, succeeded, failed, cancelled, lost. `nodes` are node ids by rank."""

    id: str
    state: str
    nodes: list[str]
    generations: list[int]
    started: float
    ended: float | None = None
    exit_code: int | None = None
    reason: str = ""
    exits: dict[int, int | None] = field(default_factory=dict)  # rank -> exit code, of ranks that ended
    gpu_ids: dict[int, list[int]] = field(default_factory=dict)
    shares: list[float] = field(default_factory=list)  # by rank: the part of its node that it holds, 0 to 1
    rates: list[float] = field(default_factory=list)  # by rank: what that part costs, $/h
    begun: bool = False  # its node has said that the program runs, and since when
    # "" | "recalled" | "cancelled" | "failed" | "timeout" | "lost" | "preempted": why its ranks are to end
    stopping: str = ""


@dataclass
class Job:
    """A unit of work as accepted. `request` is the JobRequest of the API, complete with defaults."""

    id: str
    seq: int
    request: dict[str, Any]
    digest: str  # of the request: the same id with another digest is refused
    state: str = "queued"
    submitted: float = 0.0
    started: float | None = None
    ended: float | None = None
    exit_code: int | None = None
    reason: str = ""
    retries_used: int = 0
    losses: int = 0
    attempts: list[Attempt] = field(default_factory=list)
    queued_since: float = 0.0
    array_index: int | None = None
    array_id: str = ""

    def __post_init__(self) -> None:
        self.shape = shape_of(self.request)

    @property
    def nodes(self) -> int:
        return int(self.request["nodes"] or 1)

    @property
    def is_gang(self) -> bool:
        """Whether it asked for nodes: `--nodes 1` is a gang of one, no `--nodes` a plain program."""
        return self.request["nodes"] is not None

    @property
    def group(self) -> GroupKey:
        return (self.shape, self.nodes)

    @property
    def final(self) -> bool:
        return self.state in FINAL

    @property
    def attempt(self) -> Attempt | None:
        """The attempt that runs now."""
        last = self.attempts[-1] if self.attempts else None
        return last if last and last.state == "running" else None

    @property
    def name(self) -> str:
        return self.request.get("name") or self.id


def shape_of(request: dict[str, Any]) -> Shape:
    """What each rank of a job takes of its node."""
    if request.get("driver"):
        return Shape(Resources.of({DRIVER_RESOURCE: 1}), pool="head")
    amounts: dict[str, float] = dict(request.get("resources") or {})
    cpus, gpus, memory = request.get("cpus"), request.get("gpus") or 0, request.get("memory") or 0
    amounts["CPU"] = 1.0 if cpus is None else float(cpus)
    if gpus:
        amounts["GPU"] = float(gpus) if gpus < 1 else float(math.ceil(gpus))  # a share of one device, or whole ones
    if memory:
        amounts["memory"] = float(memory)
    return Shape(Resources.of(amounts), gpu_type=request.get("gpu_type") or "", pool=request.get("pool") or "")


def new_job_id() -> str:
    return "j-" + base64.b32encode(secrets.token_bytes(5)).decode().lower()


def digest_of(request: dict[str, Any]) -> str:
    """Options that came with later versions count only where they are used: a job of an older client stays the same job."""
    request = {key: value for key, value in request.items() if key != "after" or value}
    return hashlib.sha256(json.dumps(request, sort_keys=True).encode()).hexdigest()


class JobBook:
    """All jobs, by id, in memory; every change is written through to the store (durable after its next flush)."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self.jobs: dict[str, Job] = {}
        self.gate = Gate(self.jobs)
        self.released: Callable[[Job], None] = lambda job: None  # told of a held job that may start now
        self.doomed: Callable[[Job], None] = lambda job: None  # and of one that never will: it is cancelled
        self.groups: dict[
            GroupKey, dict[str, Job]
        ] = {}  # queued jobs that may start, alike in shape and ranks, each in order of arrival
        self.running: dict[str, Job] = {}
        self.counts: Counter[str] = Counter()
        self._next_seq = 1
        self._just_ended: deque[Job] = deque()
        self.waits: dict[GroupKey, list[tuple[int, dict[str, Any]]]] = {}
        self.starting: dict[str, object] = {}  # queued jobs that have left their group: what makes the start of each
        self._told: dict[str, dict[str, Any]] = {}  # job id -> why it waits, where that is not its whole group's reason
        self._watchers: dict[str, asyncio.Event] = {}
        self.version = 0
        self._load()

    def _load(self) -> None:
        attempts: dict[str, list[Attempt]] = {}
        for (body,) in self._store.rows("SELECT body FROM attempts"):
            data = json.loads(body)
            job_id = data.pop("job")
            for key in ("exits", "gpu_ids"):
                data[key] = {int(k): v for k, v in data[key].items()}
            attempts.setdefault(job_id, []).append(Attempt(**data))
        for job_id, body in self._store.rows("SELECT id, body FROM jobs ORDER BY seq"):
            job = Job(**json.loads(body), attempts=sorted(attempts.get(job_id, []), key=lambda a: number_of(a.id)))
            self._index(job)
            self._next_seq = max(self._next_seq, job.seq + 1)
        pending = [job for job in self.jobs.values() if not job.final]
        for job in sorted(pending, key=lambda job: job.state != "running"):  # these have their array's room already
            self._admit(job)

    def _index(self, job: Job) -> None:
        self.jobs[job.id] = job
        self.counts[job.state] += 1
        self.gate.know(job)
        if job.state == "running":
            self.running[job.id] = job

    def _admit(self, job: Job) -> None:
        """Brings a queued job to where it belongs: among those that may start, those held, or those that never will."""
        reason = self.gate.doom(job) if job.state == "queued" else ""
        if reason:
            self.move(job, "cancelled", reason)
            self.doomed(job)
        elif self.gate.enter(job) and job.state == "queued":
            self._enqueue(job)

    def get(self, job_id: str) -> Job:
        job = self.jobs.get(job_id)
        if job is None:
            raise NotFound(f"no job {job_id!r} on this cluster: `clusterctl jobs` lists them")
        return job

    def add(self, request: dict[str, Any], array_id: str = "", index: int | None = None) -> tuple[Job, bool]:
        """Accepts a request; (job, created). The same submission id with the same body is the same job."""
        digest = digest_of(request)
        job_id = request.get("submission_id") or new_job_id()
        known = self.jobs.get(job_id)
        if known is not None:
            if known.digest != digest:
                raise SubmissionConflict(
                    f"submission id {job_id!r} already names a job with other contents: choose another id, or leave it out"
                )
            return known, False
        now = steady_time()
        job = Job(job_id, self._next_seq, request, digest, submitted=now, queued_since=now)
        job.array_id, job.array_index = array_id, index
        self._next_seq += 1
        self._index(job)
        self._admit(job)
        self.save(job)
        return job, True

    def discard(self, jobs: Iterable[Job]) -> None:
        """Takes jobs out of memory and disk: such as could not be made durable, and were never acknowledged."""
        for job in jobs:
            self.jobs.pop(job.id, None)
            self._dequeue(job)
            self._forget_start(job)
            self.gate.forget(job)
            self.counts[job.state] -= 1
            self._store.write("DELETE FROM jobs WHERE id = ?", (job.id,))
            self._touch(job)

    def forget(self, jobs: Iterable[Job]) -> None:
        """Drops jobs that have ended, with their attempts: their submission ids name nothing any more."""
        for job in jobs:
            for attempt in job.attempts:
                self._store.write("DELETE FROM attempts WHERE id = ?", (attempt.id,))
        self.discard(jobs)

    def save(self, job: Job) -> None:
        body = {k: v for k, v in vars(job).items() if k not in ("attempts", "shape")}
        self._store.write("INSERT OR REPLACE INTO jobs VALUES (?,?,?)", (job.id, job.seq, json.dumps(body)))
        self._touch(job)

    def save_attempt(self, job: Job, attempt: Attempt) -> None:
        body = json.dumps({"job": job.id, **asdict(attempt)})
        self._store.write("INSERT OR REPLACE INTO attempts VALUES (?,?,?)", (attempt.id, job.id, body))
        self._touch(job)

    def move(self, job: Job, state: str, reason: str = "") -> None:
        """Puts a job into `state` in memory and on disk."""
        self.counts[job.state] -= 1
        self.counts[state] += 1
        self._dequeue(job)
        self._forget_start(job)
        self.running.pop(job.id, None)
        job.state, job.reason = state, reason
        now = steady_time()
        self.gate.know(job)
        if state == "queued":
            job.queued_since = now
            self._admit(job)
        elif state == "running":
            self.running[job.id] = job
            job.started = job.started or now
        else:
            job.ended = now
            self.gate.leave(job)
        self.save(job)
        if job.final:
            self._ended(job)

    def _ended(self, job: Job) -> None:
        """Jobs that waited for this one are let go or cancelled, and then those that waited for these, however many."""
        self._just_ended.append(job)
        if len(self._just_ended) > 1:
            return  # the loop below is at it
        while self._just_ended:
            for other in self.gate.after(self._just_ended[0]):
                self._admit(other)
                if other.id in self.groups.get(other.group, ()):
                    other.queued_since = steady_time()  # it waits for room only from now on
                    self.save(other)
                    self.released(other)
            self._just_ended.popleft()

    def _enqueue(self, job: Job) -> None:
        """Into its group, in order of arrival: a retried job keeps its place."""
        group = self.groups.setdefault(job.group, {})
        in_order = not group or next(reversed(group.values())).seq < job.seq
        group[job.id] = job
        if not in_order:
            self.groups[job.group] = dict(sorted(group.items(), key=lambda item: item[1].seq))

    def _dequeue(self, job: Job) -> None:
        group = self.groups.get(job.group)
        if group and group.pop(job.id, None) and not group:
            del self.groups[job.group]

    # ------------------------------------------------------------ starts that are not made yet

    def take_out(self, job: Job, start: object, wait: dict[str, Any]) -> None:
        """`start` is being made for a queued job: it is nobody else's, and no demand, until it moves or is put back. `wait` says
        what it waits for (as `wait_of`). In memory only: what a head that dies was about to start is queued for the next one."""
        self._dequeue(job)
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
        self._enqueue(job)
        self._touch(job)

    def _forget_start(self, job: Job) -> None:
        self.starting.pop(job.id, None)
        self._told.pop(job.id, None)

    def set_waits(self, waits: dict[GroupKey, list[tuple[int, dict[str, Any]]]]) -> None:
        """Why each group's jobs wait: (how many jobs, oldest first; the reason). Replaces what was said before."""
        changed = {group for group in {*waits, *self.waits} if waits.get(group) != self.waits.get(group)}
        self.waits = waits
        for job_id in [j for j in self._watchers if j in self.jobs and self.jobs[j].group in changed]:
            self._touch(self.jobs[job_id])
        self.version += bool(changed)

    def wait_of(self, job: Job) -> dict[str, Any] | None:
        """Why a queued job is not running yet: {"code","text","fix","eta"}; None when nothing was decided yet."""
        if job.state == "queued" and (held := self.gate.wait_of(job)):
            return held
        if job.state == "queued" and (told := self._told.get(job.id)):
            return told
        waits = self.waits.get(job.group) if job.state == "queued" else None
        if not waits:
            return None
        until = 0
        place = next((i for i, other in enumerate(self.groups.get(job.group, ())) if other == job.id), 0)
        for count, wait in waits:
            until += count
            if place < until:
                return wait
        return waits[-1][1]

    def _touch(self, job: Job) -> None:
        self.version += 1
        watcher = self._watchers.pop(job.id, None)
        if watcher:
            watcher.set()

    def changed(self, job_id: str) -> asyncio.Event:
        """An event that is set at the job's next change."""
        return self._watchers.setdefault(job_id, asyncio.Event())

    def newest(self) -> Iterator[Job]:
        return reversed(self.jobs.values())  # they were put in by their number


def number_of(attempt_id: str) -> int:
    return int(attempt_id.rsplit("/", 1)[1])


def task_id(attempt_id: str, rank: int) -> str:
    return f"{attempt_id}/{rank}"


def split_task(task: str) -> tuple[str, str, int]:
    """(job id, attempt id, rank) of "JOB/N/RANK"."""
    attempt, rank = task.rsplit("/", 1)
    return attempt.rsplit("/", 1)[0], attempt, int(rank)


def job_document(job: Job, wait: dict[str, Any] | None = None) -> dict[str, Any]:
    """The job as the API shows it (`job show --json`). `wait` says why it is queued."""
    request = job.request
    return {
        "id": job.id,
        "name": job.name,
        "state": job.state,
        "exit_code": job.exit_code,
        "attempts": [
            {
                "id": a.id,
                "state": a.state,
                "nodes": a.nodes,
                "started": a.started,
                "ended": a.ended,
                "exit_code": a.exit_code,
                "reason": a.reason,
            }
            for a in job.attempts
        ],
        "submitted": job.submitted,
        "started": job.started,
        "ended": job.ended,
        "reason": (wait or {}).get("text", "") or job.reason,
        "entrypoint": request.get("argv") or [],
        "resources": {**job.shape.resources.to_dict()},
        "user": request.get("user", ""),
        "priority": request.get("priority", 0),
        "nodes": job.nodes,
        "pool": job.shape.pool,
        "gpu_type": job.shape.gpu_type,
        "submission_id": request.get("submission_id") or "",
        "array_id": job.array_id,
        "array_index": job.array_index,
        "array_limit": request.get("array_limit"),
        "after": request.get("after") or [],
        "driver": bool(request.get("driver")),
        "script": request.get("script", ""),
        "wait": wait,
    }
