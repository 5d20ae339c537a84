"""The service accounts of a cluster's machines: named by the user, else made for this cluster, and removed by `sweep`.

What is made says in its description whose it is, so that an account of another cluster is never touched. The head's has the
project's role `head` under a condition that binds it to this cluster's names (`roles.bound_to`). Every step may be repeated
after a crash.
"""

from __future__ import annotations

import logging
import re
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from clusterctl_runtime.backoff import Backoff

from clusterctl.core.errors import AuthFailed, BadRequest, ProviderError
from clusterctl_providers.cloud.listing import SETTLES
from clusterctl_providers.cloud.naming import OURS, UID_PART
from clusterctl_providers.cloud.removal import removed
from clusterctl_providers.gcp.calls import Calls
from clusterctl_providers.gcp.errors import is_missing, is_taken, status_behind
from clusterctl_providers.gcp.network.owner import Owner, owner_of
from clusterctl_providers.gcp.rights.policies import Grant, Policy
from clusterctl_providers.gcp.roles import bound_to, permissions_of, render_role, role_id

log = logging.getLogger(__name__)

AUTO = "auto"  # worker_service_account: make one
PAGE = 100  # the most that IAM puts on one
USER = "roles/iam.serviceAccountUser"  # whoever has it on an account may start machines with it
_UNSEEN = re.compile(r"service ?account.*(does not exist|was not found|not found)", re.IGNORECASE | re.DOTALL)
# What a token of an instance is good for at all; its roles say what it may. The head asks for machines and prices.
HEAD_SCOPES = (
    "https://www.googleapis.com/auth/compute",
    "https://www.googleapis.com/auth/cloud-billing.readonly",
)
WORKER_SCOPES = ("https://www.googleapis.com/auth/cloud-platform",)  # the roles that the user gives it are the limit


