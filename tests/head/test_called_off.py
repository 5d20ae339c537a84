"""A drain that is called off once Ray was asked to let go of the node. Ray knows no way back: it is started there again."""

from __future__ import annotations

import asyncio
import random
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from clusterctl.spec.load import parse_spec
from tests.model.agents import Agent
from tests.model.world import HeadOfParts, World

SPEC = "cluster: demo\nprovider: local\nengine: {ray: {python: /opt/ray/bin/python}}\npools: [{name: w, max: 2}]\n"


async def one_node(directory: Path) -> tuple[HeadOfParts, Agent]:
    """A head with a worker where Ray runs, and which knows how to start it there."""
    world = World(directory, seed=1)
    world.with_engine, world.ray.troubled = True, False
    head = world.head = HeadOfParts(directory, world.ray, random.Random(1), with_engine=True)
    await world.add_node()
    engine: Any = head.engine
    config = SimpleNamespace(spec=parse_spec(SPEC, "demo.yaml"), directory=directory, engine_python="python3")
    engine._config = engine.supply._config = lambda: config
    engine._address = "127.0.0.1:6379"
    return head, world.agents["w-1"]


def drain(head: HeadOfParts) -> None:
    head.journal.move("w-1", "drain", 0.0, code="idle")
    head.draining.begin("w-1")
    head.draining.check()


def call_off(head: HeadOfParts) -> None:
    head.journal.move("w-1", "undrain", 0.0)
    head.draining.end("w-1")


def ray_ends(head: HeadOfParts, agent: Agent) -> None:
    told = {"t": "engine", "state": "stopped", "detail": "drained", "ray_node_id": agent.raylet}
    head.fleet.received(agent.session, told, b"")


async def starts(agent: Agent) -> list[dict[str, Any]]:
    for _ in range(50):
        await asyncio.sleep(0)
    return [message for message in agent.inbox if message["t"] == "engine_start"]


@pytest.mark.parametrize("first", ["ray ends", "the drain is called off"])
def test_ray_is_started_again_on_a_node_whose_drain_was_called_off(first: str, tmp_path: Path) -> None:
    async def story() -> None:
        head, agent = await one_node(tmp_path)
        drain(head)
        await asyncio.sleep(0)  # Ray is asked
        if first == "ray ends":
            ray_ends(head, agent)
            assert not await starts(agent), "it drains"
            call_off(head)
        else:
            call_off(head)
            assert not await starts(agent), "as far as anybody knows Ray runs"
            ray_ends(head, agent)
        (start,) = await starts(agent)
        assert start["config"]["gcs_address"] == "127.0.0.1:6379"
        head.draining.end("w-1")
        assert len(await starts(agent)) == 1, "said twice, started once"
        await head.stop(killed=False)

    asyncio.run(story())


def test_ray_stays_away_from_a_node_that_drains(tmp_path: Path) -> None:
    async def story() -> None:
        head, agent = await one_node(tmp_path)
        drain(head)
        ray_ends(head, agent)
        assert not await starts(agent)
        books = head.ledger.get("w-1")
        assert books is not None and books.drain == "acked"
        await head.stop(killed=False)

    asyncio.run(story())
