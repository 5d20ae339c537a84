"""Which queued jobs may start: those whose jobs to wait for have ended as they should, and whose array has room.

A condition is judged from the jobs as they are, never from what happened before: so a new process comes to the same answer.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from itertools import islice
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from clusterctl_runtime.head.jobs import Job

SHOWN = 3  # jobs that a sentence names


class Condition(NamedTuple):
    """`job` is a job's or an array's id; `ok`: it must succeed, else it must only end."""

    job: str
    ok: bool


def parse_condition(text: str) -> Condition:
    """Of "ID", "ID:ok" (the same) or "ID:any"."""
    job, _, how = text.partition(":")
    return Condition(job, how != "any")


def conditions(job: Job) -> list[Condition]:
    return [parse_condition(text) for text in job.request.get("after") or ()]


@dataclass
class _Array:
    """`inside` were let through and have not ended; `waiting` are held, in order of arrival."""

    members: dict[str, Job] = field(default_factory=dict)
    open: set[str] = field(default_factory=set)  # not ended
    failed: dict[str, Job] = field(default_factory=dict)  # ended otherwise than well
    inside: set[str] = field(default_factory=set)
    waiting: dict[str, Job] = field(default_factory=dict)


class Gate:
    """`jobs` are all that the queue knows, by id."""

    def __init__(self, jobs: Mapping[str, Job]) -> None:
        self._jobs = jobs
        self._arrays: dict[str, _Array] = {}
        self._held: dict[str, Job] = {}
        self._dependents: dict[str, dict[str, Job]] = {}  # id of a job or an array -> held jobs that wait for it

    def know(self, job: Job) -> None:
        """A job came, or its state changed."""
        if not job.array_id:
            return
        array = self._arrays.setdefault(job.array_id, _Array())
        array.members[job.id] = job
        array.open.discard(job.id)
        array.failed.pop(job.id, None)
        if not job.final:
            array.open.add(job.id)
        elif job.state != "succeeded":
            array.failed[job.id] = job

    def forget(self, job: Job) -> None:
        self.leave(job)
        array = self._arrays.get(job.array_id)
        if array is not None:
            array.members.pop(job.id, None)
            array.open.discard(job.id)
            array.failed.pop(job.id, None)
            if not array.members:
                del self._arrays[job.array_id]

    def knows(self, name: str) -> bool:
        return name in self._jobs or name in self._arrays

    def members(self, array_id: str) -> list[Job]:
        array = self._arrays.get(array_id)
        return list(array.members.values()) if array else []

    # ------------------------------------------------------------ in and out

    def enter(self, job: Job) -> bool:
        """Lets a queued job through, or holds it."""
        array = self._arrays.get(job.array_id)
        if self._open_conditions(job) or (array is not None and not _has_room(array, job)):
            self._hold(job, array)
            return False
        self._release(job, array)
        if array is not None:
            array.inside.add(job.id)
        return True

    def leave(self, job: Job) -> None:
        """The job has ended, or is taken back."""
        array = self._arrays.get(job.array_id)
        self._release(job, array)
        if array is not None:
            array.inside.discard(job.id)

    def after(self, job: Job) -> Iterator[Job]:
        """Held jobs for which the end of `job` may have changed something: they are to `enter` again."""
        yield from list(self._dependents.get(job.id, {}).values())
        array = self._arrays.get(job.array_id)
        if array is None:
            return
        if array.failed or not array.open:
            yield from list(self._dependents.get(job.array_id, {}).values())
        yield from list(islice(array.waiting.values(), max(0, _room(array, job))))

    def _hold(self, job: Job, array: _Array | None) -> None:
        self._held[job.id] = job
        if array is not None:
            array.waiting[job.id] = job
        for condition in conditions(job):
            self._dependents.setdefault(condition.job, {})[job.id] = job

    def _release(self, job: Job, array: _Array | None) -> None:
        if self._held.pop(job.id, None) is None:
            return
        if array is not None:
            array.waiting.pop(job.id, None)
        for condition in conditions(job):
            waiting = self._dependents.get(condition.job, {})
            waiting.pop(job.id, None)
            if not waiting:
                self._dependents.pop(condition.job, None)

    # ------------------------------------------------------------ judging

    def doom(self, job: Job) -> str:
        """Why a job can never start, as things are; "" when it may."""
        for name, ok in conditions(job):
            bad = self.failed(name) if ok and not job.attempts else None
            if bad is not None:
                return f"{bad.name} ({bad.id}), which it was to follow, {ended_text(bad)}"
        return ""

    def wait_of(self, job: Job) -> dict[str, Any] | None:
        """Why a job is held, as a document; None when it is not."""
        if job.id not in self._held:
            return None
        pending = self._open_conditions(job)
        if pending:
            named = [f"{name} to {'succeed' if ok else 'end'}" for name, ok in pending[:SHOWN]]
            more = f" and {len(pending) - SHOWN} more" if len(pending) > SHOWN else ""
            code, text = "dependency", f"waiting for {', '.join(named)}{more}"
        else:
            most = job.request["array_limit"]
            code, text = "array_limit", f"waiting for room in array {job.array_id}: {most} of it run at the same time"
        return {"code": code, "text": text, "fix": "", "eta": None, "nodes": []}

    def _open_conditions(self, job: Job) -> list[Condition]:
        """Those not met yet. What started once is not held again; what is forgotten had ended long before."""
        return [] if job.attempts else [c for c in conditions(job) if not self._is_met(c)]

    def _is_met(self, condition: Condition) -> bool:
        name, ok = condition
        if name in self._jobs:
            job = self._jobs[name]
            return job.state == "succeeded" if ok else job.final
        array = self._arrays.get(name)
        return array is None or not (array.open or (ok and array.failed))

    def failed(self, name: str) -> Job | None:
        """The job of that name, or the first of that array, that ended otherwise than well."""
        if name in self._jobs:
            job = self._jobs[name]
            return job if job.final and job.state != "succeeded" else None
        array = self._arrays.get(name)
        return next(iter(array.failed.values()), None) if array else None


def _has_room(array: _Array, job: Job) -> bool:
    return job.id in array.inside or job.request.get("array_limit") is None or _room(array, job) > 0


def _room(array: _Array, job: Job) -> int:
    """How many more of the array its limit lets through."""
    most = job.request.get("array_limit")
    return 0 if most is None else int(most) - len(array.inside)


def ended_text(job: Job) -> str:
    return "was cancelled" if job.state == "cancelled" else job.state
