"""A host that let us in and did not begin our program: what it says is told with what to do about just that."""

from __future__ import annotations

import pytest

from clusterctl.provision.ssh.programs.running import Answered, NotBegun

NOSUID = "sudo: effective uid is not 0, is /usr/bin/sudo on a file system with the 'nosuid' option set or an NFS file system?"
FLAG = 'sudo: The "no new privileges" flag is set, which prevents sudo from running as root.'


@pytest.mark.parametrize(
    ("said", "meant"),
    [
        ("sudo: a password is required", "NOPASSWD"),
        (NOSUID, "`nosuid`"),
        (FLAG, "without new privileges"),
        ("bash: fork: Cannot fork", "ulimit -u"),
        ("Your password has expired.", "change it"),
        ("This account is currently not available.", "nologin"),
    ],
)
def test_each_of_a_hosts_words_has_its_own_advice(said: str, meant: str) -> None:
    text = str(NotBegun(Answered(1, b"", said.encode()), waited=0.0).trouble())
    assert said.rstrip(".?") in text and meant in text
    assert ("NOPASSWD" in text) == (meant == "NOPASSWD")
