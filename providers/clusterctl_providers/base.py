"""The contract that every provider implements. Calls are synchronous and may block: the caller owns the threads.

    create(requests) -> a result or a typed error per request, in order; the same token twice is one instance
    list()           -> everything that carries our uid, complete or said not to be
    look_up(ids)     -> the same of single instances: asked for what a list lacks, before it is believed to be gone
    terminate(ids)   -> idempotent; already gone is success
    offers(pool)     -> the ways to get a node of that pool

A provider keeps no state that matters: it can be made anew at any moment from its settings and the cluster's uid.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

from clusterctl.core.errors import ProviderError
from clusterctl.core.model import Instance, Observed, Offer

if TYPE_CHECKING:
    from clusterctl_providers.hosts import HostBooks

OFFERS_LAST = 3600.0  # seconds: types and prices change seldom

TAG_CLUSTER = "clusterctl-cluster"
TAG_UID = "clusterctl-uid"
TAG_NODE = "clusterctl-node"
TAG_GENERATION = "clusterctl-generation"
TAG_EXPIRES = "clusterctl-expires"  # unix seconds: the node's own dead-man switch has fired by then
TAG_SPEC = "clusterctl-spec"  # hash of what of the spec needs a new node when it changes
TAG_DISK = "clusterctl-disk"  # "head": the disk with the head's state
TAG_HEAD = "clusterctl-head"  # "here": the head daemon runs on this very instance
TAG_MAKER = "clusterctl-maker"  # user and machine whose head looks after it, where that runs on none of the instances
TAG_TOKEN = "clusterctl-token"  # noqa: S105  the launch token, where the provider has no field for it


@dataclass(frozen=True)
class HeadMachine:
    """What a client says of the instance that the head daemon is to run on. `public`: it gets a public address. `ssh_from`: who
    may reach its port 22, and nobody else, in the words of the setting. `images`: those that the spec's pools name, which the
    head will look up when it launches nodes. `open_to`: networks that may reach its `port`, at which agents dial it, besides the
    nodes of its own network, and no others."""

    public: bool
    ssh_from: Sequence[str] = ()
    images: Sequence[str] = ()
    port: int = 0
    open_to: Sequence[str] = ()


@dataclass(frozen=True)
class ProviderContext:
    """Who asks, and what for. `settings` are what the user wrote, and nothing of ours."""

    cluster: str
    uid: str
    state_dir: str  # a private directory (0700) for the provider's scratch: sockets, directories of nodes
    settings: Mapping[str, Any] = field(default_factory=dict)  # the mapping under `provider: {NAME: ...}`
    auth: Mapping[str, Any] = field(default_factory=dict)  # the spec's `auth`
    head_machine: HeadMachine | None = None  # where a client launches the instance that its head runs on
    hosts: HostBooks | None = None  # where the head has the connections of an inventory's hosts
    agent_bundle: str = ""  # path of the agent's zipapp, for nodes that are started by the provider itself
    agent_argv: Sequence[str] = ()  # what is started in its stead
    default_image: str = ""  # of containers, where neither a pool nor the settings name one
    engine_shared: str = ""  # directory of engines that the head installs once for all containers
    clock: Callable[[], float] = time.time  # of an imagined cloud
    beside: Sequence[str] = ()  # the `state_dir`s of the cluster's other providers: what they have there is theirs


@dataclass(frozen=True)
class PoolRequest:
    """The part of a pool's spec that a provider needs; `spec` is the validated pool as plain JSON data."""

    name: str
    spec: Mapping[str, Any]
    role: str = "worker"


@dataclass(frozen=True)
class NetworkPlace:
    """A private address, and the subnet that it is of, by its provider's id."""

    subnet: str
    private: str


@dataclass(frozen=True)
class CreateRequest:
    """One wanted instance. `bootstrap` is the JSON document that the node's agent starts from (see wire.Bootstrap);
    it holds a one-time join token and no other secret."""

    token: str
    node_id: str
    generation: int
    offer: Offer
    tags: Mapping[str, str]
    bootstrap: Mapping[str, Any]
    pool: PoolRequest
    place: NetworkPlace | None = None  # of a head's machine: what it takes over from its predecessor; None: any


CreateResult = Instance | ProviderError


