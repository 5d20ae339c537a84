"""A spec as planner and providers see it, and what a change does to nodes that exist."""

from __future__ import annotations

import json

import pytest

from clusterctl.core.diff import CLUSTER_FIELDS, POOL_FIELDS
from clusterctl.core.model import labels_of
from clusterctl.spec.hash import CLUSTER_EFFECTS, HEAD_EFFECTS, POOL_EFFECTS, head_hash, pool_hash, spec_hash
from clusterctl.spec.load import parse_spec
from clusterctl.spec.model import ClusterSpec
from clusterctl.spec.parts import Head
from clusterctl.spec.pool import Pool
from clusterctl.spec.to_core import core_limits, core_pools, pool_requests
from tests.spec.examples import FULL, SMALLEST

DIGESTS = ("ff1c0da4de50d052", "2b728ea065364f7b", "7533c3b487b1ef02")  # of spec, pool and head of the smallest spec


def with_pool(keys: str, more: str = "") -> ClusterSpec:
    return parse_spec(f"cluster: a\nprovider: fake\npools: [{{name: cpu{keys}}}]\n{more}")


def worker_hash(spec: ClusterSpec) -> str:
    return pool_hash(spec, spec.pools[0])


def test_the_head_is_a_pool_of_exactly_one_node() -> None:
    head, cpu = core_pools(parse_spec(SMALLEST))
    assert (head.name, head.role, head.min, head.max, head.provider) == ("head", "head", 1, 1, "local")
    assert (cpu.name, cpu.role, cpu.min, cpu.max, cpu.provider) == ("cpu", "worker", 0, 3, "local")


def test_a_pool_of_the_planner_carries_the_keys_of_the_spec() -> None:
    _, pool = core_pools(parse_spec(FULL))
    assert (pool.idle_timeout, pool.orphan_timeout, pool.max) == (300, 900, 20)
    assert pool.labels == labels_of({"team": "vision"})
    _, limited = core_pools(with_pool(", one_zone: true, limits: {cost_per_hour: 3}"))
    assert (limited.one_zone_gangs, limited.max_cost_per_hour) == (True, 3)


def test_limits_are_those_of_the_spec_and_sorted_by_user() -> None:
    limits = "limits: {nodes: 30, gpus: 8, cost_per_hour: 40, budget: {per_day: 500, per_month: 9000}, launches_per_minute: 5"
    users = "per_user: {bob: {gpus: 4, nodes: 2}, alice: {cost_per_hour: 1}}}"
    read = core_limits(with_pool("", f"{limits}, {users}"))
    assert (read.nodes, read.gpus, read.cost_per_hour, read.launches_per_minute) == (30, 8, 40, 5)
    assert (read.budget_per_day, read.budget_per_month) == (500, 9000)
    assert read.per_user == (("alice", (("cost_per_hour", 1.0),)), ("bob", (("gpus", 4.0), ("nodes", 2))))


def test_providers_get_plain_json_of_every_pool_and_the_head_in_the_same_form() -> None:
    requests = pool_requests(parse_spec(FULL))
    assert json.loads(json.dumps(requests)) == requests
    assert list(requests) == ["head", "gpu"]
    head, gpu = requests["head"], requests["gpu"]
    assert gpu.keys() - head.keys() == set()
    assert (head["name"], head["instances"], head["disk"], head["market"]) == (
        "head",
        ["m6i.large"],
        100 * 1024**3,
        ["on-demand"],
    )
    assert gpu["instances"] == ["g6.xlarge", "g5.xlarge"]


def test_the_host_of_the_head_is_given_as_a_host() -> None:
    text = "cluster: a\nprovider: ssh\nhead: {host: {host: h0, port: 2222}, slots: 3}\npools: [{name: x, hosts: [h1]}]"
    head = pool_requests(parse_spec(text))["head"]
    assert (head["hosts"][0]["host"], head["hosts"][0]["port"], head["slots"]) == ("h0", 2222, 3)


