"""A machine that the spec calls otherwise now keeps its claims; nobody takes those of a host that is listed."""

from __future__ import annotations

import asyncio
import json
import os
from pathlib import Path

import pytest
from clusterctl_runtime.head.nodes.standby import Standby

CLAIM = {"instance": "i-1", "token": "t-1", "node_id": "cpu-1", "generation": 1}


def listed(directory: Path, *names: str) -> None:
    rows = [{"id": name, "pools": ["cpu"], "token_sha256": ""} for name in names]
    path = directory / "hosts.json"
    path.write_text(json.dumps({"hosts": rows}))
    os.utime(path, ns=(0, len(json.dumps(names)) + 1))  # another time than before


def holders(standby: Standby) -> dict[str, list[str]]:
    return {host.id: [claim.instance for claim in host.claims] for host in standby.hosts()}


@pytest.mark.parametrize(("now", "holder"), [(("new name",), "new name"), (("old", "new name"), "old")])
def test_a_claim_goes_with_its_machine_to_the_machines_new_name(
    tmp_path: Path, now: tuple[str, ...], holder: str
) -> None:
    async def claimed() -> dict[str, list[str]]:
        listed(tmp_path, "old")
        standby = Standby(tmp_path, "uid")
        standby._take_claims(standby._hosts["old"], [CLAIM])
        listed(tmp_path, *now)
        standby.hosts()
        standby._take_claims(standby._hosts["new name"], [CLAIM])
        return holders(standby)

    held = asyncio.run(claimed())  # which ends when what it wrote is on disk
    assert held.pop(holder) == ["i-1"] and not any(held.values())
    assert json.loads((tmp_path / "claims.json").read_text())["i-1"]["host"] == holder
