"""Peers that vanish without a word: their connection ends, and others' does not."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from clusterctl_runtime.head.network.silence import Watch
from clusterctl_runtime.head.nodes import standby

from clusterctl.core.model import dead_after
from tests.ssh.world import Parking
from tests.support.cluster import wait_until

SECONDS = 0.2


class Server:
    """Echoes lines; `ended` has the names of those whose connection has ended here."""

    def __init__(self) -> None:
        self.ended: list[str] = []
        self.port = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        name = (await reader.readline()).decode().strip()
        with Watch(writer, SECONDS) as watch:
            while line := await reader.readline():
                watch.heard()
                writer.write(line)
        self.ended.append(name)
        writer.close()


@contextlib.asynccontextmanager
async def serving() -> AsyncIterator[Server]:
    server = Server()
    listening = await asyncio.start_server(server.serve, "127.0.0.1", 0)
    server.port = listening.sockets[0].getsockname()[1]
    async with listening:
        yield server


def test_who_says_nothing_is_cut_off_and_who_speaks_is_not() -> None:
    async def run() -> list[str]:
        async with serving() as server:
            _, mute = await asyncio.open_connection("127.0.0.1", server.port)
            mute.write(b"mute\n")
            reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
            writer.write(b"lively\n")
            while not server.ended:
                writer.write(b"here\n")
                assert await reader.readline() == b"here\n"
            writer.write(b"still\n")
            assert await reader.readline() == b"still\n"
            found = list(server.ended)
            writer.close()
            mute.close()
            return found

    assert asyncio.run(asyncio.wait_for(run(), 60)) == ["mute"]


def test_a_head_that_was_kept_from_reading_blames_nobody_for_it() -> None:
    """What came while it could not read is read before it judges."""

    async def run() -> list[str]:
        async with serving() as server:
            reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
            writer.write(b"lively\nhere\n")
            assert await reader.readline() == b"here\n"
            writer.write(b"during\n")
            began = time.monotonic()
            while time.monotonic() - began < 2 * SECONDS:
                pass  # the process is stopped, or its machine is overloaded
            for _ in range(5):
                assert await reader.readline()
                writer.write(b"after\n")
            found = list(server.ended)
            writer.close()
            return found

    assert asyncio.run(asyncio.wait_for(run(), 60)) == []


@pytest.fixture
def parking(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(standby, "BEAT_SECONDS", 0.1)
    monkeypatch.setattr(standby, "LEASE_SECONDS", 0.5)
    made = Parking(tmp_path / "p", "00000000-0000-4000-8000-00000000c0de", 2)
    try:
        yield made
    finally:
        made.close()


def test_a_host_that_hangs_is_missed_and_is_back_when_it_goes_on(parking: Parking) -> None:
    """Its kernel keeps the connection open, as a network does that drops all it is given."""

    def connected() -> dict[str, bool]:
        return {host.id: host.connected for host in parking.standby.hosts()}

    parking.processes["h1"].send_signal(signal.SIGSTOP)
    try:
        wait_until(lambda: connected() == {"h1": False, "h2": True}, what="it is missed")
    finally:
        parking.processes["h1"].send_signal(signal.SIGCONT)
    wait_until(lambda: all(connected().values()), what="it is back")


def test_a_claim_lives_for_as_long_as_its_agent_may_whatever_its_hosts_daemon_does(parking: Parking) -> None:
    """The daemon is long gone, the agent was heard a moment ago: nothing is started elsewhere."""
    found = parking.standby
    claim = {"instance": "ssh-1-a", "token": "t", "node_id": "cpu-1", "generation": 1, "orphan_timeout": 100.0}
    claim["bootstrap"] = {"uid": parking.uid, "node_id": "cpu-1", "generation": 1}
    found.claim("h1", claim)
    found.send()
    state = lambda: next(host.claims[0].state for host in found.hosts() if host.claims)  # noqa: E731
    wait_until(lambda: state() == "running", what="it is claimed")
    process = parking.processes["h1"]
    process.kill()
    process.wait(60)
    wait_until(lambda: state() == "unknown", what="the daemon is missed")
    host, limit = found._hosts["h1"], dead_after(100.0)
    now = found.started = host.heard = standby.steady_time() - 2 * limit
    assert state() == "terminated"
    found._node_heard = lambda node_id, generation: now + 1.5 * limit if (node_id, generation) == ("cpu-1", 1) else 0
    assert state() == "unknown"
    found._node_heard = lambda node_id, generation: standby.inf
    assert state() == "running"
    parking.processes["h1"] = parking.start_host("h1")
    wait_until(lambda: all(host.connected for host in found.hosts()))
    found.release(["ssh-1-a"])
    wait_until(lambda: state() == "terminated")
