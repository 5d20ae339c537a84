"""Where `gc` and `list --adopt` search: everywhere that something here names, each place once."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from clusterctl.client.down.places import is_place_of, places
from clusterctl.client.registry import Registry
from clusterctl.client.specfile import read_spec
from clusterctl.spec.providers.registry import KINDS


def know(registry: Registry, name: str, provider: str, spec: dict[str, Any]) -> None:
    """As `up` leaves a cluster."""
    cluster = registry.create(name, provider=provider, engine="none", spec_path="")
    (cluster.head_dir / "config.json").write_text(json.dumps({"spec": spec}))


def labels(registry: Registry, source: Any = None) -> list[str]:
    return [place.label for place in places(registry, source)]


@pytest.fixture(autouse=True)
def nobody(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A user without any account."""
    monkeypatch.setenv("HOME", str(tmp_path / "nobody"))
    for kind in KINDS.values():
        for name in kind.search.account.variables if kind.search and kind.search.account else ():
            monkeypatch.delenv(name, raising=False)


def test_a_new_home_searches_this_machine_and_docker_where_it_answers(registry: Registry) -> None:
    assert [(place.label, place.named) for place in places(registry)] == [("docker", False), ("local", True)]


def test_credentials_for_aws_are_reason_enough_to_search_there(
    registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_PROFILE", "research")
    assert [(place.label, place.named) for place in places(registry)][1:] == [("aws", False), ("local", True)]


def test_each_region_profile_and_engine_that_a_cluster_here_uses_is_a_place(registry: Registry) -> None:
    know(registry, "a", "aws", {"provider": {"aws": {"region": "us-east-1"}}})
    know(registry, "b", "aws", {"provider": {"aws": {"region": "us-west-2", "vpc": "vpc-1"}}})
    know(registry, "c", "aws", {"provider": {"aws": {"region": "us-west-2"}}})
    know(registry, "d", "aws", {"provider": {"aws": {"region": "us-west-2", "profile": "other"}}})
    know(registry, "e", "docker", {"provider": {"docker": {"host": "ssh://box"}}})
    assert labels(registry) == [
        "aws (region us-east-1)",
        "aws (region us-west-2)",
        "aws (region us-west-2, profile other)",
        "docker (host ssh://box)",
        "local",
    ]


def test_a_provider_that_only_a_pool_names_is_a_place(registry: Registry) -> None:
    know(registry, "a", "local", {"provider": "local", "pools": [{"name": "gpu", "provider": "aws"}, {"name": "cpu"}]})
    assert labels(registry) == ["aws", "docker", "local"]


def test_a_cluster_is_looked_for_in_the_engine_that_it_was_made_in(registry: Registry) -> None:
    know(registry, "a", "docker", {"provider": "docker"})
    (registry.load("a").provider_dir / "engine.json").write_text('{"host": "tcp://10.0.0.7:2376", "id": "x"}')
    assert labels(registry) == ["docker (host tcp://10.0.0.7:2376)", "local"]


def test_a_spec_adds_its_own_place_and_is_at_home_in_no_other(registry: Registry, tmp_path: Path) -> None:
    know(registry, "a", "aws", {"provider": {"aws": {"region": "us-east-1"}}})
    path = tmp_path / "cluster.yaml"
    path.write_text(
        "cluster: demo\nprovider: {aws: {region: eu-west-1}}\nengine: none\npools: [{name: cpu, instances: [m6i.large]}]\n"
    )
    source = read_spec(path)
    found = places(registry, source)
    assert [place.label for place in found][:2] == ["aws (region eu-west-1)", "aws (region us-east-1)"]
    assert [is_place_of(place, source) for place in found] == [True, False, False, False]


def test_a_fake_cloud_that_lies_with_its_cluster_is_no_place_of_its_own(registry: Registry) -> None:
    know(registry, "a", "fake", {"provider": {"fake": {"boot": "local"}}})
    know(registry, "b", "fake", {"provider": {"fake": {"directory": "/tmp/cloud"}}})
    assert labels(registry) == ["fake (directory /tmp/cloud)", "docker", "local"]
