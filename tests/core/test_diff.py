"""`plan`: what a changed spec would do, per pool and field."""

from __future__ import annotations

from dataclasses import replace

import pytest

from clusterctl.core.diff import plan_document, plan_spec
from clusterctl.spec.providers.registry import KINDS
from tests.core.worlds import amounts, decide, offer, pool, state, view

OLD = {
    "cluster": "demo",
    "provider": "local",
    "limits": {"nodes": 10},
    "pools": [{"name": "cpu", "min": 0, "max": 3, "image": "a"}, {"name": "old", "min": 0, "max": 1}],
}


def changed(**rest: object) -> dict[str, object]:
    return OLD | rest


def ways(plan) -> dict[str, str]:
    return {f"{c.name}.{f.name}": f.way for c in plan.changes for f in c.fields}


def test_the_same_spec_changes_nothing() -> None:
    assert plan_spec(OLD, dict(OLD)).changes == ()


def test_a_cluster_that_does_not_exist_is_added_with_its_pools_and_its_first_nodes() -> None:
    first = decide(state(pools=(pool("cpu", 1, 3), pool("old"))), offers=(offer(price=0.5),))
    plan = plan_spec(None, OLD, first=first, offers=(offer(price=0.5), offer("old", price=2.0)))
    assert [(c.op, c.kind, c.name) for c in plan.changes] == [
        ("add", "cluster", "demo"),
        ("add", "pool", "cpu"),
        ("add", "pool", "old"),
        ("add", "node", "cpu-1"),
    ]
    assert (plan.price_before, plan.price_after, plan.price_max) == (0, 0.5, 3.5)


def test_each_changed_field_says_what_it_takes() -> None:
    pools = [{"name": "cpu", "min": 1, "max": 3, "image": "b"}, {"name": "old", "min": 0, "max": 1}]
    plan = plan_spec(OLD, changed(pools=pools, limits={"nodes": 5}, provider="aws"), (view("cpu-1"),))
    assert ways(plan) == {
        "demo.limits": "in-place",
        "demo.provider": "refused",
        "cpu.image": "replace",
        "cpu.min": "in-place",
    }
    assert plan.refused == ("provider",)
    assert [change.way for change in plan.changes] == ["refused", "replace"]


def test_a_change_that_touches_no_node_takes_nothing_down() -> None:
    pools = [{"name": "cpu", "min": 0, "max": 3, "image": "b"}, {"name": "old", "min": 0, "max": 1}]
    plan = plan_spec(OLD, changed(pools=pools), (view("old-1", offer("old")),))
    assert ways(plan) == {"cpu.image": "replace"}
    assert [(c.way, c.reason) for c in plan.changes] == [("in-place", "it has no nodes yet that this would touch")]


def test_settings_of_the_provider_are_fields_of_their_own() -> None:
    old = changed(provider={"docker": {"image": "a", "network": "", "pids": None}, "aws": None})
    new = changed(provider={"docker": {"image": "b", "network": "n", "pids": None}, "aws": None})
    plan = plan_spec(old, new, (view("cpu-1"),), settings={"network": "refused"})
    assert ways(plan) == {"demo.provider.docker.image": "replace", "demo.provider.docker.network": "refused"}
    assert plan.refused == ("provider.docker.network",)
    plain, written = changed(provider="docker"), changed(provider={"docker": {"image": "", "mounts": []}})
    assert plan_spec(plain, written).changes == ()


@pytest.mark.parametrize(
    ("provider", "key", "way"),
    [
        ("ssh", "port", "in-place"),  # the head goes on listening where it did, too
        ("ssh", "address", "in-place"),
        ("ssh", "config", "in-place"),
        ("fake", "directory", "refused"),  # another cloud would be looked at, and what this one has left behind
        ("fake", "faults", "in-place"),
        ("local", "short_dir", "replace"),
    ],
)
def test_where_nodes_are_is_fixed_and_how_they_find_their_head_is_not(provider: str, key: str, way: str) -> None:
    old, new = (changed(provider={provider: {key: value}}) for value in "ab")
    plan = plan_spec(old, new, (view("cpu-1"),), settings=KINDS[provider].changes)
    assert ways(plan) == {f"demo.provider.{provider}.{key}": way}


