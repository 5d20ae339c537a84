"""A head as the documents about nodes see it: a real journal, ledger and roster, with as many nodes as a test asks for."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from clusterctl_runtime.head.nodes.ledger import Ledger, NodeLedger
from clusterctl_runtime.head.nodes.roster import Roster

from clusterctl.core.model import Node
from clusterctl.core.resources import Resources
from clusterctl.provision.journal.book import Journal
from clusterctl.spec.load import parse_spec
from tests.provision.stage import START, launch, offer

SPEC = "cluster: demo\nprovider: local\nengine: none\npools: [{name: cpu, max: 9999}, {name: gpu, max: 9999}]\n"


class Preparing:
    """Of nodes in `taking` the spec's files and setup are under way."""

    def __init__(self) -> None:
        self.taking: set[str] = set()

    def is_taking(self, node: Node) -> bool:
        return node.id in self.taking

    def document(self, node: Node) -> dict[str, Any]:
        return {"state": "running" if node.id in self.taking else "done", "step": "", "error": "", "tries": 1}


class Town:
    """Has what the documents read of a head."""

    def __init__(self, directory: Path) -> None:
        self.journal, self.ledger, self.preparing = Journal(directory / "nodes.db", strict=True), Ledger(), Preparing()
        self.journal.acquire("test")
        self.fleet = SimpleNamespace(roster=Roster(self.journal, self.ledger, self._open))
        self.config: Any = SimpleNamespace(name="demo", uid="u-1", spec=parse_spec(SPEC, "demo.yaml"))
        self.state, self.port, self.started, self.engine = "ready", 8000, START, None
        self.book: Any = SimpleNamespace(
            counts=dict.fromkeys(("queued", "running", "succeeded", "failed", "cancelled"), 0)
        )
        plan = SimpleNamespace(waits=())
        self.lifetime: Any = SimpleNamespace(document=lambda per_hour: None)  # it does not end itself
        self.autoscaler: Any = SimpleNamespace(
            last_plan=plan,
            refusals={},
            beyond=(),
            offers_error="",
            observed=(),
            demand=(),
            groups={},
            failing="",
            failed_ticks=0,
        )

    def _open(self, node: Node) -> NodeLedger:
        return self.ledger.open(node, Resources.of(CPU=4), (), START)

    def launch(self, number: int, pool: str = "cpu", *events: str, market: str = "on-demand") -> list[str]:
        """So many new nodes of a pool, which `events` happen to; without any they are ready and connected."""
        first = dict(self.journal.next_numbers()).get(pool, 1)
        ids = [f"{pool}-{n}" for n in range(first, first + number)]
        with self.journal.together():
            for node_id in ids:
                self.journal.intend(launch(node_id, of=replace(offer(pool, price=1.0), market=market)), START)
                for event in events or ("requested", "joined", "ready"):
                    self.journal.move(node_id, event, START, instance_id=f"i-{node_id}")
        for node_id in ids:
            self.books(node_id).connected = not events
        return ids

    def books(self, node_id: str) -> NodeLedger:
        node = self.journal.live(node_id)
        assert node is not None
        return self._open(node)

    def bury(self, node_id: str) -> None:
        self.journal.bury(node_id, START, "", "")
        self.ledger.close(node_id)
