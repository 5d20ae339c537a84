"""Who calls, and what they may do: access keys, signatures, sessions of instances' roles, and the policies of each
principal over action, resource and tags. moto keeps users, roles and profiles; it asks nobody for a signature."""

from __future__ import annotations

import datetime
import json
import re
import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from moto.iam.models import iam_backends

from tests.cloud.aws.world import Refusal, World

ACCOUNT = "123456789012"
SKEW = 300.0  # seconds by which a request's time may be wrong
_SIGNED = re.compile(
    r"AWS4-HMAC-SHA256 Credential=([^/]+)/(\d{8})/([a-z0-9-]+)/([a-z0-9-]+)/aws4_request, ?"
    r"SignedHeaders=([^,]+), ?Signature=([0-9a-f]+)"
)


@dataclass
class Principal:
    """`policies` are asked for with each call; None = all is allowed. `expires` is the wall clock's."""

    arn: str
    secret: str
    token: str = ""
    policies: Callable[[], list[dict[str, Any]]] | None = None
    expires: float = float("inf")


def iam() -> Any:
    return iam_backends[ACCOUNT]["aws"]


# ---------------------------------------------------------------- who it is


def authenticate(world: World, request: Any, body: bytes) -> Principal:
    """The owner of a request's signature; raises Refusal in the service's own words."""
    found = _SIGNED.match(request.headers.get("Authorization", ""))
    if not found:
        raise Refusal("MissingAuthenticationToken", "Request is missing Authentication Token", 403)
    key, _, region, service, names, signature = found.groups()
    principal: Principal | None = world.keys.get(key)
    if principal is None or (principal.token and request.headers.get("X-Amz-Security-Token") != principal.token):
        raise _unknown(service)
    stamp = request.headers["X-Amz-Date"]
    credentials = Credentials(key, principal.secret, principal.token or None)
    if _signature(credentials, request, body, service, region, names.split(";"), stamp) != signature:
        raise _unknown(service)
    sent = datetime.datetime.strptime(stamp, "%Y%m%dT%H%M%SZ").replace(tzinfo=datetime.timezone.utc).timestamp()
    off = sent - (time.time() + world.clock_offset)
    if abs(off) > SKEW and service != "ec2":
        raise Refusal("SignatureDoesNotMatch", f"Signature {'not yet current' if off > 0 else 'expired'}: {stamp}", 403)
    if off > SKEW:
        raise _unknown(service)
    if off < -SKEW or principal.expires < time.time():
        raise Refusal("RequestExpired", "Request has expired.") if service == "ec2" else expired()
    return principal


def expired() -> Refusal:
    return Refusal("ExpiredTokenException", "The security token included in the request is expired")


def _unknown(service: str) -> Refusal:
    if service == "ec2":
        return Refusal("AuthFailure", "AWS was not able to validate the provided access credentials", 401)
    code = "InvalidClientTokenId" if service in ("iam", "sts") else "UnrecognizedClientException"
    return Refusal(code, "The security token included in the request is invalid.", 403)


def _signature(
    credentials: Credentials, request: Any, body: bytes, service: str, region: str, names: list[str], stamp: str
) -> str:
    headers = {name: request.headers.get(name, "") for name in names}
    again = AWSRequest(method=request.method, url=request.url, data=body, headers=headers)
    again.context["timestamp"] = stamp
    signer = SigV4Auth(credentials, service, region)
    return str(signer.signature(signer.string_to_sign(again, signer.canonical_request(again)), again))


