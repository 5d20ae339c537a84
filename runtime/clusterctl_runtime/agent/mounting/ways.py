"""The two ways to mount: by the kernel, which root asks, and by a program that shows a bucket as long as it runs."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

from clusterctl_runtime.agent.mounting.child import run_child
from clusterctl_runtime.agent.mounting.watch import TableWatch
from clusterctl_runtime.agent.tasks.environ import machine_environment
from clusterctl_runtime.files.mount_table import as_root, mounted_at
from clusterctl_runtime.files.private import write_private
from clusterctl_runtime.wire import Message

MOUNT_SECONDS = 60.0
PROGRAM_SECONDS = 60.0  # until the program of a bucket shows it
_FOR_ALL = ("rclone", "mount-s3")  # what of root's they show is root's alone, unless they are told


class MountFailed(Exception):
    """The message says what, where and what to do."""


class ProgramMissing(MountFailed):
    """A program that the node lacks, which setup commands may bring."""


async def mount_file_system(found: Message, place: str, name: str, env: Mapping[str, str], directory: Path) -> None:
    """`found`: {"type", "source", "options", "package", "secret"}. `directory`: a private one. Raises MountFailed."""
    kind, package = str(found["type"]), found["package"]
    helper = "mount.nfs" if kind.startswith("nfs") else f"mount.{kind}"
    if shutil.which(helper, path=env["PATH"]) is None:
        raise ProgramMissing(
            f"{name}: {helper} is not on this node: it comes with the package {package}, which belongs into the image or into "
            "`setup`"
        )
    options = list(found["options"])
    with _secret_file(directory, found.get("secret") or ["", ""], name, env) as secret:
        options += [f"credentials={secret}"] if secret else []
        argv = ["mount", "-t", kind, "-o", ",".join(options), "--", str(found["source"]), place]
        limit = ["timeout", "-k", "5", f"{MOUNT_SECONDS:g}"]  # sudo's child is not ours to kill
        ended = await run_child([*as_root(), *limit, *argv], MOUNT_SECONDS + 15, machine_environment(env))
    if ended.code in (None, 124, 137):
        raise MountFailed(f"{name}: the server did not answer within {MOUNT_SECONDS:g} s")
    if "sudo" in (ended.said.partition(":")[0], *as_root()[:1]) and ended.code == 1 and "sudo:" in ended.said:
        raise MountFailed(
            f"{name}: only root can mount it, and this user is not let do so ({ended.line}): allow `sudo` without a password, or "
            "mount it there by hand, which is found and used"
        )
    if ended.code != 0:
        raise MountFailed(f"{name}: mount ended with {ended.code}: {ended.line or 'without a word'}")


@contextlib.contextmanager
def _secret_file(directory: Path, secret: Sequence[str], name: str, env: Mapping[str, str]) -> Iterator[str]:
    """A file with user and password, for as long as the mount takes; "" where none is needed."""
    user, variable = secret
    if not variable:
        yield ""
        return
    if not env.get(variable):
        raise MountFailed(f"{name}: its key is not there: set {variable} in `env` of the spec or of the pool")
    path = directory / f"mount-{os.urandom(8).hex()}"
    write_private(path, f"username={user}\npassword={env[variable]}\n")
    try:
        yield str(path)
    finally:
        path.unlink()


def choose(told: Message, name: str, env: Mapping[str, str]) -> Message:
    """The first of a bucket's ways whose program is here. Raises MountFailed."""
    way = next((way for way in told["ways"] if shutil.which(way["program"], path=env["PATH"])), None)
    if way is None:
        raise ProgramMissing(
            f"{name}: no program on this node can show it: {told['programs']} belongs into the image or into `setup`"
        )
    if not Path("/dev/fuse").exists():
        raise MountFailed(f"{name}: this node has no /dev/fuse: its kernel lacks it, or its container was not given it")
    if not os.access("/dev/fuse", os.R_OK | os.W_OK):
        raise MountFailed(f"{name}: this user may not open /dev/fuse: `chmod 666 /dev/fuse` is what most systems have")
    return way


async def start_program(
    way: Message, place: str, name: str, env: Mapping[str, str], room: Path, began: Callable[[int], None]
) -> None:
    """Returns when the bucket can be seen. `room`: a directory for its cache and its log. `began(pid)` is called at once.
    Raises MountFailed."""
    names = {"{to}": place, "{cache}": str(room / "cache")}
    argv = [str(names.get(word, word)) for word in way["argv"]]
    if os.geteuid() == 0 and way["program"] in _FOR_ALL:
        argv.append("--allow-other")  # jobs need not be root's
    env = {**env, **{key: str(names.get(value, value)) for key, value in way["env"].items()}}
    with (room / "log").open("wb") as output:
        process = await asyncio.create_subprocess_exec(
            *argv,
            env=env,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
            cwd="/",
        )
    began(process.pid)
    changed = asyncio.Event()
    watch = TableWatch(changed.set)
    watch.program(process.pid)
    deadline = time.monotonic() + PROGRAM_SECONDS
    try:
        while mounted_at(place) is None:
            if process.returncode is not None or time.monotonic() > deadline:
                how = f"ended with {process.returncode}" if process.returncode is not None else "showed nothing in time"
                with contextlib.suppress(ProcessLookupError):
                    process.kill()
                raise MountFailed(f"{name}: {way['program']} {how}: {end_of(room / 'log')}")
            with contextlib.suppress(asyncio.TimeoutError):
                await asyncio.wait_for(changed.wait(), min(1.0, PROGRAM_SECONDS))
            changed.clear()
    finally:
        watch.close()


def end_of(log: Path) -> str:
    """The last lines that a program wrote, on one: what went wrong often stands before that it did."""
    try:
        lines = [line.strip() for line in log.read_text(errors="replace").splitlines() if line.strip()]
    except OSError:
        lines = []
    return " | ".join(lines[-2:])[-600:] if lines else "it said nothing"
