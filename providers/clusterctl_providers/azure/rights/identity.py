"""The managed identities of a cluster's machines: named by the user, else made for this cluster in its resource group, and
removed by `sweep`.

The head's own has the subscription's role `head` at the resource group, and at each thing elsewhere that the settings name
(`scopes`); and `lookup` at the subscription, to see what Azure sells there. Every step may be repeated after a crash.
"""

from __future__ import annotations

import logging
import re
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from clusterctl_runtime.backoff import Backoff

from clusterctl.core.errors import AuthFailed, ProviderError, UnknownOutcome
from clusterctl_providers.azure.calls import Calls
from clusterctl_providers.azure.errors import code_behind, is_forbidden, is_missing
from clusterctl_providers.azure.network.group import ResourceGroup
from clusterctl_providers.azure.network.owner import Owner, owner_of
from clusterctl_providers.azure.rights.assignments import Assignment, Assignments
from clusterctl_providers.azure.rights.definitions import Definitions
from clusterctl_providers.azure.roles import role_name
from clusterctl_providers.azure.versions import types_in
from clusterctl_providers.cloud.listing import SETTLES
from clusterctl_providers.cloud.naming import OURS, made_name
from clusterctl_providers.cloud.removal import removed

log = logging.getLogger(__name__)

AUTO = "auto"  # worker_identity: make one
LONGEST_NAME = 128
_NAMED = {  # settings -> the types of what they name: not under the cluster's group, the head needs its role there as well
    "network": "Microsoft.Network/virtualNetworks",
    "subnet": "Microsoft.Network/virtualNetworks",
    "security_group": "Microsoft.Network/networkSecurityGroups",
    "disk_encryption_set": "Microsoft.Compute/diskEncryptionSets",
    "worker_identity": "Microsoft.ManagedIdentity/userAssignedIdentities",
}
# Azure's own roles, for things of other subscriptions, where ours cannot be given: to read, to attach an identity.
READER, ATTACHES = "acdd72a7-3385-48ef-bd42-f606fba81ae7", "f1a07417-d97a-45cb-824c-7a7467783830"
_NOTE = re.compile(rf"{OURS}: the head of (?P<cluster>\S+) (?P<uid>\S+) in (?P<region>\S+)")
_TYPE = "Microsoft.ManagedIdentity/userAssignedIdentities"


