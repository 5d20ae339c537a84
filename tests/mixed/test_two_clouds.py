"""A head on an instance of AWS with a pool on Google Cloud: what its nodes are told, what they bear, and who ends them."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from clusterctl_providers import make_provider
from clusterctl_providers.base import (
    TAG_CLUSTER,
    TAG_GENERATION,
    TAG_MAKER,
    TAG_NODE,
    TAG_TOKEN,
    TAG_UID,
    CreateRequest,
    HeadMachine,
    PoolRequest,
    Provider,
    ProviderContext,
)
from clusterctl_providers.gcp.names import tags_in
from clusterctl_runtime.head.config import HeadConfig
from clusterctl_runtime.head.head import Head

from clusterctl.client.down import adopt as adopting
from clusterctl.client.down import gc as cleaning
from clusterctl.client.down.adopt import adopt_clusters
from clusterctl.client.down.gc import collect_strays
from clusterctl.client.down.places import places
from clusterctl.client.down.take_down import take_down
from clusterctl.client.head.config import config_there, keep_config
from clusterctl.client.registry import Cluster, Registry
from clusterctl.client.specfile import SpecFile, read_spec
from clusterctl.core.errors import UsageError
from clusterctl.core.model import Instance, Launch, Plan, Reason, launch_token
from clusterctl.provision.provisioner import Provisioner
from clusterctl.provision.used_providers import note
from tests.cloud.aws.cloud import REGION as AWS_REGION
from tests.cloud.aws.cloud import AwsCloud, credentials
from tests.cloud.gcp.cloud import GcpCloud
from tests.cloud.gcp.world import PROJECT, REGION

TYPES = {"aws": "t3.micro", "gcp": "e2-medium"}


@pytest.fixture(autouse=True)
def only_these_two_are_searched(monkeypatch: pytest.MonkeyPatch) -> None:
    """`gc` and `list --adopt` would find what tests that run at the same time have left on this machine for a moment."""
    for module in (adopting, cleaning):
        monkeypatch.setattr(module, "places", lambda *given: [one for one in places(*given) if one.provider in TYPES])


@pytest.fixture
def aws() -> Iterator[AwsCloud]:
    with credentials(), AwsCloud() as cloud:
        yield cloud


@pytest.fixture
def gcp() -> Iterator[GcpCloud]:
    with GcpCloud() as cloud, cloud.credentials():
        yield cloud


@pytest.fixture
def source(aws: AwsCloud, gcp: GcpCloud, tmp_path: Path) -> SpecFile:
    (tmp_path / "key.json").write_text('{"type": "authorized_user"}')
    path = tmp_path / "cluster.yaml"
    path.write_text(
        f"""cluster: demo
provider: {{aws: {{region: {AWS_REGION}, endpoint_url: '{aws.url}', calls_per_second: 200}}}}
head: {{public_port: true, credentials: {{gcp: key.json}}}}
engine: none
auth: {{key: ~/.ssh/nobody}}
pools:
  - {{name: cpu, instances: [t3.micro]}}
  - name: far
    instances: [e2-medium]
    provider: {{gcp: {{project: {PROJECT}, region: {REGION}, endpoint_url: '{gcp.url}', calls_per_second: 500}}}}
"""
    )
    return read_spec(path)


@pytest.fixture
def registry(tmp_path: Path) -> Registry:
    return Registry(tmp_path / "home", {})


@pytest.fixture
def cluster(registry: Registry, source: SpecFile) -> Cluster:
    """As `up` leaves it here before anything is launched."""
    made = registry.create("demo", provider="aws", engine="none", spec_path=str(source.path))
    note(made.head_dir, source.spec)
    keep_config(made, source.spec, source.text)
    return made


@pytest.fixture
def head(cluster: Cluster, source: SpecFile, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Head]:
    """On its instance, without its loop and its listeners."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", os.environ["GOOGLE_APPLICATION_CREDENTIALS"])
    directory = tmp_path / "host" / "head"
    directory.mkdir(parents=True)
    (directory / "config.json").write_text(config_there(cluster, source.spec, source.text, ""))
    handover = {"own": "head-1", "address": "10.0.0.4", "public": "203.0.113.9", "bundle": "", "records": []}
    (directory / "handover.json").write_text(json.dumps(handover))
    loop = asyncio.new_event_loop()
    asyncio.set_event_loop(loop)
    made = Head(HeadConfig.load(directory))
    yield made
    made.store.close()
    made.provisioner.close()
    made.fleet.written.close()
    made.journal.close()
    loop.close()


def launched(provider: Provider, uid: str, node_id: str, **tags: str) -> Instance:
    token = launch_token(uid, node_id, 1)
    spec = {"instances": [TYPES[provider.name]], "market": ["on-demand"]}
    pool = PoolRequest(node_id.rpartition("-")[0], spec, "head" if node_id.startswith("head") else "worker")
    own = {TAG_CLUSTER: "demo", TAG_UID: uid, TAG_NODE: node_id, TAG_GENERATION: "1", TAG_TOKEN: token, **tags}
    bootstrap = {"node_id": node_id, "join_token": "once"}
    request = CreateRequest(token, node_id, 1, provider.offers(pool)[0], own, bootstrap, pool)
    (made,) = provider.create([request])
    assert isinstance(made, Instance), made
    return made


