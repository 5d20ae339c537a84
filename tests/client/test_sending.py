"""What of a directory goes to the head, and what does not: on a real store of blobs, unpacked as nodes do it."""

from __future__ import annotations

import asyncio
import hashlib
import os
import time
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import pytest
from clusterctl_runtime.agent.preparing.packages import Packages
from clusterctl_runtime.files.manifest import read_manifest
from clusterctl_runtime.head.storage.blobs import BlobStore

from clusterctl.client.head.api import Api
from clusterctl.client.submit import sending
from clusterctl.client.submit.packing import list_directory
from clusterctl.client.submit.sending import FULL, LARGE, Sent, grouped, send
from clusterctl.client.submit.submission import Wanted, submit
from tests.support.stub_head import Asked, StubHead


async def _pieces(data: bytes) -> AsyncIterator[bytes]:
    yield data


class Store:
    """The head's blobs, over HTTP to a client and directly to a node."""

    def __init__(self, stub: StubHead, directory: Path) -> None:
        self.stub, self.directory = stub, directory
        self.blobs = BlobStore(directory / "blobs")
        self.packed: list[list[str]] = []  # paths of the files that were read for each archive
        stub.on("POST", "/api/v1/blobs:missing", lambda a: (200, {"missing": self.blobs.missing(a.json()["digests"])}))
        stub.on("PUT", "/api/v1/blobs/*", self._put)

    def _put(self, asked: Asked) -> tuple[int, object]:
        asyncio.run(self.blobs.put(asked.path.rpartition("/")[2], _pieces(asked.body)))
        return 201, {}

    def send(self, root: Path, *, settled: bool = True) -> Sent:
        """`settled`: as if its files were written long before."""
        tree = list_directory(root)
        tree.looked += 60 if settled else 0
        self.stub.asked.clear()
        self.packed.clear()
        with Api.of(self.stub.cluster) as api:
            return send(api, tree, self.directory / "home")

    @property
    def sent(self) -> list[int]:
        """Sizes of what was uploaded by the last `send`."""
        return [len(asked.body) for asked in self.stub.asked if asked.method == "PUT"]

    def arrived(self, digest: str) -> dict[str, tuple[bytes, int]]:
        """What a node has of the package: by path its content and whether it is a program."""

        async def fetch(digests: Sequence[str]):
            for one in digests:
                yield one, _pieces(self.blobs.path(one).read_bytes())

        target = self.directory / f"target-{time.monotonic_ns()}"
        target.mkdir()
        packages = Packages(self.directory / "packages", fetch)
        asyncio.run(packages.unpack(digest, target))
        found = (path for path in target.rglob("*") if path.is_file() or not any(path.iterdir()))
        return {
            str(path.relative_to(target)): (path.read_bytes() if path.is_file() else b"", path.stat().st_mode & 0o100)
            for path in found
        }


