"""What a head forgets in the long run, and what it never does."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import os
import time
from collections.abc import AsyncIterator, Iterable
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from clusterctl_runtime.files.manifest import MARK, Archive, manifest_of, read_manifest
from clusterctl_runtime.head.jobs.book import JobBook
from clusterctl_runtime.head.jobs.requests import JobRequest
from clusterctl_runtime.head.storage.blobs import BlobStore
from clusterctl_runtime.head.storage.retention import Retention, RetentionLimits
from clusterctl_runtime.head.storage.store import Store
from clusterctl_runtime.head.turns import AT_ONCE

from clusterctl.core.errors import BadRequest, NotFound

DAY = 24 * 3600.0


def retention(desk: Any, in_use: Iterable[str] = (), **keep: Any) -> Retention:
    blobs = BlobStore(desk.directory / "blobs")
    return Retention(desk.book, desk.events, desk.logs, blobs, lambda: in_use, desk.store, RetentionLimits(**keep))


def tidy(desk: Any, *arguments: Any, **keep: Any) -> None:
    async def scenario() -> None:
        housekeeping = retention(desk, *arguments, **keep)
        await housekeeping.tidy()
        await housekeeping.tidy_blobs()

    asyncio.run(scenario())


def ended(desk: Any, count: int) -> list[Any]:
    jobs = [desk.job() for _ in range(count)]
    for job in jobs:
        attempt = desk.work.assign(job, ["cpu-1"])
        desk.logs.append(f"{attempt.id}/0", 0, b"some output\n")
        desk.book.move(job, "succeeded")
    return jobs


def blob(directory: Path, content: bytes, age: float) -> str:
    digest = hashlib.sha256(content).hexdigest()
    path = directory / "blobs" / digest
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(content)
    then = time.time() - age
    os.utime(path, (then, then))
    return digest


def test_the_oldest_jobs_that_ended_go_with_their_attempts_and_logs_and_the_rest_stays(desk: Any) -> None:
    waiting = desk.job(name="waits since before all others")
    jobs = ended(desk, 5)
    tidy(desk, jobs=2)
    desk.reopen()
    assert set(desk.book.jobs) == {waiting.id, jobs[3].id, jobs[4].id}
    assert desk.book.counts == {"queued": 1, "succeeded": 5}
    assert {path.name for path in (desk.directory / "logs").iterdir()} == {jobs[3].id, jobs[4].id}
    assert {row[0] for row in desk.store.rows("SELECT job FROM attempts")} == {jobs[3].id, jobs[4].id}
    with pytest.raises(NotFound):
        desk.book.get(jobs[0].id)


def submitted(desk: Any, **request: Any) -> list[Any]:
    return asyncio.run(desk.queue.submit([JobRequest(argv=["true"], **request)]))[0]


def move(desk: Any, jobs: Iterable[Any], state: str) -> None:
    for job in jobs:
        desk.book.move(job, state)


def test_no_figure_changes_by_forgetting_whenever_the_head_dies(desk: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """The head's process dies after any of its commits: what the next one counts is what was."""
    sweep = submitted(desk, submission_id="sweep", array=list(range(900)))
    move(desk, sweep[:700], "succeeded")
    move(desk, sweep[700:720], "failed")
    asyncio.run(desk.store.flush())
    before, of_array = +desk.book.counts, +desk.book.array("sweep").counts
    copies: list[Path] = []
    commit = desk.store._commit

    def copied(statements: Any) -> Any:
        done = commit(statements)
        copies.append(desk.directory / f"store-{len(copies)}.db")
        desk.store._connection.execute("VACUUM INTO ?", (str(copies[-1]),))
        return done

    monkeypatch.setattr(desk.store, "_commit", copied)
    tidy(desk, jobs=10)
    assert len(desk.book.ended) == 10 and len(copies) >= 3
    for copy in copies:
        store = Store(copy)
        book = JobBook(store)
        store.close()
        assert (+book.counts, +book.array("sweep").counts) == (before, of_array)
    assert (+desk.book.counts, +desk.book.array("sweep").counts) == (before, of_array)


