"""Documents about nodes: a summary that does not grow with the fleet, and pages that are complete while nodes come and go."""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from clusterctl_runtime.head.api.documents import MOST_DEMANDS, status_document
from clusterctl_runtime.head.api.hosts import list_hosts
from clusterctl_runtime.head.api.nodes import list_nodes
from clusterctl_runtime.head.nodes.census import NAMED
from clusterctl_runtime.head.nodes.ledger import Holding

from clusterctl.core.errors import NotFound, UsageError
from clusterctl.core.model import Demand, Shape
from clusterctl.core.resources import Resources
from tests.head.town import Town
from tests.provision.stage import START


@pytest.fixture
def town(tmp_path: Path) -> Iterator[Town]:
    town = Town(tmp_path)
    yield town
    town.journal.close()


def status(town: Town) -> dict[str, Any]:
    return status_document(town)  # type: ignore[arg-type]


def page(town: Town, limit: int = 100, after: str = "", **which: Any) -> dict[str, Any]:
    asked: dict[str, Any] = {"pool": "", "state": "", "match": "", "in_service": None, **which}
    return asyncio.run(list_nodes(town, limit=limit, after=after, **asked))


def ids(document: dict[str, Any]) -> list[str]:
    return [node["id"] for node in document["nodes"]]


# ---------------------------------------------------------------- the summary


def test_the_status_does_not_grow_with_the_fleet(town: Town) -> None:
    town.launch(1, "head")
    town.launch(50)
    of_fifty = len(json.dumps(status(town)))
    town.launch(400)
    document = status(town)
    assert len(json.dumps(document)) < of_fifty + 200, "figures have more digits, and that is all"
    assert len(document["nodes"]) == NAMED and document["node_counts"] == {"ready": 451}
    assert document["head"]["in_service"] == 1 and document["cost"]["per_hour"] == 451.0


def test_a_pool_is_told_by_states_markets_and_price_and_by_how_many_take_work(town: Town) -> None:
    town.launch(3, market="spot")
    town.launch(2, "cpu", "requested")
    town.launch(1, "cpu", "requested", "fail")
    town.launch(4, "gpu")
    town.books("cpu-1").connected = False
    town.preparing.taking = {"cpu-2"}
    document = status(town)
    cpu, gpu = document["pools"]
    assert cpu["states"] == {"requested": 2, "ready": 3, "failed": 1} and cpu["markets"] == {"on-demand": 3, "spot": 3}
    figures = ("ready", "pending", "failed", "in_service", "preparing", "price_per_hour")
    assert [cpu[name] for name in figures] == [3, 2, 1, 1, 1, 6.0]
    assert [gpu[name] for name in figures] == [4, 0, 0, 4, 0, 4.0]
    assert document["node_counts"] == {"requested": 2, "ready": 7, "failed": 1}


def test_few_nodes_are_all_in_the_status_by_pool_and_number(town: Town) -> None:
    town.launch(11)
    town.launch(1, "head")
    assert ids(status(town)) == [*(f"cpu-{n}" for n in range(1, 12)), "head-1"]


def test_of_many_nodes_the_status_names_those_that_need_a_look_first(town: Town) -> None:
    town.launch(80)
    town.launch(2, "gpu", "requested")
    town.launch(1, "gpu", "requested", "fail")
    town.books("cpu-77").connected = False
    named = ids(status(town))
    assert named == ["gpu-3", "cpu-77", "gpu-1", "gpu-2", *(f"cpu-{n}" for n in range(1, NAMED - 3))]
    town.launch(40, "gpu", "requested")
    assert ids(status(town)) == ["gpu-3", "cpu-77", "gpu-1", "gpu-2", *(f"gpu-{n}" for n in range(4, 30))]


def test_of_many_kinds_of_waiting_work_the_first_are_told_and_the_rest_is_counted(town: Town) -> None:
    wishes = [Demand(f"d{n}", "job", ((Shape(Resources.of(CPU=n)), 1),)) for n in range(1, MOST_DEMANDS + 8)]
    town.autoscaler.demand = tuple(wishes)
    document = status(town)
    assert [item["id"] for item in document["demand"]] == [wish.id for wish in wishes[:MOST_DEMANDS]]
    assert document["demand_left_out"] == 7


# ---------------------------------------------------------------- pages


@pytest.mark.parametrize("limit", [1, 7, 100, 1000])
def test_pages_hold_every_node_once_in_the_order_of_pools_and_numbers(town: Town, limit: int) -> None:
    wanted = [*town.launch(31), *town.launch(12, "gpu"), *town.launch(1, "head")]
    found: list[str] = []
    after: str | None = ""
    while after is not None:
        document = page(town, limit, after)
        assert document["total"] == 44 and document["before"] == len(found) and len(document["nodes"]) <= limit
        found += ids(document)
        after = document["next"]
    assert found == wanted


