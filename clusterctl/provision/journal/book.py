"""The journal of nodes: what we meant to do is on disk before we do it, with each node's whole story.

One SQLite file (WAL, synchronous=FULL: a call that returned is fsynced, but for `move(..., durable=False)`). Whoever acts
takes the fence with `acquire`; every transaction checks that the fence is still theirs, so a second client or a head that
woke from a pause cannot act on an old view. Safe to use from several threads; readers never wait for the disk.
"""

from __future__ import annotations

import contextlib
import json
import sqlite3
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from clusterctl_providers.base import TAG_SPEC

from clusterctl.core.errors import ClusterctlError, IllegalTransition
from clusterctl.core.lifecycle import next_state
from clusterctl.core.model import PENDING_STATES, Failure, Instance, Launch, Node, NodeState, Offer, Spend
from clusterctl.provision.billing import billed, count
from clusterctl.provision.costs import CostRow, Meter
from clusterctl.provision.journal.disk import Disk
from clusterctl.provision.journal.disk import StaleFence as StaleFence
from clusterctl.provision.journal.file import TO_ADOPT, damaged
from clusterctl.provision.journal.file import JournalDamaged as JournalDamaged
from clusterctl.provision.journal.file import rebuild as rebuild
from clusterctl.provision.journal.records import Record, record_from_text, record_to_text

_TELL = "INSERT INTO story (node_id, generation, at, state, event, reason, code) VALUES (?, ?, ?, ?, ?, ?, ?)"
# launches that a provider turned down for now: the offer is blocked for a while, the pool itself is not at fault
_NOT_THE_POOLS_FAULT = frozenset({"no_capacity", "quota_exceeded", "throttled", "head_lost"})
_LAST_FAILURE = "last_failure:"  # and the pool: a key of `meta`
REMEMBERED = 3600.0  # seconds for which launches are kept in memory: longer than anybody asks for


