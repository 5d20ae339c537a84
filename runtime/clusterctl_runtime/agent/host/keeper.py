"""`agent.pyz --keep ROOT`: keeps the programs of `ROOT/keep.json` running on a machine that nobody else looks after.

`{"run": {"NAME": [argv...]}}`, each in a session of its own with its output in `ROOT/NAME.log`. A program that ends with 0
wanted to end and stays ended; any other is started again, at first soon, then with pauses. SIGHUP reads the file again, and
starts what does not run.
SIGTERM ends the programs and then this one. Nothing but its pid is state: a new one takes over where the last one stopped.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType

from clusterctl_runtime.agent.tasks.environ import machine_environment
from clusterctl_runtime.backoff import Backoff
from clusterctl_runtime.files.lock import LockHeld, take
from clusterctl_runtime.files.private import write_private

FIRST_PAUSE, LONGEST_PAUSE = 0.1, 10.0
STEADY_SECONDS = 60.0  # a program that ran so long starts the pauses anew
END_SECONDS = 15.0
LOG_BYTES = 5_000_000
LOGS_SECONDS = 60.0  # between two looks at how long the files are
_ENDED = 0


@dataclass
class Program:
    """One program. `argv` None: it is to end and be forgotten."""

    argv: list[str] | None
    process: subprocess.Popen[bytes] | None = None
    started: float = 0.0
    due: float = 0.0
    pauses: Backoff = field(default_factory=lambda: Backoff(FIRST_PAUSE, LONGEST_PAUSE))
    done: bool = field(default=False)


class Keeper:
    """The loop. A signal writes into a pipe, so that nothing is done inside a handler."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._programs: dict[str, Program] = {}
        self._stopping = self._reread = False
        self._read, self._write = os.pipe()
        os.set_blocking(self._write, False)
        os.set_blocking(self._read, False)

    def run(self) -> int:
        """Returns 0 when SIGTERM or SIGINT has come and the programs have ended; raises where the file cannot be read."""
        signal.set_wakeup_fd(self._write, warn_on_full_buffer=False)
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGCHLD):
            signal.signal(number, self._note)
        self._load()
        while not self._stopping:
            if self._reread:
                self._reread = False
                self._load()
            self._look()
            self._bound_logs()
            self._sleep()
        self._end([program for program in self._programs.values() if program.process])
        return 0

    def _note(self, number: int, frame: FrameType | None) -> None:
        self._stopping = self._stopping or number in (signal.SIGTERM, signal.SIGINT)
        self._reread = self._reread or number == signal.SIGHUP

    def _load(self) -> None:
        """Programs whose command line changed are ended and started anew; those that left the file are ended. One that does
        not run is started at once: somebody wants it now, and may have mended what was wrong."""
        wanted: dict[str, list[str]] = json.loads((self._root / "keep.json").read_text())["run"]
        changed = [p for name, p in self._programs.items() if p.argv != wanted.get(name)]
        self._end([program for program in changed if program.process])
        self._programs = {
            name: self._programs[name]
            if name in self._programs and self._programs[name] not in changed
            else Program(list(argv))
            for name, argv in wanted.items()
        }
        for program in self._programs.values():
            if program.process is None:
                program.done, program.due = False, 0.0
                program.pauses.reset()

    def _look(self) -> None:
        now = time.monotonic()
        for name, program in self._programs.items():
            if program.process is not None and program.process.poll() is not None:
                self._ended(name, program, now)
            if program.process is None and not program.done and program.due <= now:
                self._start(name, program, now)

    def _ended(self, name: str, program: Program, now: float) -> None:
        assert program.process is not None
        code = program.process.returncode
        program.process = None
        program.done = code == _ENDED
        if program.done:
            return
        if now - program.started > STEADY_SECONDS:
            program.pauses.reset()
        program.due = now + program.pauses.next()
        print(f"{name} ended with code {code}; starting it again", file=sys.stderr, flush=True)

    def _start(self, name: str, program: Program, now: float) -> None:
        assert program.argv is not None
        path = self._root / f"{name}.log"
        log = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        try:
            program.process = subprocess.Popen(
                program.argv, stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd=self._root, start_new_session=True
            )
            program.started = now
        except OSError as error:
            program.due = now + LONGEST_PAUSE
            print(f"{name} cannot be started: {error}", file=sys.stderr, flush=True)
        finally:
            os.close(log)

    def _bound_logs(self) -> None:
        """Programs run for months with their files open: the newest part is kept aside and the file emptied, also this
        program's own. What is written in that very moment may be lost."""
        for path in [self._root / f"{name}.log" for name in (*self._programs, "keep")]:
            with contextlib.suppress(OSError):  # not there; or a full disk, where at least nothing is kept aside
                if path.stat().st_size > LOG_BYTES:
                    shutil.copyfile(path, path.with_suffix(".log.1"))
                    os.truncate(path, 0)

    def _sleep(self) -> None:
        due = [p.due for p in self._programs.values() if p.process is None and not p.done]
        seconds = max(0.0, min(due) - time.monotonic()) if due else LOGS_SECONDS
        _wait_readable(self._read, min(seconds, LOGS_SECONDS))

    def _end(self, programs: list[Program]) -> None:
        running = [p.process for p in programs if p.process is not None and p.process.poll() is None]
        for process in running:
            process.send_signal(signal.SIGTERM)
        deadline = time.monotonic() + END_SECONDS
        for process in running:
            try:
                process.wait(max(0.0, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def _wait_readable(descriptor: int, seconds: float | None) -> None:
    select.select([descriptor], [], [], seconds)
    with contextlib.suppress(BlockingIOError):
        os.read(descriptor, 4096)


def _take_environment(record: Path) -> None:
    """What a login of the user's had for its programs, when `up` started this from one, counts after a reboot as well: cron has
    another PATH, and nobody's proxies."""
    if "SSH_CONNECTION" in os.environ:
        write_private(record, json.dumps(machine_environment(os.environ)))
        return
    with contextlib.suppress(OSError, ValueError):
        recorded: dict[str, str] = json.loads(record.read_text())
        for name in machine_environment(os.environ).keys() - recorded.keys():
            del os.environ[name]
        os.environ.update(recorded)


def run_keeper(root: Path) -> int:
    """The process' main function; returns its exit code."""
    os.umask(0o077)
    try:
        take(root / "keep.lock")
    except LockHeld:
        return 0  # another one keeps them: nothing to do
    _take_environment(root / "environment.json")
    pid_file = root / "keep.pid"
    write_private(pid_file, str(os.getpid()))
    try:
        return Keeper(root).run()
    finally:
        pid_file.unlink(missing_ok=True)
