"""Jobs and their attempts: the records, their states, and how they are written down.

queued -> running -> succeeded | failed | cancelled        (running -> queued when an attempt is retried)
"""

from __future__ import annotations

import base64
import json
import secrets
from dataclasses import dataclass, field
from typing import Any

from clusterctl.core.model import Shape
from clusterctl_runtime.head.jobs.asked import Asked, GroupKey
from clusterctl_runtime.head.storage.store import Statement, statement

FINAL = frozenset({"succeeded", "failed", "cancelled"})


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


@dataclass(slots=True, eq=False)
class Job:
    """A unit of work as accepted."""

    id: str
    seq: int
    asked: Asked
    state: str = "queued"
    submitted: float = 0.0
    started: float | None = None
    ended: float | None = None
    exit_code: int | None = None
    reason: str = ""
    retries_used: int = 0
    losses: int = 0
    queued_since: float = 0.0
    array_index: int | None = None
    array_id: str = ""
    tried: list[Attempt] | None = None  # made when the first comes: most of a long queue has none

    @property
    def attempts(self) -> list[Attempt]:
        """In order of their making; to look only, `tried` is cheaper."""
        if self.tried is None:
            self.tried = []
        return self.tried

    @property
    def request(self) -> dict[str, Any]:
        """As it was submitted, with defaults filled in; shared by all jobs that ask for the same."""
        return self.asked.request

    @property
    def shape(self) -> Shape:
        """What one rank takes of one node."""
        return self.asked.shape

    @property
    def nodes(self) -> int:
        """How many ranks it has."""
        return self.asked.group.nodes

    @property
    def is_gang(self) -> bool:
        """Whether it asked for nodes: `--nodes 1` is a gang of one, no `--nodes` a plain program."""
        return self.request["nodes"] is not None

    @property
    def group(self) -> GroupKey:
        return self.asked.group

    @property
    def final(self) -> bool:
        """Whether it has ended for good; only `retry` brings it back."""
        return self.state in FINAL

    @property
    def attempt(self) -> Attempt | None:
        """The attempt that runs now."""
        last = self.tried[-1] if self.tried else None
        return last if last and last.state == "running" else None

    @property
    def name(self) -> str:
        """What its user called it, else its id."""
        return self.request.get("name") or self.id


# What is written of a job beside its number and what it asks for, with what each is at the start: that is left out.
WRITTEN = {
    "state": "queued",
    "submitted": 0.0,
    "started": None,
    "ended": None,
    "exit_code": None,
    "reason": "",
    "retries_used": 0,
    "losses": 0,
    "queued_since": 0.0,
    "array_index": None,
    "array_id": "",
}


def new_job_id() -> str:
    """Nobody can guess it."""
    return "j-" + base64.b32encode(secrets.token_bytes(5)).decode().lower()


def record_of(job: Job, **changed: Any) -> Statement:
    """Writes the job down, as if it had these other values."""
    body = {name: value for name, usual in WRITTEN.items() if (value := getattr(job, name)) != usual}
    body.update(changed, asked=job.asked.digest)
    return statement("INSERT OR REPLACE INTO jobs VALUES (?,?,?)", (job.id, job.seq, json.dumps(body)))


def number_of(attempt_id: str) -> int:
    """N of "JOB/N"."""
    return int(attempt_id.rsplit("/", 1)[1])


def task_id(attempt_id: str, rank: int) -> str:
    """ "JOB/N/RANK"."""
    return f"{attempt_id}/{rank}"


def split_task(task: str) -> tuple[str, str, int]:
    """(job id, attempt id, rank) of "JOB/N/RANK"."""
    attempt, rank = task.rsplit("/", 1)
    return attempt.rsplit("/", 1)[0], attempt, int(rank)
