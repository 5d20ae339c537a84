"""What Azure's answers become: the error that callers branch on, and a sentence that says what to do."""

from __future__ import annotations

import json
import time
from email.utils import formatdate
from typing import Any

import pytest
import requests
from clusterctl_providers.azure.errors import (
    ApiError,
    OperationError,
    code_behind,
    is_missing,
    is_taken,
    retry_after,
    typed,
)
from clusterctl_providers.azure.login_errors import LoginFailed
from clusterctl_providers.azure.versions import types_in, version_of

from clusterctl.core.errors import (
    AuthFailed,
    BadRequest,
    NoCapacity,
    ProviderError,
    QuotaExceeded,
    Throttled,
    UnknownOutcome,
)

WHAT = "launching cpu-1 (Standard_D4s_v5, spot) in eastus"
QUOTA = (
    "Operation could not be completed as it results in exceeding approved standardNCADSA100v4Family Cores quota. Additional "
    "details - Deployment Model: Resource Manager, Location: eastus, Current Limit: 24, Current Usage: 24, Additional Required: "
    "24, (Minimum) New Limit Required: 48. Submit a request for Quota increase at https://aka.ms/ProdportalCRP/?#create/..."
)


def answered(status: int, code: str, message: str, headers: dict[str, str] | None = None, **error: Any) -> ApiError:
    return ApiError(status, json.dumps({"error": {"code": code, "message": message, **error}}).encode(), headers or {})


def failed(code: str, message: str, **error: Any) -> OperationError:
    return OperationError({"status": "Failed", "error": {"code": code, "message": message, **error}})


def told(error: BaseException) -> ProviderError:
    try:
        raise typed(error, WHAT, "sub-1") from error
    except ProviderError as found:
        assert str(found).startswith(f"{WHAT}: "), "what was tried comes first"
        return found


@pytest.mark.parametrize(
    ("error", "kind", "said"),
    [
        (answered(429, "TooManyRequests", "The request is being throttled."), Throttled, "limits the calls"),
        (answered(429, "SubscriptionRequestsThrottled", "Number of requests exceeded"), Throttled, "limits the calls"),
        (
            answered(409, "OperationNotAllowed", "The server rejected the request because too many requests have been received."),
            Throttled,
            "limits the calls",
        ),
        (answered(409, "OperationNotAllowed", QUOTA), QuotaExceeded, "standardNCADSA100v4Family Cores"),
        (answered(409, "OperationNotAllowed", QUOTA), QuotaExceeded, "limit is 24, 24 are in use, 24 more are needed"),
        (
            answered(409, "OperationNotAllowed", "Operation 'powerOff' is not allowed on VM 'x' as it is going."),
            BadRequest,
            "it is going",
        ),
        (answered(400, "PublicIPCountLimitReached", "Cannot create more than 10"), QuotaExceeded, "Cannot create more"),
        (
            answered(409, "SkuNotAvailable", "The requested VM size for resource 'Following SKUs have failed for Capacity "
                     "Restrictions: Standard_B2s' is currently not available in location 'eastus'."),
            NoCapacity,
            "no capacity there (SkuNotAvailable",
        ),
        (
            answered(403, "AuthorizationFailed", "The client 'a' does not have authorization to perform action "
                     "'Microsoft.Compute/virtualMachines/write' over scope '/subscriptions/s/resourceGroups/g' or the scope is "
                     "invalid. If access was recently granted, please refresh your credentials."),
            AuthFailed,
            "may not do the action Microsoft.Compute/virtualMachines/write on /subscriptions/s/resourceGroups/g",
        ),
        (
            answered(403, "LinkedAuthorizationFailed", "The client 'a' has permission to perform action "
                     "'Microsoft.Compute/virtualMachines/write' on scope '/s/vm'; however, it may not perform "
                     "action(s) 'Microsoft.Network/virtualNetworks/subnets/join/action' on the linked scope(s) '/s/net'"),
            AuthFailed,
            "give them a role that has it",
        ),
        (answered(401, "ExpiredAuthenticationToken", "The access token expiry"), AuthFailed, "`az login`"),
        (answered(401, "", "no"), AuthFailed, "does not accept the credentials"),
        (
            answered(404, "SubscriptionNotFound", "The subscription 'sub-1' could not be found."),
            BadRequest,
            "Azure has no subscription 'sub-1'",
        ),
        (
            answered(409, "MissingSubscriptionRegistration", "It is not registered to use namespace 'Microsoft.Compute'."),
            AuthFailed,
            "az provider register --namespace Microsoft.Compute --subscription sub-1",
        ),
        (answered(409, "ReadOnlyDisabledSubscription", "The subscription is disabled"), AuthFailed, "is disabled"),
        (
            answered(403, "RequestDisallowedByPolicy", "Resource 'vm' was disallowed by policy. Policy identifiers: ...",
                     additionalInfo=[{"type": "PolicyViolation", "info": {"policyAssignmentDisplayName": "Allowed sizes"}}]),
            BadRequest,
            "the policy 'Allowed sizes' forbids it",
        ),
        (
            answered(403, "RequestDisallowedByPolicy", "Resource 'vm' was disallowed by policy. Policy identifiers: "
                     "'[{\"policyAssignment\":{\"name\":\"Only small\",\"id\":\"/x\"}}]'."),
            BadRequest,
            "the policy 'Only small' forbids it",
        ),
        (
            answered(409, "ScopeLocked", "The scope '/s/vm' cannot perform delete because following scope(s) are locked: "
                     "'/s/g'. Please remove the lock and try again."),
            BadRequest,
            "a lock on /s/g forbids it",
        ),
        (
            answered(400, "MarketplacePurchaseEligibilityFailed", "Marketplace purchase check returned errors. See inner "
                     "errors for details: Offer with PublisherId: 'p'"),
            BadRequest,
            "az vm image terms accept",
        ),
        (answered(404, "ResourceNotFound", "The Resource 'x' was not found."), BadRequest, "does not know that"),
        (answered(400, "InvalidParameter", "The value of parameter x is invalid."), BadRequest, "mend what it names"),
        (answered(409, "AnotherOperationInProgress", "Another operation is in progress."), UnknownOutcome, "not yet"),
        (answered(400, "NicReservedForAnotherVm", "reserved for 180 seconds"), UnknownOutcome, "not yet"),
        (answered(500, "InternalServerError", "Encountered internal server error."), UnknownOutcome, "no clear answer"),
        (ApiError(503, b"<html>busy</html>", {}), UnknownOutcome, "busy"),
        (
            answered(409, "DeploymentFailed", "At least one failed.", details=[{"code": "SkuNotAvailable", "message": "gone"}]),
            NoCapacity,
            "gone",
        ),
    ],
)  # fmt: skip
def test_an_answer_becomes_what_callers_branch_on(error: ApiError, kind: type[ProviderError], said: str) -> None:
    found = told(error)
    assert type(found) is kind and said in str(found), str(found)


