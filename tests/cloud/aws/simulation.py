"""iam:SimulatePrincipalPolicy, which moto lacks: what a principal may do, by the same rules as for its calls."""

from __future__ import annotations

from typing import Any

from moto.core import responses as core_responses
from moto.core.responses import ActionResult
from moto.iam.responses import IamResponse

from tests.cloud.aws.identity import allows
from tests.cloud.aws.moto import WORLD
from tests.cloud.aws.world import Refusal


def _simulate(self: Any) -> Any:
    source = str(self._get_param("PolicySourceArn"))
    principal = next((p for p in WORLD.keys.values() if p.arn == source), None)
    if principal is None:
        raise Refusal("NoSuchEntity", f"The principal {source} cannot be found.", 404)
    context = {
        entry["ContextKeyName"]: str(entry["ContextKeyValues"][0]) for entry in self._get_param("ContextEntries", [])
    }
    rows = []
    for action in self._get_param("ActionNames", []):
        verdicts = [
            {"EvalResourceName": resource, "EvalResourceDecision": _decision(principal, action, resource, context)}
            for resource in self._get_param("ResourceArns", []) or ["*"]
        ]
        worst = next((v["EvalResourceDecision"] for v in verdicts if v["EvalResourceDecision"] != "allowed"), "allowed")
        rows.append({"EvalActionName": action, "EvalDecision": worst, "ResourceSpecificResults": verdicts})
    return ActionResult({"EvaluationResults": rows, "IsTruncated": False})


def _decision(principal: Any, action: str, resource: str, context: dict[str, str]) -> str:
    if action in WORLD.denied or (WORLD.allowed is not None and action not in WORLD.allowed):
        return "explicitDeny"
    if principal.policies is None or allows(principal.policies(), action, resource, context):
        return "allowed"
    return "implicitDeny"


IamResponse.simulate_principal_policy = _simulate
if hasattr(core_responses.method_names_from_class, "cache_clear"):
    core_responses.method_names_from_class.cache_clear()
