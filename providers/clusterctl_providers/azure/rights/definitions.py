"""The custom roles of a subscription that clusterctl gives to heads: looked up by name, made where they are missing.

One for all clusters of the subscription. `down` leaves them: others may use them, and they cost nothing (docs/adr/0521).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from clusterctl.core.errors import AuthFailed, BadRequest, ProviderError
from clusterctl_providers.azure.calls import Calls, last_part
from clusterctl_providers.azure.errors import code_behind, is_missing
from clusterctl_providers.azure.rights.wildcards import Allowed
from clusterctl_providers.azure.roles import actions_of, definition_of, role_guid, role_name

_SAME_NAME = "RoleDefinitionWithSameNameExists"


class Definitions:
    def __init__(self, calls: Calls) -> None:
        self._calls = calls

    def find(self, name: str) -> dict[str, Any] | None:
        """The role `name` of ours as Azure has it; None for none."""
        called = role_name(name, self._calls.subscription)
        rows = self._calls.list(self._path(), f"looking for the role {called!r}", _filter=f"roleName eq '{called}'")
        return next((row for row in rows if (row.get("properties") or {}).get("roleName") == called), None)

    def ensure(self, name: str) -> str:
        """Its guid. Makes it where it is missing, and adds what it lacks; nothing is taken from it, which another version of
        clusterctl may need."""
        found = self.find(name)
        if found is None:
            return self._make(name)
        lacking = sorted(actions_of(name) - _has(found, actions_of(name)))
        guid = last_part(str(found["name"] if "name" in found else found["id"]))
        if lacking:
            self._add(name, guid, found, lacking)
        return guid

    def _make(self, name: str) -> str:
        subscription = self._calls.subscription
        guid, called = role_guid(name, subscription), role_name(name, subscription)
        try:
            self._calls.ask("PUT", self._path(guid), f"making the role {called!r}", definition_of(name, subscription))
        except AuthFailed as error:
            raise self._by_hand(error, name, "create") from error.__cause__ or error
        except ProviderError as error:
            if code_behind(error) != _SAME_NAME:
                raise
            return self._made_meanwhile(name, error)
        return guid

    def _made_meanwhile(self, name: str, error: ProviderError) -> str:
        """By another `up`; or in another subscription of the tenant whose id begins alike, and cannot be given here."""
        found = self.find(name)
        if found is None:
            called = role_name(name, self._calls.subscription)
            raise BadRequest(
                f"{error}; add /subscriptions/{self._calls.subscription} to the AssignableScopes of {called!r} (`az role "
                "definition update`)"
            ) from error.__cause__
        return last_part(str(found["id"]))

    def _add(self, name: str, guid: str, found: Mapping[str, Any], lacking: list[str]) -> None:
        properties = dict(found["properties"])
        permissions = [dict(one) for one in properties.get("permissions") or ({"actions": []},)]
        permissions[0] = {**permissions[0], "actions": [*(permissions[0].get("actions") or ()), *lacking]}
        kept = {
            key: properties[key] for key in ("roleName", "type", "description", "assignableScopes") if key in properties
        }
        called = role_name(name, self._calls.subscription)
        try:
            what = f"adding to the role {called!r} ({', '.join(lacking)})"
            self._calls.ask("PUT", self._path(guid), what, {"properties": {**kept, "permissions": permissions}})
        except AuthFailed as error:
            raise self._by_hand(error, name, "update") from error.__cause__ or error

    def _by_hand(self, error: AuthFailed, name: str, verb: str) -> AuthFailed:
        subscription = self._calls.subscription
        return AuthFailed(
            f"{error}. Or have it done once by whoever may: `python -m clusterctl_providers.azure.roles {name} --subscription "
            f"{subscription} > {name}.json`, then `az role definition {verb} --role-definition @{name}.json`"
        )

    def _path(self, *guid: str) -> str:
        return self._calls.path("Microsoft.Authorization", "roleDefinitions", *guid)


def _has(found: Mapping[str, Any], wanted: frozenset[str]) -> frozenset[str]:
    allowed = Allowed(dict(found.get("properties") or {}).get("permissions") or ())
    return frozenset(action for action in wanted if allowed.has(action))


def is_unknown(error: ProviderError) -> bool:
    """A role that was just made, and is not known everywhere yet."""
    return code_behind(error) in ("RoleDefinitionDoesNotExist", "RoleDefinitionNotFound") or (
        is_missing(error) and "roledefinition" in str(error).lower()
    )
