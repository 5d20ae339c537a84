"""`down`: end everything with our uid, and believe it only after two complete lists in a row that show nothing."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

from clusterctl_providers.base import HasLeftovers, Provider

from clusterctl.core.errors import ClusterctlError, ProviderError
from clusterctl.core.model import Instance, NodeState, Observed
from clusterctl.provision.journal.book import Journal
from clusterctl.provision.waiting import StillWaiting, listed
from clusterctl.provision.watching import Watcher

FIRST_PAUSE = 0.05  # seconds between two looks while something is still there; doubles up to LONGEST_PAUSE
LONGEST_PAUSE = 3.0
LONGEST_PAUSE_HERE = 0.2  # where every list shows the truth at once, it costs next to nothing as well
_SPARED = frozenset({NodeState.TERMINATING, NodeState.QUARANTINED})


def end_everything(
    journal: Journal,
    watcher: Watcher,
    providers: Mapping[str, Provider],
    uid: str,
    clock: Callable[[], float],
    progress: Callable[[str], None],
    patience: float,
    pause: Callable[[float], None],
) -> None:
    """Journals that all nodes end (so that no open launch is tried again), then terminates and lists in turn. A
    provider's `settle_seconds` is waited for between the two empty lists: so long its lists may lag behind its
    answers. So is the end of a launch whose answer nobody heard: its sender was killed, its server may still work on it
    for `in_flight_seconds`."""
    in_flight = max((provider.in_flight_seconds for provider in providers.values()), default=0.0)
    answered = _last_answer(journal, in_flight)
    _journal_ends(journal, clock())
    settle = max((provider.settle_seconds for provider in providers.values()), default=0.0)
    empty, wait, told = 0, FIRST_PAUSE, ""
    cleared: set[str] = set()
    longest = LONGEST_PAUSE if settle else LONGEST_PAUSE_HERE
    healthy_at = clock()
    waiting = StillWaiting(progress, clock)
    while empty < 2:
        journal.check_fence()
        scopes = watcher.observe(clock())
        left = {i.id for scope in scopes for i in scope.instances if i.uid == uid and i.state != "terminated"}
        remains = watcher.remains - cleared
        troubles = [scope.error or f"the list of {scope.scope} is incomplete" for scope in scopes if not scope.complete]
        troubles += _terminate(journal, watcher, providers, left | remains)
        cleared |= remains
        if not troubles:
            healthy_at = clock()
        elif clock() - healthy_at > patience:
            names = ", ".join(sorted(left)) or "unknown"
            raise ClusterctlError(
                f"could not end everything of this cluster within {patience:g} s: {'; '.join(sorted(set(troubles)))}. "
                f"Still there: {names}. Mend the cause and run `clusterctl down` again"
            )
        empty = empty + 1 if not (left or remains or troubles) else 0
        told = _tell(progress, left, troubles, told, patience)
        waiting.look(_waits_for(scopes, left, providers))
        if empty == 1:
            pause(max(settle, answered - clock(), 0.0))
        elif empty == 0:
            pause(wait)
            wait = min(wait * 2, longest)
    sweep_leftovers(providers, clock, progress, patience, pause)
    _journal_gone(journal, clock())


def _waits_for(scopes: Iterable[Observed], left: set[str], providers: Mapping[str, Provider]) -> str:
    """ "aws to end cpu-1 (i-1, stopping) and cpu-2 (i-2, running)" """
    found = [instance for scope in scopes for instance in scope.instances if instance.id in left]
    names = [_name(instance) for instance in sorted(found, key=lambda instance: (instance.node_id, instance.id))]
    return f"{' and '.join(providers)} to end {listed(names)}" if names else ""


def _name(instance: Instance) -> str:
    return f"{instance.node_id or 'a stray'} ({instance.id}, {instance.state})"


def _last_answer(journal: Journal, in_flight: float) -> float:
    """By when (clock seconds) every launch that was asked for has taken effect, or never will."""
    asked = [node.since for node in journal.nodes().values() if not node.instance_id]
    return max(asked) + in_flight if asked and in_flight else 0.0


def sweep_leftovers(
    providers: Mapping[str, Provider],
    clock: Callable[[], float],
    progress: Callable[[str], None],
    patience: float,
    pause: Callable[[float], None],
) -> None:
    """Lets each provider remove what no instance needs any more, until nothing of it waits for something else. Raises
    ClusterctlError, naming what is left, after `patience` seconds."""
    for name, provider in providers.items():
        if not isinstance(provider, HasLeftovers):
            continue
        started, wait, told = clock(), FIRST_PAUSE, ""
        still = StillWaiting(progress, clock)
        while True:
            try:
                waiting = provider.sweep()
            except ProviderError as error:
                waiting = [str(error)]
            if not waiting:
                break
            if clock() - started > patience:
                raise ClusterctlError(
                    f"no instance is left, but provider {name} could not remove everything else within {patience:g} s: "
                    f"{'; '.join(waiting)}. Mend the cause and run `clusterctl down` again"
                )
            text = "; ".join(waiting)
            if text != told:
                progress(f"no instance is left; {text}")
            told = text
            still.look(f"{name} to let go what is left: {text}")
            pause(wait)
            wait = min(wait * 2, LONGEST_PAUSE)


def _terminate(journal: Journal, watcher: Watcher, providers: Mapping[str, Provider], left: set[str]) -> list[str]:
    """Calls terminate once per provider; returns the sentences of those that failed."""
    troubles: list[str] = []
    for name, provider in providers.items():
        ids = sorted(i for i in left if watcher.provider_of(i, "") == name)
        if not ids:
            continue
        journal.check_fence()
        try:
            provider.terminate(ids)
        except Exception as error:
            troubles.append(f"provider {name} could not end {', '.join(ids)}: {error or type(error).__name__}")
    return troubles


def _journal_ends(journal: Journal, now: float) -> None:
    with journal.together():
        for node in journal.nodes().values():
            if node.state not in _SPARED:
                journal.move(node.id, "terminate", now, "the cluster is being taken down", "down")


def _journal_gone(journal: Journal, now: float) -> None:
    """No instance is left, so no record may be: this holds for quarantined ones as well."""
    with journal.together():
        for node in journal.nodes().values():
            journal.bury(node.id, now, "the providers list nothing of this cluster any more", "down")


def _tell(progress: Callable[[str], None], left: set[str], troubles: list[str], told: str, patience: float) -> str:
    """Says what is left, once per change."""
    parts = sorted(set(troubles))
    if parts:
        parts[-1] += f" (trying again for {patience:g} s)"
    if left or not parts:
        parts.insert(0, f"{len(left)} instances left" if left else "nothing left, looking once more")
    text = "; ".join(parts)
    if text != told:
        progress(text)
    return text
