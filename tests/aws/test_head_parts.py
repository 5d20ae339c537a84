"""The parts of a head on an instance, each by itself: what is handed over, what is spared, what is said."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from clusterctl_providers.aws.provider import AwsProvider
from clusterctl_providers.base import TAG_NODE, AddressHolder, CreateRequest, HeadMachine, PoolRequest, ProviderContext
from clusterctl_runtime.head.handover import Handover, OwnMachine

from clusterctl.client import patience
from clusterctl.client.down.take_down import take_down
from clusterctl.client.registry import Registry
from clusterctl.client.specfile import SpecFile, read_spec
from clusterctl.client.up import cloud_login
from clusterctl.client.up.launch import bring_up
from clusterctl.core.errors import BadRequest, ClusterctlError
from clusterctl.core.model import Instance, Launch, NodeState, Offer, Reason, launch_token
from clusterctl.core.resources import Resources
from clusterctl.provision import blocks
from clusterctl.provision.gc import collect
from clusterctl.provision.journal.book import Journal
from clusterctl.spec.providers.cloud import PRIVATE_NETWORKS
from tests.aws.stage import Stage, pool
from tests.cloud.aws.cloud import REGION, AwsCloud, credentials
from tests.support.cluster import wait_until, with_packages

UID = "5f3a6f0e-57f4-4d39-a7e1-4c4a3e0b8a01"
HEAD = PoolRequest("head", {"instances": ["t3.large"], "market": ["on-demand"]}, "head")


@pytest.fixture
def stage(cloud: AwsCloud, tmp_path: Path) -> Iterator[Stage]:
    place = Stage(tmp_path, cloud, [pool(), HEAD])
    yield place
    place.close()


def launched(journal: Journal, node_id: str, instance_id: str, generation: int = 1) -> None:
    role = "head" if node_id.startswith("head") else "worker"
    offer = Offer(node_id.rpartition("-")[0], "t3.large", "on-demand", "us-east-1a", 0.1, Resources.of(CPU=2))
    token = launch_token(UID, node_id, generation)
    journal.intend(Launch(node_id, generation, token, offer, role, "", Reason("min", "")), 1.0)
    journal.learn(node_id, instance_id, "10.0.0.4", 2.0)


def opened(path: Path) -> Journal:
    journal = Journal(path, strict=True)
    journal.acquire("test")
    return journal


def handed(client: Journal, own: str) -> Handover:
    return Handover(own, "10.0.0.4", "digest", client.export(list(client.nodes())))


def test_a_head_takes_over_what_was_launched_for_it_once(tmp_path: Path) -> None:
    client, head = opened(tmp_path / "client.db"), opened(tmp_path / "head.db")
    launched(client, "head-1", "i-1")
    launched(client, "cpu-1", "i-2")
    handover = handed(client, "head-1")
    assert handover.take_over(head, 3.0) == ("i-1", [])
    assert head.nodes() == client.nodes() and dict(head.next_numbers())["cpu"] == 2
    head.move("cpu-1", "terminate", 4.0)
    head.move("cpu-1", "gone", 5.0)
    assert handover.take_over(head, 6.0) == ("i-1", [])
    assert set(head.nodes()) == {"head-1"}, "what has ended since is not revived by the same document"


def test_a_new_head_buries_the_one_before_it_and_keeps_the_nodes(tmp_path: Path) -> None:
    client, head = opened(tmp_path / "client.db"), opened(tmp_path / "head.db")
    for node_id, instance in (("head-1", "i-1"), ("cpu-1", "i-2")):
        launched(head, node_id, instance)
    launched(client, "head-2", "i-3")
    assert handed(client, "head-2").take_over(head, 3.0) == ("i-3", [])
    assert set(head.nodes()) == {"head-2", "cpu-1"}
    assert head.story("head-1")[-1]["code"] == "head_replaced"
    former = head.get("head-1")
    assert former is not None and former.state is NodeState.GONE


def test_a_head_with_another_address_gives_up_the_nodes_that_know_the_old_one_and_no_others(tmp_path: Path) -> None:
    client, head = opened(tmp_path / "client.db"), opened(tmp_path / "head.db")
    for node_id, instance in (("head-1", "i-1"), ("cpu-1", "i-2"), ("cpu-2", "i-3")):
        launched(head, node_id, instance)
    head.move("cpu-2", "terminate", 2.5)
    launched(client, "head-2", "i-4")
    launched(client, "gpu-1", "i-5")
    records = client.export(list(client.nodes()))
    handover = Handover("head-2", "10.0.0.9", "digest", records)
    instance_id, lost = handover.take_over(head, 3.0)
    assert instance_id == "i-4" and [(node.id, node.state) for node in lost] == [("cpu-1", NodeState.FAILED)]
    assert lost[0].code == "head_moved" and "it dials 10.0.0.4" in lost[0].reason and "10.0.0.9" in lost[0].reason
    states = {node.id: node.state for node in head.nodes().values()}
    assert states["cpu-2"] is NodeState.TERMINATING and states["gpu-1"] is not NodeState.FAILED
    assert handover.take_over(head, 4.0) == ("i-4", []), "once"


def test_a_damaged_record_is_refused_and_nothing_of_it_is_taken(tmp_path: Path) -> None:
    client, head = opened(tmp_path / "client.db"), opened(tmp_path / "head.db")
    launched(client, "head-1", "i-1")
    (text, checksum) = client.export(["head-1"])[0]
    with pytest.raises(ValueError, match="checksum"):
        Handover("head-1", "10.0.0.4", "digest", [(text.replace("i-1", "i-9"), checksum)]).take_over(head, 3.0)
    assert head.nodes() == {}


def launch_head(stage: Stage) -> tuple[AwsProvider, Instance]:
    provider = stage.open(head_machine=HeadMachine(public=False))
    (made,) = provider.create([stage.request("head-1", wanted=HEAD)])
    assert isinstance(made, Instance), made
    return provider, made


def test_a_head_never_ends_the_machine_that_it_runs_on(stage: Stage) -> None:
    provider, own = launch_head(stage)
    (other,) = provider.create([stage.request("cpu-1")])
    assert isinstance(other, Instance)
    head = OwnMachine.around(provider, own.id)
    with pytest.raises(BadRequest, match="the machine that the head itself runs on"):
        head.terminate([own.id, other.id])
    wait_until(lambda: [i.id for i in head.list()[0].instances] == [own.id], what="the other one gone")
    head.leaving = True
    head.terminate([own.id])
    assert head.list()[0].instances == () and head.list()[0].complete
    assert [i.id for i in provider.list()[0].instances] == [own.id], "the client ends it"


def test_a_head_launches_no_other_head(stage: Stage) -> None:
    provider, own = launch_head(stage)
    requests = [stage.request("cpu-1"), stage.request("head-2", wanted=HEAD)]
    worker, refusal = OwnMachine.around(provider, own.id).create(requests)
    assert isinstance(worker, Instance) and isinstance(refusal, BadRequest) and "`clusterctl up`" in str(refusal)


def test_a_successor_gets_its_predecessors_address_once_that_is_free(stage: Stage, cloud: AwsCloud) -> None:
    hours = [0.0]
    cloud.world.clock = lambda: time.monotonic() + 3600 * hours[0]
    cloud.world.end_seconds = 3600.0
    provider, first = launch_head(stage)
    place = provider.whereabouts(first.id).place
    assert provider.address_holder(place) == AddressHolder(first.id, ending=False)
    heir = stage.open(head_machine=HeadMachine(public=False))
    request = replace(stage.request("head-2", wanted=HEAD), place=place)
    (answer,) = heir.create([request])
    assert getattr(answer, "code", "") == "unknown_outcome" and "not yet" in str(answer), answer
    provider.terminate([first.id])
    assert provider.address_holder(place) == AddressHolder(first.id, ending=True)
    hours[0] = 2.0
    wait_until(lambda: provider.address_holder(place) is None, what="the address free")
    (second,) = heir.create([request])
    assert isinstance(second, Instance) and second.address == first.address and second.id != first.id


def test_gc_leaves_a_cluster_alone_whose_head_runs(stage: Stage) -> None:
    provider, own = launch_head(stage)
    (worker,) = provider.create([stage.request("cpu-1")])
    assert isinstance(worker, Instance)

    def gc() -> list[str]:
        found = collect({("aws", ""): lambda *_: stage.open()}, lambda uid: False, time.time(), dry_run=False)
        return [instance_id for stray in found for instance_id in stray.instance_ids]

    assert gc() == []
    provider.terminate([own.id])
    wait_until(lambda: own.id not in {i.id for i in provider.list()[0].instances}, what="the head gone")
    assert gc() == [worker.id]
    assert stage.cloud.leftovers() == []


# ---------------------------------------------------------------- what is said


SPEC = """\
cluster: demo
provider: {{aws: {{region: {region}, vpc: {vpc}, endpoint_url: "{url}", reach: private, calls_per_second: 50}}}}
engine: none
auth: {{port: 9}}
head: {{instance: t3.large}}
pools: [{{name: cpu, instances: [t3.micro], max: 1}}]
"""


class Home:
    """A cluster in a home of its own whose machines never come up."""

    def __init__(self, directory: Path, cloud: AwsCloud) -> None:
        self.registry, self.said = Registry(with_packages(directory / "home")), list[str]()
        directory.mkdir(exist_ok=True)
        path = directory / "cluster.yaml"
        path.write_text(SPEC.format(region=REGION, vpc=cloud.vpc, url=cloud.url))
        self.source: SpecFile = read_spec(path)

    def up(self, patience: float = 60.0) -> None:
        bring_up(self.registry, self.source, self.said.append, lambda _: None, patience)

    def down(self) -> None:
        take_down(self.registry, self.registry.load("demo"), self.said.append)


@pytest.fixture
def alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[Home, AwsCloud]]:
    monkeypatch.setattr(cloud_login, "FIRST_LOGIN_SECONDS", 0.5)
    with credentials(), AwsCloud("127.77.0.0/16") as cloud:
        cloud.world.consoles = lambda instance_id: "Kernel panic - not syncing"
        yield Home(tmp_path, cloud), cloud
        assert cloud.leftovers() == []


def test_a_provider_is_given_what_the_user_wrote_and_beside_it_what_the_head_needs(
    alone: tuple[Home, AwsCloud], monkeypatch: pytest.MonkeyPatch
) -> None:
    home, _ = alone
    given: list[ProviderContext] = []
    made = AwsProvider.__init__
    monkeypatch.setattr(AwsProvider, "__init__", lambda self, context: (given.append(context), made(self, context))[1])
    with pytest.raises(ClusterctlError, match="could not be logged in to"):
        home.up()
    home.down()
    launched, ended = next(context for context in given if context.head_machine), given[-1]
    assert given[0].settings == launched.settings == home.source.spec.provider_settings
    assert launched.head_machine == HeadMachine(public=False, ssh_from=PRIVATE_NETWORKS, port=7420)
    assert ended.head_machine is None, "who takes it down launches none"


def test_a_head_that_never_answers_is_told_with_its_console_and_taken_down(alone: tuple[Home, AwsCloud]) -> None:
    home, cloud = alone
    with pytest.raises(ClusterctlError, match=r"could not be logged in to(.|\n)*Kernel panic") as caught:
        home.up()
    assert "`down` ends it" in str(caught.value)
    assert any("launching the head: t3.large" in line for line in home.said)
    with pytest.raises(ClusterctlError, match="could not be logged in to"):
        home.up()
    (head,) = cloud.instances()
    assert cloud.tags(head.id)[TAG_NODE] == "head-1", "it is the same one: nothing is replaced for being silent"
    home.down()


def test_without_capacity_for_a_head_up_says_what_was_tried(alone: tuple[Home, AwsCloud]) -> None:
    home, cloud = alone
    cloud.world.capacity["t3.large/*/*"] = 0
    for _ in range(2):
        home.said.clear()
        with pytest.raises(ClusterctlError, match=r"the head of cluster 'demo' is to be had: .*no capacity") as caught:
            home.up()
        refused = [line for line in home.said if "no capacity" in line]
        assert len(refused) == 3, "one zone after the other, and those who ask again want it tried at once"
        then = r"t3.large \(on-demand\) in us-east-1\w would be tried in 1\d\d s, which is after the 60 s of this `up`"
        assert re.search(then, str(caught.value))
        assert not any("tried again" in line for line in home.said), "nothing is"
    home.down()


def test_up_waits_for_capacity_for_a_head_as_long_as_it_may_and_says_what_it_tries_when(
    alone: tuple[Home, AwsCloud], monkeypatch: pytest.MonkeyPatch
) -> None:
    home, cloud = alone
    monkeypatch.setattr(blocks, "FIRST_NO_CAPACITY", 1.5)
    cloud.world.capacity["t3.large/*/*"] = 0

    def hear(line: str) -> None:
        home.said.append(line)
        if "is tried again in" in line:
            cloud.world.capacity.clear()

    with pytest.raises(ClusterctlError, match="could not be logged in to"):
        bring_up(home.registry, home.source, hear, lambda _: None, 60.0)
    assert [instance.instance_type for instance in cloud.instances()] == ["t3.large"]
    (line,) = [line for line in home.said if "is tried again in" in line]
    assert line.startswith("no machine for the head at this moment: t3.large (on-demand) in us-east-1")
    home.down()


def test_a_head_that_aws_ends_at_once_is_told_with_awss_reason(alone: tuple[Home, AwsCloud]) -> None:
    """Pending for a moment, then shutting down for another: what lists show meanwhile is no head, and no lack of offers."""
    home, cloud = alone
    cloud.world.stillborn, cloud.world.stillborn_after, cloud.world.end_seconds = "Client.InternalError", 0.2, 0.4
    says = "Client.InternalError: Client error on launch; most often the KMS key of its disk"
    with pytest.raises(ClusterctlError) as caught:
        home.up()
    text = str(caught.value)
    assert (
        text.startswith("no machine for the head of cluster 'demo' is to be had: t3.large in us-east-1")
        and says in text
    )
    assert "offer" not in text and "again" not in text
    assert any(line.startswith("head-1 (i-") and says in line for line in home.said), home.said
    cloud.world.stillborn = ""
    home.down()


def test_what_a_busy_aws_does_not_answer_is_asked_again(
    alone: tuple[Home, AwsCloud], monkeypatch: pytest.MonkeyPatch
) -> None:
    home, cloud = alone
    cloud.fault("DescribeInstances", times=4)
    with pytest.raises(ClusterctlError, match="could not be logged in to"):
        home.up()
    assert any("cannot be told" in line and line.endswith("asking again for 60 s") for line in home.said)
    monkeypatch.setattr(patience, "BUSY_SECONDS", 0.0)
    fault = cloud.fault("DescribeInstances", times=None)
    with pytest.raises(ClusterctlError, match="cannot be told") as caught:
        home.up()
    assert "again" not in str(caught.value)
    cloud.world.faults.remove(fault)
    home.down()


def test_a_cluster_of_another_home_is_not_started_over(alone: tuple[Home, AwsCloud], tmp_path: Path) -> None:
    home, cloud = alone
    with pytest.raises(ClusterctlError, match="could not be logged in to"):
        home.up()
    other = Home(tmp_path / "other", cloud)
    uid = home.registry.load("demo").uid
    other.registry.create("demo", provider="aws", engine="none", spec_path="", uid=uid)
    with pytest.raises(ClusterctlError, match="was started from another home"):
        other.up()
    assert len(cloud.instances()) == 1
    other.down()


def test_a_damaged_handover_is_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "handover.json").write_text(json.dumps({"own": "head-1"}))
    with pytest.raises(ClusterctlError, match="clusterctl up SPEC"):
        Handover.load(tmp_path)
    assert Handover.load(tmp_path / "elsewhere") is None


def test_requests_of_heads_and_workers_share_no_launch(stage: Stage) -> None:
    requests: list[CreateRequest] = [stage.request("head-1", wanted=HEAD), stage.request("cpu-1")]
    provider = stage.open(head_machine=HeadMachine(public=True))
    assert all(isinstance(result, Instance) for result in provider.create(requests))
    assert stage.cloud.world.actions().count("ec2:RunInstances") == 2
