"""Limits of an account: asked for rarely, believed for an hour, and reckoned with before anything is launched."""

from __future__ import annotations

import pytest
from clusterctl_providers.cloud.quotas import LAST, Quota, Quotas, quota_rows

from clusterctl.core.errors import QuotaExceeded
from tests.any_cloud.clock import Clock

VCPUS, GPUS = Quota("Q-1", "vCPUs of family P"), Quota("Q-2", "L4 GPUs", "GPUs")


def quotas(limits: dict[str, float | None], clock: Clock) -> tuple[Quotas, list[str]]:
    asked: list[str] = []

    def ask(quota: Quota) -> float | None:
        asked.append(quota.code)
        return limits[quota.code]

    return Quotas(ask, clock), asked


def test_a_limit_is_asked_for_once_an_hour_also_one_that_is_not_told() -> None:
    clock, limits = Clock(-5.0), dict[str, float | None]({"Q-1": 8.0, "Q-2": None})
    one, asked = quotas(limits, clock)
    for _ in range(3):
        assert (one.limit(VCPUS), one.limit(GPUS)) == (8.0, None)
    assert asked == ["Q-1", "Q-2"]
    limits["Q-1"] = 16.0
    clock.now += LAST
    assert one.limit(VCPUS) == 16.0
    assert one.limit(Quota("", "cannot be asked for")) is None and asked == ["Q-1", "Q-2", "Q-1"]


@pytest.mark.parametrize(
    ("limit", "each", "count", "says"),
    [
        (8.0, 8, 1, ""),
        (None, 8, 100, ""),
        (7.0, 8, 1, "p5 has 8 vCPUs, the quota 'vCPUs of family P' in north is 7: ask them"),
        (31.0, 8, 4, "a gang of 4 p5 has 32 vCPUs, the quota 'vCPUs of family P' in north is 31: ask them"),
        (0.0, 0.5, 1, "p5 has 0.5 vCPUs, the quota 'vCPUs of family P' in north is 0: ask them"),
    ],
)
def test_what_could_never_be_had_is_refused_with_the_sum(
    limit: float | None, each: float, count: int, says: str
) -> None:
    one, _ = quotas({"Q-1": limit}, Clock())
    if not says:
        return one.check(VCPUS, "p5", each, count, "north", "ask them")
    with pytest.raises(QuotaExceeded) as told:
        one.check(VCPUS, "p5", each, count, "north", "ask them")
    assert str(told.value) == says and told.value.quota == VCPUS.name
    return None


def test_doctor_has_a_row_for_each_quota_by_the_first_type_that_falls_under_it() -> None:
    one, _ = quotas({"Q-1": 4.0, "Q-2": None}, Clock())
    wanted = [(VCPUS, "p4", 4.0), (VCPUS, "p5", 96.0), (GPUS, "g2", 1.0)]
    enough, unknown = quota_rows(one, wanted, "north", "quotas.get", "Quotas > Compute")
    assert enough[:2] == ("quota 'vCPUs of family P' is 4 vCPUs", True)
    assert unknown == ("quota 'L4 GPUs': not to be looked up (quotas.get)", True, "")
    ((what, ok, fix),) = quota_rows(one, [(VCPUS, "p5", 96.0)], "north", "quotas.get", "Quotas > Compute")
    assert not ok and fix == "one p5 has 96 vCPUs: ask for more of 'vCPUs of family P' under Quotas > Compute in north"
    assert what == "quota 'vCPUs of family P' of 96 vCPUs, it is 4", 'read after "no"'
