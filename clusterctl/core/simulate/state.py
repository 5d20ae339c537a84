"""A simulation at an instant: what is simulated, and how far it has come."""

from __future__ import annotations

from dataclasses import dataclass, field

from clusterctl.core.model import Limits, Offer, Pool, Wait
from clusterctl.core.simulate.books import Books
from clusterctl.core.simulate.cloud import SimulatedCloud
from clusterctl.core.simulate.jobs import Trace
from clusterctl.core.simulate.policy import Policy
from clusterctl.core.simulate.record import Recorder
from clusterctl.core.simulate.waiting import WaitingJobs
from clusterctl.core.simulate.world import World

CLUSTER = "simulated"
UID = "5f0c7a52-0000-4000-8000-000000000000"


@dataclass(frozen=True)
class Setting:
    """A cluster to simulate: what may be bought, within which limits."""

    pools: tuple[Pool, ...]
    offers: tuple[Offer, ...]
    limits: Limits = field(default_factory=Limits)


@dataclass
class State:
    """`now` in seconds since the trace began; `waits` are the reasons of the last plan, by demand."""

    setting: Setting
    trace: Trace
    policy: Policy
    world: World
    seed: int
    record: Recorder
    now: float = 0.0
    books: Books = field(default_factory=Books)
    waiting: WaitingJobs = field(default_factory=WaitingJobs)
    waits: dict[str, Wait] = field(default_factory=dict[str, Wait])
    cloud: SimulatedCloud = field(init=False)

    def __post_init__(self) -> None:
        self.cloud = SimulatedCloud(self.world, self.seed, CLUSTER, UID)
