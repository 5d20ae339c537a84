"""What a trace holds: jobs with a submit time and a run time, in seconds from the start of the trace."""

from __future__ import annotations

from dataclasses import dataclass

from clusterctl.core.model import Demand, Shape


@dataclass(frozen=True)
class TraceJob:
    """`nodes` ranks of `shape`, all at once, for `duration` seconds. `id` is unique in its trace."""

    id: str
    submit: float
    duration: float
    shape: Shape
    nodes: int = 1
    priority: int = 0
    user: str = ""


@dataclass(frozen=True)
class Trace:
    """Jobs by submit time. `faults` are sentences about lines that were left out; `notes` about how it was read."""

    name: str
    jobs: tuple[TraceJob, ...]
    faults: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def span(self) -> float:
        """Seconds from the first to the last submit."""
        return self.jobs[-1].submit - self.jobs[0].submit if self.jobs else 0.0


def group_key(job: TraceJob) -> tuple[Shape, int, int, str]:
    """Jobs with equal keys are one demand with a count."""
    return (job.shape, job.nodes, job.priority, job.user)


def demand_id(job: TraceJob) -> str:
    """A name for the demand of all jobs like this one, readable and unique per group."""
    amounts = ",".join(f"{name}={units}" for name, units in job.shape.resources.items)
    parts = (amounts, job.shape.gpu_type, job.shape.pool, str(job.nodes), str(job.priority), job.user)
    return "/".join(parts)


def demand_of(job: TraceJob, count: int, since: float, refs: tuple[str, ...]) -> Demand:
    """`count` waiting jobs like `job` as the planner sees them; the oldest waits since `since`."""
    return Demand(
        id=demand_id(job),
        source="job",
        bundles=((job.shape, job.nodes),),
        count=count,
        gang=job.nodes > 1,
        priority=job.priority,
        user=job.user,
        since=since,
        refs=refs,
    )
