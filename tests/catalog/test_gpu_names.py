"""Names of GPUs: what a driver says and what a spec says are compared word by word."""

from __future__ import annotations

import pytest
from clusterctl_providers.catalog.gpu_names import is_model, model_of

GIB = 1024**3
SAME = [
    ("NVIDIA A100-SXM4-80GB", 80, "A100"),
    ("NVIDIA A100-SXM4-80GB", 80, "a100-80gb"),
    ("NVIDIA A100-SXM4-80GB", 80, "A100-SXM4-80GB"),
    ("NVIDIA A100 80GB PCIe", 80, "A100-80GB"),
    ("NVIDIA A100-SXM4-40GB", 0, "A100-40GB"),
    ("NVIDIA H100 80GB HBM3", 79.6, "H100"),
    ("NVIDIA H100 80GB HBM3", 79.6, "H100-SXM5"),
    ("NVIDIA H100 NVL", 94, "H100-NVL"),
    ("NVIDIA L4", 22.5, "L4-24GB"),
    ("Tesla T4", 15, "T4"),
    ("Tesla T4", 15, "T4-16GB"),
    ("Tesla V100-SXM2-16GB", 16, "V100"),
    ("NVIDIA A10-24Q", 24, "A10"),
    ("NVIDIA RTX A6000", 48, "A6000"),
    ("NVIDIA GeForce RTX 4090", 24, "RTX4090"),
    ("NVIDIA GeForce RTX 4090", 24, "4090"),
    ("NVIDIA RTX PRO 6000 Blackwell Server Edition", 96, "RTXPRO6000"),
    ("NVIDIA RTX 6000 Ada Generation", 48, "RTX6000-Ada"),
    ("NVIDIA A100-SXM4-40GB MIG 1g.5gb", 5, "NVIDIA A100-SXM4-40GB MIG 1g.5gb"),
    ("NVIDIA L4", 24, ""),
]
OTHERS = [
    ("NVIDIA A100-SXM4-80GB", 80, "A10"),
    ("NVIDIA A100-SXM4-80GB", 80, "A100-40GB"),
    ("NVIDIA A10G", 24, "A10"),
    ("NVIDIA L40S", 48, "L4"),
    ("NVIDIA L40S", 48, "L40"),
    ("NVIDIA T4G", 16, "T4"),
    ("NVIDIA GB200", 186, "B200"),
    ("NVIDIA H100 PCIe", 80, "H100-SXM5"),
    ("NVIDIA H100 80GB HBM3", 80, "H100-PCIe"),
    ("NVIDIA GeForce RTX 3080 Ti", 12, "RTX3080"),
    ("NVIDIA RTX 6000 Ada Generation", 48, "RTX6000"),
    ("NVIDIA RTX A6000", 48, "RTX6000"),
    ("NVIDIA A100-SXM4-40GB MIG 1g.5gb", 5, "A100"),
]


@pytest.mark.parametrize(("found", "gib", "wanted"), SAME)
def test_a_device_is_what_people_call_it(found: str, gib: float, wanted: str) -> None:
    assert is_model(found, gib * GIB, wanted)


@pytest.mark.parametrize(("found", "gib", "wanted"), OTHERS)
def test_a_device_whose_name_contains_another_is_not_that_one(found: str, gib: float, wanted: str) -> None:
    assert not is_model(found, gib * GIB, wanted)


def test_a_host_whose_pool_names_no_gpu_offers_what_people_ask_for() -> None:
    assert [model_of(name) for name in ("NVIDIA A100-SXM4-80GB", "Tesla T4", "NVIDIA L4", "NVIDIA GeForce RTX 4090")] == [
        "A100", "T4", "L4", "RTX-4090",
    ]  # fmt: skip
