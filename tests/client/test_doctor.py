"""What `doctor` asks of providers: engines always, clouds where this user has an account or a spec names them."""

from __future__ import annotations

import json
from pathlib import Path

import clusterctl_providers
import pytest
from clusterctl_providers import ProviderUnavailable
from clusterctl_providers.base import ProviderContext

from clusterctl.client.doctor.check import Check
from clusterctl.client.doctor.providers import provider_checks
from clusterctl.client.registry import Registry
from clusterctl.spec.load import parse_spec
from clusterctl.spec.providers.registry import KINDS


class Answers:
    """A provider that has looked."""

    name, scopes = "any", ()

    def doctor(self) -> list[tuple[str, bool, str]]:
        return [("permission to look", True, ""), ("permission to launch", False, "allow it")]

    def close(self) -> None:
        pass


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[tuple[str, dict[str, object]]]:
    """Which providers were made, with which settings; the user has no account anywhere."""
    made: list[tuple[str, dict[str, object]]] = []

    def make(name: str, context: ProviderContext) -> Answers:
        made.append((name, dict(context.settings)))
        return Answers()

    monkeypatch.setattr(clusterctl_providers, "make_provider", make)
    monkeypatch.setenv("HOME", str(tmp_path / "nobody"))
    for kind in KINDS.values():
        for name in kind.search.account.variables if kind.search and kind.search.account else ():
            monkeypatch.delenv(name, raising=False)
    return made


def test_without_an_account_no_cloud_is_asked(registry: Registry, asked: list[tuple[str, dict[str, object]]]) -> None:
    assert {check.name for check in provider_checks(registry)} == {"docker"}
    assert asked == [("docker", {})]


def test_an_account_is_reason_enough_and_clusters_say_where(
    registry: Registry, asked: list[tuple[str, dict[str, object]]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_PROFILE", "research")
    found = [check for check in provider_checks(registry) if check.name != "docker"]
    assert found == [
        Check("aws: permission to look", True, "", ""),
        Check("aws", False, "no permission to launch", "allow it"),
    ]
    assert asked[1:] == [("aws", {})]
    cluster = registry.create("demo", provider="aws", engine="none", spec_path="")
    spec = {"provider": {"aws": {"region": "eu-west-1"}}}
    (cluster.head_dir / "config.json").write_text(json.dumps({"spec": spec}))
    provider_checks(registry)
    assert asked[-1] == ("aws", {"region": "eu-west-1"})


def test_a_spec_is_asked_for_its_own_cloud_and_for_the_programs_of_its_way_to_the_head(
    registry: Registry, asked: list[tuple[str, dict[str, object]]], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    text = "cluster: a\nprovider: {aws: {region: us-east-1, reach: ssm}}\npools: [{name: x, instances: [t3.micro]}]\n"
    found = [check for check in provider_checks(registry, parse_spec(text)) if check.name != "docker"]
    assert all(check.needed for check in found)
    missing = [check.found for check in found if not check.ok]
    assert missing == [
        "no program aws for `reach: ssm`",
        "no program session-manager-plugin for `reach: ssm`",
        "no permission to launch",
    ]
    local = parse_spec("cluster: a\nprovider: local\npools: [{name: x}]\n")
    assert {check.name for check in provider_checks(registry, local)} == {"docker"}


def test_libraries_that_are_not_there_are_told_with_what_brings_them(
    registry: Registry, asked: list[tuple[str, dict[str, object]]], monkeypatch: pytest.MonkeyPatch
) -> None:
    def unavailable(name: str, context: ProviderContext) -> None:
        raise ProviderUnavailable(f"provider {name!r} needs its library")

    monkeypatch.setattr(clusterctl_providers, "make_provider", unavailable)
    monkeypatch.setenv("AWS_PROFILE", "research")
    docker, aws = provider_checks(registry)
    assert (docker.found, docker.fix) == (
        "its library is not installed",
        "for `provider: docker`: pip install 'clusterctl[docker]'",
    )
    assert (aws.name, aws.found, aws.fix) == ("aws", "no way to use AWS", "provider 'aws' needs its library")
