"""The head's parts on a real SQLite file, without a network."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest
from clusterctl_runtime.head.jobs.attempts import Work
from clusterctl_runtime.head.jobs.book import JobBook, asked_record
from clusterctl_runtime.head.jobs.job import Job, new_job_id, record_of
from clusterctl_runtime.head.jobs.queue import Queue
from clusterctl_runtime.head.jobs.requests import JobRequest
from clusterctl_runtime.head.nodes.ledger import Ledger
from clusterctl_runtime.head.storage.blobs import BlobStore
from clusterctl_runtime.head.storage.events import EventLog
from clusterctl_runtime.head.storage.logs import LogStore
from clusterctl_runtime.head.storage.store import Store

from clusterctl.core.model import Node, NodeState, Offer
from clusterctl.core.resources import Resources
from clusterctl.spec.load import parse_spec


class _Config:
    spec = parse_spec("cluster: demo\nprovider: local\nengine: none\npools: [{name: cpu, max: 2}]\n", "demo.yaml")


class Desk:
    """The queue and its records with two nodes of 4 CPUs; `sent` is what nodes were told."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.sent: list[tuple[str, dict[str, Any]]] = []
        self.woken = 0  # how often the queue said that there is something to do
        self.open()

    def open(self) -> None:
        self.store = Store(self.directory / "store.db")
        self.book = JobBook(self.store)
        self.events = EventLog(self.store)
        self.ledger = Ledger()
        self.logs = LogStore(self.directory / "logs")
        for name in ("cpu-1", "cpu-2"):
            self.ledger.open(_node(name), Resources.of(CPU=4), (), time.time())
        self.work = Work(self.book, self.ledger, self.logs, self.events, self._send, lambda _: None)
        blobs = BlobStore(self.directory / "blobs")
        self.queue = Queue(lambda: _Config, self.book, self.work, self.store, blobs, self.events, self._arrived)  # type: ignore[arg-type, return-value]

    def _send(self, node_id: str, message: dict[str, Any]) -> bool:
        self.sent.append((node_id, message))
        return True

    def _arrived(self) -> None:
        self.woken += 1

    def reopen(self) -> None:
        """What a new process would find: everything that was written, and nothing that was only in memory."""
        self.store.close()
        self.open()
        self.work.restore()

    def job(self, **request: Any) -> Any:
        """A job that was taken in, without waiting for the disk."""
        wanted, now = JobRequest(argv=["true"], **request), time.time()
        asked = self.book.asked(wanted.model_dump(exclude={"array"}))
        job_id = wanted.submission_id or new_job_id()
        job = Job(job_id, self.book.number(1)[0], asked, submitted=now, queued_since=now)
        self.store.write_together([asked_record(asked), record_of(job)])
        self.book.enter(job)
        self.book.admit(job)
        return job


def _node(name: str) -> Node:
    offer = Offer("cpu", "local", "on-demand", "local", 0.0, Resources.of(CPU=4))
    return Node(name, 1, "t", offer, NodeState.READY, 0.0, 0.0)


@pytest.fixture
def desk(tmp_path):
    desk = Desk(tmp_path)
    yield desk
    desk.store.close()
