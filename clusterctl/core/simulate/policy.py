"""What a policy is to the simulator: it sees the situation and answers with a plan."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from clusterctl.core.errors import ProviderError
from clusterctl.core.model import (
    Block,
    Demand,
    Limits,
    NodeView,
    Observed,
    Offer,
    Plan,
    Pool,
    Spend,
)


@dataclass(frozen=True)
class Situation:
    """All that a policy may know. `demand` is what waits; `nodes` carry what runs. `doubt`: the list is partial, or it
    and the records disagree."""

    now: float
    cluster: str
    uid: str
    pools: tuple[Pool, ...]
    offers: tuple[Offer, ...]
    limits: Limits
    nodes: tuple[NodeView, ...]
    observed: tuple[Observed, ...]
    doubt: bool
    demand: tuple[Demand, ...]
    launches: tuple[float, ...]
    failures: tuple[tuple[str, float], ...]
    next_number: tuple[tuple[str, int], ...]
    spend: Spend


class Policy(Protocol):
    """One object per run: policies may remember. `due` says when to decide after something happened at `now`."""

    name: str

    def due(self, now: float) -> float:
        """When to decide, at the latest, after something happened at `now`."""
        ...

    def due_idle(self, idle_timeout: float, now: float) -> float:
        """When to decide at the latest after a node got idle at `now`."""
        ...

    def decide(self, situation: Situation) -> Plan:
        """What to launch, drain and end now."""
        ...

    def refused(self, offer: Offer, error: ProviderError, now: float) -> None:
        """A launch of `offer` was turned down."""
        ...

    def granted(self, offer: Offer, now: float) -> None:
        """A launch of `offer` went through."""
        ...


class BlockBook(Protocol):
    """Remembers which offers were refused and for how long they are not tried: the head's own rules, passed in."""

    def in_force(self, now: float) -> tuple[Block, ...]:
        """The blocks that have not run out."""
        ...

    def refuse(
        self, error: ProviderError, offer: Offer, known: tuple[Offer, ...], pools: tuple[str, ...], now: float
    ) -> None:
        """Blocks what `error` says of `offer`; `known` are the offers that it may cover as well."""
        ...

    def granted(self, offer: Offer) -> None:
        """A launch went through: the next refusal blocks for a short time again."""
        ...
