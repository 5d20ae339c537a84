"""What the dispatcher asks of the placement."""

from __future__ import annotations

from typing import Any

from clusterctl_runtime.head.jobs.dispatch import request_of


def test_a_gang_of_a_pool_in_one_zone_is_placed_in_one_zone_and_no_other_job_is_held_to_that(desk: Any) -> None:
    gang, single = desk.job(pool="gpu", nodes=2), desk.job(pool="gpu")
    assert request_of(gang, {"gpu"}).one_zone and request_of(gang, {"gpu"}).strategy == "STRICT_SPREAD"
    assert not request_of(single, {"gpu"}).one_zone
    assert not request_of(gang, {"other"}).one_zone