def test_a_member_that_failed_counts_for_who_follows_the_array_also_when_it_is_forgotten(desk: Any) -> None:
    sweep = submitted(desk, submission_id="sweep", array=[0, 1, 2])
    waits = submitted(desk, submission_id="report", after=["sweep:any"])[0]
    move(desk, sweep[:1], "failed")
    move(desk, sweep[1:2], "succeeded")
    tidy(desk, jobs=0)
    desk.reopen()
    assert desk.book.array("sweep").counts == {"queued": 1, "failed": 1, "succeeded": 1}
    with pytest.raises(BadRequest, match=r"of which sweep\.0 failed: it would never start") as refused:
        submitted(desk, submission_id="needs", after=["sweep"])
    assert str(refused.value).endswith("Write sweep:any")  # it cannot be tried again
    move(desk, [desk.book.get("sweep.2")], "succeeded")
    assert not desk.book.array("sweep").open and desk.book.get(waits.id).group in desk.book.groups


def test_an_array_of_which_all_is_forgotten_is_known_no_more(desk: Any) -> None:
    move(desk, submitted(desk, submission_id="sweep", array=[0, 1]), "failed")
    tidy(desk, jobs=1)
    assert len(desk.store.rows("SELECT name FROM forgotten")) == 2
    tidy(desk, jobs=0)
    assert [name for (name,) in desk.store.rows("SELECT name FROM forgotten")] == [""]
    desk.reopen()
    assert not desk.book.gate.knows("sweep") and desk.book.counts == {"failed": 2}
    assert not desk.store.rows("SELECT * FROM requests")


