"""The head's side of the helper: state comes in as values of the core, commands go out and are awaited."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import itertools
import json
import logging
import os
import time
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from clusterctl.core.errors import ClusterctlError
from clusterctl.core.model import Demand
from clusterctl.core.resources import Resources
from clusterctl_runtime.engine.demand import NodeUser, Waiting, demand_of, plain_resources, waiting_of

HELPER = Path(__file__).with_name("helper.py")
REPLY_SECONDS = 30.0
PIECE = 1 << 20  # bytes of a package that travel at a time
RESTART_SECONDS = (0.2, 0.5, 1.0, 2.0, 5.0)
UNSUPPORTED_EXIT = 3


class EngineRefused(ClusterctlError):
    """The engine did not do what was asked; the message is its answer."""


class EngineUnsure(EngineRefused):
    """It was asked and did not answer: what was asked may have been done, or be done yet."""


@dataclass(frozen=True)
class EngineNode:
    """A raylet as Ray sees it. GPUs that Ray holds for us (`hold_gpus`) are taken out of `total`, and are no use or activity of
    Ray's own. `status`: IDLE, RUNNING, DRAINING or DEAD. `idle_seconds` is as of the last change."""

    ray_node_id: str
    instance_id: str
    status: str
    idle_seconds: float
    total: Resources
    available: Resources
    activity: tuple[str, ...] = ()


@dataclass(frozen=True)
class EngineState:
    """`healthy`: false while the GCS does not answer, or when this Ray cannot be read at all (`message` says which): then nothing
    but the pools' `min` is known to be wanted. `drivers`: who runs, by our task or else Ray's job id; None while Ray is not
    asked, which is while nothing is requested with `request_resources`."""

    nodes: tuple[EngineNode, ...] = ()
    demand: tuple[Demand, ...] = ()
    drivers: tuple[str, ...] | None = None
    version: str = ""
    healthy: bool = False
    message: str = ""


@dataclass(frozen=True)
class Hold:
    """GPUs of a node, or a share of one (`gpus` < 1), that Ray gives to nobody else. They outlive the helper and the head;
    `ids` is () until Ray has said them."""

    id: str
    ray_node_id: str
    gpus: float
    ids: tuple[int, ...] = ()


def helper_environment(gcs_address: str, token_path: str) -> dict[str, str]:
    """What the helper is started with, beside the engine's own environment."""
    return {
        "CLUSTERCTL_GCS": gcs_address,
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN_PATH": token_path,
        "RAY_USAGE_STATS_ENABLED": "0",
        "RAY_gcs_rpc_server_reconnect_timeout_s": "600",  # else a GCS that is away for a minute ends the helper
        "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",  # 127.0.0.1 is meant
    }


