"""Logins that fail, or nearly: each is told as what it was, after as few dials as it takes to know."""

from __future__ import annotations

import os
import shutil
import socket
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from clusterctl.provision.ssh import dialing
from clusterctl.provision.ssh.connection import HostTrouble, connect
from clusterctl.provision.ssh.dialing import Patience
from clusterctl.provision.ssh.inventory import parse_login
from clusterctl.provision.ssh.target import Config, Target
from tests.support.local_sshd import LocalSshd, keygen

LOGS = {"do": "logs"}


def refused(sshd: LocalSshd, code: str, patience: Patience | None = None, target: Target | None = None) -> str:
    """What is said of a login that does not succeed."""
    with pytest.raises(HostTrouble) as caught:
        connect(target or sshd.target(), sshd.trust(), patience).close()
    assert caught.value.code == code, caught.value
    return str(caught.value)


def lets_in(sshd: LocalSshd, target: Target | None = None) -> bool:
    with closing(connect(target or sshd.target(), sshd.trust())) as made:
        return made.ask(LOGS)["log"] == ""


# ------------------------------------------------------------ time


def test_a_slow_login_is_waited_for_and_is_not_told_as_a_refused_key(tmp_path: Path) -> None:
    """What sshd asks about a user takes two seconds, as a directory service or a lossy network does."""
    command = f"AuthorizedKeysCommand /bin/sh {tmp_path}/slow"
    with LocalSshd(tmp_path / "it", command, f"AuthorizedKeysCommandUser {os.environ.get('USER') or 'root'}") as sshd:
        (tmp_path / "slow").write_text(f"sleep 2; cat {sshd.key}.pub\n")
        (sshd.directory / "authorized_keys").unlink()
        text = refused(sshd, "slow_login", Patience(login=0.5))
        assert "within 0.5 s" in text and "did not refuse it" in text and "authorized_keys" not in text
        assert lets_in(sshd)


def test_nobody_gives_up_a_login_before_half_a_minute() -> None:
    assert Patience().greet >= 30 and Patience().login >= 30


# ------------------------------------------------------------ algorithms