@pytest.fixture
def store(stub: StubHead, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Store:
    store = Store(stub, tmp_path)
    pack_group = sending.pack_group

    def noted(root: Path, group: Sequence[sending.Entry]) -> sending.Package:
        store.packed.append([entry.path for entry in group])
        return pack_group(root, group)

    monkeypatch.setattr(sending, "pack_group", noted)
    return store


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """5 files that have archives of their own, and 300 that share some."""
    root = tmp_path / "work"
    (root / "small").mkdir(parents=True)
    for number in range(5):
        (root / f"large-{number:02}").write_bytes(os.urandom(LARGE))
    for number in range(300):
        (root / "small" / f"{number:03}.txt").write_bytes(os.urandom(100))
    return root


def test_a_directory_arrives_as_it_was(store: Store, root: Path) -> None:
    (root / "empty").mkdir()
    (root / "run.sh").write_text("#!/bin/sh\n")
    (root / "run.sh").chmod(0o755)
    Path(os.fsdecode(os.fsencode(root) + b"/n\xe9")).write_bytes(b"a name that is not UTF-8")
    arrived = store.arrived(store.send(root).digest)
    assert len(arrived) == 308 and arrived["empty"] == (b"", 0o100) and arrived["run.sh"] == (b"#!/bin/sh\n", 0o100)
    for path, (content, _) in arrived.items():
        assert path == "empty" or (root / path).read_bytes() == content


def test_of_a_directory_with_one_changed_file_one_archive_is_sent(store: Store, root: Path) -> None:
    first = store.send(root)
    assert sum(store.sent) > 5 * LARGE
    (root / "large-04").write_bytes(os.urandom(LARGE + 1))
    second = store.send(root)
    archive, manifest = store.sent
    assert LARGE < archive < LARGE + 1000 and manifest < 5000
    assert store.packed == [["large-04"]]
    (root / "small" / "123.txt").write_bytes(b"changed")
    third = store.send(root)
    assert len(store.sent) == 2 and len(store.packed) == 1 and "small/123.txt" in store.packed[0]
    assert len({first.digest, second.digest, third.digest}) == 3
    assert store.arrived(third.digest)["small/123.txt"][0] == b"changed"
    assert (
        store.arrived(first.digest)["small/123.txt"][0] != b"changed"
    )  # a job that waits has what it was submitted with


def test_what_has_not_changed_costs_one_short_question_and_no_file_is_read(store: Store, root: Path) -> None:
    first = store.send(root)
    assert store.send(root).digest == first.digest
    assert store.stub.paths() == ["POST /api/v1/blobs:missing"] and store.packed == []
    assert store.stub.asked[0].json() == {"digests": [first.digest]}


def test_a_file_that_was_written_a_moment_ago_is_read_again(store: Store, root: Path) -> None:
    """Whoever writes to it once more in the same tick of the clock would go unnoticed."""
    first = store.send(root, settled=False)
    assert store.send(root).digest == first.digest
    assert len(store.packed) == len(grouped(list_directory(root).entries)) and store.sent == []


def test_another_content_of_the_same_size_and_time_is_noticed(store: Store, root: Path) -> None:
    before = (root / "large-03").stat()
    first = store.send(root)
    (root / "large-03").write_bytes(os.urandom(LARGE))
    os.utime(root / "large-03", ns=(before.st_atime_ns, before.st_mtime_ns))
    assert store.send(root).digest != first.digest and store.packed == [["large-03"]]


def test_what_the_head_has_lost_is_packed_and_sent_again(store: Store, root: Path) -> None:
    first = store.send(root)
    assert store.blobs.remove_unused((), time.time() + 60) == len(store.sent)
    assert store.send(root).digest == first.digest
    assert len(store.sent) == len(grouped(list_directory(root).entries)) + 1
    assert len(store.arrived(first.digest)) == 305


def test_a_file_that_changes_while_it_is_sent_is_sent_as_it_is_then(
    store: Store, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.send(root)
    archive = next(a for a in read_manifest(store.blobs.path(store.send(root).digest)) or () if a.size > LARGE)
    for path in (store.directory / "blobs").iterdir():
        if read_manifest(path) is not None or path.name == archive.digest:
            path.unlink()  # the head lacks it, so that it is packed again ...
    tree = list_directory(root)
    (root / "large-00").write_bytes(b"x" * LARGE)  # ... but it is another one now than when it was looked at
    with Api.of(store.stub.cluster) as api:
        sent = send(api, tree, store.directory / "home")
    assert store.arrived(sent.digest)["large-00"][0] == b"x" * LARGE


def test_damaged_notes_cost_time_and_nothing_else(store: Store, root: Path) -> None:
    first = store.send(root)
    for damage in (b"", b"[]", b'{"x": 1}', b'{"x": ["a", "b", 3]}', b"\xff\xfe{"):
        (store.directory / "home" / "archives.json").write_bytes(damage)
        assert store.send(root).digest == first.digest and len(store.packed) == len(
            grouped(list_directory(root).entries)
        )
    assert store.send(root).digest == first.digest and store.packed == []


def test_ten_thousand_small_files_are_few_requests_and_one_more_file_changes_one_archive(tmp_path: Path) -> None:
    root = tmp_path / "work"
    for number in range(10_000):
        path = root / f"{number % 50}" / f"{number}.py"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"%d" % number)
    groups = grouped(list_directory(root).entries)
    assert 40 < len(groups) < 160
    (root / "7" / "another.py").write_text("x")
    again = grouped(list_directory(root).entries)
    before = {tuple(entry.path for entry in group) for group in groups}
    assert len([group for group in again if tuple(entry.path for entry in group) not in before]) <= 2
    assert all(sum(entry.size for entry in group) <= FULL for group in again)


def test_one_script_is_one_archive_and_no_manifest(store: Store, tmp_path: Path) -> None:
    store.stub.on("POST", "/api/v1/jobs", (201, {"id": "a", "state": "queued"}))
    work = tmp_path / "alone"
    work.mkdir()
    (work / "job.py").write_text("print(1)")
    with Api.of(store.stub.cluster) as api:
        submit(api, Wanted([], script=work / "job.py", working_dir=work, submission_id="a"))
    digest = store.stub.asked[-1].json()["package"]
    assert store.stub.paths() == [
        "POST /api/v1/blobs:missing",
        f"PUT /api/v1/blobs/{digest}",
        "POST /api/v1/jobs",
    ]
    assert store.blobs.path(digest).read_bytes().startswith(b"PK")


def test_a_large_file_is_compressed_where_that_helps_and_arrives_whole(store: Store, tmp_path: Path) -> None:
    root = tmp_path / "work"
    root.mkdir()
    content = {"text": b"0123456789\n" * 1_000_000, "noise": os.urandom(9 * 2**20), "little": os.urandom(LARGE)}
    for name, data in content.items():
        (root / name).write_bytes(data)
    sent = store.send(root)
    assert sent.size < len(content["noise"]) + LARGE + 500_000
    arrived = store.arrived(sent.digest)
    assert {n: hashlib.sha256(d).digest() for n, d in content.items()} == {
        n: hashlib.sha256(d).digest() for n, (d, _) in arrived.items()
    }


def test_an_empty_directory_is_a_package(store: Store, tmp_path: Path) -> None:
    (tmp_path / "work").mkdir()
    assert store.arrived(store.send(tmp_path / "work").digest) == {}
