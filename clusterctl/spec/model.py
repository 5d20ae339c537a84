"""`cluster.yaml` as data. Field names are the keys users write; `spec.load` turns text into this.

Everything of the command-line contract's full example parses. What this version cannot carry out is refused at `up` by
`spec.support`, never silently ignored. A list of places is resolved before (`spec.places`): a ClusterSpec has one.
Contradictions inside a pool are in `spec.pool`, those between the parts in `spec.checks`.
"""

from __future__ import annotations

from functools import cached_property
from typing import Any, Literal

from pydantic import Field, field_validator, model_validator

from clusterctl.spec.base import SpecModel
from clusterctl.spec.checks import check_cluster
from clusterctl.spec.faults import refuse
from clusterctl.spec.fields import Env, Name
from clusterctl.spec.mounts.mount import Mount
from clusterctl.spec.parts import (
    Auth,
    Engine,
    EngineChoice,
    FileMount,
    Head,
    Lifetime,
    Limits,
    Queue,
    Ray,
    ServiceEntry,
)
from clusterctl.spec.pool import Pool
from clusterctl.spec.providers.choice import Provider, ProviderSettings
from clusterctl.spec.providers.cloud import CloudSettings
from clusterctl.spec.providers.kind import Kind, Place
from clusterctl.spec.providers.registry import EXAMPLE, KINDS


class ClusterSpec(SpecModel):
    """One cluster, as `cluster.yaml` describes it."""

    cluster: Name = Field(description="Name of the cluster: lower-case letters, digits and '-'.", examples=["demo"])
    provider: Provider = Field(
        description="Where the nodes come from: a name, one name with its settings, or a list of clouds, of which the first "
        "that has what the pools want is taken (docs/anywhere.md).",
        examples=[next(iter(KINDS)), EXAMPLE],
    )
    provider_order: Literal["written", "price"] = Field(
        default="written",
        description="Where `provider` is a list: whether its places are tried as they are written, or the cheapest first.",
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
    mounts: list[Mount] = Field(
        default=[],
        description="Shared storage that every node has: file systems of the network, buckets, volumes (docs/storage.md).",
        examples=[[{"from": "nfs://10.0.0.5/export", "to": "/data"}]],
    )
    env: Env = Field(default={}, description="Environment of every job.", examples=[{"HF_HOME": "/data/hf"}])
    limits: Limits = Field(default=Limits(), description="Limits of the cluster.")
    queue: Queue = Field(default=Queue(), description="The order of waiting jobs.")
    services: ServiceEntry = Field(
        default=ServiceEntry(), description="Where services are reached from other machines; left out: nowhere."
    )
    lifetime: Lifetime = Field(default=Lifetime(), description="When the cluster ends itself; left out: never.")

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
        """Of the cluster's own provider; pools may name others."""
        return self.provider if isinstance(self.provider, str) else self.provider.names()[0]

    @property
    def kind(self) -> Kind:
        """What its provider is."""
        return KINDS[self.provider_name]

    def kind_of(self, pool: Pool | None) -> Kind:
        """What the provider of that pool's nodes is; of the head's for None."""
        return KINDS[(pool.provider_name if pool else "") or self.provider_name]

    @cached_property
    def providers(self) -> dict[str, dict[str, Any]]:
        """What the user set of each provider that nodes come from, as plain data, by its name; the cluster's own first."""
        found = {self.provider_name: self.provider_settings}
        for pool in self.pools:
            if pool.provider_settings is not None:
                found.setdefault(pool.provider_name, pool.provider_settings)
        names = (self.kind_of(pool).name for pool in self.pools)
        return {name: found.get(name, {}) for name in dict.fromkeys((self.provider_name, *names))}

    def settings_of(self, pool: Pool | None) -> dict[str, Any]:
        """What the user set of the provider of that pool's nodes; of the head's for None."""
        return self.providers[self.kind_of(pool).name]

    @property
    def head_place(self) -> Place:
        """Where its head runs."""
        return self.kind.head_place(self.provider_settings)

    @property
    def cloud(self) -> CloudSettings | None:
        """The settings of its cloud, defaults and all; None for other providers."""
        settings = self.provider.model if isinstance(self.provider, ProviderSettings) else None
        return settings if isinstance(settings, CloudSettings) else None

    @property
    def provider_settings(self) -> dict[str, Any]:
        """What the user set under the provider's name, as plain data."""
        return self.provider.settings() if isinstance(self.provider, ProviderSettings) else {}

    @property
    def ray(self) -> Ray | None:
        """Ray's settings; None for `engine: none`."""
        return self.engine.ray if isinstance(self.engine, Engine) else None
