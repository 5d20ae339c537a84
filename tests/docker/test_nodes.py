"""Files, setup and environment on containers, and getting into them: exec, cp, ssh."""

from __future__ import annotations

import json
import os
import pty
import re
import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.docker.conftest import DockerCluster
from tests.docker.test_cluster import built
from tests.support.cluster import wait_until
from tests.support.docker_engine import DockerEngine
from tests.support.talk import ECHO, Forwarder, talk

SPEC = """\
cluster: demo
provider: {docker: {image: "IMAGE"}}
engine: none
env: {GREETING: hello}
files:
  - {from: ./data, to: /home/tester/data}
  - {from: one.txt, to: conf/renamed.txt}
setup: SETUP
head: {resources: {CPU: 1, memory: 512MiB}}
pools:
  - {name: cpu, min: 2, max: 2, resources: {CPU: 1, memory: 256MiB}, env: {WHOSE: pool}}
"""
SETUP = '["echo $GREETING $WHOSE from $CLUSTERCTL_NODE_ID >> ~/tally", "cp ~/data/a.txt made.txt"]'


@pytest.fixture(scope="module")
def cluster(make_cluster: Callable[..., DockerCluster], docker_engine: DockerEngine, image: str) -> DockerCluster:
    """Nodes run as a user without rights."""
    plain = built(docker_engine, f"FROM {image}\nUSER tester\nENV HOME=/home/tester\n", "tester")
    cluster = make_cluster(SPEC.replace("IMAGE", plain).replace("SETUP", SETUP), up=False)
    (cluster.directory / "data").mkdir()
    (cluster.directory / "data" / "a.txt").write_text("first")
    (cluster.directory / "one.txt").write_text("1")
    cluster.up()
    return cluster


def said(cluster: DockerCluster, node: str, script: str) -> str:
    return cluster.cli("exec", node, "--", "sh", "-c", script).stdout.strip()


def test_files_setup_and_env_are_there_before_a_node_takes_work(cluster: DockerCluster) -> None:
    assert said(cluster, "cpu-2", "cat ~/tally") == "hello pool from cpu-2"
    assert said(cluster, "cpu-1", "cd $CLUSTERCTL_FILES && cat conf/renamed.txt made.txt") == "1first"
    job = cluster.submit("--pool", "cpu", "--", "sh", "-c", "cat ~/data/a.txt; echo $GREETING $WHOSE")
    cluster.wait_job(job, "succeeded")
    assert cluster.cli("logs", job).stdout.strip() == "firsthello pool"


def test_changed_files_reach_running_containers_and_no_setup_runs_twice(cluster: DockerCluster) -> None:
    before = {c.id for c in cluster.containers()}
    cluster.up()
    assert said(cluster, "cpu-1", "wc -l < ~/tally") == "1", "the same content is not set up again"
    (cluster.directory / "data" / "a.txt").write_text("second")
    cluster.up()
    assert said(cluster, "cpu-1", "cat ~/data/a.txt $CLUSTERCTL_FILES/made.txt") == "secondsecond"
    assert {c.id for c in cluster.containers()} == before, "no container was replaced"


def test_a_changed_setup_that_fails_is_tried_three_times_and_shown_with_what_it_printed(cluster: DockerCluster) -> None:
    good = cluster.spec.read_text()
    cluster.spec.write_text(good.replace(SETUP, '["echo again >> ~/tries; echo no such wheel >&2; exit 7"]'))
    done = cluster.cli("up", str(cluster.spec), "-y", code=1)
    assert "ended with exit code 7, tried 3 times" in done.stderr and "    no such wheel" in done.stderr
    assert said(cluster, "cpu-1", "wc -l < ~/tries") == "3"
    cluster.spec.write_text(good)
    cluster.up()


def test_exec_says_what_each_node_said_and_passes_on_the_exit_code(cluster: DockerCluster) -> None:
    both = cluster.cli("exec", "cpu-1", "cpu-2", "--", "sh", "-c", 'echo "it\'s"; exit 3', code=3).stdout
    assert both.count("it's") == 2 and "cpu-2: ended with 3" in both
    everywhere = json.loads(cluster.cli("exec", "--all", "--json", "--", "hostname").stdout)["nodes"]
    assert {ran["node"]: ran["stdout"].strip() for ran in everywhere} == {n: n for n in ("head-1", "cpu-1", "cpu-2")}
    lost = cluster.cli("exec", "cpu-1", "--", "no-such-program", code=None)
    assert lost.returncode in (126, 127) and "no-such-program" in lost.stdout + lost.stderr