class Journal:
    """See the module. `strict`: an illegal event raises instead of quarantining the node (for tests). `changed(node_id)` is
    called, from whatever thread, whenever a node's record is another one."""

    def __init__(self, path: str | Path, *, strict: bool = False) -> None:
        self.path = Path(path)
        self.strict = strict
        self.fence = 0
        self.changed: Callable[[str], None] = lambda node_id: None
        self._depth = 0
        self._records: dict[str, Record] = {}  # newest generation of every node id that is not gone
        self._gone: dict[str, Record] = {}  # newest generation of those that are, until that is on disk
        self._nodes: Mapping[str, Node] | None = None  # of `_records`, until one of them changes
        self._by_state: dict[NodeState, dict[str, Node]] = {}
        self._numbers: dict[str, int] = {}
        self._launches: deque[float] = deque()
        self._failures: list[tuple[str, float]] = []
        self._last_failures: dict[str, Failure] = {}  # by pool
        self._meter = Meter()
        self._disk = Disk(self.path)
        self._lock = self._disk.memory
        try:
            self._load()
        except BaseException:
            self._disk.close()
            raise

    # ------------------------------------------------------------ reading, from memory

    def nodes(self) -> Mapping[str, Node]:
        """Every node that is not gone, by id, as of now."""
        with self._lock:
            if self._nodes is None:
                self._nodes = {node_id: record.node for node_id, record in self._records.items()}
            return self._nodes

    def in_state(self, *states: NodeState) -> list[Node]:
        """The nodes that are in one of `states`."""
        with self._lock:
            return [node for state in states for node in self._by_state.get(state, {}).values()]

    def live(self, node_id: str) -> Node | None:
        """The node, unless it is gone."""
        record = self._records.get(node_id)
        return record.node if record else None

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
            told = [w.values for w in self._disk.waiting if w.sql == _TELL and w.values[0] == node_id]
        rows = self._disk.read(query, (node_id,)) + [(at, *rest, generation) for _, generation, at, *rest in told]
        return [dict(zip(columns, row, strict=True)) for row in rows]

    def costs(self, now: float) -> list[CostRow]:
        """Dollars and hours per day and pool, up to `now`."""
        with self._lock:
            return self._meter.rows(now)

    def spent_by_pool(self, now: float) -> dict[str, float]:
        """Dollars in all, up to `now`."""
        with self._lock:
            return self._meter.by_pool(now)

    def spend(self, now: float) -> Spend:
        """Dollars of the day, the month and in all, up to `now`."""
        with self._lock:
            return self._meter.spend(now)

    def launches(self, since: float) -> tuple[float, ...]:
        """When launches were intended, from `since` (at most an hour ago) on, for the limit of launches per minute."""
        with self._lock:
            return tuple(at for at in self._launches if at >= since)

    def failures(self, since: float) -> tuple[tuple[str, float], ...]:
        """(pool, time) of launches that failed in a row: a node of the pool that gets ready wipes them out."""
        with self._lock:
            return tuple((pool, at) for pool, at in self._failures if at >= since)

    def last_failures(self) -> tuple[Failure, ...]:
        """The newest of each pool, of those that `failures` counts."""
        with self._lock:
            return tuple(self._last_failures[pool] for pool in sorted(self._last_failures))

    def forget_failures(self) -> None:
        """The breaker closes: whoever is in charge says that it is time to try again."""
        with self.together(), self._lock:
            self._failures.clear()
            self._disk.write("DELETE FROM failures", ())
            for pool in list(self._last_failures):
                self._forget_last_failure(pool)

    def meta_get(self, key: str, default: str = "") -> str:
        """A note of the cluster's; `default` where there is none."""
        rows = self._disk.read("SELECT value FROM meta WHERE key = ?", (key,))
        return rows[0][0] if rows else default

    @property
    def adopts(self) -> bool:
        """Whether it is new, and may not know all nodes: some scope was not looked at in full yet."""
        return bool(self.meta_get(TO_ADOPT))

    # ------------------------------------------------------------ writing, fenced and fsynced

    def acquire(self, owner: str) -> int:
        """Takes the fence for `owner` ("head 1234 on host"), returns its number and locks all earlier holders out."""
        with self._disk.file:
            with self._disk.transaction():
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
        """Makes the writes inside one transaction: all are on disk after the block, or none. Others see them at once."""
        with self._disk.file:
            if self._depth:
                yield  # inside another block: that one commits
                return
            self._depth = 1
            try:
                with self._disk.transaction():
                    self.check_fence()
                    yield
                self._forget_gone()
            except BaseException:
                self._load()  # memory may hold what was rolled back
                raise
            finally:
                self._depth = 0

    def commit(self) -> None:
        """Returns when all that was written so far is on disk, `move(..., durable=False)` included."""
        with self._disk.file:
            if self._disk.waiting:
                with self.together():
                    pass

    def meta_set(self, key: str, value: str) -> None:
        """Writes a note of the cluster's; it is on disk when this returns."""
        with self.together():
            self._put_meta(key, value)

    def intend(self, launch: Launch, now: float, join_secret_hash: str = "") -> Node:
        """Journals a launch before the provider is called. The same launch again returns the node unchanged."""
        with self.together(), self._lock:
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
            self._launches.append(now)
            while self._launches[0] < now - REMEMBERED:
                self._launches.popleft()
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
        durable: bool = True,
        drain_by: float | None = None,
    ) -> Node:
        """Applies a life-cycle event and returns the node after it. An event that its state forbids raises when strict,
        else puts the node into quarantine. `since` changes only with the state; `drain_by` is kept while it drains, and each
        "drain" sets it anew. Not `durable`: the caller does not wait for
        the disk; it is written with the next transaction, and `commit` waits for that."""
        with self.together() if durable else contextlib.nullcontext(), self._lock:
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
                drain_by=drain_by if event == "drain" and state is NodeState.DRAINING else None,
            )
            if after == node:
                return node
            self._put(billed(replace(record, node=after), now))
            self._tell(after, now, event)
            self._count_failure(node, after, now)
            return after

    def note(self, node_id: str, reason: str, code: str, now: float) -> Node | None:
        """Writes down what a live node waits for; its state stays. Its story tells the first of several with one code."""
        with self.together(), self._lock:
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
        with self.together(), self._lock:
            record = self._records.get(node_id)
            if record is None:
                return None
            node = record.node
            after = replace(node, instance_id=instance_id or node.instance_id, address=address or node.address)
            if after != node:
                self._put(billed(replace(record, node=after), now))
            return after

    def bury(self, node_id: str, now: float, reason: str, code: str) -> None:
        """Ends a node's record whatever its state, quarantine included: only `down` may, once nothing is left of it."""
        with self.together(), self._lock:
            record = self._records.get(node_id)
            if record:
                node = replace(record.node, state=NodeState.GONE, since=now, reason=reason, code=code)
                self._put(billed(replace(record, node=node), now))
                self._tell(node, now, "gone")

    def adopt(self, instance: Instance, offer: Offer, now: float, role: str = "worker", reason: str = "") -> Node:
        """Writes the record of an instance that was found by its tags and that no record explains. It counts as booting
        until its agent dials in, and as billed since the provider created it."""
        with self.together(), self._lock:
            known = self._newest(instance.node_id)
            if known and known.node.generation >= instance.generation:
                return known.node
            node = Node(
                id=instance.node_id, generation=instance.generation, token=instance.token, offer=offer,
                state=NodeState.BOOTING, since=now, created=instance.created or now,
                role="head" if role == "head" else "worker", instance_id=instance.id, address=instance.address,
                reason=reason or "found by its tags", code="adopted", spec_hash=dict(instance.tags).get(TAG_SPEC, ""),
            )  # fmt: skip
            self._put(Record(node, billed_from=min(instance.created or now, now)))
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
        with self.together(), self._lock:
            known = self._newest(record.node.id)
            if known and known.node.generation >= record.node.generation:
                return known.node
            self._put(record)
            self._tell(record.node, now, "take_over")
            self._raise_number(record.node)
            return record.node

    def close(self) -> None:
        """What waits to be written is forgotten, as by a crash: `commit` first."""
        self._disk.close()

    # ------------------------------------------------------------ inside

    def _load(self) -> None:
        """Rebuilds memory from disk, checking every record, and from what waits to be written."""
        with self._disk.file, self._lock:
            before = set(self._records)
            records, gone = {}, []
            try:
                numbers = dict(self._disk.read("SELECT pool, next FROM numbers"))
                intents = "SELECT at FROM story WHERE event = 'intend'"
                query = f"{intents} AND at >= ({intents} ORDER BY at DESC LIMIT 1) - ? ORDER BY at"
                launches = deque(at for (at,) in self._disk.read(query, (REMEMBERED,)))
                failures = self._disk.read("SELECT pool, at FROM failures ORDER BY at, pool")
                kept = self._disk.read("SELECT value FROM meta WHERE key LIKE ?", (f"{_LAST_FAILURE}%",))
                last = [Failure(**json.loads(text)) for (text,) in kept]
                for text, checksum in self._disk.read("SELECT record, checksum FROM nodes ORDER BY id, generation"):
                    record = record_from_text(text, checksum)
                    if record.node.state is not NodeState.GONE:
                        records[record.node.id] = record
                    else:
                        gone.append(record)
            except (sqlite3.DatabaseError, ValueError, TypeError) as error:
                raise damaged(self.path, error) from error
            self._last_failures = {one.pool: one for one in last}
            self._records, self._gone, self._nodes, self._by_state, self._meter = {}, {}, None, {}, Meter()
            self._numbers, self._launches, self._failures = numbers, launches, failures
            for record in gone:
                count(self._meter, None, record)
            for record in [*records.values(), *(write.record for write in self._disk.waiting if write.record)]:
                self._know(record)
            self._forget_gone()
            for node_id in before | set(self._records):
                self.changed(node_id)

    def _newest(self, node_id: str) -> Record | None:
        with self._lock:
            known = self._records.get(node_id) or self._gone.get(node_id)
        if known is not None:
            return known
        query = "SELECT record, checksum FROM nodes WHERE id = ? ORDER BY generation DESC LIMIT 1"
        rows = self._disk.read(query, (node_id,))
        return record_from_text(*rows[0]) if rows else None

    def _put(self, record: Record) -> None:
        node = record.node
        values = (node.id, node.generation, *record_to_text(record))
        self._disk.write("INSERT OR REPLACE INTO nodes VALUES (?, ?, ?, ?)", values, record)
        self._know(record)

    def _know(self, record: Record) -> None:
        """Makes it the newest record of its node in memory, and keeps the meter in step."""
        node, self._nodes = record.node, None
        before = self._records.pop(node.id, None)
        if before is not None:
            del self._by_state[before.node.state][node.id]
        if node.state is not NodeState.GONE:
            self._records[node.id] = record
            self._by_state.setdefault(node.state, {})[node.id] = node
            count(self._meter, before, record)
        else:
            if before is not None:  # counted once, however often it is said to be gone
                count(self._meter, before, record)
            self._gone[node.id] = record
        self.changed(node.id)

    def _forget_gone(self) -> None:
        """Those whose end is on disk are looked up there."""
        with self._lock:
            waits = {write.record.node.id for write in self._disk.waiting if write.record}
            self._gone = {node_id: record for node_id, record in self._gone.items() if node_id in waits}

    def _tell(self, node: Node, now: float, event: str) -> None:
        values = (node.id, node.generation, now, node.state.value, event, node.reason, node.code)
        self._disk.write(_TELL, values)

    def _count_failure(self, before: Node, after: Node, now: float) -> None:
        well = after.state is NodeState.READY and before.state is NodeState.JOINING
        if well and any(pool == after.pool for pool, _ in self._failures):
            self._failures = [failure for failure in self._failures if failure[0] != after.pool]
            self._disk.write("DELETE FROM failures WHERE pool = ?", (after.pool,))
            self._forget_last_failure(after.pool)
        failed = after.state is NodeState.FAILED and before.state in PENDING_STATES
        if failed and after.code not in _NOT_THE_POOLS_FAULT:
            self._failures.append((after.pool, now))
            self._disk.write("INSERT INTO failures VALUES (?, ?, ?)", (after.pool, now, after.code))
            last = Failure(after.pool, now, after.offer.machine, after.reason)
            self._last_failures[after.pool] = last
            key = f"{_LAST_FAILURE}{after.pool}"
            self._disk.write("INSERT OR REPLACE INTO meta VALUES (?, ?)", (key, json.dumps(asdict(last))))

    def _forget_last_failure(self, pool: str) -> None:
        if self._last_failures.pop(pool, None):
            self._disk.write("DELETE FROM meta WHERE key = ?", (f"{_LAST_FAILURE}{pool}",))

    def _raise_number(self, node: Node) -> None:
        """Ids are never reused: the pool's next number is above every number ever used, adopted ones included."""
        number = node.id.rpartition("-")[2]
        if not number.isdecimal() or int(number) < self._numbers.get(node.pool, 1):
            return
        self._numbers[node.pool] = int(number) + 1
        self._disk.write("INSERT OR REPLACE INTO numbers VALUES (?, ?)", (node.pool, int(number) + 1))

    def _put_meta(self, key: str, value: str) -> None:
        self._disk.put_now("INSERT OR REPLACE INTO meta VALUES (?, ?)", (key, value))


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
