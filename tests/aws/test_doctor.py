"""`doctor` names each permission that is missing, and no other."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from clusterctl_providers.aws.policies import actions_of, render_policy

from tests.aws.stage import Stage
from tests.aws.test_access import become
from tests.cloud.aws import simulation as aws_simulation
from tests.cloud.aws.cloud import AwsCloud

FACTS = {"region": "us-east-1", "account": "123456789012"}
SIMULATE = "iam:SimulatePrincipalPolicy"
# helpful, and not needed; the last one by the first spot instance of an account only, whose launch says so
TOLD = {"pricing:GetProducts", "servicequotas:GetServiceQuota", SIMULATE, "iam:CreateServiceLinkedRole"}
CLIENT = actions_of(render_policy("client", **FACTS))


@pytest.fixture
def stage(cloud: AwsCloud, tmp_path: Path) -> Iterator[Stage]:
    assert aws_simulation
    place = Stage(tmp_path, cloud)
    yield place
    place.close()


def test_all_that_the_clients_policy_allows_is_asked_for(stage: Stage) -> None:
    asked = {what.split()[1] for what, _, _ in stage.provider.doctor() if what.startswith("permission ")}
    assert asked == CLIENT - TOLD - {"sts:GetCallerIdentity"}


def test_each_missing_permission_is_named_alone(stage: Stage) -> None:
    for action in sorted(CLIENT - TOLD - {"sts:GetCallerIdentity"}):
        stage.cloud.world.denied = {action}
        failed = [(what, fix) for what, ok, fix in stage.provider.doctor() if not ok]
        assert [what for what, _ in failed] == [f"permission {action}"], failed
        assert action in failed[0][1]
    stage.cloud.world.denied = TOLD
    assert all(ok for _, ok, _ in stage.provider.doctor())


def test_where_iam_does_not_tell_calls_are_tried_without_effect(stage: Stage, cloud: AwsCloud) -> None:
    for action in ("ec2:RunInstances", "ec2:CreateVolume", "ec2:AttachVolume", "ec2:ImportKeyPair"):
        cloud.world.denied = {action, SIMULATE}
        checks = stage.provider.doctor()
        assert [what for what, ok, _ in checks if not ok] == [f"permission {action}"]
    assert (f"permissions to make roles: not to be looked up ({SIMULATE})", True, "") in checks
    assert cloud.leftovers() == []


@pytest.mark.parametrize("reach", ["ssm", "instance-connect"])
def test_what_the_way_to_the_head_needs_is_asked_for_and_is_in_a_policy_of_its_own(
    stage: Stage, monkeypatch: pytest.MonkeyPatch, reach: str
) -> None:
    become(stage, monkeypatch, "client", "*")
    missing = {what for what, ok, fix in stage.open(reach=reach).doctor() if not ok and f"the policy `{reach}`" in fix}
    assert missing <= {"permission ssm:StartSession", "permission ec2-instance-connect:OpenTunnel"} and missing
    policies = [render_policy(name, uid="*", **FACTS) for name in ("client", reach)]
    for variable, value in stage.cloud.add_user("more", *policies).items():
        monkeypatch.setenv(variable, value)
    assert [what for what, ok, _ in stage.open(reach=reach).doctor() if not ok] == []


def test_quotas_are_compared_with_what_the_pools_would_launch(stage: Stage, cloud: AwsCloud) -> None:
    cloud.world.quotas["L-34B43A08"] = 1.0
    checks = {what: (ok, fix) for what, ok, fix in stage.provider.doctor_for(stage.pools) if what.startswith("quota")}
    ok, fix = checks["quota 'All Standard (A, C, D, H, I, M, R, T, Z) Spot Instance Requests' of 2 vCPUs, it is 1"]
    assert not ok and "one t3.micro has 2 vCPUs" in fix


def test_permissions_to_make_roles_are_asked_for_only_where_we_make_them(stage: Stage, cloud: AwsCloud) -> None:
    cloud.world.denied = {"iam:CreateRole", "iam:PassRole"}
    missing = [what for what, ok, _ in stage.provider.doctor() if not ok]
    assert missing == ["permission iam:CreateRole", "permission iam:PassRole"]
    assert all(ok for _, ok, _ in stage.open(instance_profile="mine").doctor())


@pytest.mark.parametrize("uid", ["", "*"])
def test_the_policies_as_they_are_printed_satisfy_doctor(
    stage: Stage, monkeypatch: pytest.MonkeyPatch, uid: str
) -> None:
    become(stage, monkeypatch, "client", uid or stage.uid)
    failed = [what for what, ok, _ in stage.open().doctor() if not ok and what.startswith("permission")]
    assert failed == []


def test_the_heads_policy_lacks_what_only_a_client_does(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    become(stage, monkeypatch, "head", stage.uid)
    failed = {what.split()[1] for what, ok, _ in stage.open(instance_profile="mine").doctor() if not ok}
    assert "ec2:CreateSecurityGroup" in failed and "ec2:RunInstances" not in failed
