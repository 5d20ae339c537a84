"""What a head forgets in the long run, and what it never does."""

from __future__ import annotations

import asyncio
import hashlib
import os
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
from clusterctl_runtime.head.blobs import BlobStore
from clusterctl_runtime.head.retention import Keep, Retention

from clusterctl.core.errors import NotFound

DAY = 24 * 3600.0


def retention(desk: Any, in_use: Iterable[str] = (), **keep: Any) -> Retention:
    blobs = BlobStore(desk.directory / "blobs")
    return Retention(desk.book, desk.events, desk.logs, blobs, lambda: in_use, desk.store, Keep(**keep))


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
    assert [event["text"] for event in desk.events.since(0)] == [f"event {n}" for n in range(20, 30)]


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
