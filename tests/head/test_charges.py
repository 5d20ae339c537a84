"""Whose dollars: what jobs and users pay of their nodes."""

from __future__ import annotations

from typing import Any

import pytest
from clusterctl_runtime.head.jobs.charges import charges_document

from clusterctl.core.charging import share_of
from clusterctl.core.resources import Resources

HOUR = 3600.0


@pytest.mark.parametrize(
    "held, share",
    [({"CPU": 1}, 0.25), ({"CPU": 1, "GPU": 1}, 1.0), ({"CPU": 8}, 1.0), ({"TPU": 1}, 0.0), ({"memory": 2}, 0.5)],
)
def test_a_share_is_the_largest_part_of_any_resource(held: dict[str, float], share: float) -> None:
    assert share_of(Resources.of(held), Resources.of({"CPU": 4, "GPU": 1, "memory": 4})) == share


def ran(desk: Any, hours: float, node: str = "cpu-1", **request: Any) -> Any:
    job = desk.job(**request)
    attempt = desk.work.assign(job, [node] * request.get("nodes", 1))
    attempt.started, attempt.ended = 1000.0, 1000.0 + hours * HOUR
    desk.book.move(job, "succeeded")
    return job


@pytest.fixture
def priced(desk: Any) -> Any:
    for books in desk.ledger:
        books.price = 2.0
    return desk


def test_jobs_pay_their_share_for_as_long_as_they_ran_and_the_rest_is_nobodys(priced: Any) -> None:
    half = ran(priced, 3, cpus=2, name="half")
    whole = ran(priced, 1, cpus=4, name="whole")
    document = charges_document(priced.book.jobs.values(), "job", 10.0, now=0.0)
    assert [(row["job"], row["hours"], row["dollars"]) for row in document["rows"]] == [
        (half.id, 1.5, 3.0),
        (whole.id, 1.0, 2.0),
    ]
    assert (document["charged"], document["unused"], document["total"]) == (5.0, 5.0, 10.0)


def test_users_pay_for_all_of_their_jobs_with_every_try_and_every_rank(priced: Any) -> None:
    ran(priced, 1, cpus=4, user="ann")
    again = ran(priced, 1, cpus=4, user="ann")
    priced.work.rerun(again)
    attempt = priced.work.assign(again, ["cpu-2"])
    attempt.started = 0.0
    ran(priced, 1, cpus=1, nodes=2, user="bob")
    document = charges_document(priced.book.jobs.values(), "user", 7.0, now=0.5 * HOUR)
    assert [(row["user"], row["dollars"]) for row in document["rows"]] == [("ann", 5.0), ("bob", 1.0)]


def test_what_forgotten_jobs_cost_is_still_charged(priced: Any) -> None:
    jobs = [ran(priced, hours, cpus=4, user=user) for hours, user in ((1, "ann"), (2, "ann"), (3, "bob"))]
    for job in jobs:
        priced.book.save_attempt(job, job.attempts[0])
    by = {
        by: charges_document(priced.book.jobs.values(), by, 20.0, 0.0, priced.book.forgotten.charges)
        for by in ("user", "job")
    }
    priced.book.forget(jobs[:2])
    priced.book.erase(jobs[:2])
    priced.reopen()
    charges = priced.book.forgotten.charges
    assert charges_document(priced.book.jobs.values(), "user", 20.0, 0.0, charges) == by["user"]
    document = charges_document(priced.book.jobs.values(), "job", 20.0, 0.0, charges)
    assert [(row["job"], row["dollars"]) for row in document["rows"]] == [("(forgotten)", 6.0), (jobs[2].id, 6.0)]
    assert document["unused"] == by["job"]["unused"] == 8.0


def test_what_was_paid_is_known_to_a_new_process_too(priced: Any) -> None:
    job = ran(priced, 2, cpus=4)
    priced.work.book.save_attempt(job, job.attempts[0])
    priced.reopen()
    document = charges_document(priced.book.jobs.values(), "job", 4.0, now=0.0)
    assert document["rows"][0]["dollars"] == 4.0


def test_of_many_jobs_the_dearest_are_shown_and_the_others_are_one_row(priced: Any) -> None:
    for number in range(103):
        ran(priced, 1 + number / 1000, cpus=4)
    document = charges_document(priced.book.jobs.values(), "job", 0.0, now=0.0)
    assert len(document["rows"]) == 101 and document["rows"][-1]["job"] == "3 more"
    assert sum(row["dollars"] for row in document["rows"]) == pytest.approx(document["charged"], abs=1e-4)
