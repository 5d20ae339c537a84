"""How much an account may have at once: which limit an instance type falls under is the cloud's to say, the arithmetic is ours.

AWS           vCPUs by family and market, from Service Quotas
Google Cloud  CPUS, N2_CPUS, NVIDIA_L4_GPUS, PREEMPTIBLE_... of a region, from regions.get; several may bind one type
Azure         vCPUs by family and the region's total, from Usage; spot has one limit of its own
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from clusterctl.core.errors import QuotaExceeded

LAST = 3600.0  # seconds that an answer is believed
LIST_LASTS = 60.0  # seconds that one look at a list of them is good for


@dataclass(frozen=True)
class Quota:
    """`code` is how the cloud is asked for it, "" where it cannot be; `name` what its console shows; `unit` what it counts."""

    code: str
    name: str
    unit: str = "vCPUs"


class ListedLimits:
    """Limits of a region that come all at once, from a list. Thread-safe."""

    def __init__(self, read: Callable[[], dict[str, float]], clock: Callable[[], float] = time.monotonic) -> None:
        """`read`: by code, {} where the account does not tell; raises nothing."""
        self._read, self._clock = read, clock
        self._found: dict[str, float] = {}
        self._until = float("-inf")
        self._lock = threading.Lock()

    def __call__(self, quota: Quota) -> float | None:
        """How high it is; None where the account does not tell."""
        with self._lock:
            if self._clock() >= self._until:
                self._found = self._read()
                self._until = self._clock() + LIST_LASTS
            return self._found.get(quota.code)


class Quotas:
    """Looks limits up where the account allows it. Thread-safe; each is asked for once an hour."""

    def __init__(self, ask: Callable[[Quota], float | None], clock: Callable[[], float] = time.monotonic) -> None:
        """`ask`: the limit, None where it is not to be known; raises nothing."""
        self._ask, self._clock = ask, clock
        self._known: dict[str, tuple[float, float | None]] = {}
        self._lock = threading.Lock()

    def limit(self, quota: Quota) -> float | None:
        """None where the account does not tell: the cloud will say when it is used up."""
        if not quota.code:
            return None
        with self._lock:
            until, value = self._known.get(quota.code, (0.0, None))
            if quota.code not in self._known or self._clock() >= until:
                value = self._ask(quota)
                self._known[quota.code] = (self._clock() + LAST, value)
            return value

    def check(self, quota: Quota, instance_type: str, each: float, count: int, region: str, fix: str) -> None:
        """Raises QuotaExceeded for what cannot be had even where nothing else runs: `count` of a type, with `each` of the
        quota's unit. `fix`: where to ask for more."""
        limit = self.limit(quota)
        if limit is None or limit >= each * count:
            return
        what = f"{instance_type} has" if count == 1 else f"a gang of {count} {instance_type} has"
        raise QuotaExceeded(
            f"{what} {each * count:g} {quota.unit}, the quota {quota.name!r} in {region} is {limit:g}: {fix}",
            quota=quota.name,
        )


def quota_rows(
    quotas: Quotas, wanted: Iterable[tuple[Quota, str, float]], region: str, permission: str, fix: str
) -> list[tuple[str, bool, str]]:
    """Rows of `doctor`, one for each quota of `wanted`: (quota, instance type, how much of its unit one has). `permission`:
    what is lacking where a limit is not to be known; `fix`: where to ask for more."""
    least: dict[Quota, tuple[str, float]] = {}
    for quota, instance_type, each in wanted:
        least.setdefault(quota, (instance_type, each))
    rows: list[tuple[str, bool, str]] = []
    for quota, (instance_type, each) in least.items():
        limit = quotas.limit(quota)
        if limit is None:
            rows.append((f"quota {quota.name!r}: not to be looked up ({permission})", True, ""))
            continue
        need = f"one {instance_type} has {each:g} {quota.unit}: ask for more of {quota.name!r} under {fix} in {region}"
        if limit >= each:
            rows.append((f"quota {quota.name!r} is {limit:g} {quota.unit}", True, need))
        else:
            rows.append((f"quota {quota.name!r} of {each:g} {quota.unit}, it is {limit:g}", False, need))
    return rows
