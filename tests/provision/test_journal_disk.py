"""The journal beside a disk that takes its time: who must wait for it does, and nobody else."""

from __future__ import annotations

import random
import threading
from pathlib import Path

import pytest

from clusterctl.core.errors import ClusterctlError
from clusterctl.core.model import NodeState
from clusterctl.provision.costs import DAY, Ledger
from clusterctl.provision.journal.book import Journal, StaleFence
from tests.provision.stage import START, launch, offer


def opened(tmp_path: Path) -> Journal:
    journal = Journal(tmp_path / "nodes.db", strict=True)
    journal.acquire("test")
    for node_id in ("cpu-1", "cpu-2"):
        journal.intend(launch(node_id), START)
        journal.move(node_id, "requested", START, instance_id=f"i-{node_id}")
    return journal


def on_disk(tmp_path: Path) -> dict[str, NodeState]:
    journal = Journal(tmp_path / "nodes.db")
    try:
        return {node.id: node.state for node in journal.nodes().values()}
    finally:
        journal.close()


def test_nobody_waits_for_anothers_transaction_but_who_asks_for_the_disk(tmp_path: Path) -> None:
    journal = opened(tmp_path)
    inside, go_on = threading.Event(), threading.Event()

    def slowly() -> None:
        with journal.together():
            journal.move("cpu-1", "terminate", START + 1)
            inside.set()
            assert go_on.wait(60)

    thread = threading.Thread(target=slowly)
    thread.start()
    assert inside.wait(60)
    moved = journal.move("cpu-2", "joined", START + 1, durable=False)  # with a lock on the disk this would never return
    assert moved.state is NodeState.JOINING and journal.nodes()["cpu-1"].state is NodeState.TERMINATING
    assert journal.get("cpu-9") is None and journal.story("cpu-2")[-1]["event"] == "joined"
    assert journal.spend(START).total == 0.0
    assert on_disk(tmp_path) == {"cpu-1": NodeState.REQUESTED, "cpu-2": NodeState.REQUESTED}
    go_on.set()
    thread.join(60)
    assert on_disk(tmp_path) == {"cpu-1": NodeState.TERMINATING, "cpu-2": NodeState.JOINING}, "it went along"


def test_what_does_not_wait_for_the_disk_is_there_after_commit_and_not_before(tmp_path: Path) -> None:
    journal = opened(tmp_path)
    journal.move("cpu-1", "joined", START, durable=False)
    assert on_disk(tmp_path)["cpu-1"] is NodeState.REQUESTED
    journal.commit()
    assert on_disk(tmp_path)["cpu-1"] is NodeState.JOINING


def test_writes_come_to_the_disk_in_the_order_in_which_they_were_made_in_memory(tmp_path: Path) -> None:
    journal = opened(tmp_path)
    journal.move("cpu-1", "joined", START, durable=False)
    journal.move("cpu-1", "terminate", START + 1)
    assert on_disk(tmp_path)["cpu-1"] is NodeState.TERMINATING
    assert [line["event"] for line in journal.story("cpu-1")][-2:] == ["joined", "terminate"]


def test_a_transaction_that_fails_takes_nothing_of_others_with_it(tmp_path: Path) -> None:
    journal = opened(tmp_path)
    with pytest.raises(ClusterctlError, match="on purpose"), journal.together():
        journal.move("cpu-1", "terminate", START)
        thread = threading.Thread(target=journal.move, args=("cpu-2", "joined", START), kwargs={"durable": False})
        thread.start()
        thread.join(60)
        raise ClusterctlError("on purpose")
    assert {n.id: n.state for n in journal.nodes().values()} == {
        "cpu-1": NodeState.REQUESTED,
        "cpu-2": NodeState.JOINING,
    }
    journal.commit()
    assert on_disk(tmp_path) == {"cpu-1": NodeState.REQUESTED, "cpu-2": NodeState.JOINING}