def test_copies_belong_to_the_nodes_user_and_come_back_as_they_went(cluster: DockerCluster, tmp_path: Path) -> None:
    (tmp_path / "tree" / "sub").mkdir(parents=True)
    (tmp_path / "tree" / "sub" / "deep").write_bytes(bytes(range(256)) * 20000)
    (tmp_path / "run.sh").write_text("#!/bin/sh\necho ran\n")
    (tmp_path / "run.sh").chmod(0o700)
    cluster.cli("cp", f"{tmp_path}/tree", "cpu-1:/home/tester")
    cluster.cli("cp", f"{tmp_path}/run.sh", "cpu-1:/home/tester/renamed.sh")
    assert said(cluster, "cpu-1", "~/renamed.sh; stat -c %U ~/tree/sub/deep ~/renamed.sh") == "ran\ntester\ntester"
    cluster.cli("cp", "cpu-1:/home/tester/tree", f"{tmp_path}/back")
    assert (tmp_path / "back" / "sub" / "deep").read_bytes() == (tmp_path / "tree" / "sub" / "deep").read_bytes()
    cluster.cli("cp", "cpu-1:/home/tester/renamed.sh", str(tmp_path / "back"))
    assert (tmp_path / "back" / "renamed.sh").stat().st_mode & 0o777 == 0o700
    missing = cluster.cli("cp", "cpu-1:/nowhere", str(tmp_path), code=None)
    assert missing.returncode == 3 and "/nowhere" in missing.stderr


def test_a_node_to_work_on_is_a_container_with_a_terminal(cluster: DockerCluster) -> None:
    """By OpenSSH's server, which this image has, as its user who is not root."""
    master, slave = pty.openpty()
    shell = cluster.start("dev", "--pool", "cpu", stdin=slave)
    os.write(master, b"echo $CLUSTERCTL_NODE_ID-$(id -un)-$(tty); exit 5\n")
    said, told = shell.communicate()
    os.close(master)
    os.close(slave)
    assert shell.returncode == 5 and re.search(r"cpu-\d-tester-/dev/pts/\d", said), told
    assert "by the way of" not in told and "is let go" in told


def test_links_that_a_node_makes_lead_nowhere_on_this_machine(cluster: DockerCluster, tmp_path: Path) -> None:
    said(cluster, "cpu-1", "mkdir -p ~/evil && ln -sf /etc/passwd ~/evil/link && echo x > ~/evil/file")
    cluster.cli("cp", "cpu-1:/home/tester/evil", str(tmp_path))
    assert [path.name for path in (tmp_path / "evil").iterdir()] == ["file"]


def test_a_shell_opens_in_the_container_and_commands_find_the_engine_whatever_this_shells_docker_host(
    cluster: DockerCluster,
) -> None:
    master, slave = pty.openpty()
    shell = cluster.start("ssh", "cpu-1", stdin=slave)
    os.write(master, b"echo I am $CLUSTERCTL_NODE_ID; exit 5\n")
    output, _ = shell.communicate(timeout=120)
    assert "I am cpu-1" in output and shell.returncode == 5
    cluster.env["DOCKER_HOST"] = "unix:///nowhere/docker.sock"
    try:
        assert said(cluster, "cpu-1", "echo found") == "found"
    finally:
        cluster.env["DOCKER_HOST"] = cluster.engine.host
    os.close(master)
    os.close(slave)


def test_a_port_of_a_container_is_forwarded_and_one_of_its_successor_when_it_was_replaced(
    cluster: DockerCluster,
) -> None:
    """The last test with this cluster: one of its nodes is another afterwards."""
    job = cluster.submit("--pool", "cpu", "--max-retries", "2", "--", "python3", "-u", "-c", ECHO, "127.0.0.1", "7070")
    wait_until(lambda: "7070" in cluster.cli("logs", job).stdout, what="it listens")
    forwarder = Forwarder(cluster.start("forward", "--json", "0:7070", job), 1)
    try:
        (port,), first = forwarder.ports, forwarder.rows[0]["node"]
        assert talk(port, b"hello") == b"hellobye"
        (container,) = cluster.containers(first)
        container.kill()
        wait_until(lambda: talk(port, b"again") == b"againbye", what="it is found where it runs now")
        assert cluster.job(job)["attempts"][-1]["nodes"] != [first] and any(first in line for line in forwarder.said)
        assert forwarder.end(signal.SIGINT) == 0
    finally:
        forwarder.process.kill()
        forwarder.process.communicate()
        cluster.cli("job", "cancel", job)
