"""What providers share whose nodes are parts of one machine, or whose head is on this one: their one offer, ends that take
longer than a call, and who made them."""

from __future__ import annotations

import getpass
import os
import socket
import threading
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from clusterctl.core.model import Offer, labels_of
from clusterctl.core.resources import Resources
from clusterctl_providers.base import PoolRequest

ACCEPT_WITHIN = 0.25  # seconds that `terminate` waits for the end itself


def user_name() -> str:
    """Who this process runs as; "uid-1234" for a number without a name, as containers have them."""
    try:
        return getpass.getuser()
    except (OSError, KeyError, ImportError):  # KeyError before Python 3.13
        return f"uid-{os.getuid()}"


def maker() -> str:
    """Who makes things here, and on which machine: an engine or an account may serve several people."""
    return f"{user_name()}@{socket.gethostname()}"


def only_offer(pool: PoolRequest, name: str, zone: str, source: str, machine: Mapping[str, float]) -> Offer:
    """As much of the `machine` as the pool says, and all of it where the pool says nothing."""
    gpu: Mapping[str, Any] = pool.spec.get("gpu") or {}
    amounts = {str(key): float(amount) for key, amount in (pool.spec.get("resources") or {}).items()}
    if gpu:
        amounts.setdefault("GPU", float(gpu.get("count", 1)))
    return Offer(
        pool=pool.name,
        instance_type=name,
        market="on-demand",
        zone=zone,
        price=0.0,
        resources=Resources.of({**machine, **amounts}),
        labels=labels_of(dict(pool.spec.get("labels") or {})),
        gpu_type=str(gpu.get("name") or ""),
        price_source=source,
        boot_seconds=1.0,
    )


class Ends:
    """Ends of instances that go on in threads of this process. After a crash nobody ends anything, and what was to end is
    listed as running again."""

    def __init__(self) -> None:
        self._under_way: list[_End] = []

    def begin(self, instances: Iterable[str], work: Callable[[], None]) -> None:
        """Does `work` in a thread. Raises its error when it fails within a moment; otherwise the instances are `stopping`."""
        end = _End(frozenset(instances), work)
        self._under_way.append(end)
        end.start()
        end.join(ACCEPT_WITHIN)
        if end.error:
            raise end.error

    def stopping(self) -> set[str]:
        """The instances of ends that are still under way."""
        self._under_way = [end for end in self._under_way if end.is_alive()]
        return set[str]().union(*(end.instances for end in self._under_way))

    def wait(self) -> None:
        """Returns when none is under way; an end's error that `begin` did not wait for is not told."""
        for end in self._under_way:
            end.join()


class _End(threading.Thread):
    def __init__(self, instances: frozenset[str], work: Callable[[], None]) -> None:
        super().__init__(name="end-instances", daemon=True)
        self.instances = instances
        self.error: Exception | None = None
        self._work = work

    def run(self) -> None:
        """Never raises: `error` has what went wrong."""
        try:
            self._work()
        except Exception as error:
            self.error = error
