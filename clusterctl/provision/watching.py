"""What the providers' lists say, remembered between two looks: who is where, how often it was seen, what remains."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import replace

from clusterctl_providers.base import Provider

from clusterctl.core.model import Instance, NodeState, Observed
from clusterctl.provision.journal.book import Journal
from clusterctl.provision.lookup import Expected, compared

_OVER = frozenset({"stopping", "terminated"})
_NOT_EXPECTED = frozenset({NodeState.PLANNED, NodeState.REQUESTED, NodeState.GONE})


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
        self._shown_in: dict[
            tuple[str, str], set[str]
        ] = {}  # the same the other way round; with some that were lost since
        self._states: dict[str, str] = {}  # instance id -> state, as shown last
        self._provider_names: dict[str, str] = {}  # pool -> provider, as journalled

    def observe(self, now: float) -> tuple[Observed, ...]:
        """`now`, read before the first list, becomes the time of all of them: a provider's own clock is not the journal's."""
        found: list[Observed] = []
        for name, provider in list(self._providers.items()):
            listed = [replace(scope, at=now) for scope in _list(name, provider, now)]
            shown = {instance.id for scope in listed for instance in scope.instances}
            for observed in compared(name, provider, listed, self._expected(name), self._uid, now):
                self._remember(name, observed, shown)
                found.append(observed)
        return tuple(found)

    def _expected(self, name: str) -> dict[str, Expected]:
        """What the lists of this provider should show: what has a record, but for launches that lists may not show yet, and
        what they showed last time."""
        places = {i: place[1] for i, place in self._where.items() if place[0] == name and self._states[i] not in _OVER}
        expected = {i: Expected(i, scope, ending=True) for i, scope in places.items()}
        for node in self._journal.nodes().values():
            if not node.instance_id or node.state in _NOT_EXPECTED:
                continue
            if self.provider_of(node.instance_id, node.pool) == name:
                scope = self._where.get(node.instance_id, ("", ""))[1]
                ending = node.state is NodeState.TERMINATING
                expected[node.instance_id] = Expected(node.instance_id, scope, node.since, ending)
        return expected

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
        """Also of a pool that left the spec: it is noted in the journal. The cluster's own where nothing is known."""
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

    def _remember(self, name: str, observed: Observed, listed: Collection[str]) -> None:
        ours = [instance for instance in observed.instances if instance.uid == self._uid]
        shown = {instance.id for instance in ours}
        place = (name, observed.scope)
        if observed.complete:
            for lost in self._shown_in.pop(place, set()) - shown:
                if self._where.get(lost) != place:
                    continue  # another scope has shown it since
                del self._where[lost]
                self.sightings.pop(lost, None)
                self._states.pop(lost, None)
                self.remains.discard(lost)
        if shown:
            self._shown_in.setdefault(place, set()).update(shown)
        for instance in ours:
            self._where[instance.id] = place
            self.sightings[instance.id] = self.sightings.get(instance.id, 0) + 1
            self._states[instance.id] = instance.state
            remains = instance.state == "terminated" and instance.id in listed
            (self.remains.add if remains else self.remains.discard)(instance.id)
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
