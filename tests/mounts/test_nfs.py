"""A real NFS server and this kernel's own client: what the agent mounts, keeps, refuses, loses and lets go.

Where the kernel has no NFS client (some containers and small virtual machines), there is nothing to test it with.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from clusterctl_runtime.agent.mounting import mounts as agent_mounts
from clusterctl_runtime.agent.mounting import record
from clusterctl_runtime.agent.mounting.mounts import Mounts
from clusterctl_runtime.agent.mounting.ways import MountFailed
from clusterctl_runtime.agent.preparing.removal import remove_tree
from clusterctl_runtime.files.mount_table import detach_below, mounted_at

from clusterctl.spec.load import parse_spec
from clusterctl.spec.mounts.documents import VolumePlaces, mount_documents
from tests.support.cluster import wait_until

pytestmark = [
    pytest.mark.skipif(os.geteuid() != 0, reason="only root mounts"),
    pytest.mark.skipif("nfs4" not in Path("/proc/filesystems").read_text(), reason="this kernel has no NFS client"),
    pytest.mark.skipif(
        shutil.which("ganesha.nfsd", path="/usr/bin:/usr/sbin") is None, reason="no NFS server is installed"
    ),
]
CONFIG = """\
NFS_CORE_PARAM {{ Protocols = 4; NFS_Port = {port}; Enable_NLM = false; Enable_RQUOTA = false; }}
NFSv4 {{ Graceless = true; RecoveryBackend = fs; RecoveryRoot = {here}; Only_Numeric_Owners = true; }}
EXPORT {{ Export_Id = 1; Path = {export}; Pseudo = /export; Access_Type = RW; Squash = No_Root_Squash; SecType = sys;
  FSAL {{ Name = VFS; }} }}
