"""The journal's file: made whole or not at all, checked when it is opened, set aside when it is damaged."""

from __future__ import annotations

import contextlib
import os
import sqlite3
from pathlib import Path

from clusterctl_runtime.files.private import part_of, sync_directory

from clusterctl.core.errors import ClusterctlError
from clusterctl.provision.schema import Migration, NewerSchema, migrate, schema_version

_FIRST: Migration = (
    "CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL)",
    "CREATE TABLE numbers (pool TEXT PRIMARY KEY, next INTEGER NOT NULL)",
    """CREATE TABLE nodes (
    id TEXT NOT NULL, generation INTEGER NOT NULL, record TEXT NOT NULL, checksum INTEGER NOT NULL,
    PRIMARY KEY (id, generation))""",
    """CREATE TABLE story (
    seq INTEGER PRIMARY KEY, node_id TEXT NOT NULL, generation INTEGER NOT NULL, at REAL NOT NULL,
    state TEXT NOT NULL, event TEXT NOT NULL, reason TEXT NOT NULL, code TEXT NOT NULL)""",
    "CREATE INDEX story_of_node ON story (node_id, seq)",
    "CREATE INDEX intents ON story (at) WHERE event = 'intend'",
    "CREATE TABLE failures (pool TEXT NOT NULL, at REAL NOT NULL, code TEXT NOT NULL)",
)
MIGRATIONS: tuple[Migration, ...] = (_FIRST,)  # a later one is appended; none is changed once it has been released
# a new journal has this key until every scope was looked at once for nodes that an older, lost journal had launched
TO_ADOPT = "to-adopt"


class JournalDamaged(ClusterctlError):
    """The file is not a journal that can be trusted. `rebuild` sets it aside; a new one finds the nodes again by tag."""


def open_journal_file(path: Path) -> sqlite3.Connection:
    """The file as a connection in WAL mode, made when it is missing; raises JournalDamaged when it cannot be
    trusted."""
    if not path.exists():
        _create(path)
    db: sqlite3.Connection | None = None
    try:
        if not path.stat().st_size:
            raise sqlite3.DatabaseError("it is empty")  # SQLite would take it for a new one, and forget all nodes
        db = sqlite3.connect(path, isolation_level=None, check_same_thread=False, timeout=10)
        db.execute("PRAGMA journal_mode=WAL")
        db.execute("PRAGMA synchronous=FULL")
        if db.execute("PRAGMA quick_check(1)").fetchone()[0] != "ok":
            raise sqlite3.DatabaseError("its pages do not fit together")
        if schema_version(db) < 1:  # a journal gets its name only when it has its first schema
            raise sqlite3.DatabaseError("it is not a journal of nodes")
        migrate(db, path, MIGRATIONS)
    except NewerSchema:
        if db:
            db.close()
        raise
    except sqlite3.OperationalError:
        if db:
            db.close()
        raise  # busy, read-only or full disk: the file itself is sound
    except sqlite3.DatabaseError as error:
        if db:
            db.close()
        raise damaged(path, error) from error
    return db


def damaged(path: Path, error: Exception) -> JournalDamaged:
    """The error to raise: it names the file, and says that nothing was touched."""
    return JournalDamaged(f"the journal of nodes {path} is damaged ({error}): no node was touched")


def rebuild(path: str | Path) -> Path:
    """Sets a damaged journal aside (with its WAL, for inspection) so that `Journal(path)` starts empty and nodes can be
    adopted by tag; returns where the damaged file is now."""
    path = Path(path)
    number = 1
    while (aside := path.with_name(f"{path.name}.damaged-{number}")).exists():
        number += 1
    for suffix in ("", "-wal", "-shm"):
        part = path.with_name(path.name + suffix)
        if part.exists():
            part.rename(aside.with_name(aside.name + suffix))
    return aside


def _create(path: Path) -> None:
    """Makes an empty journal, private to this user. It gets its name only when it is whole, and replaces none."""
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    with part_of(path) as part:
        with contextlib.closing(sqlite3.connect(part, isolation_level=None)) as db:
            migrate(db, path, MIGRATIONS)
            db.execute("INSERT INTO meta VALUES (?, ?)", (TO_ADOPT, "*"))
        with contextlib.suppress(FileExistsError):
            os.link(part, path)
        sync_directory(path.parent)
