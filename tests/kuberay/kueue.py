"""What Kueue says to an object that its queue's label puts into its hands: it refuses what would hold a queue's quota without
end, or take more than was admitted."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

Document = dict[str, Any]
QUEUE = "kueue.x-k8s.io/queue-name"
ELASTIC = "kueue.x-k8s.io/elastic-job"  # an annotation, for those who turned on the gate ElasticJobsViaWorkloadSlices
WORKER_GROUPS = 7  # with the head's eight sets of pods
CLUSTERS = {"RayCluster": "", "RayJob": "rayClusterSpec", "RayService": "rayClusterConfig"}


def _suspend(document: Document) -> Iterator[str]:
    """Kueue suspends and resumes what is in its queue."""
    if "suspend" in (document.get("spec") or {}):
        yield "spec.suspend: Kueue writes it"


def _shutdown(document: Document) -> Iterator[str]:
    """A job's cluster is its own, and gives its quota back when the job has ended."""
    if document["kind"] == "RayJob":
        if document["spec"].get("clusterSelector"):
            yield "spec.clusterSelector: Kueue admits jobs that bring their cluster"
        if not document["spec"].get("shutdownAfterJobFinishes"):
            yield "spec.shutdownAfterJobFinishes: must be true in a queue of Kueue"


def _autoscaling(document: Document) -> Iterator[str]:
    """What was admitted does not grow, unless it says that it is elastic."""
    path, cluster = _cluster(document)
    elastic = (document["metadata"].get("annotations") or {}).get(ELASTIC) == "true"
    if cluster.get("enableInTreeAutoscaling") and not elastic:
        yield f"{path}.enableInTreeAutoscaling: needs the annotation {ELASTIC} in a queue of Kueue"


def _groups(document: Document) -> Iterator[str]:
    """Kueue admits a few sets of pods at a time, of which it calls the first `head`."""
    path, cluster = _cluster(document)
    groups = cluster.get("workerGroupSpecs") or []
    if len(groups) > WORKER_GROUPS:
        yield f"{path}.workerGroupSpecs: more than {WORKER_GROUPS} in a queue of Kueue"
    yield from (
        f"{path}.workerGroupSpecs[{n}].groupName: 'head' is Kueue's name of the head's group"
        for n, group in enumerate(groups)
        if group.get("groupName") == "head"
    )


RULES: tuple[Callable[[Document], Iterator[str]], ...] = (_suspend, _shutdown, _autoscaling, _groups)


def applies(document: Document) -> bool:
    """A RayCronJob's label would have to be its jobs', which it does not describe."""
    return document["kind"] in CLUSTERS and QUEUE in (document["metadata"].get("labels") or {})


def _cluster(document: Document) -> tuple[str, Document]:
    """The spec of its cluster with its path; empty where it brings none."""
    field, spec = CLUSTERS[document["kind"]], document.get("spec") or {}
    return (f"spec.{field}", spec.get(field) or {}) if field else ("spec", spec)
