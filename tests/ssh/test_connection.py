"""Logins: many through one jump host, servers that hang, hang up, or are none."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import pytest

from clusterctl.provision.ssh import dialing
from clusterctl.provision.ssh.connection import HostTrouble, connect
from clusterctl.provision.ssh.dialing import Patience
from clusterctl.provision.ssh.gateways import Gateways
from clusterctl.provision.ssh.hostkeys import Trust
from clusterctl.provision.ssh.target import Target
from tests.support.ssh_hosts import SshHost
from tests.support.tcp_proxy import Proxy

AT_ONCE = 48
PIECE = b"x" * 100_000


@pytest.fixture
def trust(tmp_path: Path) -> Trust:
    return Trust("accept-new", tmp_path / "known_hosts", lambda _: None)


def target(host: SshHost, jumps: tuple[Target, ...] = (), port: int = 0) -> Target:
    address = "127.0.0.1" if port else host.address
    return Target(address, address, port or 22, "tester", (str(host.key_path),), jumps, all_of_agent=False)


@pytest.fixture
def strict(hosts: list[SshHost]) -> Iterator[SshHost]:
    """A host with OpenSSH's own limits on logins."""
    reload = "kill -HUP $(cat /run/sshd.pid)"
    hosts[0].run("sh", "-c", f"sed -i s/^Max/#Max/ /etc/ssh/sshd_config.d/host.conf; {reload}")
    assert "maxstartups 10:30:100" in hosts[0].run("sshd", "-T")
    yield hosts[0]
    hosts[0].run("sh", "-c", f"sed -i s/^#Max/Max/ /etc/ssh/sshd_config.d/host.conf; {reload}")


def test_many_hosts_are_reached_through_one_login_to_their_jump_host(
    hosts: list[SshHost], strict: SshHost, trust: Trust
) -> None:
    """Each ends while others still send: none is cut off by that."""
    gateways, jump = Gateways(), target(strict)

    def work(number: int) -> bytes:
        with closing(connect(target(hosts[1 + number % 2], (jump,)), trust, gateways=gateways)) as made:
            return b"".join(made.run("wc -c", PIECE, 30).stdout.strip() for _ in range(2))

    before = strict.container.logs().count(b"Accepted publickey")
    with ThreadPoolExecutor(AT_ONCE) as pool:
        answers = list(pool.map(work, range(AT_ONCE)))
    assert answers == [b"100000100000"] * AT_ONCE
    assert 1 <= strict.container.logs().count(b"Accepted publickey") - before <= 3  # the last one out shuts the door


def test_a_jump_host_that_is_off_is_named_for_all_behind_it(hosts: list[SshHost], trust: Trust) -> None:
    gateways, nobody = (
        Gateways(),
        Target("gone", "127.0.0.1", 1, "tester", (str(hosts[0].key_path),), all_of_agent=False),
    )
    with ThreadPoolExecutor(8) as pool:
        work = lambda _: connect(target(hosts[1], (nobody,)), trust, gateways=gateways)  # noqa: E731
        troubles = [future.exception() for future in [pool.submit(work, n) for n in range(8)]]
    assert all(isinstance(trouble, HostTrouble) and trouble.code == "no_sshd" for trouble in troubles)
    assert all("its jump host 127.0.0.1:1" in str(trouble) for trouble in troubles)


def test_a_server_that_hangs_up_on_some_is_dialled_again(hosts: list[SshHost], trust: Trust) -> None:
    with Proxy((hosts[0].address, 22), hang_up=2) as busy:
        with closing(connect(target(hosts[0], port=busy.port), trust)) as made:
            assert made.run("echo here", timeout=120).stdout == b"here\n"
        assert busy.turned_away == 2


def test_a_server_that_always_hangs_up_is_named_with_what_may_be_the_matter(
    hosts: list[SshHost], trust: Trust, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dialing, "HUNG_UP_PAUSES", (0.01, 0.01))
    with Proxy((hosts[0].address, 22), hang_up=99) as closed:
        with pytest.raises(HostTrouble, match="MaxStartups") as caught:
            connect(target(hosts[0], port=closed.port), trust)
        assert caught.value.code == "hung_up" and closed.turned_away == 3


def test_a_server_that_takes_calls_and_says_nothing_is_dialled_once(hosts: list[SshHost], trust: Trust) -> None:
    hosts[0].pause()
    try:
        with pytest.raises(HostTrouble, match="hangs or is overloaded") as caught:
            connect(target(hosts[0]), trust, Patience(greet=1.0))
        assert caught.value.code == "hangs"
    finally:
        hosts[0].unpause()


def test_a_server_of_another_kind_is_not_taken_for_a_busy_one(hosts: list[SshHost], trust: Trust) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            client, _ = listener.accept()
            with client:
                client.sendall(b"220 mail.example.org ESMTP\r\n" * 120)

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        with pytest.raises(HostTrouble, match="is that its port") as caught:
            connect(target(hosts[0], port=listener.getsockname()[1]), trust)
        assert caught.value.code == "no_ssh"
        thread.join(60)
