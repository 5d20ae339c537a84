"""The state of a pretended cloud that tests set, whichever cloud it is: delays, capacity, quotas, throttles, faults, prices;
and what was called. A cloud's face adds its own and says how it words a refusal (`aws_world.World`)."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

UNLIMITED = 10**9


@dataclass
class Fault:
    """Applies to calls of `action` ("*" = all) whose body contains `match`, `times` times (None = until removed).
    `effect`: "error" (code, message, status), "lost" (done, then that error), "reset" (done, then the line breaks),
    "cut" (the line breaks before anything is done), "delay" (answers after `seconds`),
    "garbled" (done, and the answer breaks off in its middle)."""

    action: str
    effect: str = "error"
    code: str = "InternalError"
    message: str = "An internal error has occurred"
    status: int = 500
    times: int | None = 1
    match: str = ""
    seconds: float = 0.0
    until: float | None = None  # by the world's clock


class Timetable:
    """What becomes of things by themselves, and when: one step for each, the newest counts."""

    def __init__(self) -> None:
        self._due: dict[str, tuple[float, Any]] = {}

    def put(self, thing: str, at: float, step: Any = None) -> None:
        self._due[thing] = (at, step)

    def take(self, now: float) -> list[tuple[str, Any]]:
        """Those whose time has come, in the order in which they were put down; they are not due again."""
        found = [(thing, step) for thing, (at, step) in self._due.items() if at <= now]
        for thing, _ in found:
            del self._due[thing]
        return found

    def __contains__(self, thing: str) -> bool:
        return thing in self._due

    def clear(self) -> None:
        self._due.clear()


@dataclass
class World:
    clock: Callable[[], float] = time.monotonic  # of all its delays, rates and faults
    boot_seconds: float = 0.0  # until an instance runs
    end_seconds: float = 0.0  # until one that ends has ended
    volume_seconds: float = 0.0  # what creating, attaching or detaching a disk takes
    visible_after: float = 0.0  # lists show an instance so long after its launch
    clock_offset: float = 0.0  # the cloud's clock is so many seconds before this host's
    capacity: dict[str, int] = field(default_factory=dict)  # "type/zone/market", "*" in any place -> instances left
    vcpu_quota: dict[str, int] = field(default_factory=dict)  # market -> vCPUs left
    sells: Callable[[str, str], bool] = lambda name, zone: True
    spot_prices: dict[str, float] = field(default_factory=dict)  # instance type -> $/h
    prices: dict[str, float] = field(default_factory=dict)  # instance type -> $/h on demand
    denied: set[str] = field(default_factory=set)  # actions that these credentials lack
    allowed: set[str] | None = None  # actions that they have; None = all
    lapsed: bool = False  # the credentials have expired
    called_by: list[tuple[str, str]] = field(default_factory=list)  # (caller, action), of known callers
    rates: dict[str, list[float]] = field(default_factory=dict)  # action or "*" -> [burst, per second, level, at]
    faults: list[Fault] = field(default_factory=list)
    page_size: int = 1000  # lists answer no more at once
    calls: list[tuple[float, str, dict[str, Any]]] = field(default_factory=list)  # (clock, action, parameters)
    violations: list[str] = field(default_factory=list)  # requests that the cloud's own model does not allow
    disks: Any = None  # what gives disks to machines: disks.Disks
    consoles: Callable[[str], str] | None = None  # what an instance's machine wrote to its console
    listeners: list[Callable[[str, Any], None]] = field(default_factory=list)  # told of each state of an instance
    lock: threading.RLock = field(default_factory=threading.RLock)

    # ------------------------------------------------------------ a face's own words

    def no_capacity(self, instance_type: str, zone: str) -> Exception:
        raise NotImplementedError

    def over_quota(self, market: str, left: int) -> Exception:
        """`left`: vCPUs."""
        raise NotImplementedError

    def too_many_calls(self) -> Exception:
        raise NotImplementedError

    # ------------------------------------------------------------ calls

    def actions(self, since: int = 0) -> list[str]:
        return [action for _, action, _ in self.calls[since:]]

    def actions_by(self, name: str) -> list[str]:
        """Of callers whose name contains `name`."""
        return [action for caller, action in self.called_by if name in caller]

    def limit(self, action: str, burst: float, per_second: float) -> None:
        self.rates[action] = [burst, per_second, burst, self.clock()]

    def check_rate(self, action: str) -> None:
        with self.lock:
            for name in (action, "*"):
                bucket = self.rates.get(name)
                if bucket is None:
                    continue
                now = self.clock()
                bucket[2] = min(bucket[0], bucket[2] + (now - bucket[3]) * bucket[1])
                bucket[3] = now
                if bucket[2] < 1:
                    raise self.too_many_calls()
                bucket[2] -= 1

    def fault_for(self, action: str, body: str) -> Fault | None:
        with self.lock:
            for fault in self.faults:
                if fault.action not in (action, "*") or fault.match not in body:
                    continue
                if fault.until is not None and self.clock() > fault.until:
                    continue
                if fault.times is not None:
                    fault.times -= 1
                    if fault.times <= 0:
                        self.faults.remove(fault)
                return fault
        return None

    # ------------------------------------------------------------ capacity

    def free(self, instance_type: str, zone: str, market: str) -> int:
        key = self._pool(instance_type, zone, market)
        return self.capacity[key] if key else UNLIMITED

    def take(self, instance_type: str, zone: str, market: str, vcpus: int, least: int, most: int) -> int:
        """How many of `most` instances are launched; raises the face's refusal for fewer than `least`."""
        with self.lock:
            quota = self.vcpu_quota.get(market)
            if quota is not None and vcpus * most > quota:
                raise self.over_quota(market, quota)
            count = min(most, self.free(instance_type, zone, market))
            if count < least:
                raise self.no_capacity(instance_type, zone)
            self._count(instance_type, zone, market, vcpus, -count)
            return count

    def give_back(self, instance_type: str, zone: str, market: str, vcpus: int, count: int = 1) -> None:
        with self.lock:
            self._count(instance_type, zone, market, vcpus, count)

    def _count(self, instance_type: str, zone: str, market: str, vcpus: int, change: int) -> None:
        key = self._pool(instance_type, zone, market)
        if key:
            self.capacity[key] += change
        if market in self.vcpu_quota:
            self.vcpu_quota[market] += change * vcpus

    def _pool(self, instance_type: str, zone: str, market: str) -> str:
        wanted = (instance_type, zone, market)
        for key in self.capacity:
            if all(part in ("*", value) for part, value in zip(key.split("/"), wanted, strict=True)):
                return key
        return ""
