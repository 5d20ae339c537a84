"""Locks between real processes."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from clusterctl_runtime.files.lock import LockHeld, is_held, take, wait_for

HOLDER = """
import sys
from pathlib import Path
from clusterctl_runtime.files.lock import take
take(Path(sys.argv[1]), "the other one")
print("held", flush=True)
sys.stdin.read()
"""
SECONDS = 60.0


@pytest.fixture
def holder(tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    """A process that holds `lock`; it lets go when it is killed."""
    argv = [sys.executable, "-c", HOLDER, str(tmp_path / "lock")]
    process = subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None and process.stdin is not None
    assert process.stdout.readline() == "held\n"
    yield process
    process.kill()
    process.wait()
    process.stdin.close()
    process.stdout.close()


def test_another_process_is_refused_and_told_who_has_it(tmp_path: Path, holder: subprocess.Popen[str]) -> None:
    assert is_held(tmp_path / "lock")
    with pytest.raises(LockHeld) as refusal:
        take(tmp_path / "lock")
    assert refusal.value.note == "the other one"


def test_it_is_free_as_soon_as_its_holder_is_killed(tmp_path: Path, holder: subprocess.Popen[str]) -> None:
    holder.kill()
    holder.wait()
    with take(tmp_path / "lock", "me"):
        assert (tmp_path / "lock").read_text() == "me"
        assert is_held(tmp_path / "lock")
    assert not is_held(tmp_path / "lock")


def test_who_waits_says_so_once_and_gets_it_when_it_is_free(tmp_path: Path, holder: subprocess.Popen[str]) -> None:
    waits, got = threading.Event(), threading.Event()

    def wait() -> None:
        with wait_for(tmp_path / "lock", waits.set):
            got.set()

    thread = threading.Thread(target=wait)
    thread.start()
    assert waits.wait(SECONDS) and not got.is_set()
    holder.kill()
    assert got.wait(SECONDS)
    thread.join(SECONDS)


def test_who_need_not_wait_says_nothing(tmp_path: Path) -> None:
    with wait_for(tmp_path / "lock", lambda: pytest.fail("it was free")):
        pass


def test_two_threads_of_one_process_exclude_each_other(tmp_path: Path) -> None:
    with take(tmp_path / "lock"), pytest.raises(LockHeld):
        take(tmp_path / "lock")


def test_a_child_that_inherits_it_holds_it_on(tmp_path: Path) -> None:
    with take(tmp_path / "lock") as lock:
        child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE, pass_fds=[lock.fileno()])
    try:
        assert is_held(tmp_path / "lock")
    finally:
        child.kill()
        child.communicate()
    assert not is_held(tmp_path / "lock")


def test_no_child_holds_it_by_accident(tmp_path: Path) -> None:
    with take(tmp_path / "lock"):
        argv = [sys.executable, "-c", "print('runs', flush=True); input()"]
        child = subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, close_fds=False)
    try:
        assert child.stdout is not None and child.stdout.readline()
        assert not is_held(tmp_path / "lock")
    finally:
        child.kill()
        child.communicate()


def test_a_look_makes_no_file_and_a_refused_one_leaks_no_descriptor(tmp_path: Path) -> None:
    assert not is_held(tmp_path / "lock") and not (tmp_path / "lock").exists()
    with take(tmp_path / "lock"):
        before = len(list(Path("/dev/fd").iterdir()))
        for _ in range(5):
            with pytest.raises(LockHeld):
                take(tmp_path / "lock")
            is_held(tmp_path / "lock")
        assert len(list(Path("/dev/fd").iterdir())) == before


def test_a_link_is_no_lock(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").touch()
    (tmp_path / "lock").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(OSError):
        take(tmp_path / "lock", "overwritten")
    assert (tmp_path / "elsewhere").read_text() == ""
