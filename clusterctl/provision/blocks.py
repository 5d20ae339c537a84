"""Offers that are not to be tried for a while, and why: what typed errors of providers mean for the next plan."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import asdict

from clusterctl_runtime.backoff import pause_after

from clusterctl.core.errors import AuthFailed, BadRequest, NoCapacity, ProviderError, QuotaExceeded, Throttled
from clusterctl.core.model import Block, Offer

FIRST_NO_CAPACITY = 120.0  # seconds; doubles with each refusal in a row
LONGEST_NO_CAPACITY = 1800.0
QUOTA = 3600.0
AUTH = 60.0
BAD_REQUEST = 600.0


class Blocks:
    """The blocks in force, by offer key. Times are unix seconds."""

    def __init__(self, text: str = "") -> None:
        data = json.loads(text) if text else {"blocks": [], "refusals": {}}
        self._blocks = {item["offer_key"]: Block(**item) for item in data["blocks"]}
        self._refusals: dict[str, int] = data["refusals"]  # offer key -> refusals in a row, to double the wait

    def to_text(self) -> str:
        """For the journal, so that a restarted head does not run against the same wall at once."""
        return json.dumps({"blocks": [asdict(b) for b in self._blocks.values()], "refusals": self._refusals})

    def in_force(self, now: float) -> tuple[Block, ...]:
        """Those that have not run out at `now`, by offer key; the others are forgotten."""
        self._blocks = {key: block for key, block in self._blocks.items() if block.until > now}
        return tuple(self._blocks[key] for key in sorted(self._blocks))

    def refuse(
        self, error: ProviderError, offer: Offer, known: Iterable[Offer], pools: Iterable[str], now: float
    ) -> None:
        """Books a refused launch of `offer`. `known`: all offers of the same provider; `pools`: the names of its
        pools."""
        reason = str(error)
        if isinstance(error, NoCapacity):
            self._no_capacity(offer, known, now, reason)
        elif isinstance(error, QuotaExceeded):
            self._block(f"{offer.pool}/{offer.instance_type}/{offer.market}/", now + QUOTA, error.code, reason)
        elif isinstance(error, BadRequest):
            self._block(offer.key, now + BAD_REQUEST, error.code, reason)
        elif isinstance(error, AuthFailed | Throttled):
            wait = AUTH if isinstance(error, AuthFailed) else error.retry_after
            for pool in pools:
                self._block(f"{pool}/", now + wait, error.code, reason)

    def capacity_returned(self) -> None:
        """Forgets every lack of capacity."""
        self._blocks = {k: block for k, block in self._blocks.items() if block.code != NoCapacity.code}
        self._refusals.clear()

    def clear(self) -> None:
        """Forgets every refusal: whoever is in charge says that it is time to try again."""
        self._blocks.clear()
        self._refusals.clear()

    def granted(self, offer: Offer) -> None:
        """A launch of `offer` went through: the next refusal starts with a short wait again."""
        self._refusals.pop(offer.key, None)

    def _no_capacity(self, offer: Offer, known: Iterable[Offer], now: float, reason: str) -> None:
        """The same hardware in the same zone and market is out for every pool that would take it."""
        count = self._refusals.get(offer.key, 0) + 1
        self._refusals[offer.key] = count
        until = now + pause_after(count, FIRST_NO_CAPACITY, LONGEST_NO_CAPACITY)
        hardware = (offer.instance_type, offer.market, offer.zone)
        same = {o.key for o in known if (o.instance_type, o.market, o.zone) == hardware}
        for key in same | {offer.key}:
            self._block(key, until, NoCapacity.code, reason)

    def _block(self, key: str, until: float, code: str, reason: str) -> None:
        known = self._blocks.get(key)
        if known is None or known.until < until:
            self._blocks[key] = Block(key, until, code, reason)
