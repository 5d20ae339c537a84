"""What stands before moto on the wire: checks each request against botocore's model, throttles, loses answers, refuses."""

from __future__ import annotations

import io
import json
import os
import re
from collections.abc import Iterable
from html import escape
from typing import Any
from urllib.parse import parse_qs

from moto.server import DomainDispatcherApplication, create_backend_app
from werkzeug.wrappers import Request, Response

from tests.cloud.aws.identity import ACCOUNT, Principal, authenticate, expired
from tests.cloud.aws.moto import WORLD, advance
from tests.cloud.aws.permissions import authorize
from tests.cloud.aws.validation import check_json, check_query
from tests.cloud.aws.world import Refusal
from tests.cloud.wire import Broken, Half, hang_up, misbehave
from tests.cloud.world import Fault

JSON = "application/x-amz-json-1.1"
_MODELS = {
    "servicequotas": "service-quotas",
    "pricing": "pricing",
    "ssm": "ssm",
    "ec2": "ec2",
    "sts": "sts",
    "iam": "iam",
}


_CALLER = (
    '<GetCallerIdentityResponse xmlns="https://sts.amazonaws.com/doc/2011-06-15/"><GetCallerIdentityResult>'
    "<Arn>{arn}</Arn><UserId>AIDAEXAMPLE</UserId><Account>{account}</Account></GetCallerIdentityResult>"
    "<ResponseMetadata><RequestId>r</RequestId></ResponseMetadata></GetCallerIdentityResponse>"
)


_REGIONS = (
    '<DescribeRegionsResponse xmlns="http://ec2.amazonaws.com/doc/2016-11-15/"><requestId>r</requestId><regionInfo><item>'
    "<regionName>{region}</regionName><regionEndpoint>ec2.{region}.amazonaws.com</regionEndpoint>"
    "<optInStatus>not-opted-in</optInStatus></item></regionInfo></DescribeRegionsResponse>"
)


def _unknown_key(service: str) -> Refusal:
    """What a region answers that the account has not enabled: it does not know the account's keys."""
    if service == "ec2":
        return Refusal("AuthFailure", "AWS was not able to validate the provided access credentials", 401)
    return Refusal("InvalidClientTokenId", "The security token included in the request is invalid", 403)


