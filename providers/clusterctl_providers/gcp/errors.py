"""What Google Cloud says, as the typed errors that callers branch on, each a sentence with what was tried and what to do.

An answer of an error names a reason ("rateLimitExceeded"), an operation that failed a code ("QUOTA_EXCEEDED"): `reason_of` is
either. No sentence promises another try: whether there is one is for the caller to know, and to say."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Mapping
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
from clusterctl_providers.cloud.unreached import line_broke, unreached

CONSOLE = "https://console.cloud.google.com"
CLOCK_MARGIN = 240.0  # seconds; a login is refused beyond 300, and the answer took a while
_NO_CAPACITY = ("ZONE_RESOURCE_POOL_EXHAUSTED", "RESOURCE_POOL_EXHAUSTED", "STOCKOUT", "VM_MIN_COUNT_NOT_REACHED")
_SAYS_LITTLE = frozenset({"VM_MIN_COUNT_NOT_REACHED"})
_THROTTLED = frozenset({
    "rateLimitExceeded", "userRateLimitExceeded", "RATE_LIMIT_EXCEEDED", "concurrentLimitExceeded",
    "RESOURCE_OPERATION_RATE_EXCEEDED", "operationRateExceeded",
})  # fmt: skip
_QUOTA = frozenset({"QUOTA_EXCEEDED", "quotaExceeded", "LIMIT_EXCEEDED", "limitExceeded"})
# of a thing that is still on its way, in use by what has just ended, or changed by somebody else meanwhile
_FOR_NOW = frozenset({
    "RESOURCE_NOT_READY", "resourceNotReady", "RESOURCE_IN_USE_BY_ANOTHER_RESOURCE", "resourceInUseByAnotherResource",
    "RESOURCE_IN_USE", "IP_IN_USE_BY_ANOTHER_RESOURCE", "ABORTED", "fingerprintMismatch",
})  # fmt: skip
DISABLED = frozenset({"accessNotConfigured", "SERVICE_DISABLED"})
_BILLING = frozenset({"BILLING_DISABLED", "billingNotActive", "billingNotEnabled"})
_CONSTRAINT = re.compile(r"(constraints/\w[\w.]*\w)")
_PERMISSION = re.compile(r"[Rr]equired '([\w.]+)' permission|[Pp]ermission '?([a-z]\w*\.[\w.]+)'? ")
_QUOTA_NAME = re.compile(r"[Qq]uota '([\w-]+)'")
_LIMIT = re.compile(r"[Ll]imit:? ([\d.]+)")
_NO_BILLING = re.compile(
    r"billing (is |has been )?(disabled|not (active|enabled|found))|inactive billing", re.IGNORECASE
)
_NO_PROJECT = re.compile(r"[Pp]roject \S+ is not found and cannot be used|The resource 'projects/[^/']+' was not found")
_LOG_IN = "`gcloud auth application-default login`"
_MAY_ACT = (
    "to act as the account under `impersonate`, whoever is logged in here needs roles/iam.serviceAccountTokenCreator on it, and "
    "the project the API iamcredentials.googleapis.com"
)
_FEDERATED = (
    "the identity pool does not take what the other provider says of this machine: renew that token, or check the pool's "
    "provider and the audience in the file that GOOGLE_APPLICATION_CREDENTIALS names"
)


class ApiError(Exception):
    """An answer that says no. `reason` is Google's word, "" for none; `info` what the answer tells beside its text."""

    def __init__(self, status: int, content: bytes, headers: Mapping[str, str]) -> None:
        self.status, self.headers = status, headers
        error = _error_in(content)
        self.text = " ".join(str(error.get("message") or content[:200].decode("utf-8", "replace")).split()).rstrip(".")
        details = [d for d in error.get("details") or () if isinstance(d, dict)]
        infos = [d for d in details if str(d.get("@type", "")).endswith("google.rpc.ErrorInfo")]
        unmet = [str(v.get("type")) for d in details for v in d.get("violations") or () if v.get("type")]
        self.text += "".join(f" ({name})" for name in unmet if name not in self.text)
        self.info: Mapping[str, Any] = dict(infos[0].get("metadata") or {}) if infos else {}
        reasons = [str(e.get("reason") or "") for e in error.get("errors") or () if isinstance(e, dict)]
        self.reason = str(infos[0].get("reason") or "") if infos else ""
        self.reason = self.reason or next(filter(None, reasons), "") or str(error.get("status") or "")
        super().__init__(f"{status} {self.reason}: {self.text}")


