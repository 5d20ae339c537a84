"""What the project's organisation forbids and a cluster would need: a row of `doctor` for each policy that stands in the way."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from clusterctl.core.errors import ProviderError
from clusterctl_providers.cloud.doctor import Check
from clusterctl_providers.gcp.calls import Calls

IMAGES = (
    "ubuntu-os-cloud",
    "deeplearning-platform-release",
    "ml-images",
)  # projects of the images that are taken unasked
Rules = list[Mapping[str, Any]]


def _forces(rules: Rules) -> bool:
    """Of a policy that is on or off."""
    return any(rule.get("enforce") for rule in rules)


def _allows_none(rules: Rules) -> bool:
    """Of a list of machines: those that somebody has written down are none that will be made."""
    return not any(rule.get("allowAll") for rule in rules) and any(
        rule.get("denyAll") or "allowedValues" in (rule.get("values") or {}) for rule in rules
    )


def _distrusts(rules: Rules) -> bool:
    """Whether the project of Ubuntu's images is not among those from which machines may start."""
    wanted = {f"projects/{IMAGES[0]}", f"is:projects/{IMAGES[0]}"}
    values: list[Mapping[str, Any]] = [rule.get("values") or {} for rule in rules]
    allowed = {one for value in values for one in value.get("allowedValues") or ()}
    denied = {one for value in values for one in value.get("deniedValues") or ()}
    return bool(wanted & denied) or any(rule.get("denyAll") for rule in rules) or bool(allowed and not wanted & allowed)


def _always(settings: Mapping[str, Any]) -> bool:
    return True


def _is_public(settings: Mapping[str, Any]) -> bool:
    """Whether the head's machine or nodes get public addresses."""
    head = not settings.get("head_address") and str(settings.get("reach") or "public") == "public"
    return head or bool(settings.get("public_addresses", True))


# constraint, whether it concerns a cluster with these settings, whether its rules are in the way, what to do
_KNOWN: tuple[tuple[str, Callable[[Mapping[str, Any]], bool], Callable[[Rules], bool], str], ...] = (
    (
        "compute.vmExternalIpAccess",
        _is_public,
        _allows_none,
        "machines get no public addresses: write `reach: iap` (or `private`) and `public_addresses: false`, and give the network "
        "a Cloud NAT, since nodes have to reach what they install from",
    ),
    (
        "compute.requireOsLogin",
        lambda settings: not settings.get("os_login"),
        _forces,
        "machines are launched with OS Login off, so that nobody but the cluster's own key gets in: write `os_login: true`, and "
        "take the role `oslogin`",
    ),
    (
        "iam.disableServiceAccountCreation",
        lambda settings: False,  # where accounts are made: see constraint_rows
        _forces,
        "no service account can be made: have one made elsewhere, and name it (`service_account`)",
    ),
    (
        "compute.trustedImageProjects",
        _always,
        _distrusts,
        f"machines may not start from the images of {IMAGES[0]}: name an `image` of a project that is allowed, in each pool and "
        "of the head",
    ),
)


def constraint_rows(calls: Calls, settings: Mapping[str, Any], *, accounts: bool) -> Iterator[Check]:
    """One for each that is in the way; one row where nothing is, or where we may not look."""
    found: list[Check] = []
    for name, concerns, in_the_way, fix in _KNOWN:
        if not (concerns(settings) or (accounts and name.startswith("iam."))):
            continue
        path, what = f"v2/projects/{calls.project}/policies/{name}:getEffectivePolicy", f"looking up the policy {name}"
        try:
            rules: Rules = calls.get(path, what, "orgpolicy").get("spec", {}).get("rules") or []
        except ProviderError as error:
            yield f"organisation policies: not to be looked up ({error})", True, ""
            return
        if in_the_way(rules):
            found.append((f"organisation policy constraints/{name} that lets clusters be", False, fix))
    yield from found or [("organisation policies: none in the way", True, "")]
