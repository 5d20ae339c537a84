"""What every node gets before it takes work: the spec's mounts, its files and its setup commands, once per content.

A node that is joining waits for it, with a reason that names the step. A ready node takes changed files and commands while
it works. A node on which it fails is tried again twice; then one that was joining has failed (`setup_failed`, which the
breaker counts), and one that was ready stays as it was, with an event.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import logging
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from clusterctl.core.errors import UsageError
from clusterctl.core.model import Node, NodeState
from clusterctl.spec.hash import pool_hash
from clusterctl.spec.model import ClusterSpec
from clusterctl.spec.mounts.documents import mount_documents
from clusterctl.spec.network import has_engine
from clusterctl_runtime.backoff import pause_after
from clusterctl_runtime.engine.config import given_python
from clusterctl_runtime.head.config import HeadConfig
from clusterctl_runtime.head.storage.blobs import BlobStore
from clusterctl_runtime.head.storage.events import EventLog
from clusterctl_runtime.head.storage.logs import LogStore

if TYPE_CHECKING:
    from clusterctl_runtime.head.nodes.fleet import Fleet

log = logging.getLogger(__name__)
RETRIES = 2
RETRY_PAUSE, LONGEST_RETRY_PAUSE = 1.0, 60.0  # seconds before the first retry; doubles
COMMAND_TIMEOUT = 1800.0
REASON_LINES = 3  # of the output's end in a node's reason
TAIL_BYTES = 4096  # of the output in the documents of a node
_UPDATABLE = frozenset({NodeState.JOINING, NodeState.READY, NodeState.DRAINING})


@dataclass
class Progress:
    """How far one node is. `done` is the digest that it has, `asked` the one that it was told to take; `state` is none,
    waiting (for an upload), running, done or failed."""

    generation: int
    done: str = ""
    asked: str = ""
    state: str = "none"
    step: str = ""
    error: str = ""
    tries: int = 0
    seconds: float = 0.0
    mounts: list[dict[str, Any]] = field(default_factory=list[dict[str, Any]])  # as the node has told them last


@dataclass(frozen=True)
class Content:
    """What every node of a pool is to have. `digest`: of mounts, files and setup, "" where there are none."""

    digest: str
    mounts: list[dict[str, Any]]
    files: list[dict[str, Any]]
    setup: list[str]
    env: dict[str, str]
    python: str
    engine: bool


def content_of(config: HeadConfig, pool_name: str) -> Content:
    """What the spec wants on the nodes of a pool. Its digest is "" where that is nothing."""
    spec = config.spec
    pool = next((p for p in spec.pools if p.name == pool_name), None)
    setup = [*spec.setup, *(pool.setup if pool else ())]
    files = [_told(mount.source, mount.to, config.files) for mount in spec.files]
    mounts = mount_documents(spec, pool, config.volumes)
    content = [[(f["to"], f["digest"], f["kind"]) for f in files], setup, *([mounts] if mounts else [])]
    digest = hashlib.sha256(json.dumps(content).encode()).hexdigest()[:16] if mounts or files or setup else ""
    python = given_python(spec, spec.kind_of(pool)) if has_engine(spec, pool) else ""
    env = {**spec.env, **(pool.env if pool else {})}
    return Content(digest, mounts, files, setup, env, python, has_engine(spec, pool))


class Preparing:
    """`prepared(node_id)` is called when a joining node has got all that it waits for."""

    def __init__(
        self,
        config: Callable[[], HeadConfig],
        blobs: BlobStore,
        fleet: Fleet,
        logs: LogStore,
        events: EventLog,
        prepared: Callable[[str], None],
    ) -> None:
        self._config, self._blobs, self._fleet = config, blobs, fleet
        self._logs, self._events, self._prepared = logs, events, prepared
        self._nodes: dict[str, Progress] = {}
        self._made_of: tuple[ClusterSpec, list[dict[str, Any]]] | None = None
        self._contents: dict[str, Content] = {}  # by pool

    # ------------------------------------------------------------ what others ask

    def is_prepared(self, node_id: str) -> bool:
        """Whether nothing of the spec's files and setup keeps the node from work. A ready node works on while it takes
        changed ones."""
        node = self._fleet.journal.get(node_id)
        if node is None:
            return False
        return node.state is not NodeState.JOINING or self._content(node.pool).digest in ("", self._progress(node).done)

    def plan_of(self, node: Node) -> dict[str, Any]:
        """The `prepare` message of wire.py for this node; its digest is "" where there is nothing to do."""
        config, content = self._config(), self._content(node.pool)
        return {
            "t": "prepare",
            "digest": content.digest,
            "mounts": content.mounts,
            "files": content.files,
            "setup": content.setup,
            "env": {
                **content.env,
                "CLUSTERCTL_CLUSTER": config.name,
                "CLUSTERCTL_NODE_ID": node.id,
                "CLUSTERCTL_POOL": node.pool,
            },
            "timeout": COMMAND_TIMEOUT,
            "engine": content.engine,
            "python": content.python,
        }

    def _content(self, pool_name: str) -> Content:
        """Made once for all nodes of a pool, as long as the spec and its files are the same."""
        config = self._config()
        if self._made_of is None or self._made_of[0] is not config.spec or self._made_of[1] is not config.files:
            self._made_of, self._contents = (config.spec, config.files), {}
        found = self._contents.get(pool_name)
        if found is None:
            found = self._contents[pool_name] = content_of(config, pool_name)
        return found

    def is_taking(self, node: Node) -> bool:
        """Whether the files and setup of the spec as it is now are not on this node yet, which takes them or failed at it."""
        found = self._nodes.get(node.id)
        if found is None or found.generation != node.generation or found.state not in ("running", "waiting", "failed"):
            return False
        return bool(self._content(node.pool).digest)

    def document(self, node: Node) -> dict[str, Any] | None:
        """For the node's document; None where the spec asks for nothing."""
        if not self._content(node.pool).digest:
            return None
        found = self._progress(node)
        return {
            "state": found.state,
            "step": found.step,
            "error": found.error,
            "tries": found.tries,
            "seconds": found.seconds,
        }

    def output(self, node_id: str, limit: int = TAIL_BYTES) -> str:
        """The end of what the last setup on this node printed; "" where none was run."""
        task = self._last_log(node_id)
        if not task:
            return ""
        size = self._logs.size(task)
        text = self._logs.read(task, max(0, size - limit), limit).decode(errors="replace")
        return text.split("\n", 1)[-1] if size > limit else text

    # ------------------------------------------------------------ what happens

    def node_joined(self, node: Node, told: dict[str, Any]) -> None:
        """`told`: what the agent's hello says of itself; it may have gone on while this head was away."""
        progress = self._progress(node)
        if told.get("state") == "done":
            progress.done = progress.asked = str(told.get("digest") or "")
            progress.state = "done" if progress.done else "none"
        elif told.get("state") in ("none", "failed"):
            progress.asked = progress.done = ""  # what it had may be gone, as mounts are after a restart of its machine
        self._ask(node)

    def changed(self) -> None:
        """The spec is another, or an upload has arrived."""
        for node_id in list(self._fleet.sessions):
            node = self._fleet.journal.get(node_id)
            if node is not None:
                self._ask(node)
                if node.state is NodeState.JOINING and self.is_prepared(node_id):
                    self._prepared(node_id)

    def retry(self) -> None:
        """The same spec was put in force again: ready nodes on which its setup failed try once more."""
        for progress in self._nodes.values():
            if progress.state == "failed":
                progress.asked = ""
        self.changed()

    def reported(self, node: Node, message: dict[str, Any]) -> None:
        """The agent says how far it is."""
        progress, digest = self._progress(node), str(message.get("digest") or "")
        if digest != progress.asked:
            return  # about a plan that is no longer wanted: the one in force follows
        progress.step = str(message.get("step") or progress.step)
        progress.seconds = float(message.get("seconds") or 0.0)
        output = str(message.get("output") or "")
        if output:
            self._keep(node, output)
        if message["state"] == "running":
            self._set(node, progress, "running", f"{progress.step}{_try(progress)}")
        elif message["state"] == "done":
            progress.done, progress.error = digest, ""
            self._set(node, progress, "done", f"its files and setup are done after {progress.seconds:.1f} s")
            self._prepared(node.id)
        elif message["state"] == "failed":
            self._failed(node, progress, str(message.get("error") or "no reason given"), output)
        if progress.done == digest:
            self._ask(node)

    def mounts_told(self, node: Node, items: list[dict[str, Any]]) -> None:
        """The node says what it has mounted. What is lost while it works is an event; what fails before is in its reason."""
        progress = self._progress(node)
        before = {item["place"]: item["state"] for item in progress.mounts}
        progress.mounts = items
        for item in items:
            changed = item["state"] != before.get(item["place"])
            if changed and item["state"] == "lost":
                text = f"{node.id}: {item['from']} at {item['place']}: {item['detail']}"
                self._events.add("node", node.id, "mount_lost", text)
            elif changed and item["state"] == "mounted" and before.get(item["place"]) == "lost":
                self._events.add(
                    "node", node.id, "mounted", f"{node.id}: {item['from']} at {item['place']} is there again"
                )

    def mounts_of(self, node: Node) -> list[dict[str, Any]]:
        """What the node has mounted, as it told last; sizes are of that moment."""
        return self._progress(node).mounts

    def forget(self, node_id: str) -> None:
        """The node's record has ended."""
        self._nodes.pop(node_id, None)

    # ------------------------------------------------------------ inside

    def _progress(self, node: Node) -> Progress:
        found = self._nodes.get(node.id)
        if found is None or found.generation != node.generation:
            found = self._nodes[node.id] = Progress(node.generation)
        return found

    def _ask(self, node: Node) -> None:
        """Tells the node what it does not have yet."""
        digest, progress = self._content(node.pool).digest, self._progress(node)
        if digest in ("", progress.done, progress.asked) or node.state not in _UPDATABLE:
            return
        if progress.done and progress.mounts and self._is_replaced(node):
            return
        plan = self.plan_of(node)
        missing = [
            mount["from"] for mount in plan["files"] if not (mount["digest"] and self._blobs.has(mount["digest"]))
        ]
        if missing:
            self._set(node, progress, "waiting", f"waits for the upload of {', '.join(missing)} by `clusterctl up`")
            return
        progress.asked, progress.tries, progress.error, progress.step = plan["digest"], 1, "", ""
        progress.done = ""  # it may be left half-way: who goes back to the content before asks for it again
        self._set(node, progress, "running", "is told its files and setup")
        self._fleet.send(node.id, plan)

    def _is_replaced(self, node: Node) -> bool:
        """Whether another node will stand in for this one, with the mounts that are wanted now: nothing is mounted or taken away
        below its work."""
        spec = self._config().spec
        pool = next((pool for pool in spec.pools if pool.name == node.pool), None)
        return pool is not None and node.spec_hash not in ("", pool_hash(spec, pool))

    def _set(self, node: Node, progress: Progress, state: str, text: str) -> None:
        progress.state = state
        if node.state is NodeState.JOINING:
            self._fleet.move(node.id, "joined", text, "preparing" if state != "done" else "prepared")
        elif node.state is NodeState.READY:
            self._fleet.move(node.id, "ready", f"takes work; {text}", "preparing" if state != "done" else "ready")

    def _failed(self, node: Node, progress: Progress, error: str, output: str) -> None:
        progress.error = error
        last = output.rpartition("\n$ ")[2].splitlines()[1:]  # of the command that failed
        lines = [line.strip() for line in last if line.strip()]
        tail = f": {' | '.join(lines[-REASON_LINES:])}" if lines else ""
        if progress.tries <= RETRIES:
            self._set(node, progress, "running", f"{error}{tail}; it is tried again")
            pause = pause_after(progress.tries, RETRY_PAUSE, LONGEST_RETRY_PAUSE)
            asyncio.get_running_loop().call_later(pause, self._again, node.id, progress)
            return
        text = f"{error}, tried {progress.tries} times{tail}"
        self._events.add("node", node.id, "setup_failed", f"{node.id}: {text}")
        self._set(node, progress, "failed", text)
        if node.state is NodeState.JOINING:
            self._fleet.fail(node.id, text, "setup_failed")

    def _again(self, node_id: str, progress: Progress) -> None:
        node = self._fleet.journal.get(node_id)
        if node is None or self._nodes.get(node_id) is not progress or node.state not in _UPDATABLE:
            return
        plan = self.plan_of(node)
        if plan["digest"] == progress.asked:
            progress.tries += 1
            self._fleet.send(node_id, plan)

    def _keep(self, node: Node, output: str) -> None:
        """In the log store, a log for every run."""
        number = 0
        while self._logs.size(_log_of(node.id, node.generation, number)):
            number += 1
        task, data = _log_of(node.id, node.generation, number), output.encode()
        self._logs.append(task, 0, data)
        self._logs.expect(task, len(data))

    def _last_log(self, node_id: str) -> str:
        node = self._fleet.journal.get(node_id)
        for generation in range(node.generation if node else 0, 0, -1):
            found = ""
            number = 0
            while self._logs.size(task := _log_of(node_id, generation, number)):
                found, number = task, number + 1
            if found:
                return found
        return ""


