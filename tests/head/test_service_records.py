"""What users want of a service, as its record keeps it."""

from __future__ import annotations

from pathlib import Path

import pytest
from clusterctl_runtime.head.jobs.requests import JobRequest, ServiceRequest
from clusterctl_runtime.head.services.record import Record, check_name, load_records, record_of
from clusterctl_runtime.head.storage.store import Store

from clusterctl.core.errors import BadRequest, Refused


def version(number: int, replicas: int | None = None) -> ServiceRequest:
    return ServiceRequest(id=f"client-{number}", job=JobRequest(argv=["serve", str(number)]), replicas=replicas)


def served(*numbers: int) -> Record:
    """A service of which these versions have served, one after the other."""
    record = Record("web")
    for number in numbers:
        record.ask(version(number), 0.0)
        record.promote()
    return record


def test_the_same_request_is_the_same_version_however_often_it_comes():
    record = Record("web")
    assert [record.ask(version(1), 0.0).number for _ in range(2)] == [1, 1]
    assert record.ask(version(2, 3), 0.0).number == 2
    assert (record.wanted, record.current, record.replicas) == (2, 0, 3)
    assert record.ask(version(3), 0.0).number == 3 and record.replicas == 3  # as many as there are


def test_a_rollback_goes_one_version_back_and_during_an_update_to_the_one_that_serves():
    record = served(1, 2, 3)
    assert record.roll_back() == 2
    record.promote()
    assert record.served == [1, 2]
    record.ask(version(4), 0.0)
    assert record.roll_back() == record.current == 2
    assert record.roll_back() == 1
    record.promote()
    with pytest.raises(Refused, match="no version before"):
        record.roll_back()


def test_a_version_that_was_given_up_leaves_the_one_before_and_says_why():
    record = served(1)
    record.ask(version(2), 0.0)
    record.give_up("web-v2-1 exited with code 3", "web-v2-1")
    assert (record.wanted, record.current, record.given_up) == (1, 1, 2)
    record.ask(version(3), 0.0)
    assert (record.given_up, record.failure) == (0, "")


def test_a_service_that_was_stopped_starts_anew_and_its_numbers_go_on():
    record = served(1, 2)
    record.new_part(2)
    record.stop()
    with pytest.raises(Refused, match="is stopped"):
        record.roll_back()
    assert record.ask(version(3), 0.0).number == 3
    assert (record.stopped, record.current, record.new_part(3).job) == (False, 0, "web-v3-2")


def test_what_is_written_down_is_what_is_read(tmp_path: Path):
    record = served(*range(1, 15))
    record.ask(version(15), 5.0)
    record.new_part(15).leaving = "why"
    store = Store(tmp_path / "store.db")
    store.write_together([record_of(record)])
    store.close()
    again = Store(tmp_path / "store.db")
    assert load_records(again) == {"web": record}
    again.close()
    assert len(record.versions) == 11  # ten that can be gone back to, and the one to come
    assert record.job_of(record.parts[0]).service is not None


@pytest.mark.parametrize("name", ["", "Web", "1web", "web_a", "a/b", "web-", "é", "a" * 41, "a.b"])
def test_a_name_that_cannot_be_part_of_an_address_is_refused(name: str):
    with pytest.raises(BadRequest):
        check_name(name)
