"""What an API server says, as the typed errors that callers branch on, each a sentence with what was tried and what to do.

The server answers with a `Status`: a code, a reason in one word, a message. RBAC, quotas and all of admission answer 403
alike; which of them it was stands in the message only, in words that have not changed since they were first written.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

import requests

from clusterctl.core.errors import (
    AuthFailed,
    BadRequest,
    ProviderError,
    QuotaExceeded,
    Throttled,
    UnknownOutcome,
)
from clusterctl_providers.cloud.unreached import line_broke, unreached

ANONYMOUS = '"system:anonymous"'  # who sends nothing that the server knows, where it lets such in
WHO = "the Kubernetes API server"
_QUOTA = re.compile(r"exceeded quota: ([^,\s]+)")
_VERB = re.compile(r'cannot (\w+) (?:resource "([\w./-]+)"|path "([^"]+)")')
_WHERE = re.compile(r'in the namespace "([^"]+)"')
_TLS_REFUSAL = re.compile("certificate|alert", re.IGNORECASE)  # and not a line that broke
_WEBHOOK = re.compile(r'admission webhook "([^"]+)" denied')


class Missing(BadRequest):
    """There is no such object (404)."""


class Exists(BadRequest):
    """There is one of that name (409)."""


class Changed(ProviderError):
    """It is not any more what the call expected it to be (409)."""


class Expired(UnknownOutcome):
    """A list's later pages are not to be had any more (410)."""


class ApiError(Exception):
    """An answer that says no."""

    def __init__(self, status: int, content: bytes, headers: Mapping[str, str]) -> None:
        told = _status_in(content)
        self.status = status
        self.is_status = bool(told)  # an API server's own words, and not of something between
        self.reason = str(told.get("reason") or "")
        self.details: Mapping[str, Any] = told.get("details") or {}
        text = str(told.get("message") or content[:300].decode("utf-8", "replace") or f"status {status}")
        self.text = " ".join(text.split()).rstrip(".")
        self.retry_after = _seconds(headers.get("Retry-After") or self.details.get("retryAfterSeconds"))
        super().__init__(f"{status} {self.reason}: {self.text}")


def typed(error: Exception, what: str, context: str) -> ProviderError:
    """`what` was tried, `context` is where."""
    if isinstance(error, ProviderError):
        return error
    if isinstance(error, ApiError):
        return _answered(error, what, context)
    text = " ".join(str(_cause(error)).split())[:300]
    if isinstance(error, requests.exceptions.SSLError):
        lasting = _TLS_REFUSAL.search(text)
        return AuthFailed(_untrusted(what, context, text)) if lasting else line_broke(what, f"{WHO} of {context}", text)
    return unreached(error, what, f"{WHO} of {context}", text) or UnknownOutcome(
        f"{what} had no clear outcome ({text})"
    )


def _untrusted(what: str, context: str, text: str) -> str:
    """TLS failed. Nothing that the environment names has a say in it."""
    if "certificate verify failed" in text:
        fix = f"get the context {context!r} anew, whose own CA it has to be, and see that this machine's clock is right"
        return f"{what}: the certificate of {WHO} of {context} is not trusted ({text}); {fix}"
    return f"{what}: {WHO} of {context} did not take what was sent over TLS ({text}); log in to that context anew"


def _cause(error: BaseException) -> BaseException:
    """What a library of HTTP wraps in words of its own."""
    for _ in range(8):
        inner = getattr(error, "reason", None) or next(iter(error.args), None)
        if not isinstance(inner, BaseException):
            break
        error = inner
    return error


def _answered(error: ApiError, what: str, context: str) -> ProviderError:
    said = f"{what}: {error.text}"
    if error.status == 401 or (error.status == 403 and ANONYMOUS in error.text):
        return AuthFailed(
            f"{what}: {WHO} does not know these credentials ({error.text}); log in to the context {context!r} anew (for "
            "a cloud's cluster, log in to the cloud)"
        )
    if error.status == 403:
        return _forbidden(error, what, said)
    if error.status == 404:
        return Missing(said) if error.is_status else UnknownOutcome(no_server(what, context, error.text))
    if error.status == 409:
        return Exists(said) if error.reason == "AlreadyExists" else Changed(said)
    if error.status == 410:
        return Expired(said)
    if error.status == 429:
        return Throttled(f"{what}: {WHO} is asked too much ({error.text})", retry_after=error.retry_after or 1.0)
    if error.status >= 500:
        return UnknownOutcome(f"{what}: {WHO} failed ({error.text})")
    return BadRequest(f"{_denied(error, what)}: {error.text}")


def no_server(what: str, context: str, text: str) -> str:
    """A proxy that lost its way, or asks for a login: what it says of things is not to be believed."""
    return (
        f"{what}: what answers for the context {context!r} is no Kubernetes API server ({text}); look at its `server`, and at "
        "proxies on the way there"
    )


def _forbidden(error: ApiError, what: str, said: str) -> ProviderError:
    """By RBAC, a quota, or what admits objects."""
    if quota := _QUOTA.search(error.text):
        return QuotaExceeded(
            f"{said}; ask whoever runs the cluster to raise the quota {quota[1]}, or want less at once", quota=quota[1]
        )
    if missing := missing_right(error.text):
        return AuthFailed(f"{said}; what is missing is the right to {missing} (docs/kubernetes.md has the Role)")
    if "is forbidden:" in error.text or _WEBHOOK.search(error.text) or "is being terminated" in error.text:
        return BadRequest(f"{_denied(error, what)}: {error.text}")
    return AuthFailed(said)


def missing_right(text: str) -> str:
    """ "create pods in namespace ml", of RBAC's own sentence; "" where it is none."""
    found = _VERB.search(text)
    if not found:
        return ""
    where = _WHERE.search(text)
    return f"{found[1]} {found[2] or found[3]}" + (f" in namespace {where[1]}" if where else "")


def _denied(error: ApiError, what: str) -> str:
    webhook = _WEBHOOK.search(error.text)
    return f"{what} was refused by the admission webhook {webhook[1]}" if webhook else f"{what} was refused"


def _status_in(content: bytes) -> dict[str, Any]:
    try:
        told: Any = json.loads(content)
    except ValueError:
        return {}
    return dict(told) if isinstance(told, dict) and told.get("kind") == "Status" else {}


def _seconds(text: Any) -> float:
    try:
        return max(0.0, float(text))
    except (TypeError, ValueError):
        return 0.0