@pytest.mark.parametrize(
    ("error", "kind", "said"),
    [
        (failed("AllocationFailed", "Allocation failed."), NoCapacity, "no capacity there"),
        (failed("ZonalAllocationFailed", "Allocation failed."), NoCapacity, "no capacity there"),
        (failed("OverconstrainedAllocationRequest", "Allocation failed."), NoCapacity, "no capacity there"),
        (failed("InternalExecutionError", "An internal execution error occurred."), NoCapacity, "and failed"),
        (OperationError({"status": "Failed"}), NoCapacity, "no reason given"),
        (failed("OSProvisioningTimedOut", "OS Provisioning for VM 'x' did not finish."), BadRequest, "refused it"),
        (
            failed("Conflict", "It failed.", details=[{"code": "OperationNotAllowed", "message": QUOTA}]),
            QuotaExceeded,
            "standardNCADSA100v4Family",
        ),
    ],
)
def test_a_change_that_failed_becomes_what_callers_branch_on(
    error: OperationError, kind: type[ProviderError], said: str
) -> None:
    found = told(error)
    assert type(found) is kind and said in str(found)


def test_the_same_status_means_what_its_code_says() -> None:
    kinds = {
        type(told(answered(409, code, text)))
        for code, text in (("SkuNotAvailable", ""), ("OperationNotAllowed", QUOTA), ("AnotherOperationInProgress", ""))
    }
    assert kinds == {NoCapacity, QuotaExceeded, UnknownOutcome}


@pytest.mark.parametrize(
    ("error", "kind", "said"),
    [
        (LoginFailed(AuthFailed, "no credentials"), AuthFailed, ": no credentials"),
        (LoginFailed(UnknownOutcome, "no route"), UnknownOutcome, ": no route"),
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


def test_azure_is_left_alone_for_as_long_as_it_asks() -> None:
    found = told(answered(429, "TooManyRequests", "x", {"Retry-After": "17"}))
    assert isinstance(found, Throttled) and found.retry_after == 17
    assert 50 < retry_after({"Retry-After": formatdate(time.time() + 60, usegmt=True)}) <= 60
    assert retry_after({}) == 0 and retry_after({"Retry-After": "soon"}) == 0


def test_what_is_gone_and_what_is_taken_is_known() -> None:
    assert is_missing(told(answered(404, "ResourceNotFound", "x")))
    assert is_missing(told(answered(404, "ResourceGroupNotFound", "x")))
    assert not is_missing(told(answered(404, "SubscriptionNotFound", "x"))), "nothing is known of what is in it"
    assert is_taken(told(answered(412, "PreconditionFailed", "x")))
    assert not is_taken(told(answered(409, "SkuNotAvailable", "x")))
    assert code_behind(told(failed("AllocationFailed", "x"))) == "AllocationFailed"
    assert code_behind(BadRequest("of our own")) == ""


def test_a_path_says_in_which_version_it_is_spoken_to() -> None:
    machine = "/subscriptions/s/resourceGroups/g/providers/Microsoft.Compute/virtualMachines/n"
    assert types_in(machine) == ["Microsoft.Compute", "virtualMachines"]
    assert version_of(machine) == version_of(f"{machine}/deallocate") == version_of(machine.lower())
    assert version_of("/subscriptions/s/providers/Microsoft.Compute/locations/eastus/usages") == version_of(machine)
    on_it = f"{machine}/providers/Microsoft.Authorization/roleAssignments/x"
    assert types_in(on_it) == ["Microsoft.Authorization", "roleAssignments"], "what is on a thing is not the thing"
    assert version_of("/subscriptions/s/resourceGroups/g") == version_of("/subscriptions/s/resourceGroups")
    assert version_of("/subscriptions/s/providers/Microsoft.Compute/register") == version_of(
        "/subscriptions/s/providers/X.Y"
    )
    with pytest.raises(LookupError):
        version_of("/subscriptions/s/providers/Microsoft.Storage/storageAccounts/x")
