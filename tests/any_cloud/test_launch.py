"""Launches of any cloud: what one refusal means for the others, and what becomes of a call whose end nobody saw."""

from __future__ import annotations

import os
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from clusterctl_providers.base import CreateResult, PoolRequest
from clusterctl_providers.cloud.batches import Batch
from clusterctl_providers.cloud.book import KEPT, BatchBook
from clusterctl_providers.cloud.launch import Launcher

from clusterctl.core.errors import (
    AuthFailed,
    BadRequest,
    NoCapacity,
    NotYet,
    ProviderError,
    QuotaExceeded,
    Throttled,
    UnknownOutcome,
)
from clusterctl.core.model import Instance
from tests.any_cloud.acme import Acme, lost
from tests.any_cloud.requests import instance, offer, request, requests


def launcher(acme: Acme, directory: Path) -> Launcher:
    """As a process that has just begun: what it knows of earlier launches is in the book alone."""
    return Launcher(acme, BatchBook(directory / "book"))


def kinds(results: object) -> str:
    """A letter for each result: i for an instance, else the first of the error's class."""
    assert isinstance(results, list)
    return "".join("i" if isinstance(one, Instance) else type(one).__name__[0] for one in results)


def test_there_is_a_result_for_each_request_in_their_order(tmp_path: Path) -> None:
    acme = Acme()
    made = launcher(acme, tmp_path).launch(requests(3, 1, 2))
    assert [one.node_id for one in made if isinstance(one, Instance)] == ["cpu-3", "cpu-1", "cpu-2"]
    assert acme.calls == [("launching 3 nodes (cpu-:1-3@1) (big)", 3)]


def test_what_there_is_capacity_for_is_taken_and_the_rest_is_told_in_numbers(tmp_path: Path) -> None:
    acme = Acme(capacity=2)
    made = launcher(acme, tmp_path).launch(requests(1, 2, 3, 4))
    assert kinds(made) == "iiNN"
    assert str(made[3]) == "launching 4 nodes (cpu-:1-4@1) (big): Acme had capacity for 2 of 4"


def test_a_quota_is_got_past_by_halves_until_what_fits_is_launched(tmp_path: Path) -> None:
    acme = Acme(quota=5)
    made = launcher(acme, tmp_path).launch(requests(*range(1, 9)))
    assert kinds(made) == "iiiiiQQQ" and len(acme.calls) <= 8


def test_a_gang_is_never_halved(tmp_path: Path) -> None:
    acme = Acme(quota=3)
    made = launcher(acme, tmp_path).launch(requests(1, 2, 3, 4, one_zone=True))
    assert kinds(made) == "QQQQ" and len(acme.calls) == 1
    acme = Acme(capacity=3)
    assert kinds(launcher(acme, tmp_path / "b").launch(requests(1, 2, 3, 4, one_zone=True))) == "NNNN"


def test_user_data_that_is_too_long_for_all_is_halved_before_any_call(tmp_path: Path) -> None:
    acme = Acme()
    acme.longest = 2
    assert kinds(launcher(acme, tmp_path).launch(requests(1, 2, 3, 4, 5))) == "iiiii"
    assert [nodes for _, nodes in acme.calls] == [2, 1, 2]
    acme.longest = 0
    (answer,) = launcher(acme, tmp_path).launch(requests(9))
    assert isinstance(answer, BadRequest) and "too long" in str(answer)


@pytest.mark.parametrize("error", [NoCapacity("none"), QuotaExceeded("full"), BadRequest("wrong"), NotYet("making it")])
def test_a_refusal_of_one_offer_stands_before_its_others_and_not_before_the_next_offer(
    tmp_path: Path, error: ProviderError
) -> None:
    acme = Acme(most=1)
    acme.faults = [error]
    north, south = requests(1, 2, 3, of=offer("north-a")), requests(4, of=offer("north-b"))
    assert kinds(launcher(acme, tmp_path).launch([*north, *south]))[3] == "i"
    assert len(acme.calls) == 2, "the second and third of that offer are not even asked for"


@pytest.mark.parametrize("error", [Throttled("busy"), AuthFailed("lapsed"), lost()])
def test_what_is_wrong_with_the_whole_cloud_stands_before_all_offers(tmp_path: Path, error: ProviderError) -> None:
    acme = Acme(most=1)
    acme.faults = [error]
    north, south = requests(1, 2, of=offer("north-a")), requests(3, of=offer("north-b"))
    answers = launcher(acme, tmp_path).launch([*north, *south])
    assert all(answer is error for answer in answers) and len(acme.calls) == 1


