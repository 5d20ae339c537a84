"""The hosts of the inventory as the head knows them: who is parked, what each is claimed for, and how to claim and release.

`hosts.json` (the client writes it) says which hosts there are and how each proves who it is. What a connected host says of
its claims is the truth; of a silent one the last that is known counts, until its lease has run out and it has ended its
node itself. What was asked of a host is on disk (`claims.json`) before it is sent, so that a claim whose answer is lost
is looked for where it was made.

The API below `serve` is called by the provider, from threads of its own; sessions live in the event loop.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import json
import logging
import threading
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from math import inf
from pathlib import Path
from typing import Any

from clusterctl_providers.hosts import ClaimView, HostView

from clusterctl.core.model import dead_after
from clusterctl_runtime import wire
from clusterctl_runtime.head.clock import steady_time
from clusterctl_runtime.head.network.silence import Watch
from clusterctl_runtime.head.nodes.claims import ClaimBook

log = logging.getLogger(__name__)

BEAT_SECONDS = 2.0
LEASE_SECONDS = 30.0  # of silence, after which either side ends the connection; the host then dials again


@dataclass
class Host:
    """One row of the inventory and its connection. `claims`: instance id -> what the host, or else the file, says."""

    entry: Mapping[str, Any]
    writer: asyncio.StreamWriter | None = None
    facts: Mapping[str, Any] = field(default_factory=dict)
    claims: dict[str, dict[str, Any]] = field(default_factory=dict)
    heard: float = 0.0


class Standby:
    """`changed` is called in the event loop when a host came, went, or changed its claims. `node_heard(node_id,
    generation)` says when that node's own agent was last heard, `inf` while it is connected: then it lives, whatever its
    host's daemon says, and its lease runs from then."""

    def __init__(
        self,
        directory: Path,
        uid: str,
        changed: Callable[[], None] = lambda: None,
        node_heard: Callable[[str, int], float] = lambda node_id, generation: 0.0,
    ) -> None:
        self._uid = uid
        self._changed = changed
        self._node_heard = node_heard
        self._inventory = directory / "hosts.json"
        self._stamp = 0
        self._listed: set[str] = set()  # ids of the hosts in the file; claimed ones that left it are kept, too
        self._hosts: dict[str, Host] = {}
        self._consoles: dict[str, str] = {}
        self._refusals: dict[str, str] = {}  # token -> why its host did not take it
        lock = threading.RLock()
        self._condition = threading.Condition(lock)
        self._claims = ClaimBook(directory / "claims.json", lock)
        self._outbox: list[tuple[str, wire.Message]] = []  # claims that go out once they are on disk
        self._views: dict[str, HostView] = {}  # of hosts whose view changes only with what is told of them
        self._loop: asyncio.AbstractEventLoop | None = None
        self.started = steady_time()
        self._read_inventory()

    # ------------------------------------------------------------ sessions (event loop)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, hello: wire.Message) -> None:
        """One host's connection, from its hello to its end."""
        self._loop = asyncio.get_running_loop()
        refusal = self._refusal(hello)
        if refusal:
            code, reason, final = refusal
            log.warning("a host was refused: %s", reason)
            writer.write(wire.encode({"t": "refuse", "code": code, "reason": reason, "final": final}))
            await writer.drain()
            return
        host = self._hosts[str(hello["host"])]
        writer.write(
            wire.encode(
                {
                    "t": "welcome",
                    "wire": wire.WIRE_VERSION,
                    "beat_seconds": BEAT_SECONDS,
                    "lease_seconds": LEASE_SECONDS,
                }
            )
        )
        self._joined(host, writer, hello)
        try:
            with Watch(writer, LEASE_SECONDS) as watch:
                while True:
                    message, _ = await wire.read_frame(reader)
                    watch.heard()
                    self._received(host, message)
        finally:
            self._left(host, writer)

    def _refusal(self, hello: wire.Message) -> tuple[str, str, bool] | None:
        if hello.get("wire") != wire.WIRE_VERSION:
            return "wire_version", "its agent is of another version: run `clusterctl up` again", False
        if hello.get("uid") != self._uid:
            return "wrong_cluster", "it belongs to another cluster", True
        with self._condition:
            self._read_inventory()
            host = self._hosts.get(str(hello.get("host")))
        if host is None:
            return "unknown_host", f"host {hello.get('host')!r} is not in this cluster's inventory", False
        shown = hashlib.sha256(str(hello.get("secret", "")).encode()).hexdigest()
        if not hmac.compare_digest(shown, str(host.entry["token_sha256"])):
            return "bad_secret", f"the join token of host {hello.get('host')} is wrong", False
        return None

    def _joined(self, host: Host, writer: asyncio.StreamWriter, hello: wire.Message) -> None:
        with self._condition:
            if host.writer is not None:
                host.writer.close()
            host.writer, host.heard = writer, steady_time()
            host.facts = dict(hello.get("facts") or {})
            self._views.pop(host.entry["id"], None)
            self._take_claims(host, hello.get("claims") or [])
            self._condition.notify_all()
        self._changed()

    def _received(self, host: Host, message: wire.Message) -> None:
        host.heard = steady_time()
        if message["t"] == "beat":
            self._write(host, {"t": "beat", "seq": message.get("seq")})
        elif message["t"] == "claims":
            with self._condition:
                self._refusals.update(message.get("refused") or {})
                self._consoles.update(message.get("ended") or {})
                host.facts = {**host.facts, **(message.get("facts") or {})}
                while len(self._consoles) > 100:
                    del self._consoles[next(iter(self._consoles))]
                self._take_claims(host, message["items"])
                self._condition.notify_all()
            self._changed()

    def _take_claims(self, host: Host, items: Sequence[dict[str, Any]]) -> None:
        """The host's word replaces ours. What it does not name any more has ended, unless it was sent a moment ago."""
        told = {str(item["instance"]): dict(item) for item in items}
        now, news, host_id = steady_time(), False, host.entry["id"]
        self._views.pop(host_id, None)
        for claim in self._claims.of_host(host_id):
            if claim.get("ended") or claim["instance"] in told:
                continue
            if claim.get("seen") or claim.get("releasing") or claim["token"] in self._refusals:
                claim["ended"], news = now, True
        for instance, item in told.items():
            known = self._claims.get(instance)
            if known is None or not known.get("seen"):
                self._claims.put({**item, "host": host_id, "seen": True})
                news = True
            elif known["host"] != host_id and known["host"] not in self._listed:
                self._views.pop(known["host"], None)
                self._claims.put({**known, "host": host_id})  # the same machine: the spec has another name for it now
                news = True
        host.claims = told
        if news:
            self._claims.changed()
            self._save_soon()
        self._resend(host)

    def _resend(self, host: Host) -> None:
        """Claims that were journalled and that the host has never heard of: the connection broke in between."""
        unsent = {message["claim"]["instance"] for _, message in self._outbox}
        for claim in self._claims.of_host(host.entry["id"]):
            unheard = not claim.get("seen") and not claim.get("ended") and claim["instance"] not in unsent
            if unheard and "bootstrap" in claim and claim["token"] not in self._refusals:
                self._write(host, {"t": "claim", "claim": claim})

    def _save_soon(self) -> None:
        """The loop does not wait for the disk: what is lost with a crash the host says again."""

        def save() -> None:
            try:
                self._claims.save()
            except OSError as error:
                log.error("what hosts are claimed for is not on disk: %s", error)

        asyncio.get_running_loop().run_in_executor(None, save)

    def _left(self, host: Host, writer: asyncio.StreamWriter) -> None:
        if host.writer is not writer:
            return
        with self._condition:
            host.writer = None
            self._views.pop(host.entry["id"], None)
            self._condition.notify_all()
        self._changed()

    def _write(self, host: Host, message: wire.Message) -> None:
        if host.writer is not None and not host.writer.is_closing():
            host.writer.write(wire.encode(message))

    # ------------------------------------------------------------ what the provider asks (any thread)

    @contextmanager
    def exclusive(self) -> Iterator[None]:
        """Nobody else claims or is told of changes meanwhile."""
        with self._condition:
            yield

    def hosts(self) -> list[HostView]:
        """Every host of the inventory, in its order."""
        with self._condition:
            self._read_inventory()
            return [self._view(host) for host in self._hosts.values()]

    def claim(self, host_id: str, claim: Mapping[str, Any]) -> None:
        """Books a claim of a host; `send` asks for it. The answer is seen in `find`."""
        with self._condition:
            known = self._claims.get(str(claim["instance"]))
            if known is None:
                known = self._claims.put({**claim, "host": host_id, "seen": False, "created": steady_time()})
            self._views.pop(host_id, None)
            self._outbox.append((host_id, {"t": "claim", "claim": {**known, "bootstrap": claim["bootstrap"]}}))

    def send(self) -> None:
        """Asks the hosts for what was booked, all of which is on disk by then."""
        with self._condition:
            ready = list(self._outbox)
        self._claims.save()
        with self._condition:
            del self._outbox[: len(ready)]
        for host_id, message in ready:
            self._send(host_id, message)

    def release(self, instances: Collection[str]) -> None:
        """Asks the hosts of these instances to end them. Returns at once; `hosts` shows when they have."""
        told: list[tuple[str, wire.Message]] = []
        with self._condition:
            for instance in instances:
                known = self._claims.get(instance)
                if known is None or known.get("ended"):
                    continue
                known["releasing"] = True
                host = self._hosts.get(known["host"])
                if not known.get("seen") and (host is None or host.writer is None):
                    known["ended"] = steady_time()  # should the host have it after all, it says so and is asked again
                self._views.pop(known["host"], None)
                told.append((known["host"], {"t": "release", "instance": instance}))
            self._claims.changed()
        self._claims.save()
        for host_id, message in told:
            self._send(host_id, message)

    def find(self, token: str) -> tuple[HostView, ClaimView] | None:
        """The host that was ever asked for this token, and its claim."""
        with self._condition:
            claim = self._claims.of_token(token)
            host = self._hosts.get(claim["host"]) if claim else None
            view = self._view(host) if host else None
            found = next((c for c in view.claims if c.token == token), None) if view else None
            return (view, found) if view and found else None

    def ended(self, token: str) -> bool:
        """Whether the claim of this token has ended; false, too, where no host was ever asked for it."""
        with self._condition:
            claim = self._claims.of_token(token)
            return bool(claim and claim.get("ended"))

    def refusal(self, token: str) -> str:
        """Why the host that was asked did not take it; "" while it has not refused."""
        with self._condition:
            return self._refusals.get(token, "")

    def console(self, instance: str) -> str:
        """What the agent of an ended claim wrote last, as its host told it; empty before that, and for all but the newest 100."""
        with self._condition:
            return self._consoles.get(instance, "")

    def wait(self, condition: Callable[[], bool], seconds: float) -> bool:
        """Whether `condition` came true within so many seconds."""
        with self._condition:
            return self._condition.wait_for(condition, seconds)

    # ------------------------------------------------------------ below

    def _send(self, host_id: str, message: wire.Message) -> None:
        host = self._hosts.get(host_id)
        if host is not None and self._loop is not None:
            self._loop.call_soon_threadsafe(self._write, host, message)

    def _view(self, host: Host) -> HostView:
        entry, connected = host.entry, host.writer is not None
        if (known := self._views.get(entry["id"])) is not None:
            return known
        claims = [self._claim_view(claim, host) for claim in self._claims.of_host(entry["id"])]
        view = HostView(
            id=str(entry["id"]),
            address=str(entry.get("address") or ""),
            pools=tuple(entry.get("pools") or ()),
            head=bool(entry.get("head")),
            connected=connected,
            why=str(entry.get("trouble") or "its agent is not connected"),
            labels=dict(entry.get("labels") or {}),
            resources=dict(entry.get("resources") or {}),
            facts=_newest(entry.get("facts") or {}, host.facts),
            claims=tuple(claims),
        )
        if connected or all(claim.get("ended") for claim in self._claims.of_host(entry["id"])):  # else time changes it
            self._views[view.id] = view
        return view

    def _claim_view(self, claim: dict[str, Any], host: Host) -> ClaimView:
        told = host.claims.get(claim["instance"])
        connected = host.writer is not None
        if claim.get("ended"):
            state = "terminated"
        elif connected:
            state = ("stopping" if told.get("state") == "stopping" else "running") if told else "pending"
        else:
            own = self._node_heard(claim["node_id"], int(claim["generation"]))
            silent = steady_time() - max(host.heard, self.started, own)
            limit = dead_after(float(claim.get("orphan_timeout") or 900.0))
            state = "running" if own == inf else "terminated" if silent > limit else "unknown"
        ended = float(claim.get("ended") or 0.0)
        return ClaimView(
            instance=claim["instance"],
            token=claim["token"],
            node_id=claim["node_id"],
            generation=int(claim["generation"]),
            role=str(claim.get("role") or "worker"),
            state=state,
            created=float(claim.get("created") or 0.0),
            instance_type=str(claim.get("instance_type") or ""),
            zone=str(claim.get("zone") or ""),
            tags=dict(claim.get("tags") or {}),
            ended=ended,
        )

    def _read_inventory(self) -> None:
        """Again whenever the file changed. A host that left it while it is claimed stays until it is released."""
        try:
            stamp = self._inventory.stat().st_mtime_ns
        except FileNotFoundError:
            return
        if stamp == self._stamp:
            return
        entries = json.loads(self._inventory.read_text())["hosts"]
        self._stamp = stamp
        self._views.clear()
        before, self._hosts = self._hosts, {}
        self._listed = {entry["id"] for entry in entries}
        for entry in entries:
            host = before.pop(entry["id"], None) or Host(entry)
            host.entry = entry
            self._hosts[entry["id"]] = host
        for name, host in before.items():
            if any(not claim.get("ended") for claim in self._claims.of_host(name)):
                host.entry = {**host.entry, "pools": [], "trouble": "it is not in the inventory any more"}
                self._hosts[name] = host
            elif host.writer is not None and self._loop is not None:
                self._loop.call_soon_threadsafe(host.writer.close)


def _newest(found: Mapping[str, Any], told: Mapping[str, Any]) -> dict[str, Any]:
    """What a host's daemon tells of it, with the GPUs that `up` found there where it has looked since: a driver may have been
    installed."""
    if float(found.get("gpus_read") or 0) > float(told.get("gpus_read") or 0):
        told = {**told, "gpus": found["gpus"]}
    return {**found, **told}
