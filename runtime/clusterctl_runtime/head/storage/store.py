"""The durable store: SQLite in WAL mode with group commit.

Writers queue statements with `write` (cheap, any number) and await `flush` when something must be on disk before it is
acknowledged or acted on. One thread executes all that is queued in one transaction: the price of an fsync is
shared by everything that arrived meanwhile.
"""

from __future__ import annotations

import asyncio
import logging
import sqlite3
import threading
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from clusterctl.core.errors import ClusterctlError
from clusterctl.provision.schema import Migration, migrate

log = logging.getLogger(__name__)

# Files from before there were versions have some of these tables, or all.
_FIRST: Migration = (
    "CREATE TABLE IF NOT EXISTS meta (key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID",
    "CREATE TABLE IF NOT EXISTS jobs (id TEXT PRIMARY KEY, seq INTEGER NOT NULL, body TEXT NOT NULL) WITHOUT ROWID",
    "CREATE TABLE IF NOT EXISTS requests (digest TEXT PRIMARY KEY, body TEXT NOT NULL) WITHOUT ROWID",
    "CREATE TABLE IF NOT EXISTS forgotten (name TEXT PRIMARY KEY, body TEXT NOT NULL) WITHOUT ROWID",
    "CREATE TABLE IF NOT EXISTS attempts (id TEXT PRIMARY KEY, job TEXT NOT NULL, body TEXT NOT NULL) WITHOUT ROWID",
    """CREATE TABLE IF NOT EXISTS events (seq INTEGER PRIMARY KEY, at REAL NOT NULL, kind TEXT NOT NULL, subject TEXT NOT NULL,
    code TEXT NOT NULL, text TEXT NOT NULL, details TEXT NOT NULL)""",
    "CREATE INDEX IF NOT EXISTS events_of_subject ON events (subject, seq)",
    """CREATE TABLE IF NOT EXISTS credentials (
    node TEXT PRIMARY KEY, boot_id TEXT NOT NULL, used INTEGER NOT NULL) WITHOUT ROWID""",
)
_SERVICES: Migration = ("CREATE TABLE services (name TEXT PRIMARY KEY, body TEXT NOT NULL) WITHOUT ROWID",)
_HISTORY: Migration = (
    """CREATE TABLE history (step INTEGER NOT NULL, place INTEGER NOT NULL, slot INTEGER NOT NULL, figures TEXT NOT NULL,
    PRIMARY KEY (step, place)) WITHOUT ROWID""",
)
MIGRATIONS: tuple[Migration, ...] = (
    _FIRST,
    _SERVICES,
    _HISTORY,
)  # a later one is appended; none is changed once it has been released

AT_ONCE = 50  # who waited for a commit and go on in one turn of the loop
Statement = tuple[str, Sequence[Any]]


class StoreUnavailable(ClusterctlError):
    """The disk did not take it (full, read-only, gone): nothing was acknowledged."""


