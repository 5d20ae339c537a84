"""For real: processes that bring up and take down local nodes are ended by SIGKILL wherever that can happen."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, ClassVar

import pytest
from clusterctl_providers.base import ProviderContext
from clusterctl_providers.local import nodes as local_nodes
from clusterctl_providers.local import processes as local_processes
from clusterctl_providers.local.provider import LocalProvider

from clusterctl.core.model import Instance
from tests.crash.stage import UID, Fuse, MiniHead
from tests.crash.story import (
    RealSky,
    brittle,
    check_all_gone,
    check_no_double,
    die_once_everywhere,
    every_other_effect,
    run_story,
    running,
)

AGENT = [sys.executable, "-S", "-c", "import time; time.sleep(600)"]
STEPS = ("write_private", "_make_short_dir", "mark_ended", "remove_node")


class LocalSky(RealSky):
    spec: ClassVar[Mapping[str, Any]] = {"resources": {"CPU": 1}}

    def provider(self) -> LocalProvider:
        state, settings = str(self.directory / "state"), {"short_dir": str(self.directory)}
        return LocalProvider(ProviderContext("demo", UID, state, settings, agent_argv=AGENT))

    def living(self) -> list[Instance]:
        living = super().living()
        mine = {node.id for node in local_nodes.nodes_on_disk(self.directory / "state")}
        pids = {i: pids for i, pids in local_processes.marked_processes().items() if i in mine}
        assert all(len(several) == 1 for several in pids.values()), f"two agents of one node: {pids}"
        return living

    def remains(self) -> list[str]:
        marked = [i for i in local_processes.marked_processes() if UID.replace("-", "") in i]
        return [*marked, *map(str, self.directory.glob("state/nodes/*")), *map(str, self.directory.glob("cctl-*"))]

    def arm(self, head: MiniHead, fuse: Fuse) -> None:
        for name in STEPS:
            setattr(local_nodes, name, brittle(getattr(local_nodes, name), name, fuse, _about))
        local_nodes.subprocess = _Spawning(fuse)  # type: ignore[assignment]
        local_processes._alive = brittle(local_processes._alive, "look", fuse)


def _about(*args: Any) -> str:
    """The file that is written, if it is one."""
    return args[0].name if isinstance(args[0], Path) and args[0].suffix == ".json" else ""


class _Spawning:
    """`subprocess` with a position before and after each start."""

    def __init__(self, fuse: Fuse) -> None:
        self._fuse = fuse

    def Popen(self, *args: Any, **kwargs: Any) -> Any:
        self._fuse.at("before spawn")
        child = subprocess.Popen(*args, **kwargs)
        self._fuse.at("with a child whose pid is not noted")
        return child

    def __getattr__(self, name: str) -> Any:
        return getattr(subprocess, name)


@pytest.fixture
def sky(tmp_path: Path) -> Iterator[LocalSky]:
    sky = LocalSky(tmp_path)
    yield sky
    with running(sky) as head:
        head.start()
        head.provisioner.down()
    sky.close()


def test_nodes_are_there_once_and_then_gone_whoever_is_killed_on_the_way(sky: LocalSky) -> None:
    died = die_once_everywhere(sky)
    kinds = {name.partition(": ")[2] for name in died}
    assert {"before create", "before terminate", "before spawn", "before remove_node", "before mark_ended"} <= kinds
    assert {"with a child whose pid is not noted", "before write_private instance.json"} <= kinds
    assert {name.partition(":")[0] for name in died} == {"start", "up", "scale-up", "scale-down", "down"}


def test_answers_that_are_lost_after_the_effect_leave_nothing(sky: LocalSky) -> None:
    with running(sky, lost=every_other_effect()) as head:
        head.start()
        run_story(head, [], lambda: check_no_double(sky))
        check_all_gone(sky, head)
