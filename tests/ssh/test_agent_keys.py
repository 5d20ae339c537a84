"""A key of the spec whose private half only ssh-agent can use: with a passphrase, or not on this disk at all."""

from __future__ import annotations

import base64
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from clusterctl.provision.ssh.identities import KeyTrouble, identities
from clusterctl.provision.ssh.target import Target
from tests.support.cluster import wait_until


@pytest.fixture
def keys(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A directory with two keys that an agent has: `locked` with a passphrase, `away` without its private half."""
    socket = tmp_path / "agent"
    agent = subprocess.Popen(["ssh-agent", "-D", "-a", str(socket)], stdout=subprocess.DEVNULL)
    try:
        wait_until(socket.exists, what="the agent's socket")
        monkeypatch.setenv("SSH_AUTH_SOCK", str(socket))
        for name in ("locked", "away", "other"):
            key = str(tmp_path / name)
            subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", key], check=True)
            subprocess.run(["ssh-add", "-q", key], check=True, env=os.environ)
        subprocess.run(["ssh-keygen", "-q", "-p", "-N", "secret", "-f", str(tmp_path / "locked")], check=True)
        (tmp_path / "away").unlink()
        yield tmp_path
    finally:
        agent.terminate()
        agent.wait()


def offered(path: Path) -> tuple[list[bytes], list[str]]:
    tried: list[str] = []
    target = Target(
        "host", "host", 22, "me", (str(path),), all_of_agent=False, agent=os.environ.get("SSH_AUTH_SOCK", "")
    )
    return [key.asbytes() for key in identities(target, tried)], tried


@pytest.mark.parametrize("name", ["locked", "away", "away.pub"])
def test_the_agent_signs_for_the_key_that_the_spec_names_and_for_no_other(keys: Path, name: str) -> None:
    (found,), tried = offered(keys / name)
    public = (keys / f"{name.removesuffix('.pub')}.pub").read_text().split()[1]
    assert found == base64.b64decode(public)
    assert tried == [f"{keys / name} (by ssh-agent)"]


def test_a_key_that_is_nowhere_is_told(keys: Path) -> None:
    with pytest.raises(KeyTrouble, match="is not there"):
        offered(keys / "missing")


def test_a_key_with_a_passphrase_that_no_agent_has_says_what_to_do(keys: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SSH_AUTH_SOCK")
    found, tried = offered(keys / "locked")
    assert found == [] and "ssh-add" in tried[0]
