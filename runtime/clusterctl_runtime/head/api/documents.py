"""The JSON documents of the API about the cluster: status, demand, offers. Views of the same objects everywhere."""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING, Any

from clusterctl.core.lifetime import moment
from clusterctl.core.model import PENDING_STATES, Block, Demand, NodeState, Offer
from clusterctl.core.scheduling.remedies import COMING
from clusterctl.core.scheduling.selectors import NEEDS_ENGINE
from clusterctl.spec.network import has_engine
from clusterctl.version import __version__
from clusterctl_runtime.head.api.node_documents import node_document
from clusterctl_runtime.head.clock import steady_time
from clusterctl_runtime.head.nodes.census import Census, first_nodes, named, take_census

if TYPE_CHECKING:
    from clusterctl_runtime.head.head import Head

Document = dict[str, Any]
FIRST_JOBS = 3  # of a kind of waiting work that are named
MOST_DEMANDS = 100  # groups of what waits that the status names; there are as many as there are different wishes


def status_document(head: Head) -> Document:
    """The same size whatever the number of nodes: counts of all, and the documents of a few (see `first_nodes`)."""
    now = steady_time()
    views = head.fleet.roster.all(now)
    census = take_census(head.ledger, head.preparing, views)
    spend = head.journal.spend(now)
    pools, problem = pool_documents(head, census), problem_document(head, "head")
    demand = demand_documents(head)
    return {
        "cluster": head.config.name,
        "uid": head.config.uid,
        "state": "degraded" if head.state == "ready" and head.autoscaler.failing else head.state,
        "head": {
            "address": f"127.0.0.1:{head.port}",
            "version": __version__,
            "started": head.started,
            "in_service": census.pool("head").in_service,
            "problem": problem,
        },
        "engine": engine_document(head),
        "autoscaler": {"failing": head.autoscaler.failing, "failed_ticks": head.autoscaler.failed_ticks},
        "pools": pools,
        "nodes": [node_document(head, view) for view in first_nodes(views, census)],
        "node_counts": named(census.states),
        "demand": demand[:MOST_DEMANDS],
        "demand_left_out": max(0, len(demand) - MOST_DEMANDS),
        "jobs": {state: head.book.counts[state] for state in ("queued", "running", "succeeded", "failed", "cancelled")},
        "cost": {
            "per_hour": round(census.per_hour, 6),
            "total": round(spend.total, 6),
            "today": round(spend.today, 6),
        },
        "lifetime": head.lifetime.document(census.per_hour),
        "messages": _messages(head, problem, pools),
    }


def _messages(head: Head, problem: Document | None, pools: list[Document]) -> list[str]:
    """What keeps the cluster from being as it should, each said once: a planner that fails, limits that it exceeds, refused
    launches, offers and lists that failed. What was refused of a pool is of no interest once nothing waits any more."""
    troubles = [("head node", problem)]
    if head.autoscaler.last_plan.waits:
        troubles += [(f"pool {pool['name']}", pool["problem"]) for pool in pools]
    said = [head.autoscaler.failing, *(f"{reason.text} ({reason.fix})" for reason in head.autoscaler.beyond)]
    said += [f"{what}: {_told(trouble)}" for what, trouble in troubles if trouble]
    said += [head.autoscaler.offers_error, *(scope.error for scope in head.autoscaler.observed)]
    return list(dict.fromkeys(text for text in said if text))


def _told(trouble: Document) -> str:
    """A refusal with the machine, its moment, and when the pool is tried again."""
    if "machine" not in trouble:
        return trouble["text"]
    again = f"; tried again at {moment(trouble['until'])}" if trouble["until"] else ""
    return f"{trouble['text']} ({trouble['machine']}, refused at {moment(trouble['at'])}{again})"


def engine_document(head: Head) -> Document:
    """What status says of Ray. A cluster without an engine has the same keys."""
    control = head.engine
    if control is None:
        return {"name": "none", "version": "", "state": "none", "address": "", "message": "", "wheels_wanted": False}
    return {
        "name": "ray",
        "version": control.version,
        "state": control.phase,
        "address": control.address,
        "message": control.trouble,
        "wheels_wanted": bool(control.supply.missing),
    }


def pool_documents(head: Head, census: Census) -> list[Document]:
    """One per pool of the spec, in its order, by the `census`; the price is $/h of all its nodes together."""
    documents = []
    for pool in head.config.spec.pools:
        found = census.pool(pool.name)
        documents.append(
            {
                "name": pool.name,
                "provider": head.config.spec.kind_of(pool).name,
                "engine": "ray" if has_engine(head.config.spec, pool) else "none",
                "min": pool.min,
                "max": pool.max,
                "ready": found.states[NodeState.READY],
                "pending": sum(found.states[state] for state in PENDING_STATES),
                "draining": found.states[NodeState.DRAINING],
                "stopped": found.states[NodeState.STOPPING] + found.states[NodeState.STOPPED],
                "failed": found.states[NodeState.FAILED] + found.states[NodeState.QUARANTINED],
                "in_service": found.in_service,
                "preparing": found.preparing,
                "states": named(found.states),
                "markets": dict(sorted(found.markets.items())),
                "price_per_hour": round(found.price, 6),
                "problem": problem_document(head, pool.name),
            }
        )
    return documents


