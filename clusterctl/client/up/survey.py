"""What can be known of a place before anything is made there: its offers and prices, what the spec names and it lacks, the
account's rights and quotas."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from clusterctl.client.doctor.providers import place_checks
from clusterctl.client.up.planning import offers_now, plan_with, short_of_min
from clusterctl.core.errors import ClusterctlError
from clusterctl.core.resources import Resources

if TYPE_CHECKING:
    from clusterctl.client.doctor.check import Check
    from clusterctl.client.specfile import SpecFile
    from clusterctl.core.model import Offer
    from clusterctl.spec.pool import Pool

AT_ONCE = 8  # places that are asked at the same time
ROWS_TOLD = 2  # of what the account lacks


@dataclass(frozen=True)
class Look:
    """`plan` is the document of `plan` for that place, {} where no whole one could be made. `out`: why nothing is tried there, a
    sentence for each reason; none: it is worth a try."""

    source: SpecFile
    plan: dict[str, Any] = field(default_factory=dict[str, Any])
    out: tuple[str, ...] = ()

    @property
    def place(self) -> str:
        return self.source.place

    @property
    def per_hour(self) -> float | None:
        """$/h of the head and the pools' min, None where that is not known."""
        return self.plan["cost"]["after"] if self.plan else None

    @property
    def at_most(self) -> float | None:
        """$/h with every pool at its max."""
        return self.plan["cost"]["max"] if self.plan else None

    def document(self, state: str) -> dict[str, Any]:
        """As `plan --json` has it."""
        cost = {"after": self.per_hour, "max": self.at_most}
        return {"place": self.place, "state": state, "cost": cost, "why": list(self.out)}


def look(source: SpecFile) -> Look:
    """Asks, and changes nothing."""
    try:
        lacking = list(_lacking(place_checks(source.spec)))
        offers, notes = offers_now(source)
    except ClusterctlError as error:
        return Look(source, {}, (str(error),))
    missing = tuple(_not_offered(source, offers))
    lacking += () if missing else short_of_min(source, offers)
    return Look(source, {} if missing else plan_with(source, offers, notes), (*lacking, *missing))


def look_at_all(sources: Sequence[SpecFile]) -> list[Look]:
    """The same of several, at once, in their order."""
    with ThreadPoolExecutor(AT_ONCE, thread_name_prefix="look") as pool:
        return list(pool.map(look, sources))


def in_order(looks: Sequence[Look], *, cheapest: bool) -> list[Look]:
    """In which they are tried; what is out comes last. The cheapest is the one of which the whole cluster, with every pool at
    its max, costs least; where that is equal, what it has at once."""

    def rank(look: Look) -> tuple[bool, float, float]:
        if look.out or not cheapest:
            return (bool(look.out), 0.0, 0.0)
        return (False, look.at_most or 0.0, look.per_hour or 0.0)

    return sorted(looks, key=rank)


def plan_somewhere(cluster: str, looks: Sequence[Look]) -> dict[str, Any]:
    """The document of `plan --json` for several places in the order in which they are tried: the plan of the first that is not
    out, "place" being its name ("" for none), and of each of "places" its "state": "first", "next" or "out"."""
    first = next((look for look in looks if not look.out), None)
    states = ["out" if look.out else "first" if look is first else "next" for look in looks]
    nothing = {"cluster": cluster, "actions": [], "cost": {"before": 0.0, "after": 0.0, "max": 0.0}, "warnings": []}
    return (first.plan if first else nothing) | {
        "place": first.place if first else "",
        "places": [look.document(state) for look, state in zip(looks, states, strict=True)],
    }


def _lacking(checks: Sequence[Check]) -> Iterator[str]:
    """Of what `doctor` would say, what is wrong. Without credentials nothing else was asked."""
    wrong = [f"{check.found}: {check.fix}" if check.fix else check.found for check in checks if not check.ok]
    yield from wrong[:ROWS_TOLD]
    if len(wrong) > ROWS_TOLD:
        yield f"and {len(wrong) - ROWS_TOLD} more that `clusterctl doctor` lists with this spec"


def _not_offered(source: SpecFile, offers: Sequence[Offer]) -> Iterator[str]:
    """Of a pool that can never have a node there."""
    spec = source.spec
    region = str(spec.provider_settings.get("region") or "")
    where = f"{spec.kind.title} in {region}" if region else spec.kind.title
    if not any(offer.pool == "head" for offer in offers):
        yield f"{where} offers no machine for the head" + (f" ({spec.head.instance})" if spec.head.instance else "")
    for pool in spec.pools:
        mine = [offer for offer in offers if offer.pool == pool.name]
        if not mine:
            yield f"{where} offers nothing for pool {pool.name} ({_wish(pool)})"
        elif not pool.min and all(offer.closed for offer in mine):
            yield f"pool {pool.name}: {mine[0].closed}"


def _wish(pool: Pool) -> str:
    """What the pool asks for, in few words."""
    if pool.gpu:
        return f"{pool.gpu.count} x {pool.gpu.name or 'GPU'}"
    if pool.instances:
        return ", ".join(pool.instances)
    return str(Resources.of(pool.resources)) if pool.resources else pool.reservation
