"""Every task of this node, from the head's `run` to the head's `ack`.

Invariants: a task id runs at most once; a report is kept until it is acknowledged; when a task has ended nothing that
it started is alive, its GPUs are free and its directory is gone.
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import time
from collections import deque
from collections.abc import Callable
from pathlib import Path

from clusterctl_runtime.agent.logs.pipes import Pipes
from clusterctl_runtime.agent.logs.unsent import LogBudget, Output
from clusterctl_runtime.agent.measuring.jobs import Running
from clusterctl_runtime.agent.outbox import Outbox
from clusterctl_runtime.agent.preparing.layers import Layers, inside
from clusterctl_runtime.agent.preparing.packages import PackageError, PackageMissed, Packages
from clusterctl_runtime.agent.preparing.removal import remove_tree
from clusterctl_runtime.agent.tasks.environ import NotReady
from clusterctl_runtime.agent.tasks.exits import Exits
from clusterctl_runtime.agent.tasks.gpus import Gpus, NoFreeGpu
from clusterctl_runtime.agent.tasks.journal import Journal
from clusterctl_runtime.agent.tasks.leftovers import Leftovers
from clusterctl_runtime.agent.tasks.memory import LOOK_SECONDS, MemoryKills
from clusterctl_runtime.agent.tasks.spawn import CannotStart, spawn
from clusterctl_runtime.agent.tasks.task import DYING, ENDED, LINGERING, RUNNING, WAITING, Task
from clusterctl_runtime.agent.tasks.watchdog import Watchdog
from clusterctl_runtime.engine.ports import claim_port
from clusterctl_runtime.wire import Message, TaskReport, TaskSpec

log = logging.getLogger(__name__)
LINGER_SECONDS = 1.0  # what the rest of a task gets to finish its output once the program itself has ended
TIMEOUT_GRACE_SECONDS = 10.0
_LOOK_SECONDS = 0.05  # between two looks whether the rest of a task that is being stopped has ended
_FIRST_PAUSE, _LONGEST_PAUSE = 0.005, 1.0  # between two looks whether what was killed is gone
SHUTDOWN_SECONDS = (
    0.5  # for which the end of a program by a signal of others is not told: this agent may be ended as well
)
_SHUTDOWN_SIGNALS = frozenset({signal.SIGTERM, signal.SIGHUP, signal.SIGINT, signal.SIGKILL})
_REMEMBERED = 10_000  # acknowledged tasks whose repetition is still recognised
_SLICE_SECONDS = 0.01  # of starting programs, before exits and messages get their turn


class Runner:
    """`environment(spec)` gives a task's variables (raises NotReady)."""

    def __init__(
        self,
        work: Path,
        journal: Journal,
        packages: Packages,
        layers: Layers,
        gpus: Gpus,
        budget: LogBudget,
        watchdog: Watchdog,
        leftovers: Leftovers,
        exits: Exits,
        environment: Callable[[TaskSpec], dict[str, str]],
        outbox: Outbox,
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._work, self._journal, self._packages, self._gpus = work, journal, packages, gpus
        self._layers = layers
        self._budget, self._watchdog, self._exits = budget, watchdog, exits
        self._environment, self._outbox, self._leftovers = environment, outbox, leftovers
        self._null = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
        self._tasks: dict[str, Task] = {}
        self._past: dict[str, Message] = {}  # acknowledged, oldest first
        self._queue: deque[Task] = deque()  # to be started
        self._followers: dict[str, list[Task]] = {}  # by the task that must end first
        self._starting = False
        self._closed = ""  # why no task is taken any more
        self._pipes = Pipes(self._loop, outbox, self._pipe_ended)
        self._memory = MemoryKills()
        self._looking: asyncio.TimerHandle | None = None
        self._directories = 0
        self._active = 0  # tasks that have not ended
        self._idle = asyncio.Event()
        self._idle.set()
        self._settled = asyncio.Event()

    def recover(self, open_tasks: dict[str, Message | None]) -> None:
        """Tasks of an earlier agent here: their ends if it saw them, else they are lost (and dead by now)."""
        for task_id, report in open_tasks.items():
            task = Task(TaskSpec(task=task_id, argv=[]), Output(0, self._budget))
            if report is not None:
                task.report = TaskReport.from_json({**report, "log_size": 0})
            else:
                task.report.lost = True
                task.report.error = "the agent of this node died while the task ran"
                task.end(None)
            task.stage = ENDED
            task.output.seal()
            self._tasks[task_id] = task

    def run(self, specs: list[TaskSpec]) -> None:
        """Starts them in turn, once they are in the journal. Of one that came before only the report is sent again."""
        for spec in specs:
            known = self._tasks.get(spec.task)
            if known is not None:
                self._outbox.report(known)
            elif spec.task in self._past:
                self._outbox.answer(self._past[spec.task])
            elif self._closed:
                refused = TaskReport(spec.task, "exited", lost=True, error=f"it was never started: {self._closed}")
                self._outbox.answer(dict(vars(refused)))
            else:
                task = self._tasks[spec.task] = Task(spec, Output(spec.log_cap, self._budget))
                self._journal.ran(spec.task)
                self._line_up(task)
                self._active += 1
                self._idle.clear()
        self._journal.write()
        self._start_soon()

    def _line_up(self, task: Task) -> None:
        """To be started now, or when the task it waits for has ended."""
        ahead = self._tasks.get(task.spec.after)
        if ahead is not None and ahead.stage != ENDED:
            self._followers.setdefault(ahead.id, []).append(task)
        else:
            self._queue.append(task)

    def _start_soon(self) -> None:
        if self._queue and not self._starting:
            self._starting = True
            self._loop.call_soon(self._start_some)

    def recall(self, ids: list[str]) -> None:
        """Gives back tasks that were not started yet; those that were go on."""
        for task_id in ids:
            task = self._tasks.get(task_id)
            if task is not None and task.stage == WAITING and task.preparing is None:
                task.report.stopped = "recalled"
                self._end(task, None, "it was called back before it started")

    def kill(self, ids: list[str], grace: float, reason: str) -> None:
        """SIGTERM now and SIGKILL after `grace` seconds. One that is not here (any more) is answered at once."""
        for task_id in ids:
            task = self._tasks.get(task_id)
            if task is not None:
                self._stop(task, "killed", grace, reason)
            elif task_id in self._past:
                self._outbox.answer(self._past[task_id])
            else:
                error = "this node does not know the task: it was never started here"
                unknown = TaskReport(task=task_id, state="exited", lost=True, error=error)
                self._outbox.answer(dict(vars(unknown)))

    def end(self, grace: float, reason: str) -> None:
        """The agent ends: so do its tasks, and are lost, however their programs take it. None is taken any more."""
        self._closed = reason
        for task in list(self._tasks.values()):
            if task.stage != ENDED and not task.report.stopped:
                task.report.lost = True
            self._stop(task, "killed", grace, reason)

    def running(self) -> list[Running]:
        """What is measured of the tasks that run."""
        tasks = [task for task in self._tasks.values() if task.stage in (RUNNING, LINGERING)]
        return [Running(task.id, task.group, self._gpus.names(task.share), task.share.each) for task in tasks]

    @property
    def is_idle(self) -> bool:
        return self._idle.is_set()

    async def idle(self) -> None:
        """Returns when no task runs or waits."""
        await self._idle.wait()

    async def settled(self) -> None:
        """Returns when the head has every report and every log, too."""
        self._settled.clear()
        if self._tasks:
            await self._settled.wait()

    def acknowledge(self, ids: list[str], logs: dict[str, int]) -> None:
        """The head has the ends of `ids` on disk, and logs up to these offsets. What it has all of is forgotten here."""
        touched: list[Task] = []
        for task_id, offset in logs.items():
            task = self._tasks.get(task_id)
            if task is not None:
                task.output.acknowledge(offset)
                self._outbox.log(task)
                touched.append(task)
        for task_id in ids:
            task = self._tasks.get(task_id)
            if task is not None and task.stage == ENDED:
                task.acknowledged = True
                self._journal.acknowledged(task_id)
                self._outbox.note_soon()
                touched.append(task)
        for task in touched:
            if task.finished:
                self._forget(task)
        self._pipes.read_again()

    # -- the connection -----------------------------------------------------------------------------------------------

    def connected(self, yes: bool) -> None:
        """A connection begins (everything unacknowledged is sent again) or ends (logs go to the spool)."""
        self._budget.connected = yes
        if yes:
            for task in self._tasks.values():
                task.output.rewind()
                self._outbox.log(task)
        self._pipes.read_again()

    def reports(self) -> list[Message]:
        """Everything this node still knows, for `hello`. What changes from now on is sent after the welcome."""
        self._outbox.clear_reports()
        return [task.message() for task in self._tasks.values()]

    def _forget(self, task: Task) -> None:
        if self._tasks.pop(task.id, None) is None:
            return
        task.output.discard()
        self._past[task.id] = task.message()
        if len(self._past) > _REMEMBERED:
            del self._past[next(iter(self._past))]
        if not self._tasks:
            self._settled.set()

    # -- starting -----------------------------------------------------------------------------------------------------

    def _start_some(self) -> None:
        until = time.monotonic() + _SLICE_SECONDS
        while self._queue and time.monotonic() < until:
            task = self._queue.popleft()
            if task.stage != WAITING:
                continue  # killed while it waited
            if task.spec.port and not self._claim_port(task):
                continue
            if task.spec.package or task.spec.requirements:
                task.preparing = asyncio.ensure_future(self._prepare(task))
            else:
                self._start(task)
        self._starting = bool(self._queue)
        if self._starting:
            self._loop.call_soon(self._start_some)

    async def _prepare(self, task: Task) -> None:
        """Fetches and unpacks the package, installs what it requires, then starts the task."""
        spec, directory = task.spec, self._make_directory(task)
        try:
            if spec.package:
                await self._packages.unpack(spec.package, directory)
            if spec.requirements and task.stage == WAITING:
                task.layer = await self._layers.hold(spec.requirements, spec.python, self._environment(spec))
        except (PackageMissed, NotReady) as error:
            self._never_started(task, None, str(error), lost=True)
        except PackageError as error:
            self._never_started(task, None, str(error))
        except Exception as error:  # whatever it is, the head must hear of it
            log.exception("preparing %s", task.id)
            self._never_started(task, None, f"preparing the task failed: {error!r}", lost=True)
        task.preparing = None
        if task.stage == WAITING:
            self._start(task)
        else:  # it failed, or was killed meanwhile
            self._release(task)
            self._remove_directory(task)

    def _start(self, task: Task) -> None:
        spec, report = task.spec, task.report
        try:
            task.share = self._gpus.assign(spec.gpus, spec.gpu_ids)
            env = self._environment(spec)
            env["CUDA_VISIBLE_DEVICES"] = self._gpus.visible(task.share)
            env.setdefault(
                "CUDA_DEVICE_ORDER", "PCI_BUS_ID"
            )  # numbers are nvidia-smi's, which CUDA counts only when told to
            directory = task.directory or self._make_directory(task)
            self._leftovers.about_to_begin()
            argv = spec.argv
            if task.layer is not None:
                argv, env = inside(task.layer, spec.python, argv, env)
            spawned = spawn(argv, env, str(directory), self._null)
            self._watchdog.add(spawned.pid)
        except CannotStart as error:
            self._never_started(task, error.exit_code, str(error))
            return
        except (NoFreeGpu, NotReady, OSError) as error:
            self._never_started(task, None, str(error), lost=True)
            return
        try:
            self._exits.watch(spawned.pid, lambda: self._program_ended(task))
        except OSError as error:
            os.killpg(spawned.pid, signal.SIGKILL)
            self._watchdog.remove(spawned.pid)
            self._exits.reap(spawned.pid)
            os.close(spawned.pipe)
            self._never_started(task, None, f"the program was started but cannot be watched: {error}", lost=True)
            return
        task.memory_kills = self._memory.look()
        self._look_at_memory()
        report.pid, report.started, report.gpu_ids = spawned.pid, time.time(), task.share.ids
        task.began = time.monotonic()
        task.stage, task.pipe = RUNNING, spawned.pipe
        self._leftovers.began(task)
        self._pipes.open(task)
        if spec.timeout is not None:
            task.deadline = self._loop.call_later(spec.timeout, self._time_out, task)
        self._outbox.report(task)

    def _claim_port(self, task: Task) -> bool:
        """Nobody else of this machine listens where it is going to, or is about to; else it ends, and its head gives it another
        port. Before its package is fetched: the other ranks are being started, too."""
        task.claim = claim_port(task.spec.port)
        if task.claim is None:
            task.report.stopped = "port_taken"
            taken = f"port {task.spec.port} of its node, where it was to listen, is taken: tried again with another"
            self._end(task, None, taken)
        return task.claim is not None

    def _look_at_memory(self) -> None:
        """So that a kill of long ago is not taken for the end of a task."""
        if self._looking is None:
            self._looking = self._loop.call_later(LOOK_SECONDS, self._look_again)

    def _look_again(self) -> None:
        self._looking = None
        self._memory.look()
        if self._active:
            self._look_at_memory()

    def _never_started(self, task: Task, exit_code: int | None, error: str, lost: bool = False) -> None:
        """`lost`: it is this node's fault, not the task's, so that the head may try it again elsewhere."""
        if task.stage == WAITING:
            task.report.lost = lost
            self._end(task, exit_code, error)

    # -- ending -------------------------------------------------------------------------------------------------------

    def _pipe_ended(self, task: Task) -> None:
        if task.stage == LINGERING and not task.report.stopped:
            self._finish(task)

    def _time_out(self, task: Task) -> None:
        self._stop(task, "timeout", TIMEOUT_GRACE_SECONDS, f"it ran longer than its timeout of {task.spec.timeout:g} s")

    def _stop(self, task: Task, how: str, grace: float, reason: str) -> None:
        """Ends a task that has not ended: SIGTERM to all of it now, SIGKILL after `grace` seconds."""
        if task.stage == ENDED:
            return
        if not task.report.stopped:
            task.report.stopped, task.report.error = how, reason
        if task.stage == WAITING:
            self._end(task, None, reason)
            return
        if task.stage == DYING:
            return
        self._leftovers.ask(task)
        if task.timer:
            task.timer.cancel()
        task.kill_at = self._loop.time() + grace
        task.timer = self._loop.call_later(grace, self._leftovers.kill, task)

    def _program_ended(self, task: Task) -> None:
        """The program itself is dead (and not reaped): what it started may be writing still."""
        task.stage = LINGERING
        if task.deadline:
            task.deadline.cancel()
        at_end = task.pipe < 0 or self._pipes.drain(task)
        if task.report.stopped:
            self._linger(task)  # what is left was asked to end, and has the rest of the grace
        elif at_end:
            self._finish(task)
        else:
            task.timer = self._loop.call_later(LINGER_SECONDS, self._end_rest, task)

    def _linger(self, task: Task) -> None:
        if task.stage != LINGERING:
            return
        if task.timer:
            task.timer.cancel()
        left = task.kill_at - self._loop.time()
        if left <= 0 or not self._leftovers.remain(task):
            self._end_rest(task)
        else:
            task.timer = self._loop.call_later(min(left, _LOOK_SECONDS), self._linger, task)

    def _end_rest(self, task: Task) -> None:
        """Whatever is left of it had its time."""
        self._leftovers.kill(task)
        if task.pipe >= 0:
            self._pipes.drain(task)
        self._finish(task)

    def _finish(self, task: Task) -> None:
        self._pipes.close(task)
        self._leftovers.kill(task)  # daemons, too, which have closed the pipe
        task.stage = DYING
        task.cancel_timers()
        self._watchdog.remove(task.report.pid)
        code, peak = self._exits.reap(task.report.pid)
        if not task.report.stopped:
            task.report.error = self._memory.verdict(task.memory_kills, code, peak)
        self._end_when_gone(task, code, _FIRST_PAUSE)

    def _end_when_gone(self, task: Task, code: int, pause: float) -> None:
        """A killed process still holds its memory and its GPU for an instant, and may have started another one: the end is said
        when nothing is left."""
        left = self._leftovers.remain(task)
        if left and pause < _LONGEST_PAUSE:
            self._leftovers.kill(task)
            self._loop.call_later(pause, self._end_when_gone, task, code, pause * 1.5)
            return
        if left:
            log.warning("%s: something of it does not die; going on without it", task.id)
        else:
            self._leftovers.gone(task)
        if code - 128 in _SHUTDOWN_SIGNALS and not task.report.stopped:
            # A machine that is shut down ends its programs and this agent in one instant, in any order.
            task.timer = self._loop.call_later(SHUTDOWN_SECONDS, self._end, task, code)
        else:
            self._end(task, code)

    def _end(self, task: Task, exit_code: int | None, error: str = "") -> None:
        task.end(exit_code, error)
        self._gpus.free(task.share)
        if task.preparing is None:
            self._release(task)
            self._remove_directory(task)
        self._journal.ended(task.message())
        self._outbox.log(task)
        self._outbox.report(task)
        self._queue.extend(self._followers.pop(task.id, ()))
        self._start_soon()
        self._active -= 1
        if not self._active:
            self._idle.set()

    # -- directories --------------------------------------------------------------------------------------------------

    def _make_directory(self, task: Task) -> Path:
        self._directories += 1
        task.directory = self._work / str(self._directories)
        task.directory.mkdir(mode=0o700)
        return task.directory

    def _release(self, task: Task) -> None:
        layer, task.layer = task.layer, None
        if layer is not None:
            self._layers.release(layer)

    def _remove_directory(self, task: Task) -> None:
        directory, task.directory = task.directory, None
        if directory is None:
            return
        try:
            directory.rmdir()  # most tasks leave nothing
        except OSError:
            self._loop.run_in_executor(None, remove_tree, directory)
