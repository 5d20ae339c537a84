"""`cluster.yaml` as data. Field names are the keys users write; `spec.load` turns text into this.

Everything of the command-line contract's full example parses. What this version cannot carry out is refused at `up` by
`spec.support`, never silently ignored. Checks that need more than one key are in `spec.checks`.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import (
    BeforeValidator,
    ConfigDict,
    Discriminator,
    Field,
    Tag,
    WithJsonSchema,
    field_validator,
    model_validator,
)

from clusterctl.spec.base import SIZE_SCHEMA, Size, SpecModel, form_of
from clusterctl.spec.checks import check_cluster, check_pool, read_amounts, read_env, read_labels
from clusterctl.spec.faults import refuse
from clusterctl.spec.providers.choice import Provider, ProviderName, ProviderSettings
from clusterctl.spec.providers.kind import Kind
from clusterctl.spec.providers.registry import EXAMPLE, KINDS
from clusterctl.spec.units import DURATION_PATTERN, parse_duration

NAME_PATTERN = r"^[a-z][a-z0-9-]{0,39}$"
# "x-unit" is for the reference; editors pass over it
_DURATION_SCHEMA = {"type": ["string", "number"], "pattern": DURATION_PATTERN, "minimum": 0, "x-unit": "duration"}
_AMOUNTS_SCHEMA = {
    "type": "object",
    "x-unit": "amounts",
    "properties": {"memory": SIZE_SCHEMA, "object_store_memory": SIZE_SCHEMA},
    "additionalProperties": {"type": "number", "minimum": 0},
}

Duration = Annotated[float, BeforeValidator(parse_duration), WithJsonSchema(_DURATION_SCHEMA)]  # seconds
# numbers and booleans without quotes are taken as they are written, where text is wanted
Text = Annotated[str, WithJsonSchema({"type": ["string", "number", "boolean"]})]
Name = Annotated[str, Field(pattern=NAME_PATTERN)]
ReservationId = Annotated[str, Field(pattern=r"^(cr-[0-9a-f]{8,17})?$")]
Amounts = Annotated[dict[str, float], BeforeValidator(read_amounts), WithJsonSchema(_AMOUNTS_SCHEMA)]
Env = Annotated[dict[str, Text], BeforeValidator(read_env)]
Labels = Annotated[dict[str, Text], BeforeValidator(read_labels)]
Count = Annotated[int, Field(ge=0)]
Money = Annotated[float, Field(ge=0)]  # US dollars


class Gpu(SpecModel):
    """GPUs of every node of a pool."""

    name: str = Field(default="", description="Name of the GPU, such as L4, A100 or H100.", examples=["L4"])
    count: int = Field(default=1, ge=1, description="How many of them a node has.")


class Host(SpecModel):
    """A machine that you already have, reached by SSH."""

    host: str = Field(description="Name or address; may be a Host of ~/.ssh/config.")
    user: str = Field(default="", description="User to log in as, if not `auth.user`.")
    port: int | None = Field(default=None, ge=1, le=65535, description="Port of its SSH server.")
    key: str = Field(default="", description="Private key file, if not `auth.key`.")
    jump: str = Field(default="", description="Jump host, as user@host:port.")
    host_key: str = Field(
        default="",
        pattern=r"^(SHA256:[A-Za-z0-9+/]{43})?$",
        description="Fingerprint of its host key, as `ssh-keygen -l` prints it: it and no other is believed.",
    )
    resources: Amounts = Field(default={}, description="What it has, where that is not to be found out.")
    labels: Labels = Field(default={}, description="Labels of this machine, besides its pool's.")


HostEntry = Annotated[Annotated[str, Tag("text")] | Annotated[Host, Tag("mapping")], Discriminator(form_of)]
Hosts = Annotated[Annotated[str, Tag("text")] | Annotated[list[HostEntry], Tag("list")], Discriminator(form_of)]


class PoolLimits(SpecModel):
    """Limits of one pool, besides its `max`."""

    cost_per_hour: Money | None = Field(default=None, description="US dollars per hour of all nodes of the pool.")


class Pool(SpecModel):
    """A group of like nodes."""

    name: Name = Field(description="Name of the pool: lower-case letters, digits and '-'.", examples=["gpu"])
    min: Count = Field(default=0, description="Nodes that are always there.")
    max: Count = Field(default=1, description="Nodes that are never exceeded.")
    instances: list[str] = Field(
        default=[],
        description="Instance types that will do; the cheapest that fits and is to be had is taken.",
        examples=[["g6.xlarge", "g5.xlarge"]],
    )
    gpu: Gpu | None = Field(
        default=None, description="GPUs of a node, instead of instance types.", examples=[{"name": "L4", "count": 1}]
    )
    resources: Amounts = Field(
        default={},
        description="What a node has: CPU, GPU, memory and resources of your own, such as TPU.",
        examples=[{"CPU": 4, "memory": "8GiB"}],
    )
    market: list[Literal["spot", "on-demand"]] = Field(
        default=["on-demand"],
        description="Markets, in the order in which they are tried.",
        examples=[["spot", "on-demand"]],
    )
    reservation: ReservationId = Field(
        default="",
        description="Capacity reservation or capacity block of AWS: nodes come from it first, at no further cost, and "
        "from the market only if `instances` or `gpu` is written.",
        examples=["cr-0123456789abcdef0"],
    )
    zones: list[Text] = Field(
        default=[], description="Zones to use; default: all of the region.", examples=[["us-east-1a"]]
    )
    image: str = Field(default="", description="Machine image or container image; default: the provider's.")
    disk: Size | None = Field(default=None, description="Size of a node's disk.", examples=["100GiB"])
    hosts: Hosts | None = Field(
        default=None,
        description="Machines of an ssh pool: a list of them, or the name of an inventory file.",
        examples=[["10.0.0.5", {"host": "10.0.0.6", "user": "ubuntu"}]],
    )
    provider: ProviderName | Literal[""] = Field(default="", description="Another provider than the cluster's.")
    idle_timeout: Duration = Field(
        default=300.0, description="A node that did nothing for so long is removed.", examples=["5m"]
    )
    keep_stopped: Count = Field(
        default=0,
        description="Idle on-demand nodes, up to so many, are stopped instead of ended: they cost their disk only, and start "
        "sooner than new ones.",
        examples=[2],
    )
    orphan_timeout: Duration = Field(
        default=900.0, description="A node that has not heard from the head for so long ends itself.", examples=["15m"]
    )
    labels: Labels = Field(default={}, description="Labels of its nodes, for selectors.", examples=[{"team": "vision"}])
    setup: list[str] = Field(default=[], description="Shell commands that run on a new node, after the cluster's.")
    env: Env = Field(default={}, description="Environment of what runs on its nodes, besides the cluster's.")
    limits: PoolLimits = Field(default=PoolLimits(), description="Limits of this pool.")
    one_zone: bool = Field(default=False, description="Nodes of a gang must be in one zone.")

    @model_validator(mode="after")
    def _keys_agree(self) -> Pool:
        findings = check_pool(self)
        return refuse(findings) if findings else self


class Head(SpecModel):
    """The node with the control plane and the engine's head."""

    instance: str = Field(
        default="", description="Instance type; default: a small one of the provider's.", examples=["m6i.large"]
    )
    disk: Size | None = Field(default=None, description="Size of its disk.", examples=["100GiB"])
    resources: Amounts = Field(
        default={}, description="What the head node has, for drivers; tasks of the engine run on workers."
    )
    zone: Text = Field(default="", description="Zone; default: one of the pools'.", examples=["us-east-1a"])
    image: str = Field(default="", description="Machine image or container image; default: the provider's.")
    host: HostEntry | None = Field(default=None, description="The machine, for provider ssh.")
    slots: Count | None = Field(default=None, description="Drivers at the same time; default: by its memory and CPUs.")


