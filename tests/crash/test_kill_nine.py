"""For real: a process that brings up local nodes is ended by SIGKILL at one position after the other, and started again."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from clusterctl_providers import local_nodes, local_processes
from clusterctl_providers.base import PoolRequest, ProviderContext
from clusterctl_providers.local import LocalProvider

from clusterctl.core.model import Launch, Offer, Plan, Reason, Terminate, launch_token
from clusterctl.provision.journal import Journal
from clusterctl.provision.provisioner import Provisioner
from tests.crash.stage import UID, BrittleDb, Fuse

WANTED = ("cpu-1", "cpu-2")
AGENT = [sys.executable, "-S", "-c", "import time; time.sleep(600)"]
POOL = PoolRequest("cpu", {"resources": {"CPU": 1}})


class Deadly(Fuse):
    """A fuse that kills its own process for real."""

    def __init__(self, blow: int) -> None:
        super().__init__(blow, lambda: os.kill(os.getpid(), signal.SIGKILL))


def brittle(function: Callable[..., object], name: str, fuse: Fuse) -> Callable[..., object]:
    def around(*args: object, **kwargs: object) -> object:
        fuse.at(f"before {name}")
        answer = function(*args, **kwargs)
        fuse.at(f"after {name}")
        return answer

    return around


class Process:
    """What `up`, a scale-down and `down` do with local nodes, in one process."""

    def __init__(self, directory: Path, fuse: Fuse | None = None) -> None:
        self.journal = Journal(directory / "nodes.db", strict=True)
        settings = {"agent_argv": AGENT, "short_dir": str(directory)}
        self.provider = LocalProvider(ProviderContext("demo", UID, str(directory / "state"), settings))
        if fuse:
            self.journal._db = BrittleDb(self.journal._db, fuse)  # type: ignore[assignment]
            for name in ("_write_private", "_make_short_dir", "mark_ended", "remove_node"):
                setattr(local_nodes, name, brittle(getattr(local_nodes, name), name, fuse))
            local_nodes.subprocess = _Spawning(fuse)  # type: ignore[assignment]
            local_processes._alive = brittle(local_processes._alive, "look", fuse)  # type: ignore[assignment]
        self.journal.acquire(f"process {os.getpid()}")
        self.provisioner = Provisioner(
            self.journal,
            {"local": self.provider},
            lambda node, pool: {"node_id": node.id, "join_token": node.token},
            cluster="demo",
            uid=UID,
            clock=time.time,
            pools=[POOL],
        )

    def up(self) -> None:
        self.provisioner.observe()
        offer = self.provisioner.offers()[0]
        missing = [node_id for node_id in WANTED if self.journal.get(node_id) is None]
        self.provisioner.apply(Plan(tuple(_launch(node_id, offer) for node_id in missing)))

    def shrink(self) -> None:
        node = self.journal.get("cpu-2")
        self.provisioner.observe()
        assert node
        reason = Reason("idle", "nothing runs on it")
        self.provisioner.apply(Plan((Terminate("cpu-2", node.instance_id, reason),)))

    def close(self) -> None:
        self.provisioner.close()
        self.journal.close()


class _Spawning:
    """`subprocess` with a position before and after each start."""

    def __init__(self, fuse: Fuse) -> None:
        import subprocess

        self._real = subprocess
        self.Popen = brittle(subprocess.Popen, "spawn", fuse)

    def __getattr__(self, name: str) -> object:
        return getattr(self._real, name)


def _launch(node_id: str, offer: Offer) -> Launch:
    reason = Reason("minimum", "the pool's minimum")
    return Launch(node_id, 1, launch_token(UID, node_id, 1), offer, "worker", "", reason)


def killed_in(work: Callable[[Process], None], directory: Path, number: int) -> bool:
    """Runs `work` in a process that dies at position `number`; false when it got to its end."""
    child = os.fork()
    if child == 0:
        code = 1
        try:
            work(Process(directory, Deadly(number)))
            code = 0
        finally:
            os._exit(code)
    _, status = os.waitpid(child, 0)
    assert os.WIFSIGNALED(status) or os.WEXITSTATUS(status) == 0, "the process failed by itself"
    return os.WIFSIGNALED(status)


def agents(directory: Path) -> dict[str, set[int]]:
    """Living processes of this test's nodes, by instance: their work directory is below the test's."""
    mine = {node.id for node in local_nodes.nodes_on_disk(directory / "state")}
    return {i: pids for i, pids in local_processes.marked_processes().items() if i in mine}


@pytest.fixture
def places(tmp_path: Path) -> Iterator[Callable[[int], Path]]:
    """A fresh directory per position; whatever the test left running is ended."""
    made: list[Path] = []

    def make(number: int) -> Path:
        made.append(tmp_path / str(number))
        made[-1].mkdir()
        return made[-1]

    yield make
    for directory in made:
        process = Process(directory)
        process.provisioner.down()
        process.close()


def no_traces(directory: Path) -> bool:
    nodes = list((directory / "state" / "nodes").iterdir())
    return not nodes and not list(directory.glob("cctl-*")) and not _still_marked()


def _still_marked() -> list[str]:
    return [i for i in local_processes.marked_processes() if UID.replace("-", "") in i]


def test_up_killed_anywhere_and_started_again_has_each_node_once(places: Callable[[int], Path]) -> None:
    number = 1
    while killed_in(Process.up, directory := places(number), number):
        process = Process(directory)
        process.up()
        assert {node_id: len(pids) for node_id, pids in agents(directory).items()} == {
            process.provider.instance_id(launch_token(UID, node_id, 1)): 1 for node_id in WANTED
        }, number
        assert {i.state for i in process.provider.list()[0].instances} == {"running"}
        process.provisioner.down()
        assert no_traces(directory) and process.journal.nodes() == {}
        process.close()
        number += 1
    assert number > 15, "positions of the journal, the papers and the spawn were tried"


@pytest.mark.parametrize("work", [Process.shrink, lambda process: process.provisioner.down()], ids=["shrink", "down"])
def test_an_end_killed_anywhere_is_finished_by_the_next_process(
    places: Callable[[int], Path], work: Callable[[Process], None]
) -> None:
    number = 1
    while True:
        directory = places(number)
        first = Process(directory)
        first.up()
        first.close()
        if not killed_in(work, directory, number):
            break
        second = Process(directory)
        second.provisioner.down()
        assert no_traces(directory) and second.journal.nodes() == {}, number
        second.close()
        number += 1
    assert number > 5
