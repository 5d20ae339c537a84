"""The policy that ships: the head's own planner, fed as the head feeds it."""

from __future__ import annotations

from dataclasses import replace

from clusterctl.core.errors import ProviderError
from clusterctl.core.model import Offer, Plan, Policy, State
from clusterctl.core.planner import plan
from clusterctl.core.simulate.policy import BlockBook, Situation
from clusterctl.core.upkeep import count_sightings


class PlannerPolicy:
    """`knobs` are the planner's own; `blocks` is the executor's book of refused offers."""

    def __init__(self, blocks: BlockBook, offers: tuple[Offer, ...], *, knobs: Policy | None = None) -> None:
        self.knobs = knobs or Policy()
        self.name = "clusterctl" if self.knobs.name == "default" else self.knobs.name
        self._blocks = blocks
        self._offers = offers
        self._pools = tuple(sorted({offer.pool for offer in offers}))
        self._sightings: tuple[tuple[str, int], ...] = ()

    def due(self, now: float) -> float:
        """At once: the head's loop is driven by events."""
        return now

    def due_idle(self, idle_timeout: float, now: float) -> float:
        return now + idle_timeout

    def decide(self, situation: Situation) -> Plan:
        """The very planner that the head runs."""
        state = State(
            cluster=situation.cluster,
            uid=situation.uid,
            pools=situation.pools,
            nodes=situation.nodes,
            limits=situation.limits,
            blocks=self._blocks.in_force(situation.now),
            spend=situation.spend,
            launches=situation.launches,
            failures=situation.failures,
            next_number=situation.next_number,
            sightings=self._sightings,
        )
        if situation.doubt or self._sightings:  # else every instance is explained and every node is there
            self._sightings = count_sightings(state, situation.observed)
            state = replace(state, sightings=self._sightings)
        return plan(self.knobs, situation.observed, state, situation.demand, situation.offers, situation.now)

    def refused(self, offer: Offer, error: ProviderError, now: float) -> None:
        self._blocks.refuse(error, offer, self._offers, self._pools, now)

    def granted(self, offer: Offer, now: float) -> None:
        del now
        self._blocks.granted(offer)
