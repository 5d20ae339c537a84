"""What a spec may say of its cluster's end."""

from __future__ import annotations

import pytest

from clusterctl.core.lifetime import Lifetime
from clusterctl.spec.faults import SpecError
from clusterctl.spec.hash import head_hash, pool_hash, spec_hash
from clusterctl.spec.lifetime import check_to_come, lifetime_notes, past
from clusterctl.spec.load import parse_located, parse_spec
from clusterctl.spec.model import ClusterSpec
from clusterctl.spec.support import unsupported
from clusterctl.spec.to_core import core_lifetime

SMALLEST = "cluster: demo\nprovider: local\npools: [{name: cpu}]\n"
EIGHT = 1_796_112_000.0  # 2026-12-01 08:00 UTC


def with_lifetime(text: str) -> str:
    return f"{SMALLEST}lifetime: {text}\n"


@pytest.mark.parametrize(
    ("written", "at"),
    [
        ("2026-12-01T08:00", EIGHT),
        ("2026-12-01 08:00", EIGHT),
        ("2026-12-01T08:00:00Z", EIGHT),
        ("2026-12-01T08:00 UTC", EIGHT),
        ("2026-12-01T08:00+01:00", EIGHT - 3600),
        ("2026-12-01T08:00-0530", EIGHT + 5.5 * 3600),
        ("2026-12-01", EIGHT - 8 * 3600),
    ],
)
def test_a_moment_is_that_of_its_zone_and_else_of_utc(written: str, at: float) -> None:
    spec = parse_spec(with_lifetime(f"{{at: {written}}}"))
    assert core_lifetime(spec).at == at
    again = ClusterSpec.model_validate(spec.model_dump(mode="json", by_alias=True))  # as a head reads it
    assert again.lifetime == spec.lifetime


@pytest.mark.parametrize(
    ("written", "said"),
    [
        ("{at: tomorrow}", "4:16: 'tomorrow' is not a moment: write 2026-12-01T08:00 (UTC) or 2026-12-01T08:00+01:00"),
        ("{at: 2026-13-01T08:00}", "4:16: '2026-13-01T08:00' is not a moment (month must be in 1..12"),
        ("{at: 2026-12-01T08:00+99:00}", "4:16: '2026-12-01T08:00+99:00' is not a moment (offset must be"),
        ("{idle: 0}", "4:18: "),
        ("{after: 10m}", "4:12: unknown key 'after'"),
        ("10m", "4:11: "),
    ],
)
def test_what_is_wrong_is_named_with_its_place(written: str, said: str) -> None:
    with pytest.raises(SpecError) as found:
        parse_spec(with_lifetime(written), "c.yaml")
    assert str(found.value).startswith(f"c.yaml:{said}"), found.value


def test_the_rules_reach_the_core_and_change_no_node() -> None:
    plain, spec = parse_spec(SMALLEST), parse_spec(with_lifetime("{after_last_job: 10m, idle: 2h}"))
    assert core_lifetime(spec) == Lifetime(600, 7200, None) and not core_lifetime(plain)
    assert spec_hash(spec) != spec_hash(plain) and head_hash(spec) == head_hash(plain)
    assert pool_hash(spec, spec.pools[0]) == pool_hash(plain, plain.pools[0])


def test_a_moment_that_is_past_is_a_fault_where_the_cluster_is_to_start() -> None:
    """And nowhere else: `down` takes the same file."""
    spec, located = parse_located(with_lifetime("{at: 2026-12-01T08:00}"), "c.yaml")
    assert past(spec, located, EIGHT - 1) == ()
    with pytest.raises(
        SpecError, match=r"^c\.yaml:4:16: 2026-12-01 08:00 UTC is in the past \(it is 2026-12-01 08:01 UTC"
    ):
        check_to_come(spec, located, EIGHT + 60)


def test_the_rules_in_a_sentence() -> None:
    assert lifetime_notes(parse_spec(SMALLEST)) == []
    assert lifetime_notes(parse_spec(with_lifetime("{after_last_job: 10m}"))) == [
        "the cluster ends itself 10 min after its last job"
    ]
    assert lifetime_notes(parse_spec(with_lifetime("{after_last_job: 10m, idle: 2h, at: 2026-12-01T08:00}"))) == [
        "the cluster ends itself at 2026-12-01 08:00 UTC, or 10 min after its last job, or after 2 h in which nothing uses it, "
        "whichever is first"
    ]


@pytest.mark.parametrize(
    ("settings", "stays"),
    [
        ("aws: {region: us-east-1, head_volume: 30GiB}", "its head's disk of 30 GiB"),
        ("gcp: {region: us-central1, head_address: 10.0.0.5}", ""),
        (
            "azure: {region: westeurope}",
            "its head's disk of 20 GiB, a NAT gateway (about $0.045 per hour) and public addresses",
        ),
        ("azure: {region: westeurope, reach: private, outbound: public}", "its head's disk of 20 GiB"),
    ],
)
def test_what_a_cluster_that_has_ended_itself_still_costs_is_said_before_it_starts(settings: str, stays: str) -> None:
    cloud = f"cluster: demo\nprovider: {{{settings}}}\npools: [{{name: a, gpu: {{name: A100}}}}]\n"
    said = f"; what stays then and is billed until `clusterctl down`: {stays}" if stays else ""
    spec = parse_spec(cloud + "lifetime: {idle: 2h}\n")
    assert lifetime_notes(spec) == [f"the cluster ends itself after 2 h in which nothing uses it{said}"]


def test_a_head_on_an_instance_of_a_cloud_ends_itself_as_well() -> None:
    for settings in ("aws: {region: us-east-1}", "gcp: {region: us-central1}", "azure: {region: westeurope}"):
        cloud = f"cluster: demo\nprovider: {{{settings}}}\npools: [{{name: a, gpu: {{name: A100}}}}]\n"
        assert unsupported(parse_spec(cloud + "lifetime: {idle: 2h}\n")) == ()
