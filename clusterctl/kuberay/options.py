"""What an export is told besides the spec."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from clusterctl.core.errors import UsageError

_RESERVED = frozenset(
    {"RAY_enable_autoscaler_v2", "RAY_REDIS_ADDRESS", "REDIS_USERNAME", "RAY_AUTH_MODE", "RAY_AUTH_TOKEN"}
)
_OF_REDIS = frozenset({"REDIS_PASSWORD"})
PROMETHEUS = ("none", "annotations", "podmonitor")  # how it finds the pods


@dataclass(frozen=True)
class SecretRef:
    """A key of a Secret in the cluster's namespace."""

    name: str
    key: str


@dataclass(frozen=True)
class Volume:
    """A PersistentVolumeClaim that pods have at `path`. With `size`, in bytes, its document is written, too: of the storage
    class, "" for the cluster's own."""

    name: str
    path: str
    size: int | None = None
    storage_class: str = ""


@dataclass(frozen=True)
class Carried:
    """An entry of `files` as a ConfigMap can hold it: {path below its target: text}, "" for the path of a single file."""

    texts: dict[str, str]


@dataclass(frozen=True)
class Queue:
    """Of Kueue. `priority`: a class of it, "" for none. `elastic`: Kueue may let what it admitted grow and shrink."""

    name: str
    priority: str = ""
    elastic: bool = False


@dataclass(frozen=True)
class Options:
    """`target`: a name of `platforms`. `image`: of all groups, with whatever the spec's nodes would install. `gpu_label`: (key,
    value) that GPU nodes have, in the place of the target's. `claims`: {path in the containers: name of a PersistentVolumeClaim}.
    `secrets`: {environment variable: where its value is}. `redis`: (host:port, where its password is) for the GCS. `for_a_job`:
    the cluster ends with one job; `by_clock`, `serving`: likewise for what else it may be made for. `files`: by their index in
    the spec, or why one cannot come along. `setup_at_start`: pods run the spec's `setup` before Ray. `quota`, `network_policy`:
    write these, too."""

    target: str = "generic"
    image: str = ""
    namespace: str = ""
    gpu_label: tuple[str, str] | None = None
    claims: dict[str, str] = field(default_factory=dict)
    secrets: dict[str, SecretRef] = field(default_factory=dict)
    redis: tuple[str, SecretRef | None] | None = None
    prometheus: str = PROMETHEUS[0]
    for_a_job: bool = False
    by_clock: bool = False
    serving: bool = False
    volumes: tuple[Volume, ...] = ()
    files: Mapping[int, Carried | str] = field(default_factory=dict[int, "Carried | str"])
    queue: Queue | None = None
    setup_at_start: bool = False
    quota: bool = False
    network_policy: bool = False

    def __post_init__(self) -> None:
        """Raises UsageError where they contradict each other."""
        if wrong := sorted(self.reserved() & self.secrets.keys()):
            fix = "say --redis HOST:PORT,SECRET/KEY" if wrong[0] in _OF_REDIS else "leave it out"
            raise UsageError(f"--secret {wrong[0]}: KubeRay sets that variable: {fix}")
        if self.queue is not None and self.by_clock:
            raise UsageError("--kueue-queue with --schedule: a RayCronJob does not hand its label to its jobs")

    @property
    def claimed(self) -> frozenset[str]:
        """Paths in the containers at which there is a claim."""
        return frozenset((*self.claims, *(one.path for one in self.volumes)))

    def reserved(self) -> frozenset[str]:
        """Variables that the operator sets, or refuses beside what an export says."""
        return _RESERVED | (_OF_REDIS if self.redis else frozenset())
