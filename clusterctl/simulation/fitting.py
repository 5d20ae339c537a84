"""The sample that ships, made to fit the spec that it is played on: a spec may have no GPUs, and room for a tenth of its jobs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from clusterctl.core.model import Offer
from clusterctl.core.resources import Resources
from clusterctl.core.simulate.jobs import Trace, TraceJob
from clusterctl.core.simulate.state import Setting
from clusterctl.core.simulate.summary import fits_some_offer

BUSY = 0.5


def fit(trace: Trace, setting: Setting) -> Trace:
    """Jobs that no node on offer can hold ask for what the node that comes closest has, gangs have at most as many ranks as pools
    may have nodes, and of more work than keeps these busy for BUSY of the time every so many jobs are kept. Notes say so."""
    if not setting.offers or not any(pool.max for pool in setting.pools):
        return trace
    jobs = tuple(_fitted(job, setting) for job in trace.jobs)
    notes: list[str] = []
    if changed := sum(one is not other for one, other in zip(jobs, trace.jobs, strict=True)):
        notes.append(
            f"{changed} of {len(jobs)} jobs of the sample were made smaller: they ask for more than a node here has"
        )
    surplus = _load(jobs, setting, trace.span) / BUSY
    if surplus > 1:
        kept = tuple(job for at, job in enumerate(jobs) if int((at + 1) / surplus) > int(at / surplus))
        notes.append(
            f"{len(kept)} of {len(jobs)} jobs of the sample are played: all are more work than nodes up to max can do"
        )
        jobs = kept
    notes += ["a trace of your own is played as it is: --trace FILE"] if notes else []
    return replace(trace, jobs=jobs, notes=(*trace.notes, *notes))


def _load(jobs: Sequence[TraceJob], setting: Setting, span: float) -> float:
    """How much of its time the busiest pool would work, each job on the cheapest node that holds it; above 1 it cannot."""
    work: dict[str, float] = {}
    for job in jobs:
        able = [offer for offer in setting.offers if job.shape.resources.fits_in(offer.resources)]
        _, share, pool = min((_share(job, offer) * offer.price, _share(job, offer), offer.pool) for offer in able)
        work[pool] = work.get(pool, 0.0) + share * job.nodes * job.duration
    return max(work.get(pool.name, 0.0) / (max(1, pool.max) * max(1.0, span)) for pool in setting.pools)


def _share(job: TraceJob, offer: Offer) -> float:
    return max((amount / offer.resources.units[name] for name, amount in job.shape.resources.items), default=0.0)


def _fitted(job: TraceJob, setting: Setting) -> TraceJob:
    shape = job.shape
    if not fits_some_offer(shape, setting.offers):
        units = _closest(shape.resources, setting.offers).resources.units
        kept = {name: min(amount, units.get(name, 0)) for name, amount in shape.resources.items}
        shape = replace(shape, resources=Resources.from_units(kept))
    able = {offer.pool for offer in setting.offers if shape.resources.fits_in(offer.resources)}
    most = max((pool.max for pool in setting.pools if pool.name in able), default=1)
    if setting.limits.nodes is not None:
        most = min(most, setting.limits.nodes)
    nodes = max(1, min(job.nodes, most))
    return job if shape is job.shape and nodes == job.nodes else replace(job, shape=shape, nodes=nodes)


def _closest(wanted: Resources, offers: Sequence[Offer]) -> Offer:
    """GPUs count most, then CPUs, then the rest."""
    names = sorted(wanted.units, key=lambda name: (name != "GPU", name != "CPU", name))

    def kept(offer: Offer) -> tuple[int, ...]:
        return tuple(min(wanted.units[name], offer.resources.units.get(name, 0)) for name in names)

    return max(offers, key=lambda offer: (kept(offer), offer.key))