class Identity:
    """Managed identities by their ids, "" for none. Thread-safe; asks Azure once per process. `elsewhere`: ids of what the pools
    name (images, reservations), which the head has to reach too."""

    def __init__(
        self,
        calls: Calls,
        settings: Mapping[str, Any],
        group: ResourceGroup,
        elsewhere: Sequence[str] = (),
        *,
        clock: Callable[[], float] = time.monotonic,
        pause: Callable[[float], None] = time.sleep,
    ) -> None:
        self._calls, self._settings, self._group, self._elsewhere = calls, settings, group, elsewhere
        self._clock, self._pause = clock, pause
        self._definitions = Definitions(calls)
        self._assignments = Assignments(calls, clock, pause)
        self._made: dict[str, str] = {}  # kind -> id
        self._lock = threading.RLock()

    @property
    def _owner(self) -> Owner:
        return self._group.owner()

    def id_of(self, kind: str) -> str:
        """That of "head" or "worker" that is ours, made or not."""
        name = made_name(self._owner.cluster, self._owner.uid, kind, longest=LONGEST_NAME)
        return self._group.path("Microsoft.ManagedIdentity", "userAssignedIdentities", name)

    def head_identity(self) -> str:
        """The setting `identity`, else one of the cluster's own, made where it is missing; "" where no machine is the head."""
        return self._given("identity") or ("" if self._settings.get("head_address") else self._own("head"))

    def worker_identity(self) -> str:
        """The setting `worker_identity`; with `auto` one of the cluster's own, which may nothing until the user gives it roles;
        else none. Whoever may not make it, as a head, takes it for made: `renew` makes it."""
        if not self._makes_worker:
            return self._given("worker_identity")
        try:
            return self._own("worker")
        except AuthFailed as error:
            if not is_forbidden(error):
                raise
            return self.id_of("worker")

    def attached(self, *, head: bool) -> str:
        """What a machine gets."""
        return self.head_identity() if head else self.worker_identity()

    @property
    def heads_login(self) -> str:
        """The id of what the head logs in with, for `Login`; nobody is asked."""
        if self._settings.get("head_address"):
            return ""
        return self._given("identity") or self.id_of("head")

    def is_ours(self, id_: str) -> bool:
        """By its id alone: Azure is not asked."""
        return id_.lower() in (self.id_of("head").lower(), self.id_of("worker").lower())

    def renew(self) -> None:
        """What a running head needs of a client: it may make no identity, and give itself no role."""
        if self._makes_head:
            self._own("head")
        if self._makes_worker:
            self._own("worker")

    @property
    def makes_some(self) -> bool:
        """Whether the settings leave an identity to us."""
        return self._makes_head or self._makes_worker

    @property
    def _makes_head(self) -> bool:
        return not self._settings.get("identity") and not self._settings.get("head_address")

    @property
    def _makes_worker(self) -> bool:
        return self._settings.get("worker_identity") == AUTO

    # ------------------------------------------------------------ made

    def _given(self, setting: str) -> str:
        name = str(self._settings.get(setting) or "")
        if name.startswith("/") or name in ("", AUTO):
            return "" if name == AUTO else name
        return self._group.path(*_TYPE.split("/"), name)

    def _own(self, kind: str) -> str:
        with self._lock:
            if kind not in self._made:
                try:
                    self._made[kind] = self._ensure(kind)
                except AuthFailed as error:
                    raise self._with_another_way(error, kind) from error.__cause__ or error
            return self._made[kind]

    def _with_another_way(self, error: AuthFailed, kind: str) -> AuthFailed:
        if not is_forbidden(error):
            return error
        setting = "identity" if kind == "head" else "worker_identity"
        return AuthFailed(
            f"{error}. Or have an identity made once, and name it: `provider: {{azure: {{{setting}: ...}}}}` (docs/azure.md)"
        )

    def _ensure(self, kind: str) -> str:
        id_ = self.id_of(kind)
        found = self._find(id_)
        if found is None:
            self._group.ensure()
            found = self._create(kind, id_)
        if kind == "head":
            self._let_head(self._principal(found, id_))
        return id_

    def _create(self, kind: str, id_: str) -> dict[str, Any]:
        what = f"making the managed identity {_name(id_)}"
        body = {"location": self._calls.region, "tags": self._group.tags()}
        found = self._calls.ask("PUT", id_, what, body)
        return found if _principal_in(found) else self._await(id_, what)

    def _await(self, id_: str, what: str) -> dict[str, Any]:
        """Azure may not show for some seconds what it has just made."""
        backoff = Backoff(0.5, 5.0, seconds=SETTLES, clock=self._clock, sleep=self._pause)
        while True:
            found = self._find(id_)
            if found is not None and _principal_in(found):
                return found
            if not backoff.wait():
                raise ProviderError(f"{what}: Azure does not show it after {SETTLES:g} s; run it again")

    def _principal(self, found: Mapping[str, Any], id_: str) -> str:
        return _principal_in(found) or _principal_in(self._await(id_, f"looking for the managed identity {_name(id_)}"))

    def _find(self, id_: str) -> dict[str, Any] | None:
        """The identity if it is ours; None when there is none. Raises NotOurs when it is someone else's."""
        try:
            found = self._calls.get(id_, f"looking for the managed identity {_name(id_)}")
        except ProviderError as error:
            if is_missing(error):
                return None
            raise
        self._owner.check(found, f"a managed identity {_name(id_)}")
        return found

    # ------------------------------------------------------------ what a head may

    def _let_head(self, principal: str) -> None:
        """`lookup` last: whoever lacks the right to give roles is told first of the group, where he may have it."""
        head = self._definitions.ensure("head")
        for scope in self.scopes():
            role, called = self._role_for(scope, head)
            self._assignments.give(Assignment(scope, principal, role, self._note), called)
        lookup = Assignment(self._calls.path(), principal, self._definitions.ensure("lookup"), self._note)
        self._assignments.give(lookup, role_name("lookup", self._calls.subscription))

    def scopes(self) -> list[str]:
        """Ids of all that the head's machine has to reach: the cluster's group, and what lies elsewhere."""
        group = self._group.path()
        pools = [id_ for id_ in self._elsewhere if id_.startswith("/") and not _is_in(id_, group)]
        return [group, *foreign_things(self._settings, group), *dict.fromkeys(pools)]

    def _role_for(self, scope: str, head: str) -> tuple[str, str]:
        """(guid, name) of what the head gets there."""
        ours = self._calls.path().lower()
        if f"{scope.lower()}/".startswith(f"{ours}/"):
            return head, role_name("head", self._calls.subscription)
        if "/".join(types_in(scope)).lower() == _TYPE.lower():
            return ATTACHES, "Managed Identity Operator"
        return READER, "Reader"

    @property
    def _note(self) -> str:
        return _note(self._owner, self._calls.region)

    # ------------------------------------------------------------ and removed

    def sweep(self) -> list[str]:
        """Removes what was made for this cluster. Returns a sentence for each thing that has to wait."""
        try:
            with self._lock:
                ours = {
                    kind: found for kind in ("head", "worker") if (found := self._find(self.id_of(kind))) is not None
                }
                waiting = self._withdraw(there="head" in ours)
                if not waiting:
                    waiting = [sentence for found in ours.values() for sentence in self._remove(str(found["id"]))]
                self._made.clear()
        except AuthFailed as error:
            if not is_forbidden(error) or self.makes_some:
                raise
            log.info("%s; this cluster makes no identity", error)
            return []
        return waiting

    def _withdraw(self, *, there: bool) -> list[str]:
        """The head's roles first: they would stay without it, as those of an unknown identity. `there`: it is, so that who may
        not look for its roles cannot remove it either."""
        ids: dict[str, None] = {}
        ours = self._calls.path()
        places = [ours, *(scope for scope in self.scopes() if not scope.lower().startswith(f"{ours}/".lower()))]
        for place in places:
            try:
                ids |= dict.fromkeys(self._assignments.noted(place, self._note))
            except AuthFailed as error:
                if place != ours:
                    if there and place == self._group.path():
                        raise
                    log.info("%s; roles that were given there are not seen", error)
                    continue
                places += [scope for scope in self.scopes() if scope not in places]
        return [sentence for id_ in ids for sentence in self._assignments.take_away(id_)]

    def _remove(self, id_: str) -> list[str]:
        thing = f"the managed identity {_name(id_)}"
        return removed(
            lambda: self._calls.run("DELETE", id_, f"removing {thing}"),
            thing,
            is_missing,
            lambda error: isinstance(error, UnknownOutcome),
        )

    def clusters(self) -> list[tuple[str, str]]:
        """(cluster, uid) of every identity that was made for a cluster of this region, and of every role that was given to one;
        none where we may not look."""
        found: set[tuple[str, str]] = set()
        for look in (self._owners, self._noted):
            try:
                found |= set(look())
            except AuthFailed as error:
                log.info("%s; clusters of which only an identity or its roles are left are not seen", error)
        return sorted(found)

    def _owners(self) -> Iterator[tuple[str, str]]:
        path = self._calls.path(*_TYPE.split("/"))
        for row in self._calls.list(path, "looking for managed identities of clusters"):
            owner = owner_of(row)
            if owner is not None and str(row.get("location") or "").lower() == self._calls.region:
                yield owner.cluster, owner.uid

    def _noted(self) -> Iterator[tuple[str, str]]:
        for note in self._assignments.notes():
            found = _NOTE.fullmatch(note)
            if found and found["region"] == self._calls.region:
                yield found["cluster"], found["uid"]


