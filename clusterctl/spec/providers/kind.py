"""What a provider is, for everybody outside of its own package: one frozen description, read instead of its name.

Who asks `if provider == ...` elsewhere lacks a member here. A setting that is worth the same word in every cloud belongs to
`CloudSettings`, what only the provider's own package has to know belongs into that.
"""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from clusterctl.spec.base import SpecModel

Change = Literal["in-place", "replace", "refused"]  # what a changed setting takes of nodes that live; see core.diff
Machine = Literal["process", "container", "host", "instance", "pod"]
Place = Literal["here", "host", "instance", "pod"]
# "always": without being told. "tried": likewise, and no answer is no news. "account": where this user has one.
# "named": only where something here names it.
Looked = Literal["always", "tried", "account", "named"]


MARKETS = ("spot", "on-demand")  # that every cloud has


@dataclass(frozen=True)
class Library:
    """What a provider needs that clusterctl itself does not: `extra` of our package, which has the provider's name, brings
    `modules`. `data`: directory of site-packages -> the entries of it that are called; the others do not travel to a head."""

    extra: str
    modules: tuple[str, ...]
    data: Mapping[str, frozenset[str]] = field(default_factory=dict[str, frozenset[str]])


@dataclass(frozen=True)
class Account:
    """What marks a user as having an account there: any of these variables of the environment, or files."""

    variables: tuple[str, ...]
    paths: tuple[str, ...]

    def is_here(self) -> bool:
        """Files are only looked for: no credential is read."""
        return any(map(os.environ.get, self.variables)) or any(Path(path).expanduser().exists() for path in self.paths)


@dataclass(frozen=True)
class Search:
    """Where `gc` and `list --adopt` look for what clusters have left behind, and `doctor` without a spec.

    `where` are the settings that say where instances are: those that differ in no other are in one place. `unset`: whether
    there is such a place where none is set; without, they lie with their cluster and are gone with it. `note`: file in the
    provider's directory of a cluster with the place that it found, whatever the environment says by now; it is there
    before anything is made.
    """

    where: tuple[str, ...]
    looked: Looked
    account: Account | None = None
    unset: bool = True
    note: str = ""


@dataclass(frozen=True)
class Reach:
    """A way from this machine to the head's instance, one value of the setting `reach`.

    `public`: it goes to a public address, which the instance has to get. `command` leads to the SSH server of instance {id}
    at {port}, "" where SSH gets there itself; where it begins with "-m", it is a module of ours, for this very Python. The
    settings named in `options` are options of it, too. `programs`: name -> how to get it. `opens`: what may reach port 22
    where `ssh_from` does not say.
    """

    public: bool
    opens: tuple[str, ...]
    command: str = ""
    options: tuple[str, ...] = ()
    programs: Mapping[str, str] = field(default_factory=dict[str, str])

    def missing(self) -> list[tuple[str, str]]:
        """(program, how to get it) of those that are not on PATH here."""
        return [(name, fix) for name, fix in self.programs.items() if shutil.which(name) is None]


@dataclass(frozen=True)
class IdForm:
    """How a cloud writes ids of one sort: a regular expression for all of such an id, and one to show."""

    pattern: str
    example: str

    def fits(self, text: str) -> bool:
        """The whole text has to be such an id."""
        return re.fullmatch(self.pattern, text) is not None


@dataclass(frozen=True)
class Kubernetes:
    """A cloud's managed Kubernetes, `name`. `spot`: labels of its spot nodes; `spot_taint`: (key, value) that keeps other pods
    off them. `gpu_label`: whose value tells a node's GPU; `gpus` has it by our name in upper case, with the memory of one where
    the name alone does not tell. "" where only machine types tell it."""

    name: str
    spot: Mapping[str, str] = field(default_factory=dict[str, str])
    spot_taint: tuple[str, str] | None = None
    gpu_label: str = ""
    gpus: Mapping[str, str] = field(default_factory=dict[str, str])

    @property
    def spot_tolerations(self) -> list[dict[str, Any]]:
        """Of pods that may run on its spot nodes."""
        if self.spot_taint is None:
            return []
        key, value = self.spot_taint
        return [{"key": key, "operator": "Equal", "value": value, "effect": "NoSchedule"}]


