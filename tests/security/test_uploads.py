"""Evil packages, handed in as a working directory through the API: refused with a sentence, and nothing appears outside."""

from __future__ import annotations

import io
import stat
import struct
import tempfile
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path

import paramiko
import pytest

from clusterctl.client.nodes.access import _get
from tests.security.knocking import Api
from tests.support.cluster import LocalCluster

CANARY = "clusterctl-evil-canary"


def packed(*entries: tuple[str, int, bytes]) -> bytes:
    """A zip written by hand: (name, type and mode bits, content)."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of names that are there twice
        for name, mode, content in entries:
            info = zipfile.ZipInfo("x")
            info.filename = name
            info.external_attr = mode << 16
            archive.writestr(info, content)
    return buffer.getvalue()


def file(name: str, content: bytes = b"evil") -> tuple[str, int, bytes]:
    return name, stat.S_IFREG | 0o644, content


def link(name: str, to: str) -> tuple[str, int, bytes]:
    return name, stat.S_IFLNK | 0o777, to.encode()


def million_entries() -> bytes:
    """A table of contents of 10^6 entries and nothing behind it."""
    entry = b"PK\1\2" + b"\0" * 24 + struct.pack("<H", 7) + b"\0" * 16 + b"entry-x"
    count = 1_000_000
    table = entry * count
    record = b"PK\6\6" + struct.pack("<QHHIIQQQQ", 44, 45, 45, 0, 0, count, count, len(table), 0)
    locator = b"PK\6\7" + struct.pack("<IQI", 0, len(table), 1)
    return table + record + locator + b"PK\5\6" + struct.pack("<HHHHIIH", 0, 0, 65535, 65535, 2**32 - 1, 2**32 - 1, 0)


EVIL: dict[str, Callable[[], bytes]] = {
    "a parent": lambda: packed(file(f"../{CANARY}")),
    "a parent in the middle": lambda: packed(file(f"a/../../{CANARY}")),
    "an absolute name": lambda: packed(file(f"{tempfile.gettempdir()}/{CANARY}")),
    "a link to the outside": lambda: packed(link("out", "/tmp"), file(f"out/{CANARY}")),
    "a chain of links": lambda: packed(link("a", "."), link("a/b", ".."), link("a/b/c", "/"), file(f"a/b/c/{CANARY}")),
    "a link over a file": lambda: packed(link("job.py", "/etc/passwd"), file("job.py")),
    "a device": lambda: packed(("null", stat.S_IFCHR | 0o666, b"")),
    "a pipe": lambda: packed(("pipe", stat.S_IFIFO | 0o666, b"")),
    "a name twice": lambda: packed(file("job.py"), file("job.py", b"other")),
    "a directory that is a file": lambda: packed(file("a"), file("a/b")),
    "a million entries": million_entries,
    "no archive": lambda: b"#!/bin/sh\ntouch /tmp/" + CANARY.encode(),
    "nothing": lambda: b"",
    "half an archive": lambda: packed(file("job.py", b"x" * 5000))[:3000],
}


def strays(cluster: LocalCluster) -> list[Path]:
    places = [Path(tempfile.gettempdir()), Path("/"), cluster.directory, cluster.home]
    nearby = [path for place in places for path in place.glob(f"*{CANARY}*")]
    return nearby + list(Path(tempfile.gettempdir()).glob(f"cctl-*/**/*{CANARY}*"))


@pytest.mark.parametrize("make", EVIL.values(), ids=EVIL.keys())
def test_an_evil_package_fails_its_job_with_a_sentence_and_leaves_nothing(
    cluster: LocalCluster, api: Api, make: Callable[[], bytes]
) -> None:
    job = api.run(argv=["echo", "it ran"], package=api.upload(make()))
    assert job["state"] == "failed"
    assert "was refused" in job["reason"]
    assert "it ran" not in api.log(job["id"])
    assert strays(cluster) == []


def test_a_script_outside_its_package_is_no_script(api: Api) -> None:
    package = api.upload(packed(file("job.py", b"print('fine')")))
    assert api.run(argv=[], script="job.py", package=package, driver=False, engine=False)["state"] == "succeeded"
    for script in ("../job.py", "/etc/passwd", "a/../../job.py"):
        answer = api.post("/api/v1/jobs", {"argv": [], "script": script, "package": package, "engine": False})
        assert answer.status in (400, 422) and "script" in answer.message


def test_a_package_is_named_by_what_it_holds_and_by_nothing_else(api: Api) -> None:
    for name in ("..%2f..%2fevil", "%2e%2e", "A" * 64, "0" * 63, "0" * 64 + "%00"):
        assert api.call("PUT", f"/api/v1/blobs/{name}", b"x").status in (400, 404)
    assert api.call("PUT", "/api/v1/blobs/" + "0" * 64, b"x").status == 400
    assert api.call("HEAD", "/api/v1/blobs/" + "0" * 64).status == 404


TRAVERSALS = (
    "..",
    "%2e%2e",
    "..%2f..%2fconfig.json",
    "%2fetc%2fpasswd",
    "x%00y",
    "x%5c..%5cy",
    ".%2e/head.log",
    "//etc/passwd",
)


@pytest.mark.parametrize("path", TRAVERSALS)
def test_logs_are_found_by_id_and_never_by_path(api: Api, path: str) -> None:
    for call in (
        f"/api/v1/jobs/{path}/logs",
        f"/api/v1/jobs/{path}",
        f"/api/v1/nodes/{path}",
        f"/api/v1/explain/{path}",
    ):
        answer = api.call("GET", call)
        assert answer.status in (400, 404), call
        assert b"root:" not in answer.body and b"token_sha256" not in answer.body


def test_a_job_that_links_its_log_elsewhere_shows_nothing_of_it(cluster: LocalCluster, api: Api) -> None:
    """A program cannot choose where its output is kept: there is no file of the head's below its own directory."""
    job = api.run(argv=["sh", "-c", f"ln -s {cluster.head_dir}/config.json x.log; echo done"])
    assert "token_sha256" not in api.log(job["id"]) and "done" in api.log(job["id"])


