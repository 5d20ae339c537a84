"""Errors that callers branch on.

ClusterctlError            anything we can say in a sentence; carries the exit code of the command line
 +- ProviderError          a provider refused or failed
     +- NoCapacity         blocks that type + zone + market for a while, the next offer is tried
     +- QuotaExceeded      blocks for long; `quota` names what to raise
     +- Throttled          try again after `retry_after` seconds, nothing was done
     +- AuthFailed         credentials are missing, wrong or lapsed
     +- BadRequest         the request itself is wrong: trying again is useless
     +- NotYet             what it needs is on its way: the same again after `retry_after` seconds, nothing was done
     +- UnknownOutcome     it may or may not have happened: keep the intent, look again

Each message says what was tried, on what, and what to do next.
"""

from __future__ import annotations


class ClusterctlError(Exception):
    """A failure with a sentence. `exit_code` follows the command-line contract (1 failed, 2 usage, 3 no such thing,
    4 unreachable, 5 refused)."""

    exit_code = 1


class UsageError(ClusterctlError):
    exit_code = 2


class NotFound(ClusterctlError):
    exit_code = 3


class Unreachable(ClusterctlError):
    exit_code = 4


class Refused(ClusterctlError):
    exit_code = 5


class IllegalTransition(ClusterctlError):
    """A node was given an event that its state does not allow. Raised in tests; quarantines the node in production."""


class ProviderError(ClusterctlError):
    """`code` is the machine-readable reason that plans, events and `explain` carry."""

    code = "provider_error"


class NoCapacity(ProviderError):
    code = "no_capacity"


class QuotaExceeded(ProviderError):
    code = "quota_exceeded"

    def __init__(self, message: str, *, quota: str = "") -> None:
        super().__init__(message)
        self.quota = quota


class Throttled(ProviderError):
    code = "throttled"

    def __init__(self, message: str, *, retry_after: float = 1.0) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class AuthFailed(ProviderError):
    code = "auth_failed"


class BadRequest(ProviderError):
    code = "bad_request"


class NotYet(ProviderError):
    """Its first word says what is going on ("pulling the image ..."): a node's stage while it lasts."""

    code = "not_yet"

    def __init__(self, message: str, *, retry_after: float = 1.0) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class UnknownOutcome(ProviderError):
    code = "unknown_outcome"
