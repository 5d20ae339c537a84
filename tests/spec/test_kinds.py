"""Each provider is described in one place, wholly, and its name is written nowhere else."""

from __future__ import annotations

import string
from importlib import metadata, resources
from importlib.util import find_spec
from pathlib import Path
from typing import get_args

import botocore
import pytest
from clusterctl_providers import catalog
from pydantic import ValidationError

from clusterctl.provision.ssh import distribution
from clusterctl.spec.load import parse_spec
from clusterctl.spec.model import ClusterSpec, Head, Pool
from clusterctl.spec.providers.cloud import CloudSettings
from clusterctl.spec.providers.kind import Kind
from clusterctl.spec.providers.registry import KINDS

KINDS_OF_CLOUDS = [kind for kind in KINDS.values() if kind.cloud is not None]


def names(kind: Kind) -> str:
    return kind.name


@pytest.mark.parametrize("kind", KINDS.values(), ids=names)
def test_every_member_of_a_kind_is_filled(kind: Kind) -> None:
    assert kind.title and kind.starters and kind.other_names and kind.boot_seconds > 0
    assert kind.name in kind.starters, "the name alone is the smallest starter"
    assert KINDS[kind.name] is kind


@pytest.mark.parametrize("kind", KINDS.values(), ids=names)
def test_every_setting_says_what_it_is_and_what_changing_it_takes(kind: Kind) -> None:
    fields = kind.settings.model_fields
    assert [name for name, field in fields.items() if not (field.description or "").endswith(".")] == []
    assert kind.changes.keys() == fields.keys()
    assert kind.settings.__doc__, "the reference says what nodes are"
    assert kind.search is None or set(kind.search.where) <= fields.keys()


@pytest.mark.parametrize("kind", KINDS.values(), ids=names)
def test_foreign_keys_are_keys_of_pools_and_heads(kind: Kind) -> None:
    assert kind.foreign <= Pool.model_fields.keys() | Head.model_fields.keys()


@pytest.mark.parametrize("kind", KINDS.values(), ids=names)
def test_starters_and_their_jobs_are_there(kind: Kind) -> None:
    starters = resources.files("clusterctl_templates") / "starters"
    for name, job in kind.starters.items():
        assert (starters / "specs" / f"{name}.yaml").is_file() and (starters / "jobs" / f"{job}.py").is_file()


@pytest.mark.parametrize("kind", [kind for kind in KINDS.values() if kind.library], ids=names)
def test_what_brings_its_library_is_an_extra_of_ours_with_its_name(kind: Kind) -> None:
    assert kind.library is not None
    assert kind.library.extra == kind.name and kind.library.modules
    assert kind.library.extra in (metadata.metadata("clusterctl").get_all("Provides-Extra") or [])


@pytest.mark.parametrize("kind", KINDS_OF_CLOUDS, ids=names)
def test_a_cloud_has_the_settings_of_every_cloud(kind: Kind) -> None:
    assert kind.cloud is not None
    assert issubclass(kind.settings, CloudSettings)
    assert kind.search is not None and kind.search.account is not None and "region" in kind.search.where
    assert (kind.cloud.reservation is None) == ("reservation" in kind.foreign)
    assert kind.cloud.reservation is None or kind.cloud.reservation.fits(kind.cloud.reservation.example)
    assert kind.machine == kind.head == "instance"
    assert kind.cloud.here_only <= kind.settings.model_fields.keys()
    assert kind.head_place({"head_address": "10.0.0.5"}) == "here" and kind.head_place({}) == "instance"


@pytest.mark.parametrize("kind", KINDS_OF_CLOUDS, ids=names)
def test_every_way_to_a_head_can_be_chosen_and_can_be_gone(kind: Kind) -> None:
    assert kind.cloud is not None
    assert list(get_args(kind.settings.model_fields["reach"].annotation)) == list(kind.cloud.reach)
    for way in kind.cloud.reach.values():
        wanted = {name for _, name, _, _ in string.Formatter().parse(way.command) if name}
        assert wanted == ({"id", "port"} if way.command else set())
        program, *words = way.command.split() or [""]
        assert program in ("", *way.programs) or (
            program == "-m" and (not kind.works or find_spec(words[0]) is not None)
        )
        assert set(way.options) <= kind.settings.model_fields.keys()
        assert all(way.programs.values())


@pytest.mark.parametrize("kind", KINDS_OF_CLOUDS, ids=names)
def test_the_example_of_a_region_is_in_the_catalogue_with_its_zone(kind: Kind) -> None:
    assert kind.cloud is not None
    assert catalog.prices(kind.cloud.catalogue, kind.cloud.region)
    zone = kind.cloud.zone_in(kind.cloud.region)
    text = f"cluster: a\nprovider: {kind.example}\npools: [{{name: x, resources: {{CPU: 1}}, zones: ['{zone}']}}]"
    assert parse_spec(text).kind is kind


@pytest.mark.parametrize("kind", KINDS_OF_CLOUDS, ids=names)
def test_a_cloud_checks_tags_by_rules_of_its_own(kind: Kind) -> None:
    kind.settings.model_validate({"tags": {"team": "vision"}})
    for wrong in ({"clusterctl-uid": "x"}, {"k" * 1000: "x"}, {f"k{number}": "x" for number in range(1000)}):
        with pytest.raises(ValidationError, match="tag"):
            kind.settings.model_validate({"tags": wrong})


def test_the_rules_of_tags_are_those_of_the_clouds() -> None:
    for name, wrong in {"aws": "aws:x", "gcp": "Team", "azure": "a?b"}.items():
        with pytest.raises(ValidationError, match="tag"):
            KINDS[name].settings.model_validate({"tags": {wrong: "x"}})


def test_a_spec_chooses_one_of_them_by_its_name() -> None:
    for kind in KINDS.values():
        pool = {"name": "x", **({"hosts": ["h"]} if kind.machine == "host" else {"resources": {"CPU": 1.0}})}
        assert ClusterSpec.model_validate({"cluster": "a", "provider": kind.example, "pools": [pool]}).kind is kind


def test_what_travels_of_a_library_to_a_head_is_there_and_the_rest_of_its_data_stays() -> None:
    site = Path(botocore.__file__).parent.parent
    directories = {
        name: called for kind in KINDS.values() if kind.library for name, called in kind.library.data.items()
    }
    assert directories
    for directory, called in directories.items():
        assert called < {path.name for path in (site / directory).iterdir() if path.is_dir()}
        assert distribution.is_called(f"{directory}/{min(called)}/x.json") and distribution.is_called(
            f"{directory}/x.json"
        )
        assert not distribution.is_called(f"{directory}/nothing-that-is-called/x.json")
    assert distribution.is_called("botocore/session.py")
