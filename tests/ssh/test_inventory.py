"""What the spec says of machines, and where that leads."""

from __future__ import annotations

import contextlib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from clusterctl.core.errors import UsageError
from clusterctl.provision.ssh.inventory import Login, Machine, expand, parse_login, read_inventory
from clusterctl.provision.ssh.target import Config
from clusterctl.spec.load import parse_spec

HEAD = "cluster: c\nprovider: ssh\nengine: none\n"


def machines(text: str, directory: Path = Path("/nowhere")) -> list[Machine]:
    return read_inventory(parse_spec(HEAD + text, "cluster.yaml"), directory)


def test_ranges_keep_their_zeros_and_multiply() -> None:
    assert expand("node[08-11].lab") == ["node08.lab", "node09.lab", "node10.lab", "node11.lab"]
    assert expand("r[1-2]n[1-2]") == ["r1n1", "r1n2", "r2n1", "r2n2"]
    assert expand("plain") == ["plain"]


@pytest.mark.parametrize("text", ["n[2-1]", "n[0-99999]"])
def test_ranges_that_cannot_be_meant_are_refused(text: str) -> None:
    with pytest.raises(UsageError, match="range"):
        expand(text)


def test_a_login_is_user_host_and_port() -> None:
    assert parse_login("me@10.0.0.5:2222") == Login("10.0.0.5", "me", 2222)
    assert parse_login("host") == Login("host")
    assert parse_login("[fd00::1]:22") == Login("fd00::1", "", 22)
    assert parse_login("me@[gate.lab]:22") == Login("gate.lab", "me", 22)  # as `ssh -G` writes jump hosts
    with pytest.raises(UsageError):
        parse_login("two words")


@given(st.text(max_size=30))
def test_any_text_is_a_login_or_a_usage_error(text: str) -> None:
    with contextlib.suppress(UsageError):
        login = parse_login(text)
        assert login.host and not login.host.startswith("-") and not login.user.startswith("-")


def test_the_first_machine_has_the_head_unless_the_spec_names_one() -> None:
    found = machines("pools: [{name: cpu, hosts: [a, b]}]")
    assert [(m.id, m.head, m.pools) for m in found] == [("a", True, ("cpu",)), ("b", False, ("cpu",))]
    found = machines("head: {host: h}\npools: [{name: cpu, hosts: [a, b]}]")
    assert [(m.id, m.head, m.pools) for m in found] == [("h", True, ()), ("a", False, ("cpu",)), ("b", False, ("cpu",))]


def test_a_machine_in_two_pools_is_one_machine() -> None:
    found = machines("pools: [{name: cpu, hosts: [a]}, {name: all, hosts: [a, b]}]")
    assert [(m.id, m.pools) for m in found] == [("a", ("cpu", "all")), ("b", ("all",))]


def test_what_a_host_says_wins_over_auth() -> None:
    text = "auth: {user: u, key: /k, port: 1022}\npools: [{name: cpu, hosts: [a, {host: b, user: v, port: 22, jump: j}, w@c]}]"
    logins = {m.login.host: m.login for m in machines(text)}
    assert logins["a"] == Login("a", "u", 1022, "/k")
    assert logins["b"] == Login("b", "v", 22, "/k", "j")
    assert logins["c"] == Login("c", "w", 1022, "/k")


def test_an_inventory_file_has_a_host_per_line(tmp_path: Path) -> None:
    (tmp_path / "hosts.txt").write_text("# lab\nnode[1-2]\nme@c:2200  # the old one\n\n")
    found = machines("pools: [{name: cpu, hosts: hosts.txt}]", tmp_path)
    assert [m.id for m in found] == ["node1", "node2", "c:2200"]
    (tmp_path / "hosts.txt").write_text("a b c\n")
    with pytest.raises(UsageError, match=r"hosts.txt:1: 'a b c' is no host"):
        machines("pools: [{name: cpu, hosts: hosts.txt}]", tmp_path)
    with pytest.raises(UsageError, match="cannot be read"):
        machines("pools: [{name: cpu, hosts: none.txt}]", tmp_path)


def test_the_users_ssh_configuration_is_honoured(tmp_path: Path) -> None:
    key = tmp_path / "key"
    key.write_text("")
    (tmp_path / "config").write_text(
        f"Host lab\n  HostName 10.1.2.3\n  Port 2200\n  User ann\n  IdentityFile {key}\n  ProxyJump bastion\n"
        "Host bastion\n  HostName bastion.example.org\n  User bob\n"
    )
    config = Config(str(tmp_path / "config"))
    target = config.target(Login("lab"))
    assert (target.host, target.port, target.user, target.keys) == ("10.1.2.3", 2200, "ann", (str(key),))
    assert [(hop.host, hop.user) for hop in target.jumps] == [("bastion.example.org", "bob")]
    assert config.target(Login("lab", "carl", 22)).user == "carl" and config.target(Login("lab", "", 22)).port == 22


def test_jump_hosts_in_a_circle_are_refused(tmp_path: Path) -> None:
    (tmp_path / "config").write_text("Host a\n  ProxyJump b\nHost b\n  ProxyJump a\n")
    with pytest.raises(UsageError, match="circle"):
        Config(str(tmp_path / "config")).target(Login("a"))
