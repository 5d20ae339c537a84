from __future__ import annotations

import os
import socket
import stat
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
from clusterctl_runtime.agent.preparing.unpack import unpack

from clusterctl.client.submit.packing import Package, list_directory, list_file, pack, pack_group
from clusterctl.client.submit.tree import MAX_DEPTH, Tree, list_tree
from clusterctl.core.errors import UsageError


def tree(root: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


def names(root: Path) -> list[str]:
    return [entry.path for entry in list_directory(root).entries]


def read(package: Package) -> dict[str, bytes]:
    with zipfile.ZipFile(package.archive) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


@pytest.fixture
def unpacked(tmp_path_factory: pytest.TempPathFactory) -> Callable[[Package], Path]:
    """Where a package arrived, unpacked as nodes do it."""

    def unpack_there(package: Package) -> Path:
        place = tmp_path_factory.mktemp("node")
        (place / "archive").write_bytes(package.archive.read())
        (place / "target").mkdir()
        unpack(place / "archive", place / "target")
        return place / "target"

    return unpack_there


def test_the_same_files_give_the_same_bytes_wherever_and_whenever_they_were_written(tmp_path: Path) -> None:
    files = {"b.py": "b", "a/z.txt": "z" * 500, "a/b/c.txt": "c", "job.py": "print(1)"}
    first = tree(tmp_path / "first", files)
    second = tree(tmp_path / "second", dict(reversed(files.items())))
    for path in second.rglob("*"):
        os.utime(path, (1, 1))
    one, two = pack(first), pack(second)
    assert one.digest == two.digest and one.archive.read() == two.archive.read()
    (second / "b.py").write_text("other")
    assert pack(second).digest != one.digest


def test_contents_and_permission_bits_arrive(tmp_path: Path) -> None:
    root = tree(tmp_path, {"run.sh": "#!/bin/sh\n", "data.txt": "x" * 10_000})
    (root / "run.sh").chmod(0o755)
    (root / "data.txt").chmod(0o640)
    package = pack(root)
    with zipfile.ZipFile(package.archive) as archive:
        modes = {info.filename: info.external_attr >> 16 for info in archive.infolist()}
        assert archive.read("data.txt") == b"x" * 10_000
    assert stat.S_IMODE(modes["run.sh"]) == 0o755 and stat.S_ISREG(modes["run.sh"])
    assert stat.S_IMODE(modes["data.txt"]) == 0o640


def test_setuid_does_not_travel(tmp_path: Path) -> None:
    root = tree(tmp_path, {"tool": "x"})
    (root / "tool").chmod(0o4755)
    with zipfile.ZipFile(pack(root).archive) as archive:
        assert stat.S_IMODE(archive.infolist()[0].external_attr >> 16) == 0o755


def test_gitignore_is_honoured_with_negation_and_in_subdirectories(tmp_path: Path) -> None:
    root = tree(
        tmp_path,
        {
            ".gitignore": "*.log\n!keep.log\n/build/\ndata/*\n!data/small.csv\n",
            "a.log": "",
            "keep.log": "",
            "build/x": "",
            "sub/build/x": "",
            "data/big.bin": "",
            "data/small.csv": "",
            "sub/.gitignore": "secret\n!b.log\n",
            "sub/secret": "",
            "sub/b.log": "",
            "sub/c.log": "",
            "secret": "",
        },
    )
    assert names(root) == [
        ".gitignore",
        "data/small.csv",
        "keep.log",
        "secret",
        "sub/.gitignore",
        "sub/b.log",
        "sub/build/x",
    ]


def test_clusterctlignore_has_the_last_word(tmp_path: Path) -> None:
    root = tree(
        tmp_path,
        {
            ".gitignore": "model.bin\n",
            ".clusterctlignore": "!model.bin\nnotes/\n",
            "model.bin": "",
            "notes/n": "",
            "a": "",
        },
    )
    assert names(root) == [".clusterctlignore", ".gitignore", "a", "model.bin"]


def test_a_subdirectory_of_a_repository_follows_the_rules_above_it(tmp_path: Path) -> None:
    tree(
        tmp_path,
        {
            ".git/config": "",
            ".gitignore": "*.ckpt\n/project/out\n",
            "project/a.ckpt": "",
            "project/out/x": "",
            "project/job.py": "",
        },
    )
    assert names(tmp_path / "project") == ["job.py"]


def test_repositories_environments_and_caches_stay_here(tmp_path: Path) -> None:
    root = tree(
        tmp_path,
        {
            ".git/HEAD": "",
            ".venv/bin/python": "",
            "my-env/pyvenv.cfg": "",
            "my-env/lib/x.py": "",
            "pkg/__pycache__/a.pyc": "",
            "pkg/a.py": "",
            ".mypy_cache/x": "",
        },
    )
    assert names(root) == ["pkg/a.py"]


def test_an_empty_directory_is_kept_and_one_emptied_by_rules_too(tmp_path: Path) -> None:
    root = tree(tmp_path, {".gitignore": "*.ckpt\n", "out/a.ckpt": ""})
    (root / "logs").mkdir()
    assert names(root) == [".gitignore", "logs/", "out/"]
    assert "logs/" in read(pack(root))


def test_links_that_stay_inside_become_what_they_point_to(tmp_path: Path) -> None:
    root = tree(tmp_path / "root", {"real.txt": "content", "lib/a.py": "a"})
    (root / "alias.txt").symlink_to("real.txt")
    (root / "lib2").symlink_to("lib")
    assert read(pack(root)) == {"real.txt": b"content", "alias.txt": b"content", "lib/a.py": b"a", "lib2/a.py": b"a"}


@pytest.mark.parametrize("target", ["../outside.txt", "/etc/hostname", "../outside"])
def test_a_link_that_leads_out_is_refused_by_name(tmp_path: Path, target: str) -> None:
    tree(tmp_path, {"outside.txt": "secret", "outside/x": "secret"})
    root = tree(tmp_path / "root", {"job.py": ""})
    (root / "link").symlink_to(target)
    with pytest.raises(UsageError, match=r"root/link leads out of .*\.clusterctlignore"):
        pack(root)
    (root / ".clusterctlignore").write_text("link\n")
    assert names(root) == [".clusterctlignore", "job.py"]


def test_links_to_nothing_in_a_circle_or_to_what_holds_them_are_left_out_and_told(tmp_path: Path) -> None:
    root = tree(tmp_path, {"a/b/x": ""})
    (root / ".#train.py").symlink_to("me@example.4711:1700000000")  # an editor's lock
    (root / "circle").symlink_to("circle")
    (root / "a" / "b" / "up").symlink_to("../../a")
    package = pack(root)
    assert list(read(package)) == ["a/b/x"]
    assert package.notes == [
        ".#train.py is left out: it is a link that leads nowhere (me@example.4711:1700000000)",
        "a/b/up is left out: it is a link back to a directory that holds it (../../a)",
        package.notes[2],
    ]
    assert package.notes[2].startswith("circle is left out: it is a link that cannot be followed (circle: ")


def test_pipes_and_sockets_are_no_content(tmp_path: Path) -> None:
    root = tree(tmp_path, {"x": ""})
    os.mkfifo(root / "pipe")
    with socket.socket(socket.AF_UNIX) as sock:
        before = Path.cwd()
        os.chdir(root)  # the path of a socket may not be long
        try:
            sock.bind("socket")
        finally:
            os.chdir(before)
        assert names(root) == ["x"]


def test_over_the_limit_the_largest_entries_are_named(tmp_path: Path) -> None:
    root = tree(tmp_path, {"data/a.bin": "x" * 3000, "data/b.bin": "x" * 3000, "model.bin": "x" * 2000, "job.py": "x"})
    with pytest.raises(
        UsageError, match=r"over the limit .* Largest: data/ \(0\.0 MiB\), model\.bin .*\.clusterctlignore"
    ):
        pack(root, max_bytes=5000)


def test_a_file_can_travel_alone(tmp_path: Path) -> None:
    tree(tmp_path, {"job.py": "print(1)", "other": ""})
    assert read(pack_group(tmp_path, list_file(tmp_path / "job.py").entries)) == {"job.py": b"print(1)"}


def test_names_that_are_not_ascii_arrive(tmp_path: Path) -> None:
    root = tree(tmp_path, {"größe/データ.txt": "x"})
    assert read(pack(root)) == {"größe/データ.txt": b"x"}


def test_any_name_that_a_file_can_have_travels(tmp_path: Path, unpacked: Callable[[Package], Path]) -> None:
    for name in (b"caf\xe9.txt", b"back\\slash", b"two\nlines", b"d\xff/\xfe", b"caf\\xe9", "größe".encode()):
        path = Path(os.fsdecode(os.fsencode(tmp_path / "root") + b"/" + name))
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(name)
    target = unpacked(pack(tmp_path / "root"))
    arrived = {os.fsencode(path.relative_to(target)): path.read_bytes() for path in target.rglob("*") if path.is_file()}
    assert len(arrived) == 6 and all(name == content for name, content in arrived.items())


def test_a_tree_that_is_too_deep_for_the_nodes_is_a_sentence_before_anything_is_sent(
    tmp_path: Path, unpacked: Callable[[Package], Path]
) -> None:
    (tmp_path / ("d/" * (MAX_DEPTH - 1))).mkdir(parents=True)
    assert unpacked(pack(tmp_path))
    (tmp_path / ("d/" * (MAX_DEPTH + 1))).mkdir(parents=True)
    with pytest.raises(UsageError, match=r"too deep to travel: move it, or name it in \.clusterctlignore"):
        pack(tmp_path)


def test_a_byte_order_mark_is_no_part_of_a_pattern(tmp_path: Path) -> None:
    root = tree(tmp_path, {"a.log": "", "b": ""})
    (root / ".gitignore").write_bytes(b"\xef\xbb\xbf*.log\r\n")
    assert names(root) == [".gitignore", "b"]


def test_a_file_that_goes_while_it_is_packed_is_left_out_and_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = tree(tmp_path, {"a": "a", "gone": "", "pipe": ""})

    def meanwhile(*args: object) -> Tree:
        listed = list_tree(*args)  # type: ignore[arg-type]
        (root / "gone").unlink()
        (root / "pipe").unlink()
        os.mkfifo(root / "pipe")
        return listed

    monkeypatch.setattr("clusterctl.client.submit.packing.list_tree", meanwhile)
    package = pack(root)
    assert read(package) == {"a": b"a"} and [entry.path for entry in package.entries] == ["a"]
    assert package.notes == [
        "gone is left out: it went while it was packed",
        "pipe is left out: it is no file any more",
    ]


@pytest.mark.parametrize("size", [1000, 9 * 1024 * 1024])
def test_a_file_that_is_written_to_without_end_is_packed_as_it_was_found_and_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, size: int
) -> None:
    root = tree(tmp_path, {"log": "x" * size})
    real = os.fstat

    def written_to(fd: int) -> os.stat_result:
        status = real(fd)
        with (root / "log").open("a") as file:
            file.write("y")
        return status

    monkeypatch.setattr("clusterctl.client.submit.packing.os.fstat", written_to)
    package = pack(root)
    monkeypatch.undo()
    (content,) = read(package).values()
    assert content.startswith(b"x" * size) and set(content[size:]) <= {ord("y")}
    assert package.notes[0].startswith("log was written to while it was packed")


def test_a_file_that_may_not_be_read_is_named_with_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root, real = tree(tmp_path, {"secret": "x"}), os.open

    def may_not(path: object, *args: int) -> int:  # as for everyone but root
        if os.fspath(path).endswith("/secret"):  # type: ignore[arg-type]
            raise PermissionError(13, "Permission denied", path)
        return real(path, *args)  # type: ignore[arg-type]

    monkeypatch.setattr("clusterctl.client.submit.packing.os.open", may_not)
    with pytest.raises(UsageError, match=r"secret cannot be packed \(Permission denied\): .*\.clusterctlignore"):
        pack(root)


def test_what_is_not_a_directory_is_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="is not a directory"):
        pack(tmp_path / "missing")


def test_the_home_with_the_tokens_never_travels_not_even_through_a_link(tmp_path: Path) -> None:
    root = tree(tmp_path, {"job.py": "", "state/clusters/demo/client.json": "token"})
    (root / "alias").symlink_to("state")
    assert [entry.path for entry in list_directory(root, without=root / "state").entries] == ["job.py"]
