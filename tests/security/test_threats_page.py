"""docs/threats.md names its proofs: each must exist, and no row may stand without one."""

from __future__ import annotations

import ast
import re
from pathlib import Path

ROOT = Path(__file__).parent.parent.parent
PAGE = (ROOT / "docs" / "threats.md").read_text()
NAMED = re.compile(r"`(tests/[\w/]+\.py)::(test_\w+)`")


def rows() -> list[str]:
    lines = [line for line in PAGE.splitlines() if line.startswith("| ")]
    return [line for line in lines if not line.startswith("| fault or threat")]


def test_every_threat_names_a_test_that_proves_its_answer() -> None:
    assert len(rows()) >= 40
    assert [row for row in rows() if not NAMED.search(row)] == []


def test_every_test_that_the_page_names_exists() -> None:
    known: dict[str, set[str]] = {}
    missing = []
    for file, name in NAMED.findall(PAGE):
        path = ROOT / file
        if file not in known:
            tree = ast.parse(path.read_text()) if path.exists() else ast.Module([], [])
            functions = (ast.FunctionDef, ast.AsyncFunctionDef)
            known[file] = {node.name for node in ast.walk(tree) if isinstance(node, functions)}
        if name not in known[file]:
            missing.append(f"{file}::{name}")
    assert missing == []