class Store:
    """One SQLite file. `write`/`flush` are for the event loop's thread; reads happen at start (`rows`) or in a thread.
    Raises NewerSchema where a later version of clusterctl has written the file."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
        try:
            self._connection.execute("PRAGMA journal_mode=WAL")
            self._connection.execute("PRAGMA synchronous=FULL")
            migrate(self._connection, path, MIGRATIONS)
        except BaseException:
            self._connection.close()
            raise
        self._reads = sqlite3.connect(path, isolation_level=None, check_same_thread=False)  # which waits for no commit
        self._reading = threading.Lock()
        self._queued: list[Statement] = []
        self._waiters: list[tuple[asyncio.AbstractEventLoop, asyncio.Future[None]]] = []
        self._condition = threading.Condition()
        self._closing = False
        self._thread = threading.Thread(target=self._run, name="store", daemon=True)
        self._thread.start()

    def write(self, sql: str, parameters: Sequence[Any] = ()) -> None:
        """Queues one statement; it is executed in order and on disk after the next `flush`."""
        self.write_together([statement(sql, parameters)])

    def write_together(self, statements: Sequence[Statement]) -> None:
        """Queues statements (made with `statement`) of which all or none are on disk, whenever the process dies."""
        with self._condition:  # a bare append could land in a list that the writer has just taken away
            self._queued += statements

    async def flush(self) -> None:
        """Returns when all that was written so far is on disk; raises StoreUnavailable if the disk refused."""
        loop = asyncio.get_running_loop()
        future: asyncio.Future[None] = loop.create_future()
        with self._condition:
            self._waiters.append((loop, future))
            self._condition.notify()
        await future

    def rows(self, sql: str, parameters: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        """A read. Sees what is committed, not what is still queued."""
        with self._reading:
            return self._reads.execute(sql, parameters).fetchall()

    def close(self) -> None:
        """Writes what is queued and closes the file."""
        with self._condition:
            self._closing = True
            self._condition.notify()
        self._thread.join(timeout=30)
        self._reads.close()
        self._connection.close()

    def _run(self) -> None:
        pending: list[Statement] = []
        while True:
            with self._condition:
                # A quiet second also commits what nobody waits for (events).
                self._condition.wait_for(lambda: self._waiters or self._closing, timeout=1.0)
                waiters, self._waiters = self._waiters, []
                queued, self._queued = self._queued, []
                closing = self._closing
            pending += queued
            error = self._commit(pending) if pending else None
            if error is None:
                pending = []
            _resolve(waiters, error)
            if closing:
                return
            if error is not None:
                time.sleep(0.2)  # a full disk: do not spin, the statements stay queued in order

    def _commit(self, statements: Iterable[Statement]) -> StoreUnavailable | None:
        try:
            self._connection.execute("BEGIN IMMEDIATE")
            for sql, parameters in statements:
                self._execute(sql, parameters)
            self._connection.execute("COMMIT")
            return None
        except sqlite3.Error as error:
            log.error("store %s: %s", self.path, error)
            if self._connection.in_transaction:
                self._connection.execute("ROLLBACK")
            return StoreUnavailable(
                f"the head could not write {self.path} ({error}): free some disk space there, then try again"
            )

    def _execute(self, sql: str, parameters: Sequence[Any]) -> None:
        """One statement of a commit. One that could never be written must not keep all that follow it from the disk."""
        try:
            self._connection.execute(sql, parameters)
        except (ValueError, TypeError, OverflowError, sqlite3.ProgrammingError, sqlite3.InterfaceError) as error:
            log.error("store %s: left out what cannot be written (%s): %s", self.path, error, sql)


def statement(sql: str, parameters: Sequence[Any] = ()) -> Statement:
    """SQL with its values, each text made such that SQLite can store it."""
    return sql, tuple([storable(value) if isinstance(value, str) else value for value in parameters])


def storable(text: str) -> str:
    """`text` with half characters (lone surrogates, as a stranger may send them) written out: no file can hold them."""
    return text if text.isascii() else text.encode("utf-8", "backslashreplace").decode()


def _resolve(
    waiters: Iterable[tuple[asyncio.AbstractEventLoop, asyncio.Future[None]]], error: StoreUnavailable | None
) -> None:
    by_loop: dict[asyncio.AbstractEventLoop, list[asyncio.Future[None]]] = {}
    for loop, future in waiters:
        by_loop.setdefault(loop, []).append(future)

    def finish(loop: asyncio.AbstractEventLoop, futures: list[asyncio.Future[None]]) -> None:
        for future in futures[:AT_ONCE]:
            if future.done():
                continue
            if error is None:
                future.set_result(None)
            else:
                future.set_exception(error)
        if len(futures) > AT_ONCE:  # the others go on in the next turn
            loop.call_soon(finish, loop, futures[AT_ONCE:])

    for loop, futures in by_loop.items():
        if not loop.is_closed():
            loop.call_soon_threadsafe(finish, loop, futures)
