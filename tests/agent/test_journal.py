"""What an agent finds of the one before it."""

from __future__ import annotations

import pytest
from clusterctl_runtime.agent.tasks import journal as module
from clusterctl_runtime.agent.tasks.journal import Journal


def write(path, boot: str, *lines) -> Journal:
    journal = Journal(path, boot)
    journal.begin()
    for kind, *parts in lines:
        getattr(journal, kind)(*parts)
    journal.write()
    return journal


def test_running_ended_and_acknowledged_tasks_are_told_apart(tmp_path) -> None:
    path = tmp_path / "tasks.jsonl"
    end = {"task": "b", "exit_code": 3}
    write(
        path,
        "boot-1",
        ("ran", "a"),
        ("ran", "b"),
        ("ended", end),
        ("ran", "c"),
        ("ended", {"task": "c"}),
        ("acknowledged", "c"),
    )
    second = Journal(path, "boot-2")
    assert second.open_tasks == {"a": None, "b": end} and second.boots == ["boot-1"]
    second.begin()
    third = Journal(path, "boot-3")
    assert third.open_tasks == {"a": None, "b": end} and third.boots == ["boot-2"]


def test_a_journal_torn_at_any_byte_still_says_what_stands_before_the_tear(tmp_path) -> None:
    path = tmp_path / "tasks.jsonl"
    write(path, "boot-1", ("ran", "a"), ("ended", {"task": "a", "exit_code": 0}), ("ran", "b"))
    whole = path.read_bytes()
    for length in range(len(whole)):
        path.write_bytes(whole[:length])
        known = Journal(path, "boot-2").open_tasks
        complete = whole[:length].count(b"\n")
        assert set(known) >= {"a"} if complete >= 2 else not known or set(known) == {"a"}
        assert "b" not in known or complete >= 3


def test_a_long_journal_is_rewritten_with_what_is_open(tmp_path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_COMPACT_BYTES", 2000)
    path = tmp_path / "tasks.jsonl"
    journal = write(path, "boot-1", ("ran", "open"))
    for n in range(200):
        journal.ran(f"j-{n}/1/0")
        journal.ended({"task": f"j-{n}/1/0", "exit_code": 0})
        journal.acknowledged(f"j-{n}/1/0")
        journal.write()
    assert path.stat().st_size < 3000
    assert Journal(path, "boot-2").open_tasks == {"open": None}