@runtime_checkable
class Provider(Protocol):
    """Everything here is for every provider; a wrapper of one is a `wrapper.Wrapper`, which forgets none of it."""

    @property
    def name(self) -> str: ...

    @property
    def scopes(self) -> Sequence[str]:
        """What `list` answers for one by one: regions, zones, hosts, an engine."""
        ...

    @property
    def settle_seconds(self) -> float:
        """So long a list may lag behind what was answered before: an instance that it lacks may be there. 0: it shows the truth
        at once."""
        ...

    @property
    def in_flight_seconds(self) -> float:
        """So long after it was sent a `create` may still take effect whose caller was killed. 0: it ends with its caller."""
        ...

    @property
    def offers_last(self) -> float:
        """So many seconds `offers` are good for. 0: what is free changes from one moment to the next, as of machines and
        reservations, and they are asked for before each plan. It is read after `offers`."""
        ...

    def create(self, requests: Sequence[CreateRequest]) -> list[CreateResult]: ...

    def list(self) -> list[Observed]:
        """One Observed per scope. A scope that cannot be read comes back incomplete with the error's sentence."""
        ...

    def look_up(self, instance_ids: Sequence[str]) -> dict[str, Instance]:
        """What there is of these instances by id, whatever tags they carry, and ended ones where they are still known. An id
        that is not in the answer is no instance any more; raises ProviderError where that cannot be said. Not by way of
        the list, where that has pages of which one could be missing."""
        ...

    def terminate(self, instance_ids: Sequence[str]) -> None:
        """Idempotent. Returns when the provider accepted; raises ProviderError where some were not: the next call tries again."""
        ...

    def offers(self, pool: PoolRequest) -> list[Offer]: ...

    def close(self) -> None: ...


# ---- optional abilities, found with isinstance


@runtime_checkable
class HasConsole(Protocol):
    def console_log(self, instance_id: str) -> str:
        """The last lines the machine printed while booting; "" if there are none."""
        ...


@runtime_checkable
class HasStop(Protocol):
    """Instances can be stopped, which keeps their disk and address and ends what a machine costs, and started again."""

    def stop(self, instance_ids: Sequence[str]) -> None:
        """Idempotent. Returns when the provider accepted; raises ProviderError, BadRequest for what cannot be stopped."""
        ...

    def start(self, instance_ids: Sequence[str]) -> list[ProviderError | None]:
        """An answer for each, in order; None = it starts, or runs already."""
        ...


@runtime_checkable
class HasMost(Protocol):
    def most(self, pool: PoolRequest) -> int:
        """How many nodes of the pool there can be at this moment, where that does not follow from money."""
        ...


@runtime_checkable
class HasDoctor(Protocol):
    def doctor(self) -> list[tuple[str, bool, str]]:
        """(what was checked, ok, what to do) for `clusterctl doctor`."""
        ...


@runtime_checkable
class HasDoctorFor(Protocol):
    def doctor_for(self, pools: Sequence[PoolRequest]) -> list[tuple[str, bool, str]]:
        """The same, for what these pools would launch."""
        ...


@dataclass(frozen=True)
class Objection:
    """Something that a spec names and the provider does not have. `pool`: whose `key` it is, "head" for the head's, "" for the
    settings of the provider. `value`: which item is meant where `key` has a list. `fix`: what to write instead, or ""."""

    pool: str
    key: str
    value: str
    text: str
    fix: str = ""


@runtime_checkable
class HasReview(Protocol):
    def review(self, pools: Sequence[PoolRequest]) -> list[Objection]:
        """What the spec names that is not there, looked up before anything is made. Raises ProviderError where that could not
        be told."""
        ...


@runtime_checkable
class HasCatalogue(Protocol):
    def catalogue_offers(self, pool: PoolRequest) -> list[Offer]:
        """What `offers` would say by the catalogue that ships, without asking anyone: for plans without credentials."""
        ...


@dataclass(frozen=True)
class ImageRecipe:
    """What a machine image gets besides what its base has: Ray of that version with these extras, and `packages` (lines of
    requirements). `env` is for the installer: an index, a proxy."""

    ray: str
    extras: tuple[str, ...] = ()
    env: Mapping[str, str] = field(default_factory=dict)
    packages: tuple[str, ...] = ()

    @property
    def requirements(self) -> tuple[str, ...]:
        """As pip and uv take them."""
        return (f"ray[{','.join(sorted({*self.extras, 'default'}))}]=={self.ray}", *self.packages)


@dataclass(frozen=True)
class MadeImage:
    """`fresh` is False where an image of the same content was there already."""

    id: str
    name: str
    fresh: bool


@dataclass(frozen=True)
class StoredImage:
    """A machine image that `build_image` made. `state`: "available", "pending", the provider's word for what went wrong, or
    "gone" (`id` is "" then): only its snapshots are left. `created`: unix seconds; `size`: bytes of the disks it holds."""

    id: str
    name: str
    state: str
    arch: str
    created: float
    size: int
    snapshots: tuple[str, ...] = ()


