"""`exec`, `cp`, `ssh` and `forward` on nodes that are processes of this machine."""

from __future__ import annotations

import json
import os
import pty
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from clusterctl.cli.verbs.access import run_on
from clusterctl.client.registry import Registry
from clusterctl.core.errors import ClusterctlError
from tests.support.cluster import LocalCluster, wait_until
from tests.support.talk import ECHO, Forwarder, talk

NOISE = os.urandom(12_000_000)  # more than the buffers of both ends hold


def in_bytes(cluster: LocalCluster, *args: str) -> subprocess.CompletedProcess[bytes]:
    command = [sys.executable, "-m", "clusterctl", *args]
    return subprocess.run(command, env=cluster.env, cwd=cluster.directory, capture_output=True, timeout=300)


def test_exec_passes_on_what_was_said_byte_by_byte_and_how_it_ended(cluster: LocalCluster) -> None:
    done = in_bytes(cluster, "exec", "cpu-1", "--", "sh", "-c", r"printf 'a\377\033b'; printf '\376' >&2")
    assert (done.returncode, done.stdout, done.stderr) == (0, b"a\xff\x1bb", b"\xfe")
    (told,) = json.loads(cluster.cli("exec", "cpu-1", "--json", "--", "printf", "a\\377").stdout)["nodes"]
    assert told == {"node": "cpu-1", "code": 0, "stdout": "a\ufffd", "stdout_base64": "Yf8=", "stderr": ""}
    cluster.cli("exec", "cpu-1", "--", "sh", "-c", "exit 3", code=3)
    cluster.cli("exec", "cpu-1", "--", "sh", "-c", "kill -9 $$", code=137)
    assert "no-such-program" in cluster.cli("exec", "cpu-1", "--", "no-such-program", code=127).stderr
    assert "no node 'cpu-9'" in cluster.cli("exec", "cpu-9", "--", "true", code=3).stderr
    told = json.loads(cluster.cli("exec", "--all", "--json", "--", "sh", "-c", "echo $CLUSTERCTL_NODE_ID").stdout)
    assert sorted(ran["stdout"] for ran in told["nodes"]) == ["cpu-1\n", "head-1\n"]


def test_a_node_that_cannot_be_got_at_is_an_answer_among_those_of_others_and_an_error_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DOCKER_HOST", "unix:///nowhere/docker.sock")
    registry = Registry(tmp_path / "home", environment={})
    cluster = registry.create("demo", provider="docker", engine="none", spec_path="cluster.yaml")
    node = {"id": "cpu-1", "instance_id": "clusterctl-demo-cpu-1", "pool": "cpu"}
    ran = run_on(cluster, node, ["true"], alone=False)
    assert (ran.node, ran.code, ran.stdout) == ("cpu-1", 1, b"") and b"no Docker engine answers" in ran.stderr
    with pytest.raises(ClusterctlError, match="no Docker engine answers"):
        run_on(cluster, node, ["true"], alone=True)


def test_copies_go_both_ways_under_any_name(cluster: LocalCluster, tmp_path: Path) -> None:
    hostile = "a b'\"$(touch pwned);\n-rf *"
    (tmp_path / "tree" / "sub").mkdir(parents=True)
    (tmp_path / "tree" / "sub" / hostile).write_bytes(b"\0\xff")
    (tmp_path / "tree" / "link").symlink_to("/etc/passwd")
    for _ in range(2):  # over what is there, as cp does
        cluster.cli("cp", f"{tmp_path}/tree", "cpu-1:.")
    cluster.cli("cp", "cpu-1:tree", f"{tmp_path}/back")
    assert (tmp_path / "back" / "sub" / hostile).read_bytes() == b"\0\xff"
    assert (tmp_path / "back" / "link").readlink() == Path("/etc/passwd"), "a link is a link, not what it leads to"
    cluster.cli("cp", f"{tmp_path}/tree/sub/{hostile}", f"cpu-1:{hostile}")
    assert in_bytes(cluster, "exec", "cpu-1", "--", "cat", hostile).stdout == b"\0\xff"
    for source, target, code, why in (
        ("cpu-1:nowhere", str(tmp_path), 3, "is not there"),
        (str(tmp_path / "nowhere"), "cpu-1:.", 3, "is not there"),
        ("cpu-1:tree", "/proc/no/such", 1, "copying tree from cpu-1 failed"),
        ("here", "there", 2, "one of the two is on a node"),
    ):
        done = cluster.cli("cp", source, target, code=code)
        assert why in done.stderr and "Traceback" not in done.stderr
    shutil.rmtree(tmp_path / "tree")


