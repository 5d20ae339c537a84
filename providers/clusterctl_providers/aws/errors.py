"""What AWS says, as the typed errors that callers branch on, each a sentence with what was tried and what to do.

No sentence promises another try: whether there is one is for the caller to know, and to say."""

from __future__ import annotations

import re
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

_NO_CAPACITY = frozenset(
    {
        "UnfulfillableCapacity",
        "SpotMaxPriceTooLow",
        "ReservationCapacityExceeded",
        "Unsupported",
        "UnsupportedOperation.InstanceTypeNotSupportedInAvailabilityZone",
    }
)  # fmt: skip  and all that begin with Insufficient
_VCPUS = frozenset({"VcpuLimitExceeded", "InstanceLimitExceeded", "MaxSpotInstanceCountExceeded"})
# other limits: the quota's name, and under which service the console shows it
_QUOTAS = {
    "VolumeLimitExceeded": ("Storage for General Purpose SSD (gp3) volumes, in TiB", "Amazon Elastic Block Store"),
    "NetworkInterfaceLimitExceeded": ("Network interfaces per Region", "Amazon Virtual Private Cloud"),
    "SecurityGroupLimitExceeded": ("VPC security groups per Region", "Amazon Virtual Private Cloud"),
    "RulesPerSecurityGroupLimitExceeded": (
        "Inbound or outbound rules per security group",
        "Amazon Virtual Private Cloud",
    ),
    "AddressLimitExceeded": ("EC2-VPC Elastic IPs", "Amazon EC2"),
    "MaxIOPSLimitExceeded": ("IOPS for General Purpose SSD (gp3) volumes", "Amazon Elastic Block Store"),
    "MaxConfigLimitExceededException": ("Spot requests", "Amazon EC2"),
    "LimitExceeded": ("Roles or instance profiles per account", "AWS Identity and Access Management"),
}
_THROTTLED = frozenset({
    "RequestLimitExceeded", "Throttling", "ThrottlingException", "ThrottledException", "RequestThrottled",
    "TooManyRequestsException", "RequestThrottledException", "SlowDown", "EC2ThrottledException",
    "PriorRequestNotComplete", "BandwidthLimitExceeded",
})  # fmt: skip
_CREDENTIALS = frozenset({
    "AuthFailure", "ExpiredToken", "ExpiredTokenException", "RequestExpired", "InvalidClientTokenId",
    "SignatureDoesNotMatch", "UnrecognizedClientException", "MissingAuthenticationToken", "InvalidAccessKeyId",
    "IncompleteSignature",
})  # fmt: skip
# the account itself: no new keys would help
_ACCOUNT = {
    "PendingVerification": "AWS still verifies this account ({text}), which takes some hours",
    "Blocked": "AWS has blocked this account ({text}); ask AWS Support",
    "OptInRequired": "this account may not use that yet ({text}); enable the region, or subscribe, in the AWS console",
}
_NO_SPOT_ROLE = "AuthFailure.ServiceLinkedRoleCreationNotPermitted"
# of a machine that has just ended; and of one that is still on its way to the state from which it can be stopped or started
_FOR_NOW = frozenset({"InvalidIPAddress.InUse", "IncorrectInstanceState"})
_FORBIDDEN = frozenset({"UnauthorizedOperation", "AccessDenied", "AccessDeniedException", "UnauthorizedException"})
_NAMED_ACTION = re.compile(r"not authorized to perform:? ([a-z0-9-]+:[A-Za-z]+)")
CLOCK_MARGIN = 240.0  # seconds; a signature is refused beyond 300, and the answer took a while
# what never reached AWS, and what is to be said of it
_NO_LOGIN: dict[type[BaseException], str] = {
    boto.ProfileNotFound: "this machine has no such profile ({text}); `aws configure list-profiles` names those that it has",
    boto.NoCredentialsError: "this machine has no AWS credentials ({text}); log in (`aws sso login`), or put keys into "
    "~/.aws/credentials or the environment, or name a `profile` of the provider",
    boto.PartialCredentialsError: "the AWS credentials of this machine are not whole ({text}); mend ~/.aws/credentials or the "
    "environment",
    boto.CredentialRetrievalError: "what should give credentials on this machine failed ({text}); mend it in ~/.aws/config",
    boto.TokenRetrievalError: "the login has expired, and could not be renewed ({text}); run `aws sso login`",
    boto.SSOError: "the login is not there or has expired ({text}); run `aws sso login`",
    boto.NoAuthTokenError: "the login is not there ({text}); run `aws sso login`",
}
_REFUSED = {  # what AWS says of credentials that it was shown
    "ExpiredToken": "the credentials have expired",
    "ExpiredTokenException": "the credentials have expired",
    "RequestExpired": "the credentials have expired, or the request was under way for too long",
    "SignatureDoesNotMatch": "the secret key does not belong to the key's id",
}
_NO_WAY = {  # of what never got there
    boto.ProxyConnectionError: "the proxy could not be reached ({text}); see HTTPS_PROXY and NO_PROXY",
    boto.SSLError: "its certificate is not trusted here ({text}); name the CA of your network in AWS_CA_BUNDLE",
    boto.EndpointConnectionError: "AWS could not be reached ({text}); check the region's name, the network, HTTPS_PROXY, and "
    "AWS_ENDPOINT_URL where it is set",
    boto.ConnectTimeoutError: "AWS could not be reached in time ({text}); check the network, a firewall, and HTTPS_PROXY",
}
_FULL = "InsufficientFreeAddressesInSubnet"
_TOO_MANY_TAGS = ("TagLimitExceeded", "TooManyTagsException")
_LOG_IN = "renew them (`aws sso login`, or new keys in ~/.aws/credentials or the environment), then `clusterctl doctor`"