def _told(source: str, to: str, packed: list[dict[str, Any]]) -> dict[str, Any]:
    """The entry for the agent; its digest is "" before the client has uploaded it."""
    known = next((entry for entry in packed if (entry["from"], entry["to"]) == (source, to)), {})
    return {"from": source, "to": to, "digest": known.get("digest", ""), "kind": known.get("kind", "")}


def packed_files(spec: ClusterSpec, packed: list[dict[str, Any]], blobs: BlobStore) -> list[dict[str, Any]]:
    """One packed file for each entry of the spec's `files`, in its order; raises UsageError for one that was not uploaded."""
    by_entry = {(entry["from"], entry["to"]): entry for entry in packed}
    files = [by_entry.get((mount.source, mount.to)) for mount in spec.files]
    missing = [
        mount.source
        for mount, entry in zip(spec.files, files, strict=True)
        if entry is None or not blobs.has(entry["digest"])
    ]
    if missing:
        raise UsageError(f"{', '.join(missing)} was not uploaded: put the spec in force with `clusterctl up SPEC`")
    return [entry for entry in files if entry is not None]


def _log_of(node_id: str, generation: int, number: int) -> str:
    return f"node@{node_id}/{generation}/{number}"


def _try(progress: Progress) -> str:
    return f" (try {progress.tries} of {RETRIES + 1})" if progress.tries > 1 else ""
