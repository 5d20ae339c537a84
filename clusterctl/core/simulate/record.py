"""What a run of a simulation was like: waits, dollars, use, nodes over time, and the jobs that were never served."""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass, field

from clusterctl.core.resources import UNIT, Resources
from clusterctl.core.simulate.jobs import TraceJob
from clusterctl.core.simulate.world import HOUR

DAY = 86_400.0
MONTH = 30 * DAY  # of the simulated clock, for budgets


@dataclass(frozen=True)
class Unserved:
    """`count` jobs that did not end, for one reason; `example` is the first of them."""

    code: str
    text: str
    count: int
    example: str
    fix: str = ""


@dataclass(frozen=True)
class Moment:
    """The cluster at one time: `nodes` and `gpus` are those paid for, `dollars` is what was spent so far."""

    at: float
    nodes: int
    gpus: float
    per_hour: float
    dollars: float
    running: int
    queued: int


@dataclass(frozen=True)
class Result:
    """Waits are seconds from submit to the first start, one per job that started, ascending. `utilisation` is the share
    of paid GPU (and CPU) time that jobs held. `digest` is equal for equal runs."""

    policy: str
    trace: str
    seed: int
    jobs: int
    finished: int
    waits: tuple[float, ...]
    requeued: float
    lost_work: float
    dollars: float
    node_hours: float
    gpu_hours_paid: float
    gpu_hours_used: float
    cpu_hours_paid: float
    cpu_hours_used: float
    launches: int
    refused_launches: int
    interruptions: int
    most_nodes: int
    ended_at: float
    events: int
    plans: int
    timeline: tuple[Moment, ...]
    unserved: tuple[Unserved, ...]
    by_pool: tuple[tuple[str, float, float], ...]  # pool, node hours, dollars
    digest: str

    @property
    def gpu_utilisation(self) -> float:
        """Used of the paid GPU hours, 0 to 1."""
        return self.gpu_hours_used / self.gpu_hours_paid if self.gpu_hours_paid else 0.0

    @property
    def cpu_utilisation(self) -> float:
        """Used of the paid CPU hours, 0 to 1."""
        return self.cpu_hours_used / self.cpu_hours_paid if self.cpu_hours_paid else 0.0

    def wait_quantile(self, share: float) -> float:
        """The wait that `share` of the jobs did not exceed; 0 when none started."""
        if not self.waits:
            return 0.0
        return self.waits[max(0, math.ceil(share * len(self.waits)) - 1)]


@dataclass
class Meter:
    """Adds up while the clock runs. `rate` is the $/h of all machines that bill now."""

    rate: float = 0.0
    dollars: float = 0.0
    today: float = 0.0
    month: float = 0.0
    nodes: int = 0
    gpus: float = 0.0
    cpus: float = 0.0
    gpu_seconds: float = 0.0
    cpu_seconds: float = 0.0
    node_seconds: float = 0.0
    at: float = 0.0

    def advance(self, now: float) -> None:
        """Adds what was spent until `now`; a day or month that begins starts its own sum at 0."""
        while self.at < now:
            midnight = (self.at // DAY + 1) * DAY
            until = min(now, midnight)
            seconds = until - self.at
            spent = seconds / HOUR * self.rate
            self.dollars += spent
            self.today += spent
            self.month += spent
            self.gpu_seconds += seconds * self.gpus
            self.cpu_seconds += seconds * self.cpus
            self.node_seconds += seconds * self.nodes
            self.at = until
            if until == midnight:
                self.today = 0.0
                if until % MONTH == 0:
                    self.month = 0.0

    def add(self, resources: Resources, price: float, sign: int) -> None:
        """A machine begins (+1) or stops (-1) to cost."""
        self.rate = max(0.0, self.rate + sign * price)
        self.nodes += sign
        if self.nodes == 0:
            self.rate = 0.0  # no dust from adding and taking away decimal fractions
        self.gpus += sign * resources.units.get("GPU", 0) / UNIT
        self.cpus += sign * resources.units.get("CPU", 0) / UNIT


@dataclass
class Recorder:
    """Collects one run. `lines` keeps the whole log when asked to; the digest covers it in either case."""

    keep_log: bool = False
    lines: list[str] = field(default_factory=list[str])
    meter: Meter = field(default_factory=Meter)
    timeline: list[Moment] = field(default_factory=list[Moment])
    first_waits: dict[str, float] = field(default_factory=dict[str, float])
    finished: int = 0
    last_end: float = 0.0
    gpu_seconds_used: float = 0.0
    cpu_seconds_used: float = 0.0
    lost_work: float = 0.0
    requeued: float = 0.0
    launches: int = 0
    refused: int = 0
    interruptions: int = 0
    most_nodes: int = 0
    events: int = 0
    plans: int = 0

    def __post_init__(self) -> None:
        self._hash = hashlib.blake2b(digest_size=16)

    def log(self, now: float, *parts: object) -> None:
        """One line of the log, which is always part of the digest and stored only with `keep_log`."""
        line = f"{now:.3f} " + " ".join(map(str, parts))
        self._hash.update(line.encode())
        self._hash.update(b"\n")
        if self.keep_log:
            self.lines.append(line)

    @property
    def digest(self) -> str:
        """SHA-256 of all lines, in hexadecimal: equal runs have equal ones."""
        return self._hash.hexdigest()

    def started(self, job: TraceJob, since: float, now: float) -> None:
        """`since`: when the job began to wait this time; after a lost attempt that is not its submit time."""
        if job.id in self.first_waits:
            self.requeued += now - since
        else:
            self.first_waits[job.id] = now - job.submit

    def ended(self, now: float) -> None:
        """A job has finished."""
        self.finished += 1
        self.last_end = now

    def used(self, job: TraceJob, seconds: float) -> None:
        """All ranks of a job computed for so many seconds."""
        units = job.shape.resources.units
        self.gpu_seconds_used += seconds * job.nodes * units.get("GPU", 0) / UNIT
        self.cpu_seconds_used += seconds * job.nodes * units.get("CPU", 0) / UNIT

    def look(self, now: float, running: int, queued: int) -> None:
        """Notes the cluster as it is now; the last look at an instant counts."""
        m = self.meter
        self.most_nodes = max(self.most_nodes, m.nodes)
        moment = Moment(now, m.nodes, m.gpus, m.rate, m.dollars, running, queued)
        if self.timeline and self.timeline[-1].at == now:
            self.timeline[-1] = moment
        else:
            self.timeline.append(moment)
