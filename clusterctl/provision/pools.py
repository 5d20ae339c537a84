"""The pools of the spec in force: whose provider makes their nodes, and what that provider offers for them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

from clusterctl_providers.base import HasMost, PoolRequest, Provider

from clusterctl.core.model import Node, Offer

OFFERS_LAST = 3600.0  # prices and types are asked for again after so many seconds


class PoolBook:
    """`former_provider` says which provider a pool had that is not in the spec any more."""

    def __init__(self, providers: Mapping[str, Provider], former_provider: Callable[[str], str]) -> None:
        self._providers = providers
        self._former_provider = former_provider
        self._pools: dict[str, PoolRequest] = {}
        self._offers: dict[str, tuple[Offer, ...]] = {}
        self._offers_until = 0.0

    def use(self, pools: Iterable[PoolRequest]) -> None:
        """From now on these are the pools; where they differ from before, offers are asked for again."""
        wanted = {pool.name: pool for pool in pools}
        if wanted != self._pools:
            self._pools = wanted
            self._offers_until = 0.0

    def forget_offers(self) -> None:
        """A provider has other settings: what it offers is asked for again."""
        self._offers_until = 0.0

    def offers(self, now: float, refresh: bool) -> tuple[Offer, ...]:
        """What providers offer for all pools; asked for again when `refresh` is set or the last answer is too old."""
        if refresh or now >= self._offers_until or self._lag_behind():
            self._offers = {
                name: tuple(self._providers[self.provider_name(name)].offers(pool))
                for name, pool in sorted(self._pools.items())
            }
            self._offers_until = now + OFFERS_LAST
        return self.known_offers(self._offers)

    def _lag_behind(self) -> bool:
        """Whether some provider's offers change from one moment to the next (`offers_last` 0), as free machines do."""
        return any(getattr(provider, "offers_last", OFFERS_LAST) == 0.0 for provider in self._providers.values())

    def most(self, pool: str) -> int | None:
        """How many nodes of the pool its provider can have at all; None = as many as one pays for."""
        request = self._pools.get(pool)
        provider = self._providers.get(self.provider_name(pool)) if request else None
        return provider.most(request) if request and isinstance(provider, HasMost) else None

    def known_offers(self, pools: Iterable[str]) -> tuple[Offer, ...]:
        """The last answer for these pools; nobody is asked."""
        return tuple(offer for pool in pools for offer in self._offers.get(pool, ()))

    def request(self, node: Node) -> PoolRequest:
        """What its provider is told of the node's pool; nothing but the name where the spec has no such pool any more."""
        return self._pools.get(node.pool) or PoolRequest(node.pool, {}, node.role)

    def provider_name(self, pool: str) -> str:
        """The pool's own provider, else the cluster's; for a pool that left the spec, the one it had."""
        request = self._pools.get(pool)
        if request is None:
            return self._former_provider(pool)
        return str(request.spec.get("provider") or next(iter(self._providers)))

    def beside(self, pool: str) -> list[str]:
        """The pools of the same provider, this one included."""
        name = self.provider_name(pool)
        return [other for other in sorted({*self._pools, pool}) if self.provider_name(other) == name]
