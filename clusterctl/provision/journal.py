"""The journal of nodes: what we meant to do is on disk before we do it, with each node's whole story.

One SQLite file (WAL, synchronous=FULL: a call that returned is fsynced). Whoever acts takes the fence with `acquire`;
every write checks in its own transaction that the fence is still theirs, so a second client or a head that woke from a
pause cannot act on an old view. Safe to use from several threads.
"""

from __future__ import annotations

import contextlib
import sqlite3
import threading
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from clusterctl_providers.base import TAG_SPEC

from clusterctl.core.errors import ClusterctlError, IllegalTransition
from clusterctl.core.lifecycle import next_state
from clusterctl.core.model import PENDING_STATES, Instance, Launch, Node, NodeState, Offer, Spend
from clusterctl.provision.costs import CostRow, Ledger, per_day
from clusterctl.provision.journal_file import TO_ADOPT, damaged, open_journal_file
from clusterctl.provision.journal_file import JournalDamaged as JournalDamaged
from clusterctl.provision.journal_file import rebuild as rebuild
from clusterctl.provision.records import Record, record_from_text, record_to_text

# launches that a provider turned down for now: the offer is blocked for a while, the pool itself is not at fault
_NOT_THE_POOLS_FAULT = frozenset({"no_capacity", "quota_exceeded", "throttled", "head_lost"})


class StaleFence(ClusterctlError):
    """Somebody else has taken over this cluster's nodes: stop acting, nothing was written."""


