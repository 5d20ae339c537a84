"""What a node does before it takes work: the spec's files are put in place, then its setup commands run, once per content.

The head says what is wanted (`prepare`) and is told how far it is (`prepared`). What was done is on disk, so that an agent
that is started again does not do it again. A plan that comes while another is carried out is next.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
import signal
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from clusterctl_runtime.agent.inherited import JOB_UMASK
from clusterctl_runtime.agent.leash import Leash
from clusterctl_runtime.agent.packages import PackageError, Packages
from clusterctl_runtime.agent.placing import (
    CannotPlace,
    clear,
    place_directory,
    place_file,
    staging_directory,
    target_path,
)
from clusterctl_runtime.wire import Message

log = logging.getLogger(__name__)
FILES_VARIABLE = "CLUSTERCTL_FILES"  # where relative targets of the spec's files are
HEAD_BYTES, TAIL_BYTES = 64 * 1024, 192 * 1024  # of a setup's output: how much is kept of its beginning and its end
LINGER_SECONDS = 1.0  # for what a command started in the background and that still holds its output
GRACE_SECONDS = 5.0
_PIECE = 64 * 1024


class SetupFailed(Exception):
    """The message is for the user."""


class Preparation:
    """`changed` is called whenever there is something to tell; `environment` is what commands start from."""

    def __init__(
        self,
        files: Path,
        record: Path,
        packages: Packages,
        leash: Leash,
        environment: Mapping[str, str],
        changed: Callable[[], None],
    ) -> None:
        self._files, self._record, self._packages = files, record, packages
        self._leash, self._environment, self._changed = leash, environment, changed
        self._done: dict[str, Any] = _read(record)
        self._next: Message | None = None
        self._task: asyncio.Task[None] | None = None
        self._process: asyncio.subprocess.Process | None = None
        self._output = Output()
        self._unsent = False
        self.state: Message = {"digest": self._done.get("digest", ""), "state": "done" if self._done else "none"}

    def start(self, plan: Message) -> None:
        """Idempotent: the head says it again after a reconnect."""
        if self._task is not None:
            if self.state.get("digest") != plan["digest"]:
                self._next = plan
            return
        if self._done.get("digest") == plan["digest"]:
            self._tell(digest=plan["digest"], state="done")
            return
        self._task = asyncio.ensure_future(self._run(plan))

    def take(self) -> Message | None:
        """What the head was not told yet."""
        if not self._unsent:
            return None
        self._unsent = False
        return {"t": "prepared", **self.state}

    def parted(self) -> None:
        """A message may have been lost with the connection; `done` and `failed` are said by the next hello."""
        self._unsent = self.state["state"] == "running"

    async def stop(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])

    def _tell(self, **state: Any) -> None:
        self.state = state
        self._unsent = True
        self._changed()

    async def _run(self, plan: Message) -> None:
        began = time.monotonic()
        self._output = Output()
        try:
            await self._carry_out(plan)
            result: Message = {"state": "done"}
        except (SetupFailed, CannotPlace, PackageError) as error:
            result = {"state": "failed", "error": str(error)}
        except OSError as error:
            result = {"state": "failed", "error": f"{error.filename or 'the disk'}: {error.strerror or error}"}
        finally:
            self._task = None
        step, seconds = self.state.get("step", ""), round(time.monotonic() - began, 3)
        self._tell(digest=plan["digest"], step=step, seconds=seconds, output=self._output.text(), **result)
        following, self._next = self._next, None
        if following is not None:
            self.start(following)

    async def _carry_out(self, plan: Message) -> None:
        self._files.mkdir(mode=0o700, exist_ok=True)
        for number, mount in enumerate(plan.get("files") or [], 1):
            name = f"{mount['from']} to {mount['to']}"
            self._tell(digest=plan["digest"], state="running", step=f"files {number} of {len(plan['files'])}: {name}")
            await self._place(mount)
        commands = plan.get("setup") or []
        ran = int(self._done.get("ran", 0)) if self._done.get("begun") == plan["digest"] else 0
        for number, command in enumerate(commands, 1):
            if number <= ran:  # it succeeded at an earlier try
                continue
            step = f"setup {number} of {len(commands)}: {_first_line(command)}"
            self._tell(digest=plan["digest"], state="running", step=step)
            if self._done.get("digest"):
                self._note(digest="")  # what an earlier plan did may be undone from here on
            await self._command(command, plan, number)
            self._note(begun=plan["digest"], ran=number)
        self._note(digest=plan["digest"])

    async def _place(self, mount: Message) -> None:
        to = target_path(mount["to"], self._files)
        known = self._done.get("files", {}).get(str(to), {})
        if known.get("digest") == mount["digest"] and to.exists():
            return
        loop = asyncio.get_running_loop()
        staging = await loop.run_in_executor(None, staging_directory, to, mount["kind"] == "directory")
        try:
            await self._packages.unpack(mount["digest"], staging)
            if mount["kind"] == "file":
                paths = await loop.run_in_executor(None, place_file, staging, to)
            else:
                before: list[str] = known.get("paths") or []
                paths = await loop.run_in_executor(None, place_directory, staging, to, before)
        finally:
            await loop.run_in_executor(None, clear, staging)
        files = {**self._done.get("files", {}), str(to): {"digest": mount["digest"], "paths": paths}}
        self._note(files=files, digest="")  # until all of the plan is done, none of it is

    async def _command(self, command: str, plan: Message, number: int) -> None:
        self._output.add(f"$ {command}\n".encode())
        env = {**self._environment, **(plan.get("env") or {}), FILES_VARIABLE: str(self._files)}
        try:
            self._process = process = await asyncio.create_subprocess_exec(
                "bash", "-lc", command, env=env, cwd=self._files, umask=JOB_UMASK, start_new_session=True,
                stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
            )  # fmt: skip
        except OSError as error:
            raise SetupFailed(f"bash, which runs setup commands, cannot be started: {error.strerror}") from error
        self._leash.add(process.pid)
        self._leash.write()
        limit = float(plan.get("timeout") or 1800.0)
        reading = asyncio.ensure_future(self._read_output(process))
        try:
            code = await asyncio.wait_for(process.wait(), limit)
        except asyncio.TimeoutError:
            await _end(process)
            raise SetupFailed(f"setup command {number} (`{_first_line(command)}`) took over {limit:g} s") from None
        except asyncio.CancelledError:
            await _end(process)
            raise
        finally:
            await asyncio.wait([reading], timeout=LINGER_SECONDS)
            reading.cancel()
            self._leash.remove(process.pid)
            self._leash.write()
        if code:
            how = f"was ended by signal {-code}" if code < 0 else f"ended with exit code {code}"
            raise SetupFailed(f"setup command {number} (`{_first_line(command)}`) {how}")

    async def _read_output(self, process: asyncio.subprocess.Process) -> None:
        assert process.stdout is not None
        while data := await process.stdout.read(_PIECE):
            self._output.add(data)

    def _note(self, **facts: Any) -> None:
        self._done = {**self._done, **facts}
        part = self._record.with_suffix(".part")
        part.write_text(json.dumps(self._done))
        part.replace(self._record)


class Output:
    """The beginning and the end of what was written; how much was left out between them is said."""

    def __init__(self) -> None:
        self._head = self._tail = b""
        self._dropped = 0

    def add(self, data: bytes) -> None:
        room = HEAD_BYTES - len(self._head)
        self._head += data[:room]
        self._tail += data[room:]
        over = len(self._tail) - TAIL_BYTES
        if over > _PIECE:  # cut now and then, not with every piece
            self._dropped += over
            self._tail = self._tail[over:]

    def text(self) -> str:
        gap = f"\n[clusterctl: {self._dropped} bytes of output left out here]\n".encode() if self._dropped else b""
        return (self._head + gap + self._tail).decode(errors="replace")


async def _end(process: asyncio.subprocess.Process) -> None:
    for number in (signal.SIGTERM, signal.SIGKILL):
        with contextlib.suppress(OSError):
            os.killpg(process.pid, number)
        with contextlib.suppress(asyncio.TimeoutError):
            await asyncio.wait_for(asyncio.shield(process.wait()), GRACE_SECONDS)
            return


def _first_line(command: str) -> str:
    line = command.strip().split("\n", 1)[0]
    return line if len(line) <= 60 else line[:57] + "..."


def _read(record: Path) -> dict[str, Any]:
    try:
        return json.loads(record.read_text())
    except (FileNotFoundError, ValueError):
        return {}
