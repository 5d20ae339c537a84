"""What Google Cloud's answers become: the error that callers branch on, and a sentence that says what to do."""

from __future__ import annotations

import json
import time
from email.utils import formatdate
from typing import Any

import pytest
import requests
from clusterctl_providers.gcp.errors import (
    ApiError,
    OperationError,
    is_missing,
    is_taken,
    reason_behind,
    typed,
    zones_with_room,
)
from google.auth import exceptions as auth

from clusterctl.core.errors import (
    AuthFailed,
    BadRequest,
    NoCapacity,
    ProviderError,
    QuotaExceeded,
    Throttled,
    UnknownOutcome,
)

WHAT = "launching cpu-1 (n2-standard-4, spot) in us-central1"


def answered(status: int, reason: str, message: str, info: dict[str, Any] | None = None, **headers: str) -> ApiError:
    error: dict[str, Any] = {"code": status, "message": message, "errors": [{"reason": reason, "domain": "global"}]}
    if info is not None:
        kind = "type.googleapis.com/google.rpc.ErrorInfo"
        error["details"] = [{"@type": kind, "reason": reason, "domain": "googleapis.com", "metadata": info}]
    return ApiError(status, json.dumps({"error": error}).encode(), headers)


def failed(code: str, message: str, status: int = 0, details: list[dict[str, Any]] | None = None) -> OperationError:
    error = {"code": code, "message": message, "errorDetails": details or []}
    return OperationError({"status": "DONE", "httpErrorStatusCode": status, "error": {"errors": [error]}})


def told(error: BaseException) -> ProviderError:
    try:
        raise typed(error, WHAT, "proj") from error
    except ProviderError as found:
        assert str(found).startswith(f"{WHAT}: "), "what was tried comes first"
        return found


@pytest.mark.parametrize(
    ("error", "kind", "said"),
    [
        (answered(403, "rateLimitExceeded", "Rate Limit Exceeded"), Throttled, "limits the calls"),
        (answered(429, "RATE_LIMIT_EXCEEDED", "Quota exceeded for quota metric"), Throttled, "limits the calls"),
        (answered(401, "authError", "Invalid Credentials"), AuthFailed, "application-default login"),
        (
            answered(403, "forbidden", "Required 'compute.instances.create' permission for 'projects/proj/zones/z'"),
            AuthFailed,
            "lack the permission compute.instances.create",
        ),
        (
            answered(
                403, "IAM_PERMISSION_DENIED", "Permission 'iam.roles.create' denied on resource (or it may not exist)."
            ),
            AuthFailed,
            "the permission iam.roles.create",
        ),
        (
            answered(
                403,
                "accessNotConfigured",
                "Compute Engine API has not been used in project 7 before or it is disabled. Enable it by visiting "
                "https://console.developers.google.com/apis/api/compute.googleapis.com/overview?project=7 then retry.",
            ),
            AuthFailed,
            "`gcloud services enable compute.googleapis.com --project proj`, or at https://console.developers.google.com/apis/api/",
        ),
        (
            answered(403, "SERVICE_DISABLED", "IAM API is disabled", {"service": "iam.googleapis.com"}),
            AuthFailed,
            "the API iam.googleapis.com is not enabled in the project proj",
        ),
        (
            answered(403, "accessNotConfigured", "Project 7 is not found and cannot be used for API calls."),
            BadRequest,
            "has no project 'proj'",
        ),
        (answered(404, "notFound", "The resource 'projects/proj' was not found"), BadRequest, "has no project 'proj'"),
        (
            answered(403, "forbidden", "Project proj (#7) has billing disabled. Please enable it."),
            AuthFailed,
            "billing account",
        ),
        (
            answered(403, "BILLING_DISABLED", "This API method requires billing to be enabled."),
            AuthFailed,
            "billing account",
        ),
        (
            answered(
                400, "badRequest", "Project proj cannot accept requests to insert while in an inactive billing state."
            ),
            AuthFailed,
            "billing account",
        ),
        (
            answered(
                403, "SERVICE_DISABLED", "The oslogin.googleapis.com API requires a quota project, which is not set"
            ),
            AuthFailed,
            "set-quota-project proj",
        ),
        (
            answered(
                412,
                "conditionNotMet",
                "Constraint constraints/compute.vmExternalIpAccess violated for project 7. Add instance projects/...",
            ),
            BadRequest,
            "the organisation's policy constraints/compute.vmExternalIpAccess forbids it",
        ),
        (
            answered(412, "conditionNotMet", "Supplied fingerprint does not match current metadata fingerprint."),
            UnknownOutcome,
            "not yet",
        ),
        (answered(400, "resourceNotReady", "The resource 'projects/p/x' is not ready"), UnknownOutcome, "not yet"),
        (
            answered(400, "resourceInUseByAnotherResource", "The disk resource is already being used by"),
            UnknownOutcome,
            "not yet",
        ),
        (
            answered(403, "quotaExceeded", "Quota 'FIREWALLS' exceeded.  Limit: 100.0"),
            QuotaExceeded,
            "'FIREWALLS', whose limit is 100,",
        ),
        (
            answered(400, "invalid", "Invalid value for field 'resource.machineType': 'x'."),
            BadRequest,
            "mend what it names",
        ),
        (
            answered(404, "notFound", "The resource 'projects/proj/zones/mars' was not found"),
            BadRequest,
            "does not know that",
        ),
        (answered(409, "alreadyExists", "The resource 'x' already exists"), BadRequest, "already exists"),
        (answered(503, "backendError", "Backend Error"), UnknownOutcome, "no clear answer"),
        (ApiError(502, b"<html>Bad Gateway</html>", {}), UnknownOutcome, "Bad Gateway"),
    ],
)
def test_an_answer_becomes_what_callers_branch_on(error: ApiError, kind: type[ProviderError], said: str) -> None:
    found = told(error)
    assert type(found) is kind and said in str(found)


