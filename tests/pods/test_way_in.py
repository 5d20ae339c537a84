"""Programs in a pod through the API server, in both protocols that servers speak."""

from __future__ import annotations

import http.server
import os
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import paramiko
import pytest
from clusterctl_runtime.agent.bundle import bundle_bytes
from clusterctl_runtime.backoff import Backoff, wait_until

from clusterctl.client.nodes import copying
from clusterctl.core.errors import ClusterctlError
from clusterctl.provision.carried import NothingListens
from clusterctl.provision.ssh.connection import Connection, HostTrouble, without_ssh
from clusterctl.provision.ssh.hosts import Bundle
from clusterctl.provision.ssh.inventory import Login
from clusterctl.provision.ssh.master import Master
from clusterctl.provision.ssh.target import Config, Target
from tests.pods.exec_server import V4, V5, ExecServer

PLACE = {"context": "here", "namespace": "ns", "pod": "p", "container": "head"}


@pytest.fixture(params=[[V4], [V5, V4]], ids=["v4", "v5"])
def server(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ExecServer]:
    with ExecServer(tmp_path, request.param) as made:
        monkeypatch.setenv("KUBECONFIG", str(made.kubeconfig))
        yield made


@pytest.fixture
def connection(server: ExecServer) -> Iterator[Connection]:
    with closing(without_ssh(target())) as made:
        yield made
    assert server.taken == [server.speaks[0]] * len(server.began)


def eventually(holds: Callable[[], bool]) -> bool:
    return wait_until(holds, Backoff(0.01, 0.2, seconds=60))


def target(**other: str) -> Target:
    return Config().target(Login("p", provider="kubernetes", place={**PLACE, **other}))


def test_a_program_is_asked_and_answers(connection: Connection, server: ExecServer) -> None:
    facts = connection.ask({"do": "probe"}, Bundle("", bundle_bytes()).facts_source())
    assert facts["directory"] == str(server.home / ".clusterctl-host")
    owner = {"uid": "u", "cluster": "c"}
    big = {"head/big": "x" * 3_000_000}
    assert connection.ask({**owner, "do": "place_files", "files": big})["changed"] == ["head/big"]
    assert (server.home / ".clusterctl-host/head/big").stat().st_size == 3_000_000


def test_output_errors_and_exit_code_come_back(connection: Connection) -> None:
    done = connection.run("echo out; echo err >&2; exit 7")
    assert (done.code, done.stdout, done.stderr) == (7, b"out\n", b"err\n")
    data = os.urandom(5_000_000)  # at once there and back, where neither side may wait for the other
    assert connection.run(f"head -c {len(data)}", data).stdout == data


def test_a_shell_that_knows_no_kubeconfig_gets_in_by_the_one_that_the_cluster_was_made_with(
    server: ExecServer, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.delenv("KUBECONFIG")
    monkeypatch.setenv("HOME", str(tmp_path))
    with closing(without_ssh(target(kubeconfig=str(server.kubeconfig)))) as connection:
        assert not isinstance(connection.transport, paramiko.Transport | Master)
        argv = connection.transport.shell_argv(["echo", "in"])
    done = subprocess.run(argv, capture_output=True, timeout=60, stdin=subprocess.DEVNULL)
    assert (done.returncode, done.stdout) == (0, b"in\n"), done.stderr


@pytest.mark.usefixtures("server")
def test_a_shell_passes_keys_output_and_its_exit_code_on() -> None:
    with closing(without_ssh(target())) as connection:
        assert not isinstance(connection.transport, paramiko.Transport | Master)
        argv = connection.transport.shell_argv(["sh", "-c", "read line; echo got $line; echo oh >&2; exit 3"])
    done = subprocess.run(argv, input=b"a line\n", capture_output=True, timeout=60)
    assert (done.returncode, done.stdout, done.stderr) == (3, b"got a line\n", b"oh\n")
    argv[argv.index("--pod=p")] = "--pod=gone"
    done = subprocess.run(argv, capture_output=True, timeout=60)
    assert (done.returncode, b'pods "gone" not found' in done.stderr) == (255, True)


def test_a_port_in_the_pod_is_reached(connection: Connection, tmp_path: Path) -> None:
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), http.server.BaseHTTPRequestHandler) as there:
        threading.Thread(target=there.serve_forever, daemon=True).start()
        with closing(connection.reach(there.server_port)) as way:
            way.sendall(b"GET / HTTP/1.0\r\n\r\n")
            way.shutdown_write()
            said = b""
            while data := way.recv(1 << 16):
                said += data
        there.shutdown()
    assert b"501 Unsupported method" in said
    with pytest.raises(NothingListens, match="refused"):
        connection.reach(1)


