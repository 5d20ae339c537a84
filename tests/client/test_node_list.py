"""Lists of nodes that a head answers in pages, as the command line reads them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from clusterctl.client.head.api import Api
from clusterctl.client.nodes.node_list import PAGE, Lookout, Sight, list_nodes, whole_status
from clusterctl.client.registry import Registry
from clusterctl.core.errors import ClusterctlError
from tests.support.stub_head import Asked, StubHead

MANY = 2 * PAGE + 3
SHOWN = 30


def node(number: int) -> dict[str, Any]:
    return {"id": f"cpu-{number}", "pool": "cpu", "state": "ready"}


def status(count: int, in_service: int) -> dict[str, Any]:
    return {
        "cluster": "demo",
        "head": {"in_service": 1, "version": "1"},
        "pools": [{"name": "cpu", "in_service": in_service}, {"name": "gpu", "in_service": 0}],
        "nodes": [node(n) for n in range(1, min(count, SHOWN) + 1)],
        "node_counts": {"ready": in_service, "booting": count - in_service} if count else {},
    }


@pytest.fixture
def head(tmp_path: Path) -> Iterator[StubHead]:
    stub = StubHead(Registry(tmp_path, {}))

    def page(asked: Asked) -> tuple[int, dict[str, Any]]:
        first = int(asked.query.get("after", "cpu-0").removeprefix("cpu-")) + 1
        last = min(MANY, first + int(asked.query["limit"]) - 1)
        found = [node(n) for n in range(first, last + 1)]
        following = f"cpu-{last}" if last < MANY else None
        return 200, {"nodes": found, "counts": {"ready": MANY}, "total": MANY, "before": first - 1, "next": following}

    stub.on("GET", "/api/v1/nodes", page)
    stub.start()
    yield stub
    stub.stop()


def test_all_pages_are_read_and_no_more_than_were_asked_for(head: StubHead) -> None:
    with Api.of(head.cluster) as api:
        document = list_nodes(api, pool="cpu", state="ready")
        assert [n["id"] for n in document["nodes"]] == [f"cpu-{n}" for n in range(1, MANY + 1)]
        assert (document["counts"], document["total"]) == ({"ready": MANY}, MANY)
        assert [asked.query for asked in head.asked] == [
            {"limit": str(PAGE), "pool": "cpu", "state": "ready", **after}
            for after in ({}, {"after": f"cpu-{PAGE}"}, {"after": f"cpu-{2 * PAGE}"})
        ]
        head.asked.clear()
        assert len(list_nodes(api, PAGE + 1)["nodes"]) == PAGE + 1
        assert [asked.query["limit"] for asked in head.asked] == [str(PAGE), "1"]


def test_the_status_for_scripts_has_every_node(head: StubHead) -> None:
    with Api.of(head.cluster) as api:
        head.on("GET", "/api/v1/status", (200, status(SHOWN, SHOWN)))
        assert len(whole_status(api)["nodes"]) == SHOWN and len(head.asked) == 1
        head.on("GET", "/api/v1/status", (200, status(MANY, MANY)))
        assert len(whole_status(api)["nodes"]) == MANY


def test_of_many_nodes_those_that_do_not_take_work_are_looked_at_now_and_then(head: StubHead) -> None:
    now = 100.0
    with Api.of(head.cluster) as api:
        lookout = Lookout(api, lambda: now)
        few = status(SHOWN, 3)
        assert lookout.look(few) == Sight(few["nodes"]) and not head.asked
        sight = lookout.look(status(9_000, 7_997))
        assert len(sight.nodes) == MANY and sight.others == {"cpu": 7_997, "head": 1}
        assert {asked.query["in_service"] for asked in head.asked} == {"0"}
        head.asked.clear()
        assert lookout.look(status(9_000, 7_998)).others["cpu"] == 7_998 and not head.asked, "it is too early"
        now += 1.0
        lookout.look(status(9_000, 7_999))
        assert len(head.asked) == 3


def test_a_head_that_does_not_count_its_nodes_is_refused_in_a_sentence(head: StubHead) -> None:
    former = {key: value for key, value in status(3, 3).items() if key != "node_counts"}
    head.on("GET", "/api/v1/status", (200, former))
    with Api.of(head.cluster) as api, pytest.raises(ClusterctlError, match=r"'demo' runs another clusterctl \(1\)"):
        whole_status(api)
