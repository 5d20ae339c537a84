"""Whether a place has the machines of every pool's min, judged from what its head says, document by document."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from clusterctl.client.head.api import Api
from clusterctl.client.up.cloud_search import NotToBeHad
from clusterctl.client.up.readiness import Readiness

PLACE_SECONDS = 600.0  # for the machines of one place, where there are others
_RUNNING = ("booting", "joining", "ready", "draining")  # of nodes whose machine the cloud says that it runs


class Had:
    """What happens to a machine that runs (its setup fails, Ray does not start) would happen elsewhere, too."""

    def __init__(self, api: Api, clock: Callable[[], float] = time.monotonic, seconds: float = PLACE_SECONDS) -> None:
        self._api, self._clock, self._seconds = api, clock, seconds
        self._until = clock() + seconds

    def look(self, status: dict[str, Any], readiness: Readiness) -> bool:
        """True once all of them run at the same time. Raises NotToBeHad when some will not come."""
        short = {pool["name"]: pool for pool in status["pools"] if _running(pool) < pool["min"]}
        if not short:
            return True
        for name, pool in short.items():
            if pool.get("problem") and not pool["pending"] and self._is_refused(name):
                raise NotToBeHad(f"{_has(pool)}: {pool['problem']['text']}")
        broken = readiness.setup_failed or (status.get("engine") or {}).get("state") == "failed"
        if readiness.hopeless and not broken:
            raise NotToBeHad("; ".join(dict.fromkeys(readiness.hopeless)))
        if self._clock() > self._until:
            told = "; ".join(_has(pool) for pool in short.values())
            raise NotToBeHad(f"{told} after {self._seconds:g} s: {'; '.join(readiness.waiting)}")
        return False

    def _is_refused(self, pool: str) -> bool:
        """Whether every way to get a node of it is turned down for now."""
        offers = [offer for offer in self._api.get("/api/v1/offers")["offers"] if offer["pool"] == pool]
        return all(offer.get("blocked") for offer in offers)


def _running(pool: dict[str, Any]) -> int:
    return sum(pool["states"].get(state, 0) for state in _RUNNING)


def _has(pool: dict[str, Any]) -> str:
    return f"{_running(pool)} of {pool['min']} nodes of pool {pool['name']}"
