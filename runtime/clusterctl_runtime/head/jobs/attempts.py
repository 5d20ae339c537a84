"""Attempts: starting ranks on nodes, taking their reports, retrying, cancelling.

At-least-once, fenced by attempt id: an attempt is on disk before a node hears of it, a report of an attempt that is over is
answered with a kill, and a lost attempt's id is never used again.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

from clusterctl.core.charging import share_of
from clusterctl_runtime.head.clock import steady_time
from clusterctl_runtime.head.jobs.book import LOST_RETRIES, JobBook
from clusterctl_runtime.head.jobs.charges import EndedCharges
from clusterctl_runtime.head.jobs.job import Attempt, Job, number_of, split_task, task_id
from clusterctl_runtime.head.metrics.counts import Counts
from clusterctl_runtime.head.nodes.ledger import Holding, Ledger
from clusterctl_runtime.head.storage.events import EventLog
from clusterctl_runtime.head.storage.logs import LogStore
from clusterctl_runtime.wire import TaskReport, TaskSpec, WireError

log = logging.getLogger(__name__)
GRACE_SECONDS = 10.0
PARCEL_BYTES = 4 * 1024 * 1024  # of tasks in one message, whose limit is four times that
Send = Callable[[str, dict[str, Any]], bool]  # (node id, message) -> it was sent
_Rank = tuple[Job, Attempt, int, dict[str, Any]]  # and its TaskSpec as JSON


class Work:
    """Owns the transitions of attempts. Everything is written to the store; callers flush before they acknowledge."""

    def __init__(
        self,
        book: JobBook,
        ledger: Ledger,
        logs: LogStore,
        events: EventLog,
        send: Send,
        freed: Callable[[str], None],
        counts: Counts | None = None,
    ):
        self.book = book
        self.ledger = ledger
        self.logs = logs
        self.events = events
        self._send = send
        self._freed = freed  # a node has room again
        self.ended: Callable[[str, Job, TaskReport], None] = lambda task, job, report: None  # told of each rank's end
        self.charges = EndedCharges(book.jobs.values(), book.forgotten.charges)
        self._counts = counts or Counts()
        self._places: dict[str, dict[str, Job]] = {}  # node id -> tasks there whose end is not known -> their jobs
        book.doomed = self._tell_doomed

    # ------------------------------------------------------------ starting

    def assign(self, job: Job, node_ids: Sequence[str], gpu_ids: dict[int, list[int]] | None = None) -> Attempt:
        """Records the next attempt of `job` on `node_ids` (by rank) and books its shares. Flush, then `launch`. LookupError where
        a node has no books (any more): nothing was recorded then."""
        now = steady_time()
        books = self.ledger.all_of(node_ids)
        if books is None:
            raise LookupError(f"{job.id} cannot start on {', '.join(node_ids)}: not all of them are there")
        shares = [share_of(job.shape.resources, b.total) for b in books]
        attempt = Attempt(
            id=next_attempt_id(job),
            state="running",
            nodes=list(node_ids),
            generations=[b.generation for b in books],
            started=now,
            gpu_ids=gpu_ids or {},
            shares=[round(share, 6) for share in shares],
            rates=[round(share * b.price, 6) for share, b in zip(shares, books, strict=True)],
        )
        job.attempts.append(attempt)
        self._book_shares(job, attempt, now)
        if books:
            self._counts.job_wait.labels(books[0].pool).observe(max(0.0, now - job.queued_since))
        self.book.move(job, "running")
        self.book.save_attempt(job, attempt)
        where = ", ".join(sorted(set(node_ids)))
        self.events.add(
            "job",
            job.id,
            "started",
            f"attempt {number_of(attempt.id)} of {job.name} starts on {where}",
            nodes=list(node_ids),
        )
        return attempt

    def _book_shares(self, job: Job, attempt: Attempt, now: float) -> None:
        for rank, node_id in enumerate(attempt.nodes):
            if rank not in attempt.exits:
                self._places.setdefault(node_id, {})[task_id(attempt.id, rank)] = job
                self._book_share(job, attempt, rank, now)

    def _book_share(self, job: Job, attempt: Attempt, rank: int, now: float) -> None:
        books = self.ledger.get(attempt.nodes[rank])
        if books is None or books.generation != attempt.generations[rank]:
            return
        task = task_id(attempt.id, rank)
        if task not in books.holdings:
            books.hold(task, Holding(job.shape.resources, now, gpu_ids=attempt.gpu_ids.get(rank)))
        books.holdings[task].starting = False
        books.busy = now

    def restore(self) -> None:
        """After a start: the shares of attempts that were running are theirs until their nodes say otherwise."""
        for job in self.book.running.values():
            if job.attempt:
                self._book_shares(job, job.attempt, steady_time())

    def restore_on(self, node_id: str) -> None:
        """The same on one node, which was found again by its tags and has new books."""
        for job, attempt, rank in self._ranks_on(node_id):
            self._book_share(job, attempt, rank, steady_time())

    def launch(self, starts: Iterable[tuple[Job, Attempt, Callable[[int], TaskSpec]]]) -> None:
        """Sends the ranks of attempts to their nodes, in messages of bounded size. One that cannot be sent concerns nobody else:
        its attempt goes back to the queue where its node is away, and has failed where no message could ever hold it."""
        by_node: dict[str, list[_Rank]] = {}
        for job, attempt, spec_of in starts:
            for rank, node_id in enumerate(attempt.nodes):
                by_node.setdefault(node_id, []).append((job, attempt, rank, spec_of(rank).to_json()))
        for node_id, ranks in by_node.items():
            for part in _parcels(ranks):
                self._send_ranks(node_id, part)

    def _send_ranks(self, node_id: str, ranks: Sequence[_Rank]) -> None:
        wanted = [r for r in ranks if not r[1].stopping]  # the others were to end before they began
        error = ""
        try:
            sent = not wanted or self._send(node_id, {"t": "run", "tasks": [spec for _, _, _, spec in wanted]})
        except WireError as fault:
            log.error("%s is not told of %d tasks: %s", node_id, len(wanted), fault)
            sent, error = False, f"could not be sent: {fault}; make its command and environment smaller"
        for job, attempt, rank, _ in ranks:
            if (attempt.stopping or not sent) and attempt.state == "running" and rank not in attempt.exits:
                stopped = "" if error else "recalled"
                report = TaskReport(task_id(attempt.id, rank), "exited", error=error, stopped=stopped)
                self._rank_ended(job, attempt, rank, report)

    # ------------------------------------------------------------ reports

    def report(self, node_id: str, report: TaskReport) -> None:
        """Takes one report of a node. What runs and should not (its attempt is over, or to be ended) is told to end, each time
        that it is reported: a kill is said until it has come true."""
        job_id, attempt_id, rank = split_task(report.task)
        job = self.book.jobs.get(job_id)
        attempt = job.attempt if job else None
        if job is None or attempt is None or attempt.id != attempt_id or attempt.nodes[rank] != node_id:
            if report.state == "running":
                self._kill(node_id, report.task, "stale attempt")
            return
        if report.state == "running":
            self._note_running(job, attempt, rank, report)
            return
        if rank in attempt.exits:
            return
        if not report.lost:
            self.logs.expect(report.task, report.log_size)
        self._rank_ended(job, attempt, rank, report)

    def _note_running(self, job: Job, attempt: Attempt, rank: int, report: TaskReport) -> None:
        if report.gpu_ids:
            attempt.gpu_ids[rank] = report.gpu_ids
        if job.nodes == 1 and report.ran is not None:  # it may have waited on its node behind another one
            began = steady_time() - report.ran
            attempt.started = min(attempt.started, began) if attempt.begun else began  # a report is late, never early
            attempt.begun = True
        if attempt.stopping:
            self._kill(attempt.nodes[rank], report.task, attempt.reason)

    def _kill(self, node_id: str, task: str, reason: str) -> None:
        self._send(node_id, {"t": "kill", "tasks": [task], "grace_seconds": GRACE_SECONDS, "reason": reason})

    def _rank_ended(self, job: Job, attempt: Attempt, rank: int, report: TaskReport) -> None:
        attempt.exits[rank] = report.exit_code
        self._release(attempt, rank)
        self.ended(report.task, job, report)
        code = report.exit_code
        if report.stopped == "recalled":
            self._stop_ranks(attempt, "recalled", "it was called back before it started")
        elif report.stopped == "port_taken":
            self._stop_ranks(attempt, "recalled", report.error)
        elif report.lost or (report.stopped == "killed" and not attempt.stopping):
            # Whoever ends a program, if not the head, has ended its agent: how the program took that says nothing of its work.
            self._stop_ranks(attempt, "lost", f"rank {rank} was lost: {report.error or 'its agent was restarted'}")
        elif report.stopped == "timeout":
            self._stop_ranks(
                attempt, "timeout", f"it ran longer than its timeout of {job.request.get('timeout'):g} s", code
            )
        elif code != 0 and not attempt.stopping:
            which = f"rank {rank} " if job.nodes > 1 else ""
            how = report.error or (
                f"was ended by signal {code - 128}" if code and code > 128 else f"exited with code {code}"
            )
            self._stop_ranks(attempt, "failed", f"{which}{how}".strip(), code)
        if len(attempt.exits) == len(attempt.nodes):
            self._finish(job, attempt)
        else:
            self.book.save_attempt(job, attempt)

    def _stop_ranks(self, attempt: Attempt, why: str, reason: str, exit_code: int | None = None) -> None:
        """A gang lives and dies together: tells the other ranks to end. The first cause is the one that counts."""
        if attempt.stopping:
            return
        attempt.stopping, attempt.reason = why, reason
        if exit_code is not None:
            attempt.exit_code = exit_code
        self._kill_ranks(attempt)

    def _kill_ranks(self, attempt: Attempt) -> None:
        for rank, node_id in enumerate(attempt.nodes):
            if rank not in attempt.exits:
                self._kill(node_id, task_id(attempt.id, rank), attempt.reason)

    def _release(self, attempt: Attempt, rank: int) -> None:
        node_id, task = attempt.nodes[rank], task_id(attempt.id, rank)
        places = self._places.get(node_id, {})
        places.pop(task, None)
        if not places:
            self._places.pop(node_id, None)
        books = self.ledger.get(node_id)
        if books and books.generation == attempt.generations[rank]:
            books.release(task)
            books.busy = steady_time()
            self._freed(node_id)

    def _finish(self, job: Job, attempt: Attempt) -> None:
        """All ranks are accounted for: the attempt ends, the job with it or it is queued again."""
        attempt.ended = steady_time()
        outcome = attempt.stopping or "succeeded"
        self._counts.attempts.labels(outcome).inc()
        self.charges.add(job, attempt)
        attempt.state = {"failed": "failed", "timeout": "failed", "cancelled": "cancelled", "lost": "lost"}.get(
            outcome, outcome
        )
        if attempt.state == "succeeded":
            attempt.exit_code = 0
        elif attempt.exit_code is None:
            attempt.exit_code = next((c for c in attempt.exits.values() if c), None)
        self.book.save_attempt(job, attempt)
        if outcome == "recalled":
            self._retry(job, attempt, attempt.reason)
        elif outcome == "failed" and job.retries_used < (job.request.get("max_retries") or 0):
            job.retries_used += 1
            self._retry(job, attempt, f"retry {job.retries_used} of {job.request['max_retries']}: {attempt.reason}")
        elif outcome == "lost" and job.losses < _loss_budget(job):
            job.losses += 1
            self._retry(job, attempt, f"its node was lost ({attempt.reason}): tried again")
        else:
            self._end(job, attempt)

    def _retry(self, job: Job, attempt: Attempt, reason: str) -> None:
        self.events.add("job", job.id, "retry", f"{job.name}: {reason}", attempt=attempt.id)
        self.book.move(job, "queued", reason)
        self._freed("")

    def _end(self, job: Job, attempt: Attempt) -> None:
        state = {"succeeded": "succeeded", "cancelled": "cancelled"}.get(attempt.state, "failed")
        reason = attempt.reason
        if attempt.state == "lost":
            reason = f"{attempt.reason}; it was lost {job.losses + 1} times, more than --max-retries allows"
        job.exit_code = attempt.exit_code
        self.book.move(job, state, reason)
        self.events.add(
            "job", job.id, state, f"{job.name} {state}" + (f": {reason}" if reason else ""), exit_code=job.exit_code
        )

    # ------------------------------------------------------------ losses and requests

    def reconcile(self, node_id: str, generation: int, known: Iterable[TaskReport]) -> None:
        """A node (re)joined and told what it knows. What we gave it and it does not know is lost."""
        told = {report.task: report for report in known}
        for job, attempt, rank in self._ranks_on(node_id):
            if attempt.generations[rank] == generation and task_id(attempt.id, rank) not in told:
                self._rank_lost(job, attempt, rank, "its agent does not know it any more")
        for report in told.values():
            self.report(node_id, report)

    def node_lost(self, node_id: str, reason: str) -> None:
        """A node is gone for good: every rank on it is lost."""
        for job, attempt, rank in self._ranks_on(node_id):
            if attempt.state == "running":
                self._rank_lost(job, attempt, rank, reason)

    def lose_unknown(self, generations: Mapping[str, int]) -> None:
        """Of attempts that count as running, ranks whose node has no record any more are lost. `generations`: of the nodes
        that there are."""
        for job in list(self.book.running.values()):
            attempt = job.attempt
            for rank, node_id in enumerate(attempt.nodes if attempt else ()):
                if attempt and rank not in attempt.exits and generations.get(node_id) != attempt.generations[rank]:
                    self._rank_lost(job, attempt, rank, "it has gone while the head was away")

    def _ranks_on(self, node_id: str) -> list[tuple[Job, Attempt, int]]:
        """What runs there as far as is known: found by the node, however much runs elsewhere."""
        found = []
        for task, job in self._places.get(node_id, {}).items():
            _, attempt_id, rank = split_task(task)
            if job.attempt and job.attempt.id == attempt_id and rank not in job.attempt.exits:
                found.append((job, job.attempt, rank))
        return found

    def _rank_lost(self, job: Job, attempt: Attempt, rank: int, reason: str) -> None:
        report = TaskReport(
            task_id(attempt.id, rank), "exited", lost=True, error=f"node {attempt.nodes[rank]}: {reason}"
        )
        self.logs.close(report.task)
        self._rank_ended(job, attempt, rank, report)

    def cancel(self, job: Job, reason: str = "cancelled by request") -> None:
        """A queued job ends at once; a running one is asked to end and ends with its last rank."""
        if job.final:
            return
        attempt = job.attempt
        if attempt is None:
            self.book.move(job, "cancelled", reason)
            self.events.add("job", job.id, "cancelled", f"{job.name} was cancelled while it waited")
            return
        if attempt.stopping:
            self._kill_ranks(attempt)  # said again: whoever asks again has reason to
        self._stop_ranks(attempt, "cancelled", reason)
        self.book.save_attempt(job, attempt)
        self.events.add("job", job.id, "cancelling", f"{job.name} is being ended: {reason}")

    def _tell_doomed(self, job: Job) -> None:
        self.events.add("job", job.id, "cancelled", f"{job.name} was cancelled: {job.reason}")

    def rerun(self, job: Job) -> None:
        """Queues a job that has ended once more, with a fresh retry budget."""
        job.retries_used = job.losses = 0
        job.ended, job.exit_code = None, None
        self.book.move(job, "queued", "queued again by request")
        self.events.add("job", job.id, "retry", f"{job.name} is queued again by request")
        self._freed("")


def next_attempt_id(job: Job) -> str:
    """ "JOB/N", with numbers from 1."""
    return f"{job.id}/{number_of(job.attempts[-1].id) + 1 if job.attempts else 1}"


def _parcels(ranks: Sequence[_Rank]) -> Iterator[list[_Rank]]:
    """In order, in parts of at most PARCEL_BYTES each (or of one rank)."""
    if len(ranks) == 1:  # most often: it need not be measured
        yield list(ranks)
        return
    part: list[_Rank] = []
    size = 0
    for rank in ranks:
        more = len(json.dumps(rank[3]))
        if part and size + more > PARCEL_BYTES:
            yield part
            part, size = [], 0
        part.append(rank)
        size += more
    if part:
        yield part


def _loss_budget(job: Job) -> int:
    wanted = job.request.get("max_retries")
    return LOST_RETRIES if wanted is None else int(wanted)
