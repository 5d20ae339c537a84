"""An inventory of many hosts: what a launch costs grows with the hosts that it claims, and claims share their writes to disk."""

from __future__ import annotations

import asyncio
import hashlib
import json
import struct
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from clusterctl_providers.base import CreateRequest, PoolRequest, ProviderContext
from clusterctl_providers.ssh.provider import SshProvider
from clusterctl_runtime.head.nodes.standby import Standby

from clusterctl.core.model import Instance

UID = "6f1c7a52-0c7e-4c1e-9d0b-3c0f4a1d2e3f"


class Line:
    """A host's connection: it takes each claim at once, and ends what it is told to release."""

    def __init__(self, park: Park, name: str) -> None:
        self.park, self.name, self.claims = park, name, dict[str, dict[str, Any]]()

    def write(self, frame: bytes) -> None:
        header, _ = struct.unpack(">II", frame[:8])
        message = json.loads(frame[8 : 8 + header])
        if message["t"] == "claim":
            on_file = json.loads((self.park.directory / "claims.json").read_text())
            assert message["claim"]["instance"] in on_file, "it is on disk before it is sent"
            claim = {key: value for key, value in message["claim"].items() if key != "bootstrap"}
            self.claims[claim["instance"]] = {**claim, "state": "running"}
        elif message["t"] == "release":
            self.claims.pop(message["instance"], None)
        told = {"t": "claims", "items": list(self.claims.values())}
        asyncio.get_running_loop().call_soon(self.park.standby._received, self.park.standby._hosts[self.name], told)

    def is_closing(self) -> bool:
        return False


class Park:
    def __init__(self, directory: Path, count: int) -> None:
        self.directory, self.count = directory, count
        names = [f"h{number}" for number in range(count)]
        token = hashlib.sha256(b"token").hexdigest()
        rows = [{"id": name, "address": "127.0.0.1", "pools": ["cpu"], "token_sha256": token} for name in names]
        (directory / "hosts.json").write_text(json.dumps({"hosts": rows}))
        self.standby = Standby(directory, UID)
        self.standby._loop = asyncio.get_running_loop()
        for name in names:
            line: Any = Line(self, name)
            self.standby._joined(self.standby._hosts[name], line, {"facts": {"cpus": 4, "memory": 8 * 2**30}})
        context = ProviderContext(cluster="c", uid=UID, state_dir=str(directory), hosts=self.standby)
        self.provider = SshProvider(context)

    def requests(self) -> list[CreateRequest]:
        pool = PoolRequest("cpu", {})
        (offer,) = self.provider.offers(pool)
        return [
            CreateRequest(f"token-{n}", f"cpu-{n}", 1, offer, {}, {"join_token": "secret"}, pool)
            for n in range(self.count)
        ]


async def claimed_and_released(directory: Path, count: int, monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """How often the disk was waited for, and how many views of hosts were made, while `count` hosts were claimed and let go."""
    park, cost = Park(directory, count), Counter[str]()
    import clusterctl_runtime.head.nodes.claims as claims
    import clusterctl_runtime.head.nodes.standby as standby

    write, view = claims.write_private, standby.HostView
    monkeypatch.setattr(claims, "write_private", lambda *args: (cost.update(writes=1), write(*args))[1])
    monkeypatch.setattr(standby, "HostView", lambda **fields: (cost.update(views=1), view(**fields))[1])
    made = await asyncio.wait_for(asyncio.to_thread(park.provider.create, park.requests()), 120)
    assert all(isinstance(one, Instance) and one.state == "running" for one in made)
    assert len({one.detail for one in made if isinstance(one, Instance)}) == count, "each on a host of its own"
    ids = [one.id for one in made if isinstance(one, Instance)]
    await asyncio.wait_for(asyncio.to_thread(park.provider.terminate, ids), 120)
    while any(host.claims[0].state != "terminated" for host in park.standby.hosts()):
        await asyncio.sleep(0)
    assert "secret" not in (directory / "claims.json").read_text()
    return cost


def test_claiming_ten_times_the_hosts_costs_ten_times_as_much_and_no_more(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    costs = []
    for count in (20, 200):
        directory = tmp_path / str(count)
        directory.mkdir()
        with monkeypatch.context() as patch:
            costs.append(asyncio.run(claimed_and_released(directory, count, patch)))
    few, many = costs
    assert many["views"] <= 15 * few["views"], "a view is made when its host has changed"
    assert many["writes"] < 200, "claims share their writes"
