"""A journal, a fake cloud and a provisioner on one clock, for tests of single rules."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from clusterctl_providers.base import PoolRequest, Provider, ProviderContext
from clusterctl_providers.fake.provider import FakeProvider

from clusterctl.core.model import Action, Launch, Offer, Plan, Reason, Terminate, launch_token
from clusterctl.core.resources import Resources
from clusterctl.provision.journal.book import Journal
from clusterctl.provision.provisioner import Outcome, Provisioner

UID = "9a1c0c58-0f5e-4a0b-8a55-6a7f0d5a2b02"
REASON = Reason("demand", "a job waits for it")
START = 1_700_000_000.0
SPEC: dict[str, Any] = {"resources": {}, "market": ["on-demand"], "orphan_timeout": 600.0}


def offer(pool: str = "cpu", zone: str = "za", price: float = 2.0) -> Offer:
    return Offer(pool, "small", "on-demand", zone, price, Resources.of(CPU=1))


def launch(node_id: str = "cpu-1", generation: int = 1, of: Offer | None = None) -> Launch:
    of = of or offer(node_id.rpartition("-")[0])
    return Launch(node_id, generation, launch_token(UID, node_id, generation), of, "worker", "hash", REASON)


class Stage:
    """`now` is everybody's clock; `pause` moves it on."""

    def __init__(self, directory: Path, faults: list[dict[str, Any]] | None = None, **settings: Any) -> None:
        self.directory, self.now, self.waited = directory, START, 0.0
        self.cloud = self.open_cloud("cloud", faults or [], **settings)
        self.journal = Journal(directory / "nodes.db", strict=True)
        self.journal.acquire("test")
        self.provisioner = self.open({"fake": self.cloud})

    def open_cloud(self, name: str, faults: list[dict[str, Any]], uid: str = UID, **settings: Any) -> FakeProvider:
        defaults = {
            "types": {"small": {"CPU": 1, "price": 2.0}},
            "zones": ["za", "zb"],
            "boot_seconds": 5,
            "faults": faults,
        }
        directory = str(self.directory / name)
        context = ProviderContext("demo", uid, directory, {**defaults, **settings}, clock=lambda: self.now)
        return FakeProvider(context)

    def open(self, providers: dict[str, Provider], pools: list[PoolRequest] | None = None) -> Provisioner:
        provisioner = Provisioner(
            self.journal,
            providers,
            lambda node, pool: {"node_id": node.id, "join_token": f"secret of {node.token}"},
            cluster="demo",
            uid=UID,
            clock=lambda: self.now,
            pause=self.pause,
            pools=pools or [PoolRequest("cpu", SPEC), PoolRequest("gpu", SPEC)],
        )
        provisioner.offers()
        return provisioner

    def pause(self, seconds: float) -> None:
        self.waited += seconds
        self.now += seconds

    def apply(self, *actions: Action) -> list[Outcome]:
        return self.provisioner.apply(Plan(actions))

    def end(self, node_id: str, instance_id: str) -> Outcome:
        (outcome,) = self.apply(Terminate(node_id, instance_id, Reason("idle", "nothing runs on it")))
        return outcome

    def calls(self, name: str) -> list[dict[str, Any]]:
        return [call for call in self.cloud.calls() if call["call"] == name]

    def living(self, cloud: FakeProvider | None = None) -> list[str]:
        scopes = (cloud or self.cloud).list()
        return [i.id for scope in scopes for i in scope.instances if i.state in ("pending", "running")]

    def close(self) -> None:
        self.provisioner.close()
        self.journal.close()