LOG {{ Default_Log_Level = WARN; }}
"""


class Server:
    """Serves `export` as /export."""

    port = 20490

    def __init__(self, here: Path) -> None:
        self.export = here / "export"
        self.export.mkdir()
        (here / "conf").write_text(CONFIG.format(port=self.port, here=here, export=self.export))
        self.log = here / "log"
        argv = ["ganesha.nfsd", "-F", "-f", str(here / "conf"), "-L", str(self.log), "-p", str(here / "pid")]
        self.process = subprocess.Popen(argv, env={**os.environ, "PATH": "/usr/bin:/usr/sbin:/bin:/sbin"})
        tables = (Path("/proc/net/tcp"), Path("/proc/net/tcp6"))
        listens = f":{self.port:04X} "
        wait_until(lambda: any(listens in table.read_text().upper() for table in tables), what="it listens")

    def pause(self) -> None:
        self.process.send_signal(signal.SIGSTOP)

    def go_on(self) -> None:
        self.process.send_signal(signal.SIGCONT)

    def close(self) -> None:
        self.process.kill()
        self.process.wait()


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    made = Server(tmp_path_factory.mktemp("nfs"))
    yield made
    made.go_on()
    made.close()


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Path]:
    yield tmp_path / "data"
    detach_below(tmp_path)


def wanted(server: Server, place: Path, mode: str = "read-write", path: str = "/export") -> list[dict[str, Any]]:
    """As a node on a host is told of it."""
    address = f"nfs://127.0.0.1:{server.port}{path}"
    text = (
        "cluster: a\nprovider: ssh\nengine: none\npools: [{name: x, hosts: [h]}]\nmounts:\n"
        f"  - {{from: '{address}', to: /data, mode: {mode}, options: [vers=4.1]}}\n"
    )
    return [{**told, "to": str(place)} for told in mount_documents(parse_spec(text), None, VolumePlaces())]


def run(directory: Path, story: Callable[[Mounts], Awaitable[None]], close: bool = True) -> None:
    """One life of an agent; without `close` it is killed."""

    async def life() -> None:
        mounts = Mounts(directory, lambda: None, lambda pid: None)
        try:
            await story(mounts)
        finally:
            if close:
                await mounts.close()

    directory.mkdir(exist_ok=True)
    asyncio.run(life())


async def make(mounts: Mounts, told: list[dict[str, Any]]) -> dict[str, Any]:
    await mounts.make(told, {}, lambda step: None, defer=False)
    message = mounts.take()
    assert message is not None
    return message["items"][0]


def test_it_is_mounted_kept_by_the_next_agent_made_again_when_it_is_lost_and_unmounted_at_the_end(
    server: Server, place: Path, tmp_path: Path
) -> None:
    (server.export / "seen").write_text("by all")
    told = wanted(server, place)

    async def first(mounts: Mounts) -> None:
        item = await make(mounts, told)
        assert (item["state"], item["type"], item["source"]) == ("mounted", "nfs4", "127.0.0.1:/export")
        assert item["size"] > 0 and (place / "seen").read_text() == "by all"
        (place / "written").write_text("by a node")
        assert (server.export / "written").read_text() == "by a node"
        assert {path.name for path in server.export.iterdir()} == {"seen", "written"}, "the check leaves nothing"

    async def second(mounts: Mounts) -> None:
        before = place.stat().st_dev
        await mounts.recheck()
        assert mounts.trouble() == ""
        assert (await make(mounts, told))["state"] == "mounted" and place.stat().st_dev == before
        subprocess.run(["umount", str(place)], check=True)
        until = time.monotonic() + 30
        while mounted_at(place) is None and time.monotonic() < until:
            await asyncio.sleep(0.05)
        assert (place / "seen").read_text() == "by all"

    run(tmp_path / "node", first, close=False)
    assert mounted_at(place) is not None
    run(tmp_path / "node", second)
    assert mounted_at(place) is None and not place.exists() and (server.export / "seen").exists()


def test_what_somebody_else_has_mounted_there_is_used_where_it_is_the_same_and_refused_by_name_where_it_is_not(
    server: Server, place: Path, tmp_path: Path
) -> None:
    place.mkdir()
    (server.export / "inner").mkdir(exist_ok=True)
    options = f"vers=4.1,port={server.port}"
    subprocess.run(["mount", "-t", "nfs", "-o", options, "127.0.0.1:/export", str(place)], check=True)

    async def same(mounts: Mounts) -> None:
        assert (await make(mounts, wanted(server, place)))["state"] == "mounted"

    async def other(mounts: Mounts) -> None:
        with pytest.raises(MountFailed, match=r"127\.0\.0\.1:/export \(nfs4\) is mounted there and is not this node's"):
            await make(mounts, wanted(server, place, path="/export/inner"))

    run(tmp_path / "node", same)
    run(tmp_path / "node", other)
    assert mounted_at(place) is not None, "it is not ours to unmount"
    subprocess.run(["umount", str(place)], check=True)


def test_for_reading_only_is_that(server: Server, place: Path, tmp_path: Path) -> None:
    async def story(mounts: Mounts) -> None:
        assert (await make(mounts, wanted(server, place, "read-only")))["mode"] == "read-only"
        with pytest.raises(OSError, match="Read-only"):
            (place / "x").touch()

    run(tmp_path / "node", story)


def test_a_server_that_hangs_stops_neither_the_look_nor_the_end_and_no_removal_walks_into_it(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(record, "UNMOUNT_SECONDS", 3.0)
    monkeypatch.setattr(agent_mounts, "RECHECK_SECONDS", 2.0)
    (server.export / "precious").write_text("x")
    work = tmp_path / "work"
    told = wanted(server, work / "inner" / "data")

    async def mount(mounts: Mounts) -> None:
        await make(mounts, told)

    async def hanging(mounts: Mounts) -> None:
        await mounts.recheck()
        assert "does not answer within 2 s" in mounts.trouble()

    run(tmp_path / "node", mount, close=False)
    remove_tree(work)
    assert not work.exists() and (server.export / "precious").read_text() == "x"
    run(tmp_path / "node", mount, close=False)
    server.pause()
    try:
        began = time.monotonic()
        run(tmp_path / "node", hanging)
        assert time.monotonic() - began < 60
        assert mounted_at(work / "inner" / "data") is None
    finally:
        server.go_on()
    assert (server.export / "precious").read_text() == "x"
