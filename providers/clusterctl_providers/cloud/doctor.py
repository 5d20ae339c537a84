"""Rows of `doctor`: who we are, each permission by name, what is helpful and not needed. Nothing is changed by asking.

AWS           IAM's simulation, action by action; where that is not allowed, calls with DryRun
Google Cloud  projects.testIamPermissions, which answers those of a list that we have; disabled APIs by Service Usage
Azure         permissions.listForResourceGroup, whose actions have wildcards and exceptions; provider registrations
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

from clusterctl.core.errors import AuthFailed, ProviderError, Throttled, UnknownOutcome

Check = tuple[str, bool, str]  # what was checked, ok, what to do
Rows = Iterable[Check]


def examine(cloud: str, who: Callable[[], str], *parts: Callable[[], Rows]) -> list[Check]:
    """The rows of all parts; stops at the credentials when the cloud does not know them. `who`: as whom it does, and where."""
    try:
        me = who()
    except ProviderError as error:
        return [(f"credentials that {cloud} accepts", False, str(error))]
    checks: list[Check] = [(f"{cloud} knows us as {me}", True, "")]
    for part in parts:
        checks += part()
    return checks


def permission_rows(allowed: Mapping[str, bool], fix: Callable[[str], str]) -> list[Check]:
    """A row for each action, by name; `fix`: what to do where it is lacking."""
    return [(f"permission {action}", ok, "" if ok else fix(action)) for action, ok in sorted(allowed.items())]


def tried_row(
    action: str, call: Callable[[], object], is_allowed: Callable[[ProviderError], bool] = lambda _: False
) -> Check:
    """Any answer but a refusal for want of permission means that we may: clouds check that first. `is_allowed`: of an error
    that itself says so, as that of a dry run."""
    try:
        call()
    except (AuthFailed, Throttled, UnknownOutcome) as error:
        if not is_allowed(error):
            return (f"permission {action}", False, str(error))
    except ProviderError:
        pass
    return (f"permission {action}", True, "")


def optional_row(name: str, call: Callable[[], object], otherwise: str) -> Check:
    """What is helpful and not needed: told, not held against the account. `otherwise`: what is done without it."""
    try:
        call()
    except ProviderError as error:
        return (f"{name}: not to be had, {otherwise} ({error})", True, "")
    return (name, True, "")
