"""What Azure says, as the typed errors that callers branch on, each a sentence with what was tried and what to do.

An answer of an error names a code ("AuthorizationFailed"), an operation that failed another ("AllocationFailed"): only they
tell what it is. A status does not (409 is a quota, a size that is out, or a change under way). No sentence promises another
try: whether there is one is for the caller to know, and to say."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterator, Mapping
from email.utils import parsedate_to_datetime
from typing import Any

from clusterctl.core.errors import (
    AuthFailed,
    BadRequest,
    NoCapacity,
    ProviderError,
    QuotaExceeded,
    Throttled,
    UnknownOutcome,
)
from clusterctl_providers.azure.login_errors import LoginFailed
from clusterctl_providers.cloud.unreached import unreached

PORTAL = "https://portal.azure.com"
QUOTAS = f"{PORTAL}/#view/Microsoft_Azure_Capacity/QuotaMenuBlade/~/myQuotas"
_NO_CAPACITY = frozenset({
    "SkuNotAvailable", "AllocationFailed", "ZonalAllocationFailed", "OverconstrainedAllocationRequest",
    "OverconstrainedZonalAllocationRequest", "AllocationTimedOut", "CapacityNotAvailable", "SpotCapacityNotAvailable",
    "CapacityReservationNotAvailable", "ReservationCapacityExceeded",
})  # fmt: skip
_THROTTLED = frozenset({
    "TooManyRequests", "SubscriptionRequestsThrottled", "ResourceRequestsThrottled", "ResourceCollectionRequestsThrottled",
    "TenantRequestsThrottled", "RateLimiting", "RequestRateTooLarge",
})  # fmt: skip
# of a thing that is still on its way, in use by what has just ended, or changed by somebody else meanwhile
_FOR_NOW = frozenset({
    "AnotherOperationInProgress", "RetryableError", "RetryableErrorDueToAnotherOperation", "OperationPreempted",
    "OperationPreemptedByMoreRecentOperation", "ReferencedResourceNotProvisioned", "NicInUse", "NicReservedForAnotherVm",
    "PublicIPAddressInUse", "PublicIPAddressCannotBeDeleted", "InUseSubnetCannotBeDeleted",
    "InUseNetworkSecurityGroupCannotBeDeleted", "InUseNatGatewayCannotBeDeleted", "PrincipalNotFound",
    "CanceledAndSupersededDueToAnotherOperation", "ConflictingConcurrentWriteNotAllowed",
    "AttachDiskWhileBeingDetached", "DiskInUse", "ResourceGroupBeingDeleted", "Conflict", "ServerTimeout", "GatewayTimeout",
})  # fmt: skip
_INTERNAL = frozenset({
    "InternalExecutionError", "InternalOperationError", "InternalServerError", "InternalDiskManagementError",
    "NetworkingInternalOperationError", "VMStartTimedOut", "",
})  # fmt: skip
_SAYS_LITTLE = frozenset(
    {"DeploymentFailed", "ResourceDeploymentFailure", "MultipleErrorsOccurred", "BadRequest", "Conflict"}
)
_NOT_SIGNED_IN = frozenset({
    "InvalidAuthenticationToken", "ExpiredAuthenticationToken", "AuthenticationFailed", "InvalidAuthenticationTokenTenant",
    "AuthenticationFailedMissingToken", "AuthenticationFailedInvalidHeader",
})  # fmt: skip
_FORBIDDEN = frozenset(
    {"AuthorizationFailed", "LinkedAuthorizationFailed", "LinkedAccessCheckFailed", "RoleAssignmentForbidden"}
)
_UNREGISTERED = frozenset({"SubscriptionNotRegistered", "MissingSubscriptionRegistration"})
_NO_SUBSCRIPTION = frozenset({"SubscriptionNotFound", "InvalidSubscriptionId"})
_CLOSED = frozenset(
    {"ReadOnlyDisabledSubscription", "DisallowedOperation", "SubscriptionDisabled", "SubscriptionNotActive"}
)
_MARKETPLACE = frozenset({
    "MarketplacePurchaseEligibilityFailed", "ResourcePurchaseValidationFailed", "ResourcePurchaseCanceling",
    "VMMarketplaceInvalidInput",
})  # fmt: skip
_TAKEN = frozenset({"PreconditionFailed", "RoleAssignmentExists", "RoleDefinitionWithSameNameExists"})
_ACTION = re.compile(r"perform (?:the )?action\(?s?\)?:? '([^']+)'")
_OVER = re.compile(r"over scope '([^']+)'|on the linked scope\(s\) '([^']+)'")
_QUOTA_NAME = re.compile(
    r"exceeding (?:approved|quota limits of) (.+?) quota|approved '?([\w ]+?)'? quota", re.IGNORECASE
)
_NUMBERS = re.compile(r"Current Limit: (\d+), Current Usage: (\d+), Additional Required: (\d+)")
_NAMESPACE = re.compile(r"namespace '([\w.]+)'|(Microsoft\.\w+)")
_POLICY = re.compile(r'"policyAssignment":\s*\{\s*"name":\s*"([^"]+)"')
_LOCKED = re.compile(r"(?:scope\(s\) are locked|following scope\(s\)[^:]*): '([^']+)'")
_URN = re.compile(r"offer with publisher: '?([^',\s]+)'?, product: '?([^',\s]+)'?, sku: '?([^',\s]+)'?", re.IGNORECASE)
_ROLES = "docs/azure.md has roles to make"


class ApiError(Exception):
    """An answer that says no. `code` is Azure's word, "" for none."""

    def __init__(self, status: int, content: bytes, headers: Mapping[str, str]) -> None:
        self.status, self.headers = status, headers
        self.error = _error_in(content)
        self.code = str(self.error.get("code") or headers.get("x-ms-error-code") or "")
        self.text = _one_line(self.error.get("message") or content[:200].decode("utf-8", "replace"))
        super().__init__(f"{status} {self.code}: {self.text}")