@dataclass(frozen=True)
class RayUp:
    """How Ray's own launcher writes a cluster there, with `type` under its `provider`. `settings`: other keys there -> settings
    of ours; `zones`: the one with zones. The others are paths in the `node_config` of a node type, dotted, numbers for items of
    lists: `instance`; `disk`, in GB; `image`; `spot` -> the value that means it, in lower case; `settings_of_nodes` -> settings
    of ours; `devices`: a list of what is attached, each with `acceleratorType` and `acceleratorCount`. `hosts`: its nodes are
    hosts that it lists."""

    type: str
    settings: Mapping[str, str] = field(default_factory=dict[str, str])
    zones: str = ""
    instance: str = ""
    disk: str = ""
    image: str = ""
    spot: Mapping[str, str] = field(default_factory=dict[str, str])
    settings_of_nodes: Mapping[str, str] = field(default_factory=dict[str, str])
    devices: str = ""
    hosts: bool = False


@dataclass(frozen=True)
class Cloud:
    """What is bought by the hour. `region` is an example of one; `zone` how a zone is named, with "{region}" where its name
    begins with the region's. `user` logs in to the default images. `catalogue` has its types and prices. `reservation`:
    ids of its capacity reservations, None where pools cannot have them. `markets`: those that a pool may name. `here_only`:
    settings that speak of the client's machine, which a head elsewhere does not get. `zones`: how they are named, where the
    region does not say. `refused_users`: logins, in lower case, that it gives no machine. `key_file`: variable of the
    environment that names a file with credentials, "" where there is none. `speaks_s3`: its regions are those of S3.
    `kubernetes`: the one that it manages."""

    region: str
    zone: str
    user: str
    catalogue: str
    reach: Mapping[str, Reach]
    here_only: frozenset[str]
    reservation: IdForm | None = None
    markets: tuple[str, ...] = MARKETS
    zones: IdForm | None = None
    refused_users: frozenset[str] = frozenset()
    key_file: str = ""
    speaks_s3: bool = False
    kubernetes: Kubernetes | None = None

    def zone_in(self, region: str) -> str:
        """A zone of that region, for examples."""
        return self.zone.format(region=region)

    @property
    def zones_tell_region(self) -> bool:
        return "{region}" in self.zone


@dataclass(frozen=True)
class Kind:
    """A provider.

    `title` is its name for people. `works`: this version can get machines there. `machine`: what a node is; `head`: where the
    head runs (see `head_place`). `changes`: what changing each of its settings takes. `foreign`: keys of a pool or of the head
    that mean nothing to it; `own`: those that mean something to it alone. `starters`: what `init` writes, name -> job; the one
    with the provider's name is the smallest. `other_names`: what users of other tools call it. `search`: None where its
    machines say themselves whose they are. `imagined`: its machines are a file's, to rehearse with. `boot_seconds`: what the
    simulator takes where no catalogue says. `here_only`: settings that speak of the client's machine (of a cloud, its own).
    `ray_up`: None where Ray's launcher has nothing like it.
    """

    name: str
    title: str
    settings: type[SpecModel]
    works: bool
    machine: Machine
    head: Place
    changes: Mapping[str, Change]
    foreign: frozenset[str]
    starters: Mapping[str, str]
    other_names: tuple[str, ...]
    boot_seconds: float
    search: Search | None
    library: Library | None = None
    cloud: Cloud | None = None
    imagined: bool = False
    ray_up: RayUp | None = None
    own: frozenset[str] = frozenset()
    here_only: frozenset[str] = frozenset()

    def head_place(self, settings: Mapping[str, Any]) -> Place:
        """Where the head of a cluster with these settings runs: on this machine where nodes are told to find it here."""
        return "here" if settings.get("head_address") else self.head

    @property
    def example(self) -> dict[str, Any]:
        """The smallest that says where, as under `provider` of a spec: {"aws": {"region": "us-east-1"}}."""
        return {self.name: {"region": self.cloud.region} if self.cloud else {}}
