"""The nouns of clusterctl, frozen. Verbs (plan, place, explain, simulate) are functions in the modules beside this one.

Times are seconds as float: `now`, `since`, `created` on one clock that the caller owns (the head's wall clock, or the
simulator's). Prices are US dollars per hour. No field is ever mutated: `dataclasses.replace` makes the next value.
"""

from __future__ import annotations

import uuid
from dataclasses import dataclass, field
from enum import Enum
from functools import lru_cache
from typing import Literal

from clusterctl.core.resources import Resources

Labels = tuple[tuple[str, str], ...]  # sorted pairs


def labels_of(mapping: dict[str, str] | None) -> Labels:
    """Sorted pairs, so that equal labels compare equal."""
    return tuple(sorted((mapping or {}).items()))


# ---------------------------------------------------------------- what is offered


@dataclass(frozen=True, order=True)
class Offer:
    """One way to get a node of `pool`. `price` is $/h; `price_source` and `price_date` (ISO) say where it is from.

    `rank` is the pool's order of preference among markets (0 = tried first); plan compares (rank, price).
    `resources` and `labels` are what a node of this offer will have. `ends` is when reserved capacity ends (0 = never): of
    a capacity block the provider takes the nodes away then, other reservations cost from then on. `closed` says why it
    is not to be had at this moment, "" = it is.
    """

    pool: str
    instance_type: str
    market: str  # "spot" | "on-demand" | "reserved" | "capacity-block"
    zone: str
    price: float
    resources: Resources
    labels: Labels = ()
    gpu_type: str = ""
    region: str = ""
    rank: int = 0
    price_source: str = ""
    price_date: str = ""
    boot_seconds: float = 60.0  # expected time from the call to ready, for estimates only
    ends: float = 0.0
    closed: str = ""

    @property
    def key(self) -> str:
        """Names the offer in plans, blocks and `explain`: pool/type/market/zone."""
        return f"{self.pool}/{self.instance_type}/{self.market}/{self.zone}"

    @property
    def where(self) -> str:
        """The zone, for people: with its region where its name alone does not say that; the region for one that is in no zone."""
        if not self.zone.isdecimal() or not self.region:
            return self.zone or self.region
        return f"{self.region} (zone {self.zone})"

    @property
    def in_where(self) -> str:
        """To end a phrase with: " in us-east-1a", "" for an offer that is nowhere in particular."""
        return f" in {self.where}" if self.where else ""

    @property
    def machine(self) -> str:
        """For people: "g5.xlarge spot in us-east-1a"."""
        return f"{self.instance_type} {self.market}{self.in_where}"

    def taken_back(self, when: str, text: str) -> Reason:
        """That its provider takes a node of it away, or has: `when` is "notice", "deadline" or "interruption". Others than spot
        machines can be taken, too: a pod is evicted."""
        if self.market == "spot":
            return Reason(f"spot_{when}", f"spot interruption: {text}")
        return Reason(f"provider_{when}", text)


ENDING_SECONDS = 30.0  # that an agent may take to end its work once its lease is over
CLOCK_RATE = 1.1  # the head's time may run so much faster than a node's


def dead_after(orphan_timeout: float) -> float:
    """Seconds of silence after which a node with this lease has ended itself for certain."""
    return CLOCK_RATE * (orphan_timeout + ENDING_SECONDS)


@dataclass(frozen=True)
class Pool:
    """The core's view of a pool of the spec. `idle_timeout` and `orphan_timeout` are seconds."""

    name: str
    provider: str
    min: int
    max: int
    labels: Labels = ()
    idle_timeout: float = 300.0
    orphan_timeout: float = 900.0
    role: Literal["worker", "head"] = "worker"
    spec_hash: str = ""  # of the fields that need a new node when they change
    one_zone_gangs: bool = False  # gangs of this pool must sit in one zone
    deadlines: tuple[tuple[str, float], ...] = ()  # state -> seconds, overrides lifecycle.DEADLINES
    max_cost_per_hour: float | None = None
    keep_stopped: int = 0  # idle nodes that are stopped instead of ended, to be started again

    @property
    def dead_after(self) -> float:
        """Seconds of silence after which a node of it has ended itself for certain."""
        return dead_after(self.orphan_timeout)