class Front:
    def __init__(self) -> None:
        self._moto = DomainDispatcherApplication(create_backend_app)

    def __call__(self, environ: dict[str, Any], start: Any) -> Iterable[bytes]:
        request = Request(environ)
        body = request.get_data(cache=True)
        text = body.decode("utf-8", "replace")
        service, region = _signed_for(request.headers.get("Authorization", ""))
        shape = "json" if request.headers.get("X-Amz-Target") else "ec2" if service == "ec2" else "query"
        target = request.headers.get("X-Amz-Target", "")
        action = target.rpartition(".")[2] or (parse_qs(text).get("Action") or [""])[0]
        try:
            parameters = self._check(service, action, text, shape == "json")
            principal = self._admit(request, body, service, region, action, parameters)
            answer = self._answer(environ, body, service, region, action, text, parameters, principal)
            _remember(service, action, parameters)
        except Refusal as refusal:
            answer = _refused(refusal, shape)
        except Broken:
            hang_up(environ)
            raise ConnectionResetError from None
        return answer(environ, start)

    def _check(self, service: str, action: str, text: str, is_json: bool) -> dict[str, Any]:
        model = _MODELS.get(service, service)
        if is_json:
            parameters = json.loads(text or "{}")
            faults = check_json(model, action, parameters)
        else:
            parameters, faults = check_query(model, action, text)
        with WORLD.lock:
            WORLD.calls.append((WORLD.clock(), f"{service}:{action}", parameters))
            WORLD.violations += faults
        if faults:
            raise Refusal("UnknownParameter", "; ".join(faults))
        return parameters

    def _admit(
        self, request: Request, body: bytes, service: str, region: str, action: str, parameters: dict[str, Any]
    ) -> Principal:
        """Who calls, if he may."""
        if WORLD.lapsed:
            raise Refusal("RequestExpired", "Request has expired.") if service == "ec2" else expired()
        if region in WORLD.closed_regions:
            raise _unknown_key(service)
        principal = authenticate(WORLD, request, body)
        permission = f"{service}:{action}"
        with WORLD.lock:
            WORLD.called_by.append((principal.arn, permission))
        if permission in WORLD.denied or (WORLD.allowed is not None and permission not in WORLD.allowed):
            raise Refusal("UnauthorizedOperation", "You are not authorized to perform this operation.", 403)
        authorize(WORLD, principal, service, region, action, parameters)
        return principal

    def _answer(
        self,
        environ: Any,
        body: bytes,
        service: str,
        region: str,
        action: str,
        text: str,
        parameters: dict[str, Any],
        principal: Principal,
    ) -> Any:
        if service == "ec2":
            WORLD.check_rate(action)
        fault = WORLD.fault_for(action, text)
        if fault and fault.effect == "garbled":
            return Half(self._pass_on(environ, body))
        if fault:
            misbehave(fault, lambda: self._carry_out(environ, body, region), _refusal)
        if service == "ec2":
            advance(region)
        if action == "GetCallerIdentity":
            return Response(_CALLER.format(arn=principal.arn, account=ACCOUNT), content_type="text/xml")
        if action == "DescribeRegions" and WORLD.closed_regions:
            if not WORLD.tells_regions:
                raise Refusal("UnauthorizedOperation", "You are not authorized to perform this operation.", 403)
            return Response(_REGIONS.format(region=next(iter(WORLD.closed_regions))), content_type="text/xml")
        own = {"GetProducts": _prices, "GetServiceQuota": _quota, "GetParameter": _parameter}.get(action)
        if own:
            answer = own(parameters)
            if answer is not None:
                return Response(json.dumps(answer), content_type=JSON)
        return self._pass_on(environ, body)

    def _carry_out(self, environ: Any, body: bytes, region: str) -> None:
        advance(region)
        list(self._pass_on(environ, body)({}, lambda *_: None))

    def _pass_on(self, environ: Any, body: bytes) -> Any:
        """moto's answer; a Refusal of our patches comes out as it is, with its own HTTP status."""
        inner = {k: v for k, v in environ.items() if not k.startswith("werkzeug.request")}
        inner["wsgi.input"] = io.BytesIO(body)
        started: list[Any] = []
        try:
            parts = b"".join(self._moto(inner, lambda status, headers, *_: started.append((status, headers))))
        except NotImplementedError as error:
            raise Refusal("InvalidAction", str(error)) from error
        except Refusal:
            raise
        except Exception as error:
            WORLD.violations.append(f"the stand-in itself broke: {error!r}")  # else a client's patience would hide it
            raise

        def answer(_: Any, start: Any) -> Iterable[bytes]:
            start(*started[-1])
            return [parts]

        return answer


def _refusal(fault: Fault) -> Refusal:
    return Refusal(fault.code, fault.message, fault.status)


def _signed_for(authorization: str) -> tuple[str, str]:
    """(service, region) of a signed request."""
    match = re.search(r"/\d{8}/([a-z0-9-]+)/([a-z0-9-]+)/aws4_request", authorization)
    return (match.group(2), match.group(1)) if match else ("", "")


def _remember(service: str, action: str, parameters: dict[str, Any]) -> None:
    """EC2 learns of what is made in IAM some seconds later."""
    if service == "iam" and action in ("CreateInstanceProfile", "AddRoleToInstanceProfile"):
        WORLD.profiles_known[parameters["InstanceProfileName"]] = WORLD.clock() + WORLD.iam_delay


