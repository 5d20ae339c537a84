"""The user's own SSH set-up counts as it does for `ssh`: configuration, agents, passphrases, certificates, host keys."""

from __future__ import annotations

import base64
import os
import subprocess
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import paramiko
import pytest

from clusterctl.core.errors import UsageError
from clusterctl.provision.ssh.connection import HostTrouble, connect
from clusterctl.provision.ssh.hostkeys import Distrusted, Trust, fingerprint
from clusterctl.provision.ssh.inventory import Login
from clusterctl.provision.ssh.knownhosts import read_known_hosts
from clusterctl.provision.ssh.target import Config, Target
from tests.ssh.cluster import sshd_option
from tests.support.cluster import wait_until
from tests.support.ssh_hosts import SshHost, new_key

PHRASE = "correct horse"


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    made = tmp_path / "home"
    (made / ".ssh").mkdir(parents=True, mode=0o700)
    monkeypatch.setenv("HOME", str(made))
    monkeypatch.delenv("SSH_AUTH_SOCK", raising=False)
    return made


@pytest.fixture
def agent(tmp_path: Path) -> Iterator[str]:
    """An ssh-agent at a socket of its own; in nobody's environment."""
    path = tmp_path / "agent"
    process = subprocess.Popen(["ssh-agent", "-D", "-a", str(path)], stdout=subprocess.DEVNULL)
    try:
        wait_until(path.exists, what="the agent listens")
        yield str(path)
    finally:
        process.terminate()
        process.wait(60)


def keygen(*arguments: str) -> None:
    subprocess.run(["ssh-keygen", "-q", *arguments], check=True, stdin=subprocess.DEVNULL)


def add(agent: str, key: Path) -> None:
    subprocess.run(["ssh-add", "-q", str(key)], check=True, env={**os.environ, "SSH_AUTH_SOCK": agent})


def locked(host: SshHost, directory: Path) -> Path:
    """The key that the host lets in, with a passphrase."""
    path = directory / "locked"
    path.write_bytes(host.key_path.read_bytes())
    path.chmod(0o600)
    keygen("-p", "-P", "", "-N", PHRASE, "-f", str(path))
    return path


def target_of(home: Path, text: str, login: Login) -> Target:
    path = home / ".ssh" / "config"
    path.write_text(text)
    path.chmod(0o600)
    return Config().target(login)


def logs_in(target: Target, home: Path) -> bool:
    with closing(connect(target, Trust("known_hosts", home / "remembered", print))) as made:
        return made.run("id -un", timeout=120).stdout == b"tester\n"


# ------------------------------------------------------------ the configuration


def test_includes_matches_and_tokens_are_read_as_openssh_reads_them(home: Path) -> None:
    (home / "more").write_text("Host inner\n  HostName 10.1.2.3\n  Port 2200\n")
    text = (
        f"Include {home}/more\n"
        'Match originalhost inner exec "true"\n  User ann\n'
        'Match exec "false"\n  User nobody\n'
        "Host *.lab\n  ProxyCommand connect %h %p %r 100%%\n"
        "Host inner\n  HostKeyAlias the-inner\n  UserKnownHostsFile ~/.ssh/other\n"
    )
    found = target_of(home, text, Login("inner"))
    assert (found.host, found.port, found.user, found.alias) == ("10.1.2.3", 2200, "ann", "the-inner")
    assert f"{home}/.ssh/other" in found.known_hosts and f"{home}/.ssh/known_hosts" not in found.known_hosts
    assert target_of(home, text, Login("a.lab", "me", 23)).command == "connect a.lab 23 me 100%"


def test_what_the_spec_says_wins_and_takes_part_in_matches(home: Path) -> None:
    text = "Match user me\n  Port 2300\nHost *\n  User ann\n  Port 2200\n"
    assert (target_of(home, text, Login("a", "me")).user, target_of(home, text, Login("a", "me")).port) == ("me", 2300)
    assert target_of(home, text, Login("a", "me", 22)).port == 22


def test_a_configuration_that_openssh_refuses_is_named_with_its_line(home: Path) -> None:
    with pytest.raises(UsageError, match=r"line 2: Bad configuration option: nonsense"):
        target_of(home, "Host *\n  Nonsense yes\n", Login("a"))


# ------------------------------------------------------------ keys and agents


