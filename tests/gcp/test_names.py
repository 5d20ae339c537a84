"""Names and labels of instances: Google takes 63 characters of few kinds, and each says which node it is."""

from __future__ import annotations

import re

import pytest
from clusterctl_providers.base import TAG_CLUSTER, TAG_GENERATION, TAG_MAKER, TAG_NODE, TAG_TOKEN, TAG_UID
from clusterctl_providers.gcp.names import (
    instance_name,
    is_id,
    labels_and_metadata,
    member_in,
    member_of,
    tags_in,
    tells,
)

UID = "1a2b3c4d-0000-4000-8000-000000000000"
GOOGLES = re.compile(r"[a-z](?:[-a-z0-9]{0,61}[a-z0-9])?")


@pytest.mark.parametrize("cluster", ["demo", "d", "a-", "x" * 40, "y-1a2b3c4d-z"])
@pytest.mark.parametrize("node", ["cpu-1", "cpu-17", "a-1-2-3", "p" * 25 + "-12345"])
def test_a_name_is_one_that_google_takes_and_says_which_node_it_is(cluster: str, node: str) -> None:
    name = instance_name(cluster, UID, (node, 3))
    assert GOOGLES.fullmatch(name) and len(name) <= 63
    assert member_in(name, cluster, UID) == (node, 3) and tells(cluster, UID, (node, 3))


def test_what_is_too_long_for_a_name_has_a_digest_and_is_told_by_its_labels() -> None:
    longest = "p" * 40
    names = {instance_name("x" * 40, UID, (f"{longest}-{n}", g)) for n in (1, 11, 111) for g in (1, 11)}
    assert len(names) == 6 and all(GOOGLES.fullmatch(name) and len(name) <= 63 for name in names)
    member = (f"{longest}-111", 11)
    assert not tells("x" * 40, UID, member)
    tags = {TAG_CLUSTER: "x" * 40, TAG_UID: UID, TAG_NODE: member[0], TAG_GENERATION: "11"}
    assert member_of(instance_name("x" * 40, UID, member), tags) == member


def test_a_name_of_something_else_is_no_node() -> None:
    assert member_in("clusterctl-demo-1a2b3c4d-image", "demo", UID) == ("", 0)
    assert member_in("clusterctl-other-99999999-cpu-1-1", "demo", UID) == ("", 0)
    assert member_of("web-1", {}) == ("", 0)


def test_no_two_nodes_have_one_name() -> None:
    members = [(f"cpu{a}-{b}", g) for a in ("", "-1", "-1-1", "1") for b in (1, 11) for g in (1, 11)]
    assert len({instance_name("demo", UID, member) for member in members}) == len(members)


def test_a_label_takes_what_google_takes_and_metadata_the_rest() -> None:
    tags = {
        TAG_UID: UID,
        TAG_MAKER: "Anna@host.example",
        TAG_TOKEN: "follows",
        "team": "vision",
        "note": "Loud",
        "clusterctl-nodes": "cpu-:1-2@1",
    }
    labels, metadata = labels_and_metadata(tags)
    assert metadata == {"note": "Loud", "clusterctl-nodes": "cpu-:1-2@1"}
    assert all(re.fullmatch(r"[a-z0-9_-]{0,63}", value) for value in labels.values())
    assert tags_in(labels) == {TAG_UID: UID, TAG_MAKER: "Anna@host.example", "team": "vision"}


@pytest.mark.parametrize("text", ["us-central1-a/clusterctl-x", "europe-west4-b/a"])
def test_an_id_is_a_zone_and_a_name(text: str) -> None:
    assert is_id(text)


@pytest.mark.parametrize("text", ["never-was", "i-0123456789abcdef0", "us-central1-a/", "us-central1-a/../x", "a/B"])
def test_anything_else_is_no_id(text: str) -> None:
    assert not is_id(text)
