"""Working directories from the head: by digest, fetched once, never trusted."""

from __future__ import annotations

import asyncio
import hashlib
import io
import os
import zipfile
from collections.abc import AsyncIterator

from clusterctl_runtime.agent.preparing import packages
from clusterctl_runtime.files.manifest import MARK, Archive, manifest_of
from clusterctl_runtime.wire import TaskSpec

from tests.support.cluster import wait_until


def pack(files: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return buffer.getvalue()


def test_each_task_runs_in_its_own_copy_which_goes_afterwards(head, start_agent) -> None:
    agent = start_agent()
    head.until_joined()
    digest = head.add_blob(pack({"data/a.txt": b"hello", "job.py": b"print(1)"}))
    script = "cat data/a.txt; echo changed > data/a.txt; mkdir new; touch new/file"
    ranks = [f"j-1/1/{rank}" for rank in range(4)]
    head.run(*[TaskSpec(rank, ["/bin/sh", "-c", script], package=digest) for rank in ranks])
    for rank in ranks:
        assert head.until_exited(rank).exit_code == 0
        assert bytes(head.log(rank).data) == b"hello"
    wait_until(lambda: not list((agent.directory / "work").iterdir()))


def test_a_package_is_fetched_once_for_all_who_wait_for_it_and_all_who_come_later(head, start_agent) -> None:
    start_agent()
    head.until_joined()
    digest = head.add_blob(pack({"a": os.urandom(3_000_000)}))
    head.run(*[TaskSpec(f"j-1/1/{rank}", ["/usr/bin/stat", "-c", "%s", "a"], package=digest) for rank in range(8)])
    for rank in range(8):
        head.until_exited(f"j-1/1/{rank}")
        assert bytes(head.log(f"j-1/1/{rank}").data) == b"3000000\n"
    head.run(TaskSpec("j-2/1/0", ["/bin/ls"], package=digest))
    head.until_exited("j-2/1/0")
    assert head.connections == 2, "the control connection and one for the blob"


def test_one_flipped_byte_is_refused_and_not_kept(head, start_agent) -> None:
    agent = start_agent()
    head.until_joined()
    good = pack({"job.sh": b"echo owned"})
    digest = head.add_blob(good)
    head.blobs[digest] = good[:40] + bytes([good[40] ^ 1]) + good[41:]
    head.run(TaskSpec("j-1/1/0", ["/bin/sh", "job.sh"], package=digest))
    report = head.until_exited("j-1/1/0")
    assert report.exit_code is None and "damaged" in report.error and report.pid == 0
    assert not list((agent.directory / "packages").iterdir())
    head.blobs[digest] = good
    head.run(TaskSpec("j-1/2/0", ["/bin/sh", "job.sh"], package=digest))
    assert head.until_exited("j-1/2/0").exit_code == 0


def test_a_kept_archive_that_was_tampered_with_is_not_used(head, start_agent) -> None:
    agent = start_agent()
    head.until_joined()
    digest = head.add_blob(pack({"job.sh": b"echo good"}))
    head.run(TaskSpec("j-1/1/0", ["/bin/sh", "job.sh"], package=digest))
    head.until_exited("j-1/1/0")
    (agent.directory / "packages" / digest).write_bytes(pack({"job.sh": b"echo evil"}))
    head.run(TaskSpec("j-2/1/0", ["/bin/sh", "job.sh"], package=digest))
    assert head.until_exited("j-2/1/0").lost, "to be tried again"
    head.run(TaskSpec("j-2/2/0", ["/bin/sh", "job.sh"], package=digest))
    assert head.until_exited("j-2/2/0").exit_code == 0
    assert bytes(head.log("j-2/2/0").data) == b"good\n" and not head.log("j-2/1/0").data


def test_a_fetch_that_the_heads_restart_interrupts_is_made_again(head, start_agent) -> None:
    start_agent()
    head.until_joined()
    digest = head.add_blob(pack({"a": os.urandom(30_000_000)}))
    head.run(TaskSpec("j-1/1/0", ["/usr/bin/stat", "-c", "%s", "a"], package=digest))
    head.until(lambda: head.connections == 2)
    head.stop()
    head.start()
    assert head.until_exited("j-1/1/0").exit_code == 0


def test_an_evil_archive_is_refused_and_nothing_runs(head, start_agent, tmp_path) -> None:
    agent = start_agent()
    head.until_joined()
    digest = head.add_blob(pack({"ok": b"1", "../../../evil": b"1"}))
    head.run(TaskSpec("j-1/1/0", ["/bin/echo", "ran"], package=digest))
    report = head.until_exited("j-1/1/0")
    assert report.exit_code is None and "leads outside" in report.error
    assert not list(tmp_path.rglob("evil"))
    wait_until(lambda: not list((agent.directory / "work").iterdir()))


def test_a_package_the_head_does_not_have_is_a_sentence(head, start_agent) -> None:
    start_agent()
    head.until_joined()
    head.run(TaskSpec("j-1/1/0", ["/bin/true"], package="0" * 64), TaskSpec("j-2/1/0", ["/bin/true"], package="../x"))
    assert "has no package" in head.until_exited("j-1/1/0").error
    assert "not the SHA-256" in head.until_exited("j-2/1/0").error


def test_a_task_killed_while_its_package_is_under_way_never_starts(head, start_agent, tmp_path) -> None:
    start_agent()
    head.until_joined()
    digest = head.add_blob(pack({"a": os.urandom(20_000_000)}))
    head.run(TaskSpec("j-1/1/0", ["/usr/bin/touch", str(tmp_path / "ran")], package=digest))
    head.send("kill", tasks=["j-1/1/0"], grace_seconds=1, reason="cancelled")
    report = head.until_exited("j-1/1/0")
    assert report.stopped == "killed" and report.exit_code is None and report.error == "cancelled"
    head.run(TaskSpec("j-2/1/0", ["/bin/true"], package=digest))
    head.until_exited("j-2/1/0")
    assert not (tmp_path / "ran").exists()


def manifest(head, *archives: bytes) -> str:
    return head.add_blob(manifest_of([Archive(head.add_blob(data), len(data)) for data in archives]))


def test_of_a_package_of_many_archives_only_what_the_node_lacks_is_fetched(head, start_agent) -> None:
    agent = start_agent()
    head.until_joined()
    archives = [pack({f"d/{number}": b"%d\n" % number}) for number in range(40)]
    first = manifest(head, *archives)
    run = ["/bin/sh", "-c", "cat d/* | sort -n | tail -1; ls d | wc -l"]
    head.run(TaskSpec("j-1/1/0", run, package=first))
    head.until_exited("j-1/1/0")
    assert bytes(head.log("j-1/1/0").data).split() == [b"39", b"40"]
    assert head.connections == 3, "the control connection, one for the manifest and one for all the rest"
    head.fetched.clear()
    second = manifest(head, *archives[:-1], changed := pack({"d/39": b"100\n"}))
    head.run(TaskSpec("j-2/1/0", run, package=second))
    head.until_exited("j-2/1/0")
    assert bytes(head.log("j-2/1/0").data).split() == [b"100", b"40"]
    assert head.fetched == [second, hashlib.sha256(changed).hexdigest()]
    wait_until(lambda: not list((agent.directory / "work").iterdir()))


def test_a_package_of_archives_that_bring_the_same_file_or_are_no_archives_is_refused(head, start_agent) -> None:
    start_agent()
    head.until_joined()
    twice = manifest(head, pack({"a": b"1", "b": b"1"}), pack({"b": b"2"}))
    of_manifests = manifest(head, manifest_of([Archive("0" * 64, 1)]))
    damaged = head.add_blob(MARK + b"what is this\n")
    for number, digest in enumerate((twice, of_manifests, damaged)):
        head.run(TaskSpec(f"j-{number}/1/0", ["/bin/echo", "ran"], package=digest))
        assert "was refused" in head.until_exited(f"j-{number}/1/0").error and not head.log(f"j-{number}/1/0").data


def test_when_there_is_little_room_what_is_about_to_be_unpacked_stays(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(packages, "CACHE_BYTES", 1)
    archives = [pack({f"{number}": os.urandom(100)}) for number in range(5)]
    lists = [
        manifest_of([Archive(hashlib.sha256(a).hexdigest(), len(a)) for a in some])
        for some in (archives[:3], archives[2:])
    ]
    blobs = {hashlib.sha256(data).hexdigest(): data for data in (*archives, *lists)}

    async def pieces(data: bytes) -> AsyncIterator[bytes]:
        await asyncio.sleep(0)
        yield data

    async def fetch(digests):
        for digest in digests:
            yield digest, pieces(blobs[digest])

    async def both() -> None:
        kept = packages.Packages(tmp_path / "packages", fetch)
        targets = [tmp_path / "a", tmp_path / "b"]
        for target in targets:
            target.mkdir()
        await asyncio.gather(*map(kept.unpack, list(blobs)[-2:], targets))
        assert [len(list(target.iterdir())) for target in targets] == [3, 3]

    asyncio.run(both())


def test_an_archive_that_did_not_come_is_asked_for_again_and_those_that_came_are_not(tmp_path) -> None:
    archives = [pack({f"{number}": b"x"}) for number in range(6)]
    listed = [Archive(hashlib.sha256(data).hexdigest(), len(data)) for data in archives]
    data = manifest_of(listed)
    blobs = {hashlib.sha256(data).hexdigest(): data for data in (*archives, data)}
    asked: list[int] = []

    async def pieces(data: bytes) -> AsyncIterator[bytes]:
        yield data

    async def fetch(digests):
        asked.append(len(digests))
        for digest in digests[:2]:
            yield digest, pieces(blobs[digest])
        if len(digests) > 2:
            raise ConnectionError("it broke")

    (tmp_path / "target").mkdir()
    kept = packages.Packages(tmp_path / "packages", fetch)
    asyncio.run(kept.unpack(hashlib.sha256(data).hexdigest(), tmp_path / "target"))
    assert asked == [1, 6, 4, 2] and len(list((tmp_path / "target").iterdir())) == 6
