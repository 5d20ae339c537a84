"""What AWS says, as the typed errors that callers branch on, each a sentence with what was tried and what to do."""

from __future__ import annotations

import time
from email.utils import parsedate_to_datetime
from typing import Any

from botocore import exceptions as boto

from clusterctl.core.errors import (
    AuthFailed,
    BadRequest,
    NoCapacity,
    ProviderError,
    QuotaExceeded,
    Throttled,
    UnknownOutcome,
)

_NO_CAPACITY = frozenset({
    "InsufficientInstanceCapacity", "InsufficientHostCapacity", "InsufficientReservedInstanceCapacity",
    "InsufficientCapacity", "InsufficientFreeAddressesInSubnet", "UnfulfillableCapacity", "SpotMaxPriceTooLow",
    "ReservationCapacityExceeded", "Unsupported", "UnsupportedOperation.InstanceTypeNotSupportedInAvailabilityZone",
})  # fmt: skip
_QUOTA = frozenset({
    "VcpuLimitExceeded", "InstanceLimitExceeded", "MaxSpotInstanceCountExceeded", "VolumeLimitExceeded",
    "SecurityGroupLimitExceeded", "AddressLimitExceeded", "MaxConfigLimitExceededException",
})  # fmt: skip
_THROTTLED = frozenset({
    "RequestLimitExceeded", "Throttling", "ThrottlingException", "ThrottledException", "RequestThrottled",
    "TooManyRequestsException", "RequestThrottledException", "SlowDown", "EC2ThrottledException",
})  # fmt: skip
_CREDENTIALS = frozenset({
    "AuthFailure", "ExpiredToken", "ExpiredTokenException", "RequestExpired", "InvalidClientTokenId",
    "SignatureDoesNotMatch", "UnrecognizedClientException", "MissingAuthenticationToken", "OptInRequired", "Blocked",
    "PendingVerification", "InvalidAccessKeyId", "IncompleteSignature",
})  # fmt: skip
_FOR_NOW = frozenset({"InvalidIPAddress.InUse"})  # of a machine that has just ended
_FORBIDDEN = frozenset({"UnauthorizedOperation", "AccessDenied", "AccessDeniedException", "UnauthorizedException"})
CLOCK_MARGIN = 240.0  # seconds; a signature is refused beyond 300, and the answer took a while
_NO_LOGIN = (
    boto.NoCredentialsError,
    boto.PartialCredentialsError,
    boto.CredentialRetrievalError,
    boto.TokenRetrievalError,
    boto.SSOError,
    boto.NoAuthTokenError,
    boto.ProfileNotFound,
)
_LOG_IN = "renew them (`aws sso login`, or new keys in ~/.aws/credentials or the environment), then `clusterctl doctor`"
_QUOTA_PAGE = "ask for more under Service Quotas > Amazon EC2 in the AWS console, or name other instance types"


def code_of(error: BaseException) -> str:
    """AWS's own error code, "" for what never reached AWS."""
    response: dict[str, Any] = getattr(error, "response", None) or {}
    return str(response.get("Error", {}).get("Code", ""))


def typed(error: BaseException, permission: str, what: str, quota: str = "") -> ProviderError:
    """`permission` is the IAM action, such as ec2:RunInstances; `what` says what was tried, on what."""
    if isinstance(error, ProviderError):
        return error
    code, text = code_of(error), _text(error)
    if (wrong := _clock_is_wrong(error)) and code in _CREDENTIALS:
        return AuthFailed(f"{what}: AWS does not accept the request ({text}): {wrong}")
    if isinstance(error, _NO_LOGIN) or code in _CREDENTIALS:
        return AuthFailed(f"{what}: AWS does not accept the credentials ({text}); {_LOG_IN}")
    if code in _FORBIDDEN:
        return AuthFailed(
            f"{what}: these credentials lack the permission {permission} ({code}); add it to their policy "
            "(templates in docs/aws.md), then `clusterctl doctor`"
        )
    if code in _NO_CAPACITY:
        return NoCapacity(f"{what}: AWS has no capacity there ({code}: {text}); the next offer is tried")
    if code in _QUOTA:
        named = quota or "Running instances (vCPUs)"
        return QuotaExceeded(f"{what}: the quota {named!r} is used up ({code}: {text}); {_QUOTA_PAGE}", quota=named)
    if code in _THROTTLED:
        return Throttled(f"{what}: AWS limits the calls of this account ({code}); it is tried again", retry_after=1.0)
    if code in _FOR_NOW:
        return UnknownOutcome(f"{what}: not yet ({code}: {text}); it is tried again")
    status = _status(error)
    if isinstance(error, boto.ClientError) and not code.startswith(("Internal", "Unavailable")) and status < 500:
        return BadRequest(f"{what}: AWS refused the request ({code}: {text}); mend what it names in the spec")
    if isinstance(error, boto.ParamValidationError):
        return BadRequest(f"{what}: the request is malformed ({text})")
    return UnknownOutcome(f"{what}: no clear answer of AWS ({code or type(error).__name__}: {text}); looking again")


def _clock_is_wrong(error: BaseException) -> str:
    """A sentence when this machine's clock is further from AWS's than a signature may be (5 minutes), else ""."""
    response: dict[str, Any] = getattr(error, "response", None) or {}
    date = str(response.get("ResponseMetadata", {}).get("HTTPHeaders", {}).get("date", ""))
    try:
        off = time.time() - parsedate_to_datetime(date).timestamp()
    except ValueError:
        return ""
    if abs(off) < CLOCK_MARGIN:
        return ""
    side = "fast" if off > 0 else "slow"
    return f"this machine's clock is {abs(off) / 60:.0f} minutes {side}; set it (`sudo timedatectl set-ntp true`)"


def _status(error: BaseException) -> int:
    response: dict[str, Any] = getattr(error, "response", None) or {}
    return int(response.get("ResponseMetadata", {}).get("HTTPStatusCode") or 0)


def _text(error: BaseException) -> str:
    response: dict[str, Any] = getattr(error, "response", None) or {}
    text = str(response.get("Error", {}).get("Message") or error or type(error).__name__)
    return " ".join(text.split())[:400].rstrip(".")
