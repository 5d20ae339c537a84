"""The engine on this node, as the head wants it: started, relayed, stopped. Imported only when there is one."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

from clusterctl_runtime.agent.environ import NotReady
from clusterctl_runtime.wire import Message, TaskSpec

log = logging.getLogger(__name__)


class EngineHost:
    """`changed` is called whenever `state` did. Starts and stops follow each other in the order the head asked for."""

    def __init__(self, directory: Path, changed: Callable[[], None]) -> None:
        self._directory, self._changed = directory, changed
        self._raylet: Any = None
        self._config: Any = None
        self._wanted: Message | None = None
        self._last: asyncio.Future[None] | None = None
        self.state: Message = {"state": "stopped"}

    def start(self, config: Message) -> None:
        """Idempotent: the head says it again after a reconnect. Another configuration replaces the engine."""
        if config == self._wanted and self.state.get("state") in ("starting", "ready"):
            self._changed()
            return
        self._wanted = config
        self._set({"state": "starting"})
        self._then(self._replace(config))

    def stop(self, grace: float) -> asyncio.Future[None]:
        self._wanted = None
        return self._then(self._end(grace))

    def environment(self, spec: TaskSpec) -> dict[str, str]:
        """What attaches a task to the engine. Raises NotReady."""
        if self._raylet is None or self.state.get("state") != "ready":
            raise NotReady(
                f"the engine of this node is {self.state.get('state')}, not ready: {self.state.get('detail', '')}"
            )
        from clusterctl_runtime.engine.launch import task_env

        return task_env(self._config, self._raylet.state, spec)

    def _then(self, work: Any) -> asyncio.Future[None]:
        before = self._last

        async def run() -> None:
            if before is not None:
                await asyncio.wait([before])
            try:
                await work
            except Exception as error:
                log.error("engine: %s", error)
                if self.state.get("state") != "failed":  # else it has said so itself
                    self._set({"state": "failed", "detail": f"the engine could not be started or stopped: {error}"})

        self._last = asyncio.ensure_future(run())
        return self._last

    async def _replace(self, config: Message) -> None:
        from clusterctl_runtime.engine.launch import LONGEST_TEMP_DIR, EngineConfig, Raylet

        await self._end(5.0)
        self._directory.mkdir(mode=0o700, exist_ok=True)
        self._config = EngineConfig.from_json(config)
        scratch = str(self._directory / "ray")
        if not self._config.temp_dir and len(scratch) <= LONGEST_TEMP_DIR:
            self._config.temp_dir = scratch  # goes with the node's directory, however the node ends
        self._raylet = Raylet(self._config, self._directory, self._set)
        await self._raylet.start()

    async def _end(self, grace: float) -> None:
        raylet, self._raylet = self._raylet, None
        if raylet is not None:
            await raylet.stop(grace)
            self._set({"state": "stopped"})

    def _set(self, state: Message) -> None:
        self.state = dict(state)
        self._changed()
