"""What KubeRay's operator (v1.7.0, its feature gates as they come) says to an object that the API server has taken.

The server checks the form; the operator refuses, or Ray's autoscaler misreads, some of what has it. An object that the operator
refuses is there and nothing happens but an event, so that an export has to know these rules.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from tests.kuberay import clusters, jobs, kueue, metadata, pods, services
from tests.kuberay.clusters import Cluster
from tests.kuberay.jobs import Job

Check = tuple[Callable[..., Iterator[str]], tuple[Any, ...]]

# Names of what the operator makes are longer than the object's; Kubernetes allows 63 characters.
LONGEST = {"RayCluster": 53, "RayJob": 47, "RayService": 47, "RayCronJob": 36}
BATCH = frozenset({"ray.io/gang-scheduling-enabled", "ray.io/priority-class-name"})  # read by it, written by users


def operator_faults(document: dict[str, Any]) -> list[str]:
    """Each fault as `path: sentence`, sorted by path, of a document in which `crd.faults` finds none. A PodMonitor is none of the
    operator's business."""
    return sorted(fault for rule, about in checks(document) for fault in rule(*about))


def checks(document: dict[str, Any]) -> Iterator[Check]:
    """Each rule with what it looks at."""
    kind, spec = document["kind"], document.get("spec") or {}
    notes = document["metadata"].get("annotations") or {}
    if kind in LONGEST:
        yield from ((rule, (document,)) for rule in RULES)
    if kueue.applies(document):
        yield from ((rule, (document,)) for rule in kueue.RULES)
    if kind == "RayCluster":
        yield from _of_cluster(Cluster("spec", spec, notes))
    elif kind == "RayJob":
        yield from _of_job(Job("spec", spec, notes))
    elif kind == "RayService":
        yield from ((rule, (spec,)) for rule in services.RULES)
        yield from _of_cluster(Cluster(services.CONFIG, spec["rayClusterConfig"], notes))
    elif kind == "RayCronJob":
        yield from ((rule, (spec,)) for rule in jobs.SCHEDULE_RULES)
        yield from _of_job(Job("spec.jobTemplate", spec["jobTemplate"], {}))


def _of_job(job: Job) -> Iterator[Check]:
    yield from ((rule, (job,)) for rule in jobs.RULES)
    yield from _of_pods(f"{job.path}.submitterPodTemplate", job.spec.get("submitterPodTemplate"))
    if job.cluster is not None:
        yield from _of_cluster(job.cluster)


def _of_cluster(cluster: Cluster) -> Iterator[Check]:
    yield from ((rule, (cluster,)) for rule in clusters.RULES)
    for group in cluster.groups:
        yield from _of_pods(f"{group.path}.template", group.spec.get("template"))


def _of_pods(path: str, template: dict[str, Any] | None) -> Iterator[Check]:
    yield from ((rule, (path, template or {})) for rule in pods.RULES)


# -- rules of any of its kinds


def _name(document: dict[str, Any]) -> Iterator[str]:
    """A name leaves room for what the operator appends, and is one that a service may have."""
    kind, name = document["kind"], metadata.name_of(document["metadata"])
    if len(name) > LONGEST[kind]:
        yield f"metadata.name: longer than {LONGEST[kind]} characters"
    if not metadata.LABEL_1035.match(name):
        yield f"metadata.name: {name!r} is no DNS label of RFC 1035"


def _labels(document: dict[str, Any]) -> Iterator[str]:
    """Labels under ray.io/ are the operator's, except two that tell it how to schedule."""
    for label in document["metadata"].get("labels") or {}:
        if label.startswith(clusters.PREFIX) and label not in BATCH:
            yield f"metadata.labels.{label}: labels under {clusters.PREFIX} are the operator's"


RULES: tuple[Callable[[dict[str, Any]], Iterator[str]], ...] = (_name, _labels)
