"""Mounting one thing: what is there already is kept where it is right and refused where it is not ours; then the mount, and a
look whether it can be used as asked."""

from __future__ import annotations

import asyncio
import hashlib
import json
import logging
import os
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from clusterctl_runtime.agent.mounting.check import Checked, check
from clusterctl_runtime.agent.mounting.child import run_child
from clusterctl_runtime.agent.mounting.record import ROOM, Record, release, started_at, unwritten
from clusterctl_runtime.agent.mounting.ways import (
    MOUNT_SECONDS,
    MountFailed,
    choose,
    end_of,
    mount_file_system,
    start_program,
)
from clusterctl_runtime.agent.tasks.environ import machine_environment
from clusterctl_runtime.files.mount_table import Mounted, as_root, detach, mounted_at
from clusterctl_runtime.wire import Message

log = logging.getLogger(__name__)
ARRIVE_SECONDS = 20.0  # for what the check wrote to be written back
_PAUSE = 0.05
_SYSTEM_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


@dataclass
class Done:
    """A mount that can be used. `pid`: of the program behind it, 0 where it is the kernel."""

    place: str
    type: str
    source: str
    checked: Checked
    pid: int = 0


class Mounter:
    """`directory` is the node's own. `below`: where mounts go on nodes that are processes of one machine. `spare(pid)` is told
    of programs that live as long as their mount, so that nobody takes them for a leftover of a task."""

    def __init__(self, directory: Path, below: Path, record: Record, spare: Callable[[int], None]) -> None:
        self._directory, self._below, self._record, self._spare = directory, below, record, spare

    def place_of(self, told: Message) -> str:
        """Where on this node it is to be."""
        return f"{self._below}{told['to']}" if told.get("below") else str(told["to"])

    async def mount(self, told: Message, env: Mapping[str, str]) -> Done:
        """Idempotent. `env`: variables of the spec, which credentials may be in. Raises MountFailed."""
        place = self.place_of(told)
        name = f"{told['from']} at {place}"
        env = {**machine_environment(os.environ), **env}
        env["PATH"] = f"{env.get('PATH', '')}:{_SYSTEM_PATH}".lstrip(":")
        if told.get("given"):
            return await self._given(told, place, env)
        if "directory" in told:
            return await self._volume(told, place, env)
        self._refuse_own(place, name)
        seen = mounted_at(place)
        if seen is not None and await self._is_kept(told, place, seen, name, env):
            return await self._used(told, place, name, env)
        try:
            await self._make(told, place, name, env)
            return await self._used(told, place, name, env)
        except MountFailed:  # nothing that is there later is ours, then
            if place in self._record.entries:
                await asyncio.get_running_loop().run_in_executor(None, lambda: list(release(self._record, place)))
            raise

    async def _make(self, told: Message, place: str, name: str, env: Mapping[str, str]) -> None:
        """The intent is on disk before the mount."""
        await self._make_place(told, place, name, env)
        self._record.keep(place, **{"from": told["from"], "told": digest_of(told), "source": "", "type": "", "pid": 0})
        if "file_system" in told:
            await mount_file_system(told["file_system"], place, name, env, self._directory)
        else:
            await self._start(told, place, name, env)
        seen = mounted_at(place)
        if seen is None:
            raise MountFailed(f"{name}: it was mounted and is not there: another process has unmounted it")
        self._record.keep(place, source=seen.source, type=seen.type)

    async def _start(self, told: Message, place: str, name: str, env: Mapping[str, str]) -> None:
        way = choose(told, name, env)
        room = self._directory / ROOM / hashlib.sha256(place.encode()).hexdigest()[:12]
        (room / "cache").mkdir(parents=True, exist_ok=True, mode=0o700)
        self._record.keep(place, cache=str(room / "cache"), dirty=bool(way["dirty"]))

        def began(pid: int) -> None:
            self._spare(pid)
            self._record.keep(place, pid=pid, started=started_at(pid))

        await start_program(way, place, name, env, room, began)

    # ------------------------------------------------------------ what is there

    def _refuse_own(self, place: str, name: str) -> None:
        own = self._directory.resolve()
        if own.is_relative_to(Path(place)) and not Path(place).is_relative_to(own):
            raise MountFailed(
                f"{name}: this node's own files are below it, in {own}, and would be hidden: choose another `to`"
            )

    async def _is_kept(self, told: Message, place: str, seen: Mounted, name: str, env: Mapping[str, str]) -> bool:
        """Whether what is mounted there is what is wanted; ours is unmounted where it is not. Raises MountFailed for a
        stranger's."""
        entry = self._record.entries.get(place)
        if entry is None or not self._record.is_ours(place, seen):
            self._record.forget(place)
            if _is_same(told, seen):
                return True  # whoever mounted it looks after it
            raise MountFailed(
                f"{name}: {seen.source} ({seen.type}) is mounted there and is not this node's: unmount it, or choose another `to`"
            )
        if entry.get("told") == digest_of(told) and not (await check(place, False, env)).error:
            return True
        await self._take_away(place, name, lazy=entry.get("told") == digest_of(told))
        return False

    async def _take_away(self, place: str, name: str, lazy: bool) -> None:
        """`lazy`: it does not answer, so nobody can be using it."""
        loop = asyncio.get_running_loop()
        seen = mounted_at(place)
        if lazy and seen is not None:
            await loop.run_in_executor(None, detach, seen)
        left = await loop.run_in_executor(None, lambda: list(release(self._record, place, lazy=lazy)))
        for text in left:
            log.warning("%s", text)
        if left and place in self._record.entries:
            raise MountFailed(f"{name}: what was there before is in use: {'; '.join(left)}")

    async def _make_place(self, told: Message, place: str, name: str, env: Mapping[str, str]) -> None:
        path = Path(place)
        if path.is_symlink():
            raise MountFailed(f"{name}: there is a link: name what it leads to, {os.path.realpath(path)}")
        try:
            path.mkdir(parents=True)
        except FileExistsError:
            if not path.is_dir():
                raise MountFailed(f"{name}: there is a file: choose another `to`") from None
            if not told.get("over") and any(path.iterdir()):
                raise MountFailed(
                    f"{name}: that directory is not empty, and a mount would hide what is in it"
                ) from None
            if "ways" in told and not os.access(place, os.W_OK):
                raise MountFailed(
                    f"{name}: that directory is not this user's, who has to show the bucket there: remove it, or "
                    f"give it to user {os.geteuid()}"
                ) from None
            return
        except OSError as error:
            made = await run_child([*as_root(), "mkdir", "-p", "--", place], MOUNT_SECONDS, env)
            if made.code != 0:
                why = f"{error.strerror}; {made.line}" if made.line else str(error.strerror)
                raise MountFailed(
                    f"{name}: the directory cannot be made ({why}): make it, or let this user use sudo"
                ) from error
            if "ways" in told:  # the program behind it is this user's
                await run_child(
                    [*as_root(), "chown", f"{os.geteuid()}:{os.getegid()}", "--", place], MOUNT_SECONDS, env
                )
        self._record.keep(place, **{"from": told["from"], "made": True})

    # ------------------------------------------------------------ others' work

    async def _given(self, told: Message, place: str, env: Mapping[str, str]) -> Done:
        """Whoever made this container has mounted it."""
        name = f"{told['from']} at {place}"
        seen = mounted_at(place)
        if seen is None:
            raise MountFailed(f"{name}: this container was made without it: it gets a new one")
        return await self._used(told, place, name, env)

    async def _volume(self, told: Message, place: str, env: Mapping[str, str]) -> Done:
        """A directory of this machine, which a link leads to."""
        name, directory, link = f"{told['from']} at {place}", Path(told["directory"]), Path(place)
        try:
            directory.mkdir(parents=True, exist_ok=True, mode=0o700)
            if not link.is_symlink() or link.readlink() != directory:
                link.parent.mkdir(parents=True, exist_ok=True)
                link.unlink(missing_ok=True)
                link.symlink_to(directory)
        except OSError as error:
            raise MountFailed(f"{name}: {error.filename or directory}: {error.strerror}") from error
        self._record.keep(place, **{"from": told["from"], "told": digest_of(told), "link": True})
        return await self._used(told, place, name, env)

    # ------------------------------------------------------------ whether it can be used

    async def _used(self, told: Message, place: str, name: str, env: Mapping[str, str]) -> Done:
        write = told["mode"] != "read-only"
        seen = mounted_at(place)
        if seen is not None and "file_system" in told and not _is_source(told["file_system"], seen):
            raise MountFailed(f"{name}: {seen.source} is there instead")
        if write and seen is not None and seen.read_only:
            raise MountFailed(f"{name}: it is mounted for reading only, and is to be written to")
        checked = await check(place, write, env)
        if checked.error:
            raise MountFailed(f"{name}: it {checked.error}")
        entry = self._record.entries.get(place, {})
        if write and entry.get("dirty"):
            await self._arrived(place, name, entry)
        kind, source = (seen.type, seen.source) if seen is not None else ("directory", str(told.get("directory", "")))
        return Done(place, kind, source, checked, int(entry.get("pid") or 0))

    async def _arrived(self, place: str, name: str, entry: Mapping[str, Any]) -> None:
        """What is written back later may be refused then, when the job is long over: so the first file is waited for."""
        output = Path(entry["cache"]).parent / "log"
        deadline = time.monotonic() + ARRIVE_SECONDS
        while _check_files(dict(entry)):
            if time.monotonic() > deadline:
                raise MountFailed(f"{name}: what is written there does not arrive: {end_of(output)}")
            await asyncio.sleep(_PAUSE)
        said = output.read_text(errors="replace")
        if "clusterctl-check" in said and "Failed to copy" in said:
            raise MountFailed(f"{name}: what is written there does not arrive: {end_of(output)}")


def digest_of(told: Message) -> str:
    """Changes when a mount has to be made anew."""
    return hashlib.sha256(json.dumps(told, sort_keys=True).encode()).hexdigest()[:16]


def _is_same(told: Message, seen: Mounted) -> bool:
    """Whether a stranger's mount is the very thing that is wanted."""
    found = told.get("file_system")
    if not found or not _is_source(found, seen):
        return False
    return seen.type.rstrip("4") == str(found["type"]).rstrip("4") and (
        told["mode"] == "read-only" or not seen.read_only
    )


def _is_source(found: Message, seen: Mounted) -> bool:
    """The kernel shows a file system of Lustre by the server's address, and others as they were asked for."""
    wanted = str(found["source"])
    if found["type"] == "lustre":
        return seen.source.rpartition(":")[2] == wanted.rpartition(":")[2]
    return seen.source.rstrip("/") == wanted.rstrip("/")


def _check_files(entry: dict[str, Any]) -> list[str]:
    return [name for name in unwritten(entry) if name.startswith(".clusterctl-check-")]
