"""Pools of another provider than the cluster's: what they may say, what follows from it, and what is refused."""

from __future__ import annotations

import pytest

from clusterctl.core.scheduling.selectors import NO_ENGINE
from clusterctl.spec.faults import SpecError
from clusterctl.spec.hash import pool_hash
from clusterctl.spec.load import parse_spec
from clusterctl.spec.model import ClusterSpec
from clusterctl.spec.network import has_engine, network_notes, shares_network
from clusterctl.spec.support import unsupported
from clusterctl.spec.to_core import core_pools, pool_requests

CPU = "{name: cpu, instances: [m6i.large]}"
GPU = "{name: gpu, gpu: {name: L4}, provider: {gcp: {region: us-central1, project: my-project}}}"


def spec_of(*pools: str, provider: str = "{aws: {region: us-east-1}}", more: str = "") -> ClusterSpec:
    return parse_spec(f"cluster: demo\nprovider: {provider}\n{more}pools: [{', '.join(pools)}]\n", "demo.yaml")


def faults(*pools: str, provider: str = "{aws: {region: us-east-1}}", more: str = "") -> list[str]:
    with pytest.raises(SpecError) as caught:
        spec_of(*pools, provider=provider, more=more)
    return [str(fault) for fault in caught.value.faults]


def lacking(spec: ClusterSpec) -> list[str]:
    return [fault.message for fault in unsupported(spec)]


def test_a_pool_names_its_provider_with_settings_and_others_refer_to_it_by_name() -> None:
    spec = spec_of(CPU, GPU, "{name: more, gpu: {name: L4}, provider: gcp}")
    settings = {"region": "us-central1", "project": "my-project"}
    assert spec.providers == {"aws": {"region": "us-east-1"}, "gcp": settings}
    assert [spec.kind_of(pool).name for pool in spec.pools] == ["aws", "gcp", "gcp"]
    assert spec.settings_of(spec.pools[2]) == settings and spec.settings_of(None) == {"region": "us-east-1"}
    assert [pool.provider for pool in core_pools(spec)] == ["aws", "aws", "gcp", "gcp"]
    assert pool_requests(spec)["gpu"]["provider"] == "gcp"


def test_a_spec_with_several_providers_survives_being_kept_as_data() -> None:
    spec = spec_of(CPU, GPU)
    assert ClusterSpec.model_validate(spec.model_dump(mode="json", by_alias=True)) == spec


def test_a_provider_has_one_set_of_settings_wherever_it_is_named() -> None:
    (own,) = faults("{name: far, instances: [m6i.large], provider: {aws: {region: eu-west-1}}}")
    assert "'aws' is the cluster's own, with other settings: a cluster uses each provider with one set of them" in own
    (other,) = faults(CPU, GPU, GPU.replace("gpu,", "far,").replace("us-central1", "europe-west4"))
    assert "'gcp' is another pool's, too, with other settings" in other and "write `provider: gcp` here" in other
    assert spec_of("{name: cpu, instances: [m6i.large], provider: {aws: {region: us-east-1}}}").providers.keys() == {
        "aws"
    }


def test_a_pools_own_cloud_needs_a_region_and_zones_of_it() -> None:
    assert "provider 'gcp' needs a region" in faults(CPU, "{name: gpu, gpu: {name: L4}, provider: gcp}")[0]
    zones = GPU.replace("gpu, gpu", "gpu, zones: [us-east-1a], gpu")
    assert "zone 'us-east-1a' is not in region 'us-central1'" in faults(CPU, zones)[0]


def test_keys_that_mean_nothing_to_the_pools_own_provider_are_refused() -> None:
    found = faults(CPU, "{name: lab, instances: [m6i.large], provider: docker}")
    assert "'instances' means nothing to provider 'docker'" in found[0]


def test_only_pools_of_the_clusters_own_provider_are_in_the_heads_network() -> None:
    spec = spec_of(CPU, GPU, "{name: near, gpu: {name: L4}, provider: gcp, network: shared}")
    assert [shares_network(spec, pool) for pool in (None, *spec.pools)] == [True, True, False, True]
    assert [has_engine(spec, pool) for pool in (None, *spec.pools)] == [True, True, False, True]
    assert network_notes(spec) == [
        "pool gpu: queue jobs only: it is not in the head's network (its provider is gcp, the head's aws); its nodes dial the "
        "head at its public address",
        "pool near: all work: it is in the head's network, as the spec says (`network: shared`)",
    ]


