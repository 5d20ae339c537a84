"""Whether a mount answers and can be used as asked, found out by a child process of the agent's own user, as jobs are."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from dataclasses import dataclass

from clusterctl_runtime.agent.mounting.child import run_child

CHECK_SECONDS = 20.0
# A program of its own, since what it does may hang. It writes a file where it is told to, and removes it.
_PROGRAM = """
import json, os, sys
place, write = sys.argv[1], sys.argv[2] == "write"
said = {}
try:
    with os.scandir(place) as entries:
        next(entries, None)
    room = os.statvfs(place)
    said = {"size": room.f_blocks * room.f_frsize, "free": room.f_bavail * room.f_frsize}
    if write:
        step = "written to"
        name = os.path.join(place, ".clusterctl-check-%s" % os.urandom(8).hex())
        file = os.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        try:
            os.write(file, b"1")
            os.close(file)
            if os.stat(name).st_size != 1:
                raise OSError(5, "what was written is not there")
        finally:
            os.unlink(name)
except OSError as error:
    said["error"] = "cannot be %s by user %d: %s" % ("written to" if "size" in said else "read", os.geteuid(), error.strerror)
print(json.dumps(said))
"""


@dataclass(frozen=True)
class Checked:
    """`error` is "" where it can be used; `size` and `free` in bytes, 0 where they mean nothing."""

    error: str = ""
    size: int = 0
    free: int = 0


async def check(place: str, write: bool, env: Mapping[str, str], seconds: float = CHECK_SECONDS) -> Checked:
    """Reads, and where `write` is asked for writes one file and removes it."""
    ended = await run_child([sys.executable, "-I", "-c", _PROGRAM, place, "write" if write else "read"], seconds, env)
    if ended.code is None:
        return Checked(f"does not answer within {seconds:g} s")
    try:
        said = json.loads(ended.said.strip().splitlines()[-1])
    except (ValueError, IndexError):
        return Checked(f"cannot be looked into: {ended.line or f'the check ended with {ended.code}'}")
    return Checked(said.get("error", ""), int(said.get("size", 0)), int(said.get("free", 0)))
