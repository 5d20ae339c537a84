"""Working on a node that is bought for it: a shell on a terminal, OpenSSH's client, and what is said where one is not."""

from __future__ import annotations

import os
import pty
import select
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from tests.support.cluster import LocalCluster, wait_until


class Terminal:
    """One command on a terminal of its own."""

    def __init__(self, cluster: LocalCluster, *args: str) -> None:
        self.said = ""
        self.pid, self._fd = pty.fork()
        if self.pid == 0:
            os.chdir(cluster.directory)
            command = [sys.executable, "-m", "clusterctl", *args]
            os.execve(sys.executable, command, {**cluster.env, "SHELL": "/bin/sh", "PS1": "$ "})

    def wait(self, text: str, seconds: float = 120.0) -> None:
        """Until it has said this."""
        deadline = time.monotonic() + seconds
        while text not in self.said:
            ready, _, _ = select.select([self._fd], [], [], max(0.0, deadline - time.monotonic()))
            assert ready, f"never said {text!r}:\n{self.said}"
            try:
                self.said += os.read(self._fd, 4096).decode(errors="replace")
            except OSError:
                assert text in self.said, f"ended without {text!r}:\n{self.said}"

    def type(self, text: str) -> None:
        os.write(self._fd, text.encode())

    def ended(self) -> int:
        """Its exit code."""
        _, status = os.waitpid(self.pid, 0)
        os.close(self._fd)
        return os.waitstatus_to_exitcode(status)


def no_workers(cluster: LocalCluster) -> bool:
    return not cluster.ready_nodes()


def test_a_shell_buys_its_node_and_lets_it_go(cluster: LocalCluster) -> None:
    terminal = Terminal(cluster, "dev", "--gpus", "1")
    terminal.wait("a shell on gpu-1")
    terminal.type("echo on-$CLUSTERCTL_NODE_ID $(tty)\n")
    terminal.wait("on-gpu-1 /dev/")
    (job,) = cluster.json("jobs")["jobs"]
    assert job["state"] == "running" and job["name"].startswith("dev of ")
    terminal.type("exit 7\n")
    terminal.wait("gpu-1 is let go")
    assert terminal.ended() == 7
    cluster.wait_job(job["id"], "succeeded")
    wait_until(lambda: no_workers(cluster), what="the node has gone")
    assert not list((cluster.head_dir.parent / "dev").iterdir()), "nobody keeps its keys"


def test_openssh_gets_there_by_the_printed_entry_and_a_node_that_nobody_uses_is_let_go(
    cluster: LocalCluster, tmp_path: Path
) -> None:
    entry = cluster.cli("dev", "--ssh-config")
    config = tmp_path / "ssh_config"
    config.write_text(entry.stdout)
    (job,) = [job["id"] for job in cluster.json("jobs")["jobs"]]
    there = ["-F", str(config), f"demo-{job}"]
    script = "echo $CLUSTERCTL_NODE_ID; cat; echo later"
    done = subprocess.run(["ssh", *there, script], input="in", capture_output=True, text=True, env=cluster.env)
    assert done.stdout == "cpu-1\ninlater\n", done.stderr
    again = cluster.start("dev", "cpu-1", stdin=subprocess.PIPE)
    out, _ = again.communicate("echo again\n")
    assert "again\n" in out and again.returncode == 0
    refused = cluster.cli("dev", job, code=3).stderr
    assert "or has been let go" in refused
    wait_until(lambda: no_workers(cluster), what="the node has gone")
    forever = cluster.json("dev", "--ssh-config", "--idle", "1s")["job"]
    cluster.wait_job(forever, "succeeded")
    assert "nobody was connected for 1 s: this node is let go" in cluster.cli("logs", forever).stdout


def test_without_openssh_on_the_node_a_shell_goes_the_way_of_its_provider_and_what_cannot_be_is_said(
    make_cluster: Callable[..., LocalCluster],
) -> None:
    cluster = make_cluster(up=False)
    tools = cluster.directory / "bin"
    tools.mkdir()
    for name, target in (("sh", "/bin/sh"), ("python3", sys.executable)):
        (tools / name).symlink_to(target)
    cluster.spec.write_text(cluster.spec.read_text() + f"env: {{PATH: {tools}}}\n")
    cluster.up()
    shell = cluster.start("dev", stdin=subprocess.PIPE)
    said, told = shell.communicate("echo on-$CLUSTERCTL_NODE_ID; exit 3\n")
    assert said == "on-cpu-1\n" and shell.returncode == 3
    assert "by the way of `clusterctl ssh` (ssh-keygen made no host key" in told and "cpu-1 is let go" in told
    refused = cluster.cli("dev", "--ssh-config", code=1).stderr
    assert "no SSH on cpu-1: ssh-keygen made no host key" in refused and "Attach to Running Container" in refused
    refused = cluster.cli("dev", "--jupyter", code=1).stderr
    assert "no Jupyter on cpu-1: neither jupyterlab nor notebook can be imported" in refused
    assert "packages: [jupyterlab]" in refused
    assert {job["state"] for job in cluster.json("jobs")["jobs"]} <= {"running", "succeeded"}
    wait_until(lambda: no_workers(cluster), what="each of them was let go")
