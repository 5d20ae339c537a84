"""A real Ray cluster of three raylets on this machine, shared by the tests of this folder, and what tests need around it."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Coroutine, Iterator
from pathlib import Path
from typing import Any, TypeVar

import httpx
import pytest
from clusterctl_runtime.engine.client import EngineClient, EngineNode, EngineState
from clusterctl_runtime.engine.environment import mint_token
from clusterctl_runtime.engine.launch import EngineConfig, Raylet, task_env
from clusterctl_runtime.wire import TaskSpec

T = TypeVar("T")
DEADLINE = 60.0


class Loop:
    """An event loop in a thread, so that plain tests can run what the agent and the head run."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()

    def run(self, coroutine: Coroutine[Any, Any, T], timeout: float = 120.0) -> T:
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result(timeout)

    def close(self) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()


class Cluster:
    """A head, a CPU node (2 CPU, 1 TPU) and a GPU node (1 CPU, 2 GPU), and the head's client of the engine."""

    def __init__(self, loop: Loop, directory: Path) -> None:
        self.loop, self.directory, self.token = loop, directory, mint_token()
        self.states: list[tuple[float, EngineState]] = []
        self.seconds: dict[str, float] = {}
        self.raylets: dict[str, Raylet] = {}
        self.client: EngineClient | None = None

    def start(self) -> None:
        self.start_node("head", role="head")
        self.start_node("cpu", resources={"CPU": 2, "TPU": 1}, node_labels={"team": "vision"})
        self.start_node("gpu", resources={"CPU": 1, "GPU": 2})
        self.client = EngineClient(sys.executable, self.address, self.token_path, self._take)
        self.loop.run(self.client.start())
        self.until(lambda state: state.healthy and len(state.nodes) == 3)

    def start_node(self, name: str, **config: Any) -> Raylet:
        raylet = self.raylet(name, **config)
        started = time.monotonic()
        self.loop.run(raylet.start())
        self.seconds[name] = time.monotonic() - started
        return raylet

    def raylet(
        self, name: str, on_change: Callable[[dict[str, Any]], None] = lambda state: None, **config: Any
    ) -> Raylet:
        config.setdefault("gcs_address", self.address if self.raylets else "")
        made = EngineConfig(
            instance_id=f"{name}-1@1",
            token=self.token,
            single_host=True,
            pool=name,
            object_store_memory=2**27,
            **config,
        )
        raylet = self.raylets[name] = Raylet(made, self.directory / name, on_change)
        return raylet

    def stop(self) -> None:
        if self.client:
            self.loop.run(self.client.stop())
        for raylet in reversed(self.raylets.values()):
            self.loop.run(raylet.stop(5.0))

    def _take(self, state: EngineState) -> None:
        self.states.append((time.time(), state))

    @property
    def head_state(self) -> dict[str, Any]:
        return self.raylets["head"].state

    def dashboard(self) -> str:
        """Its URL, once it answers: a node is ready before."""
        url = f"http://{self.head_state['dashboard']}"
        deadline = time.monotonic() + DEADLINE
        while True:
            try:
                httpx.get(f"{url}/api/version")
                return url
            except httpx.TransportError:
                assert time.monotonic() < deadline, f"no answer from {url}"
                threading.Event().wait(0.05)

    @property
    def address(self) -> str:
        return self.head_state["address"]

    @property
    def token_path(self) -> str:
        return self.head_state["token_path"]

    def until(self, condition: Callable[[EngineState], Any], timeout: float = DEADLINE) -> EngineState:
        """The first state, from the latest on, that meets the condition."""
        assert self.client is not None
        deadline = time.monotonic() + timeout
        while time.monotonic() < deadline:
            if condition(self.client.state):
                return self.client.state
            threading.Event().wait(0.01)
        raise AssertionError(f"not within {timeout} s; the last state was {self.client.state}")

    def node(self, name: str) -> EngineNode:
        assert self.client is not None
        return next(n for n in self.client.state.nodes if n.instance_id == f"{name}-1@1" and n.status != "DEAD")

    def quiet(self) -> None:
        """Nothing runs and nothing is wanted: what every test starts from."""
        self.until(lambda s: not s.demand and all(n.total == n.available for n in s.nodes if n.status != "DEAD"))

    def environment(self, env: dict[str, str] | None = None, package: str = "") -> dict[str, str]:
        """Of a driver on the head node."""
        raylet = self.raylets["head"]
        task = TaskSpec("j-test/1/0", [], env=env or {}, package=package)
        inherited = {k: v for k, v in os.environ.items() if not k.startswith("RAY_")}
        return {**inherited, **task_env(raylet._config, raylet.state, task), **(env or {})}

    def driver(self, code: str, env: dict[str, str] | None = None, package: str = "", cwd: str | None = None) -> Driver:
        return Driver(code, self.environment(env, package), cwd)


OWN = "@"  # begins the lines of a driver's own
MARKING = f"""
def print(*words, flush=True):
    import builtins
    builtins.print({OWN!r}, *words, flush=True)
"""


class Driver:
    """A Ray program in a process of its own; `line` waits for its next line of output, `end` for its end."""

    def __init__(self, code: str, env: dict[str, str], cwd: str | None) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-u", "-c", MARKING + code],
            env=env,
            cwd=cwd,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def line(self) -> str:
        """Of the program's own: Ray prints of nodes that died, of other tests' too, whatever is asked of it, on several lines."""
        assert self.process.stdout is not None
        for line in self.process.stdout:
            if line.startswith(OWN):
                return line.removeprefix(OWN).strip()
        return ""

    def say(self, line: str) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(line + "\n")
        self.process.stdin.flush()

    def end(self) -> int:
        """Its stdin is closed first, for programs that wait for that."""
        self.process.communicate(timeout=DEADLINE)
        return self.process.returncode

    def __enter__(self) -> Driver:
        return self

    def __exit__(self, *_: object) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.communicate(timeout=DEADLINE)


@pytest.fixture(scope="session")
def loop() -> Iterator[Loop]:
    made = Loop()
    yield made
    made.close()


@pytest.fixture(scope="session")
def cluster(loop: Loop, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    made = Cluster(loop, tmp_path_factory.mktemp("engine"))
    try:
        made.start()
        yield made
    finally:
        made.stop()