# ---------------------------------------------------------------- what exists


class NodeState(str, Enum):
    PLANNED = "planned"  # intent on disk, provider not called yet
    REQUESTED = "requested"  # provider called, instance known or answer lost
    BOOTING = "booting"  # the provider says it runs; the agent has not dialled in
    JOINING = "joining"  # the agent is connected; set-up or engine still to come
    READY = "ready"  # takes work
    DRAINING = "draining"  # takes no new work; waits for its work to end and the engine to let go
    STOPPING = "stopping"  # the provider was told to stop it; it may be started again later
    STOPPED = "stopped"  # its disk is kept, nothing of it runs, and no machine is paid for
    TERMINATING = "terminating"  # the provider was told, its list still shows it
    GONE = "gone"
    FAILED = "failed"  # something went wrong: to be terminated
    QUARANTINED = "quarantined"  # an illegal event arrived: left alone, reported, never counted as capacity


LIVE_STATES = frozenset(NodeState) - {NodeState.GONE}
PENDING_STATES = frozenset({NodeState.PLANNED, NodeState.REQUESTED, NodeState.BOOTING, NodeState.JOINING})
STARTING = "starting"  # code of a requested node whose stopped instance is being started again


def by_number(node_id: str) -> tuple[str, int, str]:
    """The order in which people list nodes: by pool, then by number, so that gpu-10 comes after gpu-9."""
    pool, _, number = node_id.rpartition("-")
    return pool, int(number) if number.isdecimal() else 0, node_id


def launch_token(cluster_uid: str, node_id: str, generation: int) -> str:
    """The idempotency token of a launch: the same intent always carries the same token."""
    return str(uuid.uuid5(_namespace(cluster_uid), f"{node_id}/{generation}"))


@lru_cache(maxsize=8)
def _namespace(uid: str) -> uuid.UUID:
    return uuid.UUID(uid)


@dataclass(frozen=True)
class Node:
    """Our record of a machine, as journalled. `instance_id` is the provider's, "" until known."""

    id: str
    generation: int
    token: str
    offer: Offer
    state: NodeState
    since: float  # when it entered `state`
    created: float
    role: Literal["worker", "head"] = "worker"
    instance_id: str = ""
    address: str = ""
    reason: str = ""  # why it is in this state, for people
    code: str = ""  # the same, for machines
    spec_hash: str = ""
    drain_by: float | None = None  # while it drains: when what still runs there is ended; None = in its own time

    @property
    def pool(self) -> str:
        """Name of its pool."""
        return self.offer.pool

    @property
    def price(self) -> float:
        """$/h that it costs in its state: a stopped node has no machine to pay for."""
        return 0.0 if self.state is NodeState.STOPPED else self.offer.price


@dataclass(frozen=True)
class Work:
    """Something that occupies part of a node: one rank of an attempt, or the engine's own use."""

    id: str
    resources: Resources
    since: float
    disturbable: bool = False  # may be moved by consolidation
    checkpointed: float | None = None  # when it last saved its state
    user: str = ""  # whose it is, for limits per user


@dataclass(frozen=True)
class NodeView:
    """A node with its use, as the planner sees it.

    `total` is what the node really has once it joined (else the offer's). `free` is what nothing holds, neither a queue
    job nor the engine. `idle_since` is set while nothing at all runs on it, engine included; None = busy or unknown.
    `drain` follows the two-phase removal: "" -> "requested" -> "acked" (only then may it be terminated).
    """

    node: Node
    total: Resources
    free: Resources
    work: tuple[Work, ...] = ()
    idle_since: float | None = None
    drain: Literal["", "requested", "acked"] = ""
    heartbeat: float | None = None  # last sign of life
    preempt_at: float | None = None  # a spot notice: the provider takes it away then
    labels: Labels = ()