def test_what_cannot_be_had_is_known_without_a_call_and_the_others_are_launched(tmp_path: Path) -> None:
    acme = Acme()
    acme.refused = {"cpu-2": NoCapacity("one is free of the reservation")}
    assert kinds(launcher(acme, tmp_path).launch(requests(1, 2, 3))) == "iNi"
    assert [nodes for _, nodes in acme.calls] == [2]
    acme.refused |= {f"cpu-{n}": NoCapacity("nothing is free") for n in (8, 9)}
    assert kinds(launcher(acme, tmp_path).launch(requests(8, 9))) == "NN" and len(acme.calls) == 1


def test_a_preparation_of_which_nobody_knows_whether_it_was_done_is_no_unknown_launch(tmp_path: Path) -> None:
    acme = Acme()
    acme.call_for = lambda batch, asked: (_ for _ in ()).throw(lost())  # type: ignore[method-assign]
    (answer,) = launcher(acme, tmp_path).launch(requests(1))
    assert isinstance(answer, Throttled) and not list((tmp_path / "book").glob("*.json"))


# ---------------------------------------------------------------- lost answers, and deaths


def test_a_call_whose_answer_was_lost_is_found_again_by_the_next_process(tmp_path: Path) -> None:
    acme = Acme()
    acme.late = [lost()]
    assert kinds(launcher(acme, tmp_path).launch(requests(1, 2))) == "UU" and len(acme.all()) == 2
    assert kinds(launcher(acme, tmp_path).launch(requests(2))) == "i", "asked for one of the two"
    assert len(acme.all()) == 2 and len(acme.calls) == 1, "nothing is launched twice, nor asked for twice"


def test_a_call_that_never_got_there_is_made_again_as_it_was_though_only_one_node_is_wanted_now(tmp_path: Path) -> None:
    acme = Acme()
    acme.faults = [lost()]
    launcher(acme, tmp_path).launch(requests(1, 2, 3))
    (made,) = launcher(acme, tmp_path).launch(requests(2))
    assert isinstance(made, Instance) and made.node_id == "cpu-2"
    assert sorted(acme.names()) == ["cpu-1", "cpu-2", "cpu-3"] and acme.calls[0] == acme.calls[1]


def test_a_process_that_died_between_the_book_and_the_call_leaves_a_call_that_is_made(tmp_path: Path) -> None:
    class Dies(Acme):
        def make(self, *_: object, **__: object) -> dict[str, Instance]:  # type: ignore[override]
            raise SystemExit

    with pytest.raises(SystemExit):
        launcher(Dies(), tmp_path).launch(requests(1, 2))
    acme = Acme()
    assert kinds(launcher(acme, tmp_path).launch(requests(1, 2))) == "ii" and len(acme.calls) == 1


def test_instances_that_no_list_shows_yet_are_got_by_the_same_token(tmp_path: Path) -> None:
    acme = Acme()
    acme.hidden = True
    acme.late = [lost()]
    launcher(acme, tmp_path).launch(requests(1, 2))
    assert kinds(launcher(acme, tmp_path).launch(requests(1, 2))) == "ii" and len(acme.all()) == 2


class EachAlone(Acme):
    """Asks for its nodes one by one, and dies after `alive` of them."""

    each_alone = True

    def __init__(self, alive: int = 100) -> None:
        super().__init__()
        self.alive, self.there = alive, dict[str, Instance]()

    def make(self, batch: Batch, call: Mapping[str, Any], pool: PoolRequest | None) -> dict[str, CreateResult]:
        self.calls.append((self.title(batch, call), len(batch.members)))
        for number, (token, member) in enumerate(zip(batch.node_tokens, batch.members, strict=True)):
            if number == self.alive:
                raise SystemExit
            self.there.setdefault(token, instance(len(self.there), *member))
        return {token: self.there[token] for token in batch.node_tokens}

    def made(self, batch: Batch) -> dict[str, Instance]:
        return {token: self.there[token] for token in batch.node_tokens if token in self.there}


@pytest.mark.parametrize("gang", [False, True])
def test_of_nodes_asked_for_one_by_one_those_are_asked_for_that_nobody_asked_for_before(
    tmp_path: Path, gang: bool
) -> None:
    acme = EachAlone(alive=2)
    with pytest.raises(SystemExit):
        launcher(acme, tmp_path).launch(requests(1, 2, 3, 4, one_zone=gang))
    acme.alive = 100
    assert kinds(launcher(acme, tmp_path).launch(requests(2, 3, 4, one_zone=gang))) == "iii"
    assert [nodes for _, nodes in acme.calls] == [4, 3 if gang else 2], "a gang is asked for as a whole"
    assert sorted(one.node_id for one in acme.there.values()) == ["cpu-1", "cpu-2", "cpu-3", "cpu-4"]


