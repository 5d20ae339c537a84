"""The engine on one node: Ray's processes started, watched and ended without a trace. Standard library only, for the bundle.

A raylet is `ray start --block` (through start.py) in a session of its own, with a mark in its environment that every descendant
inherits. Its scratch is a short private directory (unix sockets allow 107 characters) that is removed at the end.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
import pkgutil
import re
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from clusterctl_runtime.engine.command import EngineConfig, RayCommand
from clusterctl_runtime.engine.ports import claim_block
from clusterctl_runtime.engine.processes import end_marked
from clusterctl_runtime.files.private import write_private

if TYPE_CHECKING:
    from clusterctl_runtime.wire import TaskSpec

__all__ = ["EngineConfig", "EngineFailed", "Raylet", "task_env"]

LONGEST_TEMP_DIR = 38  # to it come up to 68 characters of Ray's: /session_<date>_<pid>/sockets/dash_MetricsHead
START_SECONDS = 180.0
TAIL_LINES = 10
_FRAME = re.compile(r"\(\+0x|\*\*\* StackTrace|^Traceback|^\s*File \"|^\s*\^+\s*$")
_TELLING = re.compile(r" [CEF] \d+ \d+\]|rror|Check failed")


class EngineFailed(Exception):
    """Ray did not start, in a sentence with the end of its own log."""


class Raylet:
    """One raylet (and on the head the GCS and the dashboard). `on_change` is called with `state` whenever it changed.

    `state`: {"state": "starting|ready|failed|stopped", "ray_node_id", "address" (for RAY_ADDRESS), "dashboard" ("host:port", head
    only; it answers some seconds after the node is ready), "version", "python_version", "session" (the same after a restart = the
    same Ray cluster), "metrics_port" (of Ray's own figures for Prometheus), "detail", "token_path"}.
    """

    def __init__(self, config: EngineConfig, directory: Path, on_change: Callable[[dict[str, Any]], None]) -> None:
        self._config, self._directory, self._on_change = config, directory, on_change
        self._mark = hashlib.sha256(f"{config.instance_id}\0{directory.resolve()}".encode()).hexdigest()[:24]
        self._scratch, temp_dir = self._places()
        self._command = RayCommand(config, directory, temp_dir, self._mark)
        self._process: asyncio.subprocess.Process | None = None
        self._reader: asyncio.Task[None] | None = None
        self._ready: asyncio.Future[None] | None = None
        self._died: dict[str, Any] | None = None
        self._ending = False
        self.state: dict[str, Any] = {"state": "stopped", "token_path": str(self._command.token_path)}

    async def start(self) -> None:
        """Returns when Ray says that this node is up; raises EngineFailed otherwise, with nothing left running."""
        self._ending = False
        self._set(state="starting", detail="", ray_node_id="", address="", dashboard="", version="", session="")
        wanted, able, detail = self._config.fault_tolerant, sys.platform.startswith("linux"), ""
        persistent = self._config.role == "head" and able and wanted is not False
        failure = (
            await self._attempt(persistent) if able or not wanted else f"on {sys.platform} Ray keeps nothing on disk"
        )
        unkept = bool(failure) and (not able or (persistent and (self._died or {}).get("process") == "gcs_server"))
        if unkept and wanted:
            failure += "\nengine.ray.fault_tolerant is true: Ray's head does not start without its state on disk"
        elif unkept and persistent:
            shutil.rmtree(self._command.store, ignore_errors=True)
            detail = f"Ray begins anew and will keep nothing over a restart: {failure}"
            failure = await self._attempt(persistent=False)
        if failure:
            self._set(state="failed", detail=failure)
            raise EngineFailed(failure)
        self._set(state="ready", detail=f"{detail} {self.state['detail']}".strip())

    async def stop(self, grace: float = 5.0) -> None:
        """Ends every process of it, SIGKILL after `grace` seconds, and removes its scratch. Idempotent. What a head's GCS has
        stored stays in the node's directory: a head started there again is the same Ray cluster."""
        self._ending = True
        await self._clean(grace)
        if self.state["state"] != "stopped":
            self._set(state="stopped", detail="")

    # ------------------------------------------------------------ starting

    async def _attempt(self, persistent: bool) -> str:
        """ "" when Ray is up; else why not, in a sentence, and nothing of it is left."""
        self._died, self._command.persistent = None, persistent
        try:
            self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            await end_marked(self._mark)  # an agent that was killed leaves its raylet a moment to end: not beside ours
            self._make_scratch()
            self._write_files()
            await self._launch()
            await self._until_ready()
        except (OSError, EngineFailed) as error:
            where = f"{self._config.role} {self._config.instance_id}".strip()
            failure = f"Ray did not start on {where}: {error}{self._tail()}"
            await self._clean(grace=0.0)
            return failure
        except BaseException:
            await self._clean(grace=0.0)
            raise
        return ""

    def _places(self) -> tuple[Path, Path]:
        """What is removed at the end, and Ray's directory in it, which Ray opens to everyone: it lies in a closed one. Inside the
        node's own directory, which goes with the node even if all of this is killed; elsewhere when that path is too long."""
        inside = self._directory.resolve() / "r"
        if not self._config.temp_dir and len(str(inside)) <= LONGEST_TEMP_DIR:
            return inside, inside
        scratch = Path(self._config.temp_dir or f"/tmp/cctl-ray-{self._mark[:12]}")  # noqa: S108  made 0700, refused if there
        return scratch, scratch / "r"

    def _make_scratch(self) -> None:
        path = self._command.temp_dir
        if len(str(path)) > LONGEST_TEMP_DIR:
            raise EngineFailed(
                f"the engine's directory {path} is too long for Ray's unix sockets ({len(str(path))} characters, at most "
                f"{LONGEST_TEMP_DIR}): set a shorter one"
            )
        for old in (self._scratch, self._command.spill):
            shutil.rmtree(old, ignore_errors=True)
        self._command.spill.mkdir(mode=0o700)
        self._scratch.mkdir(mode=0o700)  # FileExistsError when it is someone else's, or a link
        path.mkdir(exist_ok=True)

    def _write_files(self) -> None:
        write_private(self._command.token_path, self._config.token)
        source = pkgutil.get_data("clusterctl_runtime.engine", "start.py")
        assert source is not None
        (self._directory / "start.py").write_bytes(source)
        (self._directory / "ray.log").write_bytes(b"")

    async def _launch(self) -> None:
        if self._config.single_host:
            self._command.block = claim_block()
        if taken := self._command.taken_port():
            raise EngineFailed(
                f"port {taken[1]} ({taken[0]}) is taken by another program on this node: end it, or set another"
            )
        with (self._directory / "ray.log").open("wb") as output:
            self._process = await asyncio.create_subprocess_exec(
                *self._command.argv(),
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=output,
                env=self._command.environment(),
                cwd=self._command.temp_dir,
                umask=0o022,  # Ray's workers run people's code, like jobs
                start_new_session=True,
            )
        self._ready = asyncio.get_running_loop().create_future()
        self._reader = asyncio.create_task(self._follow(self._process))

    async def _follow(self, process: asyncio.subprocess.Process) -> None:
        """Reads what start.py announces until the process has ended."""
        assert process.stdout is not None
        async for line in process.stdout:
            with contextlib.suppress(ValueError):
                message = json.loads(line)
                if message.get("event") == "ready":
                    self._came_up(message)
                elif message.get("event") == "died":
                    self._died = message
                elif message.get("event") == "dashboard" and message.get("failure"):
                    lacking = "Ray's dashboard did not start, so its Jobs API and state API are missing"
                    self._set(dashboard="", detail=f"{lacking}: {message['failure']}")
                elif message.get("event") == "gcs_restarted":
                    self._set(
                        detail=f"the GCS ended with {_exit_text(message['code'])} and was started again where it was"
                    )
        await process.wait()
        if self._ready is not None and not self._ready.done():
            self._ready.set_exception(EngineFailed(self._end_text(process)))
        elif not self._ending:
            await self._ended_by_itself(process)

    def _came_up(self, message: dict[str, Any]) -> None:
        if _version(str(message["version"])) < _version(self._config.min_version):
            refusal = (
                f"Ray {message['version']} is older than {self._config.min_version}, the first with dependable tokens"
            )
            if self._ready is not None and not self._ready.done():
                self._ready.set_exception(EngineFailed(refusal))
            return
        known = {
            k: message[k] for k in ("ray_node_id", "address", "dashboard", "version", "python_version", "session_dir")
        }
        metrics_port = self._command.ports()["metrics_export"]
        self.state.update(known, session=Path(known["session_dir"]).name, metrics_port=metrics_port)
        if self._config.role == "head":
            self._command.remember_gcs_port(known["address"])
        if self._ready is not None and not self._ready.done():
            self._ready.set_result(None)

    async def _until_ready(self) -> None:
        assert self._ready is not None
        try:
            await asyncio.wait_for(asyncio.shield(self._ready), START_SECONDS)
        except asyncio.TimeoutError:
            raise EngineFailed(f"it was not up after {START_SECONDS:.0f} s") from None

    # ------------------------------------------------------------ ending

    async def _ended_by_itself(self, process: asyncio.subprocess.Process) -> None:
        drained = self._died is not None and self._died["code"] == 0
        detail = "drained" if drained else f"{self._end_text(process)}{self._tail()}"
        await self._clean(grace=0.0, reader=False)
        if not self._ending:
            self._set(state="stopped" if drained else "failed", detail=detail)

    def _end_text(self, process: asyncio.subprocess.Process) -> str:
        if self._died is None:
            return f"ray start ended with {_exit_text(process.returncode)}"
        return f"{self._died['process']} ended with {_exit_text(self._died['code'])}"

    def _tail(self) -> str:
        """The last lines of Ray's own words, for people: those that name an error, without stack frames."""
        lines: list[str] = []
        session = self.state.get("session_dir") or str(self._command.temp_dir / "session_latest")
        logs = [
            Path(session, "logs", name) for name in ("gcs_server.out", "gcs_server.err", "raylet.out", "raylet.err")
        ]
        for path in [*logs, self._directory / "ray.log"]:
            with contextlib.suppress(OSError):
                text = path.read_bytes()[-32768:].decode(errors="replace")
                told = [line.strip() for line in text.splitlines() if line.strip() and not _FRAME.search(line)]
                lines += (
                    [line for line in told if _TELLING.search(line)][-TAIL_LINES:]
                    if path in logs
                    else told[-TAIL_LINES:]
                )
        return "".join(f"\n  | {line[:400]}" for line in lines[-TAIL_LINES:])

    async def _clean(self, grace: float, reader: bool = True) -> None:
        process = self._process
        if process is not None and process.returncode is None and grace > 0:
            with contextlib.suppress(ProcessLookupError):
                process.terminate()
            with contextlib.suppress(asyncio.TimeoutError):
                await asyncio.wait_for(process.wait(), grace)
        await end_marked(self._mark, session=process.pid if process else 0)
        if reader and self._reader is not None:
            await asyncio.wait([self._reader])
            self._reader = None
        if process is not None and process.stdin is not None:
            process.stdin.close()
        self._process = None
        if self._command.block is not None:
            self._command.block.release()
            self._command.block = None
        for path in (self._scratch, self._command.spill):
            await asyncio.to_thread(shutil.rmtree, path, ignore_errors=True)

    def _set(self, **changes: Any) -> None:
        self.state = {**self.state, **changes}
        self._on_change(dict(self.state))


# ---------------------------------------------------------------- what a task sees

_OURS = ("CLUSTERCTL_", "CUDA_VISIBLE_DEVICES", "RAY_AUTH_")
_GANG = {
    "RANK",
    "WORLD_SIZE",
    "LOCAL_RANK",
    "LOCAL_WORLD_SIZE",
    "GROUP_RANK",
    "NODE_RANK",
    "MASTER_ADDR",
    "MASTER_PORT",
    "RAY_ADDRESS",
}


def task_env(config: EngineConfig, state: dict[str, Any], task: TaskSpec) -> dict[str, str]:
    """The variables that attach a task to the engine: a plain `ray.init()` joins this cluster, and Ray's workers on every node
    get the task's working directory (when it has one), its environment and its `runtime_env`. What the program itself passes to
    `ray.init(runtime_env=...)` wins."""
    runtime_env = dict(task.runtime_env)
    if task.package:
        runtime_env.setdefault("working_dir", ".")  # of the process, which starts in its unpacked package
    if task.requirements and not {"pip", "uv", "conda"} & runtime_env.keys():
        runtime_env["pip"] = list(task.requirements)  # Ray's workers are no children of the task
        runtime_env["config"] = {"eager_install": False, **runtime_env.get("config", {})}  # only where one starts
    wanted = {k: v for k, v in task.env.items() if not k.startswith(_OURS) and k not in _GANG}
    if wanted or runtime_env.get("env_vars"):
        runtime_env["env_vars"] = {**wanted, **runtime_env.get("env_vars", {})}
    attached = (
        {} if config.node_ip else {"RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0"}
    )  # else Ray replaces 127.0.0.1 in its address
    dashboard = str(state.get("dashboard") or config.dashboard)
    served = f"http://{dashboard}"
    return {
        **attached,
        "RAY_ADDRESS": str(state["address"]),
        **({"RAY_API_SERVER_ADDRESS": served, "RAY_DASHBOARD_ADDRESS": served} if dashboard else {}),
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN_PATH": str(state["token_path"]),
        "RAY_USAGE_STATS_ENABLED": "0",
        "RAY_JOB_CONFIG_JSON_ENV_VAR": json.dumps(
            {"runtime_env": runtime_env, "metadata": {"clusterctl_task": task.task}}
        ),
        "RAY_OVERRIDE_JOB_RUNTIME_ENV": "1",
        "RAY_RUNTIME_ENV_IGNORE_GITIGNORE": "1",  # the package was made with its own rules: all of it is wanted
    }


def _version(text: str) -> tuple[int, ...]:
    parts = []
    for piece in text.split(".")[:3]:
        digits = "".join(c for c in piece if c.isdigit())
        parts.append(int(digits or 0))
    return tuple(parts)


def _exit_text(code: int | None) -> str:
    if code is not None and code < 0:
        return f"signal {-code}"
    return f"exit code {code}"