@dataclass(frozen=True)
class Instance:
    """What a provider's list shows. `tags` carry our ownership: cluster, uid, node, generation, expiry."""

    id: str
    uid: str  # cluster uid in its tags, "" if untagged
    node_id: str
    generation: int
    state: Literal["pending", "running", "stopping", "stopped", "terminated"]
    address: str = ""
    zone: str = ""
    instance_type: str = ""
    market: str = "on-demand"
    created: float = 0.0
    token: str = ""
    detail: str = ""  # the provider's own words, for errors
    tags: Labels = ()
    refused: str = ""  # the error code that fits, where the provider ended it by itself instead of starting it
    reclaimed: bool = False  # the provider says that it took it back: of spot, or for others of higher priority
    queued: bool = (
        False  # it is started when the provider has the capacity for it: a launch takes nobody knows how long
    )


@dataclass(frozen=True)
class Observed:
    """What a provider reports for one scope (a region, a Docker engine, this machine). Nothing destructive is ever
    decided in a scope that is not complete. `recorded`: the list lacks something, but every node on record that it does
    not show was looked up by its id, so that about nodes on record all is known."""

    scope: str
    instances: tuple[Instance, ...]
    complete: bool
    at: float
    error: str = ""
    code: str = ""  # of the error that kept it from being complete
    recorded: bool = False


# ---------------------------------------------------------------- what is wanted


@dataclass(frozen=True, order=True)
class Shape:
    """What one task, rank or bundle needs of one node. `selectors` are label selectors in Ray's grammar:
    "v", "!v", "in(a,b)", "!in(a,b)"."""

    resources: Resources
    gpu_type: str = ""
    pool: str = ""
    selectors: Labels = ()


Strategy = Literal["", "PACK", "SPREAD", "STRICT_PACK", "STRICT_SPREAD"]


@dataclass(frozen=True)
class Demand:
    """`count` independent copies of `bundles`. A gang's bundles are wanted all or nothing.

    `source`: "job", "task" (Ray tasks and actors), "placement_group", "request" (ray request_resources), "reservation".
    `refs` names (some of) those who want it, for reasons. `since` is when the oldest began to wait.
    """

    id: str
    source: str
    bundles: tuple[tuple[Shape, int], ...]
    count: int = 1
    gang: bool = False
    strategy: Strategy = ""
    one_zone: bool = False
    priority: int = 0
    user: str = ""
    since: float = 0.0
    refs: tuple[str, ...] = ()


# ---------------------------------------------------------------- rules


@dataclass(frozen=True)
class Limits:
    """Hard limits of the cluster; None = no limit. Money in dollars."""

    nodes: int | None = None
    gpus: float | None = None
    cost_per_hour: float | None = None
    budget_per_day: float | None = None
    budget_per_month: float | None = None
    launches_per_minute: int | None = 120
    drain_after: float | None = None  # seconds after which what runs beyond a limit is stopped; None = it may go on
    per_user: tuple[tuple[str, tuple[tuple[str, float], ...]], ...] = ()  # user -> (limit name, value)


@dataclass(frozen=True)
class Block:
    """An offer (or a prefix of its key, ending in "/") not to be tried until `until`."""

    offer_key: str
    until: float
    code: str
    reason: str


@dataclass(frozen=True)
class Failure:
    """A pool's last launch that failed: when, of which machine (type, market and place, for people), and in whose words why."""

    pool: str
    at: float
    machine: str
    text: str


@dataclass(frozen=True)
class Spend:
    today: float = 0.0
    month: float = 0.0
    total: float = 0.0


@dataclass(frozen=True)
class State:
    """All that the planner may know of the cluster besides observation and demand."""

    cluster: str
    uid: str
    pools: tuple[Pool, ...]
    nodes: tuple[NodeView, ...]
    limits: Limits = Limits()
    blocks: tuple[Block, ...] = ()
    spend: Spend = Spend()
    launches: tuple[float, ...] = ()  # times of recent launches, for launches_per_minute
    failures: tuple[tuple[str, float], ...] = ()  # (pool, time) of recent failed launches, for the breaker
    last_failures: tuple[Failure, ...] = ()  # of each pool that has some, the newest
    next_number: tuple[tuple[str, int], ...] = ()  # pool -> number of its next node: ids are never reused
    sightings: tuple[tuple[str, int], ...] = ()  # kept by upkeep.count_sightings: orphans and missing nodes, times seen


