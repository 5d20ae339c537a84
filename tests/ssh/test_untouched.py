"""What was never written to need not be cleaned: `down` after an `up` that never got in."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from clusterctl.client.nodes.machines import note_touched, save_machines, saved_machines, touched_machines
from clusterctl.provision.ssh.inventory import Login, Machine
from tests.support.cluster import LocalCluster

MACHINES = [Machine("a", Login("a"), ("cpu",), head=True), Machine("b", Login("b"), ("cpu",))]


def test_a_cluster_that_never_got_in_anywhere_is_down_at_once(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    key = tmp_path / "key"
    key.write_text("no key")
    cluster = LocalCluster(
        tmp_path,
        f"cluster: demo\nprovider: ssh\nauth: {{user: nobody, key: {key}}}\nengine: none\n"
        f"pools: [{{name: cpu, min: 1, max: 2, hosts: ['127.0.0.1:{port}', 'localhost:{port}']}}]\n",
    )
    assert "refuses connections" in cluster.cli("up", str(cluster.spec), "-y", code=1).stderr
    done = cluster.cli("down", "demo", "-y")
    assert "nothing of it is left" in done.stdout and "refuses connections" not in done.stderr
    assert not (cluster.home / "clusters" / "demo").exists()


def test_whoever_wrote_the_file_before_touched_every_host(tmp_path: Path) -> None:
    (tmp_path / "cluster.json").write_text("{}")
    save_machines(tmp_path, MACHINES, {})
    assert touched_machines(tmp_path) == {"a", "b"}


@pytest.mark.parametrize("touched", [set(), {"b"}])
def test_what_was_touched_outlives_a_change_of_the_inventory(tmp_path: Path, touched: set[str]) -> None:
    (tmp_path / "cluster.json").write_text("{}")
    save_machines(tmp_path, MACHINES, {"config": "c"}, touched)
    assert touched_machines(tmp_path) == touched
    note_touched(tmp_path, {*touched, "a"})
    assert touched_machines(tmp_path) == {*touched, "a"} and saved_machines(tmp_path) == MACHINES
