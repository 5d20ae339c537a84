"""`down` while the head ends its nodes: whoever waits is told for what."""

from __future__ import annotations

import threading
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from clusterctl.client.down import take_down as takedown
from clusterctl.client.head import process
from clusterctl.client.registry import Registry
from clusterctl.provision.waiting import StillWaiting
from tests.support.stub_head import Asked, StubHead


def test_while_the_head_ends_its_nodes_it_is_said_which_are_still_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(takedown, "StillWaiting", partial(StillWaiting, first=0.0))
    monkeypatch.setattr(takedown, "LOOK_SECONDS", 0.05)
    registry = Registry(tmp_path, {})
    head, over, told = StubHead(registry), threading.Event(), list[str]()
    nodes = [{"id": "cpu-1", "instance_id": "i-1"}, {"id": "cpu-2", "instance_id": ""}]
    nodes += [{"id": f"cpu-{n}", "instance_id": f"i-{n}"} for n in range(3, 2501)]

    def end_all(_: Asked) -> tuple[int, dict[str, int]]:
        assert over.wait(60)
        return 200, {"instances": 0}

    def tell(text: str) -> None:
        told.append(text)
        if text.startswith("waiting for cpu-1 (i-1), cpu-2 (not launched yet), cpu-3 (i-3) and 2,497 more to end ("):
            nodes.clear()
        if text.startswith("waiting for the head, which removes what is left beside its nodes"):
            over.set()

    head.on("POST", "/api/v1/down", end_all)

    def first_nodes(asked: Asked) -> tuple[int, dict[str, Any]]:
        return 200, {"nodes": nodes[: int(asked.query["limit"])], "total": len(nodes)}

    head.on("GET", "/api/v1/nodes", first_nodes)
    monkeypatch.setattr(process, "wait_for_end", lambda cluster: True)
    monkeypatch.setattr(process, "stop", lambda cluster: None)
    head.start()
    try:
        takedown.take_down(registry, head.cluster, tell)
    finally:
        over.set()
        head.stop()
    assert registry.names() == [] and len([line for line in told if line.startswith("waiting for")]) >= 2
