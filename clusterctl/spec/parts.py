"""The parts of a spec beside its pools: head, logins, engine, files, limits, queue."""

from __future__ import annotations

import re
from ipaddress import ip_address, ip_network
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, ConfigDict, Discriminator, Field, Tag, field_validator, model_validator

from clusterctl.spec.base import Size, SpecModel, form_of
from clusterctl.spec.faults import Finding, refuse
from clusterctl.spec.fields import Amounts, Count, Duration, Env, Moment, Money, Text
from clusterctl.spec.pool import HostEntry
from clusterctl.spec.providers.choice import ProviderName
from clusterctl.spec.providers.kubernetes import Selector, Toleration
from clusterctl.spec.providers.registry import A_ZONE, EXAMPLE

EVERYBODY = ("0.0.0.0/0", "::/0")


def _read_networks(value: Any) -> Any:
    """Raises ValueError for what is no network."""
    for text in value if isinstance(value, list) else ():
        if isinstance(text, str):
            try:
                ip_network(text)
            except ValueError as error:
                raise ValueError(f"{text!r} is not a network ({error}): write one as in 203.0.113.0/24") from error
    return value


def _form_of_port(value: Any) -> str:
    return "list" if isinstance(value, list | tuple) else "flag"


PublicPort = Annotated[
    Annotated[bool, Tag("flag")] | Annotated[list[Text], BeforeValidator(_read_networks), Tag("list")],
    Discriminator(_form_of_port),
]


class Head(SpecModel):
    """The node with the control plane and the engine's head."""

    instance: str = Field(
        default="", description="Instance type; default: a small one of the provider's.", examples=["m6i.large"]
    )
    disk: Size | None = Field(default=None, description="Size of its disk.", examples=["100GiB"])
    resources: Amounts = Field(
        default={}, description="What the head node has, for drivers; tasks of the engine run on workers."
    )
    zone: Text = Field(default="", description="Zone; default: one of the pools'.", examples=[A_ZONE])
    image: str = Field(default="", description="Machine image or container image; default: the provider's.")
    node_selector: Selector = Field(
        default={}, description="Labels that the node of Kubernetes must have on which its pod runs."
    )
    tolerations: list[Toleration] = Field(
        default=[],
        description="Taints of nodes of Kubernetes that its pod may run in spite of.",
    )
    host: HostEntry | None = Field(default=None, description="The machine, for provider ssh.")
    slots: Count | None = Field(default=None, description="Drivers at the same time; default: by its memory and CPUs.")
    public_port: PublicPort = Field(
        default=False,
        description="Open the head's port to nodes outside of its network: to everybody (`true`; who has no certificate of the "
        "cluster's and no token gets no further), or to these networks. Default: only nodes in its network reach it.",
        examples=[True, ["203.0.113.0/24"]],
    )
    credentials: dict[ProviderName, Text] = Field(
        default={},
        description="By provider, a file here with credentials that the head needs for pools of that provider; it is copied to "
        "the head's machine, for its eyes only.",
        examples=[dict.fromkeys(EXAMPLE, "~/keys/demo-head")],
    )

    @property
    def port_open_to(self) -> tuple[str, ...]:
        """Networks that reach its port from outside; none where it is not open."""
        return (
            (EVERYBODY if self.public_port else ()) if isinstance(self.public_port, bool) else tuple(self.public_port)
        )


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
    packages: list[str] = Field(
        default=[],
        description="What Ray's programs import besides, as lines of a requirements file, resolved together with Ray and "
        "installed where something is missing.",
        examples=[["torch==2.13.0", "transformers", "optuna"]],
    )
    requirements: Text = Field(
        default="",
        description="A requirements file, from where the spec is: its lines count as `packages` do, as they are when `plan` or "
        "`up` reads them (docs/dependencies.md).",
        examples=["requirements.txt"],
    )
    python: str = Field(
        default="", description="A Python interpreter on the nodes that already has Ray; nothing is installed."
    )
    object_store: Size | None = Field(
        default=None,
        description="Memory of each node for Ray's objects; default: Ray's own (30 % of the node's), less where nodes share a "
        "machine. What does not fit is spilled to the node's disk.",
        examples=["64GiB"],
    )
    fault_tolerant: bool | None = Field(
        default=None,
        description="Whether Ray's head keeps what it knows (named actors, placement groups, Serve's applications) on its disk, "
        "and is the same Ray cluster when it is started again; default: where it can be. With `true` a head that cannot does "
        "not start.",
        examples=[True],
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


class Lifetime(SpecModel):
    """When the cluster ends itself, by its head and whatever becomes of the machine that it was started from; the first of
    these to come true counts (docs/one-job.md)."""

    after_last_job: Duration | None = Field(
        default=None, description="So long after the last job ended, where none waits or runs.", examples=["10m"]
    )
    idle: Duration | None = Field(
        default=None,
        gt=0,
        description="After so long in which no job waited or ran and the engine neither ran nor wanted anything.",
        examples=["2h"],
    )
    at: Moment | None = Field(
        default=None,
        description="At this moment, whatever runs; in UTC where no zone is given.",
        examples=["2026-12-01T08:00", "2026-12-01T08:00+01:00"],
    )


_LISTEN = re.compile(r"(?:\[([0-9a-fA-F:.]+)\]|([0-9.]+)):([0-9]{1,5})")


def read_listen(text: str) -> tuple[str, int]:
    """Address and port of `0.0.0.0:8443` or `[::]:8443`. Raises ValueError."""
    found = _LISTEN.fullmatch(text)
    if found is None or not 0 < int(found[3]) < 65536:
        raise ValueError(f"{text!r} is no address with a port: write one as in 0.0.0.0:8443 or [::]:8443")
    return str(ip_address(found[1] or found[2])), int(found[3])


class ServiceEntry(SpecModel):
    """Where services are reached from other machines, beside this one; always with TLS, and with a token of each service
    (docs/services.md)."""

    listen: Text | None = Field(
        default=None,
        description="Address and port on the head's machine; left out, others reach services through a tunnel only.",
        examples=["0.0.0.0:8443", "[::]:8443"],
    )
    certificate: Text | None = Field(
        default=None,
        description="File with its certificate and chain (PEM) on the head's machine; left out: one of the cluster's own.",
        examples=["/etc/ssl/services.pem"],
    )
    key: Text | None = Field(
        default=None, description="File with the certificate's key, there as well.", examples=["/etc/ssl/services.key"]
    )

    @field_validator("listen")
    @classmethod
    def _an_address(cls, value: str | None) -> str | None:
        if value is not None:
            read_listen(value)
        return value

    @model_validator(mode="after")
    def _both_or_none(self) -> ServiceEntry:
        if (self.certificate is None) is not (self.key is None):
            has, lacks = ("certificate", "key") if self.certificate else ("key", "certificate")
            refuse([Finding((has,), f"`{has}` without `{lacks}`", "write both, or neither")])
        return self
