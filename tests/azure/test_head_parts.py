"""The parts of a head on an instance, each by itself: what is handed over, what is spared, what is said."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from clusterctl_providers.azure.provider import AzureProvider
from clusterctl_providers.base import TAG_NODE, AddressHolder, CreateRequest, HeadMachine, PoolRequest, ProviderContext

from clusterctl.client.down.take_down import take_down
from clusterctl.client.registry import Registry
from clusterctl.client.specfile import SpecFile, read_spec
from clusterctl.client.up import cloud_login
from clusterctl.client.up.launch import bring_up
from clusterctl.core.errors import ClusterctlError
from clusterctl.core.model import Instance
from clusterctl.provision import blocks
from clusterctl.provision.gc import collect
from clusterctl.spec.providers.cloud import PRIVATE_NETWORKS
from tests.azure.parts import Parts
from tests.azure.stage import Stage, launches, pool
from tests.cloud.azure import cards
from tests.cloud.azure.cloud import AzureCloud
from tests.cloud.azure.world import REGION, SUBSCRIPTION
from tests.support.cluster import wait_until, with_packages

UID = "5f3a6f0e-57f4-4d39-a7e1-4c4a3e0b8a01"
HEAD = PoolRequest("head", {"instances": ["Standard_B2s_v2"], "market": ["on-demand"]}, "head")


@pytest.fixture
def stage(cloud: AzureCloud, tmp_path: Path) -> Iterator[Stage]:
    place = Stage(tmp_path, cloud, [pool(), HEAD])
    yield place
    place.close()


def launch_head(stage: Stage) -> tuple[AzureProvider, Instance]:
    provider = stage.open(head_machine=HeadMachine(public=False))
    (made,) = provider.create([stage.request("head-1", wanted=HEAD)])
    assert isinstance(made, Instance), made
    return provider, made


def test_a_successor_gets_its_predecessors_address_once_that_is_free(stage: Stage, cloud: AzureCloud) -> None:
    hours = [0.0]
    cloud.world.clock = lambda: time.monotonic() + 3600 * hours[0]
    cloud.world.end_seconds = 1800.0  # a token lasts an hour
    provider, first = launch_head(stage)
    place = provider.whereabouts(first.id).place
    assert provider.address_holder(place) == AddressHolder(first.id, ending=False)
    heir = stage.open(head_machine=HeadMachine(public=False))
    request = replace(stage.request("head-2", wanted=HEAD), place=place)
    (answer,) = heir.create([request])
    assert getattr(answer, "code", "") == "not_yet" and "the head's address, which" in str(answer), answer
    provider.terminate([first.id])
    assert provider.address_holder(place) == AddressHolder(first.id, ending=True)
    hours[0] = 0.75
    wait_until(lambda: provider.address_holder(place) is None, what="the address free")
    (second,) = heir.create([request])
    assert isinstance(second, Instance) and second.address == first.address and second.id != first.id


def test_gc_leaves_a_cluster_alone_whose_head_runs(stage: Stage) -> None:
    provider, own = launch_head(stage)
    (worker,) = provider.create([stage.request("cpu-1")])
    assert isinstance(worker, Instance)

    def gc() -> list[str]:
        found = collect({("azure", ""): lambda *_: stage.open()}, lambda uid: False, time.time(), dry_run=False)
        return [instance_id for stray in found for instance_id in stray.instance_ids]

    assert gc() == []
    provider.terminate([own.id])
    wait_until(lambda: own.id not in {i.id for i in provider.list()[0].instances}, what="the head gone")
    assert gc() == [worker.id]
    assert stage.cloud.leftovers() == []


# ---------------------------------------------------------------- what is said


SPEC = """\
cluster: demo
provider: {{azure: {{subscription: {subscription}, region: {region}, network: {network},
  endpoint_url: "{url}", reach: private, calls_per_second: 500}}}}