def test_nothing_that_waits_is_written_once_somebody_else_has_taken_over(tmp_path: Path) -> None:
    journal = opened(tmp_path)
    journal.move("cpu-1", "joined", START, durable=False)
    Journal(tmp_path / "nodes.db").acquire("another head")
    with pytest.raises(StaleFence):
        journal.commit()
    assert on_disk(tmp_path)["cpu-1"] is NodeState.REQUESTED
    assert journal.nodes()["cpu-1"].state is NodeState.REQUESTED, "memory says what the disk says"


def test_words_that_no_file_can_hold_keep_nothing_from_the_disk(tmp_path: Path) -> None:
    journal = opened(tmp_path)
    journal.move("cpu-1", "joined", START, reason="step \udc80", durable=False)
    journal.move("cpu-2", "joined", START, durable=False)
    journal.commit()
    assert set(on_disk(tmp_path).values()) == {NodeState.JOINING}


def test_a_node_that_is_gone_in_memory_is_gone_for_all_before_the_disk_says_so(tmp_path: Path) -> None:
    journal = opened(tmp_path)
    journal.move("cpu-1", "fail", START, durable=False)
    journal.move("cpu-1", "gone", START, durable=False)
    node = journal.get("cpu-1")
    assert node is not None and node.state is NodeState.GONE and "cpu-1" not in journal.nodes()


def test_changes_are_told_by_node(tmp_path: Path) -> None:
    journal, told = opened(tmp_path), set[str]()
    journal.changed = told.add
    journal.move("cpu-1", "joined", START, durable=False)
    journal.learn("cpu-2", "i-cpu-2", "10.0.0.2", START)
    assert told == {"cpu-1", "cpu-2"}


@pytest.mark.parametrize("seed", range(8))
def test_the_running_sums_are_what_all_stays_add_up_to(tmp_path: Path, seed: int) -> None:
    """Nodes that are launched, stopped, started and ended at random over weeks, also across restarts, against a slow count."""
    rng = random.Random(seed)
    journal, now = Journal(tmp_path / "nodes.db"), START
    journal.acquire("test")
    stays: dict[str, float] = {}  # node -> since when it is paid for
    slow, price = Ledger(), {"cpu": 2.0, "gpu": 10.0}
    for number in range(60):
        now += rng.choice([0.0, 60.0, 3600.0, 0.7 * DAY])
        pool = rng.choice(["cpu", "gpu"])
        live = list(journal.nodes().values())
        deed = rng.choice(["launch", "launch", "stop", "start", "end", "restart"])
        if deed == "launch":
            node_id = f"{pool}-{number + 1}"
            journal.intend(launch(node_id, of=offer(pool, price=price[pool])), now)
            for event in ("requested", "joined", "ready"):
                journal.move(node_id, event, now, instance_id=f"i-{node_id}")
            stays[node_id] = now
        elif deed == "restart":
            journal.close()
            journal = Journal(tmp_path / "nodes.db")
            journal.acquire("test")
        elif live:
            node = rng.choice(live)
            ends = deed == "end" or (deed == "stop" and node.state is NodeState.READY)
            if ends and node.id in stays:
                slow.add(node.pool, price[node.pool], stays.pop(node.id), now)
            if deed == "stop" and node.state is NodeState.READY:
                for event in ("drain", "stop", "stopped"):
                    journal.move(node.id, event, now)
            elif deed == "start" and node.state is NodeState.STOPPED:
                journal.move(node.id, "start", now)
                stays[node.id] = now
                journal.move(node.id, "joined", now)
                journal.move(node.id, "ready", now)
            elif deed == "end":
                journal.move(node.id, "terminate", now)
                journal.move(node.id, "gone", now)
        expected = slow.copy()
        for node_id, since in stays.items():
            kind = node_id.partition("-")[0]
            expected.add(kind, price[kind], since, now)
        spend, day = journal.spend(now), int(now // DAY)
        assert spend.total == pytest.approx(expected.total, abs=1e-6)
        assert spend.today == pytest.approx(expected.by_day.get(day, 0.0), abs=1e-6)
        assert spend.month == pytest.approx(expected.month(now), abs=1e-6)
        wanted = {(row.day, row.pool): row.dollars for row in expected.rows() if row.dollars}
        assert {(row.day, row.pool): row.dollars for row in journal.costs(now) if row.dollars} == pytest.approx(wanted)
