"""The fake cloud's faults, each as its documentation says, on a clock that the test moves."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from clusterctl_providers.base import CreateRequest, PoolRequest, ProviderContext
from clusterctl_providers.fake.provider import FakeProvider

from clusterctl.core.errors import BadRequest
from clusterctl.core.model import Instance

UID = "44444444-4444-4444-8444-444444444444"
TYPES = {
    "small": {"CPU": 2, "price": 0.1, "spot_price": 0.03},
    "l4": {"CPU": 4, "GPU": 1, "gpu_type": "L4", "price": 0.8},
}


class Cloud:
    def __init__(self, directory: Path, faults: tuple[dict[str, Any], ...], settings: dict[str, Any]) -> None:
        self.now = 1000.0
        self.numbers = itertools.count(1)
        self.directory, self.faults = directory, list(faults)
        self.settings = {"types": TYPES, "zones": ["za", "zb"], "boot_seconds": 10, **settings}
        self.provider = self.open()

    def open(self) -> FakeProvider:
        settings = {"faults": self.faults, **self.settings}
        return FakeProvider(ProviderContext("demo", UID, str(self.directory), settings, clock=lambda: self.now))

    def create(self, zone: str = "za", token: str = "", market: str = "on-demand") -> Any:
        number = next(self.numbers)
        pool = PoolRequest("cpu", {"instances": ["small"], "market": [market], "zones": [zone]})
        (offer,) = self.provider.offers(pool)
        tags = {"clusterctl-uid": UID, "clusterctl-cluster": "demo"}
        request = CreateRequest(token or f"token-{number}", f"cpu-{number}", 1, offer, tags, {}, pool)
        return self.provider.create([request])[0]

    def states(self) -> list[str]:
        return [instance.state for scope in self.provider.list() for instance in scope.instances]

    def code(self, answer: object) -> str:
        return getattr(answer, "code", "made")


@pytest.fixture
def make(tmp_path: Path) -> Callable[..., Cloud]:
    return lambda *faults, **settings: Cloud(tmp_path, faults, settings)


def test_an_instance_is_pending_until_it_has_booted(make: Callable[..., Cloud]) -> None:
    cloud = make()
    assert cloud.create().state == "pending"
    cloud.now += 9.9
    assert cloud.states() == ["pending"]
    cloud.now += 0.1
    assert cloud.states() == ["running"]


def test_a_faster_clock_makes_everything_faster(make: Callable[..., Cloud]) -> None:
    cloud = make(speed=60)
    cloud.create()
    cloud.now += 0.2
    assert cloud.states() == ["running"]


def test_the_cloud_outlives_its_callers(make: Callable[..., Cloud]) -> None:
    cloud = make()
    made = cloud.create()
    cloud.provider.close()
    (found,) = cloud.open().list()[0].instances
    assert found == made


def test_equal_calls_at_equal_times_give_equal_answers_and_records(tmp_path: Path) -> None:
    def play(directory: Path) -> Any:
        cloud = Cloud(directory, ({"kind": "no_capacity", "times": 1},), {})
        answers = [cloud.code(cloud.create()) for _ in range(3)]
        cloud.now += 20
        return answers, cloud.provider.list(), cloud.provider.calls()

    assert play(tmp_path / "a") == play(tmp_path / "b")


def test_every_call_is_on_record(make: Callable[..., Cloud]) -> None:
    cloud = make()
    made = cloud.create()
    cloud.now += 5
    cloud.provider.terminate([made.id])
    assert cloud.provider.calls() == [
        {"at": 0.0, "call": "create", "tokens": ["token-1"]},
        {"at": 5.0, "call": "terminate", "ids": [made.id]},
    ]


def test_sold_out_strikes_its_offers_for_its_time(make: Callable[..., Cloud]) -> None:
    cloud = make({"kind": "no_capacity", "offer": "*/spot/za", "from": 0, "until": 60})
    assert cloud.code(cloud.create(market="spot")) == "no_capacity"
    assert cloud.code(cloud.create(market="spot", zone="zb")) == cloud.code(cloud.create()) == "made"
    cloud.now += 60
    assert cloud.code(cloud.create(market="spot")) == "made"


def test_times_are_counted_across_callers(make: Callable[..., Cloud]) -> None:
    cloud = make({"kind": "bad_request", "times": 2})
    assert cloud.code(cloud.create()) == "bad_request"
    cloud.provider = cloud.open()
    assert [cloud.code(cloud.create()) for _ in range(2)] == ["bad_request", "made"]


def test_a_quota_counts_what_lives(make: Callable[..., Cloud]) -> None:
    cloud = make({"kind": "quota", "limit": 1, "quota": "vCPUs"})
    made = cloud.create()
    refused = cloud.create()
    assert cloud.code(refused) == "quota_exceeded" and refused.quota == "vCPUs"
    cloud.provider.terminate([made.id])
    assert cloud.code(cloud.create()) == "made"


def test_throttling_names_the_wait_and_does_nothing(make: Callable[..., Cloud]) -> None:
    cloud = make({"kind": "throttled", "call": "create", "times": 1, "retry_after": 3})
    answer = cloud.create()
    assert (answer.code, answer.retry_after) == ("throttled", 3.0) and cloud.states() == []


def test_a_throttled_list_is_incomplete(make: Callable[..., Cloud]) -> None:
    cloud = make({"kind": "throttled", "call": "list", "times": 1})
    assert [scope.complete for scope in cloud.provider.list()] == [False, False]
    assert [scope.complete for scope in cloud.provider.list()] == [True, True]


@pytest.mark.parametrize(("kind", "made"), [("lost_call", 0), ("lost_answer", 1)])
def test_an_answer_is_lost_with_or_without_its_effect(make: Callable[..., Cloud], kind: str, made: int) -> None:
    cloud = make({"kind": kind, "call": "create", "times": 1})
    assert cloud.code(cloud.create()) == "unknown_outcome" and len(cloud.states()) == made


def test_slow_and_lost_boots(make: Callable[..., Cloud]) -> None:
    cloud = make({"kind": "slow_boot", "offer": "*/za", "seconds": 300}, {"kind": "lost_boot", "offer": "*/zb"})
    cloud.create("za")
    cloud.create("zb")
    cloud.now += 299
    assert cloud.states() == ["pending", "pending"]
    cloud.now += 1e9
    assert cloud.states() == ["running", "pending"]


def test_a_spot_instance_is_taken_away_and_says_so(make: Callable[..., Cloud]) -> None:
    cloud = make({"kind": "spot_loss", "offer": "*/spot/*", "after": 100}, linger=50)
    cloud.create(market="spot")
    cloud.now += 109
    assert cloud.states() == ["running"]
    cloud.now += 1
    (gone,) = cloud.provider.list()[0].instances
    assert gone.state == "terminated" and "taken away" in gone.detail and gone.reclaimed
    cloud.now += 50
    assert cloud.states() == []
    assert cloud.provider.look_up([gone.id])[gone.id].reclaimed, "who asks by id is told why for longer"


def test_lists_lag_behind_beginnings_and_ends(make: Callable[..., Cloud]) -> None:
    cloud = make({"kind": "stale_list", "seconds": 5})
    made = cloud.create()
    assert cloud.states() == []
    cloud.now += 20
    assert cloud.states() == ["running"]
    cloud.provider.terminate([made.id])
    cloud.now += 4.9
    assert cloud.states() == ["running"]
    cloud.now += 0.1
    assert cloud.states() == []


def test_a_partial_list_shows_half_and_says_so(make: Callable[..., Cloud]) -> None:
    cloud = make({"kind": "partial_list", "scope": "za"})
    for _ in range(4):
        cloud.create()
    broken, whole = cloud.provider.list()
    assert (len(broken.instances), broken.complete, whole.complete) == (2, False, True) and "broke off" in broken.error


def test_addresses_are_fresh_unless_they_are_reused(make: Callable[..., Cloud]) -> None:
    cloud = make({"kind": "address_reuse", "from": 50})
    first, second = cloud.create(), cloud.create()
    cloud.provider.terminate([first.id])
    assert len({first.address, second.address, cloud.create().address}) == 3
    cloud.now += 50
    assert cloud.create().address == first.address


def test_a_token_that_comes_back_with_another_wish_is_refused(make: Callable[..., Cloud]) -> None:
    cloud = make()
    assert isinstance(cloud.create(token="same"), Instance)
    assert cloud.code(cloud.create("zb", token="same")) == "bad_request"


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        ({"kind": "meteor"}, r"faults\[0\].*'meteor' is unknown.*no_capacity"),
        ({"kind": "quota", "limits": 3}, r"faults\[0\] \(quota\): unknown key 'limits'.*limit"),
        ({"kind": "no_capacity", "times": "often"}, r"faults\[0\] \(no_capacity\): .*often"),
    ],
)
def test_a_wrong_script_is_refused_with_its_place(
    make: Callable[..., Cloud], fault: dict[str, Any], message: str
) -> None:
    with pytest.raises(BadRequest, match=message):
        make(fault)


def test_offers_come_from_the_pools_wishes(make: Callable[..., Cloud]) -> None:
    cloud = make()
    spec = {"gpu": {"name": "L4", "count": 1}, "market": ["spot", "on-demand"], "resources": {"TPU": 2}}
    offers = cloud.provider.offers(PoolRequest("gpu", spec))
    assert {(o.instance_type, o.gpu_type) for o in offers} == {("l4", "L4")} and len(offers) == 4
    assert [o.rank for o in offers if o.market == "spot"] == [0, 0]
    assert offers[0].resources.to_dict() == {"CPU": 4, "GPU": 1, "TPU": 2}
    with pytest.raises(BadRequest, match="huge"):
        cloud.provider.offers(PoolRequest("gpu", {"instances": ["huge"]}))


def test_without_types_of_its_own_it_offers_a_real_clouds_catalogue(tmp_path: Path) -> None:
    provider = FakeProvider(ProviderContext("demo", UID, str(tmp_path), {}))
    offers = provider.offers(PoolRequest("gpu", {"instances": ["g6.xlarge"], "market": ["spot", "on-demand"]}))
    assert {offer.zone for offer in offers} == {"us-east-1a", "us-east-1b"} == set(provider.scopes)
    assert all(offer.price > 0 and offer.resources.get("GPU") == 1 and offer.pool == "gpu" for offer in offers)