def test_a_shell_opens_in_the_nodes_directory_and_its_exit_code_is_passed_on(cluster: LocalCluster) -> None:
    master, slave = pty.openpty()
    cluster.env["SHELL"] = "/bin/sh"
    try:
        for says, code in ((b"echo I am $CLUSTERCTL_NODE_ID; exit 5\n", 5), (b"kill -9 $$\n", 137)):
            shell = cluster.start("ssh", "cpu-1", stdin=slave)
            os.write(master, says)
            output, _ = shell.communicate(timeout=120)
            assert shell.returncode == code and ("I am cpu-1" in output or code == 137)
    finally:
        del cluster.env["SHELL"]
        os.close(master)
        os.close(slave)


# ---------------------------------------------------------------- forward


@pytest.fixture(scope="module")
def job(cluster: LocalCluster) -> tuple[str, int]:
    """A job that echoes, and its port on its node."""
    job_id = cluster.submit("--", sys.executable, "-c", ECHO, "127.0.0.1", "0")
    return job_id, int(wait_until(lambda: cluster.cli("logs", job_id).stdout.strip(), what="its port"))


@pytest.fixture
def forwarder(cluster: LocalCluster, job: tuple[str, int]) -> Iterator[Forwarder]:
    """Two forwardings to the job: to its port, and to one on which nothing listens yet."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        silent = taken.getsockname()[1]
    begun = Forwarder(cluster.start("forward", "--json", f"0:{job[1]}", f"0:{silent}", job[0]), 2)
    try:
        yield begun
    finally:
        begun.process.kill()
        begun.process.communicate()


def test_ports_of_a_jobs_node_are_carried_in_both_directions_at_once_until_ctrl_c(
    cluster: LocalCluster, job: tuple[str, int], forwarder: Forwarder
) -> None:
    first, second = forwarder.rows
    assert first["node"] == "cpu-1" and first["cluster"] == "demo" and first["node_port"] == job[1]
    assert first["address"] == f"127.0.0.1:{first['port']}" and first["port"] != second["port"]
    assert talk(first["port"], NOISE) == NOISE + b"bye"
    with socket.create_connection(("127.0.0.1", first["port"])) as idle:
        idle.sendall(b"and others meanwhile")
        assert talk(first["port"], b"x") == b"xbye" and idle.recv(64) == b"and others meanwhile"

    assert talk(second["port"], b"hello") == b"" and talk(second["port"], b"hello") == b""
    silent = second["node_port"]
    forwarder.wait_said(f"nothing takes connections on port {silent} of cpu-1")
    with (
        socket.create_server(("127.0.0.1", silent)) as listener,
        socket.create_connection(("127.0.0.1", second["port"])) as client,
        listener.accept()[0] as there,
    ):
        there.sendall(b"here now")
        assert client.recv(64) == b"here now"
    forwarder.wait_said(f"port {silent} of cpu-1 is reached")
    assert sum("nothing takes" in line for line in forwarder.said) == 1, "told once"

    assert forwarder.end(signal.SIGINT) == 0
    with socket.create_server(("127.0.0.1", first["port"])):
        pass  # it listens no more


def test_what_cannot_be_forwarded_is_told_in_a_sentence(cluster: LocalCluster, job: tuple[str, int]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        for words, code, told in (
            (
                (f"{port}:1", "cpu-1"),
                1,
                f"cannot listen on 127.0.0.1:{port} (Address already in use): choose another, or 0",
            ),
            (("0:1", "cpu-9"), 3, "no node 'cpu-9' in this cluster"),
            (("0:1", "cpu-1", "cpu-2"), 2, "cpu-1 and cpu-2 are 2"),
            (("cpu-1",), 2, "say which port"),
            (("8000:70000",), 2, "names no port"),
            (("8000", "cpu-1"), 2, "is at 127.0.0.1:8000 already"),
        ):
            done = cluster.cli("forward", *words, code=code)
            assert told in done.stderr and not done.stdout and "Traceback" not in done.stderr
    waiting = cluster.submit("--pool", "cpu", "--cpus", "2", "--nodes", "2", "--", "true")
    assert f"job {waiting} runs on no node yet" in cluster.cli("forward", "0:1", waiting, code=1).stderr
    cluster.cli("job", "cancel", waiting)
    assert f"job {waiting} has ended (cancelled)" in cluster.cli("forward", "0:1", waiting, code=1).stderr
    assert "this cluster has no engine" in cluster.cli("env", code=2).stderr