# ---------------------------------------------------------------- digests


def test_every_key_says_what_its_change_does() -> None:
    assert POOL_EFFECTS.keys() == Pool.model_fields.keys()
    assert HEAD_EFFECTS.keys() == Head.model_fields.keys()
    assert CLUSTER_EFFECTS.keys() == ClusterSpec.model_fields.keys()


def test_plan_says_of_every_key_what_its_change_does() -> None:
    """`up` asks before it takes nodes down: what needs new nodes and what `plan` calls harmless never overlap."""
    makes_new = {"replace", "refused"}
    for key, effect in POOL_EFFECTS.items():
        assert (effect == "replace") == (POOL_FIELDS.get(key, "replace") in makes_new), key
    for key, effect in CLUSTER_EFFECTS.items():
        if key != "pools":  # key by key
            assert (effect == "replace") == (CLUSTER_FIELDS.get(key, "replace") in makes_new), key


def test_a_setting_of_the_provider_that_plan_calls_harmless_needs_no_new_node() -> None:
    text = "cluster: a\nprovider: {aws: {region: us-east-1, %s}}\npools: [{name: x, instances: [m5.large]}]"
    plain, reached, other = (
        parse_spec(text % more) for more in ("vpc: default", "reach: private", "subnets: [subnet-1]")
    )
    assert pool_hash(plain, plain.pools[0]) == pool_hash(reached, reached.pools[0]) != pool_hash(other, other.pools[0])


def test_digests_stay_the_same_from_version_to_version() -> None:
    """Another digest would replace every node of every cluster at the next `up`."""
    spec = parse_spec(SMALLEST)
    assert (spec_hash(spec), worker_hash(spec), head_hash(spec)) == DIGESTS


def test_a_default_written_out_changes_nothing() -> None:
    plain, written = with_pool(""), with_pool(", min: 0, idle_timeout: 300s, market: [on-demand]", "engine: {ray: {}}")
    assert spec_hash(plain) == spec_hash(written)
    assert worker_hash(plain) == worker_hash(written)


@pytest.mark.parametrize(
    "keys",
    [", max: 9", ", idle_timeout: 1s", ", zones: [a]", ", market: [spot]", ", env: {A: b}", ", setup: [ls]"],
)
def test_keys_that_the_head_applies_need_no_new_node(keys: str) -> None:
    assert worker_hash(with_pool(keys)) == worker_hash(with_pool(""))
    assert spec_hash(with_pool(keys)) != spec_hash(with_pool(""))


@pytest.mark.parametrize("keys", [", resources: {CPU: 2}", ", labels: {a: b}", ", image: x", ", disk: 9GiB"])
def test_keys_that_a_node_is_made_with_need_a_new_one(keys: str) -> None:
    assert worker_hash(with_pool(keys)) != worker_hash(with_pool(""))
    assert head_hash(with_pool(keys)) == head_hash(with_pool(""))


@pytest.mark.parametrize("more", ["engine: none"])
def test_what_every_node_is_made_with_needs_new_nodes_everywhere(more: str) -> None:
    assert worker_hash(with_pool("", more)) != worker_hash(with_pool(""))
    assert head_hash(with_pool("", more)) != head_hash(with_pool(""))


@pytest.mark.parametrize("more", ["setup: [ls]", "files: [{from: ., to: x}]"])
def test_files_and_setup_reach_the_nodes_that_live(more: str) -> None:
    assert worker_hash(with_pool("", more)) == worker_hash(with_pool(""))
    assert head_hash(with_pool("", more)) == head_hash(with_pool(""))


def test_the_head_is_replaced_for_its_own_keys_alone() -> None:
    small, large = with_pool("", "head: {instance: small}"), with_pool("", "head: {instance: large}")
    assert head_hash(small) != head_hash(large)
    assert worker_hash(small) == worker_hash(large)
    assert head_hash(with_pool("", "head: {slots: 3}")) == head_hash(with_pool(""))
