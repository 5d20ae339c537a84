"""What the caller may do at a scope, as Azure itself counts it up: all roles that reach there, with wildcards and exceptions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from clusterctl.core.errors import ProviderError
from clusterctl_providers.azure.calls import Calls
from clusterctl_providers.azure.errors import is_missing
from clusterctl_providers.azure.rights.wildcards import Allowed
from clusterctl_providers.azure.roles import NAMES, actions_of, role_name


def held_at(calls: Calls, scope: str) -> Allowed:
    """`scope`: the id of a subscription, a resource group or a resource. Raises ProviderError where it is not there."""
    rows: Sequence[Mapping[str, Any]] = calls.list(
        f"{scope}/providers/Microsoft.Authorization/permissions", f"asking what we may do in {scope}"
    )
    return Allowed(rows)


def is_unknown_scope(error: ProviderError) -> bool:
    return is_missing(error)


def role_with(action: str) -> str:
    """The first of ours that has it."""
    return next((name for name in NAMES if action in actions_of(name)), NAMES[0])


def how_to_get(calls: Calls, action: str, scope: str) -> str:
    """A sentence for who lacks it there."""
    name, subscription = role_with(action), "/".join(scope.split("/")[:3])
    called = role_name(name, calls.subscription)
    who = calls.principal or "OBJECT_ID"
    return (
        f"{calls.caller} may not do {action} in {scope}: have the role {called!r} made (`python -m "
        f"clusterctl_providers.azure.roles {name} --subscription {last(subscription)} > {name}.json`, `az role definition create "
        f"--role-definition @{name}.json`) and given: `az role assignment create --assignee {who} --role {called!r} "
        f"--scope {scope}`"
    )


def last(id_: str) -> str:
    return id_.rpartition("/")[2]
