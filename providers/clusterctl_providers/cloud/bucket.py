"""How fast an account is asked: one bucket of calls for all that a process does there, slower for a while after each refusal.

AWS           counts by account and region: 503 RequestLimitExceeded, which does not say for how long
Google Cloud  counts by project and minute: 403 rateLimitExceeded, which does not say either
Azure         counts by subscription: 429 with Retry-After, which `refused` takes for the least pause
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from weakref import WeakValueDictionary

from clusterctl_runtime.backoff import pause_after

from clusterctl.core.errors import Throttled

BURST = 20
LONGEST = 30.0  # seconds that a refusal closes the bucket for, where the cloud does not ask for more
SLOWEST = 8  # a refused bucket never falls below this part of its rate


class Bucket:
    """Thread-safe. `cloud` is what a sentence calls it; `rate` in calls per second."""

    def __init__(
        self,
        cloud: str,
        rate: float,
        burst: int = BURST,
        clock: Callable[[], float] = time.monotonic,
        pause: Callable[[float], None] = time.sleep,
    ) -> None:
        self._cloud = cloud
        self._full_rate = self._rate = rate
        self._burst, self._level = float(burst), float(burst)
        self._clock, self._pause = clock, pause
        self._at = clock()
        self._closed_until = 0.0
        self._refusals = 0
        self._lock = threading.Lock()

    def take(self, patience: float) -> None:
        """Returns when a call may be made; raises Throttled when that is more than `patience` seconds away."""
        with self._lock:
            now = self._clock()
            self._level = min(self._burst, self._level + (now - self._at) * self._rate)
            self._at = now
            wait = max(self._closed_until - now, (1.0 - self._level) / self._rate, 0.0)
            if wait > patience:
                raise Throttled(
                    f"calls to {self._cloud} are held back for {wait:.1f} s, since it limits the calls of this account",
                    retry_after=wait,
                )
            self._level -= 1.0
        if wait:
            self._pause(wait)

    def refused(self, asked: float = 0.0) -> float:
        """The cloud said "too many": half the rate, and a pause that doubles with each refusal in a row. `asked`: seconds that
        the cloud itself wants. Returns the pause. Calls that were under way together and are refused together count once."""
        with self._lock:
            now = self._clock()
            if now >= self._closed_until:
                self._refusals += 1
                self._rate = max(self._full_rate / SLOWEST, self._rate / 2)
            wait = max(asked, pause_after(self._refusals, 1.0, LONGEST))
            self._level = 0.0
            self._closed_until = max(self._closed_until, now + wait)
            return wait

    def served(self) -> None:
        """The cloud answered: the row of refusals is over, and the rate goes up by a tenth, to the full one at most."""
        with self._lock:
            self._refusals = 0
            self._rate = min(self._full_rate, self._rate * 1.1)


_BUCKETS: WeakValueDictionary[tuple[object, ...], Bucket] = WeakValueDictionary()
_BUCKETS_LOCK = threading.Lock()


def shared_bucket(cloud: str, rate: float, *account: str) -> Bucket:
    """The one of this process for all clients of an account (whatever the cloud counts by: profile, region, endpoint) and
    rate, for as long as there are any."""
    with _BUCKETS_LOCK:
        bucket = _BUCKETS.get((cloud, rate, *account))
        if bucket is None:
            bucket = _BUCKETS[(cloud, rate, *account)] = Bucket(cloud, rate, max(BURST, int(rate)))
        return bucket
