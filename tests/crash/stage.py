"""A small head under a sky, and a fuse: the process can be made to die at any position of the journal or of a call.

A sky is what outlives every process: a provider's instances, and time. Each provider has one; what is tried under it is the
same for all (see story).
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, ClassVar

from clusterctl_providers.base import PoolRequest, Provider, ProviderContext
from clusterctl_providers.fake.provider import FakeProvider
from clusterctl_providers.wrapper import Wrapper

from clusterctl.core.errors import UnknownOutcome
from clusterctl.core.model import (
    Demand,
    Instance,
    Node,
    NodeState,
    NodeView,
    Observed,
    Policy,
    Pool,
    Shape,
    State,
)
from clusterctl.core.planner import plan
from clusterctl.core.resources import Resources
from clusterctl.core.upkeep import count_sightings
from clusterctl.provision.journal.book import Journal
from clusterctl.provision.provisioner import Provisioner

UID = str(uuid.uuid4())  # another for each process of tests: what is real bears it, and is looked for by it
POLICY = Policy(orphan_min_age=5.0)  # short, so that the tests need not live through half a minute each time


class Crash(BaseException):
    """kill -9: nothing catches it."""


Lost = Callable[[int, str], bool]


def nothing_lost(number: int, call: str) -> bool:
    return False


class Fuse:
    """Counts positions. At number `blow` it does `action`: by default the process is gone, for good."""

    def __init__(self, blow: int = 0, action: Callable[[], None] | None = None, skip: Sequence[str] = ()) -> None:
        self.blow, self.skip = blow, skip
        self.phase = "start"
        self.passed: list[str] = []
        self.blown = False
        self._action = action

    def at(self, position: str, detail: str = "") -> None:
        """`detail`: which nodes it is about."""
        if self.blown and self._action is None:
            raise Crash(position)
        if position in self.skip:
            return
        self.passed.append(position)
        if len(self.passed) == self.blow:
            self.blown = True
            if self._action is None:
                raise Crash(position)
            self._action()


class BrittleDb:
    """A connection that may die just before or just after a commit. The detail is what happens in it to nodes."""

    def __init__(self, db: Any, fuse: Fuse) -> None:
        self._db, self._fuse = db, fuse
        self._events: set[str] = set()

    def execute(self, sql: str, *parameters: Any) -> Any:
        if sql != "COMMIT":
            if sql.startswith("INSERT INTO story"):
                self._events.add(str(parameters[0][4]))
            return self._db.execute(sql, *parameters)
        detail, self._events = " ".join(sorted(self._events)), set()
        self._fuse.at("before commit", detail)
        self._db.execute(sql)
        return self._fuse.at("after commit", detail)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._db, name)


class BrittleProvider(Wrapper):
    """A provider around whose calls the process may die. `lost`: of a call's number and name, whether it is done and never
    answered."""

    def __init__(self, inner: Provider, fuse: Fuse, lost: Lost) -> None:
        super().__init__(inner)
        self.fuse, self.lost, self.calls = fuse, lost, 0

    def _around(self, name: str, *arguments: Any) -> Any:
        self.calls += 1
        self.fuse.at(f"before {name}")
        answer = getattr(self.inner, name)(*arguments)
        self.fuse.at(f"after {name}")
        if self.lost(self.calls, name):
            raise UnknownOutcome(f"the answer of {name} was lost")
        return answer

    def create(self, requests: Any) -> Any:
        return self._around("create", requests)

    def list(self) -> Any:
        return self._around("list")

    def terminate(self, instance_ids: Sequence[str]) -> None:
        self._around("terminate", instance_ids)

    def stop(self, instance_ids: Sequence[str]) -> None:
        self._around("stop", instance_ids)

    def start(self, instance_ids: Sequence[str]) -> Any:
        return self._around("start", instance_ids)

    def sweep(self) -> Any:
        return self._around("sweep")


@dataclass
class Sky:
    """What outlives every process. Here its time is simulated, and passes a second with each turn of the loop."""

    directory: Path
    now: float = 1_000_000.0
    _eye: Provider | None = None

    idle_timeout: ClassVar[float] = 10.0
    of_workers: ClassVar[str] = "sky"  # the provider of their pool
    keep_stopped: int = 0
    spec: ClassVar[Mapping[str, Any]] = {"resources": {}, "market": ["on-demand"], "orphan_timeout": 900.0}

    def provider(self) -> Provider:
        """Opened anew by each process."""
        raise NotImplementedError

    def providers(self) -> dict[str, Provider]:
        """All of them by name, the cluster's own first."""
        return {"sky": self.provider()}

    def living(self) -> list[Instance]:
        """The truth: what has not ended."""
        scopes = self.eye.list()
        assert all(scope.complete for scope in scopes), scopes
        return [i for scope in scopes for i in scope.instances if i.state in ("pending", "running")]

    def remains(self) -> list[str]:
        """What a cluster that is down has left behind, instances apart."""
        return []

    def turns(self) -> Iterator[int]:
        """As many turns of the loop as a phase may take."""
        for number in range(120):
            self.now += 1.0
            yield number

    def pause(self, seconds: float) -> None:
        self.now += max(seconds, 0.5)

    @property
    def eye(self) -> Provider:
        self._eye = self._eye or self.provider()
        return self._eye

    def close(self) -> None:
        if self._eye:
            self._eye.close()


