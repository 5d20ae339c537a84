"""What is for any cloud is of none: no SDK, no provider's package, and each interface says how three clouds fill it."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import clusterctl_providers.cloud
import pytest

HOUSE = Path(clusterctl_providers.cloud.__file__ or "").parent
MODULES = sorted(path for path in HOUSE.glob("*.py") if path.name != "__init__.py")
MAY = ("clusterctl.core.", "clusterctl_providers.base", "clusterctl_providers.catalog", "clusterctl_providers.cloud",
       "clusterctl_runtime.", "clusterctl_templates")  # fmt: skip
SDKS = ("boto3", "botocore", "google", "azure", "docker", "googleapiclient")
CLOUDS = ("AWS", "Google Cloud", "Azure")


def imported(path: Path) -> set[str]:
    tree = ast.parse(path.read_text())
    plain = {name.name for node in ast.walk(tree) if isinstance(node, ast.Import) for name in node.names}
    return plain | {node.module or "" for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}


@pytest.mark.parametrize("path", MODULES, ids=lambda path: path.stem)
def test_a_module_for_any_cloud_imports_no_sdk_and_no_provider(path: Path) -> None:
    for name in imported(path):
        assert name.partition(".")[0] not in SDKS, name
        assert not name.startswith("clusterctl") or name.startswith(MAY), name


@pytest.mark.parametrize("path", MODULES, ids=lambda path: path.stem)
def test_an_interface_says_how_each_of_three_clouds_fills_it(path: Path) -> None:
    text = path.read_text()
    if "(Protocol)" in text:
        said = ast.get_docstring(ast.parse(text)) or ""
        assert all(f"\n    {cloud} " in said for cloud in CLOUDS), path.name


def test_all_of_it_loads_without_any_sdk() -> None:
    names = [f"clusterctl_providers.cloud.{path.stem}" for path in MODULES]
    program = f"import importlib, sys\nfor name in {names!r}: importlib.import_module(name)\nprint(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True, timeout=120)
    assert not [name for name in loaded.stdout.split() if name.partition(".")[0] in SDKS]
