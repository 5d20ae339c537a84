"""A head process of its own with a crowd of simulated agents in other processes, for what only shows in numbers."""

from __future__ import annotations

import hashlib
import http.client
import json
import os
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import psutil

from clusterctl.spec.load import parse_spec
from tests.support.cluster import wait_until

TOKEN = "the-token-of-the-crowd"
SPEC = """\
cluster: crowd
provider: {{fake: {{boot_seconds: 0, types: {{box: {{CPU: {cpus}, price: 0.1}}}}}}}}
engine: none
limits: {{launches_per_minute: 1000000}}
pools:
  - {{name: cpu, min: {agents}, max: {agents}}}
"""


class CrowdedHead:
    """`agents` nodes of `cpus` CPUs each in the fake cloud, which boots nothing: the crowd dials in in their place."""

    def __init__(self, directory: Path, agents: int, cpus: int = 4, processes: int = 1) -> None:
        self.directory, self.agents = directory / "head", agents
        self.directory.mkdir()
        self.uid = str(uuid.uuid4())
        text = SPEC.format(agents=agents, cpus=cpus)
        spec = parse_spec(text, "crowd.yaml")
        config = {
            "name": spec.cluster,
            "uid": self.uid,
            "spec_yaml": text,
            "spec": spec.model_dump(mode="json", by_alias=True),
            "token_sha256": hashlib.sha256(TOKEN.encode()).hexdigest(),
            "state_dir": str(directory / "cloud"),
            "engine_python": "",
        }
        (directory / "cloud").mkdir()
        (self.directory / "config.json").write_text(json.dumps(config))
        self._nodes = [f"cpu-{number}" for number in range(1, agents + 1)] + ["head-1"]
        self._processes = processes
        self._crowd: list[subprocess.Popen[str]] = []
        self._open = ExitStack()
        self.head: subprocess.Popen[bytes] | None = None

    # ------------------------------------------------------------ the head

    def start(self) -> float:
        """Starts the head; seconds until it answers."""
        (self.directory / "head.json").unlink(missing_ok=True)
        started = time.monotonic()
        self.head = subprocess.Popen([sys.executable, "-m", "clusterctl_runtime.head", str(self.directory)])
        wait_until(self._answers, 120, "the head answers")
        return time.monotonic() - started

    def kill(self) -> None:
        assert self.head is not None
        self.head.send_signal(signal.SIGKILL)
        self.head.wait()

    def _answers(self) -> bool:
        assert self.head is not None and self.head.poll() is None, (self.directory / "head.log").read_text()[-3000:]
        try:
            return bool(self.call("GET", "/healthz"))
        except (OSError, http.client.HTTPException, ValueError):
            return False

    @property
    def _facts(self) -> dict[str, Any]:
        return json.loads((self.directory / "head.json").read_text())

    @property
    def port(self) -> int:
        """Where its API listens."""
        return int(self._facts["port"])

    def call(self, method: str, path: str, body: Any = None) -> Any:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=120)
        try:
            headers = {"Authorization": f"Bearer {TOKEN}", "Content-Type": "application/json"}
            connection.request(method, path, json.dumps(body) if body is not None else None, headers)
            response = connection.getresponse()
            data = response.read()
            assert response.status < 300, data
            return (
                json.loads(data) if response.headers["Content-Type"].startswith("application/json") else data.decode()
            )
        finally:
            connection.close()

    def watch(self, path: str, seconds: float) -> None:
        """A stream that somebody reads for so long, in a process of its own."""
        url = f"http://127.0.0.1:{self.port}{path}"
        command = ["curl", "-sN", "-m", f"{seconds:g}", "-o", os.devnull, "-H", f"Authorization: Bearer {TOKEN}", url]
        process = subprocess.Popen(command)
        self._open.callback(_end, process)

    def memory(self) -> float:
        """MiB that the head has resident."""
        assert self.head is not None
        return psutil.Process(self.head.pid).memory_info().rss / 2**20

    def cpu(self) -> float:
        """CPU seconds that the head has used."""
        assert self.head is not None
        used = psutil.Process(self.head.pid).cpu_times()
        return used.user + used.system

    # ------------------------------------------------------------ the agents

    def gather(self) -> None:
        """Starts the agents, which go on dialling until the head takes them in."""
        for number in range(self._processes):
            plan = self.directory.parent / f"crowd-{number}.json"
            nodes = self._nodes[number :: self._processes]
            plan.write_text(
                json.dumps(
                    {
                        "directory": str(self.directory),
                        "port": self._facts["agent_port"],
                        "uid": self.uid,
                        "nodes": nodes,
                    }
                )
            )
            command = [sys.executable, "-m", "tests.support.crowd_agents", str(plan)]
            process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
            self._open.callback(_end, process)
            self._crowd.append(process)

    def ask(self, command: str = "tell") -> dict[str, Any]:
        """All agents together: sums, and lists joined. "tell", "reset" or "fail" (whatever runs exits with 1)."""
        for process in self._crowd:
            assert process.stdin is not None
            process.stdin.write(command + "\n")
            process.stdin.flush()
        answers: list[dict[str, Any]] = []
        for process in self._crowd:
            assert process.stdout is not None
            answers.append(json.loads(process.stdout.readline()))
        return {key: _joined([answer[key] for answer in answers]) for key in answers[0]}

    def everybody_is_back(self, seconds: float = 300.0) -> float:
        """Waits until all agents are connected; seconds that it took."""
        started = time.monotonic()
        wait_until(lambda: self.ask()["connected"] == len(self._nodes), seconds, "all agents are connected")
        return time.monotonic() - started

    def ready(self) -> int:
        return sum(pool["ready"] for pool in self.call("GET", "/api/v1/status")["pools"])

    def close(self) -> None:
        self._open.close()
        if self.head is not None:
            _end(self.head)


def _joined(values: Sequence[Any]) -> Any:
    return sum(values) if not isinstance(values[0], list) else [item for value in values for item in value]


def _end(process: subprocess.Popen[Any]) -> None:
    process.kill()
    process.wait()
    for stream in (process.stdin, process.stdout):
        if stream is not None:
            stream.close()
