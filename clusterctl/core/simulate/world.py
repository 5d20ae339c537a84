"""How the simulated cloud and its jobs behave. Every figure is a statement about the world, not about a policy."""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass

from clusterctl.core.model import Offer
from clusterctl.core.simulate.draws import exponential, uniform

HOUR = 3600.0


@dataclass(frozen=True)
class World:
    """Times in seconds unless named otherwise; probabilities per event; None = never.

    Capacity of an instance type in a zone and market comes and goes: free for `*_free_hours`, short for `*_short_hours`, on
    average. A spot machine lives `spot_life_hours` on average and gets a notice. A job that loses a node goes back to
    its last checkpoint, `checkpoint` seconds apart (None = it starts anew).
    """

    boot_sigma: float = 0.2  # spread of the boot time around the offer's own figure (of its logarithm)
    slow_boots: float = 0.02
    slow_boot_factor: float = 4.0
    dead_boots: float = 0.0  # machines that run and never join
    call: float = 1.5  # from asking for machines to the answer
    calls_per_second: float = 5.0
    call_burst: int = 50
    ending: float = 20.0  # from the request to end a machine until the list lacks it
    spot_free_hours: float | None = 12.0
    spot_short_hours: float = 1.0
    on_demand_free_hours: float | None = 240.0
    on_demand_short_hours: float = 1.0
    spot_life_hours: float | None = 48.0
    notice: float = 120.0
    lost_answers: float = 0.0  # the machine is made, the answer is lost
    lost_calls: float = 0.0  # the call is lost on its way: nothing is made, nobody knows
    partial_lists: float = 0.0
    quotas: tuple[tuple[str, int], ...] = ()  # instance type -> machines at the same time
    checkpoint: float | None = 1800.0


CALM = World(slow_boots=0.0, spot_free_hours=None, on_demand_free_hours=None, spot_life_hours=None)
TYPICAL = World()
SCARCE = World(spot_free_hours=3.0, spot_short_hours=3.0, on_demand_free_hours=12.0, on_demand_short_hours=4.0)
WORLDS = {"calm": CALM, "typical": TYPICAL, "scarce": SCARCE}


class Shortages:
    """When which hardware is not to be had: alternating periods per type, market and zone, drawn as far as asked."""

    def __init__(self, world: World, seed: int) -> None:
        self._world = world
        self._seed = seed
        self._ends: dict[tuple[str, str, str], list[float]] = {}  # ends of periods; the first one is free when even

    def is_short(self, offer: Offer, now: float) -> bool:
        """Whether the cloud has none of this hardware at `now`; times of plenty and shortage alternate."""
        spot = offer.market == "spot"
        free = self._world.spot_free_hours if spot else self._world.on_demand_free_hours
        short = self._world.spot_short_hours if spot else self._world.on_demand_short_hours
        if free is None or short <= 0:
            return False
        hardware = (offer.instance_type, offer.market, offer.zone)
        ends = self._ends.get(hardware)
        if ends is None:
            begins_short = uniform(self._seed, "short", *hardware) < short / (free + short)
            ends = self._ends[hardware] = [0.0] if begins_short else []
        while not ends or ends[-1] <= now:
            mean = (free if len(ends) % 2 == 0 else short) * HOUR
            begun = ends[-1] if ends else 0.0
            ends.append(begun + exponential(mean, self._seed, "period", *hardware, len(ends)))
        return bisect_right(ends, now) % 2 == 1
