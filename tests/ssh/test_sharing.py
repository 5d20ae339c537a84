"""Machines that share a home, and machines that are listed twice: each has a directory of its own, and one name."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from clusterctl.provision.ssh.connection import HostTrouble
from clusterctl.provision.ssh.hosts import Reached
from clusterctl.provision.ssh.inventory import Login, Machine
from clusterctl.provision.ssh.programs import host as host_program
from clusterctl.provision.ssh.twins import Twins
from tests.ssh.cluster import SshCluster
from tests.support.cluster import wait_until
from tests.support.docker_engine import DockerEngine
from tests.support.ssh_hosts import SshHosts

OWNER = {"uid": "0" * 32, "cluster": "demo"}
HOME = "/home/shared"


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home in which nothing is yet, for a machine that calls itself "first"."""
    monkeypatch.setenv("HOME", str(tmp_path))
    become(monkeypatch, "first")
    return tmp_path


def become(monkeypatch: pytest.MonkeyPatch, machine: str) -> None:
    """Another machine with the same home."""
    monkeypatch.setattr(host_program, "identity", lambda: machine)
    monkeypatch.setattr(host_program, "lock_root", lambda: True)  # which a program holds until it ends
    monkeypatch.setattr(host_program, "ROOT", host_program.find_root())


def test_a_machine_that_finds_anothers_directory_takes_one_of_its_own(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    host_program.own(OWNER)
    assert home / ".clusterctl-host" == host_program.ROOT
    become(monkeypatch, "second")
    host_program.own(OWNER)
    assert home / ".clusterctl-host-second" == host_program.ROOT
    become(monkeypatch, "first")
    assert home / ".clusterctl-host" == host_program.ROOT


def test_of_two_machines_that_come_at_once_the_slower_one_moves_over(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    become(monkeypatch, "second")  # which looked before anybody had anything there
    free = host_program.ROOT
    become(monkeypatch, "first")
    host_program.own(OWNER)
    become(monkeypatch, "second")
    monkeypatch.setattr(host_program, "ROOT", free)
    host_program.own(OWNER)
    assert home / ".clusterctl-host-second" == host_program.ROOT
    assert json.loads((free / "owner.json").read_text())["machine"] == "first"


def test_a_machine_that_was_renamed_keeps_the_directory_from_which_its_daemon_runs(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    host_program.own(OWNER)
    root = str(host_program.ROOT)
    sleep = [sys.executable, "-c", "import sys; sys.stdin.read()", "--keep", root]
    with subprocess.Popen(sleep, stdin=subprocess.PIPE) as keeper:
        wait_until(lambda: b"--keep" in host_program.arguments_of(keeper.pid), what="its command line can be read")
        become(monkeypatch, "renamed")
        assert str(host_program.ROOT) == root
        assert keeper.stdin is not None
        keeper.stdin.close()
    become(monkeypatch, "renamed")
    assert str(host_program.ROOT) == f"{root}-renamed"


def test_the_directory_of_a_former_installation_goes_when_every_host_is_clean(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    host_program.own(OWNER)
    become(monkeypatch, "installed anew")
    host_program.own(OWNER)
    answer = host_program.remove(OWNER, b"")
    assert answer["left"] == [] and answer["others"] == [str(home / ".clusterctl-host")]
    assert host_program.sweep({"uid": "1" * 32}, b"") == {"left": []}
    assert [path.name for path in home.iterdir()] == [".clusterctl-host"]
    assert host_program.sweep(OWNER, b"") == {"left": []}
    assert list(home.iterdir()) == []


def test_a_directory_that_another_host_came_to_have_meanwhile_is_left_alone(home: Path) -> None:
    host_program.own(OWNER)
    host_program.write(host_program.ROOT / "host.json", b'{"host": "b"}')
    host_program.refuse_anothers_place({"settings": {"host": "b"}})
    host_program.refuse_anothers_place({"settings": {"host": "a"}, "before": "b"})
    with pytest.raises(host_program.Refused, match=f"a and b have one directory, {host_program.ROOT}"):
        host_program.refuse_anothers_place({"settings": {"host": "a"}, "before": ""})


def test_a_machine_that_has_another_name_now_is_not_cleaned_for_its_former_one(home: Path) -> None:
    host_program.own(OWNER)
    host_program.write(host_program.ROOT / "host.json", b'{"host": "new"}')
    assert host_program.remove({**OWNER, "host": "old"}, b"")["used_as"] == "new" and host_program.ROOT.exists()
    assert host_program.remove({**OWNER, "host": "new"}, b"")["found"] and not host_program.ROOT.exists()


def test_files_are_placed_where_the_home_is_a_link(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "disk").mkdir()
    (tmp_path / "home").symlink_to("disk")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    become(monkeypatch, "first")
    host_program.place_files({**OWNER, "files": {"head/a": "text"}}, b"")
    assert (tmp_path / "disk/.clusterctl-host/head/a").read_text() == "text"
    with pytest.raises(host_program.Refused, match="is outside"):
        host_program.place_files({**OWNER, "files": {"../a": "text"}}, b"")


def found(name: str, system: str, host: str = "") -> Reached:
    facts: dict[str, Any] = {"system": system, "host": host, "directory": "~/.clusterctl-host"}
    return Reached(Machine(name, Login(name)), facts=facts)


def refused(twins: Twins, *looked_at: Reached) -> dict[str, str]:
    for one in looked_at:
        twins.note(one)
    found: dict[str, str] = {}
    for one in looked_at:
        try:
            twins.check(one)
        except HostTrouble as trouble:
            found[one.id] = str(trouble)
    return found


MACHINES = [Machine(name, Login(name)) for name in "ab"]


def test_the_second_name_of_a_machine_is_told_with_the_first() -> None:
    assert refused(Twins(MACHINES), found("a", "s1"), found("b", "s2")) == {}
    assert refused(Twins(MACHINES), found("a", ""), found("b", "")) == {}  # it cannot be known there
    told = refused(Twins(MACHINES), found("a", "s1"), found("b", "s1"))
    assert set(told) == {"b"} and "b and a are the same machine: list it once" in told["b"]


def test_the_name_that_is_in_use_goes_before_a_new_one() -> None:
    told = refused(Twins(MACHINES), found("a", "s1", "b"), found("b", "s1", "b"))
    assert set(told) == {"a"} and "a and b are the same machine" in told["a"]
    assert refused(Twins(MACHINES[:1]), found("a", "s1", "b")) == {}  # the spec has another name for it now


def test_machines_that_cannot_be_told_apart_do_not_share_a_directory() -> None:
    told = refused(Twins(MACHINES), found("a", "s1", "b"), found("b", "s2", "b"))
    assert set(told) == {"a"} and "share a home and have the same /etc/machine-id" in told["a"]


@pytest.fixture(scope="module")
def sharing(docker_engine: DockerEngine, tmp_path_factory: pytest.TempPathFactory) -> Iterator[SshHosts]:
    """Two machines with one home."""
    shared = tmp_path_factory.mktemp("shared")
    shared.chmod(0o755)
    with SshHosts(docker_engine, tmp_path_factory.mktemp("keys")) as made:
        hosts = made.start(2, volumes={str(shared): {"bind": HOME, "mode": "rw"}})
        for host in hosts:
            host.run("sh", "-c", f"cp -rT /home/tester {HOME}; chown -R tester: {HOME}; usermod -d {HOME} tester")
        yield made
        hosts[0].run("sh", "-c", f"rm -rf {HOME}/* {HOME}/.[!.]*")


def test_hosts_with_one_home_are_all_nodes_and_leave_nothing_in_it(sharing: SshHosts, tmp_path: Path) -> None:
    """One of them is listed under a second name, too, and there is what a machine left that was installed anew since."""
    one, two = sharing.hosts
    cluster = SshCluster(tmp_path, [one, two])
    (cluster.user_home / ".ssh" / "config").write_text(f"Host again\n  HostName {two.address}\n")
    cluster.write([one.address, two.address, "again"], low=2)
    try:
        said = cluster.cli("up", str(cluster.spec), "-y").stderr
        (line,) = [line for line in said.splitlines() if "is left out" in line]
        assert "are the same machine" in line and two.address in line and "again" in line
        names = cluster.cli("exec", "cpu-1", "cpu-2", "--", "hostname").stdout
        assert "host1" in names and "host2" in names
        former = f"{HOME}/.clusterctl-host-former"
        copy = f"mkdir {former} && sed s/machine/former/ {HOME}/.clusterctl-host/owner.json > {former}/owner.json"
        one.run("sh", "-c", copy, user="tester")
        cluster.down()
        assert "clusterctl" not in one.run("ls", "-a", HOME)
    finally:
        cluster.clean_up()
