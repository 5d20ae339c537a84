"""Waiting for a job: its output as it comes, why it waits meanwhile, and what Ctrl-C means."""

from __future__ import annotations

import re
import select
import signal
import socket
import sys
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager

import typer

from clusterctl.cli.call import Call
from clusterctl.cli.render.arrays import ArrayProgress
from clusterctl.cli.render.logs import LogPrinter
from clusterctl.cli.render.text import counts_text
from clusterctl.client.head.api import Api, follow
from clusterctl.client.submit.failures import failures_of
from clusterctl.client.submit.logs import FINAL, End, LogReader
from clusterctl.core.errors import ClusterctlError

INTERRUPTED = 130  # 128 + SIGINT: what a shell expects of a program that Ctrl-C ended
QUIET_SECONDS = 0.3  # most jobs have begun by then: only those that have not are asked why
_COUNTDOWN = re.compile(r"\d+(?:\.\d+)? (?:s|min|h)\b")
_COUNTED = re.compile(r"^running; .*? waits?\b")  # how many tasks of it


def wait_for_job(call: Call, api: Api, job_id: str, *, ranks: int) -> int:
    """Streams the job's log to its end; returns the exit code for the shell. Ctrl-C asks whether to cancel or detach."""
    reader, printer = LogReader(api, job_id, ranks=ranks), LogPrinter(ranks=ranks > 1, as_json=call.json)
    cancelled = False
    while True:
        try:
            end = _stream(call, api, job_id, reader, printer)
            break
        except KeyboardInterrupt:
            if cancelled or not _wants_cancel(job_id):
                call.say(f"\ndetached: job {job_id} goes on. `clusterctl logs -f {job_id}` shows its output again,")
                call.say(f"`clusterctl job cancel {job_id}` ends it")
                return INTERRUPTED
        api.clone().post_once(f"/api/v1/jobs/{job_id}/cancel", {})
        call.say(f"cancelling job {job_id}; Ctrl-C again detaches")
        cancelled = True
    return _told(call, api, job_id, end)


def watch_job(call: Call, api: Api, job_id: str, *, ranks: int) -> int:
    """As `wait_for_job`, for whoever deals with Ctrl-C itself."""
    reader, printer = LogReader(api, job_id, ranks=ranks), LogPrinter(ranks=ranks > 1, as_json=call.json)
    return _told(call, api, job_id, _stream(call, api, job_id, reader, printer))


def _told(call: Call, api: Api, job_id: str, end: End) -> int:
    """The exit code; why it did not succeed is said."""
    if end.state != "succeeded":
        reason = api.clone().get_at_last(f"/api/v1/jobs/{job_id}").get("reason")
        call.say(f"job {job_id} {end.state}" + (f": {reason}" if reason else ""))
    return exit_code(end)


def exit_code(end: End) -> int:
    """The program's own code; 1 where the job did not succeed and no code of the program says so."""
    return (end.exit_code or 0) if end.state == "succeeded" else (end.exit_code or 1)


def _stream(call: Call, api: Api, job_id: str, reader: LogReader, printer: LogPrinter) -> End:
    reasons = Reasons(call, api.clone(), job_id)
    reasons.start()
    end: End | None = None
    try:
        with closing(reader.pieces(follow_on=True)) as pieces:
            for piece in pieces:
                reasons.begun()
                if isinstance(piece, End):
                    end = piece
                else:
                    printer.show(piece)
    finally:
        reasons.stop()
    printer.end(end)
    if end is None:
        raise ClusterctlError(
            f"the log of job {job_id} ended before the job: `clusterctl job show {job_id}` says how it is"
        )
    return end


def _wants_cancel(job_id: str) -> bool:
    """Asks on a terminal; elsewhere, and after a second Ctrl-C, the job goes on."""
    if not (sys.stdin.isatty() and sys.stderr.isatty()):
        return False
    try:
        with _ctrl_c_as_input() as ctrl_c:
            typer.echo(f"\nJob {job_id}: cancel it, or detach and let it go on? [c/D] ", nl=False, err=True)
            ready, _, _ = select.select([sys.stdin, ctrl_c], [], [])
            answer = sys.stdin.readline() if sys.stdin in ready else ""
    except KeyboardInterrupt:
        return False
    return answer.strip().lower().startswith("c")


