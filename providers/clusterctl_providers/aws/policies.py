"""The IAM policies that clusterctl needs on AWS, from the templates: least privilege, bound to a cluster's uid.

python -m clusterctl_providers.aws.policies client --region us-east-1 --account 123456789012 > client.json
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from importlib import resources
from string import Template
from typing import Any

NAMES = ("client", "head", "worker", "image", "ssm", "instance-connect", "trust")
_CHINA = "aws-cn"


def render_policy(
    name: str,
    *,
    region: str,
    account: str,
    uid: str = "*",
    head_role: str = "",
    worker_role: str = "",
    partition: str = "aws",
    boundary: str = "",
    parameters: Sequence[str] = (),
) -> dict[str, Any]:
    """Policy `name` as JSON data. With `uid` "*" it holds for all clusters of the account. `head_role` and `worker_role`
    (path and name) are the only roles that may be passed on; default: those that clusterctl makes. `boundary`: the ARN of
    the permissions boundary without which no role may be made. `parameters`: SSM parameters of the account's own that name
    images. Values are put into strings of the parsed template, so that none of them can add a statement."""
    own = f"clusterctl/{region}/{uid}"
    text = (
        resources.files("clusterctl_providers.aws").joinpath("iam").joinpath(f"{name}.json").read_text(encoding="utf-8")
    )
    values = {
        "region": region,
        "account": account,
        "uid": uid,
        "head_role": head_role or f"{own}/*-head",
        "worker_role": worker_role or f"{own}/*-worker",
        "partition": partition,
        "ec2_service": "ec2.amazonaws.com.cn" if partition == _CHINA else "ec2.amazonaws.com",
    }
    policy = _filled(json.loads(text), values)
    for statement in policy["Statement"]:
        if boundary and "iam:CreateRole" in statement["Action"]:
            statement["Condition"] = {"StringEquals": {"iam:PermissionsBoundary": boundary}}
        if parameters and statement["Action"] == "ssm:GetParameter":
            own = [f"arn:{partition}:ssm:{region}:{account}:parameter/{name.lstrip('/')}" for name in parameters]
            statement["Resource"] = [statement["Resource"], *own]
    return policy


def actions_of(policy: dict[str, Any]) -> set[str]:
    """All actions that the policy allows."""
    found: set[str] = set()
    for statement in policy["Statement"]:
        if statement["Effect"] == "Allow":
            named = statement["Action"]
            found |= {named} if isinstance(named, str) else set(named)
    return found


def _filled(data: Any, values: dict[str, str]) -> Any:
    if isinstance(data, str):
        return Template(data).substitute(values)
    if isinstance(data, list):
        return [_filled(item, values) for item in data]
    if isinstance(data, dict):
        return {key: _filled(item, values) for key, item in data.items()}
    return data


def main() -> None:
    """Prints the policy that the command line asks for, as JSON."""
    parser = argparse.ArgumentParser(
        prog="python -m clusterctl_providers.aws.policies", description="Prints an IAM policy."
    )
    parser.add_argument("name", choices=NAMES)
    parser.add_argument("--region", required=True)
    parser.add_argument("--account", required=True, help="the account's id, 12 digits")
    parser.add_argument("--uid", default="*", help="uid of one cluster; default: all clusters")
    parser.add_argument("--head-role", default="", help="role of your `instance_profile`; default: those made by us")
    parser.add_argument("--worker-role", default="", help="role of your `worker_profile`; default: those made by us")
    parser.add_argument("--partition", default="aws", help="aws, aws-cn or aws-us-gov")
    parser.add_argument("--boundary", default="", help="ARN of your `permissions_boundary`: no role is made without it")
    parser.add_argument(
        "--parameter", action="append", default=[], dest="parameters", metavar="NAME",
        help="an SSM parameter of yours that `image: ssm:NAME` reads; may be repeated",
    )  # fmt: skip
    given = vars(parser.parse_args())
    print(json.dumps(render_policy(given.pop("name"), **given), indent=2))


if __name__ == "__main__":
    main()