class EvilHost:
    """What a hostile SFTP server may answer: names that lead out, links, devices, and files."""

    def __init__(self) -> None:
        self.fetched: list[bytes] = []

    def stat(self, path: bytes) -> paramiko.SFTPAttributes:
        return entry(path, stat.S_IFDIR)

    def listdir_attr(self, path: bytes) -> list[paramiko.SFTPAttributes]:
        if path.count(b"/") > 2:
            return []
        names = ("..", ".", f"../{CANARY}", f"/tmp/{CANARY}", f"a/../../{CANARY}", f"{CANARY}\0x", "")
        files = [entry(name, kind) for name in names for kind in (stat.S_IFREG, stat.S_IFDIR)]
        return [*files, entry("link", stat.S_IFLNK), entry("null", stat.S_IFCHR), entry("fine", stat.S_IFREG)]

    def get(self, source: bytes, target: str) -> None:
        self.fetched.append(source)
        Path(target).write_text("x")


def entry(name: str, kind: int) -> paramiko.SFTPAttributes:
    attributes = paramiko.SFTPAttributes()
    attributes.filename, attributes.st_mode = name, kind | 0o777
    return attributes


def test_what_is_copied_back_from_a_hostile_node_stays_where_it_was_to_go(
    cluster: LocalCluster, tmp_path: Path
) -> None:
    host, target = EvilHost(), tmp_path / "inside"
    target.mkdir()
    _get(host, "results", target)
    assert host.fetched == [b"results/fine"]
    assert sorted(p.relative_to(tmp_path).as_posix() for p in tmp_path.rglob("*")) == [
        "inside",
        "inside/results",
        "inside/results/fine",
    ]
    assert strays(cluster) == []
