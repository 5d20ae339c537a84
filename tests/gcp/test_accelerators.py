"""Names of instance types: one series of Google's has its devices attached."""

from __future__ import annotations

import pytest
from clusterctl_providers.catalog import instance_types
from clusterctl_providers.gcp.machines.accelerators import Machine, machine_of, type_of


def test_a_name_with_devices_is_taken_apart() -> None:
    assert machine_of("n1-standard-8+nvidia-tesla-t4x2") == Machine("n1-standard-8", "nvidia-tesla-t4", 2)
    assert machine_of("n1-highmem-96+nvidia-tesla-v100x16") == Machine("n1-highmem-96", "nvidia-tesla-v100", 16)


@pytest.mark.parametrize(
    "name",
    ["g2-standard-8", "n1-standard-8", "n1-standard-8+nvidia-tesla-t4", "n1-standard-8+x2", "n1-standard-8+a-x0"],
)
def test_any_other_name_is_a_machine_type(name: str) -> None:
    assert machine_of(name) == Machine(name)


def test_devices_that_come_with_a_machine_type_are_not_written() -> None:
    assert type_of("g2-standard-8", "nvidia-l4", 1) == "g2-standard-8"
    assert type_of("n1-standard-8") == "n1-standard-8"


def test_every_name_of_the_catalogue_survives_both_ways() -> None:
    for machine in instance_types("gcp"):
        parts = machine_of(machine.name)
        assert type_of(parts.machine_type, parts.device, parts.count) == machine.name
        assert (parts.count > 0) == (machine.name.startswith("n1-") and machine.gpu_count > 0)
