"""Ports of a host are reached whatever its sshd forwards, and by a new login when the old one has ended."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from clusterctl.client.nodes.kept import Kept
from clusterctl.client.nodes.ports import reach
from clusterctl.client.pump import pump
from clusterctl.core.errors import ClusterctlError
from clusterctl.provision.carried import NothingListens
from clusterctl.provision.ssh.connection import Connection, connect
from tests.ssh.test_logins import echo_server
from tests.support.local_sshd import LocalSshd
from tests.support.talk import converse

WAYS = {
    "forwarded": (),
    "carried": ("AllowTcpForwarding no",),
    "by OpenSSH": ("Ciphers chacha20-poly1305@openssh.com",),
}


@pytest.fixture(params=WAYS)
def made(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Connection]:
    with LocalSshd(tmp_path, *WAYS[request.param]) as sshd, closing(connect(sshd.target(), sshd.trust())) as connection:
        yield connection


def test_bytes_go_both_ways_at_once_and_a_port_where_nothing_listens_is_told_from_a_broken_way(
    made: Connection,
) -> None:
    noise = os.urandom(3_000_000)
    with echo_server() as port:
        with closing(made.reach(port, ["127.0.0.9", "127.0.0.1"])) as way:
            assert converse(way, noise) == noise
        ours, theirs = socket.socketpair()
        with ours, theirs:
            ours.sendall(b"ping")
            ours.shutdown(socket.SHUT_WR)
            pump(theirs, made.reach(port))
            assert ours.recv(64) == b"ping" and ours.recv(64) == b"", (
                "the end of one direction is not that of the other"
            )
    with pytest.raises(NothingListens, match=f"on port {port}"):
        made.reach(port, ["127.0.0.1", "::1"])
    assert made.transport.is_active()


def test_a_login_that_has_ended_is_made_anew_and_one_that_cannot_be_is_told(tmp_path: Path) -> None:
    with LocalSshd(tmp_path) as sshd, echo_server() as port:
        login = Kept(lambda: connect(sshd.target(), sshd.trust()))
        with closing(login):
            with closing(reach(login, port, ["127.0.0.1"], "it")) as way:
                way.sendall(b"ping")
                assert way.recv(4) == b"ping"
                first = login.get()
                with pytest.raises(NothingListens):
                    reach(login, 1, ["127.0.0.1"], "it")
                assert login.get() is first, "others are using it"
            first.transport.close()
            with closing(reach(login, port, ["127.0.0.1"], "it")) as way:
                way.sendall(b"pong")
                assert way.recv(4) == b"pong"
            assert login.get() is not first
            sshd._process.terminate()
            sshd._process.wait(60)
            login.get().transport.close()
            with pytest.raises(ClusterctlError, match=r"127\.0\.0\.1"):
                reach(login, port, ["127.0.0.1"], "it")
