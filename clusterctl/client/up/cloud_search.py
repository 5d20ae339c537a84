"""Why there is no machine for the head yet: what refused it, and what is tried when."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from clusterctl.client.patience import PASSING
from clusterctl.core.errors import ClusterctlError, NoCapacity
from clusterctl.core.model import Block, Offer, Plan
from clusterctl.core.offers import covers

LAUNCH_RATE = "launch_rate"


class NotToBeHad(ClusterctlError):
    """The head's machine, or the nodes of a pool's min, cannot be had where they were looked for."""


@dataclass
class Search:
    """What was refused in one `up`, by what was tried: (code, sentence)."""

    refusals: dict[str, tuple[str, str]] = field(default_factory=dict[str, tuple[str, str]])

    def refused(self, key: str, code: str, sentence: str) -> None:
        """The last reason for each `key` counts."""
        self.refusals[key] = (code, sentence)

    def why(self) -> str:
        """What no waiting mends comes first. "" where nothing was tried."""
        found = sorted(self.refusals.values(), key=lambda refusal: _passes(refusal[0]))
        return "; ".join(dict.fromkeys(sentence for _, sentence in found))


@dataclass(frozen=True)
class Try:
    """`at`: unix seconds. `what`: in words. `asked`: it waits because the cloud asked for that, and not for capacity."""

    at: float
    what: str
    asked: bool = False


def next_try(plan: Plan, offers: Iterable[Offer], blocks: Sequence[Block]) -> Try | None:
    """When one of `offers`, of which the plan launches none, is launched if nothing changes; None: waiting is of no use."""
    waits = [wait.reason.code for wait in plan.waits]
    if LAUNCH_RATE in waits and plan.wake_at is not None:
        return Try(plan.wake_at, "the next launch", asked=True)
    found: list[Try] = []
    for offer in offers:
        mine = [block for block in blocks if covers(block.offer_key, offer.key)]
        if mine and all(_passes(block.code) for block in mine):
            what = f"{offer.instance_type} ({offer.market}){offer.in_where}"
            asked = all(block.code in PASSING for block in mine)
            found.append(Try(max(block.until for block in mine), what, asked))
    return min(found, key=lambda one: one.at, default=None)


def _passes(code: str) -> bool:
    return code in PASSING or code == NoCapacity.code