class Journal:
    """See the module. `strict`: an illegal event raises instead of quarantining the node (for tests)."""

    def __init__(self, path: str | Path, *, strict: bool = False) -> None:
        self.path = Path(path)
        self.strict = strict
        self.fence = 0
        self._lock = threading.RLock()
        self._depth = 0
        self._records: dict[str, Record] = {}  # newest generation of every node id that is not gone
        self._numbers: dict[str, int] = {}
        self._ended = Ledger()  # costs of generations that are gone
        self._db = open_journal_file(self.path)
        try:
            self._load()
        except BaseException:
            self._db.close()
            raise

    # ------------------------------------------------------------ reading, from memory

    def nodes(self) -> dict[str, Node]:
        """Every node that is not gone, by id."""
        with self._lock:
            return {node_id: record.node for node_id, record in self._records.items()}

    def get(self, node_id: str) -> Node | None:
        """The newest generation of a node, also when it is gone; None when there never was one."""
        record = self._newest(node_id)
        return record.node if record else None

    def join_secret_hash(self, node_id: str) -> str:
        """The hash that was journalled with the node's newest intent, "" if none."""
        record = self._newest(node_id)
        return record.join_secret_hash if record else ""

    def next_numbers(self) -> tuple[tuple[str, int], ...]:
        """(pool, number of its next node), as `State.next_number` wants it."""
        with self._lock:
            return tuple(sorted(self._numbers.items()))

    def story(self, node_id: str) -> list[dict[str, Any]]:
        """What happened to a node, oldest first: at, state, event, reason, code, generation."""
        columns = ("at", "state", "event", "reason", "code", "generation")
        query = f"SELECT {', '.join(columns)} FROM story WHERE node_id = ? ORDER BY seq"  # noqa: S608
        with self._lock:
            return [dict(zip(columns, row, strict=True)) for row in self._db.execute(query, (node_id,))]

    def costs(self, now: float) -> list[CostRow]:
        """Dollars and hours per day and pool, up to `now`."""
        return self._ledger(now).rows()

    def spend(self, now: float) -> Spend:
        return self._ledger(now).spend(now)

    def launches(self, since: float) -> tuple[float, ...]:
        """When launches were intended, from `since` on, for the limit of launches per minute."""
        query = "SELECT at FROM story WHERE event = 'intend' AND at >= ? ORDER BY at"
        with self._lock:
            return tuple(at for (at,) in self._db.execute(query, (since,)))

    def failures(self, since: float) -> tuple[tuple[str, float], ...]:
        """(pool, time) of launches that failed in a row: a node of the pool that gets ready wipes them out."""
        query = "SELECT pool, at FROM failures WHERE at >= ? ORDER BY at, pool"
        with self._lock:
            return tuple((pool, at) for pool, at in self._db.execute(query, (since,)))

    def forget_failures(self) -> None:
        """The breaker closes: whoever is in charge says that it is time to try again."""
        with self.together():
            self._db.execute("DELETE FROM failures")

    def meta_get(self, key: str, default: str = "") -> str:
        with self._lock:
            row = self._db.execute("SELECT value FROM meta WHERE key = ?", (key,)).fetchone()
        return row[0] if row else default

    @property
    def adopts(self) -> bool:
        """Whether it is new, and may not know all nodes: some scope was not looked at in full yet."""
        return bool(self.meta_get(TO_ADOPT))

    # ------------------------------------------------------------ writing, fenced and fsynced

    def acquire(self, owner: str) -> int:
        """Takes the fence for `owner` ("head 1234 on host"), returns its number and locks all earlier holders out."""
        with self._lock, self._transaction():
            self.fence = int(self.meta_get("fence", "0")) + 1
            self._put_meta("fence", str(self.fence))
            self._put_meta("owner", owner)
        self._load()
        return self.fence

    def check_fence(self) -> None:
        """Raises StaleFence when someone else has taken over; to be called before every call to a provider."""
        holder = int(self.meta_get("fence", "0"))
        if holder != self.fence or not self.fence:
            raise StaleFence(
                f"the nodes of this cluster are now managed by {self.meta_get('owner') or 'nobody'} (fence {holder}, "
                f"ours was {self.fence}): nothing was changed; ask that process, or take over again"
            )

    @contextlib.contextmanager
    def together(self) -> Iterator[None]:
        """Makes the writes inside one transaction: all are on disk after the block, or none."""
        with self._lock:
            if self._depth:
                yield  # inside another block: that one commits
                return
            self._depth = 1
            try:
                with self._transaction():
                    self.check_fence()
                    yield
            except BaseException:
                self._load()  # memory may hold what was rolled back
                raise
            finally:
                self._depth = 0

    def meta_set(self, key: str, value: str) -> None:
        with self.together():
            self._put_meta(key, value)

    def intend(self, launch: Launch, now: float, join_secret_hash: str = "") -> Node:
        """Journals a launch before the provider is called. The same launch again returns the node unchanged."""
        with self.together():
            known = self._newest(launch.node_id)
            if known and known.node.token == launch.token:
                return known.node
            if known and (known.node.state is not NodeState.GONE or known.node.generation >= launch.generation):
                raise ClusterctlError(
                    f"cannot launch {launch.node_id} (generation {launch.generation}): its generation "
                    f"{known.node.generation} is {known.node.state.value}; plan again"
                )
            node = planned_node(launch, now)
            self._put(Record(node, join_secret_hash))
            self._tell(node, now, "intend")
            self._raise_number(node)
            return node

    def move(
        self,
        node_id: str,
        event: str,
        now: float,
        reason: str = "",
        code: str = "",
        instance_id: str = "",
        address: str = "",
    ) -> Node:
        """Applies a life-cycle event and returns the node after it. An event that its state forbids raises when strict,
        else puts the node into quarantine. `since` changes only with the state."""
        with self.together():
            record = self._newest(node_id)
            if record is None:
                raise ClusterctlError(f"cannot apply {event!r} to {node_id}: the journal knows no such node")
            node = record.node
            try:
                state = next_state(node.state, event)
            except IllegalTransition as error:
                if self.strict:
                    raise IllegalTransition(f"{node_id}: {error}; its story: {self.story(node_id)}") from error
                state, code, reason = NodeState.QUARANTINED, "illegal_event", f"{error} ({reason or 'no reason given'})"
                if node.state in (NodeState.QUARANTINED, NodeState.GONE):
                    return node  # the record of what happened stands
            after = replace(
                node,
                state=state,
                since=node.since if state is node.state else now,
                created=now if event == "start" else node.created,  # asked for anew
                reason=reason or ("" if state is not node.state else node.reason),
                code=code or ("" if state is not node.state else node.code),
                instance_id=instance_id or node.instance_id,
                address=address or node.address,
            )
            if after == node:
                return node
            self._put(_billed(replace(record, node=after), now))
            self._tell(after, now, event)
            self._count_failure(node, after, now)
            return after

    def note(self, node_id: str, reason: str, code: str, now: float) -> Node | None:
        """Writes down what a live node waits for; its state stays. Its story tells the first of several with one code."""
        with self.together():
            record = self._records.get(node_id)
            if record is None:
                return None
            after = replace(record.node, reason=reason, code=code)
            if after != record.node:
                self._put(replace(record, node=after))
            if code != record.node.code:
                self._tell(after, now, "note")
            return after

    def learn(self, node_id: str, instance_id: str, address: str, now: float) -> Node | None:
        """Writes down what a provider's list says of a live node (its instance, its address); its state stays."""
        with self.together():
            record = self._records.get(node_id)
            if record is None:
                return None
            node = record.node
            after = replace(node, instance_id=instance_id or node.instance_id, address=address or node.address)
            if after != node:
                self._put(_billed(replace(record, node=after), now))
            return after

    def bury(self, node_id: str, now: float, reason: str, code: str) -> None:
        """Ends a node's record whatever its state, quarantine included: only `down` may, once nothing is left of it."""
        with self.together():
            record = self._records.get(node_id)
            if record:
                node = replace(record.node, state=NodeState.GONE, since=now, reason=reason, code=code)
                self._put(_billed(replace(record, node=node), now))
                self._tell(node, now, "gone")

    def adopt(self, instance: Instance, offer: Offer, now: float, role: str = "worker", reason: str = "") -> Node:
        """Writes the record of an instance that was found by its tags and that no record explains. It counts as booting
        until its agent dials in, and as billed since the provider created it."""
        with self.together():
            known = self._newest(instance.node_id)
            if known and known.node.generation >= instance.generation:
                return known.node
            node = Node(
                id=instance.node_id, generation=instance.generation, token=instance.token, offer=offer,
                state=NodeState.BOOTING, since=now, created=instance.created or now,
                role="head" if role == "head" else "worker", instance_id=instance.id, address=instance.address,
                reason=reason or "found by its tags", code="adopted", spec_hash=dict(instance.tags).get(TAG_SPEC, ""),
            )  # fmt: skip
            self._put(Record(node, billed_from=instance.created or now))
            self._tell(node, now, "adopt")
            self._raise_number(node)
            return node

    def export(self, node_ids: Iterable[str]) -> list[tuple[str, int]]:
        """The newest records of these nodes as text with its checksum, for `take_over` of another journal."""
        records = [self._newest(node_id) for node_id in node_ids]
        return [record_to_text(record) for record in records if record]

    def take_over(self, text: str, checksum: int, now: float) -> Node:
        """Goes on with a node that another journal began, unless this one knows that generation or a newer one already.
        Raises ValueError for a damaged record."""
        record = record_from_text(text, checksum)
        with self.together():
            known = self._newest(record.node.id)
            if known and known.node.generation >= record.node.generation:
                return known.node
            self._put(record)
            self._tell(record.node, now, "take_over")
            self._raise_number(record.node)
            return record.node

    def close(self) -> None:
        with self._lock:
            self._db.close()

    # ------------------------------------------------------------ inside

    @contextlib.contextmanager
    def _transaction(self) -> Iterator[None]:
        try:
            self._db.execute("BEGIN IMMEDIATE")
        except sqlite3.OperationalError as error:
            raise ClusterctlError(
                f"the journal of nodes {self.path} cannot be written ({error}); its owner is {self.meta_get('owner')}: if "
                "that process hangs, end it and try again"
            ) from error
        try:
            yield
            self._db.execute("COMMIT")
        except BaseException:
            if self._db.in_transaction:
                self._db.execute("ROLLBACK")
            raise

    def _load(self) -> None:
        """Rebuilds memory from disk, checking every record."""
        records: dict[str, Record] = {}
        ended = Ledger()
        try:
            numbers = dict(self._db.execute("SELECT pool, next FROM numbers"))
            for text, checksum in self._db.execute("SELECT record, checksum FROM nodes ORDER BY id, generation"):
                record = record_from_text(text, checksum)
                if record.node.state is not NodeState.GONE:
                    records[record.node.id] = record
                else:
                    _book(ended, record, record.billed_to)
        except (sqlite3.DatabaseError, ValueError) as error:
            raise damaged(self.path, error) from error
        self._records, self._numbers, self._ended = records, numbers, ended

    def _newest(self, node_id: str) -> Record | None:
        with self._lock:
            if node_id in self._records:
                return self._records[node_id]
            query = "SELECT record, checksum FROM nodes WHERE id = ? ORDER BY generation DESC LIMIT 1"
            row = self._db.execute(query, (node_id,)).fetchone()
            return record_from_text(*row) if row else None

    def _put(self, record: Record) -> None:
        node = record.node
        self._db.execute(
            "INSERT OR REPLACE INTO nodes VALUES (?, ?, ?, ?)", (node.id, node.generation, *record_to_text(record))
        )
        if node.state is NodeState.GONE:
            if self._records.pop(node.id, None):  # booked once, however often it is said to be gone
                _book(self._ended, record, record.billed_to)
        else:
            self._records[node.id] = record

    def _tell(self, node: Node, now: float, event: str) -> None:
        self._db.execute(
            "INSERT INTO story (node_id, generation, at, state, event, reason, code) VALUES (?, ?, ?, ?, ?, ?, ?)",
            (node.id, node.generation, now, node.state.value, event, node.reason, node.code),
        )

    def _count_failure(self, before: Node, after: Node, now: float) -> None:
        if after.state is NodeState.READY and before.state is NodeState.JOINING:
            self._db.execute("DELETE FROM failures WHERE pool = ?", (after.pool,))
        failed = after.state is NodeState.FAILED and before.state in PENDING_STATES
        if failed and after.code not in _NOT_THE_POOLS_FAULT:
            self._db.execute("INSERT INTO failures VALUES (?, ?, ?)", (after.pool, now, after.code))

    def _raise_number(self, node: Node) -> None:
        """Ids are never reused: the pool's next number is above every number ever used, adopted ones included."""
        number = node.id.rpartition("-")[2]
        if not number.isdecimal() or int(number) < self._numbers.get(node.pool, 1):
            return
        self._numbers[node.pool] = int(number) + 1
        self._db.execute("INSERT OR REPLACE INTO numbers VALUES (?, ?)", (node.pool, int(number) + 1))

    def _put_meta(self, key: str, value: str) -> None:
        self._db.execute("INSERT OR REPLACE INTO meta VALUES (?, ?)", (key, value))

    def _ledger(self, now: float) -> Ledger:
        with self._lock:
            ledger = self._ended.copy()
            for record in self._records.values():
                _book(ledger, record, now)
            return ledger