def test_a_key_with_a_passphrase_is_taken_from_the_agent_even_if_the_spec_names_it(
    home: Path, hosts: list[SshHost], agent: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    (home / ".ssh" / "known_hosts").write_text(hosts[0].known_hosts_line)
    key = locked(hosts[0], home)
    named = Login(hosts[0].address, "tester", None, str(key))
    with pytest.raises(HostTrouble, match=rf"has a passphrase, and no ssh-agent runs .*: ssh-add {key}"):
        logs_in(Config().target(named), home)
    monkeypatch.setenv("SSH_AUTH_SOCK", agent)
    with pytest.raises(HostTrouble, match="has a passphrase, and ssh-agent does not have it"):
        logs_in(Config().target(named), home)
    key_of_nobody = home / "other"
    keygen("-t", "ed25519", "-N", "", "-f", str(key_of_nobody))
    add(agent, key_of_nobody)
    keygen("-p", "-P", PHRASE, "-N", "", "-f", str(key))
    add(agent, key)
    keygen("-p", "-P", "", "-N", PHRASE, "-f", str(key))
    assert logs_in(Config().target(named), home)


def test_the_agent_that_the_configuration_names_is_asked_for_a_key_whose_public_half_is_here(
    home: Path, hosts: list[SshHost], agent: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As with hardware keys and password managers: no private key is on this machine."""
    (home / ".ssh" / "known_hosts").write_text(hosts[0].known_hosts_line)
    add(agent, hosts[0].key_path)
    public = subprocess.run(["ssh-keygen", "-y", "-f", str(hosts[0].key_path)], capture_output=True, check=True)
    (home / "work.pub").write_bytes(public.stdout)
    text = f"Host *\n  User tester\n  IdentityAgent {agent}\n  IdentitiesOnly yes\n  IdentityFile {home}/work"
    assert logs_in(target_of(home, text, Login(hosts[0].address)), home)
    assert logs_in(target_of(home, f"{text}.pub\n", Login(hosts[0].address)), home)
    monkeypatch.setenv("SSH_AUTH_SOCK", agent)
    with pytest.raises(HostTrouble, match="only its public half is there, and no ssh-agent runs"):
        logs_in(target_of(home, f"IdentityAgent none\n{text}", Login(hosts[0].address)), home)


def test_a_users_certificate_lets_in_where_the_key_alone_does_not(home: Path, hosts: list[SshHost]) -> None:
    (home / ".ssh" / "known_hosts").write_text(hosts[0].known_hosts_line)
    for name in ("authority", "mine"):
        keygen("-t", "ed25519", "-N", "", "-f", str(home / name))
    keygen("-s", str(home / "authority"), "-I", "me", "-n", "tester", str(home / "mine.pub"))
    login = Login(hosts[0].address, "tester", None, str(home / "mine"))
    with sshd_option(hosts[0], "TrustedUserCAKeys /etc/ssh/users", {"users": (home / "authority.pub").read_bytes()}):
        assert logs_in(Config().target(login), home)
        (home / "mine-cert.pub").rename(home / "elsewhere")
        with pytest.raises(HostTrouble, match="does not let 'tester' in"):
            logs_in(Config().target(login), home)
        assert logs_in(target_of(home, f"CertificateFile {home}/elsewhere\n", login), home)


# ------------------------------------------------------------ host keys


def test_a_host_with_a_certificate_is_believed_by_its_authority_and_for_its_name_only(
    home: Path, hosts: list[SshHost]
) -> None:
    host, known = hosts[0], home / ".ssh" / "known_hosts"
    keygen("-t", "ed25519", "-N", "", "-f", str(home / "authority"))
    (home / "host.pub").write_text(f"{host.host_key}\n")
    authority = (home / "authority.pub").read_text()
    login = Login(host.address, "tester", None, str(host.key_path))

    def signed(*options: str) -> bytes:
        keygen("-s", str(home / "authority"), "-I", "it", "-h", *options, str(home / "host.pub"))
        return (home / "host-cert.pub").read_bytes()

    option = "HostCertificate /etc/ssh/it-cert.pub"
    with sshd_option(host, option, {"it-cert.pub": signed("-n", f"other,{host.address}")}):
        known.write_text(f"@cert-authority 10.*,!*.255 {authority}")
        assert logs_in(Config().target(login), home)
        known.write_text(f"@cert-authority *.lab {authority}")
        with pytest.raises(HostTrouble, match="is not known"):
            logs_in(Config().target(login), home)
        known.write_text(f"@cert-authority * {new_key()[1]}\n")
        with pytest.raises(HostTrouble, match="signed by an authority that is not known for it"):
            logs_in(Config().target(login), home)
        known.write_text(f"@cert-authority * {authority}@revoked * {authority}")
        with pytest.raises(HostTrouble, match="revoked"):
            logs_in(Config().target(login), home)
        known.write_text(f"{host.known_hosts_line}\n")
        assert logs_in(Config().target(login), home)
    known.write_text(f"@cert-authority * {authority}")
    for bad, why in (
        (("-n", "other"), "is for other, and not for"),
        (("-V", "20200101:20210101"), "not valid at this time"),
    ):
        with (
            sshd_option(host, option, {"it-cert.pub": signed(*bad)}),
            pytest.raises(HostTrouble, match=why),
        ):
            logs_in(Config().target(login), home)


@pytest.fixture
def key() -> paramiko.PKey:
    return paramiko.Ed25519Key(data=_blob(new_key()[1]))


def _blob(public: str) -> bytes:
    return base64.b64decode(public.split()[1])


def judge(home: Path, lines: list[str], key: paramiko.PKey, *, policy: str = "known_hosts", port: int = 22) -> None:
    path = home / "known"
    path.write_text("".join(f"{line}\n" for line in lines))
    target = Target("Node1.lab", "Node1.lab", port, "u", (), known_hosts=(str(path),))
    Trust(policy, home / "remembered", lambda _: None).check(target, key)


def test_lines_of_known_hosts_mean_what_they_mean_to_openssh(home: Path, key: paramiko.PKey) -> None:
    own, other = f"{key.get_name()} {key.get_base64()}", new_key()[1]
    (home / "hashed").write_text(f"node1.lab {own}\n[node1.lab]:2200 {own}\n")
    keygen("-H", "-f", str(home / "hashed"))
    hashed = (home / "hashed").read_text().splitlines()
    assert "node1" not in hashed[0]
    for lines in (
        [f"node1.lab {own}"],
        [f"other,node1.lab\t{own} a comment"],
        ["# nothing", "", "garbage", "node1.lab ssh-ed25519 ???", f"*.lab,!node2.* {own}"],
        [f"node1.lab {other}", f"node1.lab {own}"],  # one of several
        hashed[:1],
    ):
        judge(home, lines, key)
    for lines in ([f"[node1.lab]:2200 {own}"], hashed[1:], [f"node1.lab {own}"]):
        judge(home, lines, key, port=2200)
    for lines, why in (
        ([f"node2.lab {own}"], "is not known"),
        ([f"*.lab,!node1.* {own}"], "is not known"),
        ([f"[node1.lab]:2200 {own}"], "is not known"),
        ([f"node1.lab {other}"], "CHANGED"),
        ([f"node1.lab {own}", f"@revoked * {own}"], "revoked"),
    ):
        with pytest.raises(Distrusted, match=why):
            judge(home, lines, key)
    assert read_known_hosts(home / "not-there") == []


def test_a_known_host_that_shows_a_key_of_another_kind_is_no_new_host(home: Path, key: paramiko.PKey) -> None:
    """Whoever is in between has no key of the known kind, and offers another."""
    rsa = paramiko.RSAKey.generate(2048)
    known = f"node1.lab {key.get_name()} {key.get_base64()}"
    with pytest.raises(Distrusted, match="CHANGED"):
        judge(home, [known], rsa, policy="accept-new")
    assert not (home / "remembered").exists()
    judge(home, [], rsa, policy="accept-new")
    assert (home / "remembered").read_text().startswith("node1.lab ssh-rsa ")


def test_a_revoked_key_is_refused_even_if_it_is_pinned(home: Path, key: paramiko.PKey) -> None:
    (home / "known").write_text(f"@revoked node1.lab {key.get_name()} {key.get_base64()}\n")
    target = Target("n", "node1.lab", 22, "u", (), host_key=fingerprint(key), known_hosts=(str(home / "known"),))
    trust = Trust("accept-new", home / "remembered", lambda _: None)
    with pytest.raises(Distrusted, match="revoked"):
        trust.check(target, key)
    trust.check(replace(target, known_hosts=()), key)
