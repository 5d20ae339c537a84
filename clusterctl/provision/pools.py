"""The pools of the spec in force: whose provider makes their nodes, and what that provider offers for them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

from clusterctl_providers.base import HasMost, PoolRequest, Provider

from clusterctl.core.model import Node, Offer


class PoolBook:
    """`former_provider` says which provider a pool had that is not in the spec any more."""

    def __init__(self, providers: Mapping[str, Provider], former_provider: Callable[[str], str]) -> None:
        self._providers = providers
        self._former_provider = former_provider
        self._pools: dict[str, PoolRequest] = {}
        self._offers: dict[str, tuple[Offer, ...]] = {}
        self._good_until: dict[str, float] = {}  # when the offers for a pool are asked for again

    def use(self, pools: Iterable[PoolRequest]) -> None:
        """From now on these are the pools; where they differ from before, offers are asked for again."""
        wanted = {pool.name: pool for pool in pools}
        if wanted != self._pools:
            self._pools = wanted
            self.forget_offers()

    def forget_offers(self) -> None:
        """A provider has other settings: what it offers is asked for again."""
        self._good_until = {}

    def offers(self, now: float, refresh: bool) -> tuple[Offer, ...]:
        """For all pools, by their names; each provider says how long its own are good (`offers_last`)."""
        for name, pool in sorted(self._pools.items()):
            if refresh or now >= self._good_until.get(name, now):
                provider = self._providers[self.provider_name(name)]
                self._offers[name] = tuple(provider.offers(pool))
                self._good_until[name] = now + provider.offers_last
        return self.known_offers(sorted(self._pools))

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