def code_of(error: BaseException) -> str:
    """AWS's own error code, "" for what never reached AWS."""
    response: dict[str, Any] = getattr(error, "response", None) or {}
    return str(response.get("Error", {}).get("Code", ""))


def code_behind(error: ProviderError) -> str:
    """AWS's own code of what became this error, "" for none."""
    return code_of(error.__cause__) if error.__cause__ is not None else ""


def typed(error: BaseException, permission: str, what: str, quota: str = "") -> ProviderError:
    """`permission` is the IAM action, such as ec2:RunInstances; `what` says what was tried, on what."""
    if isinstance(error, ProviderError):
        return error
    code, text = code_of(error), _text(error)
    found = _about_us(error, code, text, permission, what) or _about_supply(code, text, what, quota)
    if found is not None:
        return found
    if code in _FOR_NOW:
        return UnknownOutcome(f"{what}: not yet ({code}: {text})")
    status = _status(error)
    if isinstance(error, boto.ClientError) and not code.startswith(("Internal", "Unavailable")) and status < 500:
        return BadRequest(f"{what}: AWS refused the request ({code}: {text}); mend what it names in the spec")
    for kind, sentence in _NO_WAY.items():
        if isinstance(error, kind):
            return UnknownOutcome(f"{what}: {sentence.format(text=text)}")
    if isinstance(error, boto.ParamValidationError):
        return BadRequest(f"{what}: the request is malformed ({text})")
    return UnknownOutcome(f"{what}: no clear answer of AWS ({code or type(error).__name__}: {text})")


def _about_us(error: BaseException, code: str, text: str, permission: str, what: str) -> ProviderError | None:
    """Who we are, and what we may do."""
    if code == _NO_SPOT_ROLE:
        return BadRequest(
            f"{what}: this account has no role for spot instances yet, and these credentials may not make it ({code}): run "
            "`aws iam create-service-linked-role --aws-service-name spot.amazonaws.com` once, or allow "
            "iam:CreateServiceLinkedRole as in the policies of docs/aws.md"
        )
    if code == "AuthFailure" and "not authorized for images" in text.lower():
        return BadRequest(f"{what}: the image is not shared with this account ({text}); name another one in the spec")
    if code == "OptInRequired" and "marketplace" in text.lower():
        return BadRequest(f"{what}: the image wants its terms to be accepted first ({text})")
    if code in _ACCOUNT:
        return AuthFailed(f"{what}: {_ACCOUNT[code].format(text=text)}")
    if code in _CREDENTIALS and (wrong := _clock_is_wrong(error)):
        return AuthFailed(f"{what}: AWS does not accept the request ({text}): {wrong}")
    for kind, sentence in _NO_LOGIN.items():
        if isinstance(error, kind):
            return AuthFailed(f"{what}: {sentence.format(text=text)}; then `clusterctl doctor`")
    if code in _CREDENTIALS:
        wrong = _REFUSED.get(code, "AWS does not accept the credentials")
        return AuthFailed(f"{what}: {wrong} ({text}); {_LOG_IN}")
    if code in _FORBIDDEN:
        return _forbidden(code, text, permission, what)
    return None


def _forbidden(code: str, text: str, permission: str, what: str) -> AuthFailed:
    """AWS often names another action than the one that was called: iam:PassRole for RunInstances."""
    named = _NAMED_ACTION.search(text)
    action = named.group(1) if named else permission
    if "explicit deny" in text.lower():
        return AuthFailed(f"{what}: a policy forbids {action} ({_without_codes(text)}); ask who wrote that policy")
    return AuthFailed(
        f"{what}: these credentials lack the permission {action} ({code}); add it to their policy "
        "(templates in docs/aws.md), then `clusterctl doctor`"
    )


def _about_supply(code: str, text: str, what: str, quota: str) -> ProviderError | None:
    """What AWS has, what it lets this account have, and how fast."""
    if code in _THROTTLED:
        return Throttled(f"{what}: AWS limits the calls of this account ({code})", retry_after=1.0)
    if code in _NO_CAPACITY or code.startswith("Insufficient"):
        why = "AWS does not offer that there" if code.startswith("Unsupported") else "AWS has no capacity there"
        if code == _FULL:
            why = "the subnet has no free address: end what is in it, or name another in `subnets` of the provider"
        return NoCapacity(f"{what}: {why} ({code}: {text})")
    if code in _TOO_MANY_TAGS:
        return BadRequest(
            f"{what}: that has more tags than AWS takes ({code}: {text}); take some out of the provider's `tags`"
        )
    if code not in _VCPUS and code not in _QUOTAS and not code.endswith("LimitExceeded"):
        return None
    named, service = _QUOTAS.get(code, ("", "Amazon EC2"))
    named = named or (quota if code in _VCPUS else "") or code
    other = ", or name other instance types" if code in _VCPUS else ""
    page = f"ask for more under Service Quotas > {service} in the AWS console{other}"
    return QuotaExceeded(f"{what}: the quota {named!r} is used up ({code}: {text}); {page}", quota=named)


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


def _without_codes(text: str) -> str:
    """AWS appends a long cipher that only its holder can read."""
    return re.split(r"\.? *Encoded authorization failure message", text)[0]
