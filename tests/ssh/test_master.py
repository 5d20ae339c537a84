"""OpenSSH's own client is the way to a host that paramiko cannot log in to, with the same checks and no trace afterwards."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import paramiko
import pytest

from clusterctl.provision.ssh.connection import Connection, HostTrouble, connect
from clusterctl.provision.ssh.gateways import Gateways
from clusterctl.provision.ssh.hostkeys import Trust, fingerprint
from clusterctl.provision.ssh.master import Master, can_more
from clusterctl.provision.ssh.target import Config, Target
from tests.ssh.test_logins import echo_server
from tests.support.cluster import wait_until
from tests.support.local_sshd import LocalSshd, keygen

ONLY_OPENSSH = "Ciphers chacha20-poly1305@openssh.com"
LOGS = {"do": "logs"}


@pytest.fixture
def sshd(tmp_path: Path) -> Iterator[LocalSshd]:
    with LocalSshd(tmp_path / "it", ONLY_OPENSSH) as made:
        (made.directory / "known_hosts").write_text(f"[{made.address}]:{made.port} {made.host_key}\n")
        yield made


@pytest.fixture
def made(sshd: LocalSshd) -> Iterator[Connection]:
    with closing(connect(sshd.target(), sshd.trust("known_hosts"))) as connection:
        assert isinstance(connection.transport, Master)
        yield connection


def clients(sshd: LocalSshd) -> list[str]:
    """Command lines of OpenSSH's clients that lead there."""
    found: list[str] = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            words = path.read_bytes().decode(errors="replace").split("\0")
        except OSError:
            continue
        if str(sshd.port) in words and "ssh" in words:
            found.append(" ".join(words))
    return found


def test_programs_files_and_ports_go_through_one_login(sshd: LocalSshd, made: Connection, tmp_path: Path) -> None:
    with ThreadPoolExecutor(4) as pool:
        assert [answer["log"] for answer in pool.map(lambda _: made.ask(LOGS), range(8))] == [""] * 8
    done = made.run("cat; echo to stderr >&2; exit 255", b"x" * 300_000, timeout=60)
    assert (done.code, done.stdout, done.stderr) == (255, b"x" * 300_000, b"to stderr\n")
    done = made.run("echo read nothing; exit 4", b"x" * 300_000, timeout=60)
    assert (done.code, done.stdout) == (4, b"read nothing\n")
    (tmp_path / "here").write_bytes(b"content" * 10_000)
    with made.files() as files:
        files.put(str(tmp_path / "here"), str(tmp_path / "there"))
        files.get(str(tmp_path / "there"), str(tmp_path / "back"))
    assert (tmp_path / "back").read_bytes() == (tmp_path / "here").read_bytes()
    with echo_server() as port, closing(made.reach(port)) as channel:
        channel.sendall(b"ping")
        assert channel.recv(4) == b"ping"
    assert sshd.log().count("Accepted publickey") == 1 and sshd.dials == 2  # the first showed what is needed


def test_what_a_host_needs_is_known_the_next_time(sshd: LocalSshd) -> None:
    for dials in (2, 3, 4):
        with closing(connect(sshd.target(), sshd.trust())) as made:
            assert isinstance(made.transport, Master)
        assert sshd.dials == dials


def test_nothing_is_left_when_it_is_closed_or_killed(sshd: LocalSshd, made: Connection) -> None:
    place = made.transport._place  # type: ignore[union-attr]  # pyright: ignore
    assert place.stat().st_mode & 0o777 == 0o700 and clients(sshd)
    assert made.transport.is_active()
    made.close()
    assert clients(sshd) == [] and not place.exists() and not made.transport.is_active()
    with pytest.raises(HostTrouble, match="the connection to it broke"):
        made.ask(LOGS)

    target = sshd.target()
    code = (
        "import sys\nfrom pathlib import Path\nfrom clusterctl.provision.ssh.connection import connect\n"
        "from clusterctl.provision.ssh.hostkeys import Trust\nfrom clusterctl.provision.ssh.target import Target\n"
        f"connect({target!r}, Trust('known_hosts', Path({str(sshd.directory / 'known_hosts')!r}), print))\n"
        "print('here', flush=True); sys.stdin.read()\n"
    )
    other = subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    with other:
        assert other.stdout is not None and other.stdout.readline() == b"here\n"
        assert clients(sshd)
        other.kill()
    wait_until(lambda: clients(sshd) == [], what="the client of a killed process ends")


def test_a_login_that_breaks_is_told(sshd: LocalSshd, made: Connection) -> None:
    shell = made.transport._process  # type: ignore[union-attr]  # pyright: ignore
    listed = ["ps", "-o", "pid=,comm=", "--ppid", str(shell.pid)]
    children = [line.split() for line in subprocess.run(listed, capture_output=True, text=True).stdout.splitlines()]
    (client,) = [int(pid) for pid, name in children if name == "ssh"]
    os.kill(client, signal.SIGKILL)
    wait_until(lambda: not made.transport.is_active(), what="its end is seen")
    with pytest.raises(HostTrouble, match="broke"):
        made.ask(LOGS)


