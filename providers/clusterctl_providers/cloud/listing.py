"""What a cloud's list shows of a cluster, and what is remembered between two looks at it.

A list is complete or said not to be. An instance that is gone from it is not believed to have ended before it was asked for
by its id: a list lags behind, and its pages may lose one. What we launched or saw is ours, so only that is ended.

A cloud brings `InstanceCalls`:

    AWS           alive = DescribeInstances by tag, in pages; by_id = the same by id, 200 in a call, ended ones for an hour
    Google Cloud  alive = instances.list of each zone of the region by label, a zone that does not answer is a ProviderError
                  after what the others showed; by_id = instances.get each, 404 is gone
    Azure         alive = the VMs of the resource group with our tag; by_id = VMs by name, instance view for the reason
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Protocol

from clusterctl.core.errors import ProviderError
from clusterctl.core.model import Instance, Observed

log = logging.getLogger(__name__)

SEEN_BY = 5.0  # seconds after which an instance that no list shows is asked for
MISSED_FOR = 600.0  # seconds; then it is not asked for any more
SETTLES = 60.0  # seconds that a cloud may take to know everywhere what was just made


class InstanceCalls(Protocol):
    def alive(self) -> Iterator[Instance]:
        """All with our uid that have not ended, page by page. Raises ProviderError where something is missing, after what was
        there."""
        ...

    def ours(self, instance_ids: Sequence[str]) -> Iterator[Instance]:
        """Those of these instances that carry our uid, ended ones while they are known."""
        ...

    def any_of(self, instance_ids: Sequence[str]) -> Iterator[Instance]:
        """The same, whatever tags they carry."""
        ...


class Listing:
    """Remembers which ids it has shown or launched: those are ours to end."""

    def __init__(self, calls: InstanceCalls, clock: Callable[[], float] = time.time) -> None:
        self._calls, self._clock = calls, clock
        self.ours: set[str] = set()
        self._alive: dict[str, float] = {}  # id -> when it was launched or shown last, of those that we did not end
        self._let_go: set[str] = set()
        self._over: set[str] = set()  # known to have ended

    def observe(self, scope: str) -> Observed:
        """One pass over all pages. What came before a page that failed is kept and said to be incomplete."""
        now = self._clock()
        instances: list[Instance] = []
        try:
            for instance in self._calls.alive():
                instances.append(instance)
        except ProviderError as error:
            return Observed(scope, tuple(instances), False, now, str(error), error.code)
        shown = {instance.id for instance in instances}
        self.ours |= shown
        return Observed(scope, (*instances, *self._ended(shown, now)), True, now)

    def _ended(self, shown: set[str], now: float) -> list[Instance]:
        """Those that are gone from the list though nobody here ended them, shown once as ended, with the cloud's reason."""
        self._alive |= dict.fromkeys(shown - self._let_go, now)
        self._let_go &= shown
        missing = [i for i, at in sorted(self._alive.items()) if now - at > SEEN_BY and i not in shown]
        try:
            found = {instance.id: instance for instance in self._calls.ours(missing)} if missing else {}
        except ProviderError as error:
            log.info("%s; why %d instances ended is asked for again", error, len(missing))
            return []
        for instance_id in missing:
            if now - self._alive[instance_id] > MISSED_FOR or instance_id in found:
                del self._alive[instance_id]
        over = [instance for instance in found.values() if instance.state == "terminated"]
        self._over |= {instance.id for instance in over}
        return over

    def look_up(self, instance_ids: Sequence[str]) -> dict[str, Instance]:
        """By id and by nothing else: whoever took our tags off an instance did not end it."""
        return {instance.id: instance for instance in self._calls.any_of(instance_ids)} if instance_ids else {}

    def is_new(self, instance_id: str) -> bool:
        """Launched or shown so lately that the cloud may not know it everywhere yet."""
        return self._clock() - self._alive.get(instance_id, 0.0) < SETTLES

    def let_go(self, instance_ids: Iterable[str]) -> None:
        """We end them: nobody asks why."""
        self._let_go |= set(instance_ids)
        for instance_id in self._let_go:
            self._alive.pop(instance_id, None)

    def owned(self, instance_ids: Sequence[str]) -> list[str]:
        """Those of `instance_ids` that carry our uid and are not known to have ended, as far as the cloud shows them."""
        unknown = sorted(set(instance_ids) - self.ours)
        if unknown:
            self.ours |= {instance.id for instance in self._calls.ours(unknown)}
        return [instance_id for instance_id in instance_ids if instance_id in self.ours - self._over]

    def remember(self, instance: Instance) -> Instance:
        """One that we launched."""
        self.ours.add(instance.id)
        self._alive[instance.id] = self._clock()
        return instance
