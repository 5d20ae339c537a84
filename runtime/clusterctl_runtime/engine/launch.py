"""The engine on one node: Ray's processes started, watched and ended without a trace. Standard library only, for the bundle.

A raylet is `ray start --block` (through start.py) in a session of its own, with a mark in its environment that every descendant
inherits. Its scratch is a short private directory (unix sockets allow 107 characters) that is removed at the end.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
import os
import pkgutil
import shutil
import sys
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from clusterctl_runtime.engine.ports import PortBlock, claim_block
from clusterctl_runtime.engine.processes import MARK, end_marked

if TYPE_CHECKING:
    from clusterctl_runtime.wire import TaskSpec

MIN_VERSION = "2.56"
LONGEST_TEMP_DIR = 46  # Ray adds 61 characters: /session_<date>_<pid>/sockets/plasma_store
START_SECONDS = 180.0
TAIL_LINES = 15

# Ports of a real host, see docs; on a shared machine (`single_host`) free ones are claimed instead.
PINNED_PORTS = {
    "node_manager": 6380,
    "object_manager": 6381,
    "dashboard_agent_listen": 6382,
    "dashboard_agent_grpc": 6383,
    "runtime_env_agent": 6384,
    "metrics_export": 6385,
}
PINNED_GCS, PINNED_DASHBOARD, PINNED_WORKERS = 6379, 8265, (10002, 19999)


class EngineFailed(Exception):
    """Ray did not start, in a sentence with the end of its own log."""


@dataclass
class EngineConfig:
    """What a node needs to run its part of the engine. `token` is a secret: it goes to a 0600 file, never into argv or a log.

    `gcs_address` is "host:port" of the head's GCS; on the head it is the port to bind, "" for a free one. `python` "" is the
    interpreter that runs the agent; `node_ip` and `temp_dir` "" are chosen on the node. `resources`: CPU, GPU, memory (bytes)
    and custom ones. `instance_id` is "NODE@GENERATION". `single_host`: several raylets share this machine.
    """

    role: str = "worker"  # "head" | "worker"
    python: str = ""
    node_ip: str = ""
    gcs_address: str = ""
    token: str = ""
    temp_dir: str = ""
    resources: dict[str, float] = field(default_factory=dict)
    labels: dict[str, str] = field(default_factory=dict)
    instance_id: str = ""
    instance_type: str = ""
    market: str = ""
    zone: str = ""
    region: str = ""
    pool: str = ""
    dashboard_port: int = 0
    ports: dict[str, int] = field(default_factory=dict)
    worker_ports: list[int] = field(default_factory=list)  # [first, last]; [] = any
    object_store_memory: int = 0  # bytes, 0 = Ray's default
    env: dict[str, str] = field(default_factory=dict)
    single_host: bool = False
    min_version: str = MIN_VERSION

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> EngineConfig:
        names = {f.name for f in fields(cls)}
        return cls(**{k: v for k, v in data.items() if k in names})

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    def __repr__(self) -> str:
        return f"EngineConfig(role={self.role!r}, instance_id={self.instance_id!r}, gcs_address={self.gcs_address!r})"


class Raylet:
    """One raylet (and on the head the GCS and the dashboard). `on_change` is called with `state` whenever it changed.

    `state`: {"state": "starting|ready|failed|stopped", "ray_node_id", "address" (for RAY_ADDRESS), "dashboard" ("host:port", head
    only), "version", "detail", "token_path"}.
    """

    def __init__(self, config: EngineConfig, directory: Path, on_change: Callable[[dict[str, Any]], None]) -> None:
        self._config, self._directory, self._on_change = config, directory, on_change
        self._mark = hashlib.sha256(f"{config.instance_id}\0{directory.resolve()}".encode()).hexdigest()[:24]
        self._process: asyncio.subprocess.Process | None = None
        self._ports: PortBlock | None = None
        self._reader: asyncio.Task[None] | None = None
        self._ready: asyncio.Future[None] | None = None
        self._died: dict[str, Any] | None = None
        self._ending = False
        self._temp_dir = Path(config.temp_dir or default_temp_dir(self._mark))
        self.state: dict[str, Any] = {"state": "stopped", "token_path": str(directory / "token")}

    async def start(self) -> None:
        """Returns when Ray says that this node is up; raises EngineFailed otherwise, with nothing left running."""
        self._ending, self._died = False, None
        self._set(state="starting", detail="", ray_node_id="", address="", dashboard="", version="")
        try:
            self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            await end_marked(self._mark)  # an agent that was killed leaves its raylet a moment to end: not beside ours
            self._make_temp_dir()
            self._write_files()
            await self._launch()
            await self._until_ready()
        except (OSError, EngineFailed) as error:
            detail = await self._failure(error)
            await self._clean(grace=0.0)
            self._set(state="failed", detail=detail)
            raise EngineFailed(detail) from error
        except BaseException:
            await self._clean(grace=0.0)
            raise

    async def stop(self, grace: float = 5.0) -> None:
        """Ends every process of it, SIGKILL after `grace` seconds, and removes its scratch. Idempotent."""
        self._ending = True
        await self._clean(grace)
        if self.state["state"] != "stopped":
            self._set(state="stopped", detail="")

    # ------------------------------------------------------------ starting

    def _make_temp_dir(self) -> None:
        path = self._temp_dir
        if len(str(path)) > LONGEST_TEMP_DIR:
            raise EngineFailed(
                f"the engine's directory {path} is too long for Ray's unix sockets ({len(str(path))} characters, at most "
                f"{LONGEST_TEMP_DIR}): set a shorter TMPDIR"
            )
        shutil.rmtree(path, ignore_errors=True)
        path.mkdir(mode=0o700)  # FileExistsError when it is someone else's, or a link

    def _write_files(self) -> None:
        token = self._directory / "token"
        token.unlink(missing_ok=True)
        descriptor = os.open(token, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "w") as file:
            os.fchmod(file.fileno(), 0o600)
            file.write(self._config.token)
        source = pkgutil.get_data("clusterctl_runtime.engine", "start.py")
        assert source is not None
        (self._directory / "start.py").write_bytes(source)

    async def _launch(self) -> None:
        if self._config.single_host:
            self._ports = claim_block()
        python = self._config.python or sys.executable
        argv = [python, str(self._directory / "start.py"), *self._arguments()]
        with (self._directory / "ray.log").open("wb") as output:
            self._process = await asyncio.create_subprocess_exec(
                *argv,
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=output,
                env=self._environment(),
                cwd=self._temp_dir,
                start_new_session=True,
            )
        self._ready = asyncio.get_running_loop().create_future()
        self._reader = asyncio.create_task(self._follow(self._process))

    def _arguments(self) -> list[str]:
        config, ports = self._config, self._port_table()
        resources = dict(config.resources)
        arguments = [
            "--block",
            "--disable-usage-stats",
            f"--temp-dir={self._temp_dir}",
            f"--node-ip-address={self._node_ip()}",
        ]
        if config.role == "head":
            arguments += ["--head", "--no-monitor", "--dashboard-host=127.0.0.1"]
            arguments += [f"--port={ports['gcs']}", f"--dashboard-port={ports['dashboard']}"]
        else:
            arguments.append(f"--address={config.gcs_address}")
        arguments.append(f"--num-cpus={int(resources.pop('CPU', 0))}")
        arguments.append(f"--num-gpus={int(resources.pop('GPU', 0))}")
        if memory := int(resources.pop("memory", 0)):
            arguments.append(f"--memory={memory}")
        if config.object_store_memory:
            arguments.append(f"--object-store-memory={config.object_store_memory}")
        if resources:
            arguments.append(f"--resources={json.dumps(resources, sort_keys=True)}")
        if config.labels:
            arguments.append("--labels=" + ",".join(f"{k}={v}" for k, v in sorted(config.labels.items())))
        arguments += [f"--{name.replace('_', '-')}-port={ports[name]}" for name in PINNED_PORTS]
        first, last = config.worker_ports or (0, 0)
        return [*arguments, f"--min-worker-port={first}", f"--max-worker-port={last}"]

    def _port_table(self) -> dict[str, int]:
        """Every port is given: a raylet that must ask its agents for theirs is up three seconds later."""
        config = self._config
        if self._ports is None:
            table = {**PINNED_PORTS, "gcs": PINNED_GCS, "dashboard": PINNED_DASHBOARD}
        else:
            names = [*PINNED_PORTS, "gcs", "dashboard"]
            table = {name: self._ports.first + offset for offset, name in enumerate(names)}
        table.update(config.ports)
        if config.role == "head" and (port := int(config.gcs_address.rpartition(":")[2] or 0)):
            table["gcs"] = port
        if config.dashboard_port:
            table["dashboard"] = config.dashboard_port
        return table

    def _node_ip(self) -> str:
        if self._config.node_ip:
            return self._config.node_ip
        return self._ports.loopback if self._ports and sys.platform.startswith("linux") else "127.0.0.1"

    def _environment(self) -> dict[str, str]:
        config = self._config
        inherited = {k: v for k, v in os.environ.items() if not k.startswith(("RAY_", "PYTHON"))}
        ours = {
            MARK: self._mark,
            "RAY_AUTH_MODE": "token",
            "RAY_AUTH_TOKEN_PATH": str(self._directory / "token"),
            "RAY_USAGE_STATS_ENABLED": "0",
            "RAY_gcs_rpc_server_reconnect_timeout_s": "600",
            "RAY_GRACEFUL_SHUTDOWN_DRAIN_TIMEOUT_S": "0",  # the head drains a node before it is stopped
            "RAY_CLOUD_INSTANCE_ID": config.instance_id,
            "RAY_CLOUD_INSTANCE_TYPE_NAME": config.instance_type,
            "RAY_NODE_TYPE_NAME": config.pool,
            "RAY_NODE_MARKET_TYPE": config.market,
            "RAY_NODE_REGION": config.region,
            "RAY_NODE_ZONE": config.zone,
        }
        if config.role == "head":
            ours["RAY_enable_autoscaler_v2"] = "1"
        if not sys.platform.startswith("linux"):
            ours["RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"] = "1"
        if self._ports is not None:
            ours["RAY_custom_unit_instance_resources"] = (
                ""  # a rehearsed TPU is a number: its share can be resized like a CPU's
            )
            ours["DASHBOARD_METRIC_PORT"] = str(self._ports.first + len(PINNED_PORTS) + 2)
            ours["AUTOSCALER_METRIC_PORT"] = str(self._ports.first + len(PINNED_PORTS) + 3)
        return {**inherited, **config.env, **{k: v for k, v in ours.items() if v or k.startswith("RAY_custom")}}

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
        await process.wait()
        if self._ready is not None and not self._ready.done():
            self._ready.set_exception(EngineFailed(f"it ended with {_exit_text(process.returncode)}"))
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
        known = {k: message[k] for k in ("ray_node_id", "address", "dashboard", "version", "session_dir")}
        self.state.update(known)
        if self._ready is not None and not self._ready.done():
            self._ready.set_result(None)

    async def _until_ready(self) -> None:
        assert self._ready is not None
        try:
            await asyncio.wait_for(asyncio.shield(self._ready), START_SECONDS)
        except asyncio.TimeoutError:
            raise EngineFailed(f"it was not up after {START_SECONDS:.0f} s") from None
        self._set(state="ready")

    # ------------------------------------------------------------ ending

    async def _ended_by_itself(self, process: asyncio.subprocess.Process) -> None:
        died = self._died or {}
        drained = died.get("code") == 0
        if drained:
            detail = "drained"
        elif died:
            detail = f"{died['process']} ended with {_exit_text(died['code'])}{self._tail()}"
        else:
            detail = f"ray start ended with {_exit_text(process.returncode)}{self._tail()}"
        await self._clean(grace=0.0, reader=False)
        if not self._ending:
            self._set(state="stopped" if drained else "failed", detail=detail)

    async def _failure(self, error: BaseException) -> str:
        where = f"{self._config.role} {self._config.instance_id}".strip()
        return f"Ray did not start on {where}: {error}{self._tail()}"

    def _tail(self) -> str:
        """The last lines of Ray's own words, for people."""
        lines: list[str] = []
        candidates = [self._directory / "ray.log"]
        session = self.state.get("session_dir") or str(self._temp_dir / "session_latest")
        candidates += [Path(session, "logs", name) for name in ("gcs_server.err", "raylet.err")]
        for path in candidates:
            with contextlib.suppress(OSError):
                text = path.read_bytes()[-16384:].decode(errors="replace")
                lines += [line.rstrip() for line in text.splitlines() if line.strip()][-TAIL_LINES:]
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
        if self._ports is not None:
            self._ports.release()
            self._ports = None
        await asyncio.to_thread(shutil.rmtree, self._temp_dir, ignore_errors=True)

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


