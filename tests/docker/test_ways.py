"""The ways to an engine: through ssh, and by TCP with TLS. The engine behind them is the real one."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import socket
import ssl
import stat
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
import trustme
from clusterctl_providers.base import TAG_UID
from clusterctl_providers.docker.client import noted_endpoint, open_engine
from clusterctl_providers.docker.endpoint import Endpoint, Tls
from clusterctl_providers.docker.ssh import ssh_argv

from clusterctl.client.nodes.containers import ContainerAccess
from clusterctl.client.registry import Cluster
from clusterctl.core.errors import AuthFailed, BadRequest, ProviderError
from clusterctl.provision.carried import NothingListens
from tests.docker.world import DockerWorld
from tests.support.cluster import wait_until
from tests.support.docker_engine import DockerEngine, remove_labelled
from tests.support.talk import ECHO, converse

LAB = "ssh://me@build.lab:2222"
SSH = """\
#!{python}
import os, sys
words = sys.argv[1:]
if os.environ.get("SSH_SAYS"):
    sys.exit(os.environ["SSH_SAYS"])
assert words[-2] == "build.lab" and words[words.index("-l") + 1] == "me" and words[words.index("-p") + 1] == "2222", words
assert words[-1] == "docker system dial-stdio", words
with open("{log}", "a") as log:
    log.write("one\\n")
os.environ.update(DOCKER_HOST="{host}", PATH="{path}")
os.execvp("sh", ["sh", "-c", words[-1]])
"""


# How many of the programs that carry bytes run in a container; this one's text must not have theirs in it.
CARRIERS = """
import glob
found = 0
for path in glob.glob("/proc/[0-9]*/cmdline"):
    try:
        found += b"no port is " + b"forwarded" in open(path, "rb").read()
    except OSError:
        pass
print(found)
"""


class FarWorld(DockerWorld):
    """Taken down by the way that needs nothing of what the tests set up."""

    def close(self) -> None:
        for provider in self._opened:
            provider.close()
        for uid in self._uids:
            remove_labelled(self.client, f"{TAG_UID}={uid}")
        self.client.close()
        shutil.rmtree(self.directory)


@pytest.fixture
def world(docker_engine: DockerEngine) -> Iterator[FarWorld]:
    place = FarWorld()
    yield place
    place.close()


@pytest.fixture
def ssh(docker_engine: DockerEngine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An `ssh` whose every host is this machine. Returns what it logs its connections in."""
    program, log = tmp_path / "bin" / "ssh", tmp_path / "connections"
    program.parent.mkdir()
    path = os.environ["PATH"]
    program.write_text(SSH.format(python=sys.executable, log=log, host=docker_engine.host, path=path))
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("PATH", f"{program.parent}:{path}")
    log.touch()
    return log


def container(world: DockerWorld, node_id: str = "cpu-1") -> ContainerAccess:
    """The way into a node of this world's cluster, from a shell that knows nothing of its engine."""
    (made,) = world.create(world.provider(), node_id)
    cluster = SimpleNamespace(name="demo", provider="docker", provider_dir=world.state_dir(world.uid))
    return ContainerAccess(cast(Cluster, cluster), {"id": node_id, "instance_id": made.id})


# ---------------------------------------------------------------- ssh