def session_of(world: World, instance: Any) -> dict[str, str]:
    """What the metadata service says below iam/: the session of the role in the instance's profile."""
    association = instance.ec2_backend.iam_instance_profile_associations.get(instance.id)
    roles = association.iam_instance_profile.roles if association else []
    if not roles:
        return {}
    role, now = roles[0], time.time()
    name = role.name
    with world.lock:
        known = world.sessions.get(instance.id)
        if known is None or known[1].expires - now < world.session_seconds / 2:
            principal = Principal(
                f"arn:aws:sts::{ACCOUNT}:assumed-role/{name}/{instance.id}", secrets.token_hex(20), secrets.token_hex(60),
                lambda: role_policies(name), now + world.session_seconds,
            )  # fmt: skip
            known = (f"ASIA{secrets.token_hex(8).upper()}", principal, now)
            world.sessions[instance.id] = known
            world.keys[known[0]] = principal
    key, principal, made = known
    answer = {
        "Code": "Success", "Type": "AWS-HMAC", "LastUpdated": _iso(made), "AccessKeyId": key,
        "SecretAccessKey": principal.secret, "Token": principal.token, "Expiration": _iso(principal.expires),
    }  # fmt: skip
    info = {"Code": "Success", "LastUpdated": _iso(made), "InstanceProfileArn": association.iam_instance_profile.arn}
    paths = {"iam/security-credentials/": name, f"iam/security-credentials/{name}": json.dumps(answer)}
    return {**paths, "iam/info": json.dumps(info), "iam/security-credentials": name}


def _iso(at: float) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(at))


def role_policies(name: str) -> list[dict[str, Any]]:
    """As they are now; a role that is gone allows nothing."""
    role = next((r for r in iam().roles.values() if r.name == name), None)
    if role is None:
        return []
    managed = [json.loads(policy.document) for policy in role.managed_policies.values()]
    return [*map(json.loads, role.policies.values()), *managed]


# ---------------------------------------------------------------- what they may do


def allows(policies: list[dict[str, Any]], action: str, resource: str, context: dict[str, str]) -> bool:
    """IAM's rule: some statement allows it, and none denies it."""
    effects = {
        statement["Effect"]
        for policy in policies
        for statement in _many(policy["Statement"])
        if _any_like(statement, "Action", action, ignore_case=True)
        and _any_like(statement, "Resource", resource)
        and all(_holds(test, keys, context) for test, keys in statement.get("Condition", {}).items())
    }
    return effects == {"Allow"}


def _many(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


def _any_like(statement: dict[str, Any], member: str, value: str, ignore_case: bool = False) -> bool:
    if f"Not{member}" in statement:
        return not any(_like(p, value, ignore_case) for p in _many(statement[f"Not{member}"]))
    return any(_like(p, value, ignore_case) for p in _many(statement[member]))


def _like(pattern: str, value: str, ignore_case: bool = False) -> bool:
    text = "".join({"*": ".*", "?": "."}.get(c, re.escape(c)) for c in pattern)
    return re.fullmatch(text, value, re.IGNORECASE | re.DOTALL if ignore_case else re.DOTALL) is not None


def _holds(test: str, keys: dict[str, Any], context: dict[str, str]) -> bool:
    quantifier, _, name = test.rpartition(":")
    if_exists, name = name.endswith("IfExists"), name.removesuffix("IfExists")
    for key, wanted in keys.items():
        found = next((value for known, value in context.items() if known.lower() == key.lower()), None)
        wanted = [str(one).lower() if isinstance(one, bool) else str(one) for one in _many(wanted)]
        if name == "Null":
            if (found is None) != (wanted == ["true"]):
                return False
            continue
        if found is None:
            if if_exists or quantifier == "ForAllValues" or "Not" in name:
                continue
            return False
        values = found.split("\n") if quantifier else [found]
        results = [_matches(name, value, wanted) for value in values]
        if not (any(results) if quantifier == "ForAnyValue" else all(results)):
            return False
    return True


def _matches(name: str, value: str, wanted: list[str]) -> bool:
    plain = name.replace("Not", "")
    if plain in ("StringEquals", "Bool"):
        found = value in wanted
    elif plain in ("StringLike", "ArnLike", "ArnEquals"):
        found = any(_like(pattern, value) for pattern in wanted)
    elif plain == "NumericEquals":
        found = any(float(value) == float(limit) for limit in wanted)
    elif plain == "NumericLessThanEquals":
        found = any(float(value) <= float(limit) for limit in wanted)
    else:
        raise ValueError(f"the stand-in does not know the condition {name}")
    return found != ("Not" in name)
