"""Ends, stops and starts of many: one that is in the way does not hold back the others, and nothing of others is touched."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from clusterctl_providers.cloud.listing import Listing
from clusterctl_providers.cloud.power import Answers, Power, Verb, doing

from clusterctl.core.errors import AuthFailed, BadRequest, NoCapacity, ProviderError, Throttled
from tests.any_cloud.clock import Clock
from tests.any_cloud.test_listing import Rows


class Switch:
    """`stuck`: instances for which a whole call is refused. `wrong`: what an instance alone is answered."""

    cloud = "Acme"

    def __init__(self, rows: Rows, most: int = 100) -> None:
        self.rows, self.most = rows, most
        self.stuck: dict[str, ProviderError] = {}
        self.wrong: dict[str, ProviderError] = {}
        self.calls: list[tuple[Verb, list[str]]] = []

    def is_id(self, text: str) -> bool:
        return text.startswith("vm-")

    def change(self, verb: Verb, instance_ids: Sequence[str]) -> Answers:
        self.calls.append((verb, list(instance_ids)))
        for instance_id in instance_ids:
            if instance_id in self.stuck:
                raise self.stuck[instance_id]
        return {i: self.wrong.get(i) for i in instance_ids if i in self.rows.known}

    def is_of_one(self, error: ProviderError) -> bool:
        return isinstance(error, NoCapacity | BadRequest)

    def done(self) -> list[str]:
        return sorted(i for _, ids in self.calls if not set(ids) & set(self.stuck) for i in ids if i not in self.wrong)


def stage(count: int = 4, most: int = 100) -> tuple[Rows, Switch, Listing, Power]:
    rows = Rows(*(f"cpu-{n}" for n in range(count)))
    switch, listing = Switch(rows, most), Listing(rows, Clock())
    listing.observe("north")
    return rows, switch, listing, Power(switch, listing)


def test_nothing_that_is_not_ours_is_touched_and_each_once() -> None:
    rows, switch, _, power = stage(2)
    rows.known["vm-8"] = rows.known["vm-0"]
    rows.foreign = {"vm-8"}
    power.terminate(["vm-1", "vm-8", "vm-1", "cpu-0", "", "vm-0"])
    assert switch.calls == [("end", ["vm-1", "vm-0"])]
    power.terminate([])
    power.stop([])
    assert power.start([]) == [] and len(switch.calls) == 1


def test_calls_have_as_many_as_the_cloud_takes() -> None:
    _, switch, _, power = stage(5, most=2)
    power.terminate([f"vm-{n}" for n in range(5)])
    assert [len(ids) for _, ids in switch.calls] == [2, 2, 1]


def test_an_end_that_fails_is_told_after_all_others_were_tried() -> None:
    _, switch, listing, power = stage(4, most=2)
    switch.stuck = {"vm-0": Throttled("busy")}
    switch.wrong = {"vm-2": BadRequest("vm-2 is protected")}
    with pytest.raises(Throttled, match="busy"):
        power.terminate([f"vm-{n}" for n in range(4)])
    assert switch.done() == ["vm-3"]
    assert {i.id for i in listing.observe("north").instances} == {f"vm-{n}" for n in range(4)}


def test_halves_find_the_one_that_is_in_the_way_of_a_start() -> None:
    _, switch, _, power = stage(8)
    switch.stuck = {"vm-5": NoCapacity("none in its zone")}
    answers = power.start([f"vm-{n}" for n in range(8)])
    assert [type(answer) for answer in answers] == [type(None)] * 5 + [NoCapacity] + [type(None)] * 2
    assert switch.done() == ["vm-0", "vm-1", "vm-2", "vm-3", "vm-4", "vm-6", "vm-7"]
    assert len(switch.calls) <= 7


def test_what_is_wrong_with_the_account_is_asked_once_for_all() -> None:
    _, switch, _, power = stage(8)
    switch.stuck = {"vm-5": AuthFailed("lapsed")}
    answers = power.start([f"vm-{n}" for n in range(8)])
    assert len(switch.calls) == 1 and all(isinstance(answer, AuthFailed) for answer in answers)
    with pytest.raises(AuthFailed):
        power.stop(["vm-5"])


def test_a_start_of_what_is_gone_is_no_use_to_repeat() -> None:
    rows, _, _, power = stage(2)
    del rows.known["vm-1"]
    fine, gone = power.start(["vm-0", "vm-1"])
    assert fine is None and isinstance(gone, BadRequest)
    assert "Acme does not know the stopped instance any more: another is launched" in str(gone)


@pytest.mark.parametrize(
    ("count", "text"),
    [(1, "ending vm-0"), (5, "ending vm-0, vm-1, vm-2, vm-3, vm-4"), (7, "ending vm-0, vm-1, vm-2, vm-3, vm-4 and 2 more")],
)  # fmt: skip
def test_a_sentence_names_the_first_few(count: int, text: str) -> None:
    assert doing("end", [f"vm-{n}" for n in range(count)]) == text
