from __future__ import annotations

from collections.abc import Iterator

import pytest
from clusterctl_providers.azure import calls

from clusterctl.client.down import adopt as adopting
from clusterctl.client.down import gc as cleaning
from clusterctl.client.down.places import places
from tests.cloud.azure.cloud import AzureCloud


@pytest.fixture(autouse=True)
def nothing_but_azure_is_searched(monkeypatch: pytest.MonkeyPatch) -> None:
    """`gc` and `list --adopt` would find what tests that run at the same time have left on this machine for a moment."""
    for module in (adopting, cleaning):
        monkeypatch.setattr(module, "places", lambda *given: [one for one in places(*given) if one.provider == "azure"])


@pytest.fixture(autouse=True)
def changes_are_asked_for_soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """The stand-in is done with most of them at once."""
    monkeypatch.setattr(calls, "FIRST_PAUSE", 0.02)


@pytest.fixture
def cloud() -> Iterator[AzureCloud]:
    with AzureCloud() as cloud, cloud.credentials():
        yield cloud
