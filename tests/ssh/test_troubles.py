"""Hosts that cannot be used are named with their fix, and the rest goes on."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import paramiko
import pytest

from clusterctl.client.nodes.machines import touched_machines
from clusterctl.client.registry import read_json
from tests.ssh.cluster import ROOT, SshCluster, traces
from tests.support.cluster import wait_until
from tests.support.ssh_hosts import SshHost
from tests.support.talk import ECHO, Forwarder, talk


class Impostor:
    """An SSH server with a key of its own, which counts what it is told after the key exchange."""

    def __init__(self) -> None:
        self.key = paramiko.RSAKey.generate(2048)
        self.asked: list[str] = []
        self._sock = socket.create_server(("127.0.0.1", 0))
        self.port = self._sock.getsockname()[1]
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        impostor = self

        class Server(paramiko.ServerInterface):
            def check_auth_publickey(self, username: str, key: paramiko.PKey) -> int:
                impostor.asked.append(username)
                return 0  # AUTH_SUCCESSFUL

            def get_allowed_auths(self, username: str) -> str:
                impostor.asked.append(username)
                return "publickey"

        while True:
            try:
                client, _ = self._sock.accept()
            except OSError:
                return
            transport = paramiko.Transport(client)
            transport.add_server_key(self.key)
            transport.start_server(event=threading.Event(), server=Server())

    def close(self) -> None:
        self._sock.close()


@pytest.fixture
def impostor() -> Iterator[Impostor]:
    made = Impostor()
    yield made
    made.close()


def test_bad_hosts_are_named_with_their_fix_and_the_rest_goes_on(
    cluster: SshCluster, hosts: list[SshHost], impostor: Impostor
) -> None:
    """Unreachable, no SSH server, no Python, an unknown key, a wrong name: none of them stops the two good hosts."""
    known = cluster.user_home / ".ssh" / "known_hosts"
    hosts[2].run("chmod", "0", "/usr/bin/python3.11")
    wrong_key = f"[127.0.0.1]:{impostor.port} {hosts[0].host_key}\n"
    known.write_text(known.read_text() + wrong_key)
    good = [hosts[0].address, hosts[1].address]
    bad = [f"{hosts[1].address}:23", f"127.0.0.1:{impostor.port}", "no-such-host.invalid", hosts[2].address]
    cluster.write([*good, *(f'"{entry}"' for entry in bad)], low=2)
    try:
        said = cluster.cli("up", str(cluster.spec), "-y").stderr
    finally:
        hosts[2].run("chmod", "755", "/usr/bin/python3.11")
    lines = {line.split()[1]: line for line in said.splitlines() if "is left out" in line}
    assert set(lines) == {
        f"{hosts[1].address}:23",
        f"127.0.0.1:{impostor.port}",
        "no-such-host.invalid",
        hosts[2].address,
    }
    assert "refuses connections" in lines[f"{hosts[1].address}:23"]
    assert "apt install python3" in lines[hosts[2].address]
    assert "the name 'no-such-host.invalid' " in lines["no-such-host.invalid"]  # unknown, or no DNS is here to ask
    assert "CHANGED" in lines[f"127.0.0.1:{impostor.port}"] or "is not known" in lines[f"127.0.0.1:{impostor.port}"]
    assert impostor.asked == []  # not even a user's name
    assert len(cluster.ready_nodes()) == 2
    assert cluster.api_hosts()[hosts[2].address]["reason"]

    cluster.cli("up", str(cluster.spec), "-y")  # mended meanwhile
    assert cluster.api_hosts()[hosts[2].address]["connected"]


def test_a_min_that_the_good_hosts_cannot_reach_fails_with_the_reason(
    cluster: SshCluster, hosts: list[SshHost]
) -> None:
    cluster.write([hosts[0].address, f'"{hosts[1].address}:23"'], low=2)
    done = cluster.cli("up", str(cluster.spec), "-y", code=1)
    assert "pool cpu needs 2 hosts" in done.stderr and "refuses connections" in done.stderr
    assert len(cluster.ready_nodes()) == 1
    assert touched_machines(cluster.place) == {hosts[0].address}
    assert f"{hosts[1].address}:23" not in cluster.cli("down", "demo", "-y").stderr  # nothing was ever written there


def test_the_heads_port_and_address_are_those_of_the_spec_at_once(cluster: SshCluster, hosts: list[SshHost]) -> None:
    """A port that another cluster has is named; an address that leads nowhere ends `up` as soon as the head's own host is left
    out; what runs goes on under another port."""

    def up(settings: str, code: int) -> str:
        cluster.write([hosts[0].address], low=1)
        spec = cluster.spec.read_text().replace("provider: ssh", f"provider: {{ssh: {{{settings}}}}}")
        cluster.spec.write_text(spec)
        return cluster.cli("up", str(cluster.spec), "-y", code=code).stderr

    squat = "import socket, time; s = socket.socket(); s.bind(('', 7999)); s.listen(); time.sleep(600)"
    hosts[0].container.exec_run(["python3", "-c", squat], user="admin", detach=True)
    wait_until(lambda: "7999" in hosts[0].run("ss", "-ltn"), what="the port is taken")
    assert "port 7999 is taken on the head's machine by programs of user admin" in up("port: 7999", 1)
    assert "no node can run beside it" in up("port: 7998, address: 192.0.2.1", 1)
    up("port: 7998", 0)
    job_id = cluster.submit("--", "sh", "-c", "while ! test -e /tmp/go; do sleep 0.2; done")
    cluster.wait_job(job_id, "running")
    up("port: 7997", 0)
    assert cluster.api_hosts()[hosts[0].address]["connected"]
    hosts[0].run("touch", "/tmp/go")
    assert len(cluster.wait_job(job_id, "succeeded")["attempts"]) == 1


def test_an_unknown_key_is_refused_until_it_is_pinned_or_accepted(cluster: SshCluster, hosts: list[SshHost]) -> None:
    from clusterctl.provision.ssh.hostkeys import fingerprint

    (cluster.user_home / ".ssh" / "known_hosts").write_text("")
    cluster.write([hosts[0].address])
    done = cluster.cli("up", str(cluster.spec), "-y", code=1)
    key = paramiko.Ed25519Key(data=_decoded(hosts[0].host_key))
    assert fingerprint(key) in done.stderr and "host_key" in done.stderr
    assert traces(hosts[0]) == []

    cluster.write([f'{{host: {hosts[0].address}, host_key: "SHA256:{"A" * 43}"}}'])
    assert "pinned" in cluster.cli("up", str(cluster.spec), "-y", code=1).stderr
    assert traces(hosts[0]) == []

    cluster.write([f'{{host: {hosts[0].address}, host_key: "{fingerprint(key)}"}}'])
    cluster.up()


def test_accept_new_says_so_loudly_and_remembers(cluster: SshCluster, hosts: list[SshHost]) -> None:
    (cluster.user_home / ".ssh" / "known_hosts").write_text("")
    cluster.write([hosts[0].address], auth=", host_keys: accept-new")
    assert "WARNING" in cluster.cli("up", str(cluster.spec), "-y").stderr
    assert hosts[0].address in (cluster.home / "known_hosts").read_text()
    assert "WARNING" not in cluster.cli("up", str(cluster.spec), "-y").stderr


def test_a_host_of_another_cluster_is_refused_and_left_alone(
    cluster: SshCluster, hosts: list[SshHost], tmp_path: Path
) -> None:
    cluster.up()
    (tmp_path / "other").mkdir()
    other = SshCluster(tmp_path / "other", hosts, name="other")
    try:
        done = other.cli("up", str(other.spec), "-y", code=1)
        assert "belongs to cluster 'demo'" in done.stderr
        other.cli("down", "other", "-y")
    finally:
        other.home.joinpath("clusters").exists()
    assert cluster.status()["state"] == "ready" and all(h["connected"] for h in cluster.api_hosts().values())


def test_a_half_installed_host_is_cleaned_by_down(cluster: SshCluster, hosts: list[SshHost]) -> None:
    process = cluster.start("up", str(cluster.spec), "-y")
    wait_until(
        lambda: "owner.json" in hosts[0].run("sh", "-c", f"ls {ROOT} 2>/dev/null; true"),
        60,
        "the host is being installed",
    )
    process.kill()
    process.communicate()
    cluster.down()
    assert [traces(host) for host in hosts] == [[], [], []]


def test_down_names_a_silent_host_and_finishes_when_it_is_back(cluster: SshCluster, hosts: list[SshHost]) -> None:
    cluster.up()
    hosts[2].stop()
    try:
        done = cluster.cli("down", "demo", "-y", code=1)
        assert hosts[2].address in done.stderr and "--abandon HOST" in done.stderr
    finally:
        hosts[2].start()
    assert traces(hosts[0]) == [] == traces(hosts[1])
    from tests.support.ssh_hosts import wait_for_sshd

    wait_for_sshd([hosts[2]])
    cluster.down()
    assert traces(hosts[2]) == []


def test_a_host_behind_a_jump_host_and_an_inventory_file(cluster: SshCluster, hosts: list[SshHost]) -> None:
    """The file has a name that only the SSH configuration knows, with a jump host on the way."""
    ssh = cluster.user_home / ".ssh"
    (ssh / "config").write_text(f"Host inner\n  HostName {hosts[1].address}\n  ProxyJump tester@{hosts[0].address}\n")
    (cluster.directory / "hosts.txt").write_text(f"{hosts[0].address}\ninner  # behind the first\n")
    cluster.write()
    listed = ", ".join(host.address for host in hosts)
    cluster.spec.write_text(cluster.spec.read_text().replace(f"[{listed}]", "hosts.txt"))
    cluster.spec.write_text(cluster.spec.read_text().replace("min: 0", "min: 2"))
    cluster.up()
    assert {name for name, host in cluster.api_hosts().items() if host["connected"]} == {hosts[0].address, "inner"}
    shells = [cluster.start("ssh", node, stdin=subprocess.PIPE) for node in ("cpu-1", "cpu-2")]
    said = [shell.communicate("hostname; exit 3\n", timeout=120)[0].splitlines()[-1] for shell in shells]
    assert sorted(said) == ["host1", "host2"]
    assert [shell.returncode for shell in shells] == [3, 3]


def test_exec_cp_ssh_and_forward_reach_a_node(cluster: SshCluster, hosts: list[SshHost], tmp_path: Path) -> None:
    cluster.write(low=2)
    cluster.up()
    said = cluster.cli("exec", "cpu-1", "cpu-2", "--", "sh", "-c", 'echo "it\'s"; exit 3', code=3).stdout
    assert said.count("it's") == 2 and "cpu-1: " in said and "ended with 3" in said
    (cluster.directory / "here").write_text("content")
    cluster.cli("cp", "here", "cpu-1:there")
    cluster.cli("cp", "cpu-1:there", "back")
    assert (cluster.directory / "back").read_text() == "content"
    odd = Path(os.fsdecode(b"caf\xe9 \\ \n"))  # no UTF-8, a backslash, a newline
    (cluster.directory / "tree").mkdir()
    (cluster.directory / "tree" / odd).write_bytes(b"\xff")
    cluster.cli("cp", "tree", "cpu-1:tree")
    told = cluster.cli("cp", "cpu-1:tree", "again", code=1).stderr
    assert "a name that is not UTF-8 (caf\\xe9" in told and "Traceback" not in told
    packed = [sys.executable, "-m", "clusterctl", "exec", "cpu-1", "--", "tar", "-c", "tree"]  # what it says to do
    subprocess.run(["tar", "-x", "-C", tmp_path], input=subprocess.check_output(packed, env=cluster.env), check=True)
    assert (tmp_path / "tree" / odd).read_bytes() == b"\xff"
    assert read_json(cluster.place / "tunnel.json")["port"]
    answer = json.loads(cluster.cli("exec", "--all", "--json", "--", "hostname").stdout)
    assert {ran["node"] for ran in answer["nodes"]} == {"head-1", "cpu-1", "cpu-2"}
    check_forward(cluster, hosts)
    check_service(cluster)
    check_dev(cluster)


def check_service(cluster: SshCluster) -> None:
    """One replica on each host; the entry on the head's host reaches both, and this machine reaches the entry."""
    program = ("python3", "-m", "http.server", "8000", "--directory", "/etc")
    cluster.cli("service", "run", "--name", "web", "--replicas", "2", "--port", "8000", "--health", "/", "--", *program)
    forwarder = Forwarder(cluster.start("service", "forward", "web", "--json"), 1)
    try:
        names: set[bytes] = set()
        for _ in range(4):
            with urllib.request.urlopen(f"{forwarder.rows[0]['url']}hostname", timeout=60) as answer:
                names.add(answer.read())
        assert len(names) == 2 and all(name.startswith(b"host") for name in names)
    finally:
        forwarder.process.send_signal(signal.SIGINT)
        forwarder.process.wait(60)
    cluster.cli("service", "stop", "web")


