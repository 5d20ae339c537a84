"""Hosts that answer and cannot serve: each is named in one `up`, with its fix, and the others go on."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from clusterctl.provision.ssh.fitness import misfit
from clusterctl.provision.ssh.inventory import read_inventory
from clusterctl.spec.load import parse_spec
from tests.ssh.cluster import SshCluster, traces
from tests.support.docker_engine import DockerEngine
from tests.support.ssh_hosts import SshHost, SshHosts
from tests.support.tcp_proxy import Proxy

FACTS = {"cpus": 4, "memory": 8 * 1024**3, "gpus": [{"name": "NVIDIA A100-SXM4-80GB"}]}
LATE = """#!/bin/sh
export LD_PRELOAD=$(ls /usr/lib/*/faketime/libfaketime.so.1) FAKETIME=-1h
exec /usr/bin/python3 "$@"
"""
OLD = """#!/bin/sh
case "$*" in -V) echo Python 3.9.2;; *version_info*) exit 1;; esac
"""


@pytest.fixture(scope="module")
def many(docker_engine: DockerEngine, tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[SshHost]]:
    with SshHosts(docker_engine, tmp_path_factory.mktemp("keys")) as made:
        yield [*made.start(5), *made.start(1, cap_add=["SYS_ADMIN"], security_opt=["apparmor=unconfined"])]


def test_each_unfit_host_is_named_with_its_fix_and_the_rest_goes_on(many: list[SshHost], tmp_path: Path) -> None:
    """A wrong clock, a full disk, an old Python, an SSH server that hangs, one that hangs up."""
    good, late, old, hanging, closed, full = many
    late.write("/usr/local/bin/python3", LATE.encode(), 0o755)
    old.write("/usr/local/bin/python3", OLD.encode(), 0o755)
    old.run("chmod", "0", "/usr/bin/python3.11")
    full.run("sh", "-c", "cp -a /home/tester /mnt && mount -t tmpfs -o size=64m,mode=0755 tmpfs /home/tester && "
             "cp -a /mnt/tester/. /home/tester && chown tester: /home/tester")  # fmt: skip
    cluster = SshCluster(tmp_path, many)
    try:
        known = cluster.user_home / ".ssh" / "known_hosts"
        with Proxy((closed.address, 22), hang_up=99) as proxy:
            known.write_text(known.read_text() + f"[127.0.0.1]:{proxy.port} {closed.host_key}\n")
            shut = f"127.0.0.1:{proxy.port}"
            cluster.write([good.address, late.address, old.address, hanging.address, f'"{shut}"', full.address], low=1)
            hanging.pause()
            said = cluster.cli("up", str(cluster.spec), "-y").stderr
            hanging.unpause()
        lines = {line.split()[1]: line for line in said.splitlines() if "is left out" in line}
        assert set(lines) == {host.address for host in (late, old, hanging, full)} | {shut}
        assert re.search(r"its clock is 3[56]\d\d s behind: .*apt install chrony", lines[late.address])
        assert "found: Python 3.9.2" in lines[old.address] and "apt install python3" in lines[old.address]
        assert "hangs or is overloaded" in lines[hanging.address]
        assert "MaxStartups" in lines[shut]
        assert "MiB of disk left" in lines[full.address] and "free at least 200 MiB" in lines[full.address]
        assert len(cluster.ready_nodes()) == 1
        assert [traces(host) for host in (late, old, closed, full)] == [[], [], [], []]

        late.run("rm", "/usr/local/bin/python3")
        old.run("chmod", "755", "/usr/bin/python3.11")
        old.run("rm", "/usr/local/bin/python3")
        full.run("umount", "-l", "/home/tester")
        cluster.write([host.address for host in many], low=1)
        assert "is left out" not in cluster.cli("up", str(cluster.spec), "-y").stderr
    finally:
        cluster.clean_up()


def test_a_host_with_less_than_its_pool_promises_is_named_before_anything_starts(
    many: list[SshHost], tmp_path: Path
) -> None:
    cluster = SshCluster(tmp_path, many[:1])
    cluster.write(low=1)
    cluster.spec.write_text(cluster.spec.read_text().replace("CPU: 1", "CPU: 512"))
    try:
        said = cluster.cli("up", str(cluster.spec), "-y", code=1).stderr
        assert "promises 512 CPU" in said and many[0].address in said
        assert traces(many[0]) == []
    finally:
        cluster.clean_up()


def judged(pool: str, host: str = "a") -> str:
    spec = parse_spec(
        f"cluster: c\nprovider: ssh\nengine: none\npools: [{{name: p, hosts: [{host}], {pool}}}]", "c.yaml"
    )
    (machine,) = read_inventory(spec, Path("/nowhere"))
    return misfit(machine, spec.pools, FACTS)


def test_facts_are_compared_with_every_promise_of_the_pool() -> None:
    assert judged("resources: {CPU: 4, memory: 8GiB, TPU: 3}, gpu: {name: A100}") == ""
    assert "it has 4 CPU, and its pool promises 5 CPU" in judged("resources: {CPU: 5}")
    assert "8.0 GiB of memory, and its pool promises 9.0 GiB" in judged("resources: {memory: 9GiB}")
    assert "it has 1 GPU, and its pool promises 2 GPU" in judged("gpu: {name: A100, count: 2}")
    assert "its GPU is NVIDIA A100-SXM4-80GB, and its pool promises H100" in judged("gpu: {name: H100}")


def test_what_a_hosts_own_entry_says_is_believed() -> None:
    assert judged("resources: {CPU: 5}", "{host: a, resources: {CPU: 5}}") == ""
