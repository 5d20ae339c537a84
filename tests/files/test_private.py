"""Files that are replaced in one step: the old one or the new one, whole, for their owner's eyes only."""

from __future__ import annotations

import errno
import os
import signal
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from clusterctl_runtime.files import private
from clusterctl_runtime.files.private import make_private_dir, part_of, put_in_place, replacing, write_private

KILLED_AT_FSYNC = """
import os, signal, sys
from pathlib import Path
from clusterctl_runtime.files.private import write_private
left, fsync = int(sys.argv[2]), os.fsync
def dying(descriptor):
    global left
    left -= 1
    if not left:
        os.kill(os.getpid(), signal.SIGKILL)
    fsync(descriptor)
os.fsync = dying
write_private(Path(sys.argv[1]), "new")
"""
KILLED_WHILE_WRITING = """
import os, signal, sys
from pathlib import Path
from clusterctl_runtime.files.private import replacing
with replacing(Path(sys.argv[1])) as file:
    file.write(b"ne")
    file.flush()
    os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.fixture(params=[0o000, 0o022, 0o177])
def umask(request: pytest.FixtureRequest) -> Iterator[int]:
    before = os.umask(request.param)
    yield request.param
    os.umask(before)


def mode_of(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


@pytest.mark.parametrize(
    ("program", "position", "left"),
    [(KILLED_WHILE_WRITING, "", "old"), (KILLED_AT_FSYNC, "1", "old"), (KILLED_AT_FSYNC, "2", "new")],
)
def test_a_writer_that_is_killed_leaves_the_old_file_or_the_new_one(
    tmp_path: Path, program: str, position: str, left: str
) -> None:
    path = tmp_path / "config.json"
    path.write_text("old")
    done = subprocess.run([sys.executable, "-c", program, str(path), position], check=False)
    assert done.returncode == -signal.SIGKILL
    assert path.read_text() == left
    write_private(path, "newer")  # what the dead one left is in nobody's way
    assert path.read_text() == "newer"


def test_the_content_is_on_disk_before_the_name_and_the_name_before_it_returns(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[str] = []
    fsync, replace = os.fsync, Path.replace

    def noting(descriptor: int) -> None:
        state = os.fstat(descriptor)
        seen.append("directory" if stat.S_ISDIR(state.st_mode) else f"file of {state.st_size} bytes")
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", noting)
    monkeypatch.setattr(Path, "replace", lambda self, target: (seen.append("replaced"), replace(self, target))[1])
    write_private(tmp_path / "token", "secret")
    assert seen == ["file of 6 bytes", "replaced", "directory"]


def test_nobody_else_may_read_it_from_its_first_moment_on(
    tmp_path: Path, umask: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    first: list[int] = []
    fchmod = os.fchmod

    def noting(descriptor: int, mode: int) -> None:
        first.append(stat.S_IMODE(os.fstat(descriptor).st_mode))
        fchmod(descriptor, mode)

    monkeypatch.setattr(os, "fchmod", noting)
    with replacing(tmp_path / "token") as file:
        file.write(b"secret")
        (part,) = tmp_path.iterdir()
        assert mode_of(part) == 0o600
    write_private(tmp_path / "program", "#!", mode=0o755)
    assert all(not mode & 0o077 for mode in first) and len(first) == 2
    assert mode_of(tmp_path / "token") == 0o600
    assert mode_of(tmp_path / "program") == 0o755


@pytest.mark.parametrize("step", ["write", "fsync", "replace"])
def test_a_disk_that_refuses_leaves_the_old_file_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    path = tmp_path / "state"
    path.write_text("old")

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    if step != "write":
        monkeypatch.setattr(os if step == "fsync" else Path, step, full)
    with pytest.raises(OSError, match="No space left"), replacing(path) as file:
        file.write(b"new")
        if step == "write":
            full()
    assert [(p.name, p.read_text()) for p in tmp_path.iterdir()] == [("state", "old")]


def test_a_file_system_without_fsync_of_directories_is_no_trouble_but_a_broken_one_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fsync, code = os.fsync, errno.EINVAL

    def refusing(descriptor: int) -> None:
        if stat.S_ISDIR(os.fstat(descriptor).st_mode):
            raise OSError(code, os.strerror(code))
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", refusing)
    write_private(tmp_path / "state", "one")
    code = errno.EIO
    with pytest.raises(OSError, match=os.strerror(errno.EIO)):
        write_private(tmp_path / "state", "two")
    assert [p.name for p in tmp_path.iterdir()] == ["state"]


def test_two_writers_at_once_never_share_a_part(tmp_path: Path) -> None:
    path = tmp_path / "state"
    with replacing(path) as first, replacing(path) as second:
        first.write(b"first")
        second.write(b"second, and longer")
    assert path.read_text() == "first" and len(list(tmp_path.iterdir())) == 1


def test_a_link_is_replaced_and_not_written_through(tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.write_text("untouched")
    (tmp_path / "state").symlink_to(victim)
    write_private(tmp_path / "state", "ours")
    assert victim.read_text() == "untouched" and not (tmp_path / "state").is_symlink()


def test_the_longest_name_has_a_part_too(tmp_path: Path) -> None:
    path = tmp_path / ("n" * 255)
    write_private(path, "x")
    assert path.read_text() == "x"


def test_a_part_goes_at_the_end_unless_it_was_moved(tmp_path: Path) -> None:
    with part_of(tmp_path / "wheel") as part:
        part.write_text("half")
    assert not list(tmp_path.iterdir())
    with part_of(tmp_path / "wheel") as part:
        put_in_place(part, tmp_path / "wheel")
    assert [p.name for p in tmp_path.iterdir()] == ["wheel"]


def test_a_private_directory_is_so_with_all_that_is_made_above_it(tmp_path: Path, umask: int) -> None:
    path = make_private_dir(tmp_path / "a" / "b")
    assert {mode_of(tmp_path / "a"), mode_of(path)} == {0o700 & ~umask, 0o700}


def test_the_leaf_needs_nothing_but_the_standard_library() -> None:
    program = (
        "import sys\nimport clusterctl_runtime.files.private, clusterctl_runtime.files.lock, clusterctl_runtime.backoff\n"
        "print(sorted(n for n in sys.modules if n.partition('.')[0] not in sys.stdlib_module_names))"
    )
    done = subprocess.run([sys.executable, "-S", "-c", program], env={"PYTHONPATH": str(Path(private.__file__).parents[2])},
                          capture_output=True, text=True, check=True)  # fmt: skip
    assert all(
        name == "__main__" or name.startswith("clusterctl_runtime") for name in done.stdout.strip("[]\n'").split("', '")
    )
