"""A setup command has run when it has, whatever the login files of the user do."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from clusterctl_runtime.agent.mounting.mounts import Mounts
from clusterctl_runtime.agent.preparing import package_locks, setup_shell
from clusterctl_runtime.agent.preparing.package_locks import busy, is_locked, patient_environment
from clusterctl_runtime.agent.preparing.prepare import Preparation, about_python
from clusterctl_runtime.agent.preparing.setup_shell import Output

DEADLINE = 60.0


class Watchdog:
    """Notes the groups that are to die with the agent."""

    def __init__(self) -> None:
        self.groups: set[int] = set()

    def add(self, group: int) -> None:
        self.groups.add(group)

    def remove(self, group: int) -> None:
        self.groups.discard(group)

    def write(self) -> None:
        pass


class Room:
    """A node's directory and its user's home. `states`: what the head was told."""

    def __init__(self, directory: Path) -> None:
        self.home, self.files, self.watchdog = directory / "home", directory / "files", Watchdog()
        self.home.mkdir()
        self.env = {"HOME": str(self.home), "PATH": os.environ["PATH"]}
        self.directory = directory
        self.states: list[dict[str, Any]] = []

    def login(self, text: str) -> None:
        (self.home / ".bash_profile").write_text(text)

    def run(self, *commands: str, **plan: Any) -> dict[str, Any]:
        """What became of these commands; the files that they make are in `files`."""

        async def carry_out() -> dict[str, Any]:
            ended = asyncio.Event()

            def changed() -> None:
                self.states.append(dict(preparation.state))
                if preparation.state["state"] in ("done", "failed"):
                    ended.set()

            preparation = Preparation(
                self.files,
                self.directory / "prepared.json",
                None,
                self.watchdog,
                self.env,
                Mounts(self.directory, lambda: None, lambda pid: None),
                changed,  # type: ignore[arg-type]
            )
            preparation.start({"t": "prepare", "digest": "d", "setup": list(commands), **plan})
            await asyncio.wait_for(ended.wait(), DEADLINE)
            return preparation.state

        return asyncio.run(carry_out())


@pytest.fixture
def room(tmp_path: Path) -> Room:
    return Room(tmp_path)


@pytest.mark.parametrize(
    "login", ["exit 0", "exit 3", "exec true", "exec sh", "set -n", "return 2>/dev/null; exit"], ids=str
)
def test_a_command_runs_also_when_the_login_files_end_the_shell_and_that_is_said(room: Room, login: str) -> None:
    room.login(f"{login}\n")
    state = room.run("touch ran; echo it said this")
    assert (room.files / "ran").exists() and state["state"] == "done"
    assert "it said this" in state["output"]
    assert ("the command is run without them" in state["output"]) == (login != "return 2>/dev/null; exit")


@pytest.mark.parametrize(
    "login",
    ["touch() { exit 0; }; printf() { exit 0; }; :() { exit 0; }", "set -eu -o noclobber", "cd /", "set -x", "false"],
)
def test_what_login_files_define_and_set_is_there_and_the_command_runs_once(room: Room, login: str) -> None:
    room.login(f"{login}\nexport FROM_LOGIN=yes\n")
    state = room.run('/bin/echo "$FROM_LOGIN" >> "$CLUSTERCTL_FILES/ran"')
    assert state["state"] == "done" and (room.files / "ran").read_text() == "yes\n"
    assert "without them" not in state["output"]


def test_login_files_that_never_come_back_are_given_up(room: Room, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(setup_shell, "LOGIN_SECONDS", 0.3)
    room.login("sleep 1000\n")
    state = room.run("touch ran")
    assert (room.files / "ran").exists() and state["state"] == "done"
    assert "did not end within 0.3 s: the command is run without them" in state["output"]
    assert not room.watchdog.groups


def test_how_a_command_failed_is_its_own_word(room: Room) -> None:
    assert room.run("exit 7")["error"] == "setup command 1 (`exit 7`) ended with exit code 7"
    assert room.run("kill -9 $$")["error"].endswith("was ended by signal 9")
    assert "exit code 2" in room.run("if true")["error"]
    assert room.run("sleep 1000", timeout=0.3)["error"].endswith("took over 0.3 s")


def test_a_command_that_asks_gets_the_end_of_its_input(room: Room) -> None:
    assert room.run('read answer || echo "nobody answers"')["output"].endswith("nobody answers\n")


def test_output_that_is_no_text_is_shown_and_stops_nothing(room: Room) -> None:
    state = room.run(r"printf 'caf\351 \360\237\230\200\n'")
    assert state["state"] == "done" and "caf\\xe9 😀\n" in state["output"]


def test_what_is_left_in_the_background_holds_nothing_up_and_may_go_on_printing(
    room: Room, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(setup_shell, "LINGER_SECONDS", 0.2)
    daemon = "(until [ -e next ]; do sleep 0.02; done; head -c 300000 /dev/zero && echo alive > printed) & echo left"
    state = room.run(daemon, "touch next; until [ -s printed ]; do sleep 0.02; done")
    assert state["state"] == "done" and "what this started in the background goes on" in state["output"]
    assert len(state["output"]) < 10_000


def test_the_engines_programs_come_first_whatever_the_login_files_make_of_the_path(room: Room, tmp_path: Path) -> None:
    programs = tmp_path / "it's the engine's" / "bin"
    programs.mkdir(parents=True)
    (programs / "pip").write_text('#!/bin/sh\necho "the engine\'s pip"\n')
    (programs / "pip").chmod(0o755)
    room.login("PATH=/usr/bin:/bin\n")
    state = room.run("pip install x", engine=True, python=str(programs / "python"))
    assert "the engine's pip" in state["output"]
    assert f"python and pip are first looked for in {programs}" in state["output"]


def test_where_pip_does_not_help_the_jobs_that_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("clusterctl_runtime.agent.preparing.prepare.installed_ray", lambda: ("", []))
    assert "jobs under Ray do not see it" in about_python({"engine": True})
    assert about_python({"engine": False}) == about_python({}) == ""
    monkeypatch.setattr("clusterctl_runtime.agent.preparing.prepare.installed_ray", lambda: ("2.60.0", ["default"]))
    assert str(Path(sys.executable).parent) in about_python({"engine": True})


APT = """\
E: Could not get lock /var/lib/dpkg/lock-frontend. It is held by process 812 (unattended-upgr)
N: Be aware that removing the lock file is not a solution and may break your system.
E: Unable to acquire the dpkg frontend lock (/var/lib/dpkg/lock-frontend), is another process using it?
"""


@pytest.mark.parametrize(
    "said, holder",
    [
        (APT, "the lock /var/lib/dpkg/lock-frontend, which process 812 (unattended-upgr) holds"),
        ("E: Could not get lock /var/lib/apt/lists/lock - open (11: Resource temporarily unavailable)\n"
         "E: Unable to lock directory /var/lib/apt/lists/\n", "the lock /var/lib/apt/lists/lock"),
        ("dpkg: error: dpkg frontend lock was locked by another process with pid 99\n",
         "the lock of the package manager, which process 99 holds"),
        ("System management is locked by the application with pid 41 (zypper).\n",
         "the lock of the package manager, which process 41 holds"),
        ("ERROR: Unable to lock database: Resource temporarily unavailable\n", "the lock of the package manager"),
        (APT + "line\n" * 20 + "E: Unable to locate package tre\n", ""),
        ("E: Could not open lock file /var/lib/dpkg/lock-frontend - open (13: Permission denied)\n"
         "E: Unable to acquire the dpkg frontend lock (/var/lib/dpkg/lock-frontend), are you root?\n", ""),
        ("no such file\n", ""),
    ],
)  # fmt: skip
def test_a_lock_that_was_taken_is_told_from_other_troubles_with_who_has_it(said: str, holder: str) -> None:
    assert busy(said.encode()) == holder


def test_a_lock_that_a_package_manager_found_taken_is_waited_for_and_then_it_runs_again(
    room: Room, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, locked: Callable[[Path], None]
) -> None:
    monkeypatch.setattr(package_locks, "LOOK_SECONDS", 0.02)
    lock = tmp_path / "lock-frontend"
    held = locked(lock)
    assert is_locked(lock)
    before = package_locks.is_locked
    looks: list[Path] = []

    def looked(path: Path) -> bool | None:
        looks.append(path)
        if len(looks) == 4:
            held.release()  # type: ignore[attr-defined]
        return before(path)

    monkeypatch.setattr(package_locks, "is_locked", looked)
    refuses = f"E: Could not get lock {lock}. It is held by process 812 (unattended-upgr)"
    state = room.run(f"echo try >> tries; flock -n -x {lock} true || {{ echo '{refuses}' >&2; exit 100; }}")
    assert state["state"] == "done", state
    assert (room.files / "tries").read_text() == "try\ntry\n" and set(looks) == {lock}
    assert any(told.get("step", "").endswith(f"; waits for the lock {lock}, which process 812 (unattended-upgr) holds")
               for told in room.states)  # fmt: skip
    assert "waits" not in state["step"] and "it is run again when it can have the lock" in state["output"]


def test_a_lock_that_is_never_free_is_the_commands_failure_in_the_end(
    room: Room, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("clusterctl_runtime.agent.preparing.prepare.WAIT_SECONDS", 0.2)
    state = room.run("echo 'Unable to lock database' >&2; exit 99")
    assert state["error"].endswith("ended with exit code 99")


def test_package_managers_are_told_to_wait_unless_the_user_told_them_something(tmp_path: Path) -> None:
    told = patient_environment({"DEBIAN_FRONTEND": "readline"}, tmp_path)
    assert set(told) == {"APT_CONFIG", "ZYPP_LOCK_TIMEOUT"}
    assert 'DPkg::Lock::Timeout "900";' in Path(told["APT_CONFIG"]).read_text()
    assert "APT_CONFIG" not in patient_environment({"APT_CONFIG": "/mine"}, tmp_path)


def test_a_package_manager_that_waits_by_itself_is_seen_to_wait(room: Room) -> None:
    waiting = "Waiting for cache lock: Could not get lock /var/lib/dpkg/lock. It is held by process 7 (apt)... 0s"
    room.run(
        f"printf '{waiting}\\r'; until [ -e seen ]; do sleep 0.01; touch seen; done; echo Reading package lists..."
    )
    steps = [state.get("step", "") for state in room.states]
    assert any(step.endswith("; waits for the lock /var/lib/dpkg/lock, which process 7 (apt) holds") for step in steps)
    assert "waits" not in steps[-1]


def test_of_a_long_output_the_beginning_and_the_end_are_kept() -> None:
    output = Output()
    for number in range(100_000):
        output.add(b"line %d\n" % number)
    text = output.text()
    assert text.startswith("line 0\n") and text.endswith("line 99999\n") and "bytes of output left out here" in text
    assert output.end(12) == b"\nline 99999\n"


class Held:
    def __init__(self, path: Path) -> None:
        self._file = path.open("w")
        import fcntl

        fcntl.flock(self._file, fcntl.LOCK_EX)

    def release(self) -> None:
        self._file.close()


@pytest.fixture
def locked() -> Any:
    held: list[Held] = []

    def lock(path: Path) -> Held:
        held.append(Held(path))
        return held[-1]

    yield lock
    for each in held:
        each.release()
