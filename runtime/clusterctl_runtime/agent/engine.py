"""The engine on this node, as the head wants it: started, relayed, stopped. Imported only when there is one."""

from __future__ import annotations

import asyncio
import logging
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from clusterctl_runtime.agent.tasks.environ import NotReady
from clusterctl_runtime.wire import Message, TaskSpec

if TYPE_CHECKING:
    from clusterctl_runtime.engine.installing import Fetch

log = logging.getLogger(__name__)


TELL_SECONDS = 0.3  # between two lines about how far an installation is


class EngineHost:
    """`changed` is called whenever `state` did. Starts and stops follow each other in the order the head asked for. `store`
    has the environments that are installed here, from wheels that `fetch` gets from the head. `disk`: where there is room for
    what Ray spills."""

    def __init__(self, directory: Path, changed: Callable[[], None], store: Path, fetch: Fetch, disk: Path) -> None:
        self._directory, self._changed = directory, changed
        self._store, self._fetch, self._disk = store, fetch, disk
        self._installing: asyncio.Future[str] | None = None
        self._telling: asyncio.TimerHandle | None = None
        self._raylet: Any = None
        self._config: Any = None
        self._wanted: Message | None = None
        self._last: asyncio.Future[None] | None = None
        self.state: Message = {"state": "stopped"}

    def start(self, config: Message) -> None:
        """Idempotent: the head says it again after a reconnect. Another configuration replaces the engine."""
        if config == self._wanted and self.state.get("state") in ("installing", "starting", "ready"):
            self._changed()
            return
        self._wanted = config
        self._give_up_installing()
        self._set({"state": "starting"})
        self._then(self._replace(config))

    def stop(self, grace: float) -> asyncio.Future[None]:
        """An installation under way is given up, a raylet has `grace` seconds. The future is done after that, and never fails."""
        self._wanted = None
        self._give_up_installing()
        return self._then(self._end(grace))

    def environment(self, spec: TaskSpec) -> dict[str, str]:
        """What attaches a task to the engine. Raises NotReady."""
        if self._raylet is None or self.state.get("state") != "ready":
            raise NotReady(
                f"the engine of this node is {self.state.get('state')}, not ready: {self.state.get('detail', '')}"
            )
        from clusterctl_runtime.engine.command import own_path
        from clusterctl_runtime.engine.launch import task_env

        path = own_path(self._config.python, spec.env.get("PATH") or os.environ.get("PATH", ""))
        return {**path, **task_env(self._config, self._raylet.state, spec)}

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
        if self._config.environment:
            if config is not self._wanted:
                return  # told otherwise while this waited for its turn
            python = await self._install(self._config.environment)
            if not python:
                return
            self._config.python = python
        self._config.spill_dir = str(self._disk)
        scratch = str(self._directory / "ray")
        if not self._config.temp_dir and len(scratch) <= LONGEST_TEMP_DIR:
            self._config.temp_dir = scratch  # goes with the node's directory, however the node ends
        self._raylet = Raylet(self._config, self._directory, self._set)
        await self._raylet.start()

    async def _install(self, environment: Message) -> str:
        """The environment's interpreter; "" when it is no longer wanted or could not be had, which is told."""
        from clusterctl_runtime.engine.installing import Installation, InstallFailed

        self._set({"state": "installing"})
        work = Installation(self._store, environment, self._fetch, self._progress).ensure()
        self._installing = asyncio.ensure_future(work)
        try:
            await asyncio.wait([self._installing])
            if self._installing.cancelled():
                return ""
            python = self._installing.result()
        except InstallFailed as error:
            log.error("%s", error)
            self._set({"state": "failed", "detail": str(error), "code": "install_failed"})
            return ""
        finally:
            self._installing = None
        self._set({"state": "starting"})
        return python

    def _give_up_installing(self) -> None:
        if self._installing is not None:
            self._installing.cancel()
            self._set({"state": "stopped"})

    def _progress(self, text: str) -> None:
        """Not every wheel is worth a message to the head."""
        self.state = {"state": "installing", "detail": text}
        if self._telling is None:
            self._telling = asyncio.get_running_loop().call_later(TELL_SECONDS, self._tell)

    def _tell(self) -> None:
        self._telling = None
        self._changed()

    async def _end(self, grace: float) -> None:
        raylet, self._raylet = self._raylet, None
        if raylet is not None:
            await raylet.stop(grace)
            self._set({"state": "stopped"})

    def _set(self, state: Message) -> None:
        self.state = dict(state)
        if self._config is not None:
            self.state["python"] = self._config.python or sys.executable
        self._changed()