def test_a_program_ends_when_whoever_wanted_it_is_gone(connection: Connection, server: ExecServer) -> None:
    channel = connection.begin("port.py")
    program = server.programs[-1]
    assert program.returncode is None
    channel.close()
    assert eventually(lambda: program.returncode is not None)


def test_directories_are_copied_there_and_back(connection: Connection, server: ExecServer, tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    (tree / "deep").mkdir(parents=True)
    (tree / "deep" / "run.sh").write_text("echo hello")
    (tree / "deep" / "run.sh").chmod(0o750)
    (tree / "big").write_bytes(os.urandom(3_000_000))
    (tree / "link").symlink_to("big")
    for _ in range(2):  # the second time over what is there, as `cp` does: into it
        with closing(connection.begin("files.py")) as channel:
            copying.put(channel, tree, "copy", "copying")
    assert (server.home / "copy/deep/run.sh").stat().st_mode & 0o777 == 0o750
    assert (server.home / "copy/tree/link").readlink() == Path("big")
    assert (server.home / "copy/big").read_bytes() == (tree / "big").read_bytes()
    with closing(connection.begin("files.py")) as channel:
        copying.get(channel, "copy", tmp_path / "back", "copying")
    assert (tmp_path / "back/big").read_bytes() == (tree / "big").read_bytes()
    with closing(connection.begin("files.py")) as channel:
        copying.get(channel, "copy/big", tmp_path, "copying")
    assert (tmp_path / "big").stat().st_size == 3_000_000


def test_what_cannot_be_copied_is_told(connection: Connection, server: ExecServer, tmp_path: Path) -> None:
    (server.home / "file").write_text("")
    (tmp_path / "one").write_bytes(bytes(5_000_000))
    with closing(connection.begin("files.py")) as channel, pytest.raises(ClusterctlError, match=r"No such file.*gone"):
        copying.get(channel, "gone", tmp_path, "copying gone from p")
    with closing(connection.begin("files.py")) as channel, pytest.raises(ClusterctlError, match="Not a directory"):
        copying.put(channel, tmp_path / "one", "file/below", "copying one to p")


def test_a_line_that_is_cut_is_told_and_the_next_program_has_its_own(
    connection: Connection, server: ExecServer
) -> None:
    failed: list[Exception] = []

    def run() -> None:
        try:
            connection.run("echo begun; sleep 600")
        except HostTrouble as error:
            failed.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    while not server.programs:
        thread.join(0.01)
    server.cut()
    thread.join(60)
    assert failed and "the connection broke" in str(failed[0])
    assert connection.run("echo again").stdout == b"again\n"


def test_refusals_say_what_is_missing(server: ExecServer, connection: Connection) -> None:
    server.refuse = (
        403,
        'pods "p" is forbidden: User "u" cannot get resource "pods/exec" in API group "" in the namespace "ns"',
    )
    with pytest.raises(HostTrouble, match=r"beginning a program in pod p: .*missing is the right to get pods/exec"):
        connection.run("true")
    server.refuse = None
    with pytest.raises(HostTrouble, match='pods "q" not found') as caught:
        without_ssh(target(pod="q"))
    assert caught.value.code == "bad_request"
    waits = {"name": "head", "state": {"waiting": {"reason": "ImagePullBackOff", "message": "no such image"}}}
    server.pod = {"status": {"phase": "Pending", "containerStatuses": [waits]}}
    with pytest.raises(HostTrouble, match="ImagePullBackOff: no such image") as caught:
        without_ssh(target())
    assert caught.value.code == "not_yet"
