"""Drains as users and providers ask for them, against Ray's answers: when a node is done, and what a refusal leaves behind."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from clusterctl_runtime.engine.client import EngineUnsure
from clusterctl_runtime.head.clock import steady_time
from clusterctl_runtime.head.nodes.asked_drains import AskedDrains
from clusterctl_runtime.head.nodes.draining import NotAsked
from clusterctl_runtime.head.nodes.ledger import NodeLedger

from clusterctl.core.errors import Refused
from clusterctl.core.model import Node, NodeView
from clusterctl.core.model import NodeState as S
from clusterctl.spec.load import parse_spec
from tests.model.agents import Agent
from tests.model.ray import Ray
from tests.model.world import HeadOfParts, World

SPEC = "cluster: demo\nprovider: local\nengine: {ray: {python: /opt/ray/bin/python}}\npools: [{name: w, max: 2}]\n"


class DeafRay(Ray):
    """While it is `deaf` nothing that is asked of it is answered; `asked` are the drains that it took."""

    def __init__(self) -> None:
        super().__init__(random.Random(1))
        self.troubled = self.deaf = False
        self.asked: list[dict[str, Any]] = []

    async def answer(self, do: str, arguments: dict[str, Any]) -> dict[str, Any]:
        if self.deaf:
            raise EngineUnsure(f"the engine's helper did not answer to {do}")
        if do == "drain":
            self.asked.append(arguments)
        return await super().answer(do, arguments)


class Stage:
    """A head with the worker w-1, on which Ray runs something that uses no resource."""

    def __init__(self, directory: Path) -> None:
        self.world = World(directory, seed=1)
        self.world.with_engine = True
        self.world.ray = self.ray = DeafRay()

    async def begin(self) -> Stage:
        self.enter()
        await self.world.add_node()
        next(iter(self.ray.raylets.values())).used = 1
        self.head.client.tell()
        return self

    def enter(self) -> None:
        """A head starts, on the same disk."""
        head = self.head = self.world.head = HeadOfParts(
            self.world.directory, self.ray, random.Random(1), with_engine=True
        )
        config = SimpleNamespace(spec=parse_spec(SPEC, "demo.yaml"), directory=head.journal.path.parent)
        engine: Any = head.engine
        engine._config = engine.supply._config = lambda: config
        self.drains = AskedDrains(head.fleet, head.draining)

    @property
    def agent(self) -> Agent:
        return self.world.agents["w-1"]

    @property
    def node(self) -> Node:
        node = self.head.journal.get("w-1")
        assert node is not None
        return node

    @property
    def books(self) -> NodeLedger:
        books = self.head.ledger.get("w-1")
        assert books is not None
        return books

    @property
    def view(self) -> NodeView:
        view = self.head.fleet.roster.get("w-1", steady_time())
        assert view is not None
        return view

    def ray_ends(self) -> None:
        told = {"t": "engine", "state": "stopped", "detail": "drained", "ray_node_id": self.agent.raylet}
        self.head.fleet.received(self.agent.session, told, b"")

    async def check(self) -> None:
        self.head.draining.check()
        for _ in range(100):
            await asyncio.sleep(0)


def play(story: Callable[[Stage], Awaitable[None]], directory: Path) -> None:
    async def run() -> None:
        stage = await Stage(directory).begin()
        try:
            await story(stage)
        finally:
            await stage.head.stop(killed=False)

    asyncio.run(run())


def test_a_node_that_ray_uses_is_done_when_ray_has_left_it_and_not_when_it_agrees(tmp_path: Path) -> None:
    async def story(stage: Stage) -> None:
        await stage.drains.drain(stage.view, 60.0)
        assert (stage.node.state, stage.node.code, stage.books.drain) == (S.DRAINING, "user_drain", "requested")
        assert 59 < stage.ray.asked[0]["left"] <= 60
        await stage.check()
        assert stage.books.drain == "requested" and len(stage.ray.asked) == 1, "it agreed, and is not asked again"
        stage.ray_ends()
        await stage.check()
        assert stage.books.drain == "acked"

    play(story, tmp_path)


def test_a_drain_that_ray_does_not_answer_leaves_the_node_as_it_was(tmp_path: Path) -> None:
    async def story(stage: Stage) -> None:
        before = stage.node
        stage.ray.deaf = True
        with pytest.raises(NotAsked, match=r"w-1 was not drained: .*did not answer.* It takes work as before"):
            await stage.drains.drain(stage.view, 60.0)
        assert (stage.node.state, stage.node.reason, stage.node.drain_by) == (S.READY, before.reason, None)
        assert stage.books.drain == "" and stage.view.drain == ""
        stage.ray.deaf = False
        await stage.drains.drain(stage.view, 60.0)
        first = stage.node
        stage.ray.deaf = True
        with pytest.raises(NotAsked, match="It drains as before"):
            await stage.drains.drain(stage.view, 10.0)
        assert (stage.node.drain_by, stage.node.reason, stage.books.drain) == (
            first.drain_by,
            first.reason,
            "requested",
        )

    play(story, tmp_path)


def test_of_requests_at_the_same_time_that_ray_does_not_answer_none_stays(tmp_path: Path) -> None:
    async def story(stage: Stage) -> None:
        stage.ray.deaf = True
        asked = [stage.drains.drain(stage.view, seconds) for seconds in (60.0, 30.0, None)]
        answers = await asyncio.gather(*asked, return_exceptions=True)
        assert [type(answer) for answer in answers] == [NotAsked] * 3
        assert (stage.node.state, stage.books.drain) == (S.READY, "")

    play(story, tmp_path)


def test_a_providers_notice_is_told_to_ray_until_it_has_heard_it(tmp_path: Path) -> None:
    async def story(stage: Stage) -> None:
        stage.ray.deaf = True
        stage.head.draining.begin("w-1")
        stage.head.journal.move("w-1", "drain", steady_time(), code="spot_notice", drain_by=steady_time() + 100)
        for _ in range(3):
            await stage.check()
            assert (stage.node.state, stage.books.drain) == (S.DRAINING, "requested")
        stage.ray.deaf = False
        await stage.check()
        assert [99 < asked["left"] <= 100 for asked in stage.ray.asked] == [True]

    play(story, tmp_path)


def test_a_head_that_starts_takes_no_node_for_done_before_it_has_heard_of_ray_there(tmp_path: Path) -> None:
    async def story(stage: Stage) -> None:
        await stage.drains.drain(stage.view, 60.0)
        by = stage.node.drain_by
        stage.agent.session = None
        await stage.head.stop(killed=True)
        stage.enter()
        await stage.check()
        assert (stage.node.state, stage.node.drain_by, stage.books.drain) == (S.DRAINING, by, "requested")
        await stage.agent.join(stage.head.fleet)
        await stage.check()
        assert stage.books.drain == "requested" and len(stage.ray.asked) == 1, "Ray's head is not heard of yet"
        stage.head.client.tell()
        await stage.check()
        assert stage.books.drain == "requested" and len(stage.ray.asked) == 2, "Ray is asked once more"

    play(story, tmp_path)


def test_only_a_users_drain_that_is_not_done_is_called_off(tmp_path: Path) -> None:
    async def story(stage: Stage) -> None:
        with pytest.raises(Refused, match="it does not drain"):
            await stage.drains.call_off("w-1")
        await stage.drains.drain(stage.view, 60.0)
        await stage.drains.call_off("w-1")
        assert (stage.node.state, stage.node.drain_by, stage.books.drain) == (S.READY, None, "")
        await stage.drains.drain(stage.view, 60.0)
        stage.ray_ends()
        await stage.check()
        with pytest.raises(Refused, match="has drained: it goes now"):
            await stage.drains.call_off("w-1")

    play(story, tmp_path)


def test_a_notice_bounds_what_a_user_gives(tmp_path: Path) -> None:
    async def story(stage: Stage) -> None:
        stage.books.preempt_at = steady_time() + 20
        await stage.drains.drain(stage.view, 3600.0)
        assert stage.node.drain_by == stage.books.preempt_at
        assert "the provider takes it away" in stage.node.reason

    play(story, tmp_path)