@dataclass(frozen=True)
class Policy:
    """Knobs of the planner; defaults are what users get."""

    name: str = "default"
    breaker_failures: int = 5  # launches of a pool that failed in a row within breaker_window: the breaker opens
    breaker_window: float = 600.0
    heartbeat_timeout: float = 30.0
    consolidate: bool = True
    disruption_budget: int = 1  # nodes voluntarily disturbed at the same time
    orphan_sightings: int = 2
    orphan_min_age: float = 30.0
    consolidation_horizon: float = 3600.0  # seconds for which a saving is counted against the work it disturbs
    consolidation_grace: float = 60.0  # seconds that disturbed work has to save its state
    restart_seconds: float = 60.0  # what starting a disturbed piece of work anew costs, besides what it has to redo


# ---------------------------------------------------------------- what to do


@dataclass(frozen=True)
class Reason:
    """`code` is for machines (stable, snake_case), `text` for people, `fix` says what would change it."""

    code: str
    text: str
    fix: str = ""
    details: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True)
class Launch:
    node_id: str
    generation: int
    token: str
    offer: Offer
    role: Literal["worker", "head"]
    spec_hash: str
    reason: Reason
    demand_ids: tuple[str, ...] = ()
    op: Literal["launch"] = field(default="launch", init=False)


@dataclass(frozen=True)
class Drain:
    node_id: str
    reason: Reason
    deadline: float | None = None  # when what still runs is ended; None = wait for it
    op: Literal["drain"] = field(default="drain", init=False)


@dataclass(frozen=True)
class Undrain:
    node_id: str
    reason: Reason
    op: Literal["undrain"] = field(default="undrain", init=False)


@dataclass(frozen=True)
class Terminate:
    node_id: str  # "" for an instance that no record of ours explains
    instance_id: str
    reason: Reason
    op: Literal["terminate"] = field(default="terminate", init=False)


@dataclass(frozen=True)
class Stop:
    """Stop the instance of a node that is drained and empty, and keep it for a later Start."""

    node_id: str
    instance_id: str
    reason: Reason
    op: Literal["stop"] = field(default="stop", init=False)


@dataclass(frozen=True)
class Start:
    """Start a stopped node's instance again. `offer` is the node's own, at the price of now."""

    node_id: str
    instance_id: str
    offer: Offer
    reason: Reason
    demand_ids: tuple[str, ...] = ()
    op: Literal["start"] = field(default="start", init=False)


@dataclass(frozen=True)
class Mark:
    """Move a node's record to `event`'s next state: a deadline passed, the provider's list shows it running or gone."""

    node_id: str
    event: str
    reason: Reason
    instance_id: str = ""
    address: str = ""
    op: Literal["mark"] = field(default="mark", init=False)


Action = Launch | Drain | Undrain | Terminate | Stop | Start | Mark


@dataclass(frozen=True)
class Wait:
    """Why (part of) a demand is not served by running nodes. `eta` is the expected time of service, if known.
    `nodes` are the booting or launched nodes it waits for."""

    demand_id: str
    count: int
    reason: Reason
    eta: float | None = None
    nodes: tuple[str, ...] = ()


@dataclass(frozen=True)
class PassedOver:
    """An offer that was considered for a demand and not taken."""

    offer_key: str
    reason: Reason


@dataclass(frozen=True)
class Plan:
    """An immutable answer. Actions are in the order in which to apply them. `kept`: idle nodes that stay since demand (by id)
    has its place there."""

    actions: tuple[Action, ...]
    waits: tuple[Wait, ...] = ()
    passed_over: tuple[PassedOver, ...] = ()
    wake_at: float | None = None  # plan again then, even if nothing happens
    price_before: float = 0.0
    price_after: float = 0.0
    kept: tuple[tuple[str, tuple[str, ...]], ...] = ()
