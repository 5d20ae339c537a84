"""The definitions of KubeRay's kinds and of PodMonitor, loaded into the tests' API server.

It is older than they are: it has no rules in CEL, and checks a default of "" as if it were null. So of the schemas the rules are
left out, such defaults too, and list maps are plain lists. The whole schemas are read by `tests/kuberay/crd.py`.
"""

from __future__ import annotations

from typing import Any

from tests.kuberay import crd
from tests.support.cluster import wait_until
from tests.support.kubernetes.api import ApiError
from tests.support.kubernetes.plane import ControlPlane

PLACE = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
LEFT_OUT = frozenset({"x-kubernetes-validations", "x-kubernetes-list-map-keys"})


def load(plane: ControlPlane) -> None:
    """Once per control plane; returns when all kinds are served."""
    names = []
    for kind in crd.KINDS:
        made = definition(kind)
        names.append(made["metadata"]["name"])
        try:
            plane.api.create(PLACE, made)
        except ApiError as error:
            if error.code != 409:
                raise
    for name in names:
        wait_until(lambda name=name: _is_served(plane, name), what=f"{name} is served")


def definition(kind: str) -> dict[str, Any]:
    known = crd.load(kind)
    group, version = known["apiVersion"].split("/")
    plural = f"{kind.lower()}s"
    return {
        "metadata": {
            "name": f"{plural}.{group}",
            # Groups below k8s.io need it; for others it says nothing.
            "annotations": {"api-approved.kubernetes.io": "unapproved, for tests"},
        },
        "spec": {
            "group": group,
            "names": {"kind": kind, "plural": plural, "singular": kind.lower(), "listKind": f"{kind}List"},
            "scope": "Namespaced",
            "versions": [
                {
                    "name": version,
                    "served": True,
                    "storage": True,
                    "schema": {"openAPIV3Schema": _older(known["schema"])},
                    "subresources": {"status": {}},
                }
            ],
        },
    }


def _older(schema: Any) -> Any:
    if isinstance(schema, list):
        return [_older(each) for each in schema]
    if not isinstance(schema, dict):
        return schema
    kept = {key: _older(value) for key, value in schema.items() if key not in LEFT_OUT}
    if kept.get("default") == "":
        del kept["default"]
    if kept.get("x-kubernetes-list-type") == "map":
        kept["x-kubernetes-list-type"] = "atomic"
    return kept


def _is_served(plane: ControlPlane, name: str) -> bool:
    made = plane.api.get(f"{PLACE}/{name}")
    holds = {each["type"]: each["status"] for each in made.get("status", {}).get("conditions", [])}
    assert holds.get("NonStructuralSchema") != "True" and holds.get("NamesAccepted") != "False", made["status"]
    if holds.get("Established") != "True":
        return False
    group, plural = made["spec"]["group"], made["spec"]["names"]["plural"]
    try:  # known is not yet served
        return "items" in plane.api.get(f"/apis/{group}/{made['spec']['versions'][0]['name']}/{plural}")
    except ApiError:
        return False
