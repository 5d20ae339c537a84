"""Who has which role on a project or a service account: policies are read, changed and written whole, by their etag.

Whoever writes one that somebody else has changed meanwhile is refused (409), and begins anew. Both ways may be repeated.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from clusterctl_runtime.backoff import Backoff

from clusterctl.core.errors import AuthFailed, BadRequest, ProviderError, Throttled, UnknownOutcome
from clusterctl_providers.cloud.listing import SETTLES
from clusterctl_providers.gcp.calls import Calls
from clusterctl_providers.gcp.errors import status_behind

_VERSION = 3  # of policies that have conditions
_GONE = "deleted:"  # stands before a member that does not exist any more


@dataclass(frozen=True)
class Grant:
    """`role` for `member` ("serviceAccount:..."), under a condition where there is one."""

    role: str
    member: str
    condition: Mapping[str, str] = field(default_factory=dict[str, str])


class Policy:
    """Of one resource: "projects/P", or "projects/P/serviceAccounts/E-MAIL"."""

    def __init__(
        self,
        calls: Calls,
        resource: str,
        *,
        clock: Callable[[], float] = time.monotonic,
        pause: Callable[[float], None] = time.sleep,
    ) -> None:
        self._calls, self._resource = calls, resource
        self._clock, self._pause = clock, pause

    def grant(self, grant: Grant) -> None:
        """Waits for a member that Google does not know everywhere yet."""

        def edit(bindings: list[dict[str, Any]]) -> None:
            for binding in bindings:
                if _is_of(binding, grant):
                    if grant.member not in binding["members"]:
                        binding["members"].append(grant.member)
                    return
            more = {"condition": dict(grant.condition)} if grant.condition else {}
            bindings.append({"role": grant.role, "members": [grant.member], **more})

        self._change(edit, f"giving {grant.member} the role {grant.role} on {self._resource}")

    def withdraw(self, member: str) -> None:
        """All that `member` has, also what is left of it when it is gone."""

        def edit(bindings: list[dict[str, Any]]) -> None:
            for binding in list(bindings):
                kept = [one for one in binding.get("members") or () if not _is(one, member)]
                binding["members"] = kept
                if not kept:
                    bindings.remove(binding)

        self._change(edit, f"taking the roles of {member} on {self._resource} away")

    def _change(self, edit: Callable[[list[dict[str, Any]]], None], what: str) -> None:
        backoff = Backoff(0.2, 5.0, seconds=SETTLES, clock=self._clock, sleep=self._pause)
        while True:
            policy = self._read(what)
            bindings = [{**one, "members": list(one.get("members") or ())} for one in policy.get("bindings") or ()]
            before = [{**one, "members": list(one["members"])} for one in bindings]
            edit(bindings)
            if bindings == before:
                return
            try:
                self._write({**policy, "bindings": bindings, "version": _VERSION}, what)
                return
            except (UnknownOutcome, Throttled, BadRequest) as error:
                if not _may_be_repeated(error) or not backoff.wait():
                    raise

    def _read(self, what: str) -> dict[str, Any]:
        if self._is_project:
            body = {"options": {"requestedPolicyVersion": _VERSION}}
            return self._calls.ask("POST", f"v3/{self._resource}:getIamPolicy", what, body, "cloudresourcemanager")
        query: dict[str, Any] = {"options.requestedPolicyVersion": _VERSION}
        return self._calls.ask("POST", f"v1/{self._resource}:getIamPolicy", what, service="iam", **query)

    def _write(self, policy: Mapping[str, Any], what: str) -> None:
        """Google does not name what is lacking for it."""
        version, service = ("v3", "cloudresourcemanager") if self._is_project else ("v1", "iam")
        try:
            self._calls.change("POST", f"{version}/{self._resource}:setIamPolicy", what, {"policy": policy}, service)
        except AuthFailed as error:
            if status_behind(error) != 403:
                raise
            lacking = "resourcemanager.projects" if self._is_project else "iam.serviceAccounts"
            raise AuthFailed(f"{error}; it takes {lacking}.setIamPolicy") from error.__cause__

    @property
    def _is_project(self) -> bool:
        return "/serviceAccounts/" not in self._resource


def _is_of(binding: Mapping[str, Any], grant: Grant) -> bool:
    return binding.get("role") == grant.role and dict(binding.get("condition") or {}) == dict(grant.condition)


def _is(one: str, member: str) -> bool:
    """A member that was deleted has its unique id behind it: deleted:serviceAccount:E-MAIL?uid=123."""
    return one == member or one.startswith(f"{_GONE}{member}?")


def _may_be_repeated(error: ProviderError) -> bool:
    """A lost answer, another's change, or an account that was made a moment ago."""
    return not isinstance(error, BadRequest) or (status_behind(error) == 400 and "does not exist" in str(error))
