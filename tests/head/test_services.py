"""Services as the head keeps them: what the disk refused does not come true, and what is wanted makes jobs."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from clusterctl_runtime.head.jobs.requests import JobRequest, ServiceRequest
from clusterctl_runtime.head.services.controller import Services
from clusterctl_runtime.head.services.entry import Entry
from clusterctl_runtime.head.services.record import load_records
from clusterctl_runtime.head.storage.store import StoreUnavailable


def services_of(desk: Any, tmp_path: Any) -> Services:
    entry = Entry(tmp_path, lambda: None, lambda name: None)
    return Services(
        desk.store,
        desk.book,
        desk.queue,
        desk.work,
        desk.ledger,
        desk.events,
        entry,
        lambda _: None,
        lambda *_: "token",
    )


def version(number: int) -> ServiceRequest:
    return ServiceRequest(id=f"client-{number}", job=JobRequest(argv=["serve"]), replicas=2)


def test_what_the_disk_refused_is_not_wanted_later(desk: Any, tmp_path: Any, monkeypatch: pytest.MonkeyPatch):
    async def story() -> None:
        services = services_of(desk, tmp_path)
        commit = desk.store._commit
        monkeypatch.setattr(desk.store, "_commit", lambda statements: StoreUnavailable("the disk is full"))
        with pytest.raises(StoreUnavailable):
            await services.ask("web", version(1))
        assert services.records == {} and services.working == 0
        monkeypatch.setattr(desk.store, "_commit", commit)
        await desk.store.flush()
        assert load_records(desk.store) == {}
        assert await services.ask("web", version(1)) == 1
        assert services.working == 1
        assert load_records(desk.store)["web"].wanted == 1

    asyncio.run(story())


def test_replicas_are_written_down_before_they_are_jobs_and_a_new_head_goes_on_with_them(desk: Any, tmp_path: Any):
    async def story() -> None:
        services = services_of(desk, tmp_path)
        await services.ask("web", version(1))
        await services._look(services.records["web"])
        assert sorted(desk.book.jobs) == ["web-v1-1", "web-v1-2"]
        again = services_of(desk, tmp_path)
        assert [part.job for part in again.records["web"].parts] == ["web-v1-1", "web-v1-2"]
        await again._look(again.records["web"])
        assert len(desk.book.jobs) == 2

    asyncio.run(story())
