"""Instances that a list lacks are asked for by id before anybody believes that they are gone.

A list can be short of a page and not know it; a question for one instance cannot. So a list that calls itself complete is
compared with what it ought to show, and where an instance lives that it does not show, the list is not complete.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace

from clusterctl_providers.base import Provider

from clusterctl.core.model import Instance, Observed


@dataclass(frozen=True)
class Expected:
    """An instance that the lists of a provider should show. `scope` is where it was shown last, "" where it never was;
    `since`: when its record entered its state; `ending`: its end was asked for, so that nobody wonders at it."""

    id: str
    scope: str = ""
    since: float = 0.0
    ending: bool = False


def compared(
    name: str, provider: Provider, listed: Sequence[Observed], expected: Mapping[str, Expected], uid: str, now: float
) -> tuple[Observed, ...]:
    """`listed` with what it lacks. An instance without our uid is not ours any more, and stays unseen."""
    shown = {instance.id for scope in listed for instance in scope.instances}
    whole = {scope.scope for scope in listed if scope.complete}
    every = len(whole) == len(listed)
    missing = [
        expected[i]
        for i in sorted(expected.keys() - shown)
        if expected[i].scope in whole or (not expected[i].scope and every)
    ]
    if not missing or not listed:
        return tuple(listed)
    try:
        found = provider.look_up([one.id for one in missing])
    except Exception as error:
        return _in_doubt(listed, missing, error or type(error).__name__)
    ours = [found[one.id] for one in missing if one.id in found and found[one.id].uid == uid]
    return _amended(name, listed, missing, ours, now - provider.settle_seconds)


def living(provider: Provider, uid: str, instance_ids: Collection[str]) -> tuple[Instance, ...]:
    """Those that live and carry the uid. Raises ProviderError."""
    found = provider.look_up(sorted(instance_ids)) if instance_ids else {}
    return tuple(i for _, i in sorted(found.items()) if i.uid == uid and i.state != "terminated")


def _in_doubt(listed: Sequence[Observed], missing: Sequence[Expected], error: object) -> tuple[Observed, ...]:
    scopes = {one.scope for one in missing}
    text = f"the list lacks {_names([one.id for one in missing])}, and asking for that by id failed: {error}"
    return tuple(
        replace(scope, complete=False, error=text) if scope.scope in scopes or "" in scopes else scope
        for scope in listed
    )


def _amended(
    name: str, listed: Sequence[Observed], missing: Sequence[Expected], ours: Sequence[Instance], settled: float
) -> tuple[Observed, ...]:
    """Ended ones are shown once, with the provider's reason, unless it was we who ended them. One that has just been launched
    or changed may be missing in a list that merely lags behind (`settled`: what changed before that does not)."""
    known = {one.id: one for one in missing}
    first = listed[0].scope
    names = {scope.scope for scope in listed}
    into: dict[str, list[Instance]] = {}
    faulty: dict[str, list[str]] = {}
    for instance in ours:
        one = known[instance.id]
        if instance.state == "terminated" and one.ending:
            continue
        scope = one.scope or (instance.zone if instance.zone in names else first)
        into.setdefault(scope, []).append(instance)
        if instance.state != "terminated" and one.since < settled:
            faulty.setdefault(scope, []).append(instance.id)
    return tuple(_with(name, scope, into.get(scope.scope, []), faulty.get(scope.scope, [])) for scope in listed)


def _with(name: str, scope: Observed, more: Sequence[Instance], faulty: Sequence[str]) -> Observed:
    amended = replace(scope, instances=(*scope.instances, *more)) if more else scope
    if not faulty:
        return amended
    text = f"the list of {scope.scope} lacks {_names(faulty)}, which {name} shows when asked by id: a part of the list is missing"
    return replace(amended, complete=False, recorded=True, error=text)


def _names(instance_ids: Sequence[str]) -> str:
    more = f" and {len(instance_ids) - 3} more" if len(instance_ids) > 3 else ""
    return ", ".join(instance_ids[:3]) + more
