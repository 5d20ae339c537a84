"""What the caller may do at a scope, as Azure itself counts it up: all roles that reach there, with wildcards and exceptions."""

from __future__ import annotations

from clusterctl_providers.azure.calls import Calls, last_part
from clusterctl_providers.azure.rights.wildcards import Allowed
from clusterctl_providers.azure.roles import NAMES, actions_of, role_name


def held_at(calls: Calls, scope: str) -> Allowed:
    """`scope`: the id of a subscription, a resource group or a resource. Raises ProviderError where it is not there."""
    return Allowed(
        calls.list(f"{scope}/providers/Microsoft.Authorization/permissions", f"asking what we may do in {scope}")
    )


def role_with(action: str) -> str:
    """The first of ours that has it."""
    return next(name for name in NAMES if action in actions_of(name))


def how_to_get(calls: Calls, action: str, scope: str) -> str:
    """A sentence for who lacks it there."""
    name = role_with(action)
    called, home = role_name(name, calls.subscription), last_part("/".join(scope.split("/")[:3]))
    return (
        f"{calls.caller} may not do {action} in {scope}: have the role {called!r} given to it (`az role assignment create "
        f"--assignee {calls.principal or 'OBJECT_ID'} --role {called!r} --scope {scope}`); where there is no such role yet, it "
        f"is made by `python -m clusterctl_providers.azure.roles {name} --subscription {home} > {name}.json` and `az role "
        f"definition create --role-definition @{name}.json`"
    )
