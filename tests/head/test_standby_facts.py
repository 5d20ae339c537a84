"""What the head believes a host has, of what `up` has seen there and what the host's daemon tells."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from clusterctl_runtime.head.nodes.standby import Standby

L4 = {"name": "NVIDIA L4", "memory": 23034 * 2**20, "uuid": "GPU-1"}


def believed(directory: Path, seen: dict[str, Any], told: dict[str, Any]) -> list[Any]:
    entry = {"id": "h1", "pools": ["gpu"], "token_sha256": "", "facts": {"cpus": 4, **seen}}
    (directory / "hosts.json").write_text(json.dumps({"hosts": [entry]}))
    standby = Standby(directory, "uid")
    standby._hosts["h1"].facts = {"cpus": 4, **told}
    (view,) = standby.hosts()
    return list(view.facts["gpus"])


def test_a_driver_that_was_installed_after_a_host_had_parked_counts_from_the_next_up(tmp_path: Path) -> None:
    assert believed(tmp_path, {"gpus": [L4], "gpus_read": 20.0}, {"gpus": [], "gpus_read": 10.0}) == [L4]


def test_what_a_host_tells_later_counts_more_than_what_up_saw(tmp_path: Path) -> None:
    assert believed(tmp_path, {"gpus": [], "gpus_read": 20.0}, {"gpus": [L4], "gpus_read": 30.0}) == [L4]
    assert believed(tmp_path, {"gpus": [L4], "gpus_read": 20.0}, {"gpus": [], "gpus_read": 30.0}) == []


def test_while_a_hosts_driver_has_not_answered_what_up_saw_counts(tmp_path: Path) -> None:
    assert believed(tmp_path, {"gpus": [L4], "gpus_read": 20.0}, {}) == [L4]
