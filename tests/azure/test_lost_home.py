"""Another machine finds what a lost home has left in the account: `list --adopt`, `down` and `gc`, by the tags alone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

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
    ProviderContext,
)

from clusterctl.client.down.adopt import Finding, adopt_clusters
from clusterctl.client.down.gc import collect_strays
from clusterctl.client.down.take_down import take_down
from clusterctl.client.registry import Registry
from clusterctl.client.specfile import SpecFile, read_spec
from clusterctl.core.model import Instance, launch_token
from tests.azure.stage import vms
from tests.cloud.azure.cloud import AzureCloud
from tests.cloud.azure.world import REGION, SUBSCRIPTION

UID = "2b0f1c9e-5d35-4a9c-9f0e-0d6a8c5be111"


@pytest.fixture
def source(cloud: AzureCloud, tmp_path: Path) -> SpecFile:
    path = tmp_path / "cluster.yaml"
    path.write_text(
        f"cluster: demo\nprovider: {{azure: {{subscription: {SUBSCRIPTION}, region: {REGION}, endpoint_url: '{cloud.url}', "
        "calls_per_second: 500}}\n"
        "engine: none\npools: [{name: cpu, instances: [Standard_D2s_v5]}]\n"
    )
    return read_spec(path)


@pytest.fixture
def registry(tmp_path: Path) -> Registry:
    return Registry(tmp_path / "another home", {})


def launch(
    source: SpecFile, tmp_path: Path, *node_ids: str, head_machine: HeadMachine | None = None, **more: Any
) -> list[str]:
    """What a home launched that is lost now."""
    state, settings = str(tmp_path / "lost"), {**source.spec.provider_settings, **more}
    provider = make_provider("azure", ProviderContext("demo", UID, state, settings, head_machine=head_machine))
    made: list[str] = []
    for node_id in node_ids:
        role = "head" if node_id.startswith("head") else "worker"
        pool = PoolRequest(
            node_id.rpartition("-")[0], {"instances": ["Standard_D2s_v5"], "market": ["on-demand"]}, role
        )
        token = launch_token(UID, node_id, 1)
        tags = {TAG_CLUSTER: "demo", TAG_UID: UID, TAG_NODE: node_id, TAG_GENERATION: "1", TAG_TOKEN: token}
        bootstrap = {"node_id": node_id, "join_token": "once"}
        request = CreateRequest(token, node_id, 1, provider.offers(pool)[0], tags, bootstrap, pool)
        (instance,) = provider.create([request])
        assert isinstance(instance, Instance), instance
        made.append(instance.id)
    provider.close()
    return made


def adopt(registry: Registry, source: SpecFile, tmp_path: Path) -> Finding:
    findings, troubles = adopt_clusters(registry, source, str(tmp_path / "scratch"))
    assert troubles == []
    return next(finding for finding in findings if finding.uid == UID)


def test_a_lost_cluster_is_known_again_and_taken_down(
    registry: Registry, source: SpecFile, cloud: AzureCloud, tmp_path: Path
) -> None:
    launch(source, tmp_path, "cpu-1", "cpu-2")
    found = adopt(registry, source, tmp_path)
    assert found.adopted and found.nodes == ["cpu-1", "cpu-2"] and "queue" in found.lost[0]
    cluster = registry.load("demo")
    assert cluster.uid == UID
    take_down(registry, cluster, lambda _: None)
    assert vms(cloud) == [] and cloud.leftovers() == [] and registry.names() == []


def test_a_head_that_lives_on_an_instance_is_named_and_gc_leaves_its_cluster_alone(
    registry: Registry, source: SpecFile, cloud: AzureCloud, tmp_path: Path
) -> None:
    head, _ = launch(source, tmp_path, "head-1", "cpu-1", head_machine=HeadMachine(public=True))
    assert [s for s in collect_strays(registry, source, dry_run=False) if s.uid == UID] == []
    assert len(vms(cloud)) == 2
    found = adopt(registry, source, tmp_path)
    assert found.adopted and head in found.lost[0] and "keys" in found.lost[0]
    take_down(registry, registry.load("demo"), lambda _: None)
    assert vms(cloud) == [] and cloud.leftovers() == []


def test_gc_on_a_new_home_looks_where_the_spec_has_its_nodes(
    registry: Registry, source: SpecFile, cloud: AzureCloud, tmp_path: Path
) -> None:
    ids = launch(source, tmp_path, "cpu-1")
    (stray,) = [s for s in collect_strays(registry, source, dry_run=False) if s.uid == UID]
    assert stray.removed and list(stray.instance_ids) == ids and REGION in stray.where
    assert vms(cloud) == [] and cloud.leftovers() == []


def test_a_cluster_whose_head_runs_on_somebodys_machine_is_not_ended_from_another(
    registry: Registry, source: SpecFile, cloud: AzureCloud, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as there:
        there.setenv("LOGNAME", "colleague")
        launch(source, tmp_path, "cpu-1", head_address="10.0.0.5")
    assert vms(cloud)[0]["tags"][TAG_MAKER].startswith("colleague@")
    (stray,) = [s for s in collect_strays(registry, source, dry_run=False) if s.uid == UID]
    assert "colleague@" in stray.spared and not stray.removed and len(vms(cloud)) == 1
    found = adopt(registry, source, tmp_path)
    assert any("colleague@" in text and "two heads" in text for text in found.lost)
    take_down(registry, registry.load("demo"), lambda _: None)
    assert vms(cloud) == []