class OperationError(Exception):
    """A change that was accepted and failed, or a machine that did: `body` has its `error`, or is one."""

    def __init__(self, body: Mapping[str, Any]) -> None:
        error = body.get("error") if isinstance(body.get("error"), dict) else body
        self.status, self.headers = 0, {}
        self.error = _most_told(dict(error or {}))
        self.code = str(self.error.get("code") or "")
        self.text = _one_line(self.error.get("message") or body.get("status") or "")
        super().__init__(f"{self.code}: {self.text}")


Said = ApiError | OperationError


def code_behind(error: BaseException) -> str:
    """Azure's own word in what became this error, "" for none."""
    cause = error.__cause__
    return cause.code if isinstance(cause, ApiError | OperationError) else ""


def is_missing(error: ProviderError) -> bool:
    """Azure does not know what was asked for."""
    cause = error.__cause__
    return isinstance(cause, ApiError) and cause.status == 404 and cause.code not in _NO_SUBSCRIPTION


def is_forbidden(error: ProviderError) -> bool:
    """It is a right that is lacking: the credentials are good."""
    return isinstance(error.__cause__, ApiError) and error.__cause__.status == 403


def is_taken(error: ProviderError) -> bool:
    """There is one of that name."""
    return code_behind(error) in _TAKEN


def retry_after(headers: Mapping[str, str]) -> float:
    """Seconds that Azure asks to be left alone for, 0 for none."""
    text = str(headers.get("Retry-After") or headers.get("x-ms-ratelimit-microsoft.compute-retry-after") or "")
    try:
        return max(float(text), 0.0)
    except ValueError:
        pass
    try:
        return max(parsedate_to_datetime(text).timestamp() - time.time(), 0.0)
    except (TypeError, ValueError):
        return 0.0


def typed(error: BaseException, what: str, subscription: str = "") -> ProviderError:
    """`what` says what was tried, on what; `subscription` is for commands that mend it."""
    if isinstance(error, ProviderError):
        return error
    if isinstance(error, ApiError | OperationError):
        return _answered(error, what, subscription)
    return _never_got_there(error, what)


# ------------------------------------------------------------ answers


def _answered(error: Said, what: str, subscription: str) -> ProviderError:
    code, text = error.code, error.text
    found = _about_us(error, what, subscription) or _about_rules(error, what) or _about_supply(error, what)
    if found is not None:
        return found
    if code in _FOR_NOW:
        return UnknownOutcome(f"{what}: not yet ({code}: {text})")
    if isinstance(error, OperationError):
        if code in _INTERNAL:
            return NoCapacity(f"{what}: Azure accepted it, and failed ({code or 'no reason given'}: {text})")
        return BadRequest(f"{what}: Azure refused it ({code}: {text}); mend what it names in the spec")
    if error.status == 404:
        return BadRequest(
            f"{what}: Azure does not know that ({code}: {text}); mend the name, or the subscription, group or region"
        )
    if 400 <= error.status < 500 and error.status != 408:
        return BadRequest(f"{what}: Azure refused the request ({code}: {text}); mend what it names in the spec")
    return UnknownOutcome(f"{what}: no clear answer of Azure ({error.status} {code}: {text})")


def _about_us(error: Said, what: str, subscription: str) -> ProviderError | None:
    """Who we are, and what we may do."""
    code, text = error.code, error.text
    if code in _NO_SUBSCRIPTION:
        return BadRequest(
            f"{what}: Azure has no subscription {subscription!r}, or these credentials may not know of it ({text}); write its id "
            "under `subscription` of the provider; `az account list` shows yours"
        )
    if code in _CLOSED:
        return AuthFailed(
            f"{what}: the subscription {subscription} is disabled or may only be read ({code}: {text}); see {PORTAL}/#view/"
            f"Microsoft_Azure_Billing/SubscriptionsBlade"
        )
    if code in _UNREGISTERED:
        named = _NAMESPACE.search(text)
        space = (named.group(1) or named.group(2)) if named else "Microsoft.Compute"
        return AuthFailed(
            f"{what}: the subscription {subscription} is not registered for {space}; once: `az provider register --namespace "
            f"{space} --subscription {subscription}`"
        )
    if code in _FORBIDDEN:
        return _forbidden(error, what)
    if code in _NOT_SIGNED_IN or error.status == 401:
        return AuthFailed(
            f"{what}: Azure does not accept the credentials ({code}: {text}); renew them (`az login`, or a new secret), then "
            "`clusterctl doctor`"
        )
    return None


