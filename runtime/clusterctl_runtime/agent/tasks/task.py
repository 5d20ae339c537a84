"""One task on this node: what was asked, how far it is, and the file descriptors and timers that belong to it."""

from __future__ import annotations

import asyncio
import socket
import time
from pathlib import Path

from clusterctl_runtime.agent.logs.unsent import Output
from clusterctl_runtime.agent.tasks.cgroups import ControlGroup
from clusterctl_runtime.agent.tasks.gpus import Share
from clusterctl_runtime.wire import Message, TaskReport, TaskSpec

WAITING = "waiting"  # taken, not started: its turn has not come or its package is under way
RUNNING = "running"
LINGERING = "lingering"  # the program ended; what it started has a moment, or the rest of the grace
DYING = "dying"  # the program is reaped, what it started has been killed
ENDED = "ended"


class Task:
    __slots__ = (
        "acknowledged",
        "began",
        "claim",
        "deadline",
        "directory",
        "group",
        "kill_at",
        "layer",
        "memory_kills",
        "output",
        "pipe",
        "preparing",
        "queued_to_send",
        "reading",
        "report",
        "share",
        "spec",
        "stage",
        "timer",
    )

    def __init__(self, spec: TaskSpec, output: Output) -> None:
        self.spec = spec
        self.report = TaskReport(task=spec.task, state="running")
        self.output = output
        self.stage = WAITING
        self.began: float | None = None  # when the program was started, by the steady clock
        self.share = Share()
        self.pipe = -1
        self.claim: socket.socket | None = None  # on the port where it is going to listen
        self.reading = False
        self.group: ControlGroup | None = None
        self.memory_kills = 0  # what the kernel had killed on this node when it began
        self.directory: Path | None = None
        self.layer: Path | None = None  # the environment with its requirements, which stays as long as it runs
        self.preparing: asyncio.Task[None] | None = None
        self.deadline: asyncio.TimerHandle | None = None  # the spec's timeout
        self.timer: asyncio.TimerHandle | None = None  # the next harsher signal
        self.kill_at = 0.0  # of one that is being stopped: when its grace is over, by the loop's clock
        self.acknowledged = False
        self.queued_to_send = False

    @property
    def id(self) -> str:
        return self.spec.task

    @property
    def finished(self) -> bool:
        """The head has its end and its whole log: nothing is left to do."""
        return self.acknowledged and self.output.done

    def message(self) -> Message:
        """Its report as of now."""
        if self.began is not None and self.stage != ENDED:
            self.report.ran = time.monotonic() - self.began
        return dict(vars(self.report))

    def cancel_timers(self) -> None:
        """Neither its timeout nor a harsher signal comes any more. Idempotent."""
        for handle in (self.deadline, self.timer):
            if handle:
                handle.cancel()
        self.deadline = self.timer = None

    def end(self, exit_code: int | None, error: str = "") -> None:
        """Writes the final report."""
        self.cancel_timers()
        if self.claim is not None:
            self.claim.close()
        self.claim = None
        self.stage = ENDED
        self.output.seal()
        report = self.report
        report.state, report.exit_code, report.ended = "exited", exit_code, time.time()
        report.log_size = self.output.total
        report.error = report.error or error