def test_a_head_that_runs_stays_and_plan_says_so() -> None:
    head = view("head-1", offer("head"))
    head = replace(head, node=replace(head.node, role="head"))
    (change,) = plan_spec(changed(head={"image": "a"}), changed(head={"image": "b"}), (head, view("cpu-1"))).changes
    assert change.way == "in-place" and "the head node that runs stays as it is" in change.reason
    old, new = (changed(provider={"docker": {"image": image}}) for image in "ab")
    (change,) = plan_spec(old, new, (head, view("cpu-1"))).changes
    assert change.way == "replace" and "(1 nodes); the head node that runs stays" in change.reason


def test_a_pool_that_is_taken_out_is_drained() -> None:
    nodes = (view("old-1", offer("old")),)
    plan = plan_spec(OLD, changed(pools=OLD["pools"][:1]), nodes)  # type: ignore[index]
    (change,) = plan.changes
    assert (change.op, change.name, change.way) == ("remove", "old", "drain")
    assert "1 nodes are drained" in change.reason


def test_nodes_that_the_new_spec_replaces_are_listed_with_the_price_before_and_after() -> None:
    nodes = tuple(view(f"cpu-{n}", used=amounts(CPU=1), spec_hash="a") for n in (1, 2))
    first = decide(state(*nodes, pools=(pool("cpu", 2, 3, spec_hash="b"),)))
    plan = plan_spec(OLD, changed(), nodes, first)
    assert [(c.op, c.kind, c.name, c.way) for c in plan.changes] == [
        ("remove", "node", "cpu-1", "replace"),
        ("add", "node", "cpu-3", "in-place"),
    ]
    assert plan.price_before == 2.0


def test_contradictions_and_missing_offers_are_warnings_with_the_place() -> None:
    pools = [{"name": "cpu", "min": 4, "max": 3}, {"name": "gpu", "min": 8, "max": 8}]
    plan = plan_spec(None, changed(pools=pools), offers=(offer("cpu"),))
    assert plan.warnings == (
        "pool cpu: min 4 is above max 3",
        "pool gpu: the provider offers nothing for it now; check its instances and zones",
        "the pools' min add up to 12 nodes, more than limits.nodes allows (10)",
    )


def test_the_document_is_that_of_plan_json() -> None:
    pools = [{"name": "cpu", "min": 0, "max": 5, "image": "a"}, {"name": "old", "min": 0, "max": 1}]
    document = plan_document(plan_spec(OLD, changed(pools=pools)))
    assert document["actions"] == [
        {
            "op": "change",
            "kind": "pool",
            "name": "cpu",
            "fields": [{"name": "max", "before": "3", "after": "5", "policy": "in-place"}],
            "policy": "in-place",
            "reason": "takes effect without touching a node",
        }
    ]
    assert document["cost"] == {"before": 0, "after": 0, "max": 0}


def test_each_pool_says_which_machines_it_gets_at_which_price_and_how_many_at_once() -> None:
    offers = (
        offer("old", price=2.0),
        offer(price=0.5, zone="a"),
        offer(price=0.5, zone="b"),
        *(offer(type_=f"dear-{number}", price=1.0 + number) for number in range(6)),
        replace(offer(type_="shut", price=0.1), closed="no capacity until noon"),
        offer("head", price=0.25),
    )
    first = decide(state(pools=(pool("cpu", 2, 3), pool("old"))), offers=offers)
    document = plan_document(plan_spec(None, OLD, first=first, offers=offers))
    head, cpu, old = document["pools"]
    assert [head["name"], cpu["name"], old["name"]] == ["head", "cpu", "old"]
    assert (cpu["at_once"], cpu["max"], cpu["more"]) == (2, 3, 3)
    best = cpu["choices"][0]
    assert (best["price"], sorted(best["places"]), best["at_once"]) == (0.5, ["a", "b"], 2)
    assert len(cpu["choices"]) == 5 and old["at_once"] == 0 and old["choices"][0]["price"] == 2.0
