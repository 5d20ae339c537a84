"""`provider` as a list: a spec for each place, what is written by place, and texts that read as one place alone."""

from __future__ import annotations

import string

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from clusterctl.core.errors import UsageError
from clusterctl.spec.document import compose
from clusterctl.spec.hash import spec_hash
from clusterctl.spec.init import STARTERS, starter_texts
from clusterctl.spec.load import PlacedSpecs, choose, parse_places, parse_spec
from clusterctl.spec.places import begins, identity
from clusterctl.spec.writing import text_of
from tests.spec.examples import FULL, SMALLEST

ANYWHERE = """\
cluster: demo
provider:
  - {aws: {region: us-east-1}}
  - {aws: {region: eu-west-1}}
  - {gcp: {region: us-central1, project: p-123456}}
pools:
  - name: gpu
    instances: {aws: [p4d.24xlarge], gcp: [a2-highgpu-8g]}
    image: {aws/us-east-1: ami-0123456789abcdef0, aws: ami-00000000000000000}
    market: {gcp: [flex-start]}
    max: 2
head: {instance: {gcp: e2-standard-2}}
"""


def places(text: str = ANYWHERE) -> PlacedSpecs:
    return parse_places(text)


def test_each_place_has_a_spec_of_its_own_in_the_order_of_the_text() -> None:
    read = places()
    assert [one.place for one in read.each] == ["aws/us-east-1", "aws/eu-west-1", "gcp/us-central1"]
    assert [one.spec.provider_settings["region"] for one in read.each] == ["us-east-1", "eu-west-1", "us-central1"]
    assert (read.order, read.listed) == ("written", True)
    assert places(f"{ANYWHERE}provider_order: price\n").order == "price"


def test_what_is_written_by_place_is_that_of_the_longest_name_that_fits_and_the_default_elsewhere() -> None:
    east, west, google = (one.spec for one in places().each)
    assert [spec.pools[0].instances for spec in (east, west, google)] == [
        ["p4d.24xlarge"],
        ["p4d.24xlarge"],
        ["a2-highgpu-8g"],
    ]
    assert east.pools[0].image == "ami-0123456789abcdef0" and west.pools[0].image == "ami-00000000000000000"
    assert google.pools[0].image == "" and google.pools[0].market == ["flex-start"]
    assert east.pools[0].market == ["on-demand"]
    assert (east.head.instance, google.head.instance) == ("", "e2-standard-2")


def test_one_provider_takes_values_by_place_as_well() -> None:
    text = "cluster: a\nprovider: {aws: {region: us-east-1}}\npools: [{name: cpu, instances: {aws: [m6i.large]}}]\n"
    assert parse_spec(text).pools[0].instances == ["m6i.large"]
    (one,) = places(text).each
    assert one.place == "aws/us-east-1" and one.text == text, "a text without a list stays the user's own"


def test_what_is_written_for_a_cloud_that_is_not_listed_may_stay() -> None:
    """Whoever takes a place out of the list for a day need not take its types out of the pools."""
    read = places(ANYWHERE.replace("  - {gcp: {region: us-central1, project: p-123456}}\n", ""))
    assert [one.spec.pools[0].instances for one in read.each] == [["p4d.24xlarge"]] * 2
    assert read.each[0].spec.pools[0].market == ["on-demand"]


def test_places_that_are_called_alike_are_told_apart_by_their_account() -> None:
    text = ANYWHERE.replace("- {aws: {region: us-east-1}}", "- {gcp: {region: us-central1, project: p-654321}}", 1)
    read = places(text.replace("aws/us-east-1", "gcp/us-central1/p-654321"))
    assert [one.place for one in read.each] == ["gcp/us-central1/p-654321", "aws/eu-west-1", "gcp/us-central1/p-123456"]
    assert read.each[0].spec.pools[0].image == "ami-0123456789abcdef0" and read.each[2].spec.pools[0].image == ""


def test_the_text_of_a_place_reads_as_its_spec_and_hashes_as_it() -> None:
    for one in places(f"{ANYWHERE}provider_order: price\n").each:
        read = parse_spec(one.text)
        assert read == one.spec and spec_hash(read) == spec_hash(one.spec)


def test_a_place_is_chosen_by_the_beginning_of_its_name() -> None:
    read = places()
    assert choose(read, "aws/eu-west-1", "x").spec.provider_settings["region"] == "eu-west-1"
    assert choose(read, "gcp", "x").place == "gcp/us-central1"
    with pytest.raises(UsageError, match=r"x lists 2 places.*--place \(aws/us-east-1, aws/eu-west-1\)"):
        choose(read, "aws", "x")
    with pytest.raises(UsageError, match="x names no place 'aws/us'"):
        choose(read, "aws/us", "x")
    assert not begins("aws/us-east-1", "aws/us-east") and begins("aws/us-east-1", "aws")


def test_who_takes_one_place_says_that_there_are_several() -> None:
    with pytest.raises(UsageError, match="lists 3 places, and this takes one"):
        parse_spec(ANYWHERE)


def test_a_place_is_the_same_whatever_else_is_set_there() -> None:
    assert identity("aws", {"region": "us-east-1"}) == identity("aws", {"region": "us-east-1", "vpc": "vpc-1"})
    assert identity("aws", {"region": "us-east-1"}) != identity("aws", {"region": "us-east-1", "profile": "other"})
    assert identity("fake", {}) == identity("fake", {"region": "us-east-1"}) != identity("fake", {"region": "x"})


@pytest.mark.parametrize(
    "text", [SMALLEST, FULL, *(starter_texts(name, ray=True)["cluster.yaml"] for name in STARTERS)]
)
def test_a_document_as_text_again_is_the_same_document(text: str) -> None:
    assert compose(text_of(compose(text, "a"), "comment"), "b").root.data() == compose(text, "a").root.data()


WORDS = st.text(st.one_of(st.sampled_from(" \t\n\"'\\#:-?{}[],&*!|>%@`~0123456789.eE"), st.characters(codec="utf-8")))
VALUES = st.recursive(
    st.one_of(WORDS, st.sampled_from(["010", "0o7", "1e3", "yes", "~", "null", "2.60", ".inf", "- a", "a: b", "a #b"])),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(WORDS, inner, max_size=3)),
    max_leaves=8,
)


@given(st.dictionaries(st.text(string.ascii_letters, min_size=1), VALUES, min_size=1))
@settings(max_examples=200, deadline=None)
def test_whatever_is_in_a_document_stays_what_it_was(data: dict[str, object]) -> None:
    try:
        document = compose(yaml.safe_dump(data, allow_unicode=True), "a")
    except UsageError:
        return  # a character that no spec may have
    assert compose(text_of(document, "comment"), "b").root.data() == document.root.data()