class EngineClient:
    """One helper process, started again when it dies. `on_state` is called with each new state, in the event loop. `command`
    runs it somewhere else, with its stdin and stdout passed through."""

    def __init__(
        self,
        python: str,
        gcs_address: str,
        token_path: str,
        on_state: Callable[[EngineState], None],
        log: logging.Logger | None = None,
        command: Sequence[str] = (),
    ) -> None:
        self._command = [*command] or [python, "-I", str(HELPER)]
        self._python, self._gcs_address, self._token_path = python, gcs_address, token_path
        self._on_state, self._log = on_state, log or logging.getLogger(__name__)
        self._process: asyncio.subprocess.Process | None = None
        self._task: asyncio.Task[None] | None = None
        self._ids = itertools.count(1)
        self._replies: dict[int, asyncio.Future[dict[str, Any]]] = {}
        self._holds: dict[str, Hold] = {}
        self._unwanted: dict[str, None] = {}  # of these: to be let go, also when the helper is away at that moment
        self._unsure: list[str] = []  # of these: the helper died, and Ray may have with it
        self._retaking: asyncio.Task[None] | None = None
        self._since: dict[str, float] = {}  # demand id -> when it was first seen, unix seconds
        self._raw: dict[str, Any] = {}
        self.state = EngineState(message="the engine's helper is starting")

    async def start(self) -> None:
        """Returns at once; the helper is kept running until `stop`. Idempotent."""
        if self._task is None:
            self._task = asyncio.create_task(self._keep_running())

    async def stop(self) -> None:
        """Ends the helper. GPUs that Ray holds for us stay held: `strays` finds them again."""
        tasks = [task for task in (self._task, self._retaking) if task is not None]
        self._task = self._retaking = None
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)
        await self._end_process()

    # ------------------------------------------------------------ commands

    async def resize(self, ray_node_id: str, resources: dict[str, float]) -> dict[str, float]:
        """Sets the raylet's totals of the named resources and returns all that are in force: what tasks hold is not taken away,
        so what is still more than asked for is in use. GPU cannot be resized (EngineRefused)."""
        reply = await self._ask("resize", node=ray_node_id, resources=resources)
        return {str(k): float(v) for k, v in reply["totals"].items()}

    async def drain_if_idle(self, ray_node_id: str, message: str) -> bool:
        """True once Ray takes no new work on a node where nothing runs, and its state says so; False where something does.
        EngineRefused when Ray could not be asked."""
        reply = await self._ask("drain", node=ray_node_id, message=message, if_idle=True)
        return bool(reply["accepted"])

    async def drain(self, ray_node_id: str, message: str, left: float | None = None) -> None:
        """Returns once Ray takes no new work there and its state says so: the raylet ends by itself when nothing runs on it any
        more. `left`: seconds that running work has, which Ray tells its libraries; None for no end. Said again it sets another
        time. EngineRefused when Ray could not be asked."""
        await self._ask("drain", node=ray_node_id, message=message, if_idle=False, left=left)

    async def hold_gpus(self, ray_node_id: str, count: float) -> tuple[str, list[int]]:
        """(hold id, ids of the GPUs): Ray gives them to nobody until `release_gpus`. `count` is whole, or a share of one GPU, of
        which Ray may give the rest to others. EngineRefused when they are not free, or Ray could not be asked: then nothing
        stays held."""
        node = next((n for n in self.state.nodes if n.ray_node_id == ray_node_id), None)
        if node is None or node.available.get("GPU") < count:
            raise EngineRefused(f"Ray node {ray_node_id[:12]} has no {count:g} free GPUs")
        hold_id = uuid.uuid4().hex
        self._holds[hold_id] = Hold(hold_id, ray_node_id, count)
        try:
            reply = await self._ask("hold_gpus", node=ray_node_id, count=count, hold=hold_id)
        except BaseException as error:
            if isinstance(error, EngineRefused) and not isinstance(error, EngineUnsure):
                self._holds.pop(hold_id, None)
            else:  # Ray may hold them all the same
                self._unwanted[hold_id] = None
            self._publish_again()
            raise
        ids = [int(i) for i in reply["gpu_ids"]]
        self._holds[hold_id] = Hold(hold_id, ray_node_id, count, tuple(ids))
        self._publish_again()
        return hold_id, ids

    async def release_gpus(self, hold_id: str) -> None:
        """Idempotent. Where it could not be done now, it is with the next `let_go`, and when the helper is back."""
        if hold_id in self._holds:
            self._unwanted[hold_id] = None
            if self._retaking is not None:
                await asyncio.wait([self._retaking])
            await self.let_go()

    async def let_go(self) -> bool:
        """Releases what is not wanted any more; whether nothing of that is left."""
        for hold_id in list(self._unwanted):
            try:
                await self._ask("release", hold=hold_id)
            except EngineRefused as error:
                self._log.warning("GPUs go back to Ray later: %s", error)
                continue
            self._unwanted.pop(hold_id, None)
            self._holds.pop(hold_id, None)
            self._publish_again()
        return not self._unwanted

    def holds_on(self, ray_node_id: str) -> list[Hold]:
        """What Ray holds for us there, or still may."""
        return [hold for hold in self._holds.values() if hold.ray_node_id == ray_node_id]

    def is_granted(self, hold: Hold) -> bool:
        """Whether Ray has named its GPUs and is not to let go of them."""
        return bool(hold.ids) and hold.id in self._holds and hold.id not in self._unwanted

    def knows(self, hold_id: str) -> bool:
        """Whether it is one of ours, granted or asked for."""
        return hold_id in self._holds

    async def strays(self) -> list[Hold]:
        """Holds that this client knows nothing of: of a head before this one, or asked for through a helper that died before it
        answered. One that Ray has not granted has no node."""
        if not any(
            node["available"].get("GPU", 0) < node["total"].get("GPU", 0) for node in self._raw.get("nodes", ())
        ):
            return []  # nor can there be any: the helper need not become a driver of Ray, which costs time and memory
        rows = (await self._ask("holds"))["holds"]
        found = [Hold(row["hold"], row["node"], row["gpus"], tuple(row["gpu_ids"])) for row in rows]
        return [hold for hold in found if hold.id not in self._holds]

    def adopt(self, hold: Hold) -> None:
        """A stray becomes one of ours."""
        self._holds[hold.id] = hold
        self._publish_again()

    async def _hold_again(self, hold_ids: Sequence[str]) -> None:
        """Holds outlive the helper, but not a Ray that lost its state: it may have given the GPUs away since, which is logged."""
        await self.let_go()
        for hold_id in hold_ids:
            hold = self._holds.get(hold_id)
            if hold is None:
                continue
            try:
                reply = await self._ask("hold_gpus", node=hold.ray_node_id, count=hold.gpus, hold=hold_id)
            except EngineRefused as error:
                self._holds.pop(hold_id, None)
                self._log.error(
                    "%g GPUs of Ray node %s are not held any more: %s", hold.gpus, hold.ray_node_id[:12], error
                )
                continue
            if sorted(reply["gpu_ids"]) != sorted(hold.ids):
                self._log.error(
                    "Ray now holds GPUs %s of node %s, it was %s", reply["gpu_ids"], hold.ray_node_id[:12], hold.ids
                )
        self._publish_again()

    async def report(self, pending: list[dict[str, str]], failed: list[dict[str, Any]]) -> None:
        """Tells Ray of our nodes on the way, for `ray status`. pending: instance_id, ray_node_type_name (pool),
        instance_type_name, details; failed: ray_node_type_name, instance_type_name, count, reason."""
        await self._ask("report", pending=pending, failed=failed)

    async def forget_requests(self) -> bool:
        """Ends what `request_resources` asked for, which Ray itself keeps after the driver that asked has ended. False, and
        nothing is done, while any driver runs: Ray does not know who asked."""
        return bool((await self._ask("forget_requests"))["forgotten"])

    async def waiting(self) -> tuple[Waiting, ...]:
        """What waits for a node now, by driver. Ray is asked for it: some milliseconds, more with thousands of tasks."""
        return tuple(waiting_of((await self._ask("who"))["waiting"]))

    async def users(self, ray_node_id: str) -> tuple[NodeUser, ...]:
        """Actors and placement groups that are on a node."""
        rows = (await self._ask("users", node=ray_node_id))["users"]
        return tuple(NodeUser(row["kind"], row["name"], row["task"] or row["job"], row["detached"]) for row in rows)

    async def own_jobs(self) -> list[dict[str, Any]]:
        """Ray's own, the newest 100: {"id", "source": "ray", "kind": "submission" or "driver", "state" (as ours, or "ended"),
        "submitted", "started", "ended" (unix seconds or None), "exit_code", "reason", "entrypoint"}; drivers with "address" and
        "pid". EngineRefused when Ray could not be asked."""
        return list((await self._ask("jobs"))["jobs"])

    async def http(self, method: str, url: str, body: Any = None, seconds: float = REPLY_SECONDS) -> tuple[int, str]:
        """A request to Ray's dashboard, made where that listens: status and text of the answer. EngineRefused without one,
        EngineUnsure where it may have been carried out."""
        reply = await self._ask("http", method=method, url=url, body=body, seconds=seconds, patience=seconds + 5)
        return int(reply["status"]), str(reply["text"])

    async def bring_package(self, uri: str, path: Path) -> bool:
        """Ray's nodes can have this archive from Ray, until it is dropped; whether it had to be sent."""
        if (await self._ask("package", uri=uri))["there"]:
            return False
        size = path.stat().st_size
        with path.open("rb") as file:
            for start in range(0, max(size, 1), PIECE):
                piece = base64.b64encode(await asyncio.to_thread(file.read, PIECE)).decode()
                last = start + PIECE >= size
                await self._ask("package", uri=uri, data=piece, last=last, patience=90.0)
        return True

    async def drop_package(self, uri: str) -> None:
        """Ray forgets it. Idempotent."""
        await self._ask("drop_package", uri=uri)

    async def _ask(self, do: str, *, patience: float = REPLY_SECONDS, **arguments: Any) -> dict[str, Any]:
        process = self._process
        if process is None or process.stdin is None or process.returncode is not None:
            raise EngineRefused(f"the engine's helper is not running: {do} was not asked")
        number = next(self._ids)
        future: asyncio.Future[dict[str, Any]] = asyncio.get_running_loop().create_future()
        self._replies[number] = future
        try:
            process.stdin.write(json.dumps({"id": number, "do": do, **arguments}).encode() + b"\n")
            await process.stdin.drain()
            reply = await asyncio.wait_for(future, patience)
        except (asyncio.TimeoutError, ConnectionError) as error:
            raise EngineUnsure(f"the engine's helper did not answer to {do}") from error
        finally:
            self._replies.pop(number, None)
        if "ended" in reply:
            raise EngineUnsure(f"{do}: the engine's helper ended")
        if "error" in reply:
            raise EngineRefused(f"{do}: {reply['error']}")
        return reply

    # ------------------------------------------------------------ the process

    async def _keep_running(self) -> None:
        failures = 0
        while True:
            began = time.monotonic()
            try:
                code = await self._run_once()
            except OSError as error:
                self._publish(
                    EngineState(message=f"the engine's helper cannot be started with {self._python}: {error}")
                )
                code = None
            if code == UNSUPPORTED_EXIT:
                return
            failures = 0 if time.monotonic() - began > 30 else failures + 1
            await asyncio.sleep(RESTART_SECONDS[min(failures, len(RESTART_SECONDS)) - 1])

    async def _run_once(self) -> int:
        process = self._process = await asyncio.create_subprocess_exec(
            *self._command,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            env=self._environment(),
            limit=64 * 1024 * 1024,
        )
        assert process.stdout is not None and process.stderr is not None
        words: list[str] = []
        listener = asyncio.create_task(self._listen(process.stderr, words))
        try:
            async for line in process.stdout:
                self._take(json.loads(line))
            code = await process.wait()
        finally:
            await self._end_process()
            await asyncio.wait([listener])
        self._unsure = list(self._holds)
        for future in self._replies.values():
            if not future.done():
                future.set_result({"ended": True})
        if code != UNSUPPORTED_EXIT:
            said = f": {words[-1]}" if words else ""
            self._publish(
                EngineState(self.state.nodes, version=self.state.version, message=f"the engine's helper ended{said}")
            )
        return code

    def _environment(self) -> dict[str, str]:
        inherited = {k: v for k, v in os.environ.items() if not k.startswith("RAY_")}
        return {**inherited, **helper_environment(self._gcs_address, self._token_path)}

    async def _listen(self, stream: asyncio.StreamReader, words: list[str]) -> None:
        async for line in stream:
            text = line.decode(errors="replace").strip()
            if text:
                words[:] = [*words[-9:], text]
                self._log.debug("engine helper: %s", text)

    async def _end_process(self) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        if process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
        await process.wait()

    # ------------------------------------------------------------ what comes in

    def _take(self, message: dict[str, Any]) -> None:
        kind = message.get("t")
        if kind == "reply":
            future = self._replies.get(message["id"])
            if future is not None and not future.done():
                future.set_result(message)
        elif kind == "state":
            self._raw = message
            self._publish(self._state_of(message))
            if self._unsure:
                unsure, self._unsure = self._unsure, []
                self._retaking = asyncio.create_task(self._hold_again(unsure))
        elif kind == "lost":
            self._publish(EngineState(self.state.nodes, version=self.state.version, message=message["message"]))
        elif kind == "unsupported":
            text = f"{message['message']}: no more than the pools' min is kept; use a Ray that this clusterctl knows"
            self._publish(EngineState(message=text))

    def _publish(self, state: EngineState) -> None:
        self.state = state
        self._on_state(state)

    def _publish_again(self) -> None:
        """Our holds changed, and with them the reading of what Ray told last."""
        if self._raw and self.state.healthy:
            self._publish(self._state_of(self._raw))

    def _state_of(self, message: dict[str, Any]) -> EngineState:
        demand = demand_of(message, self._since, time.time())
        self._since = {d.id: d.since for d in demand}
        return EngineState(
            nodes=tuple(self._node_of(n) for n in message["nodes"]),
            demand=demand,
            drivers=None
            if (drivers := message.get("drivers")) is None
            else tuple(task or job for job, task in drivers.items()),
            version=message["version"],
            healthy=True,
        )

    def _node_of(self, raw: dict[str, Any]) -> EngineNode:
        total, available = plain_resources(raw["total"]), plain_resources(raw["available"])
        # One that Ray has not confirmed may be its own work's: what is in use then counts as that.
        held = sum(h.gpus for h in self._holds.values() if h.ray_node_id == raw["id"] and h.ids)
        ours = Resources.of(GPU=min(held, (total - available).get("GPU")))
        total = total - ours
        # Ray keeps the last reasons for being busy after a node has become idle.
        idle = total == available and (raw["status"] == "IDLE" or bool(ours))
        return EngineNode(
            ray_node_id=raw["id"],
            instance_id=raw["instance_id"],
            status="IDLE" if idle and raw["status"] == "RUNNING" else raw["status"],
            idle_seconds=raw["idle_ms"] / 1000,
            total=total,
            available=available,
            activity=() if idle else tuple(raw["activity"]),
        )
