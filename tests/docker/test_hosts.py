"""The test hosts do what tests of SSH rely on."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import paramiko
import pytest

from tests.support.docker_engine import DockerEngine
from tests.support.ssh_hosts import SshHost, SshHosts, wait_for_sshd


@pytest.fixture
def hosts(docker_engine: DockerEngine, tmp_path: Path) -> Iterator[list[SshHost]]:
    with SshHosts(docker_engine, tmp_path) as hosts:
        yield hosts.start(2)


def test_hosts_have_own_addresses_and_keys_and_reach_each_other(hosts: list[SshHost]) -> None:
    first, second = hosts
    assert first.address != second.address and first.host_key != second.host_key
    client = first.client()
    try:
        _, out, _ = client.exec_command(f"sudo -n id -u; echo > /dev/tcp/{second.address}/22 && echo reached")
        assert out.read().split() == [b"0", b"reached"]
    finally:
        client.close()


def test_a_host_keeps_its_address_and_key_over_a_reboot_and_a_cut_cable(hosts: list[SshHost]) -> None:
    host = hosts[0]
    host.stop()
    host.start()
    wait_for_sshd([host])
    host.disconnect()
    with pytest.raises((OSError, paramiko.SSHException)):
        host.client(timeout=1.0).close()
    host.connect()
    wait_for_sshd([host])
