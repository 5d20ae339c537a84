"""What EC2 answers when it does not do as asked, and what the cluster then does: through planner and provisioner."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from clusterctl.core.errors import AuthFailed, NoCapacity, Throttled
from clusterctl.core.model import Instance, NodeState
from tests.aws.stage import Stage
from tests.cloud.aws.cloud import AwsCloud
from tests.support.cluster import wait_until


@pytest.fixture
def stage(cloud: AwsCloud, tmp_path: Path) -> Iterator[Stage]:
    place = Stage(tmp_path, cloud)
    yield place
    place.close()


def alive(cloud: AwsCloud) -> list[tuple[str, str]]:
    return sorted((i.instance_type, i.lifecycle or "on-demand") for i in cloud.instances("pending", "running"))


def test_without_spot_capacity_anywhere_on_demand_is_launched_without_a_pause(stage: Stage, cloud: AwsCloud) -> None:
    cloud.world.capacity["*/*/spot"] = 0
    began, started = stage.now, time.monotonic()
    stage.provisioner.offers()
    while not cloud.instances("pending", "running"):
        (outcome,) = stage.want(1)
        assert outcome.ok or outcome.code == "no_capacity"
        assert time.monotonic() - started < 120, "it never launches on-demand"
    assert alive(cloud)[0][1] == "on-demand"
    refused = len([a for a in cloud.world.actions() if a == "ec2:RunInstances"]) - 1
    assert refused >= 3 and stage.now == began, "no pause between them"


def test_a_zone_without_capacity_is_blocked_for_that_type_and_market_only(stage: Stage, cloud: AwsCloud) -> None:
    first = stage.provisioner.offers()[0]
    cloud.world.capacity[f"{first.instance_type}/{first.zone}/{first.market}"] = 0
    (outcome,) = stage.launch(first)
    assert (outcome.ok, outcome.code) == (False, "no_capacity")
    assert [block.offer_key for block in stage.provisioner.blocks(stage.now)] == [first.key]
    (outcome,) = stage.want(1)
    assert outcome.ok and outcome.node and outcome.node.offer.key != first.key


@pytest.mark.parametrize(
    "code", ["UnfulfillableCapacity", "InsufficientHostCapacity", "InsufficientFreeAddressesInSubnet", "Unsupported"]
)
def test_other_words_for_no_capacity_lead_to_the_next_offer(stage: Stage, cloud: AwsCloud, code: str) -> None:
    cloud.fault("RunInstances", code=code, message="no", status=400)
    (outcome,) = stage.want(1)
    assert outcome.code == "no_capacity"
    (outcome,) = stage.want(1)
    assert outcome.ok


@pytest.mark.parametrize(
    ("market", "quota"),
    [
        ("spot", "All Standard (A, C, D, H, I, M, R, T, Z) Spot Instance Requests"),
        ("on-demand", "Running On-Demand Standard"),
    ],
)
def test_a_quota_blocks_for_long_and_is_named(stage: Stage, cloud: AwsCloud, market: str, quota: str) -> None:
    cloud.world.vcpu_quota[market] = 0
    offer = next(o for o in stage.provisioner.offers() if o.market == market)
    (outcome,) = stage.launch(offer)
    assert outcome.code == "quota_exceeded" and quota in outcome.error and "Service Quotas" in outcome.error
    (block,) = stage.provisioner.blocks(stage.now)
    assert block.until > stage.now + 1800 and block.offer_key.endswith(f"/{market}/")


def test_throttling_for_a_while_is_outlived_with_few_calls(stage: Stage, cloud: AwsCloud) -> None:
    """AWS refuses all calls for three seconds: the calls made meanwhile stay few, and then the launch is made."""
    stage.provisioner.offers()
    stage.provider.create([stage.request("cpu-99")])  # images and groups are known
    before = len(cloud.world.calls)
    cloud.fault("*", code="RequestLimitExceeded", status=503, times=None, until=time.monotonic() + 3.0)
    (outcome,) = stage.launch(stage.provisioner.offers()[0])
    assert outcome.code == Throttled.code and outcome.node and outcome.node.state is NodeState.PLANNED

    def launched() -> bool:
        stage.now = max(stage.now, time.time())
        stage.provisioner.resume()
        return len(cloud.instances("pending", "running")) == 2

    wait_until(launched, what="the launch after the throttle")
    assert len(cloud.world.calls) - before <= 8, cloud.world.actions(before)
    assert stage.journal.nodes()["cpu-1"].instance_id


def test_all_clients_of_an_account_in_a_process_hold_back_together(stage: Stage, cloud: AwsCloud) -> None:
    """AWS counts their calls together, whichever cluster they are for and whichever service they ask."""
    others = [stage.open(), stage.open()]
    cloud.fault("DescribeInstances", code="RequestLimitExceeded", status=503, times=3)
    for provider in (stage.provider, others[0], stage.provider):
        with pytest.raises(Throttled):
            provider._calls.call("ec2", "describe_instances", "a look")
        provider._calls.bucket._closed_until = 0.0  # the pause is over
        provider._calls.bucket._level = 1.0
    before = len(cloud.world.calls)
    stage.provider._calls.bucket.refused()
    for service, operation in (("ec2", "describe_vpcs"), ("sts", "get_caller_identity")):
        with pytest.raises(Throttled, match="are held back for"):
            others[1]._calls.call(service, operation, "a look")
    assert cloud.world.actions(before) == [], "nothing was sent"
    elsewhere = stage.open(region="eu-west-1")
    assert elsewhere._calls.call("ec2", "describe_vpcs", "a look in another region")


def test_an_instance_that_lists_do_not_show_yet_is_waited_for(stage: Stage, cloud: AwsCloud) -> None:
    cloud.world.visible_after = 1.0
    (outcome,) = stage.want(1)
    assert outcome.ok and outcome.node
    for _ in range(3):
        assert stage.want(1) == [], "nothing is launched in its place"
    wait_until(lambda: stage.provider.list()[0].instances, what="the instance in the list")
    assert len(cloud.instances()) == 1


def test_an_id_that_ec2_does_not_know_yet_or_any_more_does_not_stop_the_others(stage: Stage, cloud: AwsCloud) -> None:
    made = [stage.provider.create([stage.request(f"cpu-{n}")])[0] for n in range(1, 4)]
    ids = [i.id for i in made if isinstance(i, Instance)]
    lost = "i-0123456789abcdef0"
    stage.provider._listing.ours.add(lost)
    stage.provider.terminate([ids[0], lost, ids[1]])
    assert [i.id for i in cloud.instances("pending", "running")] == [ids[2]]


def test_lapsed_credentials_hold_everything_back_with_a_sentence_and_then_it_goes_on(
    stage: Stage, cloud: AwsCloud, monkeypatch: pytest.MonkeyPatch
) -> None:
    offer = stage.provisioner.offers()[0]
    cloud.world.lapsed = True
    (scope,) = stage.provisioner.observe()
    assert not scope.complete and "renew them" in scope.error
    (outcome,) = stage.launch(offer)
    assert outcome.code == AuthFailed.code and "clusterctl doctor" in outcome.error
    assert stage.want(1) == [], "no launch and no end while nothing can be seen"
    (who, *rest) = stage.provider.doctor()
    assert who[1] is False and rest == []
    cloud.world.lapsed = False
    stage.now += 120
    (outcome,) = stage.want(1)
    assert outcome.ok


def test_new_credentials_are_read_without_a_restart(
    stage: Stage, cloud: AwsCloud, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    file = tmp_path / "credentials"
    old, new = cloud.add_user("me", expires=time.time() - 1), cloud.add_user("me")
    write = lambda keys: file.write_text("[default]\n" + "\n".join(f"{k.lower()} = {v}" for k, v in keys.items()))  # noqa: E731
    write(old)
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(file))
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    provider = stage.open()
    assert not provider.list()[0].complete
    write(new)
    assert provider.list()[0].complete
    assert provider._calls._session.get_credentials().access_key == new["AWS_ACCESS_KEY_ID"]


def test_no_credentials_at_all_is_a_sentence(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    (scope,) = stage.open().list()
    assert not scope.complete and "aws sso login" in scope.error
    assert not os.environ.get("AWS_ACCESS_KEY_ID")


def test_a_page_that_fails_makes_the_list_incomplete_and_nothing_is_ended(stage: Stage, cloud: AwsCloud) -> None:
    for number in range(1, 8):
        stage.provider.create([stage.request(f"cpu-{number}")])
    cloud.world.page_size = 5
    cloud.fault("DescribeInstances", times=None, match="NextToken")
    (scope,) = stage.provider.list()
    assert not scope.complete and len(scope.instances) == 5
    assert stage.want(0) == [] and len(cloud.instances("pending", "running")) == 7


def test_an_internal_error_before_the_effect_is_tried_again_with_the_same_token(stage: Stage, cloud: AwsCloud) -> None:
    cloud.fault("RunInstances", "cut")
    (outcome,) = stage.want(1)
    assert outcome.code == "unknown_outcome" and outcome.node and outcome.node.state is NodeState.REQUESTED
    stage.now += 5
    (outcome,) = stage.provisioner.resume()
    assert outcome.ok and len(cloud.instances()) == 1


def test_an_error_that_a_retry_cannot_mend_blocks_the_offer(stage: Stage, cloud: AwsCloud) -> None:
    cloud.fault("RunInstances", code="InvalidParameterCombination", message="these do not go together", status=400)
    (outcome,) = stage.want(1)
    assert outcome.code == "bad_request" and "these do not go together" in outcome.error
    assert stage.provisioner.blocks(stage.now)


def test_boto3_does_not_try_a_launch_without_capacity_again_by_itself(stage: Stage, cloud: AwsCloud) -> None:
    cloud.world.capacity["*/*/*"] = 0
    (answer,) = stage.provider.create([stage.request("cpu-1")])
    assert isinstance(answer, NoCapacity) and cloud.world.actions().count("ec2:RunInstances") == 1


@pytest.mark.parametrize(("offset", "side"), [(-600, "fast"), (600, "slow")])
def test_a_clock_that_is_wrong_is_told_as_that_and_not_as_lapsed_credentials(
    stage: Stage, cloud: AwsCloud, offset: float, side: str
) -> None:
    offer = stage.provisioner.offers()[0]
    cloud.world.clock_offset = offset
    (scope,) = stage.provider.list()
    assert not scope.complete and f"this machine's clock is 10 minutes {side}; set it" in scope.error
    (outcome,) = stage.launch(offer)
    assert outcome.code == AuthFailed.code and "clock" in outcome.error
    cloud.world.clock_offset = 0.0
    assert stage.provider.list()[0].complete