class BuildEnded(ProviderError):
    """An image was not made, and nothing of the build is left: the next try begins anew."""


@runtime_checkable
class HasImages(Protocol):
    """`ProviderContext.uid` is the build's: the same uid goes on with what an interrupted build has begun."""

    def build_image(self, pool: PoolRequest, recipe: ImageRecipe, tell: Callable[[str], None]) -> MadeImage: ...

    def images(self) -> list[StoredImage]:
        """All that builds have made here, whoever ran them; the oldest first."""
        ...

    def remove_image(self, image: StoredImage) -> None:
        """With its snapshots. Idempotent; a removal that was interrupted is finished by the next."""
        ...


@runtime_checkable
class HasClusters(Protocol):
    def find_clusters(self) -> list[tuple[str, str, int]]:
        """(cluster name, uid, instances) for everything of ours that this account or machine holds: gc and adopt."""
        ...


@runtime_checkable
class HasLeftovers(Protocol):
    def sweep(self) -> list[str]:
        """Removes what a cluster without instances still has (security group, key pair ...). Idempotent. Returns a
        sentence for each thing that cannot go yet and will later; raises ProviderError when something cannot go."""
        ...


@runtime_checkable
class HasAgentEndpoint(Protocol):
    def agent_endpoint(self) -> tuple[str, str]:
        """(address of this machine on which the head listens for agents, host that nodes dial), where the head runs on
        this machine and its nodes do not reach 127.0.0.1. May make what that takes (a network)."""
        ...


@runtime_checkable
class HasInside(Protocol):
    def inside(self, instance_id: str, argv: Sequence[str], environment: Mapping[str, str]) -> Sequence[str]:
        """What to run on this machine to run `argv` on the instance, with stdin, stdout and stderr passed through; what runs
        there sees the end of its stdin when this end is gone. For a head daemon that is on none of its nodes."""
        ...


@runtime_checkable
class HasDirectory(Protocol):
    def directory(self, node_id: str) -> str:
        """Where a node that is a process of this machine lives here, "" while it has none; raises BadRequest where none ever
        will."""
        ...


@runtime_checkable
class HasPlace(Protocol):
    """Programs are begun on its instances without SSH (see `clusterctl_providers.login`)."""

    def place(self, instance_id: str) -> Mapping[str, str]:
        """What `login.log_in` finds the instance by. Asks nobody. Raises BadRequest where its settings lead nowhere."""
        ...


@dataclass(frozen=True)
class KeptVolume:
    """A volume that survived its cluster or will. `place`: what it is called there; `removal`: the command that removes it."""

    cluster: str
    volume: str
    place: str
    removal: str


@runtime_checkable
class HasKeptVolumes(Protocol):
    def kept_volumes(self) -> list[KeptVolume]:
        """Those of all clusters that this user has or had there."""
        ...


@dataclass(frozen=True)
class HeadDisk:
    """The disk with the head's state: it outlives the instance. `paths` are where a machine may show it, the first one
    that exists counts; `attached_to` is an instance, "" for none."""

    id: str
    zone: str
    paths: Sequence[str]
    attached_to: str = ""


@dataclass(frozen=True)
class Whereabouts:
    """Where an instance is to be found. `public`: an address, "" for none; `place`: what a successor takes over; `user`: who
    logs in, where that is the cloud's to say. `login`: what `clusterctl_providers.login` finds it by, where it has no SSH."""

    public: str
    place: NetworkPlace
    user: str = ""
    login: Mapping[str, str] = field(default_factory=dict[str, str])


@dataclass(frozen=True)
class AddressHolder:
    """Who has a private address. `ending`: not for long."""

    instance_id: str
    ending: bool


@runtime_checkable
class HasHeadMachine(Protocol):
    """The head daemon can run on an instance: requests of role "head" are for it where `ProviderContext.head_machine` is set."""

    def head_disk(self) -> HeadDisk | None: ...

    def make_head_disk(self, zone: str, size: int, token: str) -> HeadDisk:
        """`size` in bytes; the same token twice is one disk. Encrypted, and blank."""
        ...

    def attach_head_disk(self, disk: HeadDisk, instance_id: str) -> bool:
        """Whether it is (being) attached; False while disk or instance are not ready for it. Idempotent."""
        ...

    def whereabouts(self, instance_id: str) -> Whereabouts: ...

    def address_holder(self, place: NetworkPlace) -> AddressHolder | None:
        """The instance that has this private address; None where a new one may have it."""
        ...

    def renew_access(self) -> None:
        """Makes who may reach port 22, and what the machines may do at the provider, what context and settings say now."""
        ...
