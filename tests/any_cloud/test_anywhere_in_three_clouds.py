"""Eight A100 somewhere: AWS, Google Cloud and Azure in one spec. The third has them, and nothing is left in the others."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from clusterctl_providers.azure import calls as azure_calls

from clusterctl.client.up import cloud_login
from clusterctl.core.errors import ClusterctlError
from tests.any_cloud.anywhere import AWS, GOOGLE, LOGIN, Clouds, Home, clouds
from tests.cloud.azure.cloud import AzureCloud
from tests.cloud.azure.world import REGION, SUBSCRIPTION

AZURE = f"azure/{REGION}"
GPUS = {"instances: {aws: [t3.micro], gcp: [e2-medium]}, min: 2": "gpu: {name: A100, count: 8}, min: 1"}


@pytest.fixture
def azure() -> Iterator[AzureCloud]:
    with AzureCloud() as cloud:
        yield cloud


@pytest.fixture
def home(azure: AzureCloud, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Home]:
    monkeypatch.setattr(cloud_login, "FIRST_LOGIN_SECONDS", 0.5)
    monkeypatch.setattr(azure_calls, "FIRST_PAUSE", 0.02)
    with clouds() as both, azure.credentials():
        both.places[AZURE] = (
            f'azure: {{region: {REGION}, subscription: {SUBSCRIPTION}, endpoint_url: "{azure.url}", reach: private, '
            "calls_per_second: 500}"
        )
        home = Home(tmp_path, both, AWS, GOOGLE, AZURE)
        for before, after in GPUS.items():
            home.path.write_text(home.path.read_text().replace(before, after))
        yield home
        assert both.left(AWS) == both.left(GOOGLE) == azure.leftovers() == []


def comes_up_in_azure(home: Home, both: Clouds, azure: AzureCloud) -> dict[str, str]:
    """Why the others were passed over, by place."""
    with pytest.raises(ClusterctlError, match=LOGIN):
        home.up()
    assert both.left(AWS) == both.left(GOOGLE) == []
    assert home.cluster.place == AZURE
    sizes = sorted(machine.size.name for machine in azure.machines())
    assert len(sizes) == 2 and "Standard_ND96asr_v4" in sizes
    lines = [line.partition(" is passed over: ") for line in home.said]
    return {place: why for place, said, why in lines if said}


def test_the_third_cloud_is_taken_where_the_first_two_have_no_gpu(home: Home, azure: AzureCloud) -> None:
    for name in ("p4d.24xlarge", "p4de.24xlarge"):
        home.both.aws.world.capacity[f"{name}/*/*"] = 0
    for name in ("a2-highgpu-8g", "a2-ultragpu-8g"):
        home.both.google.world.capacity[f"{name}/*/*"] = 0
    home.both.google.world.quotas |= {"NVIDIA_A100_GPUS": 16.0, "GPUS_ALL_REGIONS": 16.0}
    why = comes_up_in_azure(home, home.both, azure)
    assert list(why) == [AWS, GOOGLE] and all("0 of 1 nodes of pool cpu: " in one for one in why.values())
    assert all(f"nothing is left in {place}" in home.said for place in why)
    home.down()


def test_wrong_credentials_and_a_small_quota_are_told_before_anything_is_made(
    home: Home, azure: AzureCloud, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "wrong")
    home.both.google.world.quotas |= {"NVIDIA_A100_GPUS": 4.0, "GPUS_ALL_REGIONS": 16.0}
    why = comes_up_in_azure(home, home.both, azure)
    assert why[AWS].startswith("no credentials that AWS accepts: ")
    assert why[GOOGLE].startswith("no quota 'NVIDIA_A100_GPUS' of 8 GPUs, it is 4: one a2-highgpu-8g has 8 GPUs")
    assert not any(line.startswith("removing") for line in home.said)
    home.down()