def task_env(config: EngineConfig, state: dict[str, Any], task: TaskSpec, cwd: str = "") -> dict[str, str]:
    """The variables that attach a task to the engine: a plain `ray.init()` joins this cluster, and Ray's workers on every node
    get the task's working directory (when it has one), its environment and its `runtime_env`. What the program itself passes to
    `ray.init(runtime_env=...)` wins."""
    runtime_env = dict(task.runtime_env)
    if task.package:
        runtime_env.setdefault("working_dir", cwd or ".")
    wanted = {k: v for k, v in task.env.items() if not k.startswith(_OURS) and k not in _GANG}
    if wanted or runtime_env.get("env_vars"):
        runtime_env["env_vars"] = {**wanted, **runtime_env.get("env_vars", {})}
    return {
        "RAY_ADDRESS": str(state["address"]),
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN_PATH": str(state["token_path"]),
        "RAY_USAGE_STATS_ENABLED": "0",
        "RAY_JOB_CONFIG_JSON_ENV_VAR": json.dumps(
            {"runtime_env": runtime_env, "metadata": {"clusterctl_task": task.task}}
        ),
        "RAY_OVERRIDE_JOB_RUNTIME_ENV": "1",
        "RAY_RUNTIME_ENV_IGNORE_GITIGNORE": "1",  # the package was made with its own rules: all of it is wanted
    }


def default_temp_dir(mark: str) -> str:
    """Short whatever TMPDIR says."""
    return f"/tmp/cctl-ray-{mark[:12]}"  # noqa: S108  a private directory, made with mode 0700 and refused when it exists


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
