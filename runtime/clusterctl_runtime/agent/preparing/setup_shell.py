"""Running one setup command so that its end is its own.

A login shell reads files of the user first, and these may exit, exec another shell or never come back: then the command never
ran, whatever the exit code says. So the shell is made to leave a mark before it, by a redirection, which no function or alias of
the login files can stand in for. Without the mark the command is run again without login files, and that is said.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import shlex
import signal
from collections.abc import Callable, Mapping
from pathlib import Path

from clusterctl_runtime.agent.tasks.inherited import JOB_UMASK
from clusterctl_runtime.agent.tasks.watchdog import Watchdog

HEAD_BYTES, TAIL_BYTES = 64 * 1024, 192 * 1024  # of a setup's output: how much is kept of its beginning and its end
LOGIN_SECONDS = 120.0  # for the login files
LINGER_SECONDS = 1.0  # for what a command started in the background and that still holds its output
GRACE_SECONDS = 5.0
_PIECE = 64 * 1024


class SetupFailed(Exception):
    """The message is for the user."""


class CommandFailed(SetupFailed):
    """The command ran and did not end well. `said`: the end of what it printed."""

    def __init__(self, message: str, said: bytes) -> None:
        super().__init__(message)
        self.said = said


class Output:
    """The beginning and the end of what was written; how much was left out between them is said. `heard` gets each piece."""

    def __init__(self, heard: Callable[[bytes], None] = lambda data: None) -> None:
        self._head = self._tail = b""
        self._dropped = 0
        self._heard = heard

    def add(self, data: bytes) -> None:
        room = HEAD_BYTES - len(self._head)
        self._head += data[:room]
        self._tail += data[room:]
        over = len(self._tail) - TAIL_BYTES
        if over > _PIECE:  # cut now and then, not with every piece
            self._dropped += over
            self._tail = self._tail[over:]
        self._heard(data)

    def say(self, text: str) -> None:
        """A line of ours between those of the commands."""
        self.add(f"[clusterctl: {text}]\n".encode())

    def end(self, size: int) -> bytes:
        """The last `size` bytes, or fewer where not so many are kept."""
        return (self._head + self._tail)[-size:] if len(self._tail) < size else self._tail[-size:]

    def text(self) -> str:
        """What is no UTF-8 is shown as `\\xNN`."""
        gap = f"\n[clusterctl: {self._dropped} bytes of output left out here]\n".encode() if self._dropped else b""
        return (self._head + gap + self._tail).decode(errors="backslashreplace")


class SetupShell:
    """Runs commands in `directory`; `programs` come first on their PATH."""

    def __init__(
        self, directory: Path, mark: Path, watchdog: Watchdog, output: Output, *, programs: Path | None, limit: float
    ) -> None:
        self._directory, self._mark, self._watchdog = directory, mark, watchdog
        self._output, self._programs, self._limit = output, programs, limit

    async def run(self, command: str, name: str, env: Mapping[str, str]) -> None:
        """`name` is what messages call it. Raises SetupFailed."""
        self._output.add(f"$ {command}\n".encode())
        code = await self._once("-lc", command, name, env)
        if not self._mark.exists():
            how = (
                "did not end within"
                if code is None
                else f"ended the shell (exit code {code}) before the command, within"
            )
            self._output.say(
                f"the login files of this user (~/.bash_profile, ~/.profile and what they read) {how} {LOGIN_SECONDS:g} s: the "
                "command is run without them. Guard what is for people only with: case $- in *i*) ... ;; esac"
            )
            code = await self._once("-c", command, name, env)
        if code is None or not self._mark.exists():
            raise SetupFailed(f"{name} did not start: bash ended with {code} before it")
        if code:
            how = f"was ended by signal {-code}" if code < 0 else f"ended with exit code {code}"
            raise CommandFailed(f"{name} {how}", self._output.end(4096))

    async def _once(self, how: str, command: str, name: str, env: Mapping[str, str]) -> int | None:
        """The shell's exit code; None when it was still with its login files after LOGIN_SECONDS."""
        self._mark.unlink(missing_ok=True)
        begin = f">|{shlex.quote(str(self._mark))}"
        if self._programs:  # here, since /etc/profile of many systems sets PATH anew
            begin += f"; PATH={shlex.quote(str(self._programs))}:$PATH"
        read, write = os.pipe()
        try:
            process = await asyncio.create_subprocess_exec(
                "bash", how, f"{begin}\n{command}", env=dict(env), cwd=self._directory, start_new_session=True,
                stdin=asyncio.subprocess.DEVNULL, stdout=write, stderr=write, umask=JOB_UMASK,
            )  # fmt: skip
        except OSError as error:
            os.close(read)
            raise SetupFailed(f"bash, which runs setup commands, cannot be started: {error.strerror}") from error
        finally:
            os.close(write)
        pipe = _Pipe(read, self._output)
        self._watchdog.add(process.pid)
        self._watchdog.write()
        try:
            return await self._end_of(process, name)
        finally:
            await pipe.settle()
            self._watchdog.remove(process.pid)
            self._watchdog.write()

    async def _end_of(self, process: asyncio.subprocess.Process, name: str) -> int | None:
        ending = asyncio.ensure_future(process.wait())
        try:
            await asyncio.wait([ending], timeout=min(LOGIN_SECONDS, self._limit))
            if not ending.done() and not self._mark.exists():
                await _end(process)
                return None
            await asyncio.wait([ending], timeout=max(0.0, self._limit - LOGIN_SECONDS))
            if not ending.done():
                await _end(process)
                raise SetupFailed(f"{name} took over {self._limit:g} s")
            return ending.result()
        except asyncio.CancelledError:
            await _end(process)
            raise


class _Pipe:
    """What a command prints. Whoever it leaves in the background may hold the pipe: that is read on, so that it neither waits
    nor dies of it, and not kept."""

    def __init__(self, fd: int, output: Output) -> None:
        self._fd, self._output = fd, output
        self._loop = asyncio.get_running_loop()
        self._ended = asyncio.Event()
        self._recording = True
        os.set_blocking(fd, False)
        self._loop.add_reader(fd, self._readable)

    def _readable(self) -> None:
        try:
            data = os.read(self._fd, _PIECE)
        except BlockingIOError:
            return
        if not data:
            self._loop.remove_reader(self._fd)
            os.close(self._fd)
            self._ended.set()
        elif self._recording:
            self._output.add(data)

    async def settle(self) -> None:
        """The command has ended."""
        with contextlib.suppress(asyncio.TimeoutError):
            await asyncio.wait_for(self._ended.wait(), LINGER_SECONDS)
        self._recording = False
        if not self._ended.is_set():
            self._output.say("what this started in the background goes on; what it prints from now on is not kept")


async def _end(process: asyncio.subprocess.Process) -> None:
    for number in (signal.SIGTERM, signal.SIGKILL):
        with contextlib.suppress(OSError):
            os.killpg(process.pid, number)
        with contextlib.suppress(asyncio.TimeoutError):
            await asyncio.wait_for(asyncio.shield(process.wait()), GRACE_SECONDS)
            return
