"""`cluster.yaml` as data. Field names are the keys users write; `spec.load` turns text into this with positions in errors.

Everything of the command-line contract's full example parses. What this version cannot carry out is refused at `up` by
`spec.support`, never silently ignored.
"""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, field_validator, model_validator

from clusterctl.spec.units import parse_duration, parse_size

Duration = Annotated[float, BeforeValidator(parse_duration)]  # seconds; "90s", "5m", "2h"
Size = Annotated[int, BeforeValidator(parse_size)]  # bytes; "100GiB"
Name = Annotated[str, Field(pattern=r"^[a-z][a-z0-9-]{0,39}$")]

PROVIDER_NAMES = ("local", "docker", "ssh", "aws", "gcp", "azure", "fake")


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Gpu(_Model):
    name: str = ""
    count: float = Field(default=1, gt=0)


class Pool(_Model):
    """A group of like nodes."""

    name: Name
    min: int = Field(default=0, ge=0)
    max: int = Field(default=1, ge=0)
    instances: list[str] = []
    gpu: Gpu | None = None
    resources: dict[str, float] = {}
    market: list[Literal["spot", "on-demand"]] = ["on-demand"]
    zones: list[str] = []
    image: str = ""
    disk: Size | None = None
    hosts: list[Any] | str | None = None
    provider: str = ""  # another provider than the cluster's, for mixed clusters
    idle_timeout: Duration = 300.0
    orphan_timeout: Duration = 900.0
    labels: dict[str, str] = {}
    setup: list[str] = []
    env: dict[str, str] = {}
    limits: dict[str, float] = {}
    one_zone: bool = False

    @model_validator(mode="after")
    def _min_not_above_max(self) -> Pool:
        if self.min > self.max:
            raise ValueError(f"min ({self.min}) is above max ({self.max})")
        return self

    @field_validator("resources")
    @classmethod
    def _resources_are_positive(cls, value: dict[str, float]) -> dict[str, float]:
        for name, amount in value.items():
            if amount < 0:
                raise ValueError(f"resource {name!r} is negative ({amount:g})")
        return value


class Head(_Model):
    instance: str = ""
    disk: Size | None = None
    resources: dict[str, float] = {}
    zone: str = ""
    image: str = ""
    host: Any = None
    slots: int | None = Field(default=None, ge=0)  # drivers at the same time; default by memory and CPUs


class Auth(_Model):
    user: str = ""
    key: str = ""
    port: int | None = None
    jump: str = ""
    host_keys: Literal["known_hosts", "accept-new"] = "known_hosts"


class Ray(_Model):
    version: str = ""
    extras: list[str] = []
    python: str = ""  # an interpreter that already has Ray
    env: dict[str, str] = {}


class Engine(_Model):
    ray: Ray | None = None


class FileMount(_Model):
    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True)

    source: str = Field(alias="from")
    to: str


class Budget(_Model):
    per_day: float | None = Field(default=None, ge=0)
    per_month: float | None = Field(default=None, ge=0)


class Limits(_Model):
    nodes: int | None = Field(default=None, ge=0)
    gpus: float | None = Field(default=None, ge=0)
    cost_per_hour: float | None = Field(default=None, ge=0)
    budget: Budget = Budget()
    launches_per_minute: int | None = Field(default=120, ge=1)
    per_user: dict[str, dict[str, float]] = {}


class Queue(_Model):
    fair_share: Literal["none", "user"] = "none"
    preemption: bool = False


class ClusterSpec(_Model):
    """One cluster. `provider` is normalised to (name, settings) by `provider_name` and `provider_settings`."""

    cluster: Name
    provider: str | dict[str, Any]
    auth: Auth = Auth()
    head: Head = Head()
    engine: Engine | Literal["none"] = Engine(ray=Ray())
    pools: list[Pool]
    setup: list[str] = []
    files: list[FileMount] = []
    env: dict[str, str] = {}
    limits: Limits = Limits()
    queue: Queue = Queue()

    @field_validator("provider")
    @classmethod
    def _one_known_provider(cls, value: str | dict[str, Any]) -> str | dict[str, Any]:
        names = [value] if isinstance(value, str) else list(value)
        if len(names) != 1:
            raise ValueError("expected one provider, as `provider: local` or `provider: {aws: {region: ...}}`")
        if names[0] not in PROVIDER_NAMES:
            raise ValueError(f"unknown provider {names[0]!r}: expected one of {', '.join(PROVIDER_NAMES)}")
        if isinstance(value, dict) and not isinstance(value[names[0]], dict | None):
            raise ValueError(f"the settings of provider {names[0]!r} must be a mapping")
        return value

    @field_validator("engine", mode="before")
    @classmethod
    def _engine_short_forms(cls, value: Any) -> Any:
        """`engine: ray` is `engine: {ray: {}}`."""
        return {"ray": {}} if value == "ray" else value

    @model_validator(mode="after")
    def _pool_names_are_unique(self) -> ClusterSpec:
        seen: set[str] = set()
        for pool in self.pools:
            if pool.name in seen:
                raise ValueError(f"two pools are named {pool.name!r}")
            if pool.name == "head":
                raise ValueError("a pool cannot be named 'head': the head node has that name")
            seen.add(pool.name)
        return self

    @property
    def provider_name(self) -> str:
        return self.provider if isinstance(self.provider, str) else next(iter(self.provider))

    @property
    def provider_settings(self) -> dict[str, Any]:
        return {} if isinstance(self.provider, str) else dict(self.provider[self.provider_name] or {})

    @property
    def ray(self) -> Ray | None:
        return self.engine.ray if isinstance(self.engine, Engine) else None


SIMPLE_NAME = re.compile(r"^[a-z][a-z0-9-]{0,39}$")
