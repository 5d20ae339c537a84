"""Nodes that a pool keeps, whoever wants them: launched before any demand is looked at."""

from __future__ import annotations

from collections.abc import Sequence

from clusterctl.core.model import Offer, Pool, Reason, Wait
from clusterctl.core.scheduling.matching import Matching


def keep_minimum(matching: Matching, pool: Pool, lacking: int) -> None:
    """Launches `lacking` nodes of a pool: the cheapest of the market that is tried first."""
    mine = [offer for offer in matching.offers if offer.pool == pool.name]
    for offer in mine:
        n = min(lacking, matching.allowance.most(offer))
        if n <= 0:
            continue
        matching.allowance.take(offer, n)
        lacking -= n
        for _ in range(n):
            matching.candidates.add_launch(offer, Reason("min", f"pool {pool.name} keeps at least {pool.min}"))
    if lacking > 0:
        reason = _why_not(matching, pool, mine)
        matching.waits.append(Wait(f"min:{pool.name}", lacking, reason))
        matching.wake_for(reason.code)


def _why_not(matching: Matching, pool: Pool, mine: Sequence[Offer]) -> Reason:
    below = f"pool {pool.name} is below its min of {pool.min}"
    for offer in mine:
        found = matching.allowance.obstacle(offer)
        if found is not None:
            return Reason(found.code, f"{below}: {found.text}", found.fix, found.details)
    for passed in matching.refused:
        if passed.offer_key.startswith(pool.name + "/"):
            text = f"{below}: {passed.offer_key}: {passed.reason.text}"
            return Reason(passed.reason.code, text, passed.reason.fix)
    return Reason("no_offers", f"{below}: the provider offers nothing for it", "check the pool's instances and zones")