def _note(owner: Owner, region: str) -> str:
    return f"{OURS}: the head of {owner.cluster} {owner.uid} in {region}"


def is_unseen(error: ProviderError) -> bool:
    """Compute does not know an identity (yet)."""
    text = str(error).lower()
    return code_behind(error) in (
        "FailedIdentityOperation",
        "InvalidResourceReference",
        "ResourceNotFound",
        "LinkedInvalidPropertyId",
    ) and ("identity" in text or "userassignedidentities" in text)


def foreign_things(settings: Mapping[str, Any], group: str) -> dict[str, str]:
    """Ids of what the settings name outside the group (an id as well), with their types."""
    named = {_thing(str(settings.get(key) or ""), kind): kind for key, kind in _NAMED.items()}
    return {id_: kind for id_, kind in named.items() if id_ and not _is_in(id_, group)}


def _is_in(id_: str, group: str) -> bool:
    return id_.lower().startswith(f"{group.lower()}/resourcegroups/" if group.count("/") == 2 else f"{group.lower()}/")


def _thing(id_: str, kind: str) -> str:
    """What the role is given at: a subnet's network, since it is looked at too. "" for a name alone, which is in the group."""
    if kind.endswith("virtualNetworks") and "/subnets/" in id_.lower():
        return id_[: id_.lower().index("/subnets/")]
    return id_ if id_.startswith("/") else ""


def _name(id_: str) -> str:
    return id_.rpartition("/")[2]


def _principal_in(row: Mapping[str, Any]) -> str:
    return str((row.get("properties") or {}).get("principalId") or "")