engine: none
auth: {{port: 9}}
head: {{instance: Standard_B2s_v2}}
pools: [{{name: cpu, instances: [Standard_D2s_v5], max: 1}}]
"""


class Home:
    """A cluster in a home of its own whose machines never come up."""

    def __init__(self, directory: Path, cloud: AzureCloud) -> None:
        self.registry, self.said = Registry(with_packages(directory / "home")), list[str]()
        directory.mkdir(exist_ok=True)
        path = directory / "cluster.yaml"
        network = Parts(cloud).make_network(
            "here", {"name": "nodes", "addressPrefix": "127.77.0.0/20"}, space="127.77.0.0/16"
        )
        path.write_text(SPEC.format(subscription=SUBSCRIPTION, region=REGION, url=cloud.url, network=network))
        self.source: SpecFile = read_spec(path)

    def up(self, patience: float = 60.0) -> None:
        bring_up(self.registry, self.source, self.said.append, lambda _: None, patience)

    def down(self) -> None:
        take_down(self.registry, self.registry.load("demo"), self.said.append)


@pytest.fixture
def alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[Home, AzureCloud]]:
    monkeypatch.setattr(cloud_login, "FIRST_LOGIN_SECONDS", 0.5)
    monkeypatch.setattr(
        cards, "RESERVATION_SECONDS", 3.0
    )  # that Azure keeps the card of a machine that it did not make
    with AzureCloud() as cloud, cloud.credentials():
        cloud.world.consoles = lambda instance_id: "Kernel panic - not syncing"
        yield Home(tmp_path, cloud), cloud
        assert [path for path in cloud.leftovers() if not path.startswith("resourceGroups/corp")] == []


def test_a_provider_is_given_what_the_user_wrote_and_beside_it_what_the_head_needs(
    alone: tuple[Home, AzureCloud], monkeypatch: pytest.MonkeyPatch
) -> None:
    home, _ = alone
    given: list[ProviderContext] = []
    made = AzureProvider.__init__
    monkeypatch.setattr(
        AzureProvider, "__init__", lambda self, context: (given.append(context), made(self, context))[1]
    )
    with pytest.raises(ClusterctlError, match="could not be logged in to"):
        home.up()
    home.down()
    launched, ended = next(context for context in given if context.head_machine), given[-1]
    assert given[0].settings == launched.settings == home.source.spec.provider_settings
    assert launched.head_machine == HeadMachine(public=False, ssh_from=PRIVATE_NETWORKS, port=7420)
    assert ended.head_machine is None, "who takes it down launches none"


def test_a_head_that_never_answers_is_told_with_its_console_and_taken_down(alone: tuple[Home, AzureCloud]) -> None:
    home, cloud = alone
    with pytest.raises(ClusterctlError, match=r"could not be logged in to(.|\n)*Kernel panic") as caught:
        home.up()
    assert "`down` ends it" in str(caught.value)
    assert any("launching the head: Standard_B2s_v2" in line for line in home.said)
    with pytest.raises(ClusterctlError, match="could not be logged in to"):
        home.up()
    (head,) = cloud.machines()
    assert head.resource["tags"][TAG_NODE] == "head-1", "it is the same one: nothing is replaced for being silent"
    home.down()


def test_without_capacity_for_a_head_up_says_what_was_tried(alone: tuple[Home, AzureCloud]) -> None:
    home, cloud = alone
    cloud.world.capacity["Standard_B2s_v2/*/*"] = 0
    for _ in range(2):
        home.said.clear()
        with pytest.raises(ClusterctlError, match=r"the head of cluster 'demo' is to be had: .*no capacity") as caught:
            home.up()
        refused = [line for line in home.said if "no capacity" in line]
        assert len(refused) == 3, "one zone after the other, and those who ask again want it tried at once"
        then = r"in eastus \(zone \d\) would be tried in 1\d\d s, which is after the 60 s of this `up`"
        assert re.search(then, str(caught.value))
        assert not any("tried again" in line for line in home.said), "nothing is"
    home.down()


def test_up_waits_for_capacity_for_a_head_as_long_as_it_may_and_says_what_it_tries_when(
    alone: tuple[Home, AzureCloud], monkeypatch: pytest.MonkeyPatch
) -> None:
    home, cloud = alone
    monkeypatch.setattr(blocks, "FIRST_NO_CAPACITY", 1.5)
    cloud.world.capacity["Standard_B2s_v2/*/*"] = 0

    def hear(line: str) -> None:
        home.said.append(line)
        if "is tried again in" in line:
            cloud.world.capacity.clear()

    with pytest.raises(ClusterctlError, match="could not be logged in to"):
        bring_up(home.registry, home.source, hear, lambda _: None, 60.0)
    assert [machine.size.name for machine in cloud.machines()] == ["Standard_B2s_v2"]
    (line,) = [line for line in home.said if "is tried again in" in line]
    assert line.startswith("no machine for the head at this moment: Standard_B2s_v2 (on-demand) in ")
    home.down()


def test_a_head_that_azure_accepts_and_does_not_make_is_told_with_azures_reason(alone: tuple[Home, AzureCloud]) -> None:
    """It shows for a moment, and is gone: only its operation says why."""
    home, cloud = alone
    cloud.fault(
        "virtualMachines.createOrUpdate",
        "operation",
        code="KeyVaultAccessForbidden",
        message="The key is disabled",
        times=None,
    )
    with pytest.raises(
        ClusterctlError, match=r"is to be had: .*KeyVaultAccessForbidden: The key is disabled"
    ) as caught:
        home.up()
    assert "again" not in str(caught.value)
    cloud.world.faults.clear()
    home.down()


def test_a_cluster_of_another_home_is_not_started_over(alone: tuple[Home, AzureCloud], tmp_path: Path) -> None:
    home, cloud = alone
    with pytest.raises(ClusterctlError, match="could not be logged in to"):
        home.up()
    other = Home(tmp_path / "other", cloud)
    uid = home.registry.load("demo").uid
    other.registry.create("demo", provider="azure", engine="none", spec_path="", uid=uid)
    with pytest.raises(ClusterctlError, match="was started from another home"):
        other.up()
    assert len(cloud.machines()) == 1
    other.down()


def test_requests_of_heads_and_workers_share_no_launch(stage: Stage) -> None:
    requests: list[CreateRequest] = [stage.request("head-1", wanted=HEAD), stage.request("cpu-1")]
    provider = stage.open(head_machine=HeadMachine(public=True))
    assert all(isinstance(result, Instance) for result in provider.create(requests))
    assert len(launches(stage.cloud)) == 2
