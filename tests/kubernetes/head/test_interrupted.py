"""An `up` that dies, and a head that is not there any more: the next command goes on, or leaves nothing."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.kubernetes.head.boxes import Boxes
from tests.kubernetes.head.cluster import PodCluster
from tests.support.cluster import wait_until


@pytest.fixture
def fresh(boxes: Boxes, tmp_path: Path) -> Iterator[PodCluster]:
    made = PodCluster(tmp_path, boxes, "fragile")
    boxes.volume()
    yield made
    made.clean_up()


def test_an_up_that_was_killed_at_each_step_is_finished_by_the_next(fresh: PodCluster) -> None:
    for step in ("launching the head", "launching 1 nodes", "starting the head"):
        fresh.kill_when(step, "up", "cluster.yaml", "--yes")
    fresh.cli("up", "cluster.yaml", "--yes")
    assert sorted(fresh.nodes()) == ["head-1", "work-1"]
    fresh.end_looks()
    # Its head is gone for good, and nobody but this machine can end what is left.
    api, there = fresh.boxes.plane.api, f"namespaces/{fresh.boxes.namespace}"
    for one in api.get(f"/apis/apps/v1/{there}/statefulsets")["items"]:
        api.delete(f"/apis/apps/v1/{there}/statefulsets/{one['metadata']['name']}")
        api.delete(f"/api/v1/{there}/pods/{one['metadata']['name']}-0", {"gracePeriodSeconds": 1})
    fresh.down()
    wait_until(lambda: not fresh.objects(), what="nothing is left")


def test_an_up_that_was_killed_is_undone_by_down(fresh: PodCluster) -> None:
    fresh.kill_when("the head's packages go to", "up", "cluster.yaml", "--yes")
    fresh.down()
    wait_until(lambda: not fresh.objects(), what="nothing is left")
