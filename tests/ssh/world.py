"""The SSH provider's world for the contract suite: real daemons of hosts on this machine, parked at the head's real books."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
import os
import ssl
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from clusterctl_providers.base import Provider
from clusterctl_runtime import wire
from clusterctl_runtime.agent.bundle import build_bundle
from clusterctl_runtime.head.network.certs import ensure_certificates, server_context
from clusterctl_runtime.head.nodes.standby import Standby

from clusterctl.core.errors import NoCapacity
from tests.contract.worlds import World
from tests.support.cluster import wait_until

SLEEPER = [sys.executable, "-S", "-c", "import time; time.sleep(600)"]


class Parking:
    """The head's side for one cluster, and `count` hosts that dial it. A host is a directory and a process."""

    def __init__(self, directory: Path, uid: str, count: int, agent_argv: list[str] = SLEEPER) -> None:
        self.directory, self.uid = directory, uid
        directory.mkdir(parents=True, exist_ok=True)
        self._ca_pem = ensure_certificates(directory, uid)
        self._bundle, _ = build_bundle(directory)
        self._agent_argv = agent_argv
        names = [f"h{n}" for n in range(1, count + 1)]
        digests = {name: hashlib.sha256(f"token-{name}".encode()).hexdigest() for name in names}
        rows = [{"id": n, "address": "127.0.0.1", "pools": ["cpu"], "token_sha256": digests[n]} for n in names]
        (directory / "hosts.json").write_text(json.dumps({"hosts": rows}))
        self.standby = Standby(directory, uid)
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        self.port = self._call(self._listen(server_context(directory), 0))
        self.processes = {name: self.start_host(name) for name in names}
        self.await_hosts()

    def _call(self, coroutine: Any) -> Any:
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result(60)

    async def _listen(self, context: ssl.SSLContext, port: int) -> int:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", port, ssl=context)
        return self._server.sockets[0].getsockname()[1]

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError, EOFError, asyncio.CancelledError):
            hello, _ = await wire.read_frame(reader)
            await self.standby.serve(reader, writer, hello)
        writer.close()

    def start_host(self, name: str, token: str = "") -> subprocess.Popen[bytes]:
        root = self.directory / name
        root.mkdir(exist_ok=True)
        settings = {
            "uid": self.uid, "cluster": "c", "host": name, "heads": [f"127.0.0.1:{self.port}"], "ca_pem": self._ca_pem,
            "token": token or f"token-{name}", "agent_argv": self._agent_argv,
        }  # fmt: skip
        (root / "host.json").write_text(json.dumps(settings))
        with (root / "standby.log").open("ab") as log:
            return subprocess.Popen(
                [sys.executable, str(self._bundle), "--host", str(root / "host.json")], stdout=log, stderr=log
            )

    def await_hosts(self) -> None:
        wait_until(lambda: all(host.connected for host in self.standby.hosts()), what="all hosts connected")

    def close(self) -> None:
        for process in self.processes.values():
            process.terminate()
        for process in self.processes.values():
            process.wait(60)
        self._call(self._end())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(60)
        self._loop.close()

    async def _end(self) -> None:
        self._server.close()
        for task in asyncio.all_tasks():
            if task is not asyncio.current_task():
                task.cancel()
        await asyncio.sleep(0)


class SshWorld(World):
    provider_name = "ssh"
    many = 3
    refusal = NoCapacity

    def __init__(self) -> None:
        super().__init__()
        self._parkings: dict[str, Parking] = {}

    def parking(self, uid: str = "") -> Parking:
        uid = uid or self.uid
        if uid not in self._parkings:
            self._parkings[uid] = Parking(self.directory / uid[:8], uid, 4)
        return self._parkings[uid]

    def provider(self, uid: str = "") -> Provider:
        uid = uid or self.uid
        self._uids.add(uid)
        return self.open({}, uid, hosts=self.parking(uid).standby)

    @contextlib.contextmanager
    def refusing(self, provider: Provider, node_id: str) -> Iterator[Provider]:
        """Every host is taken by somebody else."""
        pool = self.pool
        others = [self.request(provider, f"cpu-{n}") for n in range(11, 15)]
        made = [getattr(result, "id", "") for result in provider.create(others)]
        refused: list[Any] = []

        class Full:
            def create(self, requests: Any) -> Any:
                refused.extend(provider.create(requests))
                provider.terminate(made)
                wait_until(lambda: all(host.is_free(pool.role) for host in parking.standby.hosts()), what="free hosts")
                return refused

        parking = self.parking()
        yield Full()  # type: ignore[misc]

    @contextlib.contextmanager
    def half_blind(self) -> Iterator[Provider]:
        """A host with a node on it falls silent."""
        parking = self.parking()
        taken = next(host for host in parking.standby.hosts() if host.claims)
        process = parking.processes[taken.id]
        process.kill()
        process.wait(60)
        wait_until(
            lambda: not next(h for h in parking.standby.hosts() if h.id == taken.id).connected, what="it is silent"
        )
        try:
            yield self.provider()
        finally:
            parking.processes[taken.id] = parking.start_host(taken.id)
            parking.await_hosts()

    def close(self) -> None:
        super().close()
        for parking in self._parkings.values():
            parking.close()


def marked(instance: str) -> list[int]:
    """Processes that run for an instance."""
    mark, found = f"CLUSTERCTL_INSTANCE={instance}".encode(), []
    for path in Path("/proc").iterdir():
        if path.name.isdigit():
            with contextlib.suppress(OSError):
                if mark in (path / "environ").read_bytes().split(b"\0") and int(path.name) != os.getpid():
                    found.append(int(path.name))
    return found
