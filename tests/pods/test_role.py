"""The Role that the page shows is the one that is used (tests/kubernetes/nodes/test_rights.py)."""

from __future__ import annotations

import re
from pathlib import Path

import yaml
from clusterctl_providers.kubernetes.rights import rules

PAGE = Path(__file__).parent.parent.parent / "docs" / "kubernetes.md"


def test_the_page_has_the_role_whole() -> None:
    (block,) = (b for b in re.findall(r"```text\n(.*?)```", PAGE.read_text(), re.DOTALL) if "kind: Role" in b)
    assert yaml.safe_load(block)["rules"] == rules()