class OperationError(Exception):
    """An operation that was accepted and failed. `info`: the details of the error that tells most, by name."""

    def __init__(self, operation: Mapping[str, Any]) -> None:
        errors = [dict(e) for e in operation.get("error", {}).get("errors") or ()] or [{}]
        first = next((e for e in errors if e.get("code") not in _SAYS_LITTLE), errors[0])
        self.operation = operation
        self.status = int(operation.get("httpErrorStatusCode") or 0)
        self.reason = str(first.get("code") or "")
        self.text = " ".join(str(first.get("message") or operation.get("httpErrorMessage") or "").split()).rstrip(".")
        self.info: Mapping[str, Any] = _details(first)
        super().__init__(f"{self.reason}: {self.text}")

    @property
    def says_little(self) -> bool:
        """It only says that too few were made: why, the operations of the single ones tell."""
        return self.reason in _SAYS_LITTLE


def reason_of(error: BaseException | None) -> str:
    """Google's own word, "" for what never reached it."""
    return error.reason if isinstance(error, ApiError | OperationError) else ""


def status_behind(error: ProviderError) -> int:
    """The HTTP status of what became this error, 0 for none."""
    return error.__cause__.status if isinstance(error.__cause__, ApiError | OperationError) else 0


def reason_behind(error: ProviderError) -> str:
    """Google's own word in what became this error, "" for none."""
    return reason_of(error.__cause__)


def is_missing(error: ProviderError) -> bool:
    """Google does not know what was asked for."""
    return status_behind(error) == 404 or reason_behind(error) == "RESOURCE_NOT_FOUND"


def is_taken(error: ProviderError) -> bool:
    """There is one of that name."""
    return status_behind(error) == 409 or reason_behind(error) == "RESOURCE_ALREADY_EXISTS"


def zones_with_room(error: ProviderError) -> list[str]:
    """Zones that Google itself names as having what this one has not."""
    info = error.__cause__.info if isinstance(error.__cause__, OperationError) else {}
    return [zone.strip() for zone in str(info.get("zonesAvailable") or "").split(",") if zone.strip()]


def typed(error: BaseException, what: str, project: str = "") -> ProviderError:
    """`what` says what was tried, on what; `project` is for links into Google's console."""
    if isinstance(error, ProviderError):
        return error
    if isinstance(error, ApiError | OperationError):
        return _answered(error, what, project)
    return _never_got_there(error, what)


# ------------------------------------------------------------ answers


def _answered(error: ApiError | OperationError, what: str, project: str) -> ProviderError:
    reason, text, status = error.reason, error.text, error.status
    found = _about_us(error, what, project) or _about_supply(error, what, project)
    if found is not None:
        return found
    if reason in _FOR_NOW or (status == 412 and "ingerprint" in text):
        return UnknownOutcome(f"{what}: not yet ({reason}: {text})")
    if isinstance(error, OperationError):
        if reason in ("", "INTERNAL_ERROR", "BACKEND_ERROR") or status >= 500:
            return NoCapacity(f"{what}: Google Cloud accepted it, and failed ({reason or status}: {text})")
        return BadRequest(f"{what}: Google Cloud refused it ({reason}: {text}); mend what it names in the spec")
    if status == 404:
        return BadRequest(f"{what}: Google Cloud does not know that ({text}); mend the name, or the project or region")
    if 400 <= status < 500 and status not in (408, 499):
        return BadRequest(
            f"{what}: Google Cloud refused the request ({reason}: {text}); mend what it names in the spec"
        )
    return UnknownOutcome(f"{what}: no clear answer of Google Cloud ({status} {reason}: {text})")