@pytest.fixture
def both(cluster: Cluster, source: SpecFile, tmp_path: Path) -> tuple[Instance, Instance]:
    """The head's instance, and a node at the other provider, as the head launches it."""
    made: list[Instance] = []
    for (name, settings), node_id in zip(source.spec.providers.items(), ("head-1", "far-1"), strict=True):
        machine = HeadMachine(public=True, port=7420, open_to=("0.0.0.0/0",)) if name == "aws" else None
        context = ProviderContext("demo", cluster.uid, str(tmp_path / name), settings, head_machine=machine)
        provider = make_provider(name, context)
        tags = {TAG_MAKER: f"AWS ({made[0].id})"} if made else {}
        made.append(launched(provider, cluster.uid, node_id, **tags))
        provider.close()
    return made[0], made[1]


def test_nodes_of_the_other_provider_dial_the_heads_public_address_and_its_own_the_private_one(head: Head) -> None:
    assert head._dialled("cpu") == ["10.0.0.4"] and head._dialled("far") == ["203.0.113.9"]


def test_a_head_whose_public_address_nobody_told_says_so_instead_of_launching_lost_nodes(head: Head) -> None:
    (head.config.directory / "handover.json").write_text(
        json.dumps({"own": "head-1", "address": "10.0.0.4", "bundle": "", "records": []})
    )
    with pytest.raises(UsageError, match="public address is not known"):
        head._dialled("far")


def test_the_head_uses_the_credentials_that_were_brought_for_the_other_provider(head: Head) -> None:
    kept = head.config.directory / "credentials" / "gcp"
    kept.parent.mkdir()
    kept.write_text("{}")
    head._make_provider("gcp", head.config.spec.providers["gcp"], head.config.spec).close()
    assert os.environ["GOOGLE_APPLICATION_CREDENTIALS"] == str(kept)


def test_what_the_head_launches_there_bears_where_the_head_is(head: Head, gcp: GcpCloud) -> None:
    provisioner: Provisioner = head.provisioner
    head.agents.ports = [7420]
    offer = next(offer for offer in provisioner.offers() if offer.pool == "far")
    token = launch_token(head.config.uid, "far-1", 1)
    wanted = Launch("far-1", 1, token, offer, "worker", "hash", Reason("test", "a test wants it"))
    (outcome,) = provisioner.apply(Plan((wanted,)))
    assert outcome.ok and outcome.node is not None, outcome.error
    made = gcp.instance(outcome.node.instance_id)
    told = dict(made.metadata)
    assert {**tags_in(made.labels), **told}[TAG_MAKER].startswith("AWS (")
    assert any("203.0.113.9:7420" in value for value in told.values())


def test_down_without_the_head_ends_what_both_providers_have(
    registry: Registry, cluster: Cluster, aws: AwsCloud, gcp: GcpCloud, both: tuple[Instance, Instance]
) -> None:
    (cluster.directory / "inventory.json").write_text("{}")
    take_down(registry, cluster, lambda _: None)
    assert aws.instances() == [] and gcp.instances() == [] and aws.leftovers() == [] and gcp.leftovers() == []
    assert registry.names() == []


def test_nobody_who_finds_its_nodes_at_the_other_provider_takes_them_for_abandoned(
    source: SpecFile, tmp_path: Path, gcp: GcpCloud, both: tuple[Instance, Instance]
) -> None:
    strays = collect_strays(Registry(tmp_path / "another home", {}), source, dry_run=False)
    assert [(stray.provider, stray.removed) for stray in strays] == [("gcp", False)]
    assert f"its head runs at AWS ({both[0].id})" in strays[0].spared and len(gcp.instances()) == 1


@pytest.mark.parametrize("with_spec", [True, False])
def test_a_lost_cluster_is_found_again_at_both_providers_and_taken_down(
    with_spec: bool, source: SpecFile, tmp_path: Path, aws: AwsCloud, gcp: GcpCloud, both: tuple[Instance, Instance],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    another = Registry(tmp_path / "another home", {})
    if not with_spec:  # as where the account is known by its credentials alone
        found = places(another, source)
        monkeypatch.setattr(adopting, "places", lambda *_: [one for one in found if one.provider in TYPES])
    findings, troubles = adopt_clusters(another, source if with_spec else None, str(tmp_path / "scratch"))
    assert troubles == [] and [finding.adopted for finding in findings] == [True]
    assert findings[0].nodes == ["far-1", "head-1"]
    take_down(another, another.load("demo"), lambda _: None)
    assert aws.instances() == [] and gcp.instances() == [] and aws.leftovers() == [] and gcp.leftovers() == []