def test_nodes_without_the_engine_bear_its_label_and_a_cluster_without_one_has_none() -> None:
    spec = spec_of(CPU, GPU)
    assert [dict(pool.labels) for pool in core_pools(spec)] == [{}, {}, dict([NO_ENGINE])]
    assert pool_requests(spec)["gpu"]["labels"] == dict([NO_ENGINE]) and not pool_requests(spec)["cpu"]["labels"]
    assert not any(pool.labels for pool in core_pools(spec_of(CPU, GPU, more="engine: none\n")))


def test_a_plan_of_a_cluster_of_one_provider_has_no_word_of_networks() -> None:
    assert network_notes(spec_of(CPU)) == []


@pytest.mark.parametrize(
    ("provider", "more", "pool", "why"),
    [
        ("{aws: {region: us-east-1}}", "", GPU, "are not in the head's network, and its port is not open to others"),
        (
            "{aws: {region: us-east-1, reach: private}}",
            "head: {public_port: true}\n",
            GPU,
            "with `reach: private` it has none",
        ),
        (
            "{aws: {region: us-east-1}}",
            "",
            "{name: x, provider: docker}",
            "containers of Docker are on the head's own machine",
        ),
        (
            "{aws: {region: us-east-1}}",
            "",
            "{name: x, provider: ssh, hosts: [h]}",
            "this one's is an instance of its cloud",
        ),
        ("local", "", GPU, "are not told where that is"),
        ("local", "", "{name: x, provider: ssh, hosts: [h]}", "this one's is on this machine"),
    ],
)
def test_nodes_that_would_not_find_the_head_are_refused_with_the_reason(
    provider: str, more: str, pool: str, why: str
) -> None:
    own = CPU if "aws" in provider else "{name: cpu}"
    (found,) = lacking(spec_of(own, pool, provider=provider, more=more))
    assert why in found


@pytest.mark.parametrize(
    ("provider", "more", "pool"),
    [
        ("{aws: {region: us-east-1}}", "head: {public_port: true}\n", GPU),
        ("{aws: {region: us-east-1}}", "head: {public_port: [203.0.113.0/24]}\n", GPU),
        ("{aws: {region: us-east-1}}", "", GPU.replace("gpu,", "gpu, network: shared,")),
        ("local", "", GPU.replace("my-project", "my-project, head_address: 10.0.0.5")),
        ("local", "", "{name: x, provider: docker}"),
        ("docker", "", "{name: x, provider: local}"),
        ("{aws: {region: us-east-1, head_address: 10.0.0.5}}", "", "{name: x, provider: fake}"),
    ],
)
def test_nodes_that_find_the_head_are_not(provider: str, more: str, pool: str) -> None:
    own = CPU if "aws" in provider else "{name: cpu}"
    assert lacking(spec_of(own, pool, provider=provider, more=more)) == []


def test_the_heads_port_is_closed_unless_it_is_said_to_whom_it_opens() -> None:
    assert spec_of(CPU).head.port_open_to == ()
    assert spec_of(CPU, more="head: {public_port: true}\n").head.port_open_to == ("0.0.0.0/0", "::/0")
    assert spec_of(CPU, more="head: {public_port: [203.0.113.0/24]}\n").head.port_open_to == ("203.0.113.0/24",)
    assert "'10.0.0.1/8' is not a network" in faults(CPU, more="head: {public_port: [10.0.0.1/8]}\n")[0]
    assert "a machine of yours, whose firewall nothing here opens" in faults(
        "{name: cpu}", provider="local", more="head: {public_port: true}\n"
    )[0]  # fmt: skip


def test_credentials_are_for_pools_of_other_clouds_and_a_head_elsewhere() -> None:
    assert spec_of(CPU, GPU, more="head: {credentials: {gcp: key.json}}\n").head.credentials == {"gcp": "key.json"}
    assert "no pool here is of provider 'gcp'" in faults(CPU, more="head: {credentials: {gcp: key.json}}\n")[0]
    head = "head: {credentials: {gcp: key.json}}\n"
    assert "uses the credentials that are there" in faults("{name: cpu}", GPU, provider="local", more=head)[0]
    docker = "{name: lab, provider: docker}"
    found = faults(CPU, docker, more="head: {credentials: {docker: key.json}}\n")
    assert "provider 'docker' takes no file with credentials" in found[0]


def test_nodes_are_replaced_when_their_own_providers_lasting_settings_change() -> None:
    one, moved = spec_of(CPU, GPU), spec_of(CPU, GPU.replace("my-project", "my-project, subnet: other"))
    told = spec_of(CPU, GPU.replace("my-project", "my-project, calls_per_second: 3"))
    assert pool_hash(one, one.pools[1]) != pool_hash(moved, moved.pools[1])
    assert pool_hash(one, one.pools[1]) == pool_hash(told, told.pools[1])
    assert pool_hash(one, one.pools[0]) == pool_hash(moved, moved.pools[0])