# ------------------------------------------------------------ whom it believes


def refused(sshd: LocalSshd, trust: Trust, target: Target | None = None) -> str:
    before = sshd.log().count("Accepted publickey")
    with pytest.raises(HostTrouble) as caught:
        connect(target or sshd.target(), trust).close()
    assert sshd.log().count("Accepted publickey") == before and f"user {sshd.user}" not in sshd.log()
    return str(caught.value)


def test_host_keys_are_judged_as_for_every_other_login(sshd: LocalSshd) -> None:
    known = sshd.directory / "known_hosts"
    name, shown = f"[{sshd.address}]:{sshd.port}", fingerprint(paramiko.PKey.from_path(sshd.directory / "host_key"))
    keygen("-t", "ed25519", "-N", "", "-f", str(sshd.directory / "stranger"))
    stranger = (sshd.directory / "stranger.pub").read_text()
    pinned = sshd.target(host_key=shown)

    known.write_text(f"{name} {stranger}")
    for policy in ("known_hosts", "accept-new"):
        assert "has changed and you have requested strict checking" in refused(sshd, sshd.trust(policy))
    assert "only the fingerprint" in refused(sshd, sshd.trust(), pinned)
    known.write_text(f"{name} {sshd.host_key}\n@revoked * {sshd.host_key}\n")
    assert "evoked" in refused(sshd, sshd.trust())
    known.write_text(f"{name} {sshd.host_key}\n")
    assert "only the fingerprint" in refused(sshd, sshd.trust(), sshd.target(host_key="SHA256:" + "A" * 43))
    known.write_text("")
    assert "is not known: log in once with ssh" in refused(sshd, sshd.trust("known_hosts"))

    known.write_text(f"{name} {stranger}{name} {sshd.host_key}\n")
    connect(pinned, sshd.trust("known_hosts")).close()
    known.write_text("")
    told: list[str] = []
    connect(sshd.target(), sshd.trust("accept-new", told.append)).close()
    assert "never seen before" in told[0] and shown in told[0]
    assert sshd.host_key in known.read_text()
    connect(sshd.target(), sshd.trust("known_hosts", told.append)).close()
    assert len(told) == 1


def test_what_keeps_openssh_out_is_told_as_well(sshd: LocalSshd) -> None:
    keygen("-t", "ed25519", "-N", "secret", "-f", str(sshd.directory / "other"))
    with pytest.raises(HostTrouble) as caught:
        connect(sshd.target(keys=(str(sshd.directory / "other"),)), sshd.trust()).close()
    assert caught.value.code == "no_algorithm" and sshd.dials == 2
    assert "chacha20-poly1305" in str(caught.value) and "Permission denied (publickey" in str(caught.value)
    assert clients(sshd) == []


# ------------------------------------------------------------ by way of others


def test_jump_hosts_may_need_it_and_lead_to_hosts_that_do_not(tmp_path: Path, sshd: LocalSshd) -> None:
    with LocalSshd(tmp_path / "plain") as plain:
        trust = Trust("accept-new", tmp_path / "known", lambda _: None)
        for hop, target in ((sshd, plain), (plain, sshd)):
            gateways = Gateways()
            behind = replace(target.target(), jumps=(hop.target(given="gate"),))
            with closing(connect(behind, trust, gateways=gateways)) as made:
                assert made.ask(LOGS)["log"] == ""
                assert isinstance(made.transport, Master) == (target is sshd)
        nobody = replace(plain.target(port=1), jumps=(sshd.target(given="gate"),))
        with pytest.raises(HostTrouble, match=r"its jump host got no connection to 127.0.0.1:1: .*refused"):
            connect(nobody, trust).close()
    assert clients(sshd) == []


# ------------------------------------------------------------ when it is taken


def test_it_is_taken_for_what_only_it_can_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("KRB5CCNAME", raising=False)
    (tmp_path / ".ssh").mkdir()

    def beyond(text: str) -> tuple[str, ...]:
        (tmp_path / ".ssh" / "config").write_text(text)
        from clusterctl.provision.ssh.inventory import Login

        return Config().target(Login("node")).beyond

    plain, token = Target("n", "n", 22, "u", ()), Target("n", "n", 22, "u", (), beyond=("PKCS11Provider",))
    assert can_more(HostTrouble("no_algorithm", ""), plain)
    assert not can_more(HostTrouble("login", ""), plain) and can_more(HostTrouble("login", ""), token)
    assert not can_more(HostTrouble("silent", ""), token) and not can_more(HostTrouble("second_factor", ""), token)
    assert beyond("Host *\n  PKCS11Provider /usr/lib/token.so\n") == ("PKCS11Provider",)
    assert beyond("Host *\n  GSSAPIAuthentication yes\n") == ()  # nobody has a ticket
    monkeypatch.setenv("KRB5CCNAME", "/nowhere")
    assert beyond("Host *\n  GSSAPIAuthentication yes\n") == ("GSSAPIAuthentication",)
    (tmp_path / ".ssh" / "id_ed25519_sk").write_text("")
    assert beyond("Host *\n  GSSAPIAuthentication no\n") == ("a security key",)
