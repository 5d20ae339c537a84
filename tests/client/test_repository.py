"""In a repository, what travels is what git has."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from clusterctl.client.head.api import Api
from clusterctl.client.submit.packing import list_directory
from clusterctl.client.submit.submission import Wanted, submit
from clusterctl.client.submit.tree import why_left_out
from clusterctl.core.errors import UsageError
from tests.support.stub_head import StubHead

Git = Callable[..., None]


@pytest.fixture
def git(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Git:
    """`git(directory, *arguments)`, for a user without settings of their own but these."""
    home = tmp_path / "home"
    home.mkdir()
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(home / ".config"))
    monkeypatch.setenv("GIT_CONFIG_NOSYSTEM", "1")
    settings = ["-c", "user.name=a", "-c", "user.email=a@example.org", "-c", "protocol.file.allow=always"]

    def run(directory: Path, *arguments: str) -> None:
        subprocess.run(["git", *settings, "-C", str(directory), *arguments], check=True, capture_output=True)

    return run


def write(root: Path, *names: str, **texts: str) -> Path:
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("x")
    for name, text in texts.items():
        (root / f".{name}").write_text(text)
    return root


@pytest.fixture
def repository(tmp_path: Path, git: Git) -> Path:
    root = tmp_path / "r"
    root.mkdir()
    git(root, "init", "-q")
    return root


def names(root: Path, **options: bool) -> list[str]:
    return [entry.path for entry in list_directory(root, **options).entries if entry.path != ".gitignore"]  # type: ignore[arg-type]


def test_tracked_files_travel_whatever_ignores_them_and_ignored_ones_do_not(repository: Path, git: Git) -> None:
    write(repository, "gen/y.py", "gen/untracked.py", "base.cfg", "other.cfg", gitignore="gen/\n*.cfg\n")
    write(repository, "venv/mod.py", ".venv/x.py", "pkg/__pycache__/kept.pyc", "pkg/__pycache__/m.pyc", "job.py")
    git(repository, "add", "-f", "gen/y.py", "base.cfg", "venv/mod.py", "pkg/__pycache__/kept.pyc")
    assert names(repository) == ["base.cfg", "gen/y.py", "job.py", "pkg/__pycache__/kept.pyc", "venv/mod.py"]


def test_what_only_this_clone_or_this_user_ignores_stays_here(repository: Path, git: Git, tmp_path: Path) -> None:
    write(repository, ".env", "notes.txt", "a.swp", "job.py", "sub/b.swp")
    with (repository / ".git/info/exclude").open("a") as file:
        file.write(".env\n")
    write(tmp_path / "home/.config/git", "ignore").joinpath("ignore").write_text("*.swp\n")
    assert names(repository) == ["job.py", "notes.txt", "sub/"]
    (tmp_path / "mine").write_text("notes.txt\n")
    git(repository, "config", "core.excludesFile", str(tmp_path / "mine"))
    assert names(repository) == ["a.swp", "job.py", "sub/b.swp"]


def test_a_subdirectory_of_a_repository_a_worktree_and_a_hook_of_another_see_the_same(
    repository: Path, git: Git, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(repository, "project/job.py", "project/a.ckpt", "top.py", gitignore="*.ckpt\n")
    git(repository, "add", ".")
    git(repository, "commit", "-q", "-m", "x")
    git(repository, "worktree", "add", "-q", str(tmp_path / "tree"))
    write(tmp_path / "tree/project", "b.ckpt")
    monkeypatch.setenv("GIT_DIR", str(tmp_path / "elsewhere"))
    assert names(repository / "project") == names(tmp_path / "tree/project") == ["job.py"]


def test_submodules_and_repositories_inside_travel_by_their_own_rules(
    repository: Path, git: Git, tmp_path: Path
) -> None:
    other = tmp_path / "other"
    other.mkdir()
    git(other, "init", "-q")
    write(other, "lib.py", gitignore="*.o\n")
    git(other, "add", ".")
    git(other, "commit", "-q", "-m", "x")
    git(repository, "submodule", "--quiet", "add", str(other), "mod")
    write(repository, "mod/lib.o", "mod/lib.py", "own/x.tmp", "own/y", "x.o", "z.tmp", gitignore="*.tmp\n")
    git(repository / "own", "init", "-q")
    assert [name for name in names(repository) if ".git" not in name] == ["mod/lib.py", "own/x.tmp", "own/y", "x.o"]


def test_ours_has_the_last_word_also_inside_what_git_ignores(repository: Path, git: Git) -> None:
    write(
        repository,
        "big.bin",
        "tracked.bin",
        "job.py",
        "gen/a.py",
        "gen/b.py",
        "gen/deep/c",
        "out/x",
        gitignore="gen/\n*.bin\n",
    )
    git(repository, "add", "-f", "tracked.bin")
    (repository / ".clusterctlignore").write_text("tracked.bin\nout/\n!big.bin\n!gen/a.py\n")
    assert names(repository) == [".clusterctlignore", "big.bin", "gen/a.py", "job.py"]


def test_empty_directories_travel_and_so_do_those_that_hold_only_what_git_ignores(repository: Path) -> None:
    write(repository, "out/a.ckpt", "new/f", "job.py", gitignore="*.ckpt\n")
    for name in ("logs", "new/empty"):
        (repository / name).mkdir()
    assert names(repository) == ["job.py", "logs/", "new/empty/", "new/f", "out/"]


def test_a_link_to_what_git_ignores_travels_with_its_content_when_git_has_the_link(repository: Path) -> None:
    write(repository, "runs/5/result", "runs/6/result", "data/model.bin", gitignore="runs/\n*.bin\n")
    (repository / "latest").symlink_to("runs/5")
    (repository / "model").symlink_to("data/model.bin")
    assert names(repository) == ["data/", "latest/result", "model"]


def test_files_that_git_tracks_and_that_are_not_here_are_nobodys_trouble(repository: Path, git: Git) -> None:
    write(repository, "gone.py", "job.py")
    git(repository, "add", ".")
    (repository / "gone.py").unlink()
    assert names(repository) == ["job.py"]


def test_a_directory_that_git_ignores_as_a_whole_follows_its_own_rules_when_it_is_what_was_named(
    repository: Path, tmp_path: Path, git: Git
) -> None:
    write(repository, "project/job.py", "project/x.log", gitignore="*\n")
    write(repository / "project", gitignore="*.log\n")
    assert names(repository / "project") == ["job.py"]
    assert names(repository) == []


def test_files_of_a_spec_follow_no_rule_from_above_and_tracked_ones_travel(repository: Path, git: Git) -> None:
    write(repository, "data/a.bin", "data/b.tmp", "data/c.tmp", gitignore="*.bin\n")
    write(repository / "data", gitignore="*.tmp\n")
    git(repository, "add", "-f", "data/b.tmp")
    assert names(repository / "data", above=False) == ["a.bin", "b.tmp"]
    assert names(repository / "data") == ["b.tmp"]


def test_where_git_refuses_to_look_nothing_travels_and_its_words_are_shown(repository: Path) -> None:
    write(repository, "job.py")
    (repository / ".git/config").write_text("[core\n")
    with pytest.raises(UsageError, match=r"git cannot say which files .* bad config line 1"):
        names(repository)


@pytest.mark.parametrize(
    "where, path, says",
    [
        ("gitignore", "gen/job.py", r"git or a \.gitignore leaves out gen/: let it in with a line !gen/job\.py"),
        ("clusterctlignore", "gen/job.py", r"\.clusterctlignore leaves out gen/: .* a line !gen/$"),
        ("gitignore", "venv/job.py", r"venv/ is of a kind that never travels unless git tracks it"),
    ],
)
def test_why_a_script_does_not_travel_is_said_with_what_lets_it_in(
    repository: Path, where: str, path: str, says: str
) -> None:
    write(repository, path, **{where: "gen/\n"})
    assert path not in names(repository)
    with pytest.raises(AssertionError, match=says):
        raise AssertionError(why_left_out(repository, path))


@pytest.mark.parametrize("where", ["gitignore", "clusterctlignore"])
def test_what_is_said_to_let_a_script_in_does_so(repository: Path, where: str) -> None:
    write(repository, "gen/job.py", **{where: "gen/\n"})
    line = why_left_out(repository, "gen/job.py").partition(" a line ")[2].split()[0]
    with (repository / ".clusterctlignore").open("a") as file:
        file.write(line + "\n")
    assert "gen/job.py" in names(repository)


@pytest.mark.parametrize(
    "wanted, says",
    [
        (Wanted([], Path("gen/job.py")), r"gen/job\.py would not travel .*: let it in with a line !gen/job\.py"),
        (Wanted(["cat", "caf\udce9"]), r"argument 2 of the program is not UTF-8 \('caf\\\\xe9'\)"),
        (Wanted(["true"], env={"A": "\udcff"}), r"--env A is not UTF-8"),
        (Wanted([], Path("caf\udce9.py")), r"the name of the script is not UTF-8"),
    ],
)
def test_what_cannot_arrive_is_said_before_anything_is_sent(
    repository: Path, stub: StubHead, monkeypatch: pytest.MonkeyPatch, wanted: Wanted, says: str
) -> None:
    write(repository, "gen/job.py", gitignore="gen/\n")
    write(repository, "caf\udce9.py")
    monkeypatch.chdir(repository)
    with Api.of(stub.cluster) as api, pytest.raises(UsageError, match=says):
        submit(api, wanted)
    assert not stub.asked
