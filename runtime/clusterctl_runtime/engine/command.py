"""What a node is told about the engine, and the command line and environment that follow from it. Standard library only."""

from __future__ import annotations

import contextlib
import json
import os
import sys
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from clusterctl_runtime.engine.ports import PortBlock, is_free
from clusterctl_runtime.engine.processes import MARK

MIN_VERSION = "2.56"
LOOPBACK = "127.0.0.1"  # as a node's address it makes every process of Ray listen there only

# Ports of a real host, for firewalls; on a shared machine (`single_host`) free ones are claimed instead.
PINNED_PORTS = {
    "node_manager": 6380,
    "object_manager": 6381,
    "dashboard_agent_listen": 6382,
    "dashboard_agent_grpc": 6383,
    "runtime_env_agent": 6384,
    "metrics_export": 6385,
}
PINNED_GCS, PINNED_DASHBOARD, PINNED_WORKERS = 6379, 8265, (10002, 19999)
_SPILL_SETTINGS = {"RAY_object_spilling_directory", "RAY_object_spilling_config"}  # the user's own win
HEAD_PORTS = ("gcs", "dashboard", "dashboard_metrics")


@dataclass
class EngineConfig:
    """What a node needs to run its part of the engine. `token` is a secret: it goes to a 0600 file, never into argv or a log.

    `gcs_address` is "host:port" of the head's GCS; on the head it is the port to bind, "" for a free one; `dashboard` "host:port"
    is where a worker reaches Ray's dashboard, "" where it does not. `python` "" is the interpreter that runs the agent; `node_ip`
    "" is 127.0.0.1; `temp_dir` "" is chosen on the node, where `spill_dir` is the node's disk. `resources`: CPU, GPU, memory
    (bytes) and custom ones. `node_labels`: all that work can select by. `environment`: what the agent installs first, to use its
    interpreter (`installing`), {} = nothing. `fault_tolerant`: the head's GCS keeps its state on disk (True: it must, False: it
    does not, None: where it can). `instance_id` is "NODE@GENERATION". `single_host`: several raylets share this machine.
    """

    role: str = "worker"  # "head" | "worker"
    python: str = ""
    environment: dict[str, Any] = field(default_factory=dict)
    node_ip: str = ""
    gcs_address: str = ""
    dashboard: str = ""
    token: str = ""
    temp_dir: str = ""
    spill_dir: str = ""
    resources: dict[str, float] = field(default_factory=dict)
    node_labels: dict[str, str] = field(default_factory=dict)
    instance_id: str = ""
    instance_type: str = ""
    pool: str = ""
    dashboard_port: int = 0
    ports: dict[str, int] = field(default_factory=dict)
    worker_ports: list[int] = field(default_factory=list)  # [first, last]; [] = any
    object_store_memory: int = 0  # bytes, 0 = Ray's default
    fault_tolerant: bool | None = None
    env: dict[str, str] = field(default_factory=dict)
    single_host: bool = False
    min_version: str = MIN_VERSION

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> EngineConfig:
        """What a head of another version says besides is passed over."""
        names = {f.name for f in fields(cls)}
        return cls(**{k: v for k, v in data.items() if k in names})

    def to_json(self) -> dict[str, Any]:
        """As it travels to the agent."""
        return asdict(self)

    def __repr__(self) -> str:
        return f"EngineConfig(role={self.role!r}, instance_id={self.instance_id!r}, gcs_address={self.gcs_address!r})"


