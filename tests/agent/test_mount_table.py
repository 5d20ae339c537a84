"""The kernel's table of mounts, as text that it wrote."""

from __future__ import annotations

from pathlib import Path

import pytest
from clusterctl_runtime.agent.preparing import removal
from clusterctl_runtime.files.mount_table import Mounted, mounted_at, mounts_below, read_table

TABLE = r"""21 1 254:0 / / rw,relatime shared:1 - ext4 /dev/vda rw
30 21 0:40 / /data rw,nosuid,nodev,relatime shared:2 - nfs4 10.0.0.5:/export rw,vers=4.2,addr=10.0.0.5
31 21 0:41 / /a\040b ro,relatime - fuse.rclone s3://bucket/x rw,user_id=0
32 30 0:42 / /data/inner rw - tmpfs tmpfs ro
33 21 0:43 / /data rw - nfs4 10.0.0.6:/other rw
nonsense
"""


@pytest.fixture
def table(tmp_path: Path) -> list[Mounted]:
    (tmp_path / "mountinfo").write_text(TABLE)
    return read_table(tmp_path / "mountinfo")


def test_the_last_mount_at_a_place_is_what_is_seen_there(table: list[Mounted]) -> None:
    assert mounted_at("/data", table) == Mounted("/data", "nfs4", "10.0.0.6:/other", False)
    assert mounted_at("/dat", table) is None and mounted_at("/data/x", table) is None


def test_names_with_spaces_and_both_ways_to_be_read_only_are_told(table: list[Mounted]) -> None:
    found = mounted_at("/a b", table)
    assert found == Mounted("/a b", "fuse.rclone", "s3://bucket/x", True) and found.is_fuse
    inner = mounted_at("/data/inner", table)
    assert inner is not None and inner.read_only


def test_what_lies_below_is_told_from_the_inside_out(table: list[Mounted]) -> None:
    assert [one.path for one in mounts_below("/data", table)] == ["/data/inner", "/data", "/data"]
    assert mounts_below("/dat", table) == []


def test_a_directory_stays_where_something_below_it_cannot_be_unmounted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """As for a user who is not root."""
    (tmp_path / "node" / "data").mkdir(parents=True)
    (tmp_path / "node" / "data" / "precious").touch()
    monkeypatch.setattr(removal, "detach_below", lambda path: [f"{path}/data"])
    removal.remove_tree(tmp_path / "node")
    assert (tmp_path / "node" / "data" / "precious").exists() and "cannot be unmounted" in caplog.text
