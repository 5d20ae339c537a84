"""What an export is told besides the spec."""

from __future__ import annotations

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
class Options:
    """`target`: a name of `platforms`. `image`: of all groups, with whatever the spec's nodes would install. `gpu_label`: (key,
    value) that GPU nodes have, in the place of the target's. `claims`: {path in the containers: name of a PersistentVolumeClaim}.
    `secrets`: {environment variable: where its value is}. `redis`: (host:port, where its password is) for the GCS. `for_a_job`:
    the cluster ends with one job."""

    target: str = "generic"
    image: str = ""
    namespace: str = ""
    gpu_label: tuple[str, str] | None = None
    claims: dict[str, str] = field(default_factory=dict)
    secrets: dict[str, SecretRef] = field(default_factory=dict)
    redis: tuple[str, SecretRef | None] | None = None
    prometheus: str = PROMETHEUS[0]
    for_a_job: bool = False

    def __post_init__(self) -> None:
        """Raises UsageError where they contradict each other."""
        if wrong := sorted(self.reserved() & self.secrets.keys()):
            fix = "say --redis HOST:PORT,SECRET/KEY" if wrong[0] in _OF_REDIS else "leave it out"
            raise UsageError(f"--secret {wrong[0]}: KubeRay sets that variable: {fix}")

    def reserved(self) -> frozenset[str]:
        """Variables that the operator sets, or refuses beside what an export says."""
        return _RESERVED | (_OF_REDIS if self.redis else frozenset())
