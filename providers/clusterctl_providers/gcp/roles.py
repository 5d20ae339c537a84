"""The custom roles that clusterctl needs on Google Cloud: exactly the permissions of the calls that are made.

    python -m clusterctl_providers.gcp.roles client --project my-project > client.yaml
    gcloud iam roles create clusterctl_client --project my-project --file client.yaml

A role says what may be done; to what, a condition of its binding: `head` is bound so that only machines and disks with the
cluster's uid in their names can be made, stopped or ended.
"""

from __future__ import annotations

import argparse
from importlib import resources
from typing import Any

import yaml

from clusterctl_providers.cloud.naming import UID_PART

NAMES = ("client", "accounts", "head", "image", "iap", "oslogin")
_NAMED = ("Instance", "Disk")  # types of Compute's whose names conditions can see


def render_role(name: str) -> dict[str, Any]:
    """The role `name` as Google's API and `gcloud` take it."""
    return dict(yaml.safe_load(_text(name)))


def permissions_of(name: str) -> frozenset[str]:
    """All that the role allows."""
    return frozenset(render_role(name)["includedPermissions"])


def role_id(name: str) -> str:
    """How a project calls it."""
    return f"clusterctl_{name}"


def bound_to(uid: str) -> dict[str, str]:
    """The condition of a binding to one cluster: of machines and disks only those whose names have its uid in them."""
    part = uid[:UID_PART]
    ours = f"resource.name.extract('-{part}-{{rest}}') != ''"  # it begins after the uid, and is not empty
    clauses = [f"(resource.type != 'compute.googleapis.com/{kind}' || {ours})" for kind in _NAMED]
    return {
        "title": f"clusterctl-{part}",
        "description": "machines and disks of one cluster of clusterctl",
        "expression": " && ".join(clauses),
    }


def grants_only(project: str, *names: str) -> str:
    """The expression of a condition under which a binding lets its holder give away these roles and no others."""
    roles = ", ".join(f"'projects/{project}/roles/{role_id(name)}'" for name in names)
    return f"api.getAttribute('iam.googleapis.com/modifiedGrantsByRole', []).hasOnly([{roles}])"


def _text(name: str) -> str:
    return resources.files("clusterctl_providers.gcp").joinpath("iam").joinpath(f"{name}.yaml").read_text("utf-8")


def main() -> None:
    """Prints the role that the command line asks for, as the file that `gcloud iam roles create` takes."""
    parser = argparse.ArgumentParser(
        prog="python -m clusterctl_providers.gcp.roles", description="Prints a custom role."
    )
    parser.add_argument("name", choices=NAMES)
    parser.add_argument("--project", default="PROJECT", help="the project's id, for the command at the top of the file")
    given = parser.parse_args()
    print(f"# gcloud iam roles create {role_id(given.name)} --project {given.project} --file {given.name}.yaml")
    print(_text(given.name), end="")


if __name__ == "__main__":
    main()
