"""The security group and the key pair of a cluster: open to whom the spec names now, and with the key that it names now."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from clusterctl_providers.aws import network as aws_network
from clusterctl_providers.base import HeadMachine

from clusterctl.core.errors import BadRequest
from clusterctl.core.model import Instance
from tests.aws.stage import Stage
from tests.cloud.aws.cloud import AwsCloud


@pytest.fixture
def stage(cloud: AwsCloud, tmp_path: Path) -> Iterator[Stage]:
    place = Stage(tmp_path, cloud)
    yield place
    place.close()


def make_key(path: Path, *options: str) -> Path:
    subprocess.run(["ssh-keygen", "-q", "-N", "", "-C", "me@here", *options, "-f", str(path)], check=True)
    return path


def rules(stage: Stage) -> list[dict[str, Any]]:
    filters = [{"Name": "tag:clusterctl-uid", "Values": [stage.uid]}]
    (group,) = stage.cloud.client().describe_security_groups(Filters=filters)["SecurityGroups"]
    return list(group["IpPermissions"])


def ssh_sources(stage: Stage) -> set[str]:
    ssh = [rule for rule in rules(stage) if rule.get("FromPort") == 22]
    return {r["CidrIp"] for rule in ssh for r in rule["IpRanges"]} | {
        r["CidrIpv6"] for rule in ssh for r in rule.get("Ipv6Ranges", [])
    }


def test_port_22_is_open_to_the_addresses_named_of_either_kind_and_to_nothing_else(stage: Stage) -> None:
    stage.open(ssh_from=["192.0.2.7", "198.51.100.0/24", "2001:db8::7", "2001:db8:1::/48"]).renew_access()
    assert ssh_sources(stage) == {"192.0.2.7/32", "198.51.100.0/24", "2001:db8::7/128", "2001:db8:1::/48"}
    others = [rule for rule in rules(stage) if rule.get("FromPort") != 22]
    (inside,) = others
    assert inside["IpProtocol"] == "-1" and not inside["IpRanges"] and len(inside["UserIdGroupPairs"]) == 1


def test_a_machine_whose_address_changed_is_let_in_and_its_former_address_is_not(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    for address in ("203.0.113.5", "203.0.113.99"):
        monkeypatch.setattr(aws_network, "own_address", lambda address=address: address)
        stage.open(ssh_from=["me"]).renew_access()
    assert ssh_sources(stage) == {"203.0.113.99/32"}
    changes = [action for action in stage.cloud.world.actions() if "SecurityGroupIngress" in action]
    stage.open(ssh_from=["me"]).renew_access()
    assert [action for action in stage.cloud.world.actions() if "SecurityGroupIngress" in action] == changes
    stage.open(ssh_from=[]).renew_access()
    assert ssh_sources(stage) == set(), "Session Manager needs no open port"


def agent_sources(stage: Stage) -> set[str]:
    mine = [rule for rule in rules(stage) if rule.get("FromPort") == 7420]
    assert all(rule["IpProtocol"] == "tcp" and rule["ToPort"] == 7420 for rule in mine)
    return {r["CidrIp"] for rule in mine for r in rule["IpRanges"]} | {
        r["CidrIpv6"] for rule in mine for r in rule.get("Ipv6Ranges", [])
    }


def test_the_heads_port_is_open_to_whom_the_spec_says_and_to_nobody_once_it_does_not(stage: Stage) -> None:
    everybody = ("0.0.0.0/0", "::/0")
    stage.open(head_machine=HeadMachine(public=True, port=7420, open_to=everybody)).renew_access()
    assert agent_sources(stage) == set(everybody) and ssh_sources(stage) == set()
    stage.open().renew_access()
    assert agent_sources(stage) == set(everybody), "who has no head's machine to launch leaves it as it is"
    stage.open(head_machine=HeadMachine(public=True, port=7420, open_to=("203.0.113.0/24",))).renew_access()
    assert agent_sources(stage) == {"203.0.113.0/24"}
    stage.open(head_machine=HeadMachine(public=True, port=7420)).renew_access()
    assert agent_sources(stage) == set()


def test_a_head_neither_opens_nor_closes_port_22(stage: Stage) -> None:
    stage.open(ssh_from=["192.0.2.7"]).renew_access()
    stage.cloud.world.denied = {"ec2:AuthorizeSecurityGroupIngress", "ec2:RevokeSecurityGroupIngress"}
    (made,) = stage.open().create([stage.request("cpu-1")])
    assert isinstance(made, Instance) and ssh_sources(stage) == {"192.0.2.7/32"}


def test_the_networks_of_the_vpc_can_be_named_by_a_word(stage: Stage) -> None:
    stage.open(ssh_from=["vpc"]).renew_access()
    assert ssh_sources(stage) == {"172.31.0.0/16"}


def test_what_is_no_address_is_told_before_anything_is_opened(stage: Stage) -> None:
    with pytest.raises(BadRequest, match="no address, no network"):
        stage.open(ssh_from=["everywhere"]).renew_access()


@pytest.mark.parametrize("options", [["-t", "ed25519"], ["-t", "rsa", "-b", "2048"]])
def test_a_key_pair_is_made_of_either_kind_of_key_and_follows_the_spec(
    stage: Stage, tmp_path: Path, options: list[str]
) -> None:
    first, second = make_key(tmp_path / "first", *options), make_key(tmp_path / "second", *options)
    for path in (first, first, second):
        (made,) = stage.open({"key": str(path)}).create([stage.request(f"cpu-{len(stage.cloud.instances())}")])
        assert isinstance(made, Instance)
    (pair,) = stage.cloud.client().describe_key_pairs(IncludePublicKey=True)["KeyPairs"]
    assert pair["PublicKey"].split()[1] == second.with_suffix(".pub").read_text().split()[1]
    assert stage.cloud.world.actions().count("ec2:ImportKeyPair") == 2
    gone = stage.open({"key": str(tmp_path / "not-on-this-machine")})
    (made,) = gone.create([stage.request("cpu-9")])
    assert isinstance(made, Instance), "a head launches with the pair, and has no key"
