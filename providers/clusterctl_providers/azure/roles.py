"""The custom roles that clusterctl needs on Azure: exactly the actions of the calls that are made.

    python -m clusterctl_providers.azure.roles client --subscription 11111111-... > client.json
    az role definition create --role-definition @client.json

A role says what may be done; on what, the scope says at which it is given. `head` is given at the cluster's resource group and at
what the spec names elsewhere, `lookup` at the subscription, where Azure tells what it sells.
"""

from __future__ import annotations

import argparse
import json
import uuid
from importlib import resources
from typing import Any

from clusterctl_providers.cloud.naming import OURS

NAMES = ("client", "access", "head", "lookup", "image", "bastion")
_PART = 8  # characters of a subscription's id in a role's name, which is the only one of that name in its tenant
ASSIGN, UNASSIGN = "Microsoft.Authorization/roleAssignments/write", "Microsoft.Authorization/roleAssignments/delete"


def actions_of(name: str) -> frozenset[str]:
    """All that the role allows."""
    return frozenset(_read(name)["Actions"])


def role_name(name: str, subscription: str) -> str:
    """How it is called in the tenant."""
    return f"{OURS} {name} {subscription[:_PART]}".strip()


def render_role(name: str, subscription: str) -> dict[str, Any]:
    """The role as `az role definition create` takes it."""
    role = _read(name)
    return {
        "Name": role_name(name, subscription),
        "IsCustom": True,
        "Description": role["Description"],
        "Actions": role["Actions"],
        "NotActions": [],
        "DataActions": [],
        "NotDataActions": [],
        "AssignableScopes": [f"/subscriptions/{subscription}"],
    }


def definition_of(name: str, subscription: str) -> dict[str, Any]:
    """The role as Azure's API takes it."""
    role = render_role(name, subscription)
    permission = {"actions": role["Actions"], "notActions": [], "dataActions": [], "notDataActions": []}
    return {
        "properties": {
            "roleName": role["Name"],
            "type": "CustomRole",
            "description": role["Description"],
            "permissions": [permission],
            "assignableScopes": role["AssignableScopes"],
        }
    }


def role_guid(name: str, subscription: str) -> str:
    """Under which we make it; one that somebody else has made has another."""
    return str(uuid.uuid5(uuid.NAMESPACE_URL, f"clusterctl/{subscription.lower()}/{name}"))


def grants_only(*guids: str) -> str:
    """The condition of an assignment of `access` (or of Azure's own administrator of roles) under which its holder may give the
    roles with these guids to identities of machines and applications, and no others to anybody."""
    which = ", ".join(guids)
    request, kept = (
        f"@{where}[Microsoft.Authorization/roleAssignments:RoleDefinitionId]" for where in ("Request", "Resource")
    )
    kind = "@Request[Microsoft.Authorization/roleAssignments:PrincipalType]"
    return (
        f"((!(ActionMatches{{'{ASSIGN}'}})) OR ({request} ForAnyOfAnyValues:GuidEquals {{{which}}} AND {kind} "
        f"ForAnyOfAnyValues:StringEqualsIgnoreCase {{'ServicePrincipal'}})) AND "
        f"((!(ActionMatches{{'{UNASSIGN}'}})) OR ({kept} ForAnyOfAnyValues:GuidEquals {{{which}}}))"
    )


def _read(name: str) -> dict[str, Any]:
    file = resources.files("clusterctl_providers.azure").joinpath("roles").joinpath(f"{name}.json")
    return dict(json.loads(file.read_text("utf-8")))


def main() -> None:
    """Prints the role that the command line asks for, as the file that `az role definition create` takes."""
    parser = argparse.ArgumentParser(
        prog="python -m clusterctl_providers.azure.roles", description="Prints a custom role."
    )
    parser.add_argument("name", choices=NAMES)
    parser.add_argument("--subscription", required=True, help="the subscription's id, in which the role can be given")
    given = parser.parse_args()
    print(json.dumps(render_role(given.name, given.subscription), indent=2))


if __name__ == "__main__":
    main()