def test_a_job_is_not_forgotten_half_when_the_head_dies_between(desk: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its logs go first: what is left after a crash is found and forgotten at the next look."""
    jobs = ended(desk, 3)
    monkeypatch.setattr(desk.book, "erase", lambda jobs: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        tidy(desk, jobs=1)
    desk.reopen()
    assert set(desk.book.jobs) == {job.id for job in jobs}
    tidy(desk, jobs=1)
    assert {path.name for path in (desk.directory / "logs").iterdir()} == {jobs[2].id}
    assert desk.book.counts == {"succeeded": 3}


def test_a_job_that_is_tried_again_is_among_the_last_to_be_forgotten(desk: Any) -> None:
    jobs = ended(desk, 3)
    asyncio.run(desk.queue.retry(jobs[0].id))
    move(desk, jobs[:1], "succeeded")
    tidy(desk, jobs=1)
    assert list(desk.book.jobs) == [jobs[0].id]


def test_what_is_too_much_goes_in_pieces(desk: Any) -> None:
    move(desk, submitted(desk, array=list(range(3 * AT_ONCE))), "cancelled")
    sizes = [len(desk.book.jobs)]
    forget = desk.book.forget

    def counted(jobs: Any) -> None:
        forget(jobs)
        sizes.append(len(desk.book.jobs))

    desk.book.forget = counted
    tidy(desk, jobs=10)
    assert sizes[-1] == 10 and max(a - b for a, b in pairwise(sizes)) <= AT_ONCE


def test_numbers_of_forgotten_jobs_are_not_given_again(desk: Any) -> None:
    jobs = ended(desk, 3)
    tidy(desk, jobs=1)
    desk.reopen()
    assert desk.job().seq == jobs[2].seq + 1


def test_old_events_go_and_a_follower_from_the_very_beginning_gets_those_that_are_left(desk: Any) -> None:
    for number in range(30):
        desk.events.add("cluster", "demo", "test", f"event {number}")
    tidy(desk, events=10)
    desk.reopen()
    assert [event["text"] for event in asyncio.run(desk.events.since(0))] == [f"event {n}" for n in range(20, 30)]


def test_a_package_goes_when_no_job_and_no_spec_needs_it_and_it_is_old(desk: Any) -> None:
    of_a_job = blob(desk.directory, b"job", 3 * DAY)
    of_the_spec = blob(desk.directory, b"spec", 3 * DAY)
    just_sent = blob(desk.directory, b"sent", 60)
    blob(desk.directory, b"nobody's", 3 * DAY)
    desk.job(package=of_a_job)
    tidy(desk, [of_the_spec])
    assert {path.name for path in (desk.directory / "blobs").iterdir()} == {of_a_job, of_the_spec, just_sent}


def test_a_package_that_a_client_asks_for_is_young_again(desk: Any) -> None:
    digest = blob(desk.directory, b"again", 3 * DAY)
    assert BlobStore(desk.directory / "blobs").renew(digest)
    tidy(desk)
    assert BlobStore(desk.directory / "blobs").has(digest)


def manifest(directory: Path, archives: list[str], age: float) -> str:
    return blob(directory, manifest_of([Archive(digest, 1) for digest in archives]), age)


def test_what_a_manifest_lists_stays_as_long_as_the_manifest_and_goes_after_it(desk: Any) -> None:
    shared, old, new = (blob(desk.directory, name.encode(), 3 * DAY) for name in ("shared", "old", "new"))
    of_a_job = manifest(desk.directory, [shared, new], 3 * DAY)
    manifest(desk.directory, [shared, old], 3 * DAY)
    just_sent = manifest(desk.directory, [lone := blob(desk.directory, b"lone", 3 * DAY)], 60)
    desk.job(package=of_a_job)
    tidy(desk)
    assert {path.name for path in (desk.directory / "blobs").iterdir()} == {of_a_job, shared, new, just_sent, lone}


def test_a_head_that_dies_while_it_removes_blobs_leaves_no_manifest_that_lacks_something(
    desk: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    archives = [blob(desk.directory, b"%d" % number, 3 * DAY) for number in range(4)]
    for some in (archives[:2], archives[1:3], archives[2:]):
        manifest(desk.directory, some, 3 * DAY)
    unlink, left, here = Path.unlink, 0, {""}

    def unlink_some(path: Path, missing_ok: bool = False) -> None:
        nonlocal left
        left -= 1
        if left < 0:
            raise OSError("it died here")
        unlink(path, missing_ok)

    monkeypatch.setattr(Path, "unlink", unlink_some)
    store = BlobStore(desk.directory / "blobs")
    for _ in range(7):
        left = 1
        with contextlib.suppress(OSError):
            store.remove_unused((), time.time())
        here = {path.name for path in (desk.directory / "blobs").iterdir()}
        for name in here:
            listed = read_manifest(desk.directory / "blobs" / name) or []
            assert {archive.digest for archive in listed} <= here
    assert not here


def test_a_manifest_is_taken_in_only_after_all_that_it_lists_which_is_young_then(desk: Any) -> None:
    async def pieces(data: bytes) -> AsyncIterator[bytes]:
        yield data

    store = BlobStore(desk.directory / "blobs")
    first = blob(desk.directory, b"first", 3 * DAY)
    data = manifest_of([Archive(first, 5), Archive(hashlib.sha256(b"second").hexdigest(), 6)])
    digest = hashlib.sha256(data).hexdigest()
    with pytest.raises(BadRequest, match="lists 1 archives that are not on this head"):
        asyncio.run(store.put(digest, pieces(data)))
    assert not store.has(digest)
    blob(desk.directory, b"second", 3 * DAY)
    assert asyncio.run(store.put(digest, pieces(data)))
    assert store.remove_unused((), time.time() - DAY) == 0
    for bad in (b"x", b"\n", b"0" * 64 + b" -1\n", b"0" * 64 + b" 1"):
        data = MARK + bad
        with pytest.raises(BadRequest, match="is not one of ours"):
            asyncio.run(store.put(hashlib.sha256(data).hexdigest(), pieces(data)))
