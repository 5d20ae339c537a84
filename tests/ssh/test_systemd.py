"""A host whose process 1 is systemd, and whose user may use sudo: a unit keeps its daemons."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.ssh.cluster import SshCluster, traces
from tests.support.cluster import wait_until
from tests.support.docker_engine import DockerEngine
from tests.support.ssh_hosts import SYSTEMD, SshHost, SshHosts


@pytest.fixture(scope="module")
def host(docker_engine: DockerEngine, tmp_path_factory: pytest.TempPathFactory) -> Iterator[SshHost]:
    with SshHosts(docker_engine, tmp_path_factory.mktemp("keys")) as made:
        yield made.start(1, **SYSTEMD)[0]


@pytest.fixture
def cluster(host: SshHost, tmp_path: Path) -> Iterator[SshCluster]:
    made = SshCluster(tmp_path, [host], user="admin")
    yield made
    made.clean_up()


def unit(host: SshHost) -> str:
    found = host.run("sh", "-c", "ls /etc/systemd/system | grep clusterctl-host; true").split()
    return found[0] if found else ""


def main_pid(host: SshHost) -> int:
    return int(host.run("systemctl", "show", "-p", "MainPID", "--value", unit(host)))


def test_a_unit_keeps_the_daemons_over_a_crash_and_a_reboot_and_goes_with_the_cluster(
    cluster: SshCluster, host: SshHost
) -> None:
    cluster.up()
    assert host.run("systemctl", "is-active", unit(host)).strip() == "active"
    assert host.run("ps", "-o", "user=", "-p", str(main_pid(host))).strip() == "admin"
    assert host.run("sh", "-c", "crontab -l -u admin 2>/dev/null; true") == ""

    first = main_pid(host)
    host.run("kill", "-9", str(first))
    wait_until(lambda: main_pid(host) not in (0, first), what="systemd starts the keeper again")
    job = cluster.submit("--", "true")
    cluster.wait_job(job, "succeeded")

    host.stop()
    host.start()
    wait_until(lambda: cluster.cli("status", code=None).returncode == 0, what="the head is back after the reboot")
    wait_until(lambda: cluster.api_hosts()[host.address]["connected"], what="the host is back after the reboot")
    assert cluster.job(job)["state"] == "succeeded"

    cluster.down()
    assert traces(host) == [] and unit(host) == ""


def test_a_user_without_sudo_gets_a_line_of_cron_there(host: SshHost, tmp_path: Path) -> None:
    cluster = SshCluster(tmp_path, [host])
    try:
        cluster.up()
        assert unit(host) == "" and "@reboot" in host.run("crontab", "-l", "-u", "tester")
        cluster.down()
        assert traces(host) == []
    finally:
        cluster.clean_up()
