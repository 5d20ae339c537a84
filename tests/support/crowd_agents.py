"""Simulated agents, many in one process: they speak the real protocol over TLS and run nothing.

`python -m tests.support.crowd_agents PLAN.json` (see `crowd.Crowd`, which starts it). A task "runs" for SIM_SECONDS of its
environment and exits with SIM_EXIT. Commands come on stdin, one a line; each is answered with one line of JSON.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
import ssl
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from clusterctl_runtime import wire

from clusterctl.provision.bootstrap import JoinSecrets

FIRST_PAUSE, LONGEST_PAUSE = 0.05, 2.0  # as the real agent's
ANSWER_SECONDS = 10.0
FACTS = {
    "hostname": "simulated",
    "python": "3.11",
    "cpus": 4,
    "memory": 16 * 2**30,
    "system": "Linux x86_64",
    "gpus": [],
}


@dataclass
class Told:
    """What the crowd has seen since it was asked last."""

    welcomed: int = 0
    dials: int = 0
    unanswered: int = 0  # hellos that no welcome followed
    started: int = 0
    again: int = 0  # tasks that were sent a second time
    killed: int = 0
    beats: list[float] = field(default_factory=list)  # seconds to each answer
    late: list[float] = field(default_factory=list)  # of this process's own loop, to judge the figures by


class Agent:
    def __init__(self, crowd: Crowd, node_id: str) -> None:
        self.crowd, self.node_id = crowd, node_id
        self.boot_id = f"boot-{node_id}"
        self.credential = ""
        self.tasks: dict[str, dict[str, Any]] = {}  # reports that were not acknowledged
        self.ever: set[str] = set()
        self.writer: asyncio.StreamWriter | None = None
        self._news: list[dict[str, Any]] = []
        self._beats: dict[int, float] = {}

    async def live(self) -> None:
        pause = FIRST_PAUSE
        while True:
            with contextlib.suppress(OSError, EOFError, asyncio.TimeoutError, ssl.SSLError, wire.WireError):
                await self._converse()
            if self.writer is not None:
                self.crowd.connected -= 1
                self.writer.transport.abort()
                self.writer, pause = None, FIRST_PAUSE
            await asyncio.sleep(pause * random.uniform(0.5, 1.0))
            pause = min(pause * 2, LONGEST_PAUSE)

    async def _converse(self) -> None:
        crowd = self.crowd
        crowd.told.dials += 1
        opening = asyncio.open_connection(
            "127.0.0.1", crowd.port, ssl=crowd.context, server_hostname=wire.server_name(crowd.uid)
        )
        reader, writer = await asyncio.wait_for(opening, ANSWER_SECONDS)
        try:
            writer.write(wire.encode(self._hello()))
            message, _ = await asyncio.wait_for(wire.read_frame(reader), ANSWER_SECONDS)
        except BaseException:
            crowd.told.unanswered += 1
            writer.transport.abort()
            raise
        if message["t"] != "welcome":
            writer.transport.abort()
            raise wire.WireError(str(message))
        self.credential = message.get("credential") or self.credential
        self.writer = writer
        crowd.told.welcomed += 1
        crowd.connected += 1
        self._beats.clear()
        beating = asyncio.ensure_future(self._beat(float(message["beat_seconds"])))
        try:
            while True:
                self._receive((await wire.read_frame(reader))[0])
        finally:
            beating.cancel()

    def _hello(self) -> dict[str, Any]:
        crowd = self.crowd
        return {
            "t": "hello", "wire": wire.WIRE_VERSION, "purpose": "control", "uid": crowd.uid, "node_id": self.node_id,
            "generation": 1, "secret": self.credential or crowd.secrets.join_token(self.node_id, 1),
            "boot_id": self.boot_id, "version": "0", "address": "127.0.0.1", "facts": FACTS,
            "tasks": list(self.tasks.values()), "prepared": {"state": "none"},
        }  # fmt: skip

    def _receive(self, message: wire.Message) -> None:
        kind = message["t"]
        if kind == "beat":
            sent = self._beats.pop(message["seq"], None)
            if sent is not None:
                self.crowd.told.beats.append(time.monotonic() - sent)
        elif kind == "run":
            for spec in message["tasks"]:
                self._start(spec)
        elif kind == "kill":
            for task in message["tasks"]:
                self.crowd.told.killed += 1
                self.end(task, 143, stopped="killed")
        elif kind == "ack":
            for task in message["tasks"]:
                self.tasks.pop(task, None)
        elif kind == "recall":
            for task in message["tasks"]:
                self.end(task, None, stopped="recalled")

    def _start(self, spec: dict[str, Any]) -> None:
        task, env = spec["task"], spec["env"]
        self.crowd.told.again += task in self.ever
        self.crowd.told.started += 1
        self.ever.add(task)
        self.tasks[task] = {"task": task, "state": "running", "pid": 1, "started": time.time()}
        self._tell(self.tasks[task])
        seconds = float(env.get("SIM_SECONDS", 0.05))
        asyncio.get_running_loop().call_later(seconds, self.end, task, int(env.get("SIM_EXIT", 0)))

    def end(self, task: str, code: int | None, stopped: str = "") -> None:
        report = self.tasks.get(task)
        if report is None or report["state"] == "exited":
            return
        self.tasks[task] = {**report, "state": "exited", "exit_code": code, "stopped": stopped, "ended": time.time()}
        self._tell(self.tasks[task])

    def _tell(self, report: dict[str, Any]) -> None:
        if not self._news:
            asyncio.get_running_loop().call_soon(self._say)
        self._news.append(report)

    def _say(self) -> None:
        news, self._news = self._news, []
        if self.writer is not None and not self.writer.is_closing():
            self.writer.write(wire.encode({"t": "tasks", "items": news}))

    async def _beat(self, every: float) -> None:
        seq = 0
        await asyncio.sleep(random.uniform(0, every))
        while self.writer is not None:
            seq += 1
            self._beats[seq] = time.monotonic()
            self.writer.write(wire.encode({"t": "beat", "seq": seq}))
            await asyncio.sleep(every)


class Crowd:
    def __init__(self, plan: dict[str, Any]) -> None:
        directory = Path(plan["directory"])
        self.port, self.uid = int(plan["port"]), str(plan["uid"])
        self.secrets = JoinSecrets(directory)
        self.context = wire.client_context((directory / "ca.pem").read_text())
        self.agents = [Agent(self, node_id) for node_id in plan["nodes"]]
        self.told = Told()
        self.connected = 0

    async def run(self) -> None:
        loop = asyncio.get_running_loop()
        lives = [asyncio.ensure_future(agent.live()) for agent in self.agents]
        pulse = asyncio.ensure_future(self._pulse())
        stdin = asyncio.StreamReader()
        await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(stdin), sys.stdin)
        while line := await stdin.readline():
            print(json.dumps(self._answer(line.decode().strip())), flush=True)
        for task in (*lives, pulse):
            task.cancel()

    def _answer(self, command: str) -> dict[str, Any]:
        if command == "fail":  # every running task exits with 1
            for agent in self.agents:
                for task in list(agent.tasks):
                    agent.end(task, 1)
        running = sum(r["state"] == "running" for agent in self.agents for r in agent.tasks.values())
        answer = {"connected": self.connected, "running": running, **vars(self.told)}
        if command == "reset":
            self.told = Told()
        return answer

    async def _pulse(self) -> None:
        while True:
            due = time.monotonic() + 0.02
            await asyncio.sleep(0.02)
            self.told.late.append(time.monotonic() - due)


if __name__ == "__main__":
    asyncio.run(Crowd(json.loads(Path(sys.argv[1]).read_text())).run())
