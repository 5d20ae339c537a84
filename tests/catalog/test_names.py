"""Names that a cloud cannot have are told from names that are only not known here."""

from __future__ import annotations

from pathlib import Path

import pytest
from clusterctl_providers import catalog
from clusterctl_providers.catalog.names import doubt_gpu, doubt_region, doubt_type, doubt_zone

from clusterctl.client.specfile import read_spec
from clusterctl.client.up.review import check_names
from clusterctl.spec.faults import SpecError

SPEC = """cluster: demo
provider: {%s}
pools:
  - {name: cpu, instances: [%s], max: 3}
  - {name: gpu, gpu: {name: %s}, max: 3}
"""
CASES = {
    "aws": (
        "aws: {region: us-eats-1}",
        "g5.xlrage, c5.large",
        "L4O",
        ["2:26 us-east-1", "4:29 g5.xlarge", "5:29 L4"],
    ),
    "gcp": (
        "gcp: {region: us-esat1}",
        "n2-standart-4",
        "H1000",
        ["2:26 us-west1", "4:29 n2-standard-4", "5:29 H100"],
    ),
    "azure": (
        "azure: {region: westeuorpe}",
        "standard_d4s_v5",
        "A1000",
        ["2:28 westeurope", "4:29 Standard_D4s_v5", "5:29 A100"],
    ),
}


@pytest.mark.parametrize("cloud", CASES)
def test_what_nobody_has_is_an_error_with_its_place_and_a_suggestion(cloud: str, tmp_path: Path) -> None:
    provider, types, gpu, expected = CASES[cloud]
    (tmp_path / "c.yaml").write_text(SPEC % (provider, types, gpu))
    with pytest.raises(SpecError) as caught:
        check_names(read_spec(tmp_path / "c.yaml"))
    found = [f"{fault.line}:{fault.column} {fault.suggestion.split(chr(39))[1]}" for fault in caught.value.faults]
    assert found == expected


def test_what_may_be_newer_than_this_version_is_a_warning_and_no_error(tmp_path: Path) -> None:
    path = tmp_path / "c.yaml"
    path.write_text(SPEC % ("gcp: {region: us-central1}", "m3-ultramem-32, n2-custom-4-8192", "T4"))
    assert len(check_names(read_spec(path))) == 2
    path.write_text(SPEC % ("azure: {region: westus9}", "Standard_D4z_v5", "T4"))
    assert [fault.line for fault in check_names(read_spec(path))] == [2, 4]


def test_a_stand_in_has_regions_and_zones_of_its_own(tmp_path: Path) -> None:
    path = tmp_path / "c.yaml"
    path.write_text(SPEC % ("aws: {region: lab, endpoint_url: http://localhost:1}", "c5.large", "L4"))
    assert check_names(read_spec(path)) == ()


@pytest.mark.parametrize(
    ("provider", "name", "certain"),
    [
        ("aws", "c5n.9xlarge", False),  # it is there, and the catalogue does not know it
        ("aws", "c99x.large", False),  # a family to come
        ("aws", "c5.3xlarge", True),  # families come with all their sizes
        ("aws", "c5-large", True),
        ("gcp", "n9-standard-4", False),
        ("gcp", "n2-standard-3", True),
        ("gcp", "f1-micro", False),
        ("gcp", "foo", True),
        ("azure", "Standard_D4z_v5", False),
        ("azure", "D4s_v5", True),
    ],
)
def test_a_type_is_only_refused_where_it_cannot_be(provider: str, name: str, certain: bool) -> None:
    doubt = doubt_type(provider, name)
    assert doubt is not None and doubt.certain is certain and name in doubt.text


@pytest.mark.parametrize(
    ("provider", "name", "certain"),
    [
        ("aws", "us-east-7", True),
        ("gcp", "us-east9", False),
        ("gcp", "mars-central1", False),
        ("gcp", "eruope-west4", True),
        ("azure", "eastus9", False),
        ("azure", "finlandcentral", False),
        ("azure", "eastsu", True),
    ],
)
def test_a_region_is_only_refused_where_it_cannot_be(provider: str, name: str, certain: bool) -> None:
    doubt = doubt_region(provider, name)
    assert doubt is not None and doubt.certain is certain


@pytest.mark.parametrize("provider", ["aws", "gcp", "azure"])
def test_nothing_that_the_catalogue_has_is_doubted(provider: str) -> None:
    machines = catalog.instance_types(provider)
    assert [one for region in catalog.load().regions(provider) if (one := doubt_region(provider, region))] == []
    assert [one for machine in machines if (one := doubt_type(provider, machine.name))] == []
    assert [m for m in machines if m.gpu_count >= 1 and doubt_gpu(provider, m.gpu_name, m.gpu_count)] == []


def test_zones_have_the_form_of_their_cloud() -> None:
    good = [("aws", "us-west-2", "us-west-2a"), ("aws", "us-west-2", "us-west-2-lax-1a"), ("azure", "eastus", "1")]
    good += [("gcp", "us-central1", "us-central1-f"), ("gcp", "us-central1", "us-central1-ai1a")]
    assert [doubt_zone(*one) for one in good] == [None] * 5
    assert doubt_zone("aws", "us-west-2", "us-west-2-a") and doubt_zone("gcp", "us-central1", "us-central1a")


def test_a_gpu_of_another_cloud_and_a_number_that_no_machine_has_say_what_there_is() -> None:
    elsewhere, number = doubt_gpu("aws", "A10", 1), doubt_gpu("aws", "L4", 3)
    assert elsewhere and elsewhere.certain and "Azure has it" in elsewhere.text and "A10G" in elsewhere.fix
    assert number and not number.certain and "1, 4, 8" in number.fix
