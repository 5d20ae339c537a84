"""A cluster of a fixed size: bought once, kept full, never let go."""

from __future__ import annotations

from clusterctl.core.errors import ProviderError
from clusterctl.core.model import Launch, Offer, Plan, Reason
from clusterctl.core.simulate.peers import Names, QuietPolicy, boots_end, counted, earliest, settle, unfit
from clusterctl.core.simulate.policy import Situation

_RETRY = 60.0
_BOOT_DEADLINE = 900.0


class FixedCluster(QuietPolicy):
    """Holds `share` of every pool's max (at least its min, and one node), the cheapest offer first; an offer that was
    refused is passed over for a minute, as a person would."""

    def __init__(self, share: float = 1.0) -> None:
        self.share = share
        self.name = "fixed" if share == 1.0 else f"fixed:{share:g}"
        self._refused_until: dict[str, float] = {}

    def refused(self, offer: Offer, error: ProviderError, now: float) -> None:
        del error
        self._refused_until[offer.key] = now + _RETRY

    def decide(self, situation: Situation) -> Plan:
        """Launches what is missing of each pool's size; idle nodes stay."""
        actions = settle(situation, _BOOT_DEADLINE)
        have = counted(situation, actions)
        names = Names(situation)
        wake = boots_end(situation, _BOOT_DEADLINE)
        launches: list[Launch] = []
        for pool in situation.pools:
            size = min(pool.max, max(pool.min, 1, round(pool.max * self.share)))
            mine = [offer for offer in situation.offers if offer.pool == pool.name]
            open_now = [o for o in mine if self._refused_until.get(o.key, 0.0) <= situation.now]
            lacking = size - have.get(pool.name, 0)
            if lacking <= 0:
                continue
            if not open_now:
                wake.extend(self._refused_until[o.key] for o in mine)
                continue
            best = min(open_now, key=lambda o: (o.rank, o.price, o.key))
            reason = Reason("fixed", f"pool {pool.name} is kept at {size}")
            launches.extend(names.launch(best, reason) for _ in range(lacking))
        return Plan((*actions, *launches), tuple(unfit(situation)), wake_at=earliest(wake, situation.now))
