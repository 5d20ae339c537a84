"""A pool of a spec: the machines that its nodes are made of, its bounds, and what contradicts itself in one."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Discriminator, Field, Tag, model_validator

from clusterctl.core.errors import UsageError
from clusterctl.spec.base import Size, SpecModel, form_of
from clusterctl.spec.faults import Finding, refuse, shorten
from clusterctl.spec.fields import Amounts, Count, Duration, Env, Labels, Money, Name, Text
from clusterctl.spec.host_ranges import expand
from clusterctl.spec.mounts.mount import Mount
from clusterctl.spec.providers.choice import ProviderName, ProviderSettings
from clusterctl.spec.providers.kubernetes import Selector, Toleration
from clusterctl.spec.providers.registry import A_RESERVATION, A_ZONE, EXAMPLE

FINGERPRINT = r"SHA256:[A-Za-z0-9+/]{43}"


def _read_fingerprint(value: str) -> str:
    if value and not re.fullmatch(FINGERPRINT, value):
        raise ValueError(
            f"{shorten(value)} is no fingerprint of a host key: SHA256: and 43 characters, as `ssh-keygen -l -f FILE` prints it"
        )
    return value


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
    host_key: Annotated[str, AfterValidator(_read_fingerprint)] = Field(
        default="",
        json_schema_extra={"pattern": rf"^({FINGERPRINT})?$"},
        description="Fingerprint of its host key, as `ssh-keygen -l` prints it: it and no other is believed.",
    )
    resources: Amounts = Field(default={}, description="What it has, where that is not to be found out.")
    labels: Labels = Field(default={}, description="Labels of this machine, besides its pool's.")


HostEntry = Annotated[Annotated[str, Tag("text")] | Annotated[Host, Tag("mapping")], Discriminator(form_of)]
PoolProvider = Annotated[
    Annotated[ProviderName | Literal[""], Tag("text")] | Annotated[ProviderSettings, Tag("mapping")],
    Discriminator(form_of),
]
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
    market: list[Literal["spot", "on-demand", "flex-start"]] = Field(
        default=["on-demand"],
        description="Markets, in the order in which they are tried. `flex-start`, which not every cloud has, is a place in its "
        "line for machines that are scarce.",
        examples=[["spot", "on-demand"]],
    )
    reservation: str = Field(
        default="",
        description="Id of a capacity reservation or capacity block of the cloud: nodes come from it first, at no further "
        "cost, and from the market only if `instances` or `gpu` is written.",
        examples=[A_RESERVATION],
    )
    zones: list[Text] = Field(default=[], description="Zones to use; default: all of the region.", examples=[[A_ZONE]])
    image: str = Field(default="", description="Machine image or container image; default: the provider's.")
    disk: Size | None = Field(default=None, description="Size of a node's disk.", examples=["100GiB"])
    node_selector: Selector = Field(
        default={},
        description="Labels that the nodes of Kubernetes must have on which its pods run.",
        examples=[{"disktype": "ssd"}],
    )
    tolerations: list[Toleration] = Field(
        default=[],
        description="Taints of nodes of Kubernetes that its pods may run in spite of; that of the nodes' GPUs always is one.",
        examples=[[{"key": "dedicated", "value": "ml", "effect": "NoSchedule"}]],
    )
    hosts: Hosts | None = Field(
        default=None,
        description="Machines of an ssh pool: a list of them, or the name of an inventory file.",
        examples=[["10.0.0.5", {"host": "10.0.0.6", "user": "ubuntu"}]],
    )
    provider: PoolProvider = Field(
        default="",
        description="Another provider than the cluster's: a name, or one name with its settings. Each provider has one set of "
        "settings in a cluster, which a name alone refers to.",
        examples=[EXAMPLE],
    )
    network: Literal["", "shared"] = Field(
        default="",
        description="`shared`: a pool of another provider is in the head's network all the same, by a VPN or a peering. Default: "
        "pools of the cluster's own provider are, others are not, and those serve queue jobs only.",
    )
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
    mounts: list[Mount] = Field(default=[], description="Shared storage of its nodes, besides the cluster's.")
    env: Env = Field(default={}, description="Environment of what runs on its nodes, besides the cluster's.")
    limits: PoolLimits = Field(default=PoolLimits(), description="Limits of this pool.")
    one_zone: bool = Field(default=False, description="Nodes of a gang must be in one zone.")

    @property
    def provider_name(self) -> str:
        """Of its own provider, "" where that is the cluster's."""
        return self.provider if isinstance(self.provider, str) else self.provider.names()[0]

    @property
    def provider_settings(self) -> dict[str, Any] | None:
        """What the user set for it here, as plain data; None where only its name is given."""
        return None if isinstance(self.provider, str) else self.provider.settings()

    @model_validator(mode="after")
    def _keys_agree(self) -> Pool:
        findings = _check_pool(self)
        return refuse(findings) if findings else self


def _check_pool(pool: Pool) -> list[Finding]:
    """What contradicts itself inside one pool; paths are relative to the pool."""
    findings: list[Finding] = []
    if pool.min > pool.max:
        findings.append(
            Finding(("min",), f"min ({pool.min}) is above max ({pool.max})", f"raise max to {pool.min} or lower min")
        )
    if pool.gpu and "GPU" in pool.resources:
        findings.append(
            Finding(
                ("resources", "GPU"), "the GPUs of a node are given twice: here and by 'gpu'", "keep one of them", True
            )
        )
    if pool.gpu and pool.instances:
        findings.append(Finding(("gpu",), "'gpu' and 'instances' both choose the machine", "keep one of them", True))
    for key in ("market", "zones", "instances"):
        findings += _check_repeats((key,), getattr(pool, key))
    if not pool.market:
        findings.append(Finding(("market",), "no market is named", "write [spot, on-demand], or remove the key"))
    if pool.one_zone and "flex-start" in pool.market:
        what = "a gang is bought whole, and machines of flex-start come one by one"
        findings.append(
            Finding(("market", pool.market.index("flex-start")), what, "remove it, or name a reservation", True)
        )
    if pool.orphan_timeout == 0:
        findings.append(Finding(("orphan_timeout",), "every node would end itself at once", "write 15m"))
    if isinstance(pool.hosts, list):
        findings += _check_hosts(pool)
    return findings


def _check_repeats(path: tuple[str, ...], values: list[str]) -> Iterator[Finding]:
    seen: set[str] = set()
    for index, value in enumerate(values):
        if value in seen:
            yield Finding((*path, index), f"{shorten(value)} is listed twice")
        seen.add(value)


def _check_hosts(pool: Pool) -> Iterator[Finding]:
    assert isinstance(pool.hosts, list)
    seen: set[tuple[str, int]] = set()
    for index, entry in enumerate(pool.hosts):
        text, port = (entry, 0) if isinstance(entry, str) else (entry.host, entry.port or 0)
        try:
            names = expand(text)
        except UsageError as error:
            yield Finding(("hosts", index), str(error))
            return
        for name in names:
            if (name, port) in seen:
                yield Finding(("hosts", index), f"host {shorten(name)} is listed twice")
            seen.add((name, port))
    if pool.min > len(seen):
        yield Finding(("min",), f"min ({pool.min}) is above the number of hosts ({len(seen)})")
