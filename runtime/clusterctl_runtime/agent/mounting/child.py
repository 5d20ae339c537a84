"""Commands that may hang: a server that does not answer stops whoever asks for it, and not even SIGKILL ends that.

So they are children, which are waited for until a deadline and then left to themselves: the agent goes on.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

SAID = 2000  # bytes of what it printed last that are kept


@dataclass(frozen=True)
class Ended:
    """`code`: None for one that did not end in time. `said`: the end of what it printed, both streams."""

    code: int | None
    said: str

    @property
    def line(self) -> str:
        """What it printed, on one line."""
        return " ".join(self.said.split())[-400:]


async def run_child(argv: Sequence[str], seconds: float, env: Mapping[str, str]) -> Ended:
    """Never raises: that a program is missing is an exit code of 127, as in a shell. What it prints goes to a file, which no
    child that hangs can keep us from reading."""
    with tempfile.TemporaryFile() as output:
        try:
            process = await asyncio.create_subprocess_exec(
                *argv, env=dict(env), stdin=asyncio.subprocess.DEVNULL,
                stdout=output, stderr=output, start_new_session=True, cwd="/",
            )  # fmt: skip
        except OSError as error:
            return Ended(127, f"{argv[0]}: {error.strerror}")
        ending = asyncio.ensure_future(process.wait())
        try:
            await asyncio.wait([ending], timeout=seconds)
        finally:
            if not ending.done():
                with contextlib.suppress(OSError):
                    os.killpg(process.pid, signal.SIGKILL)
                ending.cancel()
        code = ending.result() if ending.done() and not ending.cancelled() else None
        output.seek(max(0, output.seek(0, os.SEEK_END) - SAID))
        return Ended(code, output.read().decode(errors="replace"))
