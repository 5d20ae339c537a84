"""Where an offer is, as people read it."""

from __future__ import annotations

import pytest

from clusterctl.core.model import Offer
from clusterctl.core.resources import Resources


@pytest.mark.parametrize(
    ("zone", "region", "words"),
    [
        ("us-east-1a", "us-east-1", "us-east-1a"),
        ("2", "eastus", "eastus (zone 2)"),
        ("", "eastus", "eastus"),
        ("eastus", "eastus", "eastus"),
        ("a", "", "a"),
        ("1", "", "1"),
        ("", "", ""),
    ],
)
def test_a_zone_whose_name_does_not_say_its_region_is_told_with_it(zone: str, region: str, words: str) -> None:
    assert Offer("cpu", "m", "spot", zone, 0.1, Resources(), region=region).where == words
