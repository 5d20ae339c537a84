"""The journal: what is said is on disk, in order, private, and checked."""

from __future__ import annotations

import os
import sqlite3
import threading
from pathlib import Path

import pytest

from clusterctl.core.errors import ClusterctlError, IllegalTransition
from clusterctl.core.lifecycle import EVENTS
from clusterctl.core.model import NodeState, Spend
from clusterctl.provision.journal.book import Journal, JournalDamaged, rebuild
from tests.provision.stage import START, launch, offer

DAY = 86_400.0


def open_journal(path: Path, *, strict: bool = True) -> Journal:
    journal = Journal(path / "nodes.db", strict=strict)
    journal.acquire("test")
    return journal


def grow(journal: Journal, node_id: str, *events: str, now: float = START) -> None:
    journal.intend(launch(node_id), now)
    for event in events:
        journal.move(node_id, event, now, instance_id=f"i-{node_id}")


def test_an_intent_is_on_disk_when_intend_returns(tmp_path: Path) -> None:
    journal = open_journal(tmp_path)
    node = journal.intend(launch(), START, "hash of the secret")
    other = Journal(tmp_path / "nodes.db")
    assert other.nodes() == {"cpu-1": node} and node.state is NodeState.PLANNED
    assert other.join_secret_hash("cpu-1") == "hash of the secret"


def test_the_same_intent_twice_is_one_node(tmp_path: Path) -> None:
    journal = open_journal(tmp_path)
    assert journal.intend(launch(), START) == journal.intend(launch(), START + 5)
    assert len(journal.story("cpu-1")) == 1


def test_an_older_or_equal_generation_is_refused(tmp_path: Path) -> None:
    journal = open_journal(tmp_path)
    grow(journal, "cpu-1")
    with pytest.raises(ClusterctlError, match="plan again"):
        journal.intend(launch(generation=2), START)
    journal.move("cpu-1", "gone", START)
    journal.intend(launch(generation=3), START)
    journal.move("cpu-1", "gone", START)
    with pytest.raises(ClusterctlError, match="plan again"):
        journal.intend(launch(generation=2), START)


def test_a_story_tells_everything_in_order_across_generations(tmp_path: Path) -> None:
    journal = open_journal(tmp_path)
    grow(journal, "cpu-1", "requested", "running", "joined", "ready")
    journal.move("cpu-1", "gone", START + 9, "the provider took it", "instance_gone")
    journal.intend(launch(generation=2), START + 10)
    story = Journal(tmp_path / "nodes.db").story("cpu-1")
    assert [line["state"] for line in story] == [
        "planned", "requested", "booting", "joining", "ready", "gone", "planned",
    ]  # fmt: skip
    assert story[5] == {
        "at": START + 9, "state": "gone", "event": "gone", "reason": "the provider took it",
        "code": "instance_gone", "generation": 1,
    }  # fmt: skip


def test_numbers_are_never_used_again(tmp_path: Path) -> None:
    journal = open_journal(tmp_path)
    grow(journal, "cpu-7", "gone")
    grow(journal, "cpu-2")
    assert journal.next_numbers() == Journal(tmp_path / "nodes.db").next_numbers() == (("cpu", 8),)


def test_since_changes_with_the_state_only_so_that_retries_do_not_move_deadlines(tmp_path: Path) -> None:
    journal = open_journal(tmp_path)
    grow(journal, "cpu-1", "requested")
    node = journal.move("cpu-1", "requested", START + 50, "again", "unknown_outcome")
    assert node.since == START and node.reason == "again"


@pytest.mark.parametrize("state", list(NodeState))
def test_every_event_in_every_state_is_legal_or_quarantines_that_node_alone(tmp_path: Path, state: NodeState) -> None:
    for number, (event, (allowed, target)) in enumerate(sorted(EVENTS.items())):
        journal = open_journal(tmp_path / str(number), strict=False)
        grow(journal, "cpu-2")
        put_into(journal, state)
        after = journal.move("cpu-1", event, START)
        if state in allowed:
            assert after.state is target
        elif state in (NodeState.GONE, NodeState.QUARANTINED):
            assert after.state is state
        else:
            assert after.state is NodeState.QUARANTINED and after.code == "illegal_event"
            assert journal.story("cpu-1")[-1]["state"] == "quarantined"
        assert journal.nodes()["cpu-2"].state is NodeState.PLANNED
        journal.close()


