"""User text never meets a shell: whatever is in a command, an environment or a name arrives as it was written."""

from __future__ import annotations

import contextlib
import json
import os
import shlex
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import paramiko
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from clusterctl.client.nodes.access import SshAccess
from clusterctl.client.up.way_in import WayIn
from clusterctl.core.errors import UsageError
from clusterctl.provision.ssh import connection as ssh
from clusterctl.provision.ssh.hostkeys import Trust, fingerprint
from clusterctl.provision.ssh.inventory import Login, parse_login
from clusterctl.provision.ssh.programs import running as program
from clusterctl.provision.ssh.target import Target
from clusterctl.spec.providers.registry import KINDS
from tests.security.knocking import Api

TELL = (
    "import json, os, sys; print(json.dumps({'argv': [os.fsencode(a).hex() for a in sys.argv[1:]],"
    " 'env': {k.hex(): v.hex() for k, v in os.environb.items() if k.startswith(b'T_')}}))"
)
EVIL = [
    "$(id)",
    "`id`",
    "; rm -rf /",
    "' \" \\",
    "{{7*7}}",
    "${IFS}",
    "a\nb",
    "--flag",
    "",
    " ",
    "%s%n",
    "\x1b]52;c;x\x07",
    "*",
    "~",
]
words = st.one_of(
    st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=30), st.sampled_from(EVIL)
)
names = st.text(st.characters(exclude_characters="\0=", exclude_categories=["Cs"]), max_size=12).map("T_".__add__)


@settings(max_examples=40, suppress_health_check=list(HealthCheck))
@given(st.lists(words, max_size=5), st.dictionaries(names, words, max_size=4), words)
@example(EVIL, {"T_" + text: text for text in EVIL if "=" not in text}, "$(touch /tmp/x)")
def test_any_text_arrives_unchanged_in_a_job(cluster: Any, argv: list[str], env: dict[str, str], name: str) -> None:
    api = Api(cluster)
    job = api.run(argv=[sys.executable, "-c", TELL, *argv], env=env, name=name, engine=False)
    assert job["state"] == "succeeded", job
    if name:
        assert job["name"] == name
    told = json.loads(api.log(job["id"]))
    assert told["argv"] == [word.encode().hex() for word in argv]
    assert told["env"] == {key.encode().hex(): value.encode().hex() for key, value in env.items()}


@pytest.mark.parametrize("bad", [{"argv": ["a\0b"]}, {"env": {"A\0": "x"}}, {"env": {"": "x"}}, {"env": {"A=B": "x"}}])
def test_what_no_program_can_be_given_is_refused_with_a_sentence(api: Api, bad: dict[str, Any]) -> None:
    answer = api.post("/api/v1/jobs", {"argv": ["true"], **bad})
    assert answer.status == 422 and len(answer.message) > 30


class Sshd(paramiko.ServerInterface):
    """An SSH server on loopback that hands every command to a shell, as sshd does."""

    def __init__(self) -> None:
        self.host_key = paramiko.RSAKey.generate(2048)
        self.commands: list[str] = []
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        self._listener.close()

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            transport = paramiko.Transport(connection)
            transport.add_server_key(self.host_key)
            transport.start_server(
                event=threading.Event(), server=self
            )  # does not wait: a client may leave in the middle

    def get_allowed_auths(self, username: str) -> str:
        return "publickey"

    def check_auth_publickey(self, username: str, key: paramiko.PKey) -> int:
        return paramiko.AUTH_SUCCESSFUL

    def check_channel_request(self, kind: str, chanid: int) -> int:
        return paramiko.OPEN_SUCCEEDED

    def check_channel_exec_request(self, channel: paramiko.Channel, command: bytes) -> bool:
        self.commands.append(command.decode())
        threading.Thread(target=self._run, args=(channel, command.decode()), daemon=True).start()
        return True

    def _run(self, channel: paramiko.Channel, command: str) -> None:
        pipe = subprocess.PIPE
        process = subprocess.Popen(["/bin/sh", "-c", command], stdin=pipe, stdout=pipe, stderr=pipe)
        assert process.stdin is not None and process.stdout is not None and process.stderr is not None
        threading.Thread(target=self._feed, args=(channel, process.stdin), daemon=True).start()
        while piece := process.stdout.read1(1 << 16):  # type: ignore[attr-defined]
            channel.sendall(piece)
        channel.sendall_stderr(process.stderr.read())
        channel.send_exit_status(process.wait())
        channel.close()

    def _feed(self, channel: paramiko.Channel, stdin: Any) -> None:
        with contextlib.suppress(OSError), stdin:
            for piece in iter(lambda: channel.recv(1 << 16), b""):
                stdin.write(piece)
                stdin.flush()


