"""What programs leave behind goes, however they left it."""

from __future__ import annotations

import os
from pathlib import Path

from clusterctl_runtime.agent.preparing.removal import remove_tree


def test_a_tree_of_any_depth_goes(tmp_path: Path) -> None:
    root = tmp_path / "work"
    root.mkdir()
    above = os.open(root, os.O_RDONLY)
    for _ in range(2500):  # deeper than Python's stack, and than any path may be long
        os.mkdir("dddd", dir_fd=above)
        below = os.open("dddd", os.O_RDONLY, dir_fd=above)
        os.close(above)
        above = below
    os.close(above)
    remove_tree(root)
    assert not root.exists()


def test_what_its_owner_may_not_enter_goes_and_what_links_lead_to_stays(tmp_path: Path) -> None:
    (tmp_path / "kept").mkdir()
    (tmp_path / "kept" / "x").touch()
    root = tmp_path / "work"
    (root / "closed" / "inner").mkdir(parents=True)
    (root / "link").symlink_to(tmp_path / "kept")
    (root / "closed").chmod(0)
    remove_tree(root)
    assert not root.exists() and (tmp_path / "kept" / "x").exists()
    remove_tree(root)
