"""When a place among several has what is needed, and when it will not: judged from the documents of its head."""

from __future__ import annotations

from typing import Any

import pytest

from clusterctl.client.up.cloud_search import NotToBeHad
from clusterctl.client.up.had import Had
from clusterctl.client.up.readiness import Readiness

REFUSED = {"code": "no_capacity", "text": "big is sold out in a"}


class Offers:
    """The head's API, as far as it is asked."""

    def __init__(self, *blocked: bool) -> None:
        self.documents = [{"pool": "gpu", "blocked": {"text": "x"} if one else None} for one in blocked]
        self.documents.append({"pool": "cpu", "blocked": None})

    def get(self, path: str) -> Any:
        assert path == "/api/v1/offers"
        return {"offers": self.documents}


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def pool(problem: Any = None, **states: int) -> dict[str, Any]:
    pending = states.get("planned", 0) + states.get("requested", 0)
    return {"name": "gpu", "min": 2, "states": states, "pending": pending, "problem": problem}


def look(
    *pools: dict[str, Any], had: Had | None = None, readiness: Readiness | None = None, engine: str = "ready"
) -> bool:
    status = {"pools": list(pools), "engine": {"state": engine}}
    return (had or Had(Offers(True), Clock())).look(status, readiness or Readiness())  # type: ignore[arg-type]


def test_it_has_what_is_needed_once_the_machines_of_every_min_run_whatever_they_do_yet() -> None:
    assert look(pool(booting=1, joining=1)) and look(pool(ready=2)) and look()
    assert not look(pool(booting=1, requested=1)), "accepted is not had"
    assert not look(pool(ready=2), pool(ready=1, requested=1))


def test_a_refusal_counts_only_where_no_way_is_left_and_nothing_is_under_way() -> None:
    had = Had(Offers(True, False), Clock())  # type: ignore[arg-type]
    assert not look(pool(REFUSED, ready=1), had=had), "there is another zone"
    assert not look(pool(REFUSED, ready=1, planned=1))
    with pytest.raises(NotToBeHad, match=r"^1 of 2 nodes of pool gpu: big is sold out in a$"):
        look(pool(REFUSED, ready=1))


def test_machines_that_do_not_come_have_so_long() -> None:
    clock = Clock()
    had = Had(Offers(False), clock, seconds=600.0)  # type: ignore[arg-type]
    clock.now = 599.0
    assert not look(pool(requested=2), had=had)
    clock.now = 601.0
    with pytest.raises(NotToBeHad, match="0 of 2 nodes of pool gpu after 600 s"):
        look(pool(requested=2), had=had)


def test_launches_that_fail_time_and_again_are_a_reason_and_a_broken_setup_or_engine_is_none() -> None:
    failing = Readiness(hopeless=["gpu-3: the instance has ended at once"])
    with pytest.raises(NotToBeHad, match="ended at once"):
        look(pool(requested=1), readiness=failing)
    assert not look(pool(requested=1), readiness=failing, engine="failed")
    failing.setup_failed["gpu-2"] = None
    assert not look(pool(requested=1), readiness=failing), "it would fail elsewhere, too"
