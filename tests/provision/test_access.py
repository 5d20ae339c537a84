"""`exec`, `cp` and `ssh` on nodes that are processes of this machine: they are in the node's own directory."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.support.cluster import LocalCluster

FAKE = "{fake: {boot: local, types: {small: {CPU: 1, price: 0.1}}}}"
SPEC = """\
cluster: demo
provider: PROVIDER
engine: none
files: [{from: one.txt, to: one.txt}]
pools: [{name: cpu, min: 1, max: 1WHICH}]
"""


@pytest.fixture
def make(tmp_path: Path) -> Iterator[Callable[[str, str], LocalCluster]]:
    made: list[LocalCluster] = []

    def make(provider: str, which: str) -> LocalCluster:
        made.append(LocalCluster(tmp_path, SPEC.replace("PROVIDER", provider).replace("WHICH", which)))
        (tmp_path / "one.txt").write_text("1")
        made[-1].up()
        return made[-1]

    yield make
    for cluster in made:
        cluster.clean_up()


@pytest.mark.parametrize(
    ("provider", "which"), [("local", ", resources: {CPU: 1}"), (FAKE, ", instances: [small]")], ids=["local", "fake"]
)
def test_commands_copies_and_shells_are_in_the_nodes_own_directory(
    make: Callable[[str, str], LocalCluster], provider: str, which: str
) -> None:
    cluster = make(provider, which)

    def said(node: str, script: str) -> str:
        return cluster.cli("exec", node, "--", "sh", "-c", script).stdout.strip()

    assert said("cpu-1", "cat $CLUSTERCTL_FILES/one.txt; echo $CLUSTERCTL_NODE_ID") == "1cpu-1"
    assert said("cpu-1", "pwd") != said("head-1", "pwd")
    cluster.cli("cp", str(cluster.directory / "one.txt"), "cpu-1:copied")
    assert said("cpu-1", "cat copied") == "1"
    cluster.cli("cp", "cpu-1:copied", str(cluster.directory / "back"))
    assert (cluster.directory / "back").read_text() == "1"
    shell = cluster.start("ssh", "cpu-1", stdin=-1)
    output, _ = shell.communicate("cat copied; pwd; exit 4\n", timeout=120)
    assert output.splitlines() == ["1" + said("cpu-1", "pwd")] and shell.returncode == 4
    assert "no node 'cpu-9'" in cluster.cli("exec", "cpu-9", "--", "true", code=3).stderr