def test_commands_and_copies_go_through_ssh_one_after_the_other(
    world: DockerWorld, ssh: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DOCKER_HOST", LAB)
    node = container(world)
    monkeypatch.delenv("DOCKER_HOST")
    for number in range(3):
        ran = node.run(["sh", "-c", f"echo {number}; echo oh >&2; exit {number}"])
        assert (ran.code, ran.stdout, ran.stderr) == (number, b"%d\n" % number, b"oh\n")
    noise = os.urandom(300_000)
    (tmp_path / "noise").write_bytes(noise)
    node.put(tmp_path / "noise", "/tmp/noise")
    node.get("/tmp/noise", tmp_path / "back")
    assert (tmp_path / "back").read_bytes() == noise
    assert node.shell_argv()[:3] == ["docker", "--host", LAB]


def test_a_program_that_is_talked_to_in_both_directions_runs_through_ssh(
    world: DockerWorld, ssh: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DOCKER_HOST", LAB)
    (made,) = world.create(world.provider(), "cpu-1")
    script = "import sys; print('begun', flush=True); print(sys.stdin.readline().upper()); sys.exit(7)"
    inside = [sys.executable, "-m", "clusterctl_providers.docker.stdio", str(world.state_dir(world.uid)), made.id, "{}"]
    program = subprocess.Popen([*inside, "python3", "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert program.stdin and program.stdout
    with program:
        assert program.stdout.readline() == b"begun\n"
        program.stdin.write(b"hello\n")
        program.stdin.flush()
        assert program.stdout.read().split() == [b"HELLO"] and program.wait(60) == 7


@pytest.mark.parametrize("way", ["here", "ssh"])
def test_a_port_that_a_container_has_for_itself_is_reached(
    world: DockerWorld, ssh: Path, monkeypatch: pytest.MonkeyPatch, way: str
) -> None:
    if way == "ssh":
        monkeypatch.setenv("DOCKER_HOST", LAB)
    node = container(world)
    monkeypatch.delenv("DOCKER_HOST", raising=False)
    check_port(node, os.urandom(8_000_000))
    wait_until(
        lambda: node.run(["python3", "-c", CARRIERS]).stdout.strip() == b"0", what="nothing is left that carries"
    )


def check_port(node: ContainerAccess, noise: bytes) -> None:
    """A program listens on the container's own loopback."""
    node.run(["sh", "-c", f"python3 -c '{ECHO}' 127.0.0.1 7070 >/dev/null 2>&1 &"])
    wait_until(lambda: is_there(node, 7070), what="it listens")
    with contextlib.closing(node.dial(7070)) as way, contextlib.closing(node.dial(7070)) as other:
        assert converse(way, noise) == noise + b"bye"
        other.sendall(b"left alone")
        assert other.recv(64) == b"left alone"
    with pytest.raises(NothingListens, match="on port 7071 of cpu-1"):
        node.dial(7071)


def is_there(node: ContainerAccess, port: int) -> bool:
    try:
        node.dial(port).close()
    except NothingListens:
        return False
    return True


def test_a_connection_that_was_idle_and_broke_is_made_anew(world: DockerWorld, ssh: Path) -> None:
    engine = open_engine(LAB, None)
    for _ in range(3):
        engine.api.ping()
    assert ssh.read_text().count("one") == 1, "it is used again while it lasts"
    (connection,) = [one for one in engine.api._ssh._pool.pool.queue if one]  # type: ignore[union-attr]
    connection.sock.shutdown(socket.SHUT_RDWR)
    assert engine.api.ping() and ssh.read_text().count("one") == 2
    engine.api.close()


@pytest.mark.parametrize(
    ("said", "kind", "says"),
    [
        ("me@build.lab: Permission denied (publickey).", AuthFailed, "`ssh` itself has to get there without a question"),
        ("Host key verification failed.", AuthFailed, "a known host key"),
        ("permission denied while trying to connect to unix:///var/run/docker.sock", AuthFailed, "there has to join the group"),
        ("sh: 1: docker: not found", ProviderError, "on the PATH there"),
        ("ssh: connect to host build.lab port 2222: No route to host", ProviderError, "see whether `ssh` gets there"),
    ],
)  # fmt: skip
def test_what_ssh_says_is_told_with_what_to_do(
    ssh: Path, monkeypatch: pytest.MonkeyPatch, said: str, kind: type[ProviderError], says: str
) -> None:
    monkeypatch.setenv("SSH_SAYS", said)
    with pytest.raises(kind) as caught:
        open_engine(LAB, None)
    assert f"through {LAB} ({said})" in str(caught.value) and says in str(caught.value)


def test_an_address_through_ssh_may_name_a_socket_and_no_user() -> None:
    argv = ssh_argv("ssh://build/run/user/1000/docker.sock")
    assert (
        argv[-2:] == ["build", "docker --host unix:///run/user/1000/docker.sock system dial-stdio"] and "-l" not in argv
    )


# ---------------------------------------------------------------- TLS


class Door:
    """A TCP port with TLS that leads to the engine's socket, and wants a certificate of its own CA."""

    def __init__(self, directory: Path, engine: str) -> None:
        self._engine = engine.removeprefix("unix://")
        self.directory = directory
        self.ca = trustme.CA()
        self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.ca.issue_cert("127.0.0.1").configure_cert(self._context)
        self.ca.configure_trust(self._context)
        self._context.verify_mode = ssl.CERT_REQUIRED
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.host = f"tcp://127.0.0.1:{self._listener.getsockname()[1]}"
        self.write(directory, self.ca, self.ca)
        threading.Thread(target=self._serve, daemon=True).start()

    def write(self, directory: Path, trusted: trustme.CA, issuer: trustme.CA) -> None:
        """What DOCKER_CERT_PATH names."""
        directory.mkdir(exist_ok=True)
        ours = issuer.issue_cert("client@lab")
        trusted.cert_pem.write_to_path(str(directory / "ca.pem"))
        ours.cert_chain_pems[0].write_to_path(str(directory / "cert.pem"))
        ours.private_key_pem.write_to_path(str(directory / "key.pem"))

    def _serve(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                threading.Thread(target=self._one, args=(client,), daemon=True).start()

    def _one(self, raw: socket.socket) -> None:
        if raw.recv(1, socket.MSG_PEEK) != b"\x16":  # what Go's servers answer
            raw.recv(65536)
            raw.sendall(b"HTTP/1.0 400 Bad Request\r\n\r\nClient sent an HTTP request to an HTTPS server.\n")
            raw.close()
            return
        with (
            contextlib.suppress(OSError),
            self._context.wrap_socket(raw, server_side=True) as client,
            socket.socket(socket.AF_UNIX) as engine,
        ):
            engine.connect(self._engine)
            back = threading.Thread(target=_pump, args=(engine, client), daemon=True)
            back.start()
            _pump(client, engine)
            back.join(60)

    def close(self) -> None:
        self._listener.close()


def _pump(source: Any, target: Any) -> None:
    with contextlib.suppress(OSError):
        while data := source.recv(65536):
            target.sendall(data)
    with contextlib.suppress(OSError):
        target.shutdown(socket.SHUT_RDWR if isinstance(target, ssl.SSLSocket) else socket.SHUT_WR)


Shell = Callable[..., None]


@pytest.fixture
def door(docker_engine: DockerEngine, tmp_path: Path) -> Iterator[Door]:
    place = Door(tmp_path / "certificates", docker_engine.host)
    yield place
    place.close()


@pytest.fixture
def shell(monkeypatch: pytest.MonkeyPatch) -> Shell:
    """Sets the variables of a shell; those that are not named are not set."""

    def of(**variables: str) -> None:
        for name in ("DOCKER_HOST", "DOCKER_TLS_VERIFY", "DOCKER_CERT_PATH", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"):
            monkeypatch.delenv(name, raising=False)
        for name, value in variables.items():
            monkeypatch.setenv(name, value)

    return of


def with_tls(door: Door) -> dict[str, str]:
    return {"DOCKER_HOST": door.host, "DOCKER_TLS_VERIFY": "1", "DOCKER_CERT_PATH": str(door.directory)}


def test_a_ca_bundle_of_the_environment_is_not_the_engines(door: Door, shell: Shell, tmp_path: Path) -> None:
    bundle = tmp_path / "company.pem"
    trustme.CA().cert_pem.write_to_path(str(bundle))
    for name in ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"):
        shell(**with_tls(door), **{name: str(bundle)})
        engine = open_engine("", None)
        assert engine.host == door.host and engine.info["ID"]
        engine.api.close()


def test_a_later_shell_without_the_variables_uses_the_certificates_that_the_cluster_was_made_with(
    world: DockerWorld, door: Door, shell: Shell, tmp_path: Path
) -> None:
    shell(**with_tls(door))
    node, named = container(world), {"cacert": "ca", "cert": "cert", "key": "key"}
    for variables in ({}, {"DOCKER_HOST": door.host}, {"DOCKER_HOST": "unix:///nowhere/docker.sock"}):
        shell(**variables)
        assert node.run(["echo", "here"]).stdout == b"here\n"
        assert world.provider().list()[0].complete
        files = [f"--tls{what}={door.directory}/{name}.pem" for what, name in named.items()]
        assert node.shell_argv()[:7] == ["docker", "--host", door.host, "--tlsverify", *files]
    check_port(node, b"x" * 100_000)
    shell(**with_tls(door))
    assert node.shell_argv()[1] == "exec", "this shell's docker command gets there by itself"
    moved = tmp_path / "elsewhere"
    door.directory.rename(moved)
    shell()
    assert (
        f"{door.directory}/ca.pem, with which the Docker engine is spoken to, is not there"
        in world.provider().list()[0].error
    )
    shell(**{**with_tls(door), "DOCKER_CERT_PATH": str(moved)})
    assert world.provider().list()[0].complete
    shell()
    assert world.provider().list()[0].complete, "where they are now is remembered"
    assert noted_endpoint(world.state_dir(world.uid)) == Endpoint(
        door.host, Tls(*(str(moved / f"{name}.pem") for name in ("ca", "cert", "key")))
    )


def test_each_trouble_with_tls_has_its_own_sentence(
    door: Door, shell: Shell, docker_engine: DockerEngine, tmp_path: Path
) -> None:
    def told(**variables: str) -> str:
        shell(**variables)
        with pytest.raises((AuthFailed, BadRequest)) as caught:
            open_engine("", None)
        assert "group docker" not in str(caught.value)
        return str(caught.value)

    assert "it speaks TLS; set DOCKER_TLS_VERIFY=1 and DOCKER_CERT_PATH" in told(DOCKER_HOST=door.host)
    stranger = tmp_path / "stranger"
    door.write(stranger, trustme.CA(), door.ca)
    said = told(**{**with_tls(door), "DOCKER_CERT_PATH": str(stranger)})
    assert f"its certificate is not signed by {stranger}/ca.pem" in said
    foreign = tmp_path / "foreign"
    door.write(foreign, door.ca, trustme.CA())
    said = told(**{**with_tls(door), "DOCKER_CERT_PATH": str(foreign)})
    assert f"does not take the certificate {foreign}/cert.pem" in said
    named = told(**{**with_tls(door), "DOCKER_HOST": door.host.replace("127.0.0.1", "localhost")})
    assert "its certificate is for other names than this one" in named
    assert "where no directory is" in told(**{**with_tls(door), "DOCKER_CERT_PATH": str(tmp_path / "nowhere")})
    with socket.create_server(("127.0.0.1", 0)) as plain:
        threading.Thread(target=_answer_plainly, args=(plain,), daemon=True).start()
        said = told(**{**with_tls(door), "DOCKER_HOST": f"tcp://127.0.0.1:{plain.getsockname()[1]}"})
    assert "it does not speak TLS at that port" in said


def _answer_plainly(listener: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while True:
            client, _ = listener.accept()
            client.recv(1000)
            client.sendall(b"HTTP/1.0 400 Bad Request\r\n\r\n")
            client.close()


def test_a_context_that_is_not_there_or_broken_is_told_as_that(
    shell: Shell, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "config.json").write_text("{}")
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path))
    monkeypatch.setenv("DOCKER_CONTEXT", "nowhere")
    shell()
    with pytest.raises(BadRequest, match=r"no context 'nowhere', which DOCKER_CONTEXT names: `docker context ls`"):
        open_engine("", None)
    from docker.context.config import get_meta_file

    meta = Path(get_meta_file("nowhere"))
    meta.parent.mkdir(parents=True)
    meta.write_text(json.dumps({"Name": "nowhere"})[:-1])
    with pytest.raises(BadRequest, match="the Docker context cannot be read"):
        open_engine("", None)