def _refused(refusal: Refusal, shape: str) -> Response:
    """`shape`: how the service's protocol spells an error: json, ec2 or query."""
    if shape == "json":
        return Response(
            json.dumps({"__type": refusal.code, "message": refusal.message}), status=refusal.status, content_type=JSON
        )
    error = f"<Error><Code>{refusal.code}</Code><Message>{escape(refusal.message)}</Message></Error>"
    number = os.urandom(4).hex()
    text = '<?xml version="1.0" encoding="UTF-8"?>\n'
    if shape == "ec2":
        text += f"<Response><Errors>{error}</Errors><RequestID>{number}</RequestID></Response>"
    else:
        text += f"<ErrorResponse>{error}<RequestId>{number}</RequestId></ErrorResponse>"
    return Response(text, status=refusal.status, content_type="text/xml;charset=UTF-8")


_LISTED = {
    "operatingSystem": "Linux",
    "preInstalledSw": "NA",
    "tenancy": "Shared",
    "capacitystatus": "Used",
    "marketoption": "OnDemand",
    "regionCode": "us-east-1",
}
_OTHERS = {  # what the price list has beside, cheaper here than what is meant: who does not ask closely gets these
    "operatingSystem": ("Windows", "RHEL", "SUSE"),
    "preInstalledSw": ("SQL Web", "SQL Ent"),
    "tenancy": ("Dedicated", "Host"),
    "capacitystatus": ("UnusedCapacityReservation", "AllocatedCapacityReservation"),
    "marketoption": ("CapacityBlock",),
}


def _products(name: str, price: float) -> Iterable[tuple[dict[str, str], float]]:
    for region, factor in (("us-east-1", 1.0), ("eu-west-1", 0.9)):
        plain = {**_LISTED, "instanceType": name, "regionCode": region, "locationType": "AWS Region"}
        yield plain, price * factor
        for field, values in _OTHERS.items():
            for value in values:
                yield {**plain, field: value}, price * factor / 2


def _prices(parameters: dict[str, Any]) -> dict[str, Any]:
    wanted = [(f["Field"], f["Value"]) for f in parameters.get("Filters", [])]
    known = {*_LISTED, "instanceType", "locationType"}
    if unknown := [field for field, _ in wanted if field not in known]:
        raise Refusal("InvalidParameterException", f"Attribute {unknown[0]} is not valid for service code AmazonEC2")
    found: list[str] = []
    for name, price in WORLD.prices.items():
        for number, (attributes, amount) in enumerate(_products(name, price)):
            if any(attributes[field] != value for field, value in wanted):
                continue
            sku = f"{name.upper()}{number}"
            hour = {"unit": "Hrs", "pricePerUnit": {"USD": f"{amount:.10f}"}}
            upfront = {"unit": "Quantity", "pricePerUnit": {"USD": f"{amount * 3000:.10f}"}}
            terms = {
                "OnDemand": {f"{sku}.T": {"priceDimensions": {f"{sku}.T.D": hour}}},
                "Reserved": {f"{sku}.R": {"priceDimensions": {f"{sku}.R.D": upfront}}},
            }
            product = {"productFamily": "Compute Instance", "sku": sku, "attributes": attributes}
            found.append(json.dumps({"product": product, "serviceCode": "AmazonEC2", "terms": terms}))
    return {"FormatVersion": "aws_v1", "PriceList": found[:100]}


def _quota(parameters: dict[str, Any]) -> dict[str, Any]:
    code = parameters["QuotaCode"]
    if code not in WORLD.quotas:
        raise Refusal("NoSuchResourceException", "The request failed because the specified quota does not exist.")
    return {"Quota": {"ServiceCode": "ec2", "QuotaCode": code, "QuotaName": code, "Value": WORLD.quotas[code]}}


def _parameter(parameters: dict[str, Any]) -> dict[str, Any] | None:
    name = parameters["Name"]
    if name not in WORLD.parameters:
        return None
    return {"Parameter": {"Name": name, "Type": "String", "Value": WORLD.parameters[name], "Version": 1}}