@pytest.mark.parametrize(
    ("lines", "named"),
    [
        (["Ciphers chacha20-poly1305@openssh.com"], ("cipher: it takes chacha20-poly1305@openssh.com", "aes256-ctr")),
        (["Ciphers aes128-ctr", "MACs umac-128-etm@openssh.com"], ("MAC: it takes umac-128-etm", "hmac-sha2-256")),
        (["KexAlgorithms sntrup761x25519-sha512@openssh.com"], ("key exchange: it takes sntrup761", "curve25519")),
    ],
)
def test_algorithms_that_only_the_server_has_are_named_after_one_dial(
    tmp_path: Path, lines: list[str], named: tuple[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where OpenSSH's client, which has them, is not installed."""
    monkeypatch.setattr(shutil, "which", lambda name, **_: f"/usr/sbin/{name}" if name == "sshd" else None)
    with LocalSshd(tmp_path, *lines) as sshd:
        text = refused(sshd, "no_algorithm")
        assert all(word in text for word in named), text
        assert "kex-strict" not in text and sshd.dials == 1


# ------------------------------------------------------------ what it wants of a user


def test_a_second_factor_is_told_by_its_name(tmp_path: Path) -> None:
    methods = "AuthenticationMethods publickey,password"
    with LocalSshd(tmp_path, methods, "PasswordAuthentication yes") as sshd:
        text = refused(sshd, "second_factor")
        assert f"takes the key {sshd.key}" in text and "wants a second factor: password" in text
        assert sshd.dials == 1


def test_a_server_that_wants_two_keys_gets_two(tmp_path: Path) -> None:
    with LocalSshd(tmp_path, "AuthenticationMethods publickey,publickey") as sshd:
        text = refused(sshd, "second_factor")
        assert "wants one more, by publickey" in text
        keygen("-t", "ed25519", "-N", "", "-f", str(tmp_path / "second"))
        with (tmp_path / "authorized_keys").open("a") as file:
            file.write((tmp_path / "second.pub").read_text())
        assert lets_in(sshd, sshd.target(keys=(str(sshd.key), str(tmp_path / "second"))))


def test_a_server_that_takes_no_keys_says_what_it_takes(tmp_path: Path) -> None:
    with LocalSshd(tmp_path, "PubkeyAuthentication no", "PasswordAuthentication yes") as sshd:
        for target in (sshd.target(), sshd.target(keys=())):
            assert "by no key, only by password" in refused(sshd, "no_keys_taken", target=target)


def test_a_refused_key_says_where_to_look_and_what_the_server_says(tmp_path: Path) -> None:
    (tmp_path / "banner").write_text("Users of \x1b[2Jlab 7 only.\n" + "x" * 65_536 + "\nAsk ann@lab.\n")
    with LocalSshd(tmp_path, f"Banner {tmp_path}/banner", "DenyUsers *") as sshd:
        text = refused(sshd, "login")
        assert "authorized_keys" in text and "AllowUsers" in text and text.endswith("Ask ann@lab.")
        assert "\x1b" not in text and len(text) < 1000
        (tmp_path / "config").write_text((tmp_path / "config").read_text().replace("DenyUsers *", ""))
    (tmp_path / "log").write_text("")
    with sshd:
        assert lets_in(sshd)


def test_too_many_keys_and_a_server_that_hangs_up_on_the_first_are_told_apart(tmp_path: Path) -> None:
    keys = [str(tmp_path / f"other{n}") for n in range(4)]
    with LocalSshd(tmp_path, "MaxAuthTries 3") as sshd:
        for key in keys:
            keygen("-t", "ed25519", "-N", "", "-f", key)
        text = refused(sshd, "login_cut", target=sshd.target(keys=(*keys, str(sshd.key))))
        assert "MaxAuthTries" in text and keys[2] in text and "expired" not in text
        assert sshd.dials == 1
        assert lets_in(sshd, sshd.target(keys=(*keys[:2], str(sshd.key))))
    with LocalSshd(tmp_path / "one", "MaxAuthTries 1") as sshd:
        text = refused(sshd, "login_cut", target=sshd.target(keys=(keys[0],)))
        assert "expired" in text and "after so many keys" not in text


def test_a_certificate_that_has_expired_is_told(tmp_path: Path) -> None:
    with LocalSshd(tmp_path, f"TrustedUserCAKeys {tmp_path}/authority.pub") as sshd:
        for name in ("authority", "mine"):
            keygen("-t", "ed25519", "-N", "", "-f", str(tmp_path / name))
        sign = ("-s", str(tmp_path / "authority"), "-I", "me", "-n", sshd.user, "-V")
        mine = sshd.target(keys=(str(tmp_path / "mine"),))
        keygen(*sign, "20200101:20210301", str(tmp_path / "mine.pub"))
        assert "mine-cert.pub expired on 2021-0" in refused(sshd, "login", target=mine)
        keygen(*sign, "+52w:+53w", str(tmp_path / "mine.pub"))
        assert "mine-cert.pub is valid from 20" in refused(sshd, "login", target=mine)
        keygen(*sign, "+1w", str(tmp_path / "mine.pub"))
        assert lets_in(sshd, mine)


# ------------------------------------------------------------ how much it allows


@pytest.mark.parametrize("ciphers", ["aes256-ctr", "chacha20-poly1305@openssh.com"])  # ours, and OpenSSH's own way
def test_where_one_session_is_allowed_at_a_time_each_waits_for_its_turn(tmp_path: Path, ciphers: str) -> None:
    with (
        LocalSshd(tmp_path, "MaxSessions 1", f"Ciphers {ciphers}") as sshd,
        closing(connect(sshd.target(), sshd.trust())) as made,
    ):
        with ThreadPoolExecutor(6) as pool:
            answers = list(pool.map(lambda _: made.ask(LOGS)["log"], range(12)))
        assert answers == [""] * 12 and sshd.log().count("Accepted publickey") == 1
        assert "no more sessions" in sshd.log()  # it was tried


def test_no_session_at_all_is_told_as_that(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("clusterctl.provision.ssh.connection.TURN_SECONDS", 0.3)
    with (
        LocalSshd(tmp_path, "MaxSessions 0") as sshd,
        closing(connect(sshd.target(), sshd.trust())) as made,
        pytest.raises(HostTrouble, match="MaxSessions in its sshd_config is 0"),
    ):
        made.ask(LOGS)


def test_where_nothing_is_forwarded_and_one_session_allowed_one_way_is_open_at_a_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("clusterctl.provision.ssh.connection.TURN_SECONDS", 0.5)
    lines = ("MaxSessions 1", "AllowTcpForwarding no")
    with (
        LocalSshd(tmp_path, *lines) as sshd,
        closing(connect(sshd.target(), sshd.trust())) as made,
        echo_server() as port,
    ):
        for _ in range(2):
            with closing(made.reach(port)) as channel:
                channel.sendall(b"ping")
                assert channel.recv(4) == b"ping"
                with pytest.raises(HostTrouble, match=r"no more than 1 .*MaxSessions.*AllowTcpForwarding local"):
                    made.reach(port)


# ------------------------------------------------------------ before the login


def test_a_server_that_bans_this_address_is_not_dialled_again(tmp_path: Path) -> None:
    with LocalSshd(tmp_path) as sshd, saying(b"Not allowed at this time\r\n") as fake:
        text = refused(sshd, "banned", target=sshd.target(port=fake.port))
        assert "PerSourcePenalties" in text and fake.dials == 1


def test_a_full_server_is_dialled_again_and_told_in_its_own_words(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dialing, "HUNG_UP_PAUSES", (0.01, 0.01))
    with LocalSshd(tmp_path) as sshd, saying(b"Exceeded MaxStartups\r\n") as fake:
        text = refused(sshd, "hung_up", target=sshd.target(port=fake.port))
        assert "too many logins to it are under way" in text and "fail2ban" not in text and fake.dials == 3


def test_a_server_that_hangs_up_after_it_named_itself_is_dialled_once(tmp_path: Path) -> None:
    with LocalSshd(tmp_path) as sshd, saying(b"SSH-2.0-OpenSSH_9.2\r\n") as fake:
        text = refused(sshd, "cut_off", target=sshd.target(port=fake.port))
        assert "SSH-2.0-OpenSSH_9.2" in text and "MaxStartups" not in text and fake.dials == 1


def test_a_name_that_does_not_exist_and_a_dns_that_does_not_answer_are_told_apart(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with LocalSshd(tmp_path) as sshd:
        for kind, code, word in (
            (socket.EAI_NONAME, "no_name", "spelling"),
            (socket.EAI_AGAIN, "no_dns", "DNS does not answer"),
        ):

            def fail(*_: object, kind: int = kind, **__: object) -> None:
                raise socket.gaierror(kind, "as the resolver says")

            monkeypatch.setattr(socket, "getaddrinfo", fail)
            assert word in refused(sshd, code, target=sshd.target(host="node.lab"))


def test_an_ipv6_address_with_a_zone_is_a_host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    for text, host, port in (
        ("fe80::1%eth0", "fe80::1%eth0", None),
        ("me@[fe80::1%eth0]:2200", "fe80::1%eth0", 2200),
        ("::ffff:10.0.0.7", "::ffff:10.0.0.7", None),
    ):
        login = parse_login(text)
        assert (login.host, login.port) == (host, port)
        assert Config().target(login).host == host
    with LocalSshd(tmp_path / "it", address="::1") as sshd:
        assert lets_in(sshd)


# ------------------------------------------------------------ by way of others


def test_what_fails_at_a_jump_host_is_told_as_the_jump_hosts(tmp_path: Path) -> None:
    with LocalSshd(tmp_path / "it") as sshd, LocalSshd(tmp_path / "jump", "PermitOpen 127.0.0.1:1") as jump:
        trust = jump.trust()
        gate = jump.target(given="gate")
        there = f"127.0.0.1:{sshd.port}"

        def trouble(hop: Target, target: Target) -> tuple[str, str]:
            with pytest.raises(HostTrouble) as caught:
                connect(Target(**{**vars(target), "jumps": (hop,)}), trust).close()
            return caught.value.code, str(caught.value)

        code, text = trouble(gate, sshd.target())
        assert code == "no_forwarding" and f"the jump host 127.0.0.1:{jump.port}" in text
        assert f"no connection to {there}" in text and "PermitOpen" in text
        code, text = trouble(gate, sshd.target(port=1))
        assert code == "unreachable" and f"the jump host 127.0.0.1:{jump.port} got no connection to 127.0.0.1:1" in text
        code, text = trouble(jump.target(keys=(str(sshd.key),)), sshd.target())
        assert code == "login" and text.startswith(f"its jump host 127.0.0.1:{jump.port} does not let")
        code, text = trouble(jump.target(port=1), sshd.target())
        assert code == "no_sshd" and text.startswith("its jump host 127.0.0.1:1 refuses")


def test_a_proxy_command_that_fails_is_told_with_its_last_words(tmp_path: Path) -> None:
    with LocalSshd(tmp_path) as sshd:
        failing = sshd.target(command="sh -c 'echo no such instance >&2; exit 4'")
        text = refused(sshd, "unreachable", target=failing)
        assert "ProxyCommand" in text and "no such instance" in text
        missing = sshd.target(command="/nowhere/connect it")
        assert "cannot be run: No such file" in refused(sshd, "unreachable", target=missing)
        assert sshd.dials == 0


# ------------------------------------------------------------ servers of our own


class Saying:
    """Says some words to whoever calls, and hangs up."""

    def __init__(self, words: bytes) -> None:
        self.dials = 0
        self._words = words
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._listener.getsockname()[1])
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()

    def _serve(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            with client:
                self.dials += 1
                client.sendall(self._words)
                client.shutdown(socket.SHUT_WR)
                while client.recv(1 << 16):
                    pass

    def close(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._thread.join(60)


@contextmanager
def saying(words: bytes) -> Iterator[Saying]:
    with closing(Saying(words)) as made:
        yield made


@contextmanager
def echo_server() -> Iterator[int]:
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            while True:
                try:
                    client, _ = listener.accept()
                except OSError:
                    return
                with client:
                    while data := client.recv(1 << 16):
                        client.sendall(data)

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield listener.getsockname()[1]
        listener.shutdown(socket.SHUT_RDWR)
    thread.join(60)