class Auth(SpecModel):
    """How to log in to the nodes by SSH."""

    user: str = Field(default="", description="User to log in as.", examples=["ubuntu"])
    key: str = Field(default="", description="Private key file.", examples=["~/.ssh/id_ed25519"])
    port: int | None = Field(default=None, ge=1, le=65535, description="Port of the SSH servers.")
    jump: str = Field(default="", description="Jump host, as user@host:port.")
    host_keys: Literal["known_hosts", "accept-new"] = Field(
        default="known_hosts", description="Hosts must be known already, or are remembered when first seen."
    )


class Ray(SpecModel):
    """Ray on every node."""

    version: Text = Field(
        default="",
        description="Version, 2.56 or later, installed where it is missing; default: the one that is there, else the one that "
        "clusterctl was tested with.",
        examples=["2.60.0"],
    )
    extras: list[str] = Field(
        default=[],
        description="Extras of the ray package, installed where they are missing.",
        examples=[["data", "train", "tune", "serve"]],
    )
    python: str = Field(
        default="", description="A Python interpreter on the nodes that already has Ray; nothing is installed."
    )
    env: Env = Field(default={}, description="Environment of Ray's own processes.")


class Engine(SpecModel):
    """What runs tasks, actors and the AI libraries."""

    ray: Ray = Field(default=Ray(), description="Ray on every node.")

    @field_validator("ray", mode="before")
    @classmethod
    def _ray_alone(cls, value: Any) -> Any:
        """`engine: {ray: }` is `engine: {ray: {}}`."""
        return {} if value is None else value


