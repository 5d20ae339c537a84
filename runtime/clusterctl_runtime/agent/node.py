"""The node: puts the parts together, obeys the head, and ends itself when it should."""

from __future__ import annotations

import asyncio
import functools
import logging
import os
import shutil
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

from clusterctl_runtime.agent.directory import NodeDirectory
from clusterctl_runtime.agent.engine import EngineHost
from clusterctl_runtime.agent.hardware import Hardware
from clusterctl_runtime.agent.link import Link, Refused
from clusterctl_runtime.agent.logs.unsent import LogBudget
from clusterctl_runtime.agent.measuring.measures import Measures
from clusterctl_runtime.agent.mounting.mounts import VARIABLE as MOUNTS_VARIABLE
from clusterctl_runtime.agent.mounting.mounts import Mounts
from clusterctl_runtime.agent.notices.source import Confirms, Notice, Source
from clusterctl_runtime.agent.notices.watch import source_of, watch_notices
from clusterctl_runtime.agent.outbox import Outbox
from clusterctl_runtime.agent.preparing.blobs import fetch_blobs, fetch_wheel
from clusterctl_runtime.agent.preparing.layers import Layers
from clusterctl_runtime.agent.preparing.packages import Packages
from clusterctl_runtime.agent.preparing.prepare import FILES_VARIABLE, Preparation
from clusterctl_runtime.agent.preparing.removal import remove_tree
from clusterctl_runtime.agent.tasks.cgroups import end_groups, make_groups
from clusterctl_runtime.agent.tasks.environ import TASK_MARK, NotReady, base_environment
from clusterctl_runtime.agent.tasks.exits import watch_exits
from clusterctl_runtime.agent.tasks.gpus import Gpus
from clusterctl_runtime.agent.tasks.journal import Journal
from clusterctl_runtime.agent.tasks.leftovers import Leftovers
from clusterctl_runtime.agent.tasks.runner import Runner
from clusterctl_runtime.agent.tasks.watchdog import Watchdog, sweep
from clusterctl_runtime.engine.found import read_engine_facts
from clusterctl_runtime.wire import WIRE_VERSION, Bootstrap, Message, TaskSpec

log = logging.getLogger(__name__)
EXIT_STOPPED, EXIT_REFUSED, EXIT_ORPHANED = 0, 3, 4
END_GRACE_SECONDS = 5.0
_FAREWELL_SECONDS = 2.0  # for the head to acknowledge the last reports
_POWEROFF = [["systemctl", "poweroff"], ["sudo", "-n", "systemctl", "poweroff"], ["shutdown", "-h", "now"]]