def check_forward(cluster: SshCluster, hosts: list[SshHost]) -> None:
    """To a program that listens on its host's own address, with the login ended on the way."""
    address = next(node["address"] for node in cluster.ready_nodes() if node["id"] == "cpu-2")
    (host,) = [host for host in hosts if host.address == address]
    job = cluster.submit("--nodes", "2", "--", "python3", "-u", "-c", ECHO, "0.0.0.0", "7070")
    wait_until(lambda: cluster.cli("logs", job).stdout.count("7070") == 2, what="both listen")
    forwarder = Forwarder(cluster.start("forward", "--json", "0:7070", "0:7071", "cpu-2"), 2)
    try:
        noise = os.urandom(8_000_000)
        assert talk(forwarder.ports[0], noise) == noise + b"bye"
        assert talk(forwarder.ports[1], b"x") == b""
        forwarder.wait_said("nothing takes connections on port 7071 of cpu-2")
        before = host.container.logs().count(b"Accepted publickey")
        host.run("pkill", "-f", "^sshd: tester")
        assert talk(forwarder.ports[0], b"again") == b"againbye"
        assert host.container.logs().count(b"Accepted publickey") == before + 1
        assert forwarder.end(signal.SIGINT) == 0
    finally:
        forwarder.process.kill()
        forwarder.process.communicate()
        cluster.cli("job", "cancel", job)


def check_dev(cluster: SshCluster) -> None:
    """By an SSH server of the job's own, as a user who is not root."""
    shell = cluster.start("dev", stdin=subprocess.PIPE)
    said, told = shell.communicate("echo on-$CLUSTERCTL_NODE_ID; id -un\n")
    assert shell.returncode == 0 and said.split()[0] in ("on-cpu-1", "on-cpu-2") and said.split()[1] == "tester", told
    assert "by the way of" not in told and f"{said.split()[0][3:]} is let go" in told


def _decoded(host_key: str) -> bytes:
    import base64

    return base64.b64decode(host_key.split()[1])
