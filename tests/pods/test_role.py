"""The Role that the page shows is the one that is used (tests/kubernetes/nodes/test_rights.py)."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import yaml
from clusterctl_providers.kubernetes.rights import OF_HEAD, WITH_HEAD, rules

PAGE = Path(__file__).parent.parent.parent / "docs" / "kubernetes.md"


def test_the_page_has_all_rules_whole() -> None:
    section = PAGE.read_text().partition("### Rights")[2].partition("\n### ")[0]
    yours, besides, of_head = re.findall(r"```text\n(.*?)```", section, re.DOTALL)
    assert yaml.safe_load(yours)["rules"] == rules()
    assert _flat(yaml.safe_load(besides)) == _flat(rules(WITH_HEAD))
    assert yaml.safe_load(of_head)["rules"] == rules(OF_HEAD)


def _flat(told: list[dict[str, Any]]) -> set[tuple[str, str, str]]:
    return {(g, r, v) for one in told for g in one["apiGroups"] for r in one["resources"] for v in one["verbs"]}