def whole_journal(path: Path, tell: Callable[[str], None]) -> Journal:
    """The journal at `path`. One that is damaged is set aside for a new one, which adopts what the providers list, and
    that is told. The caller sees to it that no other process has it open."""
    try:
        return Journal(path)
    except JournalDamaged as error:
        aside = rebuild(path)
        tell(f"{error}; it is kept as {aside.name}, and what runs is found again by its tags")
        return Journal(path)


def planned_node(launch: Launch, now: float) -> Node:
    """The node that a launch means, before anything was done."""
    return Node(
        id=launch.node_id, generation=launch.generation, token=launch.token, offer=launch.offer,
        state=NodeState.PLANNED, since=now, created=now, role=launch.role,
        reason=launch.reason.text, code=launch.reason.code, spec_hash=launch.spec_hash,
    )  # fmt: skip


def _billed(record: Record, now: float) -> Record:
    """Billing starts when the provider was called with an unknown or good outcome, and ends when the node is gone. It
    rests while the node is stopped."""
    node = record.node
    if node.state is NodeState.GONE:
        return replace(record, billed_to=now)
    if node.state is NodeState.STOPPED:
        return replace(record, billed_from=None, paid=_paid(record, now))
    if record.billed_from is None and (node.instance_id or node.state is NodeState.REQUESTED):
        return replace(record, billed_from=now)
    return record


def _paid(record: Record, now: float) -> tuple[tuple[int, float], ...]:
    """What was paid for so far, by day: a node may be stopped and started any number of times."""
    days = dict(record.paid)
    if record.billed_from is not None:
        for day, seconds in per_day(record.billed_from, now):
            days[day] = days.get(day, 0.0) + seconds
    return tuple(sorted(days.items()))


def _book(ledger: Ledger, record: Record, until: float | None) -> None:
    for day, seconds in record.paid:
        ledger.add_part(record.node.pool, record.node.offer.price, day, seconds)
    if record.billed_from is not None and until is not None:
        ledger.add(record.node.pool, record.node.offer.price, record.billed_from, until)