def _forbidden(error: Said, what: str) -> AuthFailed:
    action, over = _ACTION.search(error.text), _OVER.search(error.text)
    named = f"the action {action.group(1)}" if action else "an action"
    scope = f" on {over.group(1) or over.group(2)}" if over else ""
    return AuthFailed(
        f"{what}: these credentials may not do {named}{scope} ({error.code}: {error.text}); give them a role that has it "
        f"({_ROLES}; a new one takes some minutes), then `clusterctl doctor`"
    )


def _about_rules(error: Said, what: str) -> ProviderError | None:
    """What somebody forbade, or did not agree to."""
    code, text = error.code, error.text
    if code == "RequestDisallowedByPolicy":
        names = " and ".join(dict.fromkeys(repr(name) for name in _policies(error))) or "(unnamed)"
        return BadRequest(
            f"{what}: the policy {names} forbids it ({text[:600]}); ask who assigned it, or write the spec so that it holds"
        )
    if code == "ScopeLocked":
        locked = _LOCKED.search(text)
        where = f" on {locked.group(1)}" if locked else ""
        return BadRequest(
            f"{what}: a lock{where} forbids it ({text}); `az lock list` shows it; whoever set it can remove it with `az lock "
            "delete`"
        )
    if code in _MARKETPLACE:
        urn = _URN.search(text)
        offer = f" --publisher {urn.group(1)} --offer {urn.group(2)} --plan {urn.group(3)}" if urn else " --urn URN"
        return BadRequest(
            f"{what}: the image's terms are not accepted in this subscription, or it may not buy there ({code}: {text}); read "
            f"and accept them: `az vm image terms accept{offer}`"
        )
    if code == "RequestDisallowedByAzure":
        return BadRequest(
            f"{what}: Azure takes no new machines of this subscription there ({text}); name another region"
        )
    return None


def _about_supply(error: Said, what: str) -> ProviderError | None:
    """What Azure has, what it lets this subscription have, and how fast."""
    code, text = error.code, error.text
    if (
        code in _THROTTLED
        or error.status == 429
        or (code == "OperationNotAllowed" and "too many requests" in text.lower())
    ):
        return Throttled(
            f"{what}: Azure limits the calls of this subscription ({code})", retry_after=retry_after(error.headers)
        )
    if code in _NO_CAPACITY:
        return NoCapacity(f"{what}: Azure has no capacity there ({code}: {text})")
    if code == "QuotaExceeded" or code.endswith(("LimitReached", "LimitExceeded", "CountExceeded")):
        return _over_quota(error, what)
    if code == "OperationNotAllowed" and ("quota" in text.lower() or "core limit" in text.lower()):
        return _over_quota(error, what)
    return None


def _over_quota(error: Said, what: str) -> QuotaExceeded:
    named, numbers = _QUOTA_NAME.search(error.text), _NUMBERS.search(error.text)
    name = (named.group(1) or named.group(2)) if named else error.code
    most = (
        f": its limit is {numbers.group(1)}, {numbers.group(2)} are in use, {numbers.group(3)} more are needed"
        if numbers
        else ""
    )
    return QuotaExceeded(
        f"{what}: the quota {name!r} is used up{most or f' ({error.text})'}; ask for more at {QUOTAS}, or name other sizes or "
        "another region",
        quota=name,
    )


def _policies(error: Said) -> Iterator[str]:
    """Names of the assignments that said no, as their owners called them."""
    for info in error.error.get("additionalInfo") or ():
        if isinstance(info, dict) and info.get("type") == "PolicyViolation":
            found = info.get("info") or {}
            yield str(found.get("policyAssignmentDisplayName") or found.get("policyAssignmentName") or "(unnamed)")
            return
    yield from _POLICY.findall(error.text)


# ------------------------------------------------------------ what never reached Azure


def _never_got_there(error: BaseException, what: str) -> ProviderError:
    if isinstance(error, LoginFailed):
        return error.wrong(f"{what}: {error}")
    text = _one_line(str(error))[:400] or type(error).__name__
    if (found := unreached(error, what, "Azure", text)) is not None:
        return found
    return UnknownOutcome(f"{what}: no clear answer of Azure ({type(error).__name__}: {text})")


# ------------------------------------------------------------ inside


def _error_in(content: bytes) -> dict[str, Any]:
    try:
        found = json.loads(content)
    except ValueError:
        return {}
    if not isinstance(found, dict):
        return {}
    error = found.get("error", found)
    return _most_told(error) if isinstance(error, dict) else {}


def _most_told(error: dict[str, Any]) -> dict[str, Any]:
    """The error, or the one within that says more than "it failed"."""
    details = [each for each in error.get("details") or () if isinstance(each, dict) and each.get("code")]
    if error.get("code", "") in _SAYS_LITTLE and details:
        return _most_told(dict(details[0]))
    return error


def _one_line(text: object) -> str:
    return " ".join(str(text).split()).rstrip(".")