def _about_us(error: ApiError | OperationError, what: str, project: str) -> ProviderError | None:
    """Who we are, and what we may do."""
    reason, text = error.reason, error.text
    if constraint := _CONSTRAINT.search(text):
        return BadRequest(
            f"{what}: the organisation's policy {constraint.group(1)} forbids it ({text}); ask who sets it, or write the spec so "
            "that it holds (docs/gcp.md)"
        )
    if reason in _BILLING or (error.status in (400, 403) and _NO_BILLING.search(text)):
        return AuthFailed(
            f"{what}: the project {project} has no active billing account ({text}); link one: "
            f"{CONSOLE}/billing/linkedaccount?project={project}"
        )
    if _NO_PROJECT.search(text):
        return BadRequest(
            f"{what}: Google Cloud has no project {project!r}, or these credentials may not know of it ({text}); write its id "
            "(not its name or number) under `project` of the provider; `gcloud projects list` shows yours"
        )
    if "requires a quota project" in text:
        return AuthFailed(
            f"{what}: your own login has no project to count calls against ({text}); set one: "
            f"`gcloud auth application-default set-quota-project {project}`"
        )
    if reason in DISABLED or "has not been used in project" in text:
        return _disabled(error, what, project)
    if error.status == 401:
        wrong = _clock_is_wrong(error) or f"renew them ({_LOG_IN}, or a new key), then `clusterctl doctor`"
        return AuthFailed(f"{what}: Google Cloud does not accept the credentials ({text}); {wrong}")
    if (error.status == 403 and reason not in _THROTTLED | _QUOTA) or reason == "PERMISSIONS_ERROR":
        return _forbidden(text, reason, what)
    return None


def _disabled(error: ApiError | OperationError, what: str, project: str) -> AuthFailed:
    service = str(error.info.get("service") or "")
    named = re.search(r"(https://console\.\S+?)[\s,]", f"{error.text} ")
    service = service or (m.group(1) if (m := re.search(r"([a-z]+\.googleapis\.com)", error.text)) else "")
    link = named.group(1) if named else f"{CONSOLE}/apis/library/{service}?project={project}"
    command = f"`gcloud services enable {service} --project {project}`" if service else "enable it"
    return AuthFailed(f"{what}: the API {service} is not enabled in the project {project}; {command}, or at {link}")


def _forbidden(text: str, reason: str, what: str) -> AuthFailed:
    named = _PERMISSION.search(text)
    action = f"the permission {named.group(1) or named.group(2)}" if named else "a permission"
    return AuthFailed(
        f"{what}: these credentials lack {action} ({reason}: {text}); add it to their role (docs/gcp.md has roles to make), then "
        "`clusterctl doctor`"
    )


def _about_supply(error: ApiError | OperationError, what: str, project: str) -> ProviderError | None:
    """What Google has, what it lets this project have, and how fast."""
    reason, text = error.reason, error.text
    if reason in _THROTTLED or error.status == 429:
        return Throttled(f"{what}: Google Cloud limits the calls of this project ({reason})", retry_after=_asked(error))
    if reason.startswith(_NO_CAPACITY) or any(word in text for word in _NO_CAPACITY):
        zones = str(error.info.get("zonesAvailable") or "")
        hint = f"; it names zones that have some: {zones}" if zones else ""
        return NoCapacity(f"{what}: Google Cloud has no capacity there ({reason}: {text}){hint}")
    if reason in _QUOTA:
        return _over_quota(error, what, project)
    return None


def _over_quota(error: ApiError | OperationError, what: str, project: str) -> QuotaExceeded:
    named, limit = _QUOTA_NAME.search(error.text), _LIMIT.search(error.text)
    name = named.group(1) if named else str(error.info.get("limitName") or error.info.get("metricName") or error.reason)
    most = f", whose limit is {limit.group(1).rstrip('0').rstrip('.')}," if limit else ""
    return QuotaExceeded(
        f"{what}: the quota {name!r}{most} is used up ({error.text}); ask for more at "
        f"{CONSOLE}/iam-admin/quotas?project={project}, or name other types, zones or another region",
        quota=name,
    )


# ------------------------------------------------------------ what never reached Google