@pytest.fixture
def sshd() -> Iterator[Sshd]:
    server = Sshd()
    yield server
    server.close()


ECHO = b"""
import json, sys
size = int(sys.stdin.buffer.readline())
request = json.loads(sys.stdin.buffer.read(size))
blob = sys.stdin.buffer.read(request.pop("blob_size"))
print(json.dumps({"ok": True, "request": request, "blob": blob.hex()}))
"""


def test_any_text_arrives_unchanged_over_ssh_and_none_of_it_is_in_the_command(
    sshd: Sshd, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    key = tmp_path / "key"
    paramiko.RSAKey.generate(2048).write_private_key_file(str(key))
    monkeypatch.setattr(program, "source", lambda name: ECHO)
    target = Target("host", "127.0.0.1", sshd.port, "user", (str(key),), (), fingerprint(sshd.host_key), False)
    connection = ssh.connect(target, Trust("known_hosts", tmp_path / "known", lambda _: None))
    values = st.recursive(
        words, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(words, inner, max_size=3), max_leaves=6
    )

    @settings(max_examples=12)
    @given(st.dictionaries(words.map("x".__add__), values, max_size=3), st.binary(max_size=200))
    @example({"xevil": EVIL}, b"\0\n'")
    def echo(request: dict[str, Any], blob: bytes) -> None:
        answer = connection.ask(request, blob)
        assert (answer["request"], answer["blob"]) == (request, blob.hex())

    try:
        echo()
    finally:
        connection.close()
    assert len(set(sshd.commands)) == 1


def test_any_command_for_a_node_arrives_unchanged_over_ssh(sshd: Sshd, tmp_path: Path) -> None:
    key = tmp_path / "key"
    paramiko.RSAKey.generate(2048).write_private_key_file(str(key))
    target = Target("host", "127.0.0.1", sshd.port, "user", (str(key),), (), fingerprint(sshd.host_key), False)
    connection = ssh.connect(target, Trust("known_hosts", tmp_path / "known", lambda _: None))
    node = SshAccess.__new__(SshAccess)
    node._node, node._machine = "cpu-1", None  # type: ignore[assignment]
    node._hosts = SimpleNamespace(connect=lambda _: SimpleNamespace(run=connection.run, close=lambda: None))  # type: ignore[assignment]

    @settings(max_examples=10)
    @given(st.lists(words, max_size=4))
    @example(EVIL)
    def tell(argv: list[str]) -> None:
        done = node.run([sys.executable, "-S", "-c", TELL, *argv])
        assert done.code == 0, done.stderr
        assert json.loads(done.stdout)["argv"] == [word.encode().hex() for word in argv]

    try:
        tell()
    finally:
        connection.close()


AWS = """\
#!{python} -S
import json, sys
open({said!r}, "w").write(json.dumps(sys.argv[1:]))
"""


def way(reach: str, **aws: str) -> WayIn:
    """As the spec has it: what the cluster was told of AWS, a key at a time."""
    cloud = KINDS["aws"].cloud
    assert cloud is not None
    return WayIn("aws", reach, cloud.reach[reach], cloud.user, aws)


def openssh(target: Target, directory: Path) -> list[str]:
    """What `clusterctl ssh` runs for this target."""
    node = SshAccess.__new__(SshAccess)
    node._node, node._machine, node._known_hosts = "cpu-1", None, directory / "known"  # type: ignore[assignment]
    node._hosts = SimpleNamespace(target=lambda _: of_no_configuration(target))  # type: ignore[assignment]
    return node.shell_argv()


def of_no_configuration(target: Target) -> Target:
    return replace(target, options=("-F", "none"), jumps=tuple(of_no_configuration(hop) for hop in target.jumps))


def test_any_text_arrives_unchanged_in_the_program_that_ssh_is_led_through(tmp_path: Path) -> None:
    said, program = tmp_path / "said", tmp_path / "aws"
    program.write_text(AWS.format(python=sys.executable, said=str(said)))
    program.chmod(0o755)
    environment = {**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}"}

    @settings(max_examples=25, deadline=None)
    @given(words, words, words)
    @example("i-1", "us-east-1; touch /tmp/x", "my 'own' $(profile) 100%h %r %%")
    @example("\n", "--", "")
    def lead_through(instance: str, region: str, profile: str) -> None:
        options = [f"--{name}={value}" for name, value in (("region", region), ("profile", profile)) if value]
        command = way("ssm", region=region, profile=profile).command(instance, 22)
        assert shlex.split(command)[9:] == options  # as paramiko reads it
        target = Target("i-1", "i-1", 22, "user", (), command=command)
        said.unlink(missing_ok=True)
        argv = openssh(target, tmp_path)
        done = subprocess.run(argv, env=environment, stdin=subprocess.DEVNULL, capture_output=True, timeout=60)
        words_of_aws = json.loads(said.read_text()) if said.exists() else done.stderr
        wanted = ["ssm", "start-session", "--target", instance, "--document-name", "AWS-StartSSHSession"]
        assert words_of_aws == [*wanted, "--parameters", "portNumber=22", *options]

    lead_through()


def test_any_text_arrives_unchanged_through_jump_hosts(tmp_path: Path) -> None:
    """Each ssh is the ProxyCommand of the one before it, so that every layer reads the text once more."""
    said, program = tmp_path / "said", tmp_path / "aws"
    program.write_text(AWS.format(python=sys.executable, said=str(said)))
    program.chmod(0o755)
    environment = {**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}"}
    evil = "my 'own' \\ $(profile) \\' 100%h %% ${HOME}"
    command = way("ssm", profile=evil).command("i-1", 22)
    first = Target("first", "first", 22, "u", (f"{tmp_path}/100%h 'k'",), command=command)
    second = Target("second", "second", 22, "u", (), jumps=(first,))
    argv = openssh(Target("third", "third", 22, "u", (), jumps=(first, second)), tmp_path)
    done = subprocess.run(argv, env=environment, stdin=subprocess.DEVNULL, capture_output=True, timeout=60)
    assert said.exists(), done.stderr
    assert json.loads(said.read_text())[-1] == f"--profile={evil}"


def test_any_path_of_a_key_arrives_unchanged_at_openssh(tmp_path: Path) -> None:
    printable = st.text(
        st.characters(min_codepoint=32, max_codepoint=126, exclude_characters="/"), min_size=1, max_size=20
    )

    @settings(max_examples=20, deadline=None)
    @given(printable.filter(lambda name: "${" not in name and name not in (".", "..")))
    @example("100%h %d")
    @example("a\\\"b' #c")
    @example(" ")
    @example("\\")
    def tell(name: str) -> None:
        key = f"{tmp_path}/{name}"
        target = Target("h", "fe80::1%lo", 22, "user", (key,), command="false")
        argv = openssh(target, tmp_path)
        done = subprocess.run([argv[0], "-v", *argv[1:]], stdin=subprocess.DEVNULL, capture_output=True, timeout=60)
        told = done.stderr.decode()
        assert f"identity file {key} type" in told.replace("\\\\", "\\"), told

    tell()
    with pytest.raises(UsageError, match=r"has '\$\{' in it"):
        openssh(Target("h", "h", 22, "user", ("/a/${HOME}",)), tmp_path)


@pytest.mark.parametrize(
    "login",
    [
        "a;touch",
        "a$(id)",
        "a`id`",
        "a|b",
        "a&b",
        "a>b",
        "a'b",
        'a"b',
        "a\\b",
        "a{b,c}",
        "u;v@host",
        "$(id)@host",
        "u\\@host",
    ],
)
def test_a_name_that_a_shell_would_run_is_no_host_and_no_user(login: str) -> None:
    """The user's SSH configuration may have it in a ProxyCommand or a Match exec."""
    with pytest.raises(UsageError, match="would mean something to ssh or a shell"):
        parse_login(login)
    with pytest.raises(UsageError, match="would mean something to ssh or a shell"):
        Login("host", user="-oProxyCommand=id")


def test_names_that_hosts_and_users_have_are_taken() -> None:
    for text in ("ann@node1.lab:2200", "[fe80::1%eth0]:22", "LAB\\ann@h", "host$@h", "zürich"):
        assert parse_login(text).host


def test_an_impostor_with_another_host_key_hears_nothing_but_its_own_name(sshd: Sshd, tmp_path: Path) -> None:
    key = tmp_path / "key"
    paramiko.RSAKey.generate(2048).write_private_key_file(str(key))
    pinned = fingerprint(paramiko.RSAKey.generate(2048))
    target = Target("host", "127.0.0.1", sshd.port, "user", (str(key),), (), pinned, False)
    with pytest.raises(ssh.HostTrouble, match="not the one pinned"):
        ssh.connect(target, Trust("accept-new", tmp_path / "known", lambda _: None))
    with pytest.raises(ssh.HostTrouble, match="is not known"):
        unpinned = Target("host", "127.0.0.1", sshd.port, "user", (str(key),), (), "", False)
        ssh.connect(unpinned, Trust("known_hosts", tmp_path / "known", lambda _: None))
    assert sshd.commands == []
