"""From a simulation that has ended to its result."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from clusterctl.core.model import Offer, Reason, Shape
from clusterctl.core.scheduling.placement import describe
from clusterctl.core.simulate.jobs import TraceJob, demand_id
from clusterctl.core.simulate.record import Moment, Result, Unserved
from clusterctl.core.simulate.state import State
from clusterctl.core.simulate.world import HOUR

MOST_MOMENTS = 1500


def summarise(state: State) -> Result:
    """The result of a simulation that has ended."""
    record, meter = state.record, state.record.meter
    return Result(
        policy=state.policy.name,
        trace=state.trace.name,
        seed=state.seed,
        jobs=len(state.trace.jobs),
        finished=record.finished,
        waits=tuple(sorted(record.first_waits.values())),
        requeued=record.requeued,
        lost_work=record.lost_work,
        dollars=meter.dollars,
        node_hours=meter.node_seconds / HOUR,
        gpu_hours_paid=meter.gpu_seconds / HOUR,
        gpu_hours_used=record.gpu_seconds_used / HOUR,
        cpu_hours_paid=meter.cpu_seconds / HOUR,
        cpu_hours_used=record.cpu_seconds_used / HOUR,
        launches=record.launches,
        refused_launches=record.refused,
        interruptions=record.interruptions,
        most_nodes=record.most_nodes,
        ended_at=state.now,
        events=record.events,
        plans=record.plans,
        timeline=thin(record.timeline, MOST_MOMENTS),
        unserved=unserved_jobs(state),
        by_pool=_by_pool(state),
        digest=record.digest,
    )


def thin(moments: Sequence[Moment], most: int) -> tuple[Moment, ...]:
    """At most about `most` moments, evenly over time, with the busiest moment of each stretch kept."""
    if len(moments) <= most:
        return tuple(moments)
    begin, end = moments[0].at, moments[-1].at
    width = (end - begin) / (most / 2) or 1.0
    by_stretch: dict[int, list[Moment]] = {}
    for moment in moments:
        by_stretch.setdefault(int((moment.at - begin) / width), []).append(moment)
    chosen: list[Moment] = []
    for stretch in by_stretch.values():
        busiest = max(stretch, key=lambda m: m.nodes)
        chosen.extend([busiest, stretch[-1]] if busiest is not stretch[-1] else [busiest])
    return tuple(chosen)


def unserved_jobs(state: State) -> tuple[Unserved, ...]:
    """Jobs that still wait or run at the end, counted by reason."""
    counts: Counter[tuple[str, str, str]] = Counter()
    examples: dict[tuple[str, str, str], str] = {}
    still = [ticket.job for ticket in state.waiting.tickets()]
    for job in still:
        reason = _reason(state, job)
        key = (reason.code, reason.text, reason.fix)
        counts[key] += 1
        examples.setdefault(key, job.id)
    for running in state.books.running.values():
        key = ("horizon", "it still ran when the simulation reached its horizon", "")
        counts[key] += 1
        examples.setdefault(key, running.job.id)
    found = [Unserved(code, text, n, examples[code, text, fix], fix) for (code, text, fix), n in counts.items()]
    return tuple(sorted(found, key=lambda u: (-u.count, u.code, u.text)))


def _reason(state: State, job: TraceJob) -> Reason:
    wait = state.waits.get(demand_id(job))
    if wait is not None:
        return wait.reason
    if not fits_some_offer(job.shape, state.setting.offers):
        return Reason("no_offer_fits", f"no offer can hold {describe(job.shape)}", "add a pool with larger nodes")
    return Reason("not_served", f"policy {state.policy.name} did not serve it before the simulation ended")


def fits_some_offer(shape: Shape, offers: Sequence[Offer]) -> bool:
    """Whether an empty node of any offer could hold the shape."""
    return any(
        shape.resources.fits_in(offer.resources)
        and (not shape.gpu_type or shape.gpu_type.lower() == offer.gpu_type.lower())
        and (not shape.pool or shape.pool == offer.pool)
        for offer in offers
    )


def _by_pool(state: State) -> tuple[tuple[str, float, float], ...]:
    hours: dict[str, float] = {}
    dollars: dict[str, float] = {}
    for machine in state.cloud.machines.values():
        end = state.now if machine.ended is None else machine.ended
        life = max(0.0, end - machine.created) / HOUR
        pool = machine.offer.pool
        hours[pool] = hours.get(pool, 0.0) + life
        dollars[pool] = dollars.get(pool, 0.0) + life * machine.offer.price
    return tuple((pool, hours[pool], dollars[pool]) for pool in sorted(hours))
