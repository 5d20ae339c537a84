"""The operator's rules of a RayJob's spec, which a RayCronJob embeds as its template, and of a RayCronJob's schedule."""

from __future__ import annotations

import re
import zoneinfo
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import yaml

from tests.kuberay.clusters import Cluster

SELECTED = "ray.io/cluster"  # the key of clusterSelector
ORDER = ("DeleteWorkers", "DeleteCluster", "DeleteSelf")  # nothing goes after what it is part of
OF_CLUSTER = ("DeleteWorkers", "DeleteCluster")
TEXT = r"(\*|\?|{v}(-{v})?)(/[1-9][0-9]*)?"
# Each field of a schedule: its least and largest number, and names that stand for numbers from the least on.
FIELDS = (
    ("minute", 0, 59, ""),
    ("hour", 0, 23, ""),
    ("day of the month", 1, 31, ""),
    ("month", 1, 12, "JAN FEB MAR APR MAY JUN JUL AUG SEP OCT NOV DEC"),
    ("day of the week", 0, 6, "SUN MON TUE WED THU FRI SAT"),
)
WORDS = ("@yearly", "@annually", "@monthly", "@weekly", "@daily", "@midnight", "@hourly")
EVERY = re.compile(r"@every ([0-9]+(\.[0-9]+)?(ns|us|ms|s|m|h))+\Z")


@dataclass(frozen=True)
class Job:
    path: str
    spec: dict[str, Any]
    annotations: dict[str, str]

    @property
    def cluster(self) -> Cluster | None:
        spec = self.spec.get("rayClusterSpec")
        return None if spec is None else Cluster(f"{self.path}.rayClusterSpec", spec, self.annotations)

    @property
    def autoscaling(self) -> bool:
        return self.cluster is not None and self.cluster.autoscaling

    @property
    def selects(self) -> bool:
        return bool(self.spec.get("clusterSelector"))

    @property
    def mode(self) -> str:
        return self.spec.get("submissionMode") or "K8sJobMode"

    @property
    def rules(self) -> list[tuple[str, dict[str, Any]]]:
        """Each deletion rule, with its path."""
        found = enumerate((self.spec.get("deletionStrategy") or {}).get("deletionRules") or [])
        return [(f"{self.path}.deletionStrategy.deletionRules[{n}]", rule) for n, rule in found]

    @property
    def legacy(self) -> list[tuple[str, dict[str, Any]]]:
        """What to delete on success and on failure, each with its path."""
        strategy = self.spec.get("deletionStrategy") or {}
        events = [event for event in ("onSuccess", "onFailure") if strategy.get(event) is not None]
        return [(f"{self.path}.deletionStrategy.{event}", strategy[event]) for event in events]


# -- where it runs


def _cluster(job: Job) -> Iterator[str]:
    """It makes a cluster or selects one by name."""
    if not job.selects and job.cluster is None:
        yield f"{job.path}: needs rayClusterSpec or clusterSelector"
    if job.selects and not job.spec["clusterSelector"].get(SELECTED):
        yield f"{job.path}.clusterSelector: needs {SELECTED}"


def _selected(job: Job) -> Iterator[str]:
    """A cluster that others made is not suspended, retried on a new one, or given a sidecar."""
    if job.selects and job.spec.get("suspend"):
        yield f"{job.path}.suspend: not with clusterSelector"
    if job.selects and (job.spec.get("backoffLimit") or 0) > 0:
        yield f"{job.path}.backoffLimit: not with clusterSelector"
    if job.selects and job.mode == "SidecarMode":
        yield f"{job.path}.submissionMode: SidecarMode not with clusterSelector"


def _auth(job: Job) -> Iterator[str]:
    """Tokens of Kubernetes are for a bare RayCluster only."""
    options = (job.spec.get("rayClusterSpec") or {}).get("authOptions") or {}
    if options.get("enableK8sTokenAuth"):
        yield f"{job.path}.rayClusterSpec.authOptions.enableK8sTokenAuth: not in a RayJob"


def _upgrades(job: Job) -> Iterator[str]:
    """A job's cluster is not upgraded."""
    if ((job.spec.get("rayClusterSpec") or {}).get("upgradeStrategy") or {}).get("type"):
        yield f"{job.path}.rayClusterSpec.upgradeStrategy: only in a bare RayCluster"


# -- how it is submitted


def _sidecar(job: Job) -> Iterator[str]:
    """In SidecarMode the head's pod submits: there is no other pod to describe, and it must not start again."""
    if job.mode != "SidecarMode":
        return
    for field in ("submitterPodTemplate", "submitterConfig"):
        if job.spec.get(field) is not None:
            yield f"{job.path}.{field}: not in SidecarMode"
    if job.cluster and job.cluster.head.pod.get("restartPolicy", "Never") not in ("", "Never"):
        yield f"{job.cluster.head.path}.template.spec.restartPolicy: must be Never or unset in SidecarMode"


def _interactive(job: Job) -> Iterator[str]:
    """What a person submits is not tried again for them."""
    if job.mode == "InteractiveMode" and (job.spec.get("backoffLimit") or 0) > 0:
        yield f"{job.path}.backoffLimit: not in InteractiveMode"


def _runtime_env(job: Job) -> Iterator[str]:
    """runtimeEnvYAML is text, and that text is YAML of an object."""
    try:
        if not isinstance(yaml.safe_load(job.spec.get("runtimeEnvYAML") or "{}"), dict):
            yield f"{job.path}.runtimeEnvYAML: must be an object"
    except yaml.YAMLError:
        yield f"{job.path}.runtimeEnvYAML: is no YAML"