EngineChoice = Annotated[
    Annotated[Literal["none", "ray"], Tag("text")] | Annotated[Engine, Tag("mapping")], Discriminator(form_of)
]


class FileMount(SpecModel):
    """A file or directory that is copied to every node."""

    model_config = ConfigDict(populate_by_name=True)

    source: str = Field(alias="from", description="Path here, from where the spec is.")
    to: str = Field(description="Path on the nodes; a relative one is below $CLUSTERCTL_FILES.")


class Budget(SpecModel):
    """Money that may be spent. When it is used up nothing is launched and idle nodes are let go, those of `min` too; what
    runs may go on, but see `drain_after`."""

    per_day: Money | None = Field(default=None, description="US dollars per day (UTC).")
    per_month: Money | None = Field(default=None, description="US dollars per calendar month (UTC).")


class UserLimits(SpecModel):
    """Hard limits of one user."""

    nodes: Count | None = Field(default=None, description="Nodes in use.")
    gpus: Money | None = Field(default=None, description="GPUs in use.")
    cost_per_hour: Money | None = Field(default=None, description="US dollars per hour.")


class Limits(SpecModel):
    """Limits of the cluster. What would exceed them waits, with that reason. Where they allow less than what runs (a budget
    is spent, a limit was lowered), idle nodes are let go at once."""

    nodes: Count | None = Field(default=None, description="Nodes, the head among them.")
    gpus: Money | None = Field(default=None, description="GPUs of all nodes.")
    cost_per_hour: Money | None = Field(default=None, description="US dollars per hour of all nodes.")
    budget: Budget = Field(default=Budget(), description="Money per day and month.")
    launches_per_minute: int | None = Field(default=120, ge=1, description="Nodes launched within a minute.")
    drain_after: Duration | None = Field(
        default=None,
        description="Nodes beyond the limits that run work take no more of it, and are ended after so long; the work is tried "
        "again when it may. Left out: they go on until nothing runs on them.",
        examples=["30m"],
    )
    per_user: dict[str, UserLimits] = Field(default={}, description="Limits by user name.")


class Queue(SpecModel):
    """The order of waiting jobs."""

    fair_share: Literal["none", "user"] = Field(
        default="none", description="Share the cluster evenly among users, or not."
    )
    preemption: bool = Field(default=False, description="Jobs of a higher priority may stop those of a lower one.")


class ClusterSpec(SpecModel):
    """One cluster, as `cluster.yaml` describes it."""

    cluster: Name = Field(description="Name of the cluster: lower-case letters, digits and '-'.", examples=["demo"])
    provider: Provider = Field(
        description="Where the nodes come from: a name, or one name with its settings.",
        examples=[next(iter(KINDS)), EXAMPLE],
    )
    auth: Auth = Field(default=Auth(), description="How to log in to the nodes by SSH.")
    head: Head = Field(default=Head(), description="The node with the control plane.")
    engine: EngineChoice = Field(
        default=Engine(),
        description="What runs tasks and actors: ray (the default) or none.",
        examples=["none", {"ray": {"version": "2.60.0"}}],
    )
    pools: list[Pool] = Field(description="Groups of like nodes.", json_schema_extra={"minItems": 1})
    setup: list[str] = Field(
        default=[],
        description="Shell commands that run on every new node.",
        examples=[["sudo apt-get install -y ffmpeg"]],
    )
    files: list[FileMount] = Field(
        default=[], description="What is copied to every node.", examples=[[{"from": "./data", "to": "/data"}]]
    )
    env: Env = Field(default={}, description="Environment of every job.", examples=[{"HF_HOME": "/data/hf"}])
    limits: Limits = Field(default=Limits(), description="Limits of the cluster.")
    queue: Queue = Field(default=Queue(), description="The order of waiting jobs.")

    @field_validator("engine", mode="after")
    @classmethod
    def _ray_in_one_word(cls, value: Engine | str) -> Engine | str:
        """`engine: ray` is `engine: {ray: {}}`."""
        return Engine() if value == "ray" else value

    @model_validator(mode="after")
    def _parts_agree(self) -> ClusterSpec:
        findings = check_cluster(self)
        return refuse(findings) if findings else self

    @property
    def provider_name(self) -> str:
        return self.provider if isinstance(self.provider, str) else self.provider.names()[0]

    @property
    def kind(self) -> Kind:
        """What its provider is."""
        return KINDS[self.provider_name]

    @property
    def provider_settings(self) -> dict[str, Any]:
        """What the user set under the provider's name, as plain data."""
        return self.provider.settings() if isinstance(self.provider, ProviderSettings) else {}

    @property
    def ray(self) -> Ray | None:
        """Ray's settings; None for `engine: none`."""
        return self.engine.ray if isinstance(self.engine, Engine) else None
