"""What this machine has, looked at when the agent starts and again now and then: a driver is installed, a GPU falls sick.

Nothing waits for a driver for longer than a moment: until it has answered, there is no `gpus` among the facts.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

from clusterctl_runtime.agent.facts import read_gpus, read_machine

PATIENCE = 3.0  # seconds that a start waits for the driver
LOOK_SECONDS = 120.0
_GPU_FACTS = ("gpus", "gpu_trouble")


class Hardware:
    """`facts` are what `hello` tells; `changed` is called when a later look finds other GPUs or the first one comes late."""

    def __init__(self, directory: Path, changed: Callable[[], None]) -> None:
        self._directory, self._changed = directory, changed
        self.facts: dict[str, Any] = {}
        self._looking: asyncio.Task[None] | None = None

    async def look(self) -> None:
        """Returns with what is known after a moment; looking goes on until `close`."""
        self.facts = {**read_machine(self._directory), **self.facts}
        answered = asyncio.Event()
        self._looking = asyncio.ensure_future(self._look_again_and_again(answered))
        await asyncio.wait([asyncio.ensure_future(answered.wait())], timeout=PATIENCE)

    def close(self) -> None:
        if self._looking is not None:
            self._looking.cancel()

    async def _look_again_and_again(self, answered: asyncio.Event) -> None:
        loop, first = asyncio.get_running_loop(), True
        while True:
            began = loop.time()
            found = await loop.run_in_executor(None, read_gpus)
            before = [self.facts.get(name) for name in _GPU_FACTS]
            self.facts.update(found)
            answered.set()
            news = before != [found[name] for name in _GPU_FACTS]
            if news and not (first and loop.time() - began < PATIENCE):
                self._changed()
            first = False
            await asyncio.sleep(LOOK_SECONDS)