def put_into(journal: Journal, state: NodeState) -> None:
    path = {
        NodeState.PLANNED: (),
        NodeState.REQUESTED: ("requested",),
        NodeState.BOOTING: ("running",),
        NodeState.JOINING: ("joined",),
        NodeState.READY: ("joined", "ready"),
        NodeState.STOPPING: ("joined", "ready", "drain", "stop"),
        NodeState.STOPPED: ("joined", "ready", "drain", "stop", "stopped"),
        NodeState.DRAINING: ("joined", "ready", "drain"),
        NodeState.TERMINATING: ("terminate",),
        NodeState.GONE: ("gone",),
        NodeState.FAILED: ("fail",),
        NodeState.QUARANTINED: ("ready",),
    }[state]
    grow(journal, "cpu-1", *path)


def test_an_illegal_event_raises_with_the_story_when_strict(tmp_path: Path) -> None:
    journal = open_journal(tmp_path)
    grow(journal, "cpu-1", "requested")
    with pytest.raises(IllegalTransition, match=r"cpu-1.*ready.*requested"):
        journal.move("cpu-1", "ready", START)
    assert journal.nodes()["cpu-1"].state is NodeState.REQUESTED


def test_writes_together_are_all_kept_or_none(tmp_path: Path) -> None:
    journal = open_journal(tmp_path)
    with pytest.raises(RuntimeError), journal.together():
        journal.intend(launch("cpu-1"), START)
        journal.intend(launch("cpu-2"), START)
        raise RuntimeError
    assert journal.nodes() == {} and journal.next_numbers() == ()
    with journal.together():
        journal.intend(launch("cpu-1"), START)
        journal.intend(launch("cpu-2"), START)
    assert Journal(tmp_path / "nodes.db").nodes() == journal.nodes() and len(journal.nodes()) == 2


def test_threads_do_not_lose_each_others_writes(tmp_path: Path) -> None:
    journal = open_journal(tmp_path)
    work = [threading.Thread(target=grow, args=(journal, f"cpu-{n}", "requested", "running")) for n in range(1, 13)]
    for thread in work:
        thread.start()
    for thread in work:
        thread.join(60)
    assert {node.state for node in Journal(tmp_path / "nodes.db").nodes().values()} == {NodeState.BOOTING}
    assert len(journal.nodes()) == 12