def test_a_node_that_was_asked_for_alone_and_has_ended_is_not_launched_again(tmp_path: Path) -> None:
    acme = EachAlone()
    assert kinds(launcher(acme, tmp_path).launch(requests(1, 2))) == "ii"
    (page,) = (tmp_path / "book").glob("*.json")
    assert "big" not in page.read_text(), "the call is not needed any more, and had secrets in it"
    del acme.there[request("cpu-2").token]
    again = launcher(acme, tmp_path).launch(requests(1, 2))
    assert [one.state for one in again if isinstance(one, Instance)] == ["pending", "terminated"]
    assert len(acme.calls) == 1


def test_a_token_that_was_used_for_another_call_gives_what_came_of_that_one(tmp_path: Path) -> None:
    acme = Acme(capacity=2)
    launcher(acme, tmp_path / "lost").launch(requests(1, 2, 3))
    changed = [request(f"cpu-{n}", offer(instance_type="huge")) for n in (1, 2, 3)]
    answers = launcher(acme, tmp_path / "new").launch(changed)
    assert kinds(answers) == "iiA" and isinstance(answers[2], UnknownOutcome) and len(acme.all()) == 2


def test_a_look_for_what_was_launched_that_fails_leaves_the_outcome_unknown(tmp_path: Path) -> None:
    acme = Acme()
    acme.late = [lost()]
    launcher(acme, tmp_path).launch(requests(1))

    def broken(_: object) -> dict[str, Instance]:
        raise AuthFailed("lapsed")

    acme.made = broken  # type: ignore[method-assign]
    assert kinds(launcher(acme, tmp_path).launch(requests(1))) == "U"
    assert len(acme.all()) == 1 and len(acme.calls) == 1


def test_a_refusal_for_good_is_forgotten_and_the_same_node_may_be_launched_otherwise(tmp_path: Path) -> None:
    acme = Acme(capacity=0)
    acme.faults = [BadRequest("no such image")]
    one = launcher(acme, tmp_path)
    assert kinds(one.launch(requests(1))) == "B" and not list((tmp_path / "book").glob("*.json"))
    acme.capacity = 1
    assert kinds(one.launch([request("cpu-1", offer("north-b"))])) == "i"


# ---------------------------------------------------------------- the book


def test_the_book_is_private_and_forgets_after_two_days(tmp_path: Path) -> None:
    acme = Acme()
    launcher(acme, tmp_path).launch(requests(1))
    (page,) = (tmp_path / "book").glob("*.json")
    assert page.stat().st_mode & 0o777 == 0o600
    later = page.stat().st_mtime + KEPT + 1
    book = BatchBook(tmp_path / "book", lambda: later)
    with book.locked():
        assert book.find(request("cpu-1").token) is None and not page.exists()


@pytest.mark.parametrize("text", ["", "{", '{"token": "x"}', '{"token": "x", "members": 7, "tokens": [], "call": {}}'])
def test_a_page_that_is_torn_is_thrown_away(tmp_path: Path, text: str) -> None:
    (tmp_path / "book").mkdir()
    torn = tmp_path / "book" / "torn.json"
    torn.write_text(text)
    assert kinds(launcher(Acme(), tmp_path).launch(requests(1))) == "i" and not torn.exists()


def test_nothing_is_called_that_is_not_on_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    acme = Acme()

    def full(_: int) -> None:
        raise OSError("no space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="no space"):
        launcher(acme, tmp_path).launch(requests(1))
    assert acme.calls == []


def test_launchers_of_one_cluster_take_turns_and_launch_each_node_once(tmp_path: Path) -> None:
    """Six at the same time, real threads with books of their own over one directory, as in processes of their own."""
    acme = Acme()
    start = threading.Barrier(6)
    answers: list[object] = []

    def work() -> None:
        one = launcher(acme, tmp_path)
        start.wait(60)
        answers.extend(one.launch(requests(1, 2, 3)))

    threads = [threading.Thread(target=work) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert len(answers) == 18 and all(isinstance(answer, Instance) for answer in answers)
    assert len(acme.all()) == 3 and len(acme.calls) == 1
