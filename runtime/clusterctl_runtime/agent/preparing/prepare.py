"""What a node does before it takes work: shared storage is mounted, the spec's files are put in place, then its setup commands
run, once per content.

The head says what is wanted (`prepare`) and is told how far it is (`prepared`). What was done is on disk, so that an agent
that is started again does not do it again. A plan that comes while another is carried out is next.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from clusterctl_runtime.agent.mounting.mounts import Mounts
from clusterctl_runtime.agent.mounting.ways import MountFailed
from clusterctl_runtime.agent.preparing.in_image import done_in_image
from clusterctl_runtime.agent.preparing.package_locks import WAIT_SECONDS, busy, patient_environment, until_free
from clusterctl_runtime.agent.preparing.packages import PackageError, Packages
from clusterctl_runtime.agent.preparing.placing import (
    CannotPlace,
    clear,
    place_directory,
    place_file,
    staging_directory,
    target_path,
)
from clusterctl_runtime.agent.preparing.setup_shell import CommandFailed, Output, SetupFailed, SetupShell
from clusterctl_runtime.agent.tasks.watchdog import Watchdog
from clusterctl_runtime.engine.found import installed_ray
from clusterctl_runtime.files.private import write_private
from clusterctl_runtime.wire import Message

log = logging.getLogger(__name__)
FILES_VARIABLE = "CLUSTERCTL_FILES"  # where relative targets of the spec's files are
COMMAND_SECONDS = 1800.0
WAITS = "; waits for "


class Preparation:
    """`changed` is called whenever there is something to tell; `environment` is what commands start from."""

    def __init__(
        self,
        files: Path,
        record: Path,
        packages: Packages,
        watchdog: Watchdog,
        environment: Mapping[str, str],
        mounts: Mounts,
        changed: Callable[[], None],
    ) -> None:
        self._files, self._record, self._packages = files, record, packages
        self._watchdog, self._environment, self._changed = watchdog, environment, changed
        self._mounts = mounts
        self._done: dict[str, Any] = _read(record)
        self._next: Message | None = None
        self._task: asyncio.Task[None] | None = None
        self._output = Output()
        self._unsent = False
        self.state: Message = {"digest": self._done.get("digest", ""), "state": "done" if self._done else "none"}

    async def recheck(self) -> None:
        """What an earlier agent has mounted may be gone, and is watched by nobody: the plan is carried out again, and finds what
        is there and done already."""
        if self._mounts.is_any:
            await self._mounts.recheck()
            self._done = {**self._done, "digest": ""}
            self.state = {"digest": "", "state": "none"}

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
        """Cancels what is under way and returns when it has ended."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])

    def _tell(self, **state: Any) -> None:
        self.state = state
        self._unsent = True
        self._changed()

    def _tell_wait(self, holder: str) -> None:
        """In the step: that it waits for a lock, or ("") no longer."""
        step, _, before = str(self.state.get("step", "")).partition(WAITS)
        if holder != before:
            self._tell(**{**self.state, "step": f"{step}{WAITS}{holder}" if holder else step})

    def _heard(self, data: bytes) -> None:
        """apt says itself, and over and over, that it waits for a lock."""
        self._tell_wait(busy(data) if b"Waiting for cache lock" in data else "")

    async def _run(self, plan: Message) -> None:
        began = time.monotonic()
        self._output = Output(self._heard)
        try:
            await self._carry_out(plan)
            result: Message = {"state": "done"}
        except (SetupFailed, CannotPlace, PackageError, MountFailed) as error:
            result = {"state": "failed", "error": str(error)}
        except OSError as error:
            result = {"state": "failed", "error": f"{error.filename or 'the disk'}: {error.strerror or error}"}
        except Exception as error:  # whatever it is, the head must hear of it
            log.exception("preparing this node")
            result = {"state": "failed", "error": f"it broke off: {error!r}"}
        finally:
            self._task = None
        step, seconds = self.state.get("step", ""), round(time.monotonic() - began, 3)
        self._tell(digest=plan["digest"], step=step, seconds=seconds, output=self._output.text(), **result)
        following, self._next = self._next, None
        if following is not None:
            self.start(following)

    async def _carry_out(self, plan: Message) -> None:
        self._files.mkdir(mode=0o700, exist_ok=True)
        commands = plan.get("setup") or []
        later = await self._mount(plan, defer=bool(commands))
        for number, mount in enumerate(plan.get("files") or [], 1):
            name = f"{mount['from']} to {mount['to']}"
            self._tell(digest=plan["digest"], state="running", step=f"files {number} of {len(plan['files'])}: {name}")
            await self._place(mount)
        if commands and (about := about_python(plan)):
            self._output.say(about)
        begun = self._done.get("begun") == plan["digest"]
        ran = int(self._done.get("ran", 0)) if begun else done_in_image(commands, os.environ)
        if ran and not begun:
            self._output.say(f"the first {ran} of {len(commands)} commands were run when this node's image was made")
        for number, command in enumerate(commands, 1):
            if number <= ran:  # it succeeded at an earlier try, or in the image
                continue
            step = f"setup {number} of {len(commands)}: {_first_line(command)}"
            self._tell(digest=plan["digest"], state="running", step=step)
            if self._done.get("digest"):
                self._note(digest="")  # what an earlier plan did may be undone from here on
            await self._command(command, plan, number)
            self._note(begun=plan["digest"], ran=number)
        if later:
            await self._mount(plan, defer=False)
        self._note(digest=plan["digest"])

    async def _mount(self, plan: Message, *, defer: bool) -> bool:
        """Whether some mounts lack a program and are left for after the setup, which may bring it."""

        def say(step: str) -> None:
            self._tell(digest=plan["digest"], state="running", step=step)

        if self._done.get("digest"):
            self._note(digest="")  # until all of the plan is done, none of it is
        return await self._mounts.make(plan.get("mounts") or [], plan.get("env") or {}, say, defer=defer)

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
        name = f"setup command {number} (`{_first_line(command)}`)"
        env = {**self._environment, **(plan.get("env") or {}), FILES_VARIABLE: str(self._files)}
        env |= patient_environment(env, self._record.parent)
        mark, limit = self._record.with_name("setup-began"), float(plan.get("timeout") or COMMAND_SECONDS)
        python = engine_python(plan)
        programs = Path(python).parent if python else None
        shell = SetupShell(self._files, mark, self._watchdog, self._output, programs=programs, limit=limit)
        patience = time.monotonic() + WAIT_SECONDS
        while True:
            try:
                await shell.run(command, name, env)
                return
            except CommandFailed as error:
                holder = busy(error.said)
                if not holder or time.monotonic() > patience:
                    raise
                self._output.say(f"it is run again when it can have {holder}")
                self._tell_wait(holder)
                await until_free(error.said, patience)
                self._tell_wait("")

    def _note(self, **facts: Any) -> None:
        self._done = {**self._done, **facts}
        write_private(self._record, json.dumps(self._done))


def engine_python(plan: Message) -> str:
    """The interpreter of the engine, where it is known before the setup: the one that the spec names (a command may make it), or
    this one when it has Ray."""
    if not plan.get("engine"):
        return ""
    return str(plan.get("python") or "") or (sys.executable if installed_ray()[0] else "")


def about_python(plan: Message) -> str:
    """What `pip install` in a setup is good for, in a line; "" where there is no engine."""
    if not plan.get("engine"):
        return ""
    if python := engine_python(plan):
        return f"python and pip are first looked for in {Path(python).parent}, whose Python jobs under Ray use, too"
    return (
        "Ray's own environment is made after the setup: what pip installs here is for this machine's Python, and jobs under Ray "
        "do not see it. For them, name a Python with Ray and all else they need in engine.ray.python"
    )


def _first_line(command: str) -> str:
    line = command.strip().split("\n", 1)[0]
    return line if len(line) <= 60 else line[:57] + "..."


def _read(record: Path) -> dict[str, Any]:
    try:
        return json.loads(record.read_text())
    except (FileNotFoundError, ValueError):
        return {}