class Identity:
    """Service accounts by their e-mail addresses, "" for none. Thread-safe; asks IAM once per process."""

    def __init__(
        self,
        calls: Calls,
        settings: Mapping[str, Any],
        cluster: str,
        uid: str,
        *,
        clock: Callable[[], float] = time.monotonic,
        pause: Callable[[float], None] = time.sleep,
    ) -> None:
        self._calls, self._settings = calls, settings
        self._cluster, self._uid = cluster, uid
        self._clock, self._pause = clock, pause
        self._made: dict[str, str] = {}  # kind -> e-mail address
        self._lock = threading.RLock()

    @property
    def _owner(self) -> Owner:
        return Owner(self._cluster, self._uid, self._calls.region)

    def name_of(self, kind: str) -> str:
        """The account of "head" or "worker" that is ours; Google gives it 30 characters."""
        return f"{OURS}-{self._uid[:UID_PART]}-{kind}"

    def head_account(self) -> str:
        """The setting `service_account`, else one of the cluster's own, made where it is missing."""
        return self._given("service_account") or ("" if self._settings.get("head_address") else self._own("head"))

    def worker_account(self) -> str:
        """The setting `worker_service_account`; with `auto` one of the cluster's own, which may nothing until the user gives
        it roles; else none. Whoever may not look for it, as a head, takes it for made: `renew` makes it."""
        if not self._makes_worker:
            return self._given("worker_service_account")
        try:
            return self._own("worker")
        except AuthFailed as error:
            if status_behind(error) != 403:
                raise
            return self._email(self.name_of("worker"))

    def attached(self, *, head: bool) -> list[dict[str, Any]]:
        """The `serviceAccounts` of an instance."""
        email = self.head_account() if head else self.worker_account()
        return [{"email": email, "scopes": list(HEAD_SCOPES if head else WORKER_SCOPES)}] if email else []

    def is_ours(self, email: str) -> bool:
        """By its name alone: Google is not asked."""
        return email.partition("@")[0] in (self.name_of("head"), self.name_of("worker"))

    def renew(self) -> None:
        """What a running head needs of a client: it may make no account, and give itself no role."""
        if self._makes_head:
            self._own("head")
        if self._makes_worker:
            self._own("worker")

    @property
    def makes_some(self) -> bool:
        """Whether the settings leave an account to us."""
        return self._makes_head or self._makes_worker

    @property
    def _makes_head(self) -> bool:
        return not self._settings.get("service_account") and not self._settings.get("head_address")

    @property
    def _makes_worker(self) -> bool:
        return self._settings.get("worker_service_account") == AUTO

    # ------------------------------------------------------------ made

    def _given(self, setting: str) -> str:
        name = str(self._settings.get(setting) or "")
        return name if "@" in name or not name else self._email(name)

    def _own(self, kind: str) -> str:
        with self._lock:
            if kind not in self._made:
                try:
                    self._made[kind] = self._ensure(kind)
                except AuthFailed as error:
                    raise self._with_another_way(error, kind) from error.__cause__ or error
            return self._made[kind]

    def _with_another_way(self, error: AuthFailed, kind: str) -> AuthFailed:
        setting = "service_account" if kind == "head" else "worker_service_account"
        if status_behind(error) != 403:
            return error
        return AuthFailed(
            f"{error}. Or have an account made once, and name it: `provider: {{gcp: {{{setting}: ...}}}}` (docs/gcp.md)"
        )

    def _ensure(self, kind: str) -> str:
        email = self._email(self.name_of(kind))
        if self._find(email) is None:
            self._create(kind, email)
        if kind == "head":
            grant = Grant(self._ensure_role(), f"serviceAccount:{email}", bound_to(self._uid))
            self._policy(f"projects/{self._calls.project}").grant(grant)
            self._introduce(email, self._own("worker") if self._makes_worker else self._given("worker_service_account"))
        elif not self._makes_head:
            self._introduce(self._given("service_account"), email)
        return email

    def _introduce(self, head: str, worker: str) -> None:
        """The head may start machines with the workers' account."""
        if head and worker:
            self._policy(self._path(worker)).grant(Grant(USER, f"serviceAccount:{head}"))

    def _create(self, kind: str, email: str) -> None:
        shown = {"displayName": f"{kind} of {self._cluster} (clusterctl)"[:100], "description": self._owner.note}
        body = {"accountId": self.name_of(kind), "serviceAccount": shown}
        what = f"making the service account {email}"
        try:
            self._calls.ask("POST", f"v1/projects/{self._calls.project}/serviceAccounts", what, body, "iam")
        except ProviderError as error:
            if not is_taken(error):  # an earlier try whose answer was lost, or another process
                raise
        self._await(email, what)

    def _await(self, email: str, what: str) -> None:
        """IAM may not show for some seconds what it has just made."""
        backoff = Backoff(0.2, 5.0, seconds=SETTLES, clock=self._clock, sleep=self._pause)
        while self._find(email) is None:
            if not backoff.wait():
                raise ProviderError(f"{what}: IAM does not show it after {SETTLES:g} s; run it again")

    def _find(self, email: str) -> dict[str, Any] | None:
        """The account if it is ours; None when there is none. Raises NotOurs when it is someone else's."""
        try:
            found = self._calls.get(self._v1(email), f"looking for the service account {email}", "iam")
        except BadRequest as error:
            if is_missing(error):
                return None
            raise
        self._owner.check(found, f"a service account {email}")
        return found

    def _ensure_role(self) -> str:
        """The project's role for heads: one for all clusters, since the name of a role that was deleted is taken for weeks.
        What it lacks is added; nothing is taken from it, which another version of clusterctl may need."""
        name = f"projects/{self._calls.project}/roles/{role_id('head')}"
        what, wanted = f"making the role {name}", render_role("head")
        try:
            found = self._calls.get(f"v1/{name}", f"looking for the role {name}", "iam")
        except BadRequest as error:
            if not is_missing(error):
                raise
            body = {"roleId": role_id("head"), "role": wanted}
            try:
                self._calls.ask("POST", f"v1/projects/{self._calls.project}/roles", what, body, "iam")
            except ProviderError as refused:
                if not is_taken(refused):
                    raise
            return name
        if found.get("deleted"):
            self._calls.ask("POST", f"v1/{name}:undelete", f"bringing the role {name} back", {}, "iam")
        has = frozenset(found.get("includedPermissions") or ())
        if not permissions_of("head") <= has:
            more = {"includedPermissions": sorted(has | permissions_of("head"))}
            self._calls.ask(
                "PATCH", f"v1/{name}", f"adding to the role {name}", more, "iam", updateMask="includedPermissions"
            )
        return name

    # ------------------------------------------------------------ and removed

    def sweep(self) -> list[str]:
        """Removes what was made for this cluster. Returns a sentence for each thing that has to wait."""
        emails = [self._email(self.name_of(kind)) for kind in ("head", "worker")]
        try:
            with self._lock:
                ours = [email for email in emails if self._find(email) is not None]
                if emails[0] in ours:
                    self._withdraw(emails[0])
                waiting = [sentence for email in ours for sentence in self._remove(email)]
                self._made.clear()
        except AuthFailed as error:
            if status_behind(error) != 403 or self.makes_some:
                raise
            log.info("%s; this cluster makes no service account", error)
            return []
        return waiting

    def _withdraw(self, head: str) -> None:
        """The head's roles first: an account that is gone would stay in them by a number."""
        member = f"serviceAccount:{head}"
        self._policy(f"projects/{self._calls.project}").withdraw(member)
        workers = "" if self._makes_worker else self._given("worker_service_account")
        if not workers:
            return
        try:
            self._policy(self._path(workers)).withdraw(member)
        except BadRequest as error:
            if not is_missing(error):  # the user has removed it
                raise

    def _remove(self, email: str) -> list[str]:
        thing = f"the service account {email}"
        return removed(
            lambda: self._calls.ask("DELETE", self._v1(email), f"removing {thing}", service="iam"), thing,
            is_missing, lambda error: False,
        )  # fmt: skip

    def clusters(self) -> list[tuple[str, str]]:
        """(cluster, uid) of every account that was made for a cluster of this region; none where we may not look."""
        found: set[tuple[str, str]] = set()
        try:
            for account in self._list():
                owner = owner_of(account)
                if owner is not None and owner.region == self._calls.region:
                    found.add((owner.cluster, owner.uid))
        except AuthFailed as error:
            log.info("%s; clusters of which only a service account is left are not seen", error)
        return sorted(found)

    def _list(self) -> Iterator[dict[str, Any]]:
        what = "looking for service accounts of clusters"
        path = f"v1/projects/{self._calls.project}/serviceAccounts"
        for page in self._calls.pages(path, what, "iam", pageSize=PAGE):
            yield from page.get("accounts") or ()

    # ------------------------------------------------------------ names

    def _policy(self, resource: str) -> Policy:
        return Policy(self._calls, resource, clock=self._clock, pause=self._pause)

    def _path(self, email: str) -> str:
        """Of an account, which may be another project's."""
        return f"projects/-/serviceAccounts/{email}"

    def _v1(self, email: str) -> str:
        return f"v1/projects/{self._calls.project}/serviceAccounts/{email}"

    def _email(self, name: str) -> str:
        """A project of an old domain, such as example.com:lab, is turned round in it."""
        domain, _, project = self._calls.project.rpartition(":")
        return f"{name}@{project}{'.' + domain if domain else ''}.iam.gserviceaccount.com"


def is_unseen(error: ProviderError) -> bool:
    """Compute Engine does not know a service account (yet)."""
    return isinstance(error, BadRequest) and _UNSEEN.search(str(error)) is not None