def _never_got_there(error: BaseException, what: str) -> ProviderError:
    from google.auth import exceptions as auth

    text = " ".join(str(error).split())[:400].rstrip(".") or type(error).__name__
    if isinstance(error, auth.DefaultCredentialsError):
        found = "" if "were not found" in text else f" that are whole ({text})"
        return AuthFailed(
            f"{what}: this machine has no Google Cloud credentials{found}; log in ({_LOG_IN}), or name a key file in "
            "GOOGLE_APPLICATION_CREDENTIALS; then `clusterctl doctor`"
        )
    if isinstance(error, auth.RefreshError | auth.OAuthError):
        return _no_token(error, text, what)
    if (found := unreached(error, what, "Google Cloud", text)) is not None:
        return found
    if isinstance(error, auth.TransportError):
        return line_broke(what, "Google Cloud", text)
    if isinstance(error, auth.GoogleAuthError):
        return AuthFailed(
            f"{what}: the credentials of this machine do not work ({text}); renew them, then `clusterctl doctor`"
        )
    return UnknownOutcome(f"{what}: no clear answer of Google Cloud ({type(error).__name__}: {text})")


def _no_token(error: BaseException, text: str, what: str) -> ProviderError:
    from google.auth import exceptions as auth

    if getattr(error, "retryable", False):
        return UnknownOutcome(f"{what}: Google's login could not be reached, or is busy ({text})")
    low = text.lower()
    if "impersonated" in low:
        said, mend = _said_inside(error) or text, _MAY_ACT
    elif "reasonable timeframe" in low or "iat and exp" in low:
        said, mend = text, "this machine's clock is wrong: set it (`sudo timedatectl set-ntp true`)"
    elif isinstance(error, auth.OAuthError):
        said, mend = text, _FEDERATED
    elif "account not found" in low or "invalid grant: account" in low or "disabled" in low:
        said, mend = text, "the service account is gone or disabled: take another key"
    elif "invalid_grant" in low or "reauth" in low or "expired" in low:
        said, mend = text, f"the login has expired or was withdrawn: {_LOG_IN}"
    elif "file" in low and "was not found" in low:
        said, mend = (
            text,
            "what writes that file has not run, or GOOGLE_APPLICATION_CREDENTIALS names the wrong configuration",
        )
    else:
        said, mend = text, f"renew them ({_LOG_IN}, or a new key)"
    return AuthFailed(f"{what}: the credentials give no access ({said}); {mend}; then `clusterctl doctor`")


def _said_inside(error: BaseException) -> str:
    """The message of Google's answer, where the auth library hands it on as it came."""
    answers = [_error_in(arg.encode()) for arg in error.args if isinstance(arg, str)]
    return next((str(answer["message"]).rstrip(".") for answer in answers if answer.get("message")), "")


# ------------------------------------------------------------ parts of an answer


def _error_in(content: bytes) -> Mapping[str, Any]:
    try:
        found = json.loads(content)
    except ValueError:
        return {}
    error = found.get("error") if isinstance(found, dict) else None
    return error if isinstance(error, dict) else {}


def _details(error: Mapping[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for detail in error.get("errorDetails") or ():
        found |= (detail.get("errorInfo") or {}).get("metadatas") or {}
        found |= detail.get("quotaInfo") or {}
    return found


def _asked(error: ApiError | OperationError) -> float:
    """Seconds that Google itself asks for, else 1."""
    try:
        return max(1.0, float(error.headers.get("Retry-After", 1))) if isinstance(error, ApiError) else 1.0
    except ValueError:
        return 1.0


def _clock_is_wrong(error: ApiError | OperationError) -> str:
    """A sentence when this machine's clock is further from Google's than a login may be, else ""."""
    date = str(error.headers.get("Date", "")) if isinstance(error, ApiError) else ""
    try:
        off = time.time() - parsedate_to_datetime(date).timestamp()
    except (ValueError, TypeError):
        return ""
    if abs(off) < CLOCK_MARGIN:
        return ""
    side = "fast" if off > 0 else "slow"
    return f"this machine's clock is {abs(off) / 60:.0f} minutes {side}; set it (`sudo timedatectl set-ntp true`)"