@dataclass
class RayCommand:
    """`ray start` for one node. `persistent`: the GCS stores its state in `store`, for a head that is started anew."""

    config: EngineConfig
    directory: Path
    temp_dir: Path
    mark: str
    persistent: bool = False
    block: PortBlock | None = None

    @property
    def store(self) -> Path:
        """Where a head's GCS keeps its state."""
        return self.directory / "gcs"

    @property
    def spill(self) -> Path:
        """Where objects go that the object store has no room for. Not below Ray's own directory, which may be in a /tmp
        that is memory."""
        return Path(self.config.spill_dir or self.directory) / "spill"

    @property
    def token_path(self) -> Path:
        return self.directory / "token"

    def argv(self) -> list[str]:
        """The whole command line. `start.py` must lie in `directory`."""
        return [self.config.python or sys.executable, "-I", str(self.directory / "start.py"), *self.arguments()]

    def arguments(self) -> list[str]:
        """Those of `ray start`, which takes whole CPUs, GPUs and bytes; of `resources` all others are custom."""
        config, ports = self.config, self.ports()
        resources = dict(config.resources)
        arguments = ["--block", "--disable-usage-stats", f"--temp-dir={self.temp_dir}"]
        arguments.append(f"--node-ip-address={config.node_ip or LOOPBACK}")
        if config.role == "head":
            arguments += ["--head", "--no-monitor", f"--dashboard-host={LOOPBACK}"]
            arguments += [f"--port={ports['gcs']}", f"--dashboard-port={ports['dashboard']}"]
        else:
            arguments.append(f"--address={config.gcs_address}")
        arguments.append(f"--num-cpus={int(resources.pop('CPU', 0))}")
        arguments.append(f"--num-gpus={int(resources.pop('GPU', 0))}")
        if memory := int(resources.pop("memory", 0)):
            arguments.append(f"--memory={memory}")
        if config.object_store_memory:
            arguments.append(f"--object-store-memory={config.object_store_memory}")
        if not _SPILL_SETTINGS & config.env.keys():
            arguments.append(f"--object-spilling-directory={self.spill}")
        if resources:
            arguments.append(f"--resources={json.dumps(resources, sort_keys=True)}")
        arguments += [f"--{name.replace('_', '-')}-port={ports[name]}" for name in PINNED_PORTS]
        first, last = config.worker_ports or (0, 0)
        return [*arguments, f"--min-worker-port={first}", f"--max-worker-port={last}"]

    def ports(self) -> dict[str, int]:
        """Every port is given: a raylet that must ask its agents for theirs is up three seconds later."""
        config = self.config
        if self.block is None:
            table = {**PINNED_PORTS, "gcs": PINNED_GCS, "dashboard": PINNED_DASHBOARD, "dashboard_metrics": 44227}
        else:
            table = {name: self.block.first + n for n, name in enumerate((*PINNED_PORTS, *HEAD_PORTS))}
        table.update(config.ports)
        if config.role != "head":
            return {name: port for name, port in table.items() if name not in HEAD_PORTS}
        table["gcs"] = int(config.gcs_address.rpartition(":")[2] or 0) or self._last_gcs_port() or table["gcs"]
        table["dashboard"] = config.dashboard_port or table["dashboard"]
        return table

    def taken_port(self) -> tuple[str, int] | None:
        """(what for, port) of one that somebody else listens on; None when all are free."""
        return next(((name, port) for name, port in self.ports().items() if not is_free(port)), None)

    def remember_gcs_port(self, address: str) -> None:
        """Keeps the port of "host:port" for a head that is started again in this directory."""
        (self.directory / "gcs.port").write_text(address.rpartition(":")[2])

    def _last_gcs_port(self) -> int:
        """Raylets elsewhere wait for the GCS where it was: a head that resumes keeps its port when it can. 0 = none to keep."""
        with contextlib.suppress(OSError, ValueError):
            port = int((self.directory / "gcs.port").read_text())
            if self.store.exists() and is_free(port):
                return port
        return 0

    def environment(self) -> dict[str, str]:
        """All of it: this process' own without RAY_... and PYTHON..., then the config's `env`, then ours, which wins."""
        config = self.config
        inherited = {k: v for k, v in os.environ.items() if not k.startswith(("RAY_", "PYTHON"))}
        inherited |= own_path(config.python, inherited.get("PATH", ""))  # for what Ray's own jobs call `python`
        placed = {
            "RAY_CLOUD_INSTANCE_ID": config.instance_id,
            "RAY_CLOUD_INSTANCE_TYPE_NAME": config.instance_type,
            "RAY_NODE_TYPE_NAME": config.pool,
            # Not `--labels`, which takes none of Ray's own; and what Ray finds out by itself is not what the planner counts on.
            "RAY_OVERRIDE_LABELS": json.dumps(config.node_labels) if config.node_labels else "",
        }
        ours = {
            MARK: self.mark,
            "RAY_AUTH_MODE": "token",
            "RAY_AUTH_TOKEN_PATH": str(self.token_path),
            "RAY_USAGE_STATS_ENABLED": "0",
            "RAY_gcs_rpc_server_reconnect_timeout_s": "600",
            "RAY_GRACEFUL_SHUTDOWN_DRAIN_TIMEOUT_S": "0",  # the head drains a node before it is stopped
        }
        if config.role == "head":
            ours["RAY_enable_autoscaler_v2"] = "1"
            ours["DASHBOARD_METRIC_PORT"] = str(self.ports()["dashboard_metrics"])
        if self.persistent:
            ours.update(RAY_gcs_storage="rocksdb", RAY_gcs_storage_path=str(self.store))
        if not config.node_ip:
            ours["RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"] = "0"  # Ray's own children keep 127.0.0.1 as it is
        if config.single_host:
            ours["RAY_custom_unit_instance_resources"] = ""  # a rehearsed TPU is a number, to be resized like a CPU's
        inherited["CUDA_DEVICE_ORDER"] = "PCI_BUS_ID"  # Ray gives its workers GPUs by nvidia-smi's numbers
        return {**inherited, **config.env, **{k: v for k, v in placed.items() if v}, **ours}


def own_path(python: str, path: str) -> dict[str, str]:
    """{"PATH"}: `path` ("": the system's own) with the `python`, `ray` and `serve` of the engine first. {} where `python` ("":
    this one) is of no environment of its own."""
    programs = Path(python or sys.executable).parent
    if not (programs.parent / "pyvenv.cfg").exists():
        return {}
    return {"PATH": f"{programs}{os.pathsep}{path or os.defpath}"}
