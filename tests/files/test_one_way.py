"""Nobody writes private files or takes locks by hand: read from the syntax trees."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PRODUCT = sorted(path for part in ("clusterctl", "providers", "runtime") for path in (ROOT / part).rglob("*.py"))
BY_HAND = {
    "fcntl.flock", "fcntl.lockf", "os.fsync", "os.fdatasync", "os.replace", "os.rename", "tempfile.mkstemp",
    "tempfile.NamedTemporaryFile",
}  # fmt: skip
# The leaf itself; and programs that go to a machine as one file, without anything else of ours.
ALLOWED = {
    "runtime/clusterctl_runtime/files/lock.py",
    "runtime/clusterctl_runtime/files/private.py",
    "clusterctl/provision/ssh/programs/host.py",
    "clusterctl/provision/ssh/programs/machine.py",
}


def by_hand(path: Path) -> list[str]:
    tree = ast.parse(path.read_text(), str(path))
    calls = (node for node in ast.walk(tree) if isinstance(node, ast.Attribute))
    return [f"{node.lineno}: {ast.unparse(node)}" for node in calls if ast.unparse(node) in BY_HAND]


@pytest.mark.parametrize("path", PRODUCT, ids=lambda path: str(path.relative_to(ROOT)))
def test_files_and_locks_come_from_the_leaf(path: Path) -> None:
    found = by_hand(path)
    assert not found or str(path.relative_to(ROOT)) in ALLOWED, f"{path}: {found}: see clusterctl_runtime/files"


def test_those_who_may_do_it_themselves_do_so() -> None:
    assert {name for name in ALLOWED if by_hand(ROOT / name)} == ALLOWED
