"""Mounts on hosts reached by SSH: a bucket below /data by the host's own rclone, kept while the agent dies, gone at the end."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.mounts.conftest import KEYS, S3
from tests.mounts.conftest import s3 as s3
from tests.ssh.cluster import SshCluster, traces
from tests.support.cluster import wait_until
from tests.support.docker_engine import DockerEngine
from tests.support.ssh_hosts import SshHost, SshHosts

PROGRAMS = {
    path: {"bind": path, "mode": "ro"} for path in ("/usr/bin/rclone", "/usr/bin/fusermount3", "/usr/bin/fusermount")
}


@pytest.fixture(scope="module")
def hosts(docker_engine: DockerEngine, tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[SshHost]]:
    """Two that may mount, as machines may."""
    with SshHosts(docker_engine, tmp_path_factory.mktemp("keys")) as made:
        hosts = made.start(
            2, PROGRAMS, cap_add=["SYS_ADMIN"], devices=["/dev/fuse"], security_opt=["apparmor=unconfined"]
        )
        for host in hosts:
            host.run("chmod", "666", "/dev/fuse")  # as udev makes it
        yield hosts


def spec(cluster: SshCluster, server: S3, gateway: str) -> None:
    url = f"http://{gateway}:{server.port}"
    cluster.write(
        [cluster.hosts[1].address],
        low=1,
        more=f"engine: none\nhead: {{host: {cluster.hosts[0].address}}}\nenv: {json.dumps(KEYS)}\n"
        f"mounts: [{{from: 's3://onhosts', to: /data, mode: cached, endpoint: '{url}'}}]",
    )


@pytest.fixture
def cluster(hosts: list[SshHost], tmp_path: Path) -> Iterator[SshCluster]:
    made = SshCluster(tmp_path, hosts, user="admin")  # who may use sudo
    yield made
    made.clean_up()


def mounted(host: SshHost) -> list[str]:
    return [line for line in host.run("cat", "/proc/mounts").splitlines() if " fuse.rclone " in line]


def test_a_bucket_is_on_every_host_and_its_loss_its_agents_death_and_the_end_are_looked_after(
    cluster: SshCluster, hosts: list[SshHost], s3: S3
) -> None:
    s3.put("onhosts", hello=b"from the bucket")
    gateway = hosts[0].address.rpartition(".")[0] + ".1"
    spec(cluster, s3, gateway)
    worker = hosts[1]
    worker.run("mkdir", "-p", "/data")
    worker.run("mount", "-t", "tmpfs", "mine", "/data")
    failed = cluster.cli("up", str(cluster.spec), "-y", code=None)
    assert failed.returncode and "mine (tmpfs) is mounted there and is not this node's" in failed.stderr
    worker.run("umount", "/data")
    worker.run("rmdir", "/data")
    cluster.up()
    assert cluster.cli("submit", "-q", "--pool", "cpu", "--", "cat", "/data/hello").stdout == "from the bucket"
    assert mounted(worker) and "test-secret" not in worker.run("ps", "-eo", "args")

    worker.run("pkill", "-9", "rclone")
    wait_until(
        lambda: any(e["code"] == "mounted" for e in cluster.json("events")["events"]), what="it is mounted again"
    )
    assert cluster.cli("submit", "-q", "--pool", "cpu", "--", "cat", "/data/hello").stdout == "from the bucket"

    before = worker.run("pgrep", "rclone")
    agents = f"/home/{cluster.user}/.clusterctl-host/nodes"
    worker.run("pkill", "-9", "-f", "--", f"--(spare|bootstrap) {agents}")
    job = cluster.submit("--pool", "cpu", "--", "sh", "-c", "head -c 2000000 /dev/zero > /data/big")
    cluster.wait_job(job, "succeeded")
    assert worker.run("pgrep", "rclone") == before, "the next agent has kept it"

    cluster.down()
    assert len(s3.read("onhosts", "big")) == 2_000_000, "what was written is there before the node goes"
    assert [mounted(host) for host in hosts] == [[], []] and [traces(host) for host in hosts] == [[], []]
