"""A head for the agent under test to talk to: a real TLS server that speaks the wire and notes what it hears."""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import secrets
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import trustme
from clusterctl_runtime import wire
from clusterctl_runtime.agent.bundle import build_bundle
from clusterctl_runtime.agent.tasks.processes import list_marked

from tests.support.cluster import wait_until

PIECE = 256 * 1024


@dataclass
class Log:
    """What arrived of one task's output: `data` by offset, each byte once; `gaps` as (offset, bytes missing)."""

    data: bytearray = field(default_factory=bytearray)
    received: int = 0  # offset in the program's output
    gaps: list[tuple[int, int]] = field(default_factory=list)
    frames: int = 0


class HeadDouble:
    """Runs in a thread of its own. `until(condition)` waits for something to have been heard."""

    def __init__(self, uid: str = "c0ffee") -> None:
        self.uid = uid
        self.ca = trustme.CA()
        self.join_tokens = {"join-token"}
        self.credentials: set[str] = set()
        self.blobs: dict[str, bytes] = {}
        self.acks_exits = self.acks_logs = self.echoes = True
        self.beat_seconds, self.lease_seconds = 0.2, 2.0
        self.echo_delay = 0.0  # seconds
        self.refusal: wire.Message | None = None
        self.hellos: list[wire.Message] = []
        self.said: list[wire.Message] = []  # everything but logs and beats
        self.beats = 0
        self.uses: list[dict[str, float]] = []  # what beats tell of the machine
        self.figures: list[dict[str, Any]] = []
        self.connections = 0
        self.fetched: list[str] = []  # blobs that were asked for
        self.reports: dict[str, list[wire.Message]] = {}
        self.logs: dict[str, Log] = {}
        self.port = 0
        self._writer: asyncio.StreamWriter | None = None
        self._heard = threading.Condition()
        self._loop = asyncio.new_event_loop()
        self._server: asyncio.Server | None = None
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()

    # -- life ---------------------------------------------------------------------------------------------------------

    @property
    def ca_pem(self) -> str:
        return self.ca.cert_pem.bytes().decode()

    def start(self) -> None:
        """Listens; on the port of before when it did already."""
        self._in_loop(self._start())

    def stop(self) -> None:
        """As if killed: connections break, nothing listens; what it knows stays, like a head's store."""
        self._in_loop(self._stop())

    def close(self) -> None:
        self.stop()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    # -- talk ---------------------------------------------------------------------------------------------------------

    def send(self, kind: str, **content: Any) -> None:
        async def write() -> None:
            assert self._writer is not None, "no agent is connected"
            self._writer.write(wire.encode({"t": kind, **content}))

        self._in_loop(write())

    def run(self, *specs: wire.TaskSpec) -> None:
        self.send("run", tasks=[spec.to_json() for spec in specs])

    def until(self, condition: Callable[[], Any], seconds: float = 60.0) -> Any:
        """The condition's first true value; AssertionError after `seconds`."""
        deadline = time.monotonic() + seconds
        with self._heard:
            while not (value := condition()):
                left = deadline - time.monotonic()
                assert left > 0, f"not within {seconds} s; heard last: {self.said[-3:]}"
                self._heard.wait(min(left, 0.05))
        return value

    def until_joined(self, times: int = 1) -> wire.Message:
        self.until(lambda: len(self.hellos) >= times and self._writer)
        return self.hellos[-1]

    def until_exited(self, task: str, seconds: float = 60.0) -> wire.TaskReport:
        """The task's final report, its log whole."""

        def ended() -> wire.Message | None:
            report = (self.reports.get(task) or [{"state": ""}])[-1]
            whole = report["state"] == "exited" and self.log(task).received >= report["log_size"]
            return report if whole else None

        return wire.TaskReport.from_json(self.until(ended, seconds))

    def log(self, task: str) -> Log:
        return self.logs.setdefault(task, Log())

    # -- inside -------------------------------------------------------------------------------------------------------

    def _in_loop(self, work: Any) -> Any:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(60)

    async def _start(self) -> None:
        import ssl

        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.ca.issue_cert(wire.server_name(self.uid)).configure_cert(context)
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", self.port, ssl=context)
        self.port = self._server.sockets[0].getsockname()[1]

    async def _stop(self) -> None:
        if self._server:
            self._server.close()
            self._server = None
        for task in asyncio.all_tasks():
            if task is not asyncio.current_task():
                task.cancel()
        await asyncio.sleep(0)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await self._converse(reader, writer)
        except (OSError, EOFError, asyncio.CancelledError):
            pass
        finally:
            if self._writer is writer:
                self._writer = None
            writer.transport.abort()
            self._notify()

    async def _converse(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        hello, _ = await wire.read_frame(reader)
        self.connections += 1
        welcome = self._judge(hello)
        writer.write(wire.encode(welcome))
        if hello["purpose"] == "blob":
            return await self._send_blobs(reader, writer)
        with self._heard:
            self.hellos.append(hello)
            self._take_reports(hello["tasks"], writer)
        if welcome["t"] == "welcome":
            self._writer = writer
            self._ack(writer, [], {task: log.received for task, log in self.logs.items() if log.received})
        self._notify()
        while True:
            message, payload = await wire.read_frame(reader)
            with self._heard:
                self._hear(message, payload, writer)
                self._heard.notify_all()

    def _judge(self, hello: wire.Message) -> wire.Message:
        if self.refusal:
            return self.refusal
        welcome = {
            "t": "welcome",
            "wire": wire.WIRE_VERSION,
            "beat_seconds": self.beat_seconds,
            "lease_seconds": self.lease_seconds,
        }
        if hello["secret"] in self.join_tokens:
            self.join_tokens.discard(hello["secret"])
            welcome["credential"] = secrets.token_hex(16)
            self.credentials.add(welcome["credential"])
        elif hello["secret"] not in self.credentials:
            return {"t": "refuse", "code": "bad_token", "reason": "the token was used before", "final": True}
        return welcome

    def _hear(self, message: wire.Message, payload: bytes, writer: asyncio.StreamWriter) -> None:
        kind = message["t"]
        if kind == "beat":
            self.beats += 1
            self.uses += [message["use"]] if "use" in message else []
            self.figures += [message["figures"]] if "figures" in message else []
            self.figures += [message["figures"]] if "figures" in message else []
            if self.echoes:
                echo = wire.encode({"t": "beat", "seq": message["seq"]})
                self._loop.call_later(self.echo_delay, writer.write, echo)
        elif kind == "log":
            self._take_log(message, payload, writer)
        else:
            self.said.append(message)
            if kind == "tasks":
                self._take_reports(message["items"], writer)

    def _take_reports(self, items: list[wire.Message], writer: asyncio.StreamWriter) -> None:
        for item in items:
            self.reports.setdefault(item["task"], []).append(item)
        if self.acks_exits:
            self._ack(writer, [item["task"] for item in items if item["state"] == "exited"], {})

    def _take_log(self, message: wire.Message, payload: bytes, writer: asyncio.StreamWriter) -> None:
        log, offset = self.log(message["task"]), message["offset"]
        log.frames += 1
        if offset > log.received:
            assert message["dropped"] == offset - log.received, "a gap that was not announced"
            log.gaps.append((log.received, offset - log.received))
            log.received = offset
        log.data += payload[log.received - offset :]
        log.received = max(log.received, offset + len(payload))
        if self.acks_logs:
            self._ack(writer, [], {message["task"]: log.received})

    def _ack(self, writer: asyncio.StreamWriter, tasks: list[str], logs: dict[str, int]) -> None:
        if tasks or logs:
            writer.write(wire.encode({"t": "ack", "tasks": tasks, "logs": logs}))

    def ack(self, *tasks: str, logs: dict[str, int] | None = None) -> None:
        self.send("ack", tasks=list(tasks), logs=logs or {})

    async def _send_blobs(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Until the agent hangs up."""
        while True:
            message, _ = await wire.read_frame(reader)
            digest = message["digest"]
            self.fetched.append(digest)
            data = self.blobs.get(digest)
            if data is None:
                writer.write(wire.encode({"t": "blob", "digest": digest, "size": 0, "missing": True}))
                continue
            for start in range(0, max(1, len(data)), PIECE):
                header = {"t": "blob", "digest": digest, "size": len(data)}
                writer.write(wire.encode(header, data[start : start + PIECE]))
                await writer.drain()

    def add_blob(self, data: bytes) -> str:
        digest = hashlib.sha256(data).hexdigest()
        self.blobs[digest] = data
        return digest

    def _notify(self) -> None:
        with self._heard:
            self._heard.notify_all()


@dataclass
class AgentProcess:
    """The bundle, running."""

    process: subprocess.Popen[bytes]
    bootstrap: wire.Bootstrap
    instance: str
    bootstrap_file: Path
    stderr_file: Path

    @property
    def directory(self) -> Path:
        return Path(self.bootstrap.directory)

    @property
    def stderr(self) -> str:
        return self.stderr_file.read_text()

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()

    def wait(self, seconds: float = 60.0) -> int:
        return self.process.wait(seconds)

    def alive(self) -> list[int]:
        """Every process of this node, by the mark its provider gave it."""
        return list_marked(f"CLUSTERCTL_INSTANCE={self.instance}\0")


@pytest.fixture(scope="session")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_bundle(tmp_path_factory.mktemp("bundle"))[0]


@pytest.fixture
def head() -> Iterator[HeadDouble]:
    double = HeadDouble()
    double.start()
    yield double
    double.close()


StartAgent = Callable[..., AgentProcess]


@pytest.fixture
def start_agent(bundle: Path, head: HeadDouble, tmp_path: Path) -> Iterator[StartAgent]:
    """Starts an agent of `head`; keywords overwrite the bootstrap. `env` adds to its environment,
    `under` is a command that starts it."""
    started: list[AgentProcess] = []

    def start(env: dict[str, str] | None = None, under: Sequence[str] = (), **changes: Any) -> AgentProcess:
        bootstrap = wire.Bootstrap(
            cluster="test",
            uid=head.uid,
            node_id="cpu-1",
            generation=1,
            heads=[f"127.0.0.1:{head.port}"],
            ca_pem=head.ca_pem,
            join_token="join-token",
            directory=str(tmp_path / "node"),
        )
        for name, value in changes.items():
            setattr(bootstrap, name, value)
        file = tmp_path / f"bootstrap-{len(started)}.json"
        file.write_text(json.dumps(bootstrap.to_json()))
        instance = secrets.token_hex(8)
        environment = {**os.environ, "CLUSTERCTL_INSTANCE": instance, **(env or {})}
        stderr = tmp_path / f"stderr-{len(started)}"
        with stderr.open("wb") as sink:
            process = subprocess.Popen(
                [*under, sys.executable, "-S", "-E", str(bundle), "--bootstrap", str(file)],
                env=environment,
                stderr=sink,
                start_new_session=True,
            )
        agent = AgentProcess(process, bootstrap, instance, file, stderr)
        started.append(agent)
        return agent

    yield start
    for agent in started:
        agent.kill()
        wait_until(lambda agent=agent: not agent.alive())
