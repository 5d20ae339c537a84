"""How the journal's writes come to its file: each in a transaction, in the order in which they were made in memory.

Whoever must not act before its word is on disk writes inside `transaction`, which waits for the disk. The head's event loop
must not wait: what it writes stays in `waiting` until the next transaction of anybody, which takes it along in its place.
"""

from __future__ import annotations

import contextlib
import sqlite3
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from clusterctl.core.errors import ClusterctlError
from clusterctl.provision.journal.file import open_journal_file
from clusterctl.provision.journal.records import Record


class StaleFence(ClusterctlError):
    """Somebody else has taken over this cluster's nodes: stop acting, nothing was written."""


@dataclass(frozen=True)
class Write:
    """One statement. `record`: what it makes a node's newest record. `block`: it belongs to the transaction that is open, and
    fails with it."""

    sql: str
    values: Sequence[Any]
    record: Record | None = None
    block: bool = False


class Disk:
    """Locks are taken in this order: `file`, over a whole transaction; then `memory`, for moments and never over a call to the
    file, so that whoever reads memory does not wait for the disk."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.file = threading.RLock()
        self.memory = threading.RLock()
        self.waiting: list[Write] = []
        self._db = open_journal_file(path)
        self._reads = sqlite3.connect(path, isolation_level=None, check_same_thread=False, timeout=10)
        self._reading = threading.Lock()
        self._inside: int | None = None  # the thread whose transaction is open

    def write(self, sql: str, values: Sequence[Any], record: Record | None = None) -> None:
        """Joins the writes that wait; call it with `memory` held, together with the change in memory."""
        safe = [_storable(value) if isinstance(value, str) else value for value in values]
        self.waiting.append(Write(sql, safe, record, block=self.is_inside))

    @property
    def is_inside(self) -> bool:
        """Whether this thread has a transaction open."""
        return self._inside == threading.get_ident()

    def read(self, sql: str, values: Sequence[Any] = ()) -> list[Any]:
        """What is on disk, and within a transaction what it has written out so far. Waits for no other thread's transaction."""
        if self.is_inside:
            return self._db.execute(sql, values).fetchall()
        with self._reading:
            return self._reads.execute(sql, values).fetchall()

    def put_now(self, sql: str, values: Sequence[Any]) -> None:
        """A statement of the open transaction that later reads in it must see."""
        self._db.execute(sql, values)

    @contextlib.contextmanager
    def transaction(self) -> Iterator[None]:
        """All that is written inside, and all that waited, is on disk after it; when it raises, what was written inside is
        forgotten and the rest waits on. Call it with `file` held."""
        try:
            self._db.execute("BEGIN IMMEDIATE")
        except sqlite3.OperationalError as error:
            raise ClusterctlError(
                f"the journal of nodes {self.path} cannot be written ({error}); its owner is {self._owner()}: if "
                "that process hangs, end it and try again"
            ) from error
        taken: list[Write] = []
        self._inside = threading.get_ident()
        try:
            yield
            with self.memory:
                taken, self.waiting = self.waiting, []
            for write in taken:
                self._db.execute(write.sql, write.values)
            self._db.execute("COMMIT")
        except BaseException as error:
            if self._db.in_transaction:
                self._db.execute("ROLLBACK")
            with self.memory:
                kept = [] if isinstance(error, StaleFence) else [*taken, *self.waiting]
                self.waiting = [write for write in kept if not write.block]
            raise
        finally:
            self._inside = None

    def _owner(self) -> str:
        rows = self._db.execute("SELECT value FROM meta WHERE key = 'owner'").fetchall()
        return rows[0][0] if rows else ""

    def close(self) -> None:
        """What waits is not written."""
        self._reads.close()
        self._db.close()


def _storable(text: str) -> str:
    """Half characters (lone surrogates, as a node may send them) written out: one of them must not keep all others from disk."""
    return text if text.isascii() else text.encode("utf-8", "backslashreplace").decode()