@pytest.mark.parametrize(
    ("error", "kind", "said"),
    [
        (
            failed("ZONE_RESOURCE_POOL_EXHAUSTED", "The zone does not have enough resources", 503),
            NoCapacity,
            "no capacity",
        ),
        (failed("ZONE_RESOURCE_POOL_EXHAUSTED_WITH_DETAILS", "The zone does not have", 503), NoCapacity, "no capacity"),
        (
            failed("VM_MIN_COUNT_NOT_REACHED", "Requested minimum count of 8 VMs could not be created."),
            NoCapacity,
            "no capacity",
        ),
        (
            failed("QUOTA_EXCEEDED", "Quota 'NVIDIA_L4_GPUS' exceeded.  Limit: 1.0 in region us-central1.", 403),
            QuotaExceeded,
            "the quota 'NVIDIA_L4_GPUS', whose limit is 1,",
        ),
        (
            failed("RESOURCE_OPERATION_RATE_EXCEEDED", "Operation rate exceeded for resource"),
            Throttled,
            "limits the calls",
        ),
        (failed("RESOURCE_IN_USE_BY_ANOTHER_RESOURCE", "The address is in use"), UnknownOutcome, "not yet"),
        (
            failed("PERMISSIONS_ERROR", "Required 'compute.images.useReadOnly' permission for 'projects/x'"),
            AuthFailed,
            "useReadOnly",
        ),
        (
            failed("CONDITION_NOT_MET", "Constraint constraints/compute.requireShieldedVm violated for project 7."),
            BadRequest,
            "constraints/compute.requireShieldedVm",
        ),
        (
            failed("INTERNAL_ERROR", "Internal error. Please try again or contact Google Support.", 500),
            NoCapacity,
            "and failed",
        ),
        (failed("INVALID_USAGE", "No such thing."), BadRequest, "refused it"),
        (OperationError({"status": "DONE", "error": {}}), NoCapacity, "and failed"),
    ],
)
def test_an_operation_that_failed_becomes_what_callers_branch_on(
    error: OperationError, kind: type[ProviderError], said: str
) -> None:
    found = told(error)
    assert type(found) is kind and said in str(found)


