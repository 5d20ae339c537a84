"""Names and tags of VMs: Azure takes 64 characters, keeps no case, and each says which node it is."""

from __future__ import annotations

import re

import pytest
from clusterctl_providers.azure.names import is_id, member_in, member_of, name_in, tags_in, vm_name
from clusterctl_providers.base import TAG_CLUSTER, TAG_GENERATION, TAG_NODE, TAG_UID

UID = "1a2b3c4d-0000-4000-8000-000000000000"
AZURES = re.compile(r"[a-z0-9](?:[-a-z0-9]{0,62}[a-z0-9])?")


@pytest.mark.parametrize("cluster", ["demo", "d", "a-", "x" * 40, "y-1a2b3c4d-z"])
@pytest.mark.parametrize("node", ["cpu-1", "cpu-17", "a-1-2-3", "p" * 25 + "-12345"])
def test_a_name_is_one_that_azure_takes_and_says_which_node_it_is(cluster: str, node: str) -> None:
    name = vm_name(cluster, UID, (node, 3))
    assert AZURES.fullmatch(name) and len(name) <= 64 and is_id(name)
    assert member_in(name, cluster, UID) == (node, 3)


def test_what_is_too_long_for_a_name_has_a_digest_and_is_told_by_its_tags() -> None:
    longest = "p" * 40
    names = {vm_name("x" * 40, UID, (f"{longest}-{n}", g)) for n in (1, 11, 111) for g in (1, 11)}
    assert len(names) == 6 and all(is_id(name) and len(name) <= 64 for name in names)
    member = (f"{longest}-111", 11)
    name = vm_name("x" * 40, UID, member)
    assert member_in(name, "x" * 40, UID) == ("", 0)
    assert member_of(name, {TAG_CLUSTER: "x" * 40, TAG_UID: UID, TAG_NODE: member[0], TAG_GENERATION: "11"}) == member


def test_a_name_of_something_else_is_no_node() -> None:
    assert member_in("clusterctl-demo-1a2b3c4d-image", "demo", UID) == ("", 0)
    assert member_in("clusterctl-other-99999999-cpu-1-1", "demo", UID) == ("", 0)
    assert member_of("web-1", {}) == ("", 0)


def test_no_two_nodes_have_one_name() -> None:
    members = [(f"cpu{a}-{b}", g) for a in ("", "-1", "-1-1", "1") for b in (1, 11) for g in (1, 11)]
    assert len({vm_name("demo", UID, member) for member in members}) == len(members)


def test_azure_keeps_no_case_and_ours_is_read_in_any() -> None:
    path = (
        "/subscriptions/S/resourceGroups/G/providers/Microsoft.Compute/virtualMachines/CLUSTERCTL-DEMO-1A2B3C4D-CPU-1-1"
    )
    assert member_in(name_in(path), "demo", UID) == ("cpu-1", 1)
    row = {"tags": {"Clusterctl-UID": UID, "Team": "Vision"}}
    assert tags_in(row) == {TAG_UID: UID, "Team": "Vision"} and tags_in({}) == {}


@pytest.mark.parametrize(
    "text", ["never-was", "i-0123456789abcdef0", "us-central1-a/x", "clusterctl-", "clusterctl-a/../b"]
)
def test_anything_else_is_no_id(text: str) -> None:
    assert not is_id(text)