class Node:
    """One agent. `run` returns the process' exit code."""

    def __init__(
        self, bootstrap: Bootstrap, directory: NodeDirectory, boot_id: str, watchdog: Watchdog, version: str
    ) -> None:
        self._bootstrap, self._directory, self._boot_id, self._watchdog = bootstrap, directory, boot_id, watchdog
        self._version = version
        self._owner: list[str | int] = [bootstrap.uid, bootstrap.node_id, bootstrap.generation]
        self._credential = directory.credential(self._owner)
        self._hardware = Hardware(directory.path, self._hardware_changed)
        self._engine_facts: dict[str, Any] = {}
        os.environ[FILES_VARIABLE] = str(directory.files)  # the engine's processes inherit it too
        os.environ.setdefault(MOUNTS_VARIABLE, "")
        self._environment = base_environment()
        self._engine_changed = False
        self._notice: Message | None = None
        self._notice_sent = False
        self._farewell: Message | None = None  # that this agent ends, where the head has not said so
        self._power, self._grace = False, END_GRACE_SECONDS
        self._ending: asyncio.Future[tuple[int, str]] = asyncio.get_running_loop().create_future()
        self._journal = Journal(directory.journal, boot_id)
        for earlier in self._journal.boots:
            end_groups(earlier)
            sweep(earlier, set(), os.getsid(0))  # its watchdog may still be at it; "lost" must mean dead
        self._clear_scratch()
        self._journal.begin()
        self._link = Link(bootstrap, self)
        self._engine = EngineHost(
            directory.engine,
            self._engine_says,
            Path(bootstrap.engines) if bootstrap.engines else directory.path / "engines",
            functools.partial(fetch_wheel, self._link, self._blob_hello),
            Path(bootstrap.disk) if bootstrap.disk else directory.path,
        )
        self._exits = watch_exits(asyncio.get_running_loop())
        self._notice_its_death()
        self._outbox = Outbox(self._journal, watchdog, self._link.wake)
        self._packages = Packages(directory.packages, functools.partial(fetch_blobs, self._link, self._blob_hello))
        self._mounts = Mounts(directory.path, self._link.wake, lambda pid: self._leftovers.spare(pid))
        self._preparation = Preparation(
            directory.files,
            directory.prepared,
            self._packages,
            watchdog,
            self._environment,
            self._mounts,
            self._link.wake,
        )
        groups = make_groups(boot_id)
        watchdog.watch_group(str(groups.path) if groups else "")
        self._leftovers = Leftovers(boot_id, groups, lambda: self._preparation.state["state"] == "running")
        given = os.environ.get("CUDA_VISIBLE_DEVICES", "")
        self._gpus = Gpus(int(bootstrap.resources.get("GPU", 0)), given)
        self._runner = self._make_runner()
        self._runner.recover(self._journal.open_tasks)
        self._measures = Measures(
            {
                "root": Path("/"),
                "work": directory.path,
                "data": Path(bootstrap.disk) if bootstrap.disk else directory.path,
            },
            lambda: str(self._hardware.facts.get("gpu_trouble") or ""),
            self._runner.running,
        )

    def _make_runner(self) -> Runner:
        free = shutil.disk_usage(self._directory.path).free
        return Runner(
            work=self._directory.work,
            journal=self._journal,
            packages=self._packages,
            layers=Layers(self._directory.layers),
            gpus=self._gpus,
            budget=LogBudget(self._directory.spool, disk=min(1024**3, free // 10)),
            watchdog=self._watchdog,
            leftovers=self._leftovers,
            exits=self._exits,
            environment=self._task_environment,
            outbox=self._outbox,
        )

    def _notice_its_death(self) -> None:
        self._exits.watch(self._watchdog.pid, self._watchdog_died)

    def _watchdog_died(self) -> None:
        log.warning("the watchdog was killed: starting another")
        self._exits.reap(self._watchdog.pid)
        self._watchdog.start()
        self._notice_its_death()

    def _clear_scratch(self) -> None:
        for path in (self._directory.work, self._directory.spool):
            remove_tree(path)
            path.mkdir(mode=0o700)

    async def run(self) -> int:
        """Until the head stops this node, refuses it for good or is silent for too long, or a signal comes. Its work is
        ended by then, and after one of the first three the machine is turned off where the bootstrap document says so."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._asked_to_end)
        self._engine_facts = await loop.run_in_executor(None, read_engine_facts)
        await self._hardware.look()
        self._hardware_changed()
        await self._preparation.recheck()
        linking = asyncio.ensure_future(self._stay_linked())
        keeping = asyncio.ensure_future(self._keep_lease())
        source = source_of(self._bootstrap.metadata, self._directory.path)
        noticing = asyncio.ensure_future(watch_notices(self._take_notice, source)) if source else None
        code, reason = await self._ending
        keeping.cancel()
        self._hardware.close()
        if noticing:
            noticing.cancel()
        log.warning("ending: %s", reason)
        await self._end_work(reason)
        await self._mounts.close()
        await self._confirm(source)
        linking.cancel()
        self._leftovers.close()
        self._clear_scratch()
        if self._power and self._bootstrap.shutdown == "poweroff":
            power_off()
        return code

    def _hardware_changed(self) -> None:
        self._gpus.name(self._hardware.facts)

    def _asked_to_end(self) -> None:
        """By a signal. It is a notice where the bootstrap document says so: the head has the time to drain this node, and what
        runs is ended only just before everything is."""
        left = self._bootstrap.notice
        abandoned = self._runner.is_idle and not self._link.welcomed  # there is nothing to wait for, and nobody
        if left and not self._notice and not abandoned:
            self._take_notice(("the pod is to end", time.time() + left))
            last = max(0.0, left - 2 * END_GRACE_SECONDS)
            asyncio.get_running_loop().call_later(last, self._end, EXIT_STOPPED, "this pod's time is up", False)
        else:
            self._end(EXIT_STOPPED, "this node's agent was asked to end", False)

    def _end(self, code: int, reason: str, power: bool = True) -> None:
        """`power`: the machine is to go as well. Not after a signal, which says that it does so already or must not."""
        if not self._ending.done():
            self._power = power
            self._ending.set_result((code, reason))
            if code != EXIT_REFUSED:
                self._farewell = {"t": "ending", "reason": reason}
                self._link.wake()

    async def _stay_linked(self) -> None:
        try:
            await self._link.run()
        except Refused as error:
            self._end(EXIT_REFUSED, str(error))

    async def _keep_lease(self) -> None:
        """The dead-man switch: a head silent for `orphan_timeout` will not end this node, so the node does."""
        timeout = self._bootstrap.orphan_timeout
        left = timeout
        while left > 0:
            await asyncio.sleep(left)
            left = self._link.heard + timeout - time.monotonic()
        self._end(EXIT_ORPHANED, f"the head was silent for {timeout:g} s")

    async def _confirm(self, source: Source | None) -> None:
        """A machine that was to go in a while may go now. Not after a signal: an agent may start here again."""
        if self._notice and self._power and isinstance(source, Confirms):
            try:
                await asyncio.get_running_loop().run_in_executor(None, source.confirm)
            except OSError as error:
                log.info("the provider was not told that this machine may go: %s", error)

    async def _end_work(self, reason: str) -> None:
        self._runner.end(self._grace, reason)
        await self._preparation.stop()
        engine = self._engine.stop(self._grace)
        await self._runner.idle()
        await asyncio.wait([engine], timeout=2 * END_GRACE_SECONDS + self._grace)
        if self._link.welcomed:
            await asyncio.wait([asyncio.ensure_future(self._runner.settled())], timeout=_FAREWELL_SECONDS)

    # -- what the link asks for ---------------------------------------------------------------------------------------

    def hello(self) -> Message:
        return {
            **self._blob_hello(),
            "purpose": "control",
            "version": self._version,
            "facts": {**self._hardware.facts, "engine": self._engine_facts, "clock": time.time()},
            "tasks": self._runner.reports(),
            "engine": self._engine.state,
            "prepared": {"digest": self._preparation.state["digest"], "state": self._preparation.state["state"]},
        }

    def _blob_hello(self) -> Message:
        boot = self._bootstrap
        return {
            "t": "hello",
            "wire": WIRE_VERSION,
            "purpose": "blob",
            "uid": boot.uid,
            "node_id": boot.node_id,
            "generation": boot.generation,
            "secret": self._credential or boot.join_token,
            "boot_id": self._boot_id,
        }

    def _take_notice(self, notice: Notice) -> None:
        kind, at = notice
        log.warning(
            "the provider takes this machine back (%s) at %s", kind, time.strftime("%H:%M:%S UTC", time.gmtime(at))
        )
        self._notice, self._notice_sent = {"t": "notice", "kind": "preempt", "at": at, "detail": kind}, False
        self._link.wake()

    def welcome(self, message: Message) -> None:
        """Keeps the credential, which comes with the first welcome only, on disk; what is unacknowledged is sent again."""
        credential = message.get("credential")
        if credential:
            self._directory.keep_credential(self._owner, credential)
            self._credential = credential
        self._runner.connected(True)

    def parted(self) -> None:
        self._notice_sent = False  # a head that was restarted has not heard it
        self._preparation.parted()
        self._mounts.parted()
        self._runner.connected(False)

    def receive(self, message: Message) -> None:
        """One message from the head. A kind we do not know comes from a newer head and is not for us."""
        kind = message["t"]
        if kind == "run":
            self._runner.run([TaskSpec.from_json(item) for item in message["tasks"]])
        elif kind == "ack":
            self._runner.acknowledge(message.get("tasks") or [], message.get("logs") or {})
        elif kind == "kill":
            grace = float(message.get("grace_seconds", END_GRACE_SECONDS))
            self._runner.kill(message["tasks"], grace, message.get("reason", ""))
        elif kind == "recall":
            self._runner.recall(message["tasks"])
        elif kind == "prepare":
            if not self._ending.done():
                self._preparation.start(message)
        elif kind == "engine_start":
            self._engine.start(message["config"])
        elif kind == "engine_stop":
            self._engine.stop(float(message.get("grace_seconds", END_GRACE_SECONDS)))
        elif kind == "stop":
            self._grace = float(message.get("grace_seconds", END_GRACE_SECONDS))
            self._end(EXIT_STOPPED, message.get("reason") or "the head stopped this node")

    def outgoing(self) -> list[Message]:
        """What has changed since it was last asked; a notice once per connection."""
        messages: list[Message] = []
        if self._farewell:  # first: what is tried again must not come back here
            messages.append(self._farewell)
            self._farewell = None
        if self._engine_changed:
            self._engine_changed = False
            messages.append({**self._engine.state, "t": "engine"})
        if self._notice and not self._notice_sent:
            self._notice_sent = True
            messages.append({**self._notice, "left": self._notice["at"] - time.time()})
        if prepared := self._preparation.take():
            messages.append(prepared)
        if mounts := self._mounts.take():
            messages.append(mounts)
        items = self._outbox.take_reports()
        if items:
            messages.append({"t": "tasks", "items": items})
        return messages

    def vitals(self) -> Message:
        return self._measures.news()

    def next_log(self) -> tuple[Message, bytes] | None:
        return self._outbox.take_log()

    def _engine_says(self) -> None:
        self._engine_changed = True
        self._link.wake()

    def _task_environment(self, spec: TaskSpec) -> dict[str, str]:
        if trouble := self._mounts.trouble():
            raise NotReady(trouble)
        env = {**self._environment, **spec.env, TASK_MARK: spec.task}
        if spec.engine:
            env.update(self._engine.environment(spec))
        return env


def power_off() -> None:
    """Turns the machine off; the first command that works decides."""
    for argv in _POWEROFF:
        try:
            if subprocess.run(argv, timeout=30, check=False).returncode == 0:
                return
        except (OSError, subprocess.SubprocessError) as error:
            log.warning("%s: %s", " ".join(argv), error)
    log.error("this machine could not be turned off: turn it off by hand, it may cost money")
