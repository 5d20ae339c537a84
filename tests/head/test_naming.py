"""Jobs are named as people remember them: by an id or its beginning, by a name, as the last one, as a member of an array."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from clusterctl_runtime.head.jobs.naming import job_named
from clusterctl_runtime.head.jobs.requests import JobRequest

from clusterctl.core.errors import NotFound, UsageError


def named(desk: Any, word: str, **how: bool) -> str:
    return asyncio.run(job_named(desk.book, word, **how))


def test_an_id_comes_before_a_name_and_a_name_before_the_beginning_of_an_id(desk) -> None:
    first = desk.job(submission_id="train", name="prepare")
    second = desk.job(submission_id="train-2", name="train.py")
    third = desk.job(submission_id="sweep", name="train")
    assert named(desk, "train") == first.id, "an id, though another has that name and a third begins so"
    assert named(desk, "train.py") == second.id, "a name may have dots"
    assert named(desk, "prepare") == first.id
    assert named(desk, "sw") == third.id
    assert named(desk, "last") == third.id
    with pytest.raises(
        UsageError, match=r"'tr' is the beginning of several jobs \(train-2, train\): name one by its id"
    ):
        named(desk, "tr")
    for nobody in ("", "rain", "train.7"):
        with pytest.raises(NotFound, match="no job"):
            named(desk, nobody)


def test_the_newest_of_a_name_is_shown_and_only_one_that_goes_on_is_ended_by_it(desk) -> None:
    old, new = desk.job(name="python"), desk.job(name="python")
    assert named(desk, "python") == new.id
    with pytest.raises(UsageError, match=f"'python' is the name of several jobs \\({new.id}, {old.id}\\)"):
        named(desk, "python", to_end=True)
    desk.book.move(new, "cancelled", "test")
    assert named(desk, "python", to_end=True) == old.id
    assert named(desk, "python") == new.id
    desk.book.move(old, "cancelled", "test")
    with pytest.raises(NotFound):
        named(desk, "python", to_end=True)


def test_an_array_is_named_by_its_members_name_and_a_member_by_its_index(desk) -> None:
    async def submit() -> list[Any]:
        jobs, _ = await desk.queue.submit([JobRequest(argv=["true"], name="sweep", array=[0, 5])])
        return jobs

    members = asyncio.run(submit())
    array = members[0].array_id
    assert named(desk, "sweep") == named(desk, "last") == named(desk, array[:6]) == named(desk, array) == array
    assert named(desk, "sweep.5") == named(desk, f"{array[:6]}.5") == members[1].id
    with pytest.raises(NotFound, match=r"no job 'sweep\.4'"):
        named(desk, "sweep.4")
