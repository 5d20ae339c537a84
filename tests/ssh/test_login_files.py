"""Whatever a user's login files do, our program runs or a sentence says what is in its way; and they never get hold of it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from clusterctl.provision.ssh import connection
from clusterctl.provision.ssh.connection import HostTrouble, connect
from clusterctl.provision.ssh.programs import running
from tests.support.local_sshd import LocalSshd

LOGS = {"do": "logs"}  # the smallest request


@pytest.fixture
def sshd(tmp_path: Path) -> Iterator[LocalSshd]:
    with LocalSshd(tmp_path) as made:
        yield made


@pytest.fixture
def in_a_hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    """What waits for ever is found out sooner."""
    monkeypatch.setattr(connection, "READY_PATIENCE", (1.0, 5.0))
    monkeypatch.setattr(running, "AT_ONCE", 0.5)


def ask(sshd: LocalSshd, bashrc: str = "", **request: Any) -> dict[str, Any]:
    (sshd.home / ".bashrc").write_text(bashrc)
    with closing(connect(sshd.target(), sshd.trust())) as made:
        return made.ask({**LOGS, **request})


@pytest.mark.parametrize(
    "bashrc",
    [
        'echo "Welcome to lab 7"; echo \'{"ok": false, "error": "no"}\'',
        'trap \'echo; echo "{\\"ok\\": false, \\"error\\": \\"bye\\"}"; echo Bye\' EXIT',
        "printf 'no end of line'; trap 'printf \"and none here\"' EXIT",
        "head -c 300000 /dev/zero; echo $'\\xff\\xfe'",
        "set -xv",
        "cd /tmp; umask 077; export PYTHONPATH=/nowhere PYTHONSTARTUP=/nowhere",
        "python3() { echo mine; }; alias sh='echo no'",
        "( sleep 0.2; echo late ) &",
    ],
)
def test_login_files_that_print_at_any_time_do_not_spoil_an_answer(sshd: LocalSshd, bashrc: str) -> None:
    assert ask(sshd, bashrc)["log"] == ""


@pytest.mark.parametrize(
    "bashrc", ["exec bash", "exec bash --norc", "exec sh", "cat >> ~/stolen; true", "exec cat >> ~/stolen"]
)
def test_login_files_that_run_another_shell_or_read_get_nothing_of_ours(
    sshd: LocalSshd, in_a_hurry: None, bashrc: str
) -> None:
    """Sent at once, our program would be run as commands of that shell."""
    with pytest.raises(HostTrouble, match=r"nothing was sent to it.*waits for input, runs another shell") as caught:
        ask(sshd, bashrc)
    assert caught.value.code == "no_shell" and "~/.bashrc" in str(caught.value)
    assert not (sshd.home / ".clusterctl-host").exists()
    stolen = sshd.home / "stolen"
    assert not stolen.exists() or stolen.read_bytes() == b""


def test_a_login_file_that_asks_a_question_is_told(sshd: LocalSshd, in_a_hurry: None) -> None:
    with pytest.raises(HostTrouble, match="waits for input"):
        ask(sshd, "read -r -p 'Which project? ' project")
    assert sshd.dials == 1


def test_login_files_that_are_only_slow_are_waited_for(sshd: LocalSshd, in_a_hurry: None) -> None:
    assert ask(sshd, "sleep 2")["log"] == ""
    assert sshd.dials == 1


@pytest.mark.parametrize("bashrc", ["exit 0", "echo only for people; exit 3", "exec true", "exec echo no shell here"])
def test_login_files_that_end_the_shell_are_told_with_what_to_guard(sshd: LocalSshd, bashrc: str) -> None:
    with pytest.raises(HostTrouble) as caught:
        ask(sshd, bashrc)
    text = str(caught.value)
    assert "`exit`" in text and "~/.bashrc" in text and "[[ $- == *i* ]] || return" in text
    assert ("only for people" in text) == ("people" in bashrc) and ("exit code 3" in text) == ("exit 3" in bashrc)


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("ForceCommand echo 'Only git is served here.'; exit 1", "Only git is served here"),
        ("ForceCommand internal-sftp", "sftp"),
        ("ForceCommand /usr/sbin/nologin", "not available"),
        ("ForceCommand echo 'WARNING: Your password has expired.' >&2; exit 1", "log in with `ssh` at a terminal"),
        ("ForceCommand echo 'bash: fork: retry: Resource temporarily unavailable' >&2; exit 254", "ulimit -u"),
    ],
)
def test_what_stands_in_the_way_of_a_command_is_quoted(tmp_path: Path, line: str, said: str) -> None:
    with LocalSshd(tmp_path, line) as sshd:
        with pytest.raises(HostTrouble) as caught:
            ask(sshd)
        assert said in str(caught.value), caught.value
        assert sshd.dials == 1


def test_a_restricted_shell_serves_and_a_python_is_found_outside_of_path(tmp_path: Path) -> None:
    here = tmp_path / "bin"
    here.mkdir()
    for name in ("sh", "id", "uname"):
        (here / name).symlink_to(f"/bin/{name}" if name == "sh" else f"/usr/bin/{name}")
    force = f'ForceCommand PATH={here} exec /bin/bash -r -c "$SSH_ORIGINAL_COMMAND"'
    with LocalSshd(tmp_path, force) as sshd:
        assert ask(sshd)["log"] == ""


def test_the_command_line_has_nothing_that_shells_read_differently() -> None:
    """One line in single quotes for sh: fish takes backslashes in them, csh exclamation marks and the ends of lines."""
    outer = re.fullmatch(r"sh -c '([^']*)'", running.FIND_PYTHON)
    assert outer is not None
    assert not set("\\!\n`") & set(running.FIND_PYTHON)


def test_a_program_that_dies_there_leaves_its_last_words(sshd: LocalSshd) -> None:
    with pytest.raises(HostTrouble, match=r"ended there \(exit code 1\) without an answer: .*KeyError") as caught:
        ask(sshd, do="nothing-of-ours")
    assert caught.value.code == "no_answer"


@pytest.mark.parametrize("ciphers", ["", "Ciphers chacha20-poly1305@openssh.com"])
def test_a_server_that_copies_no_files_is_told_as_that(tmp_path: Path, ciphers: str) -> None:
    with LocalSshd(tmp_path, *filter(None, [ciphers])) as sshd:
        with closing(connect(sshd.target(), sshd.trust())) as made, made.files() as files:
            assert "config" in files.listdir(str(tmp_path))
        config = tmp_path / "config"
        config.write_text(config.read_text().replace("Subsystem sftp internal-sftp", ""))
    (tmp_path / "log").write_text("")
    with (
        sshd,
        closing(connect(sshd.target(), sshd.trust())) as made,
        pytest.raises(HostTrouble, match="no `Subsystem sftp internal-sftp`"),
        made.files(),
    ):
        pass
