"""The port of a head that hosts of an inventory dial: of both families, free, and the same again."""

from __future__ import annotations

import json
import os
import pwd
import socket
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest
from clusterctl_runtime.head.network import listening
from clusterctl_runtime.head.network.listening import EVERYWHERE, bound, owner_of
from clusterctl_runtime.head.nodes.endpoint import FIRST_PORT, SPARE_PORTS, Endpoint, address

from clusterctl.core.errors import ClusterctlError


@contextmanager
def taken(*ports: int) -> Iterator[list[int]]:
    """Ports that somebody else listens on, 0: any."""
    made = [bound(EVERYWHERE, port) for port in ports]
    for sock in made:
        sock.listen()
    try:
        yield [sock.getsockname()[1] for sock in made]
    finally:
        for sock in made:
            sock.close()


def opened(endpoint: Endpoint, **before: object) -> list[int]:
    made = endpoint.open(before)
    try:
        return [sock.getsockname()[1] for sock in made]
    finally:
        for sock in made:
            sock.close()


def test_agents_are_heard_by_either_family() -> None:
    with closing(bound(EVERYWHERE, 0)) as sock:
        sock.listen()
        for host in ("127.0.0.1", "::1"):
            socket.create_connection((host, sock.getsockname()[1]), timeout=60).close()


def test_a_machine_without_ipv6_listens_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    real = socket.socket

    def without(family: int, *what: int) -> socket.socket:
        if family == socket.AF_INET6:
            raise OSError(97, "Address family not supported by protocol")
        return real(family, *what)

    monkeypatch.setattr(listening.socket, "socket", without)
    with closing(bound(EVERYWHERE, 0)) as sock:
        assert sock.family == socket.AF_INET


def test_a_port_that_the_spec_names_is_taken_or_named_with_whose_it_is() -> None:
    with taken(0) as (port,):
        me = pwd.getpwuid(os.getuid()).pw_name
        assert owner_of(port) == f"user {me}"
        with pytest.raises(ClusterctlError, match=f"port {port} is taken .* of user {me} .*ssh: .port") as refused:
            Endpoint(("a",), port).open({})
        assert "end the program" not in str(refused.value)  # it may be somebody's cluster
    assert opened(Endpoint(("a",), port)) == [port]


def test_without_one_in_the_spec_the_next_free_port_is_taken_and_kept() -> None:
    first = opened(Endpoint(("a",), None))[0]
    assert FIRST_PORT <= first < FIRST_PORT + SPARE_PORTS
    with taken(first):
        second = opened(Endpoint(("a",), None))[0]
        assert second > first
    assert opened(Endpoint(("a",), None), agents=second) == [second]  # though the first one is free again


def test_after_a_change_nodes_that_dial_the_former_port_are_heard_too() -> None:
    with taken(0, 0, 0) as (new, old, older):
        pass
    assert opened(Endpoint(("a",), new), agents=old, former=[older]) == [new, old, older]
    with taken(old):
        assert opened(Endpoint(("a",), new), agents=old, former=[older]) == [new, older]


def test_what_the_client_wrote_last_counts(tmp_path: Path) -> None:
    assert Endpoint.load(tmp_path) is None
    (tmp_path / "endpoint.json").write_text(json.dumps({"hosts": ["10.0.0.1", "head.lab"]}))
    (tmp_path / "port.json").write_text(json.dumps({"port": None}))
    assert Endpoint.load(tmp_path) == Endpoint(("10.0.0.1", "head.lab"), None)
    assert [address(host, 7) for host in ("10.0.0.1", "fd00::1")] == ["10.0.0.1:7", "[fd00::1]:7"]