@contextmanager
def _ctrl_c_as_input() -> Iterator[socket.socket]:
    """A socket that can be read once a signal came. A Ctrl-C in the instant before a blocking read begins would only be
    noticed with the next key."""
    heard, told = socket.socketpair()
    with heard, told:
        told.setblocking(False)
        before = signal.set_wakeup_fd(told.fileno())
        try:
            yield heard
        finally:
            signal.set_wakeup_fd(before)


class Reasons(threading.Thread):
    """Says on stderr why the job waits, once per reason: for its start, and while it runs for what it wants of Ray. A countdown
    in it, or how many tasks wait for the same, makes no other. A thread of its own, since the main one is reading the log; it
    ends with the process."""

    def __init__(self, call: Call, api: Api, job_id: str) -> None:
        super().__init__(daemon=True, name=f"reasons of {job_id}")
        self._call = call
        self._api = api
        self._job_id = job_id
        self._begun = False
        self._over = threading.Event()

    def begun(self) -> None:
        """It runs: why it was queued is said no more."""
        self._begun = True

    def stop(self) -> None:
        """Nothing more is said. The thread itself may go on until its stream says something."""
        self._over.set()

    def run(self) -> None:
        if self._call.quiet or self._over.wait(QUIET_SECONDS):
            return
        last, said = "", set[str]()
        try:
            for job in follow(lambda: self._api.stream(f"/api/v1/jobs/{self._job_id}/watch")):
                if self._over.is_set() or job.get("state") in FINAL:
                    return
                queued, text = job.get("state") == "queued", waiting_text(job)
                reason = _COUNTED.sub("", _COUNTDOWN.sub("", text))
                if not reason or (reason == last or self._begun if queued else reason in said):
                    continue
                self._call.say(text)
                last = reason
                said.add(reason)
        except ClusterctlError:
            return  # the log's own stream says what is wrong


def waiting_text(job: dict[str, object]) -> str:
    """ "waiting for 1 x GPU: launching g6.xlarge, ready in about 70 s", "running; 3 tasks wait for ...", "" when nothing is known
    or waits."""
    wait = job.get("wait")
    if not isinstance(wait, dict):
        return ""
    text = str(wait.get("text") or "")
    if text and job.get("state") == "running":
        text = f"running; {text}"
    elif text and not text.startswith("waiting"):
        text = f"waiting: {text}"
    return f"{text} ({wait['fix']})" if text and wait.get("fix") else text


def wait_for_array(call: Call, api: Api, array_id: str) -> int:
    """Waits for every job of an array and says how they ended; 0 when all succeeded, else 1."""
    progress = ArrayProgress(array_id, call.quiet)
    try:
        counts = _follow_array(api, array_id, progress)
    except KeyboardInterrupt:
        call.say(f"\ndetached: the jobs of {array_id} go on. `clusterctl job cancel {array_id}` ends them")
        return INTERRUPTED
    finally:
        progress.end()
    if counts.get("failed") and not call.quiet:
        _say_failures(call, api, array_id, counts["failed"])
    document = {"id": array_id, "counts": counts}
    call.show(document, lambda _: f"array {array_id}: {counts_text(counts)}")
    return 0 if set(counts) <= {"succeeded"} else 1


def _follow_array(api: Api, array_id: str, progress: ArrayProgress) -> dict[str, int]:
    """How many members ended in which state, once all have."""
    for array in follow(lambda: api.stream(f"/api/v1/arrays/{array_id}/watch")):
        counts: dict[str, int] = array["counts"]
        if set(counts) <= FINAL:
            return counts
        progress.show(counts)
    raise ClusterctlError(f"the head ended before the jobs of {array_id}: `clusterctl up SPEC` starts it again")


def _say_failures(call: Call, api: Api, array_id: str, count: int) -> None:
    """A few of the jobs that failed, with the first lines of their output."""
    failures = failures_of(api, array_id)
    for failure in failures:
        call.say(f"job {failure.job} failed" + (f": {failure.reason}" if failure.reason else ""))
        for line in failure.lines:
            call.say(f"  | {line}")
    if count > len(failures):
        call.say(
            f"{count - len(failures):,} more failed: `clusterctl jobs --array {array_id} --state failed` lists them"
        )