def problem_document(head: Head, pool: str) -> Document | None:
    """Why a pool's last launch was refused, or why its min is not being served; None when nothing is wrong."""
    if (refusal := head.autoscaler.refusals.get(pool)) is not None:
        until = head.autoscaler.refused_until(pool, steady_time())
        return {
            "code": refusal.code,
            "text": refusal.text,
            "machine": f"{_provider_of(head, pool)} {refusal.machine}",
            "at": refusal.at,
            "until": until,
        }
    wait = next((w for w in head.autoscaler.last_plan.waits if w.demand_id == f"min:{pool}"), None)
    if wait is None or wait.reason.code in COMING:
        return None
    return {"code": wait.reason.code, "text": wait.reason.text + (f" ({wait.reason.fix})" if wait.reason.fix else "")}


def _provider_of(head: Head, pool: str) -> str:
    spec = head.config.spec
    return next((spec.kind_of(one).name for one in spec.pools if one.name == pool), spec.provider_name)


def demand_documents(head: Head) -> list[Document]:
    """What waited at the autoscaler's last tick, less the jobs that have started since, and why: its plan's reasons."""
    reasons = {wait.demand_id: wait.reason for wait in head.autoscaler.last_plan.waits}
    documents = []
    for demand in head.autoscaler.demand:
        count = _still_wanted(head, demand)
        if not count:
            continue
        reason = reasons.get(demand.id)
        documents.append(
            {
                "id": demand.id,
                "shape": shape_text(demand),
                "resources": [
                    {"resources": s.resources.to_dict(), "count": n, "pool": s.pool} for s, n in demand.bundles
                ],
                "count": count,
                "gang": demand.gang,
                "source": demand.source,
                "since": demand.since,
                "jobs": _jobs_of(head, demand),
                "reason": reason.text if reason else "",
                "code": reason.code if reason else "",
                "fix": reason.fix if reason else "",
            }
        )
    return documents


def _still_wanted(head: Head, demand: Demand) -> int:
    """Jobs may have started since the last plan; what Ray wants is as fresh as it told us."""
    group = head.autoscaler.groups.get(demand.id)
    return demand.count if group is None else len(head.book.groups.get(group, ()))


def _jobs_of(head: Head, demand: Demand) -> list[str]:
    """Ids of the first jobs that it stands for; none where they are Ray's wishes."""
    group = head.autoscaler.groups.get(demand.id)
    return [] if group is None else [job.id for job in islice(head.book.groups.get(group, ()), FIRST_JOBS)]


def shape_text(demand: Demand) -> str:
    """For people, what one unit of the demand takes and insists on, as in "2 x [1 x GPU (type A100)]"."""
    parts = []
    for shape, count in demand.bundles:
        extras = [f"type {shape.gpu_type}"] if shape.gpu_type else []
        extras += [f"pool {shape.pool}"] if shape.pool else []
        extras += ["with the engine" if pair == NEEDS_ENGINE else "=".join(pair) for pair in shape.selectors]
        text = str(shape.resources) + (f" ({', '.join(extras)})" if extras else "")
        parts.append(f"{count} x [{text}]" if count > 1 or len(demand.bundles) > 1 else text)
    return " + ".join(parts)


def offer_documents(head: Head) -> list[Document]:
    """The offers of the autoscaler's last tick; `blocked` says why one cannot be had now, None where it can. Prices are $/h."""
    now = steady_time()
    blocks = head.provisioner.blocks(now)
    documents = []
    for offer in head.autoscaler.offers:
        block = next(
            (
                b
                for b in blocks
                if offer.key == b.offer_key or (b.offer_key.endswith("/") and offer.key.startswith(b.offer_key))
            ),
            None,
        )
        documents.append(
            {
                "offer": offer.key,
                "pool": offer.pool,
                "instance_type": offer.instance_type,
                "market": offer.market,
                "zone": offer.zone,
                "region": offer.region,
                "price_per_hour": offer.price,
                "price_source": offer.price_source,
                "price_date": offer.price_date,
                "resources": offer.resources.to_dict(),
                "gpu_type": offer.gpu_type,
                "blocked": _blocked(offer, block),
            }
        )
    return documents


def _blocked(offer: Offer, block: Block | None) -> Document | None:
    if block:
        return {"code": block.code, "text": block.reason, "until": block.until}
    return {"code": "closed", "text": offer.closed, "until": None} if offer.closed else None
