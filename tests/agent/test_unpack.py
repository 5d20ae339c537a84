"""Archives made to hurt: nothing is written outside, nothing but files and directories is made, and sizes are counted."""

from __future__ import annotations

import io
import os
import stat
import struct
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from clusterctl_runtime.agent.preparing.unpack import MAX_DEPTH, NAME_FIELD, Room, UnpackError, unpack


def entry(name: str, mode: int = 0o100644) -> zipfile.ZipInfo:
    info = zipfile.ZipInfo(name)
    info.filename = name  # as it is: the constructor tidies some names
    info.external_attr = mode << 16
    info.create_system = 3
    return info


def named(name: str, field: bytes) -> zipfile.ZipInfo:
    info = entry(name, 0o040755 if name.endswith("/") else 0o100644)
    info.extra = struct.pack("<HH", NAME_FIELD, len(field)) + field
    return info


def pack(*members: tuple[zipfile.ZipInfo, bytes]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for info, data in members:
            archive.writestr(info, data)
    return buffer.getvalue()


ODD_NAMES = ["a/..", "/", "x/" * (MAX_DEPTH + 1) + "y"]


@pytest.fixture
def room(tmp_path: Path) -> Iterator[Callable[..., Path]]:
    """Unpacks bytes into a fresh directory, beside a file that must stay what it is."""
    (tmp_path / "outside").write_text("untouched")
    target = tmp_path / "deep" / "target"
    target.mkdir(parents=True)

    def run(data: bytes, **limits: int) -> Path:
        archive = tmp_path / "archive.zip"
        archive.write_bytes(data)
        unpack(archive, target, Room(**limits))
        return target

    yield run
    assert (tmp_path / "outside").read_text() == "untouched"
    assert sorted(p.name for p in tmp_path.iterdir() if p.name != "archive.zip") == ["deep", "outside"]
    assert [p.name for p in (tmp_path / "deep").iterdir()] == ["target"]
    for path in target.rglob("*"):
        assert not path.is_symlink() and (path.is_file() or path.is_dir())


def test_files_directories_and_the_execute_bit_arrive(room) -> None:
    target = room(
        pack(
            (entry("a/b/c.txt"), b"content"),
            (entry("run.sh", 0o100755), b"#!/bin/sh"),
            (entry("empty/", 0o040755), b""),
            (entry("unicode-ü/ß"), b"1"),
        )
    )
    assert (target / "a/b/c.txt").read_bytes() == b"content"
    assert (target / "run.sh").stat().st_mode & 0o100 and not (target / "a/b/c.txt").stat().st_mode & 0o100
    assert (target / "empty").is_dir() and (target / "unicode-ü/ß").exists()


@pytest.mark.parametrize(
    "name",
    [
        "../outside",
        "../../outside",
        "a/../../../outside",
        "/etc/passwd",
        "//etc/passwd",
        "a//b",
        "./a",
        "a/./b",
        "..",
        ".",
        *ODD_NAMES,
    ],
)
def test_a_name_that_leads_outside_is_refused(room, name: str) -> None:
    with pytest.raises(UnpackError, match="leads outside"):
        room(pack((entry(name), b"evil")))


@pytest.mark.parametrize("name", ["a\\..\\..\\outside", "C:\\x", "two\nlines", "-rf", "caf\\xe9"])
def test_what_is_an_ordinary_character_of_a_name_here_is_one(room, name: str) -> None:
    target = room(pack((entry(name), b"content")))
    assert [path.name for path in target.iterdir()] == [name]


def test_a_name_that_is_not_utf_8_is_taken_from_its_own_field(room) -> None:
    target = room(pack((named("caf", b"d\xe9/caf\xe9"), b"content"), (named("x/", b"\xff/"), b"")))
    assert sorted(os.fsencode(path.name) for path in target.iterdir()) == [b"d\xe9", b"\xff"]
    assert Path(os.fsdecode(os.fsencode(target) + b"/d\xe9/caf\xe9")).read_bytes() == b"content"


@pytest.mark.parametrize("name", [b"../outside", b"/etc/passwd", b"a/../../../outside", b"", b"a\0b"])
def test_a_name_in_its_own_field_leads_outside_no_more_than_another(room, name: bytes) -> None:
    with pytest.raises(UnpackError, match="leads outside"):
        room(pack((named("innocent", name), b"evil")))


def test_a_tree_as_deep_as_may_travel_arrives(room) -> None:
    target = room(pack((entry("d/" * MAX_DEPTH + "x"), b"content")))
    assert (target / ("d/" * MAX_DEPTH) / "x").read_bytes() == b"content"


@pytest.mark.parametrize("kind", [stat.S_IFLNK, stat.S_IFCHR, stat.S_IFBLK, stat.S_IFIFO, stat.S_IFSOCK])
def test_links_and_devices_are_refused(room, kind: int) -> None:
    with pytest.raises(UnpackError, match="neither a file nor a directory"):
        room(pack((entry("x", kind | 0o777), b"../../outside")))


def test_a_chain_through_a_link_is_refused(room) -> None:
    with pytest.raises(UnpackError):
        room(pack((entry("link", stat.S_IFLNK | 0o777), b"../.."), (entry("link/outside"), b"evil")))


def test_a_directory_entry_that_is_a_link_is_refused(room) -> None:
    with pytest.raises(UnpackError, match="neither"):
        room(pack((entry("link/", stat.S_IFLNK | 0o777), b"")))


def test_a_file_in_the_place_of_a_directory_is_refused(room) -> None:
    with pytest.raises(UnpackError, match="runs through a file"):
        room(pack((entry("a"), b"1"), (entry("a/b"), b"2")))


def test_the_same_name_twice_is_refused(room) -> None:
    with pytest.raises(UnpackError, match="twice"), pytest.warns(UserWarning):
        room(pack((entry("a"), b"1"), (entry("a"), b"2")))


def test_a_directory_in_the_place_of_a_file_is_refused(room) -> None:
    with pytest.raises(UnpackError, match="twice"):
        room(pack((entry("a/b"), b"1"), (entry("a"), b"2")))


def test_too_many_entries_are_refused(room) -> None:
    with pytest.raises(UnpackError, match="11 entries, more than 10"):
        room(pack(*[(entry(str(n)), b"") for n in range(11)]), entries=10)


def test_a_bomb_stops_at_the_limit(room) -> None:
    with pytest.raises(UnpackError, match="more than the allowed size"):
        room(pack((entry("bomb"), bytes(20 * 2**20))), bytes=2**20)


def test_a_bomb_that_lies_about_its_size_gains_nothing(room) -> None:
    data = bytearray(pack((entry("bomb"), bytes(20 * 2**20))))
    size = struct.pack("<I", 20 * 2**20)
    while (at := data.find(size)) >= 0:
        data[at : at + 4] = struct.pack("<I", 10)
    with pytest.raises(UnpackError):
        room(bytes(data), bytes=2**20)


def test_a_count_that_lies_gains_nothing(room) -> None:
    data = bytearray(pack(*[(entry(str(n)), b"") for n in range(11)]))
    at = data.rfind(b"PK\5\6")
    data[at + 8 : at + 12] = struct.pack("<HH", 1, 1)
    with pytest.raises(UnpackError, match="entries"):
        room(bytes(data), entries=10)


def test_a_huge_table_of_contents_is_refused_before_it_is_read(room) -> None:
    data = bytearray(pack((entry("a"), b"")))
    at = data.rfind(b"PK\5\6")
    data[at + 12 : at + 16] = struct.pack("<I", 2**31)
    with pytest.raises(UnpackError, match="table of contents"):
        room(bytes(data))


def test_an_encrypted_entry_is_refused(room) -> None:
    data = bytearray(pack((entry("a"), b"1")))
    at = data.find(b"PK\1\2")
    data[at + 8] |= 1
    with pytest.raises(UnpackError, match="encrypted"):
        room(bytes(data))


@pytest.mark.parametrize("data", [b"", b"not a zip", b"PK\5\6", b"\x1f\x8b" + bytes(100), b"PK\3\4" + bytes(60)])
def test_what_is_no_archive_is_refused(room, data: bytes) -> None:
    with pytest.raises(UnpackError, match="not an intact zip"):
        room(data)


def test_every_truncation_of_an_archive_is_refused(room) -> None:
    whole = pack((entry("dir/a"), b"content"))
    for length in range(len(whole)):
        with pytest.raises(UnpackError):
            room(whole[:length])


def test_every_flipped_byte_is_refused_or_harmless(room) -> None:
    """The fixture looks afterwards: nothing outside, no link, no device."""
    whole = pack((entry("a"), b"x" * 50), (entry("d/b"), b"y"))
    for position in range(len(whole)):
        damaged = bytearray(whole)
        damaged[position] ^= 0xFF
        try:
            target = room(bytes(damaged))
        except UnpackError:
            continue
        for path in sorted(target.rglob("*"), reverse=True):
            path.rmdir() if path.is_dir() else path.unlink()