@dataclass
class FakeSky(Sky):
    """The fake provider's cloud, which lives in the directory."""

    faults: list[dict[str, Any]] = field(default_factory=list)

    @property
    def context(self) -> ProviderContext:
        settings = {
            "types": {"small": {"CPU": 1, "price": 1.0}},
            "zones": ["za", "zb"],
            "boot_seconds": 2,
            "faults": self.faults,
        }
        directory = str(self.directory / "cloud")
        return ProviderContext("demo", UID, directory, settings, clock=lambda: self.now)

    def provider(self) -> FakeProvider:
        return FakeProvider(self.context)

    def living(self) -> list[Instance]:
        """No list lags behind this one."""
        assert isinstance(self.eye, FakeProvider)
        return self._truth(self.eye)

    def _truth(self, eye: FakeProvider) -> list[Instance]:
        now = eye._now()
        return [eye._show(row, now, truth=True) for row in eye._cloud.instances() if row.lives(now)]


class TwoSkies(FakeSky):
    """The head is in one cloud, its workers are in another."""

    of_workers = "far"
    _far_eye: FakeProvider | None = None

    def providers(self) -> dict[str, Provider]:
        return {"sky": self.provider(), "far": self._far()}

    def living(self) -> list[Instance]:
        self._far_eye = self._far_eye or self._far()
        return [*super().living(), *self._truth(self._far_eye)]

    def close(self) -> None:
        super().close()
        if self._far_eye:
            self._far_eye.close()

    def _far(self) -> FakeProvider:
        """Its instances have ids of their own, as those of any two clouds."""
        provider = FakeProvider(replace(self.context, state_dir=str(self.directory / "far")))
        next_number = provider._cloud.next_number
        provider._cloud.next_number = lambda: max(next_number(), 1000)  # type: ignore[method-assign]
        return provider


class MiniHead:
    """The head's loop without its network: agents join as soon as their instance runs, and drain at once."""

    def __init__(self, sky: Sky, fuse: Fuse | None = None, lost: Lost = nothing_lost) -> None:
        self.sky = sky
        self.fuse = fuse or Fuse()
        self.journal = Journal(sky.directory / "nodes.db", strict=True)
        disk = self.journal._disk
        disk._db = BrittleDb(disk._db, self.fuse)  # type: ignore[assignment]
        self.providers = {
            name: BrittleProvider.around(provider, self.fuse, lost) for name, provider in sky.providers().items()
        }
        self.provider = self.providers["sky"]
        self.pools = (
            Pool("cpu", sky.of_workers, min=1, max=4, idle_timeout=sky.idle_timeout, keep_stopped=sky.keep_stopped),
            Pool("head", "sky", min=1, max=1, role="head"),
        )
        self.sightings: tuple[tuple[str, int], ...] = ()
        self.idle_since: dict[str, float] = {}
        self.acked: set[str] = set()
        self.busy: set[str] = set()

    def start(self) -> None:
        self.journal.acquire("head")
        self.provisioner = Provisioner(
            self.journal,
            self.providers,
            lambda node, pool: {"join_token": node.token},
            cluster="demo",
            uid=UID,
            clock=lambda: self.sky.now,
            pause=self.sky.pause,
            pools=[
                PoolRequest("cpu", {**self.sky.spec, "provider": self.sky.of_workers}),
                PoolRequest("head", self.sky.spec, "head"),
            ],
        )

    def tick(self, jobs: int = 0) -> None:
        """One turn of the loop."""
        observed = self.provisioner.observe()
        self._agents(observed)
        self.sightings = count_sightings(self._state(jobs), observed)
        offers = self.provisioner.offers()
        answer = plan(POLICY, observed, self._state(jobs), _demand(jobs), offers, self.sky.now)
        for outcome in self.provisioner.apply(answer):
            if outcome.action is not None and outcome.action.op == "drain" and outcome.node:
                self.acked.add(outcome.node.id)

    def _agents(self, observed: tuple[Observed, ...]) -> None:
        running = {(i.node_id, i.generation) for s in observed for i in s.instances if i.state == "running"}
        for node in self.journal.nodes().values():
            if (node.id, node.generation) not in running:
                continue
            if node.state in (NodeState.PLANNED, NodeState.REQUESTED, NodeState.BOOTING):
                self.journal.move(node.id, "joined", self.sky.now, durable=False)  # as the head's event loop does
                self.journal.move(node.id, "ready", self.sky.now, durable=False)
            elif node.state is NodeState.JOINING:
                self.journal.move(node.id, "ready", self.sky.now, durable=False)

    def _state(self, jobs: int) -> State:
        return State(
            cluster="demo",
            uid=UID,
            pools=self.pools,
            nodes=tuple(self._view(node, jobs) for node in self.journal.nodes().values()),
            blocks=self.provisioner.blocks(self.sky.now),
            launches=self.provisioner.launches(self.sky.now),
            failures=self.provisioner.failures(self.sky.now),
            next_number=self.journal.next_numbers(),
            sightings=self.sightings,
        )

    def _view(self, node: Node, jobs: int) -> NodeView:
        ready = node.state in (NodeState.READY, NodeState.DRAINING)
        idle = jobs == 0 and ready
        since = self.idle_since.setdefault(node.id, self.sky.now) if idle else None
        if not idle:
            self.idle_since.pop(node.id, None)
        drain = "acked" if node.state is NodeState.DRAINING else ""
        total = node.offer.resources
        return NodeView(node, total, total, idle_since=since, drain=drain, heartbeat=self.sky.now if ready else None)

    def stopped(self) -> list[str]:
        return sorted(node.id for node in self.journal.nodes().values() if node.state is NodeState.STOPPED)

    def ready(self) -> list[str]:
        return sorted(node.id for node in self.journal.nodes().values() if node.state is NodeState.READY)

    def close(self) -> None:
        for provider in self.providers.values():
            provider.close()
        self.journal.close()


def _demand(jobs: int) -> tuple[Demand, ...]:
    if not jobs:
        return ()
    shape = Shape(Resources.of(CPU=1), pool="cpu")
    return (Demand("jobs", "job", ((shape, 1),), count=jobs, since=0.0),)
