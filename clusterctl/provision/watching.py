"""What the providers' lists say, remembered between two looks: who is where, how often it was seen, what remains."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from clusterctl_providers.base import Provider

from clusterctl.core.model import Instance, Observed
from clusterctl.provision.journal import Journal

_OVER = frozenset({"stopping", "terminated"})


class Watcher:
    """Lists all providers. Invariant of `sightings`: an id leaves it only when a complete list of its scope lacks
    it."""

    def __init__(self, journal: Journal, providers: Mapping[str, Provider], uid: str) -> None:
        self._journal = journal
        self._providers = providers
        self._uid = uid
        self.sightings: dict[str, int] = {}
        self.remains: set[str] = set()  # instances that have ended but are still listed: something of them is left
        self._where: dict[str, tuple[str, str]] = {}  # instance id -> (provider, scope) that showed it last
        self._states: dict[str, str] = {}  # instance id -> state, as shown last
        self._provider_names: dict[str, str] = {}  # pool -> provider, as journalled

    def observe(self, now: float) -> tuple[Observed, ...]:
        """`now`, read before the first list, becomes the time of all of them: a provider's own clock is not the journal's."""
        found: list[Observed] = []
        for name, provider in self._providers.items():
            for listed in _list(name, provider, now):
                observed = replace(listed, at=now)
                self._remember(name, observed)
                found.append(observed)
        return tuple(found)

    def shows_running(self, instance_id: str) -> bool:
        """Whether there is something to end: also a stopped instance."""
        return self.state_of(instance_id) not in ("", *_OVER)

    def state_of(self, instance_id: str) -> str:
        """The instance's state in the last list, "" when no list shows it."""
        return self._states.get(instance_id, "")

    def provider_of(self, instance_id: str, pool: str) -> str:
        """The provider that showed this instance, else the one of its pool, else the cluster's own."""
        return self._where[instance_id][0] if instance_id in self._where else self.provider_of_pool(pool)

    def provider_of_pool(self, pool: str) -> str:
        if pool not in self._provider_names:
            self._provider_names[pool] = self._journal.meta_get(f"provider-of-pool:{pool}") or next(
                iter(self._providers)
            )
        return self._provider_names[pool]

    def remember_provider(self, pool: str, name: str) -> None:
        """Journals the provider of a pool that has nodes, for when the pool leaves the spec."""
        if self.provider_of_pool(pool) != name or not self._journal.meta_get(f"provider-of-pool:{pool}"):
            self._journal.meta_set(f"provider-of-pool:{pool}", name)
            self._provider_names[pool] = name

    def _remember(self, name: str, observed: Observed) -> None:
        ours = [instance for instance in observed.instances if instance.uid == self._uid]
        shown = {instance.id for instance in ours}
        if observed.complete:
            for lost in [i for i, place in self._where.items() if place == (name, observed.scope) and i not in shown]:
                del self._where[lost]
                self.sightings.pop(lost, None)
                self._states.pop(lost, None)
                self.remains.discard(lost)
        for instance in ours:
            self._where[instance.id] = (name, observed.scope)
            self.sightings[instance.id] = self.sightings.get(instance.id, 0) + 1
            self._states[instance.id] = instance.state
            (self.remains.add if instance.state == "terminated" else self.remains.discard)(instance.id)
        self._learn(ours, observed.at)

    def _learn(self, instances: list[Instance], now: float) -> None:
        """Journals the ids (and changed addresses) of nodes whose launch was answered by silence."""
        nodes = self._journal.nodes()
        news: list[Instance] = []
        for instance in instances:
            node = nodes.get(instance.node_id)
            if node is None or node.generation != instance.generation or instance.state in _OVER:
                continue
            if not node.instance_id or (node.instance_id == instance.id and instance.address not in ("", node.address)):
                news.append(instance)
        if news:
            with self._journal.together():
                for instance in news:
                    self._journal.learn(instance.node_id, instance.id, instance.address, now)


def _list(name: str, provider: Provider, now: float) -> list[Observed]:
    """The provider's scopes; one that raises is an incomplete scope, never an empty one."""
    try:
        return provider.list()
    except Exception as error:
        sentence = f"provider {name} could not be listed: {error or type(error).__name__}"
        return [Observed(scope, (), False, now, sentence) for scope in provider.scopes or (name,)]
