"""The schema of an SQLite file: a number in its header (`PRAGMA user_version`), and what leads from one to the next."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from pathlib import Path

from clusterctl.core.errors import ClusterctlError
from clusterctl.version import __version__

Migration = Sequence[str]  # statements, of which all or none are executed


class NewerSchema(ClusterctlError):
    """The file was written by a later version of clusterctl. It was not touched."""


def schema_version(db: sqlite3.Connection) -> int:
    """0 for a file that has none: a new one, or one from before there were versions."""
    return int(db.execute("PRAGMA user_version").fetchone()[0])


def migrate(db: sqlite3.Connection, path: Path, migrations: Sequence[Migration]) -> None:
    """Brings `path`, open as `db` in autocommit mode, to version `len(migrations)`: the first leads from 0 to 1, and so on. Each
    is one transaction together with its number: whoever dies on the way goes on where it was. Raises NewerSchema, sqlite3.Error.
    """
    version = schema_version(db)
    if version > len(migrations):
        raise NewerSchema(
            f"{path} was written by a newer clusterctl (its schema has version {version}; clusterctl {__version__} knows "
            f"those up to {len(migrations)}), and was left as it is: use that version again, or a later one "
            "(pip install -U clusterctl)"
        )
    for number, statements in enumerate(migrations[version:], version + 1):
        _step(db, number, statements)


def _step(db: sqlite3.Connection, number: int, statements: Migration) -> None:
    db.execute("BEGIN IMMEDIATE")
    try:
        if schema_version(db) < number:  # else another process was faster
            for statement in statements:
                db.execute(statement)
            db.execute(f"PRAGMA user_version={number}")
        db.execute("COMMIT")
    except BaseException:
        if db.in_transaction:
            db.execute("ROLLBACK")
        raise
