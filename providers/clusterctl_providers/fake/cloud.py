"""The fake cloud itself: instances, calls and struck faults in one SQLite file, so that it outlives whoever calls it.

Times in it are seconds since it was first used. Every change is one transaction of one process: the cloud is never half
changed, whenever its caller dies.
"""

from __future__ import annotations

import contextlib
import json
import math
import sqlite3
import threading
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

_SCHEMA = """
CREATE TABLE IF NOT EXISTS facts (name TEXT PRIMARY KEY, value REAL NOT NULL);
CREATE TABLE IF NOT EXISTS instances (number INTEGER PRIMARY KEY, token TEXT NOT NULL UNIQUE, data TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS strikes (fault INTEGER PRIMARY KEY, used INTEGER NOT NULL);
CREATE TABLE IF NOT EXISTS calls (seq INTEGER PRIMARY KEY, at REAL NOT NULL, call TEXT NOT NULL, data TEXT NOT NULL);
"""
NEVER = math.inf


@dataclass(frozen=True)
class FakeInstance:
    """One instance's whole life, decided when it is made but for stops and ends. `seen_from`: when lists begin to show it;
    `lag`: for how long they still show it running after its end; `noticed_at`: from when on its being taken is
    announced. `booted`: a real agent was started for it; `cleared`: and ended."""

    number: int
    token: str
    node_id: str
    generation: int
    offer_key: str
    zone: str
    instance_type: str
    market: str
    address: str
    created: float
    created_at: float  # on the caller's clock
    boots_at: float = NEVER
    taken_at: float = NEVER
    noticed_at: float = NEVER
    ended_at: float = NEVER
    stopped_at: float = NEVER  # since when it is stopped; NEVER = it is not
    starts: int = 0  # how often it was started again
    seen_from: float = 0.0
    lag: float = 0.0
    with_agent: bool = True
    booted: bool = False
    cleared: bool = False
    tags: Mapping[str, str] = field(default_factory=dict[str, str])
    bootstrap: Mapping[str, Any] = field(default_factory=dict[str, Any])
    ended_by: str = ""

    @property
    def id(self) -> str:
        return f"i-fake-{self.number:06d}"

    def end(self) -> float:
        """When it ends or has ended, in the cloud's seconds; NEVER where that is not decided."""
        return min(self.ended_at, self.taken_at)

    def lives(self, now: float) -> bool:
        """Stopped ones live, too."""
        return now < self.end()

    def state(self, now: float) -> Literal["pending", "running", "stopped", "terminated"]:
        """The truth at that moment, behind which a list may lag."""
        if not self.lives(now):
            return "terminated"
        if self.stopped_at <= now:
            return "stopped"
        return "running" if now >= self.boots_at else "pending"


class FakeCloud:
    """The file. Use it inside `change()`; what is read there stays true until the block ends."""

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._lock = threading.RLock()
        self._db = sqlite3.connect(path, isolation_level=None, check_same_thread=False, timeout=30)
        path.chmod(0o600)
        self._db.execute("PRAGMA journal_mode=WAL")
        self._db.execute("PRAGMA synchronous=OFF")  # it has to survive its caller, not the machine
        self._db.executescript(_SCHEMA)

    @contextlib.contextmanager
    def change(self) -> Iterator[None]:
        """One transaction: it waits for those of other processes, and is undone when the block raises. Not to be nested."""
        with self._lock:
            self._db.execute("BEGIN IMMEDIATE")
            try:
                yield
            except BaseException:
                self._db.execute("ROLLBACK")
                raise
            self._db.execute("COMMIT")

    def since_first_use(self, now: float) -> float:
        """Seconds since the cloud was first used, on the caller's clock."""
        self._db.execute("INSERT OR IGNORE INTO facts VALUES ('started', ?)", (now,))
        return now - self._db.execute("SELECT value FROM facts WHERE name = 'started'").fetchone()[0]

    def instances(self) -> list[FakeInstance]:
        """All of them, by number: of every cluster that shares the file, and ended ones."""
        return [_read(text) for (text,) in self._db.execute("SELECT data FROM instances ORDER BY number")]

    def by_token(self, token: str) -> FakeInstance | None:
        """Ended ones, too."""
        row = self._db.execute("SELECT data FROM instances WHERE token = ?", (token,)).fetchone()
        return _read(row[0]) if row else None

    def next_number(self) -> int:
        """The highest in use and one; free until the end of this `change`."""
        return self._db.execute("SELECT coalesce(max(number), 0) + 1 FROM instances").fetchone()[0]

    def put(self, instance: FakeInstance) -> FakeInstance:
        """Writes a new instance, or all of one that is there; returns it."""
        data = json.dumps(asdict(instance))
        row = (instance.number, instance.token, data)
        self._db.execute("INSERT OR REPLACE INTO instances VALUES (?, ?, ?)", row)
        return instance

    def end(self, instance: FakeInstance, now: float, by: str) -> FakeInstance:
        """An end that came before stays, and so does who brought it about. Returns what was written."""
        return self.put(replace(instance, ended_at=min(instance.ended_at, now), ended_by=instance.ended_by or by))

    def strikes(self, fault: int) -> int:
        """How often this fault of the script has struck, by its number."""
        row = self._db.execute("SELECT used FROM strikes WHERE fault = ?", (fault,)).fetchone()
        return row[0] if row else 0

    def strike(self, fault: int) -> None:
        """Counts one more."""
        self._db.execute("INSERT OR REPLACE INTO strikes VALUES (?, ?)", (fault, self.strikes(fault) + 1))

    def note_call(self, now: float, call: str, data: Mapping[str, Any]) -> None:
        """`data`, as JSON data, is what the call was about; see `calls`."""
        self._db.execute("INSERT INTO calls (at, call, data) VALUES (?, ?, ?)", (now, call, json.dumps(data)))

    def calls(self) -> list[dict[str, Any]]:
        """Everything that was ever asked of the cloud, oldest first: at, call, and what the call was about."""
        rows = self._db.execute("SELECT at, call, data FROM calls ORDER BY seq")
        return [{"at": at, "call": call, **json.loads(data)} for at, call, data in rows]

    def close(self) -> None:
        self._db.close()


def _read(text: str) -> FakeInstance:
    return FakeInstance(**json.loads(text))