def test_a_node_costs_from_its_request_to_its_end_per_day_and_pool(tmp_path: Path) -> None:
    journal = open_journal(tmp_path)
    midnight = (START // DAY + 1) * DAY
    journal.intend(launch(), midnight - 7200)
    journal.move("cpu-1", "requested", midnight - 3600, instance_id="i-1")
    journal.intend(launch("gpu-1", of=offer("gpu", price=10.0)), midnight)
    journal.move("gpu-1", "requested", midnight, instance_id="i-2")
    journal.move("cpu-1", "gone", midnight + 1800)
    rows = [(row.pool, row.hours, row.dollars) for row in journal.costs(midnight + 3600)]
    assert rows == [("cpu", 1.0, 2.0), ("cpu", 0.5, 1.0), ("gpu", 1.0, 10.0)]
    assert journal.spend(midnight + 3600).today == 11.0
    assert Journal(tmp_path / "nodes.db").spend(midnight + 3600).total == 13.0


def test_a_launch_that_never_got_an_instance_costs_nothing(tmp_path: Path) -> None:
    journal = open_journal(tmp_path)
    grow(journal, "cpu-1")
    journal.move("cpu-1", "fail", START, "sold out", "no_capacity")
    journal.move("cpu-1", "gone", START + 3600)
    assert journal.spend(START + 7200) == Spend()


def test_failures_in_a_row_are_counted_until_a_node_of_the_pool_is_ready(tmp_path: Path) -> None:
    journal = open_journal(tmp_path)
    for number, code in enumerate(["joining_too_long", "bad_request", "no_capacity"]):
        grow(journal, f"cpu-{number}")
        journal.move(f"cpu-{number}", "fail", START + number, "", code)
    assert journal.failures(START) == (("cpu", START), ("cpu", START + 1))  # sold out is not the pool's fault
    grow(journal, "gpu-1", "joined", "ready")
    assert len(journal.failures(START)) == 2
    grow(journal, "cpu-9", "joined", "ready")
    assert journal.failures(START) == ()


def test_the_files_are_for_their_owner_only_whatever_the_umask(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        journal = open_journal(tmp_path / "new")
        grow(journal, "cpu-1")
    finally:
        os.umask(before)
    assert {path.name: path.stat().st_mode & 0o777 for path in (tmp_path / "new").iterdir()} == {
        "nodes.db": 0o600, "nodes.db-wal": 0o600, "nodes.db-shm": 0o600,
    }  # fmt: skip
    assert (tmp_path / "new").stat().st_mode & 0o777 == 0o700


# ---------------------------------------------------------------- damage


def full_journal(path: Path) -> list[dict[str, NodeState]]:
    """Writes a journal and returns every state of it that was ever on disk."""
    journal = open_journal(path)
    seen: list[dict[str, NodeState]] = [{}]
    for number in range(1, 5):
        grow(journal, f"cpu-{number}")
        seen.append({k: v.state for k, v in journal.nodes().items()})
        for event in ("requested", "running", "joined", "ready"):
            journal.move(f"cpu-{number}", event, START)
            seen.append({k: v.state for k, v in journal.nodes().items()})
    for name in ("nodes.db", "nodes.db-wal"):
        (path / f"{name}.copy").write_bytes((path / name).read_bytes())
    journal.close()
    return seen


def reopen(path: Path, db: bytes, wal: bytes) -> dict[str, NodeState] | None:
    """The states in a journal made of these bytes, None when it is refused."""
    path.mkdir()
    (path / "nodes.db").write_bytes(db)
    (path / "nodes.db-wal").write_bytes(wal)
    try:
        journal = Journal(path / "nodes.db")
    except JournalDamaged as error:
        assert "no node was touched" in str(error)
        return None
    states = {k: v.state for k, v in journal.nodes().items()}
    journal.close()
    return states


def test_a_write_ahead_log_cut_anywhere_gives_a_state_that_once_was(tmp_path: Path) -> None:
    seen = full_journal(tmp_path)
    db, wal = (tmp_path / "nodes.db.copy").read_bytes(), (tmp_path / "nodes.db-wal.copy").read_bytes()
    found = [reopen(tmp_path / str(cut), db, wal[:cut]) for cut in range(0, len(wal), max(1, len(wal) // 150))]
    assert all(states in seen for states in found if states is not None)
    assert None not in found and seen[0] in found


def test_a_file_cut_anywhere_is_refused_or_whole(tmp_path: Path) -> None:
    seen = full_journal(tmp_path)
    whole = (tmp_path / "nodes.db").read_bytes()
    for cut in [*range(0, len(whole), max(1, len(whole) // 100)), len(whole) - 1]:
        assert reopen(tmp_path / str(cut), whole[:cut], b"") in (None, seen[-1]), cut
    assert reopen(tmp_path / "whole", whole, b"") == seen[-1]


def test_a_record_that_was_changed_by_a_flipped_bit_is_refused(tmp_path: Path) -> None:
    full_journal(tmp_path)
    whole = (tmp_path / "nodes.db").read_bytes()
    assert reopen(tmp_path / "flipped", whole.replace(b'"state":"ready"', b'"state":"reaDy"'), b"") is None
    assert reopen(tmp_path / "dearer", whole.replace(b'"price":2.0', b'"price":9.0'), b"") is None


def test_a_file_that_is_no_journal_is_refused_and_can_be_set_aside(tmp_path: Path) -> None:
    path = tmp_path / "nodes.db"
    path.write_text("hello, I am not a database, and I am long enough to be looked at" * 50)
    with pytest.raises(JournalDamaged, match="no node was touched"):
        Journal(path)
    aside = rebuild(path)
    assert aside.read_text().startswith("hello") and Journal(path).nodes() == {}


def test_a_journal_of_a_newer_version_is_left_alone(tmp_path: Path) -> None:
    open_journal(tmp_path).close()
    with sqlite3.connect(tmp_path / "nodes.db") as db:
        db.execute("PRAGMA user_version=99")
    with pytest.raises(ClusterctlError, match="newer clusterctl"):
        Journal(tmp_path / "nodes.db")