def test_a_stockout_names_the_zones_that_have_room() -> None:
    info = {"zone": "us-central1-a", "vmType": "a3-highgpu-8g", "zonesAvailable": "us-central1-b, us-central1-c"}
    found = told(
        failed("ZONE_RESOURCE_POOL_EXHAUSTED_WITH_DETAILS", "It has none", 503, [{"errorInfo": {"metadatas": info}}])
    )
    assert zones_with_room(found) == ["us-central1-b", "us-central1-c"]
    assert "zones that have some: us-central1-b" in str(found)


def test_a_quota_is_named_by_its_details_where_the_text_does_not() -> None:
    detail = {
        "quotaInfo": {"metricName": "compute.googleapis.com/gpus", "limitName": "GPUS-PER-GPU-FAMILY", "limit": 8}
    }
    found = told(failed("QUOTA_EXCEEDED", "Quota exceeded.", 403, [detail]))
    assert isinstance(found, QuotaExceeded) and found.quota == "GPUS-PER-GPU-FAMILY"
    assert "console.cloud.google.com/iam-admin/quotas?project=proj" in str(found)


@pytest.mark.parametrize(
    ("error", "kind", "said"),
    [
        (auth.DefaultCredentialsError("not found"), AuthFailed, "application-default login"),
        (auth.RefreshError("('invalid_grant: Token has been expired or revoked.', {})"), AuthFailed, "has expired"),
        (
            auth.RefreshError("invalid_grant: Invalid JWT: Token must be ... in a reasonable timeframe"),
            AuthFailed,
            "clock",
        ),
        (auth.RefreshError("invalid_grant: Invalid grant: account not found"), AuthFailed, "gone or disabled"),
        (auth.RefreshError("internal_failure", retryable=True), UnknownOutcome, "is busy"),
        (auth.TransportError("no route to host"), UnknownOutcome, "could not be reached"),
        (requests.exceptions.ProxyError("refused"), UnknownOutcome, "HTTPS_PROXY"),
        (requests.exceptions.SSLError("self-signed"), UnknownOutcome, "REQUESTS_CA_BUNDLE"),
        (requests.exceptions.ConnectTimeout("timed out"), UnknownOutcome, "in time"),
        (requests.exceptions.ReadTimeout("timed out"), UnknownOutcome, "did not answer in time"),
        (requests.exceptions.ConnectionError("reset"), UnknownOutcome, "the line broke"),
        (requests.exceptions.JSONDecodeError("Expecting value", "{", 0), UnknownOutcome, "no clear answer"),
    ],
)
def test_what_never_got_a_clear_answer_says_why(error: Exception, kind: type[ProviderError], said: str) -> None:
    found = told(error)
    assert type(found) is kind and said in str(found)


def test_a_clock_that_is_wrong_is_told_instead_of_new_keys() -> None:
    date = formatdate(time.time() - 1800, usegmt=True)
    found = told(answered(401, "authError", "Invalid Credentials", Date=date))
    assert "30 minutes fast" in str(found) and "login" not in str(found)


def test_what_is_gone_and_what_is_taken_is_known_by_either_way_of_saying_it() -> None:
    assert is_missing(told(answered(404, "notFound", "The resource 'x' was not found")))
    assert is_missing(told(failed("RESOURCE_NOT_FOUND", "The resource 'x' was not found", 404)))
    assert is_taken(told(answered(409, "alreadyExists", "The resource 'x' already exists")))
    assert is_taken(told(failed("RESOURCE_ALREADY_EXISTS", "The resource 'x' already exists", 409)))
    assert not is_missing(told(answered(400, "invalid", "x"))) and not is_taken(
        told(requests.exceptions.ReadTimeout("x"))
    )
    assert reason_behind(told(failed("QUOTA_EXCEEDED", "x"))) == "QUOTA_EXCEEDED"
    assert reason_behind(BadRequest("of our own")) == ""
