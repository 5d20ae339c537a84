"""Schemas of our SQLite files: brought forward in steps, and never read by a version that does not know them."""

from __future__ import annotations

import signal
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest
from clusterctl_runtime.head.storage import store as store_module
from clusterctl_runtime.head.storage.store import Store

from clusterctl.core.errors import ClusterctlError
from clusterctl.provision.journal import file as journal_file
from clusterctl.provision.journal.book import Journal
from clusterctl.provision.schema import Migration, NewerSchema, migrate, schema_version

STEPS: tuple[Migration, ...] = (
    ("CREATE TABLE jobs (id TEXT)", "INSERT INTO jobs VALUES ('old')"),
    ("ALTER TABLE jobs ADD COLUMN user TEXT NOT NULL DEFAULT ''", "UPDATE jobs SET user = 'nobody'"),
    ("CREATE INDEX jobs_of_user ON jobs (user)",),
)
KILLED = """
import os, signal, sqlite3, sys
from pathlib import Path
from clusterctl.provision.schema import migrate
db = sqlite3.connect(sys.argv[1], isolation_level=None)
db.execute("PRAGMA journal_mode=WAL")
db.create_function("die", 0, lambda: os.kill(os.getpid(), signal.SIGKILL))
second = ["CREATE TABLE two (id)", "INSERT INTO one VALUES (1)", "SELECT die()"]
migrate(db, Path(sys.argv[1]), [["CREATE TABLE one (id)"], second])
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "some.db"


@pytest.fixture
def db(path: Path) -> Iterator[sqlite3.Connection]:
    with closing(sqlite3.connect(path, isolation_level=None)) as db:
        yield db


@pytest.mark.parametrize("before", range(len(STEPS) + 1))
def test_a_file_of_any_older_version_becomes_the_newest(path: Path, db: sqlite3.Connection, before: int) -> None:
    migrate(db, path, STEPS[:before])
    assert schema_version(db) == before
    migrate(db, path, STEPS)
    assert schema_version(db) == len(STEPS)
    assert db.execute("SELECT id, user FROM jobs INDEXED BY jobs_of_user WHERE user = 'nobody'").fetchall() == [
        ("old", "nobody")
    ]
    migrate(db, path, STEPS)
    assert db.execute("SELECT count(*) FROM jobs").fetchone() == (1,), "a step is made once"


def test_a_newer_file_is_refused_with_its_name_its_version_and_what_to_do(path: Path, db: sqlite3.Connection) -> None:
    migrate(db, path, STEPS)
    before = path.read_bytes()
    with pytest.raises(NewerSchema, match=rf"{path} .*has version 3; .* up to 2\).*that version again, or a later one"):
        migrate(db, path, STEPS[:2])
    assert path.read_bytes() == before


def test_a_step_that_fails_leaves_the_version_before_it(path: Path, db: sqlite3.Connection) -> None:
    with pytest.raises(sqlite3.OperationalError, match="nowhere"):
        migrate(db, path, (STEPS[0], ("DELETE FROM jobs", "INSERT INTO nowhere VALUES (1)")))
    assert schema_version(db) == 1 and not db.in_transaction
    assert db.execute("SELECT id FROM jobs").fetchall() == [("old",)]
    migrate(db, path, STEPS)
    assert schema_version(db) == 3


def test_a_step_whose_process_is_killed_is_made_by_the_next(path: Path) -> None:
    done = subprocess.run([sys.executable, "-c", KILLED, str(path)], check=False)
    assert done.returncode == -signal.SIGKILL
    with closing(sqlite3.connect(path, isolation_level=None)) as db:
        assert schema_version(db) == 1
        assert db.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall() == [("one",)]
        assert db.execute("SELECT count(*) FROM one").fetchone() == (0,)
        migrate(db, path, (["CREATE TABLE one (id)"], ["CREATE TABLE two (id)"]))
        assert schema_version(db) == 2


def test_two_processes_that_migrate_at_once_make_each_step_once(path: Path, db: sqlite3.Connection) -> None:
    seen: list[str] = []

    def rival(statement: str) -> None:
        """Another process does it all, in the moment between the first look at the version and the transaction."""
        if statement == "BEGIN IMMEDIATE" and not seen:
            seen.append(statement)
            with closing(sqlite3.connect(path, isolation_level=None)) as other:
                migrate(other, path, STEPS)

    db.set_trace_callback(rival)
    migrate(db, path, STEPS)
    db.set_trace_callback(None)
    assert seen and schema_version(db) == 3
    assert db.execute("SELECT count(*) FROM jobs").fetchone() == (1,)


# ---------------------------------------------------------------- the head's store, and the journal of nodes


def test_a_store_from_before_there_were_versions_is_taken_over_with_what_is_in_it(path: Path) -> None:
    with closing(sqlite3.connect(path)) as db:  # as written by the first versions: fewer tables, no number
        db.execute("CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID")
        db.execute("CREATE TABLE jobs (id TEXT PRIMARY KEY, seq INTEGER NOT NULL, body TEXT NOT NULL) WITHOUT ROWID")
        db.execute("INSERT INTO jobs VALUES ('j-1', 7, '{}')")
        db.commit()
    store = Store(path)
    assert store.rows("SELECT id, seq FROM jobs") == [("j-1", 7)]
    assert store.rows("SELECT count(*) FROM events") == [(0,)]
    assert store.rows("PRAGMA user_version") == [(len(store_module.MIGRATIONS),)]
    store.close()
    again = Store(path)
    assert again.rows("SELECT id, seq FROM jobs") == [("j-1", 7)]
    again.close()


@pytest.mark.parametrize(
    "opened", [lambda path: Store(path).close(), lambda path: Journal(path).close()], ids=["store", "journal"]
)
def test_what_a_newer_version_wrote_is_left_as_it_is(path: Path, opened: Callable[[Path], None]) -> None:
    opened(path)
    with closing(sqlite3.connect(path, isolation_level=None)) as db:
        db.execute("PRAGMA user_version=99")
        db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    before = path.read_bytes()
    with pytest.raises(ClusterctlError, match=r"some\.db was written by a newer clusterctl .*99.*pip install -U"):
        opened(path)
    assert path.read_bytes() == before


def test_a_later_migration_reaches_files_that_are_there(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store, nodes = path.with_name("store.db"), path.with_name("nodes.db")
    Store(store).close()
    Journal(nodes).close()
    for module in (store_module, journal_file):
        monkeypatch.setattr(module, "MIGRATIONS", (*module.MIGRATIONS, ("CREATE TABLE later (id)",)))
    Store(store).close()
    Journal(nodes).close()
    for file, module in ((store, store_module), (nodes, journal_file)):
        with closing(sqlite3.connect(file)) as db:
            assert schema_version(db) == len(module.MIGRATIONS) and db.execute(
                "SELECT count(*) FROM later"
            ).fetchone() == (0,)
