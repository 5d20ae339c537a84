"""`explain`: why a job waits or how it ended, and the story of a node, from the head's books and the last plan; and what
would become of a job that is not submitted yet.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from clusterctl.core.errors import NotFound
from clusterctl.core.explain import Explanation, explain_demand, explain_node
from clusterctl.core.model import Launch, Reason, Start
from clusterctl.core.scheduling.remedies import COMING
from clusterctl_runtime.engine.demand import NodeUser
from clusterctl_runtime.head.api.job_documents import look, wait_of
from clusterctl_runtime.head.api.node_documents import node_detail
from clusterctl_runtime.head.autoscaler import demand_of
from clusterctl_runtime.head.clock import steady_time
from clusterctl_runtime.head.jobs.job import Job, split_task
from clusterctl_runtime.head.jobs.requests import MAX_ARRAY, JobRequest
from clusterctl_runtime.head.nodes.census import take_census

if TYPE_CHECKING:
    from clusterctl_runtime.head.head import Head

Document = dict[str, Any]
MOST_USERS = 5  # of a node that are named


async def explain_document(head: Head, subject: str) -> Document:
    """Of a job or a node, whichever has this id. The engine is asked what it has to do with it."""
    if subject in head.book.jobs:
        await look(head)
        return _explain_job(head, head.book.jobs[subject])
    if head.journal.get(subject):
        users = await head.engine.users(subject) if head.engine is not None else ()
        return _explain_node(head, subject, users)
    if subject == head.config.name:
        return _explain_cluster(head)
    raise NotFound(f"no job or node {subject!r} in this cluster: `clusterctl jobs` and `clusterctl nodes` list them")


def _explain_cluster(head: Head) -> Document:
    """How long it lives."""
    per_hour = take_census(head.ledger, head.preparing, head.fleet.roster.all(steady_time())).per_hour
    life = head.lifetime.document(per_hour)
    never = "it does not end itself: its spec has no `lifetime`"
    reason = {"code": "lifetime", "text": life["text"], "fix": ""} if life else {"code": "", "text": never, "fix": ""}
    story = [{"at": e["at"], "event": e["code"], "reason": e["text"]} for e in head.events.newest(50, head.config.name)]
    return {
        "id": head.config.name,
        "kind": "cluster",
        "state": head.state,
        "reason": reason,
        "eta": None,
        "story": story,
        "passed_over": [],
    }


def plan_job(head: Head, request: JobRequest) -> Document:
    """What would happen to this job, or to all of its array, if it came now. Nothing is taken in, launched or kept."""
    head.queue.check(request)
    situation = head.autoscaler.situation()
    job = Job("planned", 0, head.book.asked(request.model_dump(exclude={"array"})), queued_since=situation.now)
    demand = demand_of(job, min(len(request.array or [0]), request.array_limit or MAX_ARRAY))
    situation = replace(situation, demand=(*situation.demand, demand))
    found = explain_demand(situation, demand.id)
    assert found is not None
    launches = [a for a in situation.plan().actions if isinstance(a, Launch | Start) and demand.id in a.demand_ids]
    offers = {a.offer.key: a.offer for a in launches}
    counts = Counter(a.offer.key for a in launches)
    return {
        "starts": {"placeable": "now"}.get(found.reason.code, "later" if found.reason.code in COMING else "not"),
        "count": demand.count,
        "resources": job.shape.resources.to_dict(),
        "nodes": job.nodes,
        "reason": {"code": found.reason.code, "text": found.reason.text, "fix": found.reason.fix},
        "eta": found.eta,
        "launches": [
            {
                "offer": key,
                "instance_type": offers[key].instance_type,
                "market": offers[key].market,
                "zone": offers[key].zone,
                "count": count,
                "price_per_hour": offers[key].price,
            }
            for key, count in sorted(counts.items())
        ],
        "per_hour": round(sum(a.offer.price for a in launches), 6),
        "after": list(request.after),
    }


def _explain_job(head: Head, job: Job) -> Document:
    story = [{"at": e["at"], "event": e["code"], "reason": e["text"]} for e in head.events.newest(200, job.id)]
    document: Document = {
        "id": job.id,
        "kind": "job",
        "state": job.state,
        "story": story,
        "passed_over": [],
        "eta": None,
    }
    if job.state == "queued":
        document.update(_why_queued(head, job))
        document["ahead"] = head.book.before(job)
        return document
    nodes = ", ".join(sorted(set(job.attempt.nodes))) if job.attempt else ""
    text = f"it runs on {nodes}" if nodes else (job.reason or f"it {job.state}")
    document["reason"] = {"code": job.state, "text": text, "fix": ""}
    if wait := wait_of(head, job):
        document.update(_why_running_waits(head, wait, text))
    return document


def _why_running_waits(head: Head, wait: Document, runs: str) -> Document:
    """What it wants of the engine is planned afresh, too."""
    found = explain_demand(head.autoscaler.situation(), wait["demands"][0]) if wait["demands"] else None
    fix = found.reason.fix if found and found.reason.code == wait["code"] else wait["fix"]
    return {
        "reason": {"code": wait["code"], "text": f"{runs}; {wait['text']}", "fix": fix},
        "eta": wait["eta"],
        "nodes": wait["nodes"],
        "passed_over": _passed_over(found),
    }


def _why_queued(head: Head, job: Job) -> Document:
    """Planned afresh for this question, so that the fix is one that the planner itself would accept."""
    held = head.book.gate.wait_of(job)
    if held is not None:
        return {"reason": {key: held[key] for key in ("code", "text", "fix")}}
    situation = head.autoscaler.situation()
    demand_id = next((d for d, group in head.autoscaler.groups.items() if group == job.group), "")
    found = explain_demand(situation, demand_id)
    if found is None:
        reason = head.book.wait_of(job) or {
            "code": "queued",
            "text": "it was just queued: nothing was decided yet",
            "fix": "",
        }
        return {"reason": {key: reason[key] for key in ("code", "text", "fix")}}
    return {
        "reason": {"code": found.reason.code, "text": found.reason.text, "fix": found.reason.fix},
        "eta": found.eta,
        "nodes": list(found.nodes),
        "passed_over": _passed_over(found),
    }


def _passed_over(found: Explanation | None) -> list[Document]:
    passed = found.passed_over if found else ()
    return [{"offer": p.offer_key, "code": p.reason.code, "text": p.reason.text} for p in passed]


def _explain_node(head: Head, node_id: str, users: Sequence[NodeUser]) -> Document:
    node = head.journal.get(node_id)
    assert node is not None
    view = head.fleet.roster.get(node_id, steady_time())
    detail = node_detail(head, view) if view else {"story": head.journal.story(node_id)}
    found = explain_node(head.autoscaler.situation(), node_id)
    reason = _with_users(head, found.reason if found else Reason(node.code, node.reason), users)
    return {
        "id": node_id,
        "kind": "node",
        "state": node.state.value,
        "reason": {"code": reason.code, "text": reason.text, "fix": reason.fix},
        "eta": found.eta if found else None,
        "offer": node.offer.key,
        "price_per_hour": node.price,
        "running": detail.get("running", []),
        "preparing": detail.get("preparing"),
        "output": head.preparing.output(node_id),
        "story": detail["story"],
        "passed_over": [],
    }


def _with_users(head: Head, reason: Reason, users: Sequence[NodeUser]) -> Reason:
    """Of a node that the engine uses, or that stays for its sake: who does, and for whose."""
    if reason.code == "requested" and head.engine is not None:
        return replace(reason, fix=head.engine.requests.sentence)
    if reason.code not in ("working", "busy") or not users:
        return reason
    first = ", ".join(_user_text(user) for user in users[:MOST_USERS])
    more = f" and {len(users) - MOST_USERS} more" if len(users) > MOST_USERS else ""
    detached = any(user.detached for user in users)
    fix = "a detached one stays after its driver has ended, and the node with it, until `ray.kill` or `remove_placement_group`"
    return replace(reason, text=f"{reason.text}: {first}{more}", fix=fix if detached else reason.fix)


def _user_text(user: NodeUser) -> str:
    whose = split_task(user.driver)[0] if "/" in user.driver else f"Ray's job {user.driver}"
    return f"{'detached ' if user.detached else ''}{user.kind} {user.name} of {whose}"