@pytest.mark.parametrize("seed", range(8))
def test_pages_are_without_repeats_and_gaps_while_nodes_come_and_go(town: Town, seed: int) -> None:
    rng = random.Random(seed)
    town.launch(60)
    stayed, found = set(town.launch(40, "gpu")) | {f"cpu-{n}" for n in range(1, 61)}, list[str]()
    after: str | None = ""
    while after is not None:
        document = page(town, 9, after)
        found += ids(document)
        after = document["next"]
        gone = rng.sample(sorted(stayed), 3)
        gone += [after] if after in stayed else []  # the very one that is read on from
        for node_id in set(gone):
            town.bury(node_id)
        stayed -= set(gone)
        town.launch(rng.randrange(4), rng.choice(["cpu", "gpu"]))
    assert len(found) == len(set(found)) and stayed <= set(found)


def test_nodes_are_found_by_pool_state_and_words(town: Town) -> None:
    town.launch(3, market="spot")
    town.launch(2, "gpu", "requested")
    town.launch(1, "gpu", "requested", "fail")
    town.books("cpu-2").hold("task", Holding(Resources.of(CPU=1), START))
    assert ids(page(town, pool="gpu")) == ["gpu-1", "gpu-2", "gpu-3"]
    assert ids(page(town, state="failed,ready")) == ["cpu-1", "cpu-2", "cpu-3", "gpu-3"]
    assert ids(page(town, match="SPOT queue")) == ["cpu-2"]
    assert ids(page(town, match="i-gpu-2")) == ["gpu-2"]
    assert ids(page(town, match="spot failed")) == []
    both = page(town, 1, pool="gpu", state="requested")
    assert (both["total"], both["counts"], both["next"]) == (2, {"requested": 2, "failed": 1}, "gpu-1")


def test_nodes_that_do_not_take_work_can_be_asked_for_alone(town: Town) -> None:
    town.launch(50)
    town.launch(2, "gpu", "requested")
    town.books("cpu-4").connected, town.preparing.taking = False, {"cpu-9"}
    assert ids(page(town, in_service=False)) == ["cpu-4", "cpu-9", "gpu-1", "gpu-2"]
    assert page(town, 10, in_service=True)["total"] == 48


def test_a_state_or_a_pool_that_there_is_not_is_an_error_with_what_there_is(town: Town) -> None:
    with pytest.raises(UsageError, match=r"has the state 'redy': they are planned, requested, .*ready.*quarantined"):
        page(town, state="ready, redy")
    with pytest.raises(UsageError, match="no node that is listed has the state 'gone'"):
        page(town, state="gone")
    with pytest.raises(NotFound, match=r"no pool 'cup' in this cluster: it has head, cpu, gpu"):
        page(town, pool="cup")
    town.launch(1, "former")
    assert ids(page(town, pool="former")) == ["former-1"], "nodes outlive their pool"


def test_a_page_of_a_large_fleet_lets_others_have_their_turns(town: Town, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("clusterctl_runtime.head.api.node_documents.LOOKED_AT_ONCE", 50)
    town.launch(300)

    async def ask() -> int:
        turns = 0

        async def others() -> None:
            nonlocal turns
            while True:
                turns += 1
                await asyncio.sleep(0)

        meanwhile = asyncio.ensure_future(others())
        await list_nodes(town, pool="", state="", match="cpu", in_service=None, limit=1000, after="")
        meanwhile.cancel()
        return turns

    assert asyncio.run(ask()) >= 12, "after every 50 nodes that were looked at, and 50 documents that were made"


def test_the_host_of_one_node_is_asked_for_alone() -> None:
    def host(name: str, *claims: tuple[str, str]) -> SimpleNamespace:
        held = [SimpleNamespace(node_id=node_id, state=state) for node_id, state in claims]
        return SimpleNamespace(id=name, address="", pools=(), head=False, connected=True, why="", facts={}, claims=held)

    hosts = [host("h1", ("cpu-1", "running"), ("cpu-9", "terminated")), host("h2", ("cpu-2", "running"))]
    head = SimpleNamespace(standby=SimpleNamespace(hosts=lambda: hosts))

    def asked_for(node_id: str) -> list[str]:
        return [found["id"] for found in asyncio.run(list_hosts(head, node_id))["hosts"]]

    assert (asked_for("cpu-2"), asked_for("cpu-9"), asked_for("")) == (["h2"], [], ["h1", "h2"])
