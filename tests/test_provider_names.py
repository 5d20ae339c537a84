"""What a provider is stands in its package and in its Kind: its name, and what only it has, is written nowhere else."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from clusterctl.spec.providers.registry import KINDS

ROOT = Path(__file__).parent.parent
PACKAGES = ROOT / "providers" / "clusterctl_providers"
OWN = [
    ROOT / "clusterctl" / "spec" / "providers",
    PACKAGES / "catalog",  # facts about clouds, by their names
    ROOT / "runtime" / "clusterctl_runtime" / "agent" / "notices",  # one module for each cloud's metadata service
    ROOT / "templates" / "clusterctl_templates" / "starters",
    *(PACKAGES / name for name in KINDS),
]
# Words of clouds in a text of any kind. Those of engines and hosts are too common: of them the bare name counts.
OF_CLOUDS = re.compile(
    r"\b(aws|amazon|ec2|imds|boto3?|botocore|gcp|gce|google|azure)\b|AWS|EC2|\barn:|\b(us|eu)-(east|west)",
    re.IGNORECASE,
)
# file or folder -> what is written there, and why it is not knowledge of a provider
ALLOWED = {
    "clusterctl/cli/main.py": ("ssh", "the verb"),
    "clusterctl/client/doctor/machine.py": ("ssh", "OpenSSH's program"),
    "clusterctl/client/nodes/containers.py": ("docker", "Docker's program"),
    "clusterctl/client/up/cloud_login.py": ("ssh", "a directory of keys"),
    "clusterctl/provision/ssh": ("ssh", "OpenSSH's program"),
    "clusterctl/importing/ray_up.py": ("docker", "a key of another tool"),
    "clusterctl/spec/wording.py": ("docker", "a key of another tool"),
}
IMPORTS_ALLOWED = {
    "clusterctl/client/nodes/containers.py": ("docker", "how one gets into a container is its engine's API"),
}


def files() -> list[Path]:
    parts = ("clusterctl", "providers", "runtime", "templates")
    found = (path for part in parts for path in sorted((ROOT / part).rglob("*.py")))
    return [path for path in found if not any(path.is_relative_to(own) for own in OWN)]


def allowed(path: Path, table: dict[str, tuple[str, str]]) -> str:
    return next((word for place, (word, _) in table.items() if path.is_relative_to(ROOT / place)), "")


def texts(tree: ast.Module) -> Iterator[tuple[int, str]]:
    """Every text of a program but its docstrings, which may explain by an example."""
    documented = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    told = {
        id(node.body[0].value)
        for node in ast.walk(tree)
        if isinstance(node, documented) and node.body and isinstance(node.body[0], ast.Expr)
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in told:
            yield node.lineno, node.value


@pytest.mark.parametrize("path", files(), ids=lambda path: str(path.relative_to(ROOT)))
def test_no_provider_is_named_outside_of_its_package_and_its_kind(path: Path) -> None:
    tree = ast.parse(path.read_text(), str(path))
    known = allowed(path, ALLOWED)
    found = [
        f"line {line}: {text!r}"
        for line, text in texts(tree)
        if text != known and (text in KINDS or OF_CLOUDS.search(text))
    ]
    assert not found, f"{path.relative_to(ROOT)}: ask its Kind (clusterctl.spec.providers.registry.KINDS) instead"
    modules = {name for node in ast.walk(tree) for name in _imported(node)}
    packages = {name.split(".")[1] for name in modules if name.startswith("clusterctl_providers.")}
    assert packages & KINDS.keys() <= {allowed(path, IMPORTS_ALLOWED)}, (
        "a provider is made by its name and asked by its contract"
    )


def _imported(node: ast.AST) -> list[str]:
    if isinstance(node, ast.Import):
        return [name.name for name in node.names]
    if isinstance(node, ast.ImportFrom):
        return [f"{node.module}.{name.name}" for name in node.names]
    return []


@pytest.mark.parametrize("place", sorted({*ALLOWED, *IMPORTS_ALLOWED}))
def test_what_is_allowed_is_still_there(place: str) -> None:
    paths = [ROOT / place] if place.endswith(".py") else list((ROOT / place).rglob("*.py"))
    word = ALLOWED[place][0] if place in ALLOWED else IMPORTS_ALLOWED[place][0]
    assert any(text == word for path in paths for _, text in texts(ast.parse(path.read_text())))