def _times(job: Job) -> Iterator[str]:
    """Deadlines are positive, retries not negative."""
    for field in ("activeDeadlineSeconds", "preRunningDeadlineSeconds"):
        if (limit := job.spec.get(field)) is not None and limit <= 0:
            yield f"{job.path}.{field}: must be positive"
    for field in ("backoffLimit", "ttlSecondsAfterFinished"):
        if (job.spec.get(field) or 0) < 0:
            yield f"{job.path}.{field}: must not be negative"


# -- what is deleted after it


def _shutdown(job: Job) -> Iterator[str]:
    """Suspending and a time to live need a shutdown; deletionRules say the same in another way."""
    if job.spec.get("shutdownAfterJobFinishes"):
        if job.rules:
            yield f"{job.path}.deletionStrategy.deletionRules: not with shutdownAfterJobFinishes"
        return
    if job.spec.get("suspend"):
        yield f"{job.path}.suspend: needs shutdownAfterJobFinishes"
    if (job.spec.get("ttlSecondsAfterFinished") or 0) > 0:
        yield f"{job.path}.ttlSecondsAfterFinished: needs shutdownAfterJobFinishes"


def _policies(job: Job) -> Iterator[str]:
    """A selected cluster is not the job's to delete, and an autoscaler would replace the workers."""
    for path, each in [*job.rules, *job.legacy]:
        policy = each.get("policy")
        if job.selects and policy in OF_CLUSTER:
            yield f"{path}.policy: {policy} not with clusterSelector"
        elif job.autoscaling and policy == "DeleteWorkers":
            yield f"{path}.policy: DeleteWorkers not with autoscaling"


def _legacy(job: Job) -> Iterator[str]:
    """onSuccess and onFailure each say a policy, and DeleteNone contradicts a shutdown."""
    for path, each in job.legacy:
        if not each.get("policy"):
            yield f"{path}: lacks policy"
        elif each["policy"] == "DeleteNone" and job.spec.get("shutdownAfterJobFinishes"):
            yield f"{path}.policy: DeleteNone not with shutdownAfterJobFinishes"


def _order(job: Job) -> Iterator[str]:
    """For one end of a job each policy is there once, and workers go before the cluster, the cluster before the job."""
    ends = [(_end(rule), rule.get("policy"), rule["condition"].get("ttlSeconds", 0)) for _, rule in job.rules]
    path = f"{job.path}.deletionStrategy.deletionRules"
    for (end, policy), times in Counter((end, policy) for end, policy, _ in ends).items():
        if times > 1:
            yield f"{path}: {times} rules of {policy} after {end}"
    for end in dict.fromkeys(end for end, _, _ in ends):
        waits = {policy: wait for each, policy, wait in ends if each == end}
        said = [policy for policy in ORDER if policy in waits]
        for first, then in pairwise(said):
            if waits[then] < waits[first]:
                yield f"{path}: {then} {waits[then]} s after {end}, before {first} {waits[first]} s"


def _end(rule: dict[str, Any]) -> str:
    condition = rule["condition"]
    return condition.get("jobStatus") or f"deployment {condition.get('jobDeploymentStatus')}"


RULES: tuple[Callable[[Job], Iterator[str]], ...] = (
    _cluster,
    _selected,
    _auth,
    _upgrades,
    _sidecar,
    _interactive,
    _runtime_env,
    _times,
    _shutdown,
    _policies,
    _legacy,
    _order,
)


# -- when a RayCronJob starts one


def _schedule(spec: dict[str, Any]) -> Iterator[str]:
    """A schedule has five fields or is a word."""
    schedule = spec["schedule"]
    if "TZ" in schedule:
        yield "spec.schedule: write timeZone instead of TZ"
    elif not _is_schedule(schedule):
        yield f"spec.schedule: {schedule!r} is no schedule"


def _zone(spec: dict[str, Any]) -> Iterator[str]:
    """The time zone has a name in the IANA database."""
    if (name := spec.get("timeZone")) is not None:
        try:
            zoneinfo.ZoneInfo(name)
        except (zoneinfo.ZoneInfoNotFoundError, ValueError):
            yield f"spec.timeZone: {name!r} is no time zone"


SCHEDULE_RULES: tuple[Callable[[dict[str, Any]], Iterator[str]], ...] = (_schedule, _zone)


def _is_schedule(text: str) -> bool:
    if text.startswith("@"):
        return text in WORDS or bool(EVERY.match(text))
    fields = text.split()
    return len(fields) == len(FIELDS) and all(
        _is_field(each, *known) for each, known in zip(fields, FIELDS, strict=True)
    )


def _is_field(text: str, _: str, low: int, high: int, names: str) -> bool:
    """`*`, `?`, a number or name, a range, each with a step, and several with commas."""
    value = "|".join(["[0-9]+", *names.split()])
    pattern = re.compile(TEXT.format(v=f"({value})") + r"\Z", re.IGNORECASE)
    numbers = {name: low + n for n, name in enumerate(names.split())}
    for part in text.split(","):
        if not pattern.match(part):
            return False
        ends = [numbers.get(end.upper(), end) for end in part.partition("/")[0].split("-") if end not in "*?"]
        if any(not low <= int(end) <= high for end in ends) or [*map(int, ends)] != sorted(map(int, ends)):
            return False
    return True
