"""The Role that the page shows is the one that is used (tests/kubernetes/nodes/test_rights.py)."""

from __future__ import annotations

import re
from pathlib import Path

import yaml
from clusterctl_providers.kubernetes.rights import NEEDED, OF_HEAD, WITH_HEAD, rules

PAGE = Path(__file__).parent.parent.parent / "docs" / "kubernetes.md"


def test_the_page_has_the_roles_whole() -> None:
    blocks = re.findall(r"```text\n(.*?)```", PAGE.read_text(), re.DOTALL)
    yours, besides, heads = (yaml.safe_load(block) for block in blocks if "verbs:" in block)
    assert yours["rules"] == rules(NEEDED)
    assert _merged(besides) == _merged(rules(WITH_HEAD))
    assert heads["rules"] == rules(OF_HEAD)


def _merged(told: list[dict[str, list[str]]]) -> set[tuple[str, str, str]]:
    """(group, resource, verb) of each."""
    return {(g, r, v) for rule in told for g in rule["apiGroups"] for r in rule["resources"] for v in rule["verbs"]}
