"""What a job asks for: one request, kept once for all jobs that ask for the same, such as the members of an array."""

from __future__ import annotations

import hashlib
import json
import math
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

from clusterctl.core.model import Shape
from clusterctl.core.resources import Resources
from clusterctl.core.scheduling.selectors import needing_engine
from clusterctl_runtime.head.jobs.requests import JobRequest

DRIVER_RESOURCE = "driver"  # what a driver takes of the head node
_OF_ONE_JOB = frozenset({"submission_id", "array"})  # by these, jobs that ask for the same differ
_DEFAULTS = {name: field.get_default(call_default_factory=True) for name, field in JobRequest.model_fields.items()}


@dataclass(frozen=True)
class GroupKey:
    """Jobs that only their arrival tells apart: what one rank takes, how many ranks, how urgent, and whose they are."""

    shape: Shape
    nodes: int
    priority: int
    user: str = ""

    @property
    def kind(self) -> tuple[Shape, int]:
        """What one rank takes, and how many ranks."""
        return self.shape, self.nodes

    @cached_property
    def _hash(self) -> int:
        return hash((self.shape, self.nodes, self.priority, self.user))

    def __hash__(self) -> int:
        return self._hash  # asked for with each move of a job, and a shape's takes its time


class Condition(NamedTuple):
    """`job` is a job's or an array's id; `ok`: it must succeed, else it must only end."""

    job: str
    ok: bool


class Asked:
    """`request` is the JobRequest of the API, complete with defaults, without what is of one job only. `uses` counts the jobs
    that need it. Never changed."""

    __slots__ = ("array_limit", "conditions", "digest", "group", "request", "shape", "uses")

    def __init__(self, request: dict[str, Any]) -> None:
        self.request = {key: value for key, value in request.items() if key not in _OF_ONE_JOB}
        self.digest = digest_of(self.request)
        self.shape = shape_of(self.request)
        nodes, priority = int(self.request["nodes"] or 1), int(self.request.get("priority") or 0)
        self.group = GroupKey(self.shape, nodes, priority, str(self.request.get("user") or ""))
        self.conditions = tuple(parse_condition(text) for text in self.request.get("after") or ())
        self.array_limit: int | None = self.request.get("array_limit")
        self.uses = 0

    @property
    def text(self) -> str:
        """As it is kept on disk."""
        return json.dumps(self.request)


def digest_of(request: dict[str, Any]) -> str:
    """Options count only where they are used, so that a job of a client that did not know them stays the same job."""
    used = {key: value for key, value in request.items() if key not in _OF_ONE_JOB and value != _DEFAULTS.get(key)}
    return hashlib.sha256(json.dumps(used, sort_keys=True).encode()).hexdigest()


def shape_of(request: dict[str, Any]) -> Shape:
    """What each rank of a job takes of its node."""
    if request.get("driver"):
        return Shape(Resources.of({DRIVER_RESOURCE: 1}), pool="head")
    amounts: dict[str, float] = dict(request.get("resources") or {})
    cpus, gpus, memory = request.get("cpus"), request.get("gpus") or 0, request.get("memory") or 0
    amounts["CPU"] = 1.0 if cpus is None else float(cpus)
    if gpus:
        amounts["GPU"] = float(gpus) if gpus < 1 else float(math.ceil(gpus))  # a share of one device, or whole ones
    if memory:
        amounts["memory"] = float(memory)
    shape = Shape(Resources.of(amounts), gpu_type=request.get("gpu_type") or "", pool=request.get("pool") or "")
    return needing_engine(shape) if request.get("needs_engine") or request.get("runtime_env") else shape


def parse_condition(text: str) -> Condition:
    """Of "ID", "ID:ok" (the same) or "ID:any"."""
    job, _, how = text.partition(":")
    return Condition(job, how != "any")
