"""Which requests one call can serve, and who is who among what it launches."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pytest
from clusterctl_providers.base import TAG_HEAD, TAG_MAKER, TAG_UID, NetworkPlace, PoolRequest
from clusterctl_providers.cloud.batches import (
    MOST_NAMED,
    TAG_NODES,
    Member,
    batch_of,
    make_batches,
    members_of_tag,
    names_of,
    nodes_tag,
    shared_bootstrap,
)
from clusterctl_providers.cloud.tags import launch_tags

from tests.any_cloud.requests import offer, request, requests

TAGS = [
    ([("cpu-1", 1)], "cpu-:1@1"),
    ([("cpu-1", 1), ("cpu-2", 1), ("cpu-4", 2)], "cpu-:1-2@1,4@2"),
    ([("cpu-9", 1), ("cpu-10", 1)], "cpu-:9-10@1"),
    ([("a:b-1", 1), ("a:b-2", 3)], "a:b-:1@1,2@3"),
    ([("cpu-1", 1), ("gpu-1", 1)], "=cpu-1@1,gpu-1@1"),
    ([("odd", 4)], "=odd@4"),
    ([("cpu-01", 1)], "cpu-0:1@1"),
]


def any_number(_: Sequence[Member]) -> bool:
    return True


@pytest.mark.parametrize(("members", "tag"), TAGS)
def test_the_tag_of_a_batch_is_short_and_says_who_is_who(members: list[Member], tag: str) -> None:
    assert nodes_tag(members) == tag and members_of_tag(tag) == tuple(members)


@pytest.mark.parametrize("tag", ["", "cpu-", "cpu-:", "cpu-:1", "cpu-:x@1", "cpu-:1-x@1", "cpu-:1@", "=@1", "=cpu-1@x"])
def test_what_is_no_such_tag_names_nobody(tag: str) -> None:
    assert members_of_tag(tag) == ()


def test_a_tag_that_somebody_wrote_by_hand_does_not_fill_the_memory() -> None:
    found = members_of_tag("cpu-:1-999999999999@1,5@1")
    assert len(found) == MOST_NAMED and found[0] == ("cpu-1", 1)


def test_like_requests_go_together_in_the_order_of_their_numbers_and_others_apart() -> None:
    spot, demand = offer(), offer(market="on-demand")
    mixed = [*requests(10, 2, 9, of=spot), *requests(3, of=demand), request("cpu-4", spot, disk=1)]
    found = [[r.node_id for r in batch] for batch in make_batches(mixed, any_number)]
    assert found == [["cpu-2", "cpu-4", "cpu-9", "cpu-10"], ["cpu-3"]], "one pool has one spec"


def test_other_bootstraps_tags_and_places_are_other_calls() -> None:
    one, two, three, four = requests(1, 2, 3, 4)
    other = replace(two, bootstrap={**two.bootstrap, "heads": ["other"]})
    tagged = replace(three, tags={**three.tags, "team": "vision"})
    placed = replace(four, place=NetworkPlace("subnet-1", "10.0.0.4"))
    assert [len(batch) for batch in make_batches([one, other, tagged, placed], any_number)] == [1, 1, 1, 1]


@pytest.mark.parametrize(("most", "sizes"), [(1, [1] * 7), (3, [3, 3, 1]), (50, [7])])
def test_a_call_takes_as_many_as_the_cloud_says(most: int, sizes: list[int]) -> None:
    batches = make_batches(requests(*range(1, 8)), lambda members: len(members) <= most)
    assert [len(batch) for batch in batches] == sizes


def test_what_no_call_takes_is_still_asked_for_one_by_one() -> None:
    assert [len(batch) for batch in make_batches(requests(1, 2), lambda _: False)] == [1, 1]


def test_a_single_node_is_launched_by_its_own_token_and_a_batch_by_one_of_all() -> None:
    (one,), two = requests(1), requests(1, 2)
    assert batch_of([one]).token == one.token
    assert batch_of(two).token not in {r.token for r in two} and len(batch_of(two).token) == 64
    assert batch_of(two) == batch_of(requests(1, 2)), "the same nodes, the same call"


def test_what_the_nodes_of_a_call_share_is_no_secret() -> None:
    (one,) = requests(1)
    assert shared_bootstrap(one) == {"uid": one.bootstrap["uid"]}
    assert names_of(batch_of([one])) == "cpu-1"
    assert names_of(batch_of(requests(1, 2, 3))) == "3 nodes (cpu-:1-3@1)"
    assert isinstance(one.pool, PoolRequest)


# ---------------------------------------------------------------- tags


def test_a_single_node_carries_its_own_tags_and_a_batch_one_that_names_all() -> None:
    (one,), two = requests(1), requests(1, 2)
    alone = launch_tags({"team": "vision", TAG_UID: "not yours"}, batch_of([one]), one)
    assert alone == {"team": "vision", **one.tags}, "the user's never replace ours"
    together = launch_tags({}, batch_of(two), two[0])
    assert together == {TAG_UID: two[0].tags[TAG_UID], TAG_NODES: "cpu-:1-2@1"}


def test_whose_head_looks_after_an_instance_is_written_on_it() -> None:
    (one,) = requests(1)
    here = launch_tags({}, batch_of([one]), one, head_here=True)
    assert here[TAG_HEAD] == "here" and TAG_MAKER not in here
    assert launch_tags({}, batch_of([one]), one, maker="me@laptop")[TAG_MAKER] == "me@laptop"
