"""Who has which role at which scope. An assignment has a name that follows from these three, so that a repeated one is the same.

An assignment outlives its principal, as one of "identity not found": it is taken away before it, or known again by its
description.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from clusterctl_runtime.backoff import Backoff

from clusterctl.core.errors import AuthFailed, BadRequest, ProviderError, UnknownOutcome
from clusterctl_providers.azure.calls import Calls, last_part
from clusterctl_providers.azure.errors import code_behind, is_missing, is_taken
from clusterctl_providers.azure.rights.definitions import is_unknown
from clusterctl_providers.cloud.listing import SETTLES
from clusterctl_providers.cloud.removal import removed

_UNSEEN = "PrincipalNotFound"  # the directory does not know everywhere yet what was just made


@dataclass(frozen=True)
class Assignment:
    """`role` is a guid, `note` what the description says."""

    scope: str
    principal: str
    role: str
    note: str = ""

    @property
    def name(self) -> str:
        """A guid: the same for the same three."""
        return str(uuid.uuid5(uuid.NAMESPACE_URL, f"clusterctl/{self.scope}/{self.principal}/{self.role}".lower()))


class Assignments:
    def __init__(
        self,
        calls: Calls,
        clock: Callable[[], float] = time.monotonic,
        pause: Callable[[float], None] = time.sleep,
    ) -> None:
        self._calls, self._clock, self._pause = calls, clock, pause

    def give(self, wanted: Assignment, role_name: str) -> None:
        """Waits for a principal or a role that Azure does not know everywhere yet; what is there already, whoever made it, is
        enough."""
        if self._is_there(wanted):
            return
        what = f"giving the role {role_name!r} on {wanted.scope} to {wanted.principal}"
        properties = {
            "roleDefinitionId": f"{_subscription(wanted.scope)}/providers/Microsoft.Authorization/roleDefinitions/{wanted.role}",
            "principalId": wanted.principal,
            "principalType": "ServicePrincipal",
            "description": wanted.note,
        }
        backoff = Backoff(0.5, 5.0, seconds=SETTLES, clock=self._clock, sleep=self._pause)
        while True:
            try:
                self._calls.change("PUT", f"{_base(wanted.scope)}/{wanted.name}", what, {"properties": properties})
                return
            except AuthFailed as error:
                raise self._by_hand(error, wanted, role_name) from error.__cause__ or error
            except ProviderError as error:
                if is_taken(error):
                    return
                may_pass = code_behind(error) == _UNSEEN or is_unknown(error) or not isinstance(error, BadRequest)
                if not may_pass or not backoff.wait():
                    raise

    def _is_there(self, wanted: Assignment) -> bool:
        """Whoever may not look is told by the next call whether he may give it."""
        try:
            rows = self._of(wanted.scope, wanted.principal)
        except AuthFailed:
            return False
        return any(_covers(_properties(row), wanted) for row in rows)

    def _of(self, scope: str, principal: str) -> list[dict[str, Any]]:
        """What the principal has there, above and below."""
        what = f"looking for the roles of {principal}"
        return self._calls.list(_base(scope), what, _filter=f"principalId eq '{principal}'")

    def _by_hand(self, error: AuthFailed, wanted: Assignment, role_name: str) -> AuthFailed:
        return AuthFailed(
            f"{error}. Or have whoever may do so give it once, then run this again: `az role assignment create "
            f"--assignee-object-id {wanted.principal} --assignee-principal-type ServicePrincipal --role {role_name!r} --scope "
            f"{wanted.scope}`"
        )

    # ------------------------------------------------------------ and taken away

    def noted(self, scope: str, note: str) -> list[str]:
        """Ids of those at the scope and below with just this description. Raises AuthFailed for who may not look."""
        what = f"looking for roles that were given on {scope} for this cluster"
        rows = self._calls.list(_base(scope), what)
        inside = [row for row in rows if f"{row['id']}".lower().startswith(f"{scope}/".lower())]
        return [str(row["id"]) for row in inside if _properties(row).get("description") == note]

    def notes(self) -> list[str]:
        """The descriptions of all in the subscription."""
        rows = self._calls.list(_base(self._calls.path()), "looking for roles that were given for clusters")
        return [str(_properties(row).get("description") or "") for row in rows]

    def take_away(self, id_: str) -> list[str]:
        """Sentences of what has to wait."""
        thing = f"the role assignment {id_}"
        return removed(
            lambda: self._calls.change("DELETE", id_, f"removing {thing}"),
            thing,
            is_missing,
            lambda error: isinstance(error, UnknownOutcome),
        )


def _covers(has: Mapping[str, Any], wanted: Assignment) -> bool:
    """What somebody has given at the scope itself, or above it."""
    scope, role = str(has.get("scope") or "").rstrip("/").lower(), last_part(str(has.get("roleDefinitionId")))
    return role.lower() == wanted.role.lower() and f"{wanted.scope}/".lower().startswith(f"{scope}/")


def _subscription(scope: str) -> str:
    return "/".join(scope.split("/")[:3])


def _base(scope: str) -> str:
    return f"{scope}/providers/Microsoft.Authorization/roleAssignments"


def _properties(row: Mapping[str, Any]) -> dict[str, Any]:
    return dict(row.get("properties") or {})
