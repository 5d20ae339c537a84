"""What Azure's provider costs: whoever does not call Azure, nothing of its libraries; whoever does, few calls."""

from __future__ import annotations

import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from clusterctl.core.model import Instance
from clusterctl.spec.init import write_starter
from tests.azure.stage import Stage, pool
from tests.cloud.azure.cloud import AzureCloud

LIBRARIES = ("azure.identity", "azure.core", "azure.mgmt", "msal", "requests", "urllib3")
AFTERWARDS = "\nimport sys\nprint('loaded:', *(name for name in {names!r} if name in sys.modules))"
COMMAND = """\
import sys
sys.argv = ["clusterctl", *{arguments!r}]
from clusterctl.cli.main import run
try:
    run()
except SystemExit as ended:
    assert ended.code in (0, None), ended.code
"""
MADE = """\
import os
from clusterctl_providers import make_provider
from clusterctl_providers.base import ProviderContext
from clusterctl.core.errors import AuthFailed
os.environ["AZURE_TOKEN_CREDENTIALS"] = "EnvironmentCredential"
settings = {"subscription": "11111111-2222-3333-4444-555555555555", "region": "eastus"}
provider = make_provider("azure", ProviderContext("demo", "0" * 32, "state", settings))
"""


def loaded_by(program: str, home: Path) -> list[str]:
    """Which of the libraries are loaded when the program has come to its end."""
    done = subprocess.run(
        [sys.executable, "-c", program + AFTERWARDS.format(names=LIBRARIES)], capture_output=True, text=True, timeout=120,
        cwd=home, env={"CLUSTERCTL_HOME": str(home / "home"), "PATH": "/usr/bin:/bin", "HOME": str(home)},
        stdin=subprocess.DEVNULL,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()[-1].split()[1:]


@pytest.mark.parametrize(
    "arguments",
    [
        ["validate", "cluster.yaml"],
        ["offers", "--provider", "azure", "--region", "eastus", "--gpu", "T4"],
        ["init", "--provider", "azure-gpu", "elsewhere"],
        ["gc", "--help"],
    ],
    ids=" ".join,
)
def test_a_command_that_calls_no_cloud_loads_none_of_it(arguments: list[str], tmp_path: Path) -> None:
    write_starter("azure", tmp_path)
    assert loaded_by(COMMAND.format(arguments=arguments), tmp_path) == []


def test_a_head_loads_it_with_its_first_call_and_not_before_it_listens(tmp_path: Path) -> None:
    """Its provider is made on the way to its sockets; the first look, which is in a thread, is made when they are open."""
    assert loaded_by(MADE + "provider.agent_endpoint()", tmp_path) == []


def test_the_first_call_loads_them(tmp_path: Path) -> None:
    """Else the tests above would see nothing because they look for the wrong names."""
    called = "try:\n    provider.list()\nexcept AuthFailed:\n    pass"
    assert {"requests", "urllib3"} <= set(loaded_by(MADE + called, tmp_path))


# ---------------------------------------------------------------- calls


@pytest.fixture
def stage(cloud: AzureCloud, tmp_path: Path) -> Iterator[Stage]:
    place = Stage(tmp_path, cloud, [pool(instances=["Standard_D2s_v5"])])
    yield place
    place.close()


def test_fifty_nodes_take_a_call_each_and_a_look_one_for_every_fifty_and_a_few(stage: Stage, cloud: AzureCloud) -> None:
    of = stage.provider.offers(stage.pools[0])[0]
    stage.provider.create([stage.request("cpu-1000", of)])  # so that what is around them is there
    launched = Counter[str]()
    for first in (0, 50):
        before = len(cloud.world.calls)
        made = stage.provider.create([stage.request(f"cpu-{first + n}", of) for n in range(1, 51)])
        assert all(isinstance(one, Instance) for one in made)
        launched += Counter(cloud.world.operations(before))
        count, pages = first + 51, first // 50 + 2
        for more in (3, 1):  # addresses that are known are not asked for
            before = len(cloud.world.calls)
            assert len(stage.provider.list()[0].instances) == count
            looked = Counter(cloud.world.operations(before))
            assert looked["virtualMachines.list"] == pages and looked.total() <= pages + more, looked
    assert launched["virtualMachines.createOrUpdate"] == 100 and launched.total() <= 100 + 10, launched


def test_machines_that_are_off_are_asked_one_by_one_a_few_at_each_look_and_then_rarely(
    stage: Stage, cloud: AzureCloud
) -> None:
    of = stage.provider.offers(stage.pools[0])[0]
    made = stage.provider.create([stage.request(f"cpu-{n}", of) for n in range(1, 31)])
    for one in made:
        assert isinstance(one, Instance)
        cloud.shut_down(one.id)
    asked: list[int] = []
    for _ in range(4):
        before = len(cloud.world.calls)
        stage.provider.list()
        asked.append(cloud.world.operations(before).count("virtualMachines.instanceView"))
    assert asked == [20, 10, 0, 0]
    assert {i.state for i in stage.provider.list()[0].instances} == {"stopped"}
