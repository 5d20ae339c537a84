"""Which queued jobs may start: those whose jobs to wait for have ended as they should, and whose array has room.

A condition is judged from the jobs as they are, never from what happened before: so a new process comes to the same answer.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from itertools import islice
from typing import Any

from clusterctl_runtime.head.jobs.arrays import Array, Failure, failure_of
from clusterctl_runtime.head.jobs.asked import Condition
from clusterctl_runtime.head.jobs.job import Job

SHOWN = 3  # jobs that a sentence names


class Gate:
    """`jobs` are all that the queue knows, by id."""

    def __init__(self, jobs: Mapping[str, Job]) -> None:
        self._jobs = jobs
        self.arrays: dict[str, Array] = {}
        self._held: dict[str, str] = {}  # by id: the code of why
        self.reasons: Counter[str] = Counter()  # how many are held, by code
        # Held jobs that wait for a job or an array: (its id, whether it must succeed) -> they, by id.
        self._dependents: dict[Condition, dict[str, Job]] = {}

    def join(self, job: Job) -> None:
        """A job came."""
        if job.array_id:
            array = self.arrays.get(job.array_id)
            if array is None:
                array = self.arrays[job.array_id] = Array(job.array_id)
            array.join(job)

    def move(self, job: Job, before: str) -> None:
        """Its state was `before`."""
        if job.array_id:
            self.arrays[job.array_id].move(job, before)

    def forget(self, job: Job) -> Array | None:
        """Drops a job that has ended; returns its array as long as that has other members."""
        self.leave(job)
        array = self.arrays.get(job.array_id)
        if array is not None:
            array.forget(job)
            if not array.known:
                del self.arrays[array.id]
                return None
        return array

    def knows(self, name: str) -> bool:
        """Whether a job or an array has this name."""
        return name in self._jobs or name in self.arrays

    def holds(self, job: Job) -> bool:
        """Whether the job waits for others, or for room in its array."""
        return job.id in self._held

    # ------------------------------------------------------------ in and out

    def enter(self, job: Job) -> bool:
        """Lets a queued job through, or holds it."""
        array = self.arrays.get(job.array_id)
        waits = bool(self._open_conditions(job))
        if waits or (array is not None and not array.has_room(job)):
            self._hold(job, array, "dependency" if waits else "array_limit")
            return False
        self._release(job, array)
        if array is not None and job.asked.array_limit is not None:
            array.inside.add(job.id)
        return True

    def leave(self, job: Job) -> None:
        """The job has ended, or is taken back."""
        array = self.arrays.get(job.array_id)
        self._release(job, array)
        if array is not None:
            array.inside.discard(job.id)

    def after(self, job: Job) -> Iterator[Job]:
        """Held jobs for which the end of `job` may have changed something: they are to `enter` again. Each is looked at when
        its turn has come, so that what others did meanwhile counts."""
        array = self.arrays.get(job.array_id)
        if self._dependents:
            for condition in self._judged(job, array):
                yield from list(self._dependents.get(condition, {}).values())
        if array is not None and array.waiting and not array.ending:
            yield from list(islice(array.waiting.values(), max(0, array.room(job))))

    def _judged(self, job: Job, array: Array | None) -> Iterator[Condition]:
        """The conditions of which it is known now whether they are met."""
        yield Condition(job.id, True)
        yield Condition(job.id, False)
        if array is not None and not array.open:
            yield Condition(array.id, False)
        if array is not None and (array.failure or not array.open):
            yield Condition(array.id, True)

    def _hold(self, job: Job, array: Array | None, code: str) -> None:
        before = self._held.get(job.id)
        self._held[job.id] = code
        self.reasons[code] += 1
        if before is not None:
            self.reasons[before] -= 1
            return
        if array is not None and job.asked.array_limit is not None:
            array.waiting[job.id] = job
        for condition in job.asked.conditions:
            self._dependents.setdefault(condition, {})[job.id] = job

    def _release(self, job: Job, array: Array | None) -> None:
        code = self._held.pop(job.id, None)
        if code is None:
            return
        self.reasons[code] -= 1
        if array is not None:
            array.waiting.pop(job.id, None)
        for condition in job.asked.conditions:
            waiting = self._dependents.get(condition, {})
            waiting.pop(job.id, None)
            if not waiting:
                self._dependents.pop(condition, None)

    # ------------------------------------------------------------ judging

    def doom(self, job: Job) -> str:
        """Why a job can never start, as things are; "" when it may."""
        array = self.arrays.get(job.array_id)
        if array is not None and array.ending:
            return array.ending
        for name, ok in job.asked.conditions:
            bad = self.failed(name) if ok and not job.tried else None
            if bad is not None:
                return f"{bad.name} ({bad.id}), which it was to follow, {bad.text}"
        return ""

    def wait_of(self, job: Job) -> dict[str, Any] | None:
        """Why a job is held, as a document; None when it is not."""
        if not self.holds(job):
            return None
        pending = self._open_conditions(job)
        array = self.arrays.get(job.array_id)
        if pending:
            named = [f"{name} to {'succeed' if ok else 'end'}" for name, ok in pending[:SHOWN]]
            more = f" and {len(pending) - SHOWN} more" if len(pending) > SHOWN else ""
            code, text = "dependency", f"waiting for {', '.join(named)}{more}"
        elif array is not None and not array.has_room(job):
            most = job.asked.array_limit
            code, text = "array_limit", f"waiting for room in array {array.id}: {most} of it run at the same time"
        else:
            code, text = "dependency", "what it waited for has ended: it joins the queue in a moment"
        return {"code": code, "text": text, "fix": "", "eta": None, "nodes": []}

    def _open_conditions(self, job: Job) -> list[Condition]:
        """Those not met yet. What started once is not held again; what is forgotten had ended long before."""
        return [] if job.tried else [c for c in job.asked.conditions if not self._is_met(c)]

    def _is_met(self, condition: Condition) -> bool:
        name, ok = condition
        if name in self._jobs:
            job = self._jobs[name]
            return job.state == "succeeded" if ok else job.final
        array = self.arrays.get(name)
        return array is None or not (array.open or (ok and array.failure))

    def failed(self, name: str) -> Failure | None:
        """The job of that name, or one of that array, that ended otherwise than well."""
        if name in self._jobs:
            return failure_of(self._jobs[name])
        array = self.arrays.get(name)
        return array.failure if array else None
